"""Averages of a project, repeated on its twin with the same settings: what resolution to expect of so many particles."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.errors import EucentricError
from eucentric.io.particles import read_particles, write_particles
from eucentric.picking.stage_params import PickParams
from eucentric.pipeline.average_files import average_list
from eucentric.pipeline.iterate_average import iterate_average
from eucentric.pipeline.iterate_job import IterateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectAverage:
    """An average that a project has made of particles of one kind."""

    name: str
    """Of its folder below `average`."""
    kind: str
    settings: Mapping[str, Any]
    """Complete: `extract`, `average` and, where particles were aligned too, `iterate`."""
    particles: int
    resolution_angstrom: float
    """Infinite where the halves do not agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAverage:
    """The same of the picks of the twin."""

    project: ProjectAverage
    particles: int
    resolution_angstrom: float


def averages_of_project(root: Path, pick: Mapping[str, Any]) -> list[ProjectAverage]:
    """The averages of one kind each whose particles the project picks, by name.

    Parameters
    ----------
    pick : settings of its picking; empty where nothing was picked
    """
    if not pick:
        return []
    kinds = {Path(template).name.partition(".")[0] for template in pick["templates"]}
    found = []
    for run in sorted(root.glob("average/*/run.json")):
        try:
            values = json.loads(run.read_text(encoding="utf-8"))
            particles = read_particles(run.parent / "particles.star", format_name="relion5")
        except (OSError, ValueError, EucentricError):
            continue
        own = {str(kind) for kind in particles.kinds}
        settings = values.get("parameters", {})
        if values.get("stage") != "average" or len(own) != 1 or not own <= kinds or "extract" not in settings:
            continue
        resolution = values.get("metrics", {}).get("resolution_angstrom")
        found.append(
            ProjectAverage(
                name=run.parent.name,
                kind=own.pop(),
                settings=settings,
                particles=len(particles),
                resolution_angstrom=math.inf if resolution is None else float(resolution),
            )
        )
    return found


def average_twin(twin: Path, project: ProjectAverage, pick: Mapping[str, Any], device: torch.device) -> ExpectedAverage:
    """Average the twin's picks of a kind as the project did; the start is the average of the picks' poses.

    Parameters
    ----------
    twin : project of the twin
    project : what to repeat
    pick : settings of picking

    Raises
    ------
    InputError : too few particles, or settings that do not fit them
    """
    output = twin / "average" / project.name
    picks = read_particles(
        twin / "pick" / PickParams.model_validate(dict(pick)).folder_name / "particles.star", format_name="relion5"
    )
    chosen = twin / "pick" / f"{project.name}_of_{project.kind}.star"
    write_particles(chosen, picks.select(np.asarray(picks.kinds == project.kind)), "relion5")
    extract = ExtractParams.model_validate(project.settings["extract"])
    average = AverageParams.model_validate(project.settings["average"])
    table = twin / "ctf" / "tilt_series.star"
    if "iterate" not in project.settings:
        made = average_list(chosen, output, extract, average, device=device, table=table, overwrite=True)
        return ExpectedAverage(project=project, particles=made.particles, resolution_angstrom=made.resolution_angstrom)
    iterate = IterateParams.model_validate(project.settings["iterate"])
    settings = IterateSettings(extract=extract, average=average, iterate=iterate)
    turned = iterate_average(chosen, output, settings, device=device, table=table, overwrite=True)
    return ExpectedAverage(
        project=project,
        particles=turned.particles,
        resolution_angstrom=turned.result.correlation.resolution_angstrom,
    )
