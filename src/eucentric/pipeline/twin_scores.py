"""Picks of a project against the truth of its series, and the figures that a project reports of itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import EucentricError
from eucentric.evaluation.pick_errors import PickScore
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.picking.stage_params import PickParams
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.picking.templates import Template
from eucentric.pipeline.particle_files import read_true_particles, score_lists
from eucentric.pipeline.pick_templates import read_template
from eucentric.pipeline.records import read_record
from eucentric.typing import FloatArray

_WITHIN = 0.25  # of the diameter: half the radius
_SEEN = 0.5  # part of the tilts that must show a particle whole before it can be asked for
_TEMPLATE_VOXEL = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFigure:
    """What a stage reports of its own work on a series."""

    words: str
    unit: str
    better: str
    """`low`, `high` or empty where neither is."""
    value: float
    counted: bool = False
    """A number of things that lie at random, which scatters by its root from specimen to specimen."""


_FIGURES = (
    ("motion", "total_motion_median_angstrom", "motion within an exposure, median", "A", "low"),
    ("align", "residual_rms_angstrom", "residual of the alignment, rms", "A", "low"),
    ("align", "leave_one_out_rms_angstrom", "leave-one-out error of the alignment, rms", "A", "low"),
    ("align", "sigma_median_angstrom", "claimed error of the shifts, median", "A", "low"),
    ("align", "score_mean", "agreement of images and reprojections", "", "high"),
    ("align", "tilts_left_out", "tilts left out by the alignment", "tilts", "low"),
    ("align", "thickness_angstrom", "thickness", "A", ""),
    ("ctf", "defocus_spread_angstrom", "scatter of the defocus", "A", ""),
    ("ctf", "tilts_without_rings", "tilts without Thon rings", "tilts", "low"),
    ("reconstruct", "halves_fsc_0143_angstrom", "resolution of the halves of the tomogram", "A", "low"),
)


def own_figures(root: Path, series: str, pick: Mapping[str, Any]) -> list[OwnFigure]:
    """What a project reports of one series: alignment, CTF, tomogram, number of picks. Needs no truth.

    Parameters
    ----------
    pick : settings of its picking, for the name of its list; empty where nothing was picked
    """
    found = []
    for stage, metric, words, unit, better in _FIGURES:
        record = read_record(root / stage, series)
        value = None if record is None or not record.is_done else record.metrics.get(metric)
        if value is not None and math.isfinite(value):
            found.append(OwnFigure(words=words, unit=unit, better=better, value=float(value)))
    reach = _ring_reach(root, series)
    if reach is not None:
        found.append(OwnFigure(words="Thon rings fitted to, median of the tilts", unit="A", better="low", value=reach))
    if pick:
        for kind, count in pick_counts(root, series, pick).items():
            found.append(OwnFigure(words=f"picks of {kind}", unit="", better="high", value=float(count), counted=True))
    return found


def _ring_reach(root: Path, series: str) -> float | None:
    table = root / "ctf" / "tilt_series.star"
    if not table.is_file() or series not in tilt_series_names(table):
        return None
    tilts = read_tilt_series(table, series, root).tilts
    reached = [t.ctf.max_resolution_angstrom for t in tilts if t.ctf is not None]
    known = [value for value in reached if value is not None and math.isfinite(value) and value > 0]
    return float(np.median(known)) if known else None


def pick_counts(root: Path, series: str, pick: Mapping[str, Any]) -> dict[str, int]:
    """Picks of each template in a series."""
    folder = _pick_folder(root, pick)
    if not (folder / "particles.star").is_file():
        return {}
    try:
        picks = read_particles(folder / "particles.star", format_name="relion5")
    except EucentricError:
        return {}
    own = picks.select(picks.tomograms == series)
    return {kind: int((own.kinds == kind).sum()) for kind in (_kind(t) for t in pick["templates"])}


def score_picking(
    root: Path, truth_file: Path, series: str, pick: Mapping[str, Any], kinds: Mapping[int, str]
) -> list[PickScore]:
    """Precision, recall and F1 of each template, for particles seen whole in half of the tilts, within half their radius.

    Parameters
    ----------
    root : project that has picked
    truth_file : ``<name>_truth.json`` of the series
    pick : settings of picking; templates are named from the project
    kinds : number of a species in the truth -> name of its template; others are not asked for

    Raises
    ------
    InputError, FormatError : files that cannot be read, or do not belong together
    """
    table = root / "reconstruct" / "tilt_series.star"
    truth = read_true_particles(truth_file, table)
    truth = truth.select(np.isin(truth.kinds, [str(kind) for kind in kinds]))
    truth = truth.with_kinds([kinds[int(kind)] for kind in truth.kinds])
    picks = read_particles(_pick_folder(root, pick) / "particles.star", format_name="relion5")
    picks = picks.select(picks.tomograms == series)
    tilts = len(read_tilt_series(table, series, root).tilts)
    rows = []
    for template in _templates(root, pick):
        if template.name not in kinds.values():
            continue
        symmetries: dict[str, FloatArray] = {}
        if not template.isotropic:
            frame = symmetry_frame(template)
            symmetries[template.name] = frame @ symmetry_rotations(template.symmetry) @ frame.T
        scores = score_lists(
            picks.select(picks.kinds == template.name),
            truth.select(truth.kinds == template.name),
            _WITHIN * template.diameter_angstrom,
            symmetries=symmetries,
            table=table,
            min_tilts=max(1, round(_SEEN * tilts)),
            radius_angstrom=0.5 * template.diameter_angstrom,
        )
        rows += [row for row in scores if row.kind == template.name]
    return rows


def _templates(root: Path, pick: Mapping[str, Any]) -> list[Template]:
    files: Sequence[str] = pick["templates"]
    groups = list(pick.get("symmetries") or ("C1",))
    groups = groups * len(files) if len(groups) == 1 else groups
    return [
        read_template(
            file if file.startswith("sphere:") else str(root / file),
            voxel_size=_TEMPLATE_VOXEL,
            symmetry=group,
            pixel_size=pick.get("template_pixel_size_angstrom"),
        )
        for file, group in zip(files, groups, strict=True)
    ]


def _pick_folder(root: Path, pick: Mapping[str, Any]) -> Path:
    return root / "pick" / PickParams.model_validate(dict(pick)).folder_name


def _kind(template: str) -> str:
    if template.startswith("sphere:"):
        return f"sphere_{float(template.partition(':')[2]):g}"
    return Path(template).name.partition(".")[0]
