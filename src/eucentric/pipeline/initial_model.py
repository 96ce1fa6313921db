"""`eucentric initial-model`: a first map from picks without orientations, on disk."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.averaging.ab_initio import find_starts
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import refine_start
from eucentric.averaging.conical_tilt import find_conical_starts
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.iterate_schedule import box_for
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.extract_series import ParticleJob, list_of, open_particles
from eucentric.pipeline.initial_classes import class_files, make_class_models
from eucentric.pipeline.initial_model_files import (
    FILES,
    RECORD,
    about_model,
    about_starts,
    doubts,
    lone_start,
    posed,
    remove_stale,
    write_model,
)
from eucentric.pipeline.iterate_job import OnStep
from eucentric.pipeline.particle_run import ParticleRun

_EDGE = 1.6
"""Edge of the boxes over the particle's diameter: room for wrong places and for what defocus spreads."""
_SAMPLES = 3.0
"""Pixels to the finest detail."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InitialModelMade:
    """What was written."""

    folder: Path
    about: dict[str, Any]
    """As `initial_model.json` holds it."""
    was_current: bool
    """Whether the folder held it already."""


def make_initial_model(
    target: Path,
    output: Path,
    params: InitialModelParams,
    *,
    device: torch.device,
    table: Path | None = None,
    kinds: Sequence[str] = (),
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> InitialModelMade:
    """A map and poses from particles of unknown orientation; what the list says of orientations is not looked at.

    Parameters
    ----------
    target, table : as :func:`eucentric.pipeline.extract_series.open_particles`
    output : folder for map.mrc, half1.mrc, half2.mrc, mask.mrc, fsc.star, particles.star, initial_model.json
    kinds : classes of particles to take; all where empty

    Raises
    ------
    InputError : too few particles, none of the kinds, images too coarse, files in the way
    """
    job = _opened(target, params, table, kinds, device)
    names = class_files(params.classes) if params.classes > 1 else FILES
    run = ParticleRun.begin(
        output,
        "initial-model",
        job,
        {"initial_model": params.model_dump(mode="json"), "kinds": sorted(kinds)},
        inputs=[list_of(target)],
        outputs=[output / name for name in names],
        overwrite=overwrite,
    )
    if run.is_current:
        about = json.loads((output / RECORD).read_text(encoding="utf-8"))
        return InitialModelMade(folder=output, about=about, was_current=True)
    images, particles = _read_images(job, on_step)
    halves = assign_halves(particles, 0.5 * job.params.box_size * job.pixel_size_angstrom, seed=params.seed)
    if params.classes > 1:
        about = make_class_models(output, job, images, particles, halves, params, on_step)
        folders = [output / one["folder"] for one in about["classes"] if one["folder"] is not None]
        written = [output / "particles.star", output / RECORD, *(f / name for f in folders for name in FILES)]
        remove_stale(output, [list_of(target), *written])
        metrics = {"particles": float(about["particles"]), "evidence": about["held_out_evidence"][0]}
        run.finish([output / "particles.star", output / RECORD], metrics, about["caveats"])
        return InitialModelMade(folder=output, about=about, was_current=False)

    def starting(part: float) -> None:
        if on_step is not None:
            conical = params.random_conical_tilt
            on_step("sorting untilted images" if conical else "beginnings from chance orientations", part)

    def refining(part: float) -> None:
        if on_step is not None:
            on_step("aligning the halves to the best one", part)

    find = find_conical_starts if params.random_conical_tilt else find_starts
    starts = find(images, params, on_step=starting)
    found = refine_start(images, starts[0], halves, params, on_step=refining)
    evidence = [s.evidence for s in starts]
    about = {**about_model(found, params, job), **about_starts(starts)}
    about["caveats"] = [*job.caveats(), *doubts(found), *lone_start(evidence, params)]
    write_model(output, job, posed(particles, found, halves), found, about)
    remove_stale(output, [list_of(target), *(output / name for name in FILES)])
    resolution = about["resolution_angstrom"]
    metrics = {"particles": float(about["particles"]), "evidence": evidence[0], "resolution_angstrom": resolution}
    run.finish([output / name for name in FILES], metrics, about["caveats"])
    return InitialModelMade(folder=output, about=about, was_current=False)


def _opened(
    target: Path, params: InitialModelParams, table: Path | None, kinds: Sequence[str], device: torch.device
) -> ParticleJob:
    """Particles in small boxes of coarse pixels, a random part of them where there are many."""
    if params.classes > 1 and params.random_conical_tilt:
        raise InputError(
            "Several --classes begin from chance orientations. Leave out --random-conical-tilt, or tell apart what lies "
            "differently by --faces."
        )
    pixel = params.low_pass_angstrom / _SAMPLES
    box = box_for(_EDGE * params.diameter_angstrom, pixel)
    extract = ExtractParams(
        box_size=box,
        pixel_size_angstrom=pixel,
        ctf=params.ctf,
        dose_weighting=params.dose_weighting,
        min_tilts=params.min_tilts,
    )
    job = open_particles(target, extract, table=table, device=device)
    finest = max(s.pixel_size_angstrom for s in job.series.values())
    if finest > pixel:
        raise InputError(
            f"Detail of {params.low_pass_angstrom:g} A needs pixels of {pixel:g} A, and the images have {finest:g} A. Give "
            f"--low-pass-angstrom {math.ceil(_SAMPLES * finest)} or more."
        )
    particles = job.particles
    if kinds:
        particles = particles.select(np.isin(particles.kinds, list(kinds)))
        if not len(particles):
            known = ", ".join(sorted(set(job.particles.kinds)))
            raise InputError(f"`{target}` holds no particle of kind {', '.join(kinds)}; it has {known or 'no kinds'}.")
    if len(particles) > params.particles:
        rng = np.random.default_rng(params.seed)
        particles = particles.select(np.sort(rng.choice(len(particles), params.particles, replace=False)))
    return replace(job, particles=particles, series={name: job.series[name] for name in particles.tomogram_names})


def _read_images(job: ParticleJob, on_step: OnStep | None) -> tuple[ParticleImages, ParticleSet]:
    """All images, and the particles in their order."""
    parts, rows = [], []
    for batch, some in job.batches():
        parts.append(batch)
        rows.append(some)
        if on_step is not None:
            on_step("reading images", sum(map(len, rows)) / len(job))
    return ParticleImages.joined(parts), job.particles.select(np.concatenate(rows))
