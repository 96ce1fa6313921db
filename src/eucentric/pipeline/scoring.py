"""Every stage of a project against truth files."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from eucentric.errors import InputError
from eucentric.evaluation.alignment_error import AlignmentError, alignment_error
from eucentric.evaluation.stage_errors import defocus_error, motion_error, particle_contrast
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.io.warps import read_folded_warp
from eucentric.models.tilt_series import Tilt, TiltSeries

_STAGES = ("reconstruct", "ctf", "axis", "align", "motion", "import")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One figure of one tilt series."""

    series: str
    metric: str
    value: float
    unit: str
    note: str = ""


def score_project(root: Path, truth_files: list[Path]) -> list[ScoreRow]:
    """Figures of every series that has a truth of its name, from the furthest stage it has reached.

    Raises
    ------
    InputError : no truth file, or none that belongs to a series of the project
    """
    truths = {t.name: t for t in (read_truth(f) for f in truth_files)}
    if not truths:
        raise InputError("No truth file was given. Give files such as TS_01_truth.json with --truth.")
    furthest: dict[str, TiltSeries] = {}
    for stage in _STAGES:
        table = root / stage / "tilt_series.star"
        if table.exists():
            for series in read_tilt_series_set(table, root):
                furthest.setdefault(series.name, series)
    known = [name for name in furthest if name in truths]
    if not known:
        raise InputError(
            f"None of the truths ({', '.join(sorted(truths))}) belongs to a series of `{root}` "
            f"({', '.join(sorted(furthest)) or 'none'}). The names must be the same."
        )
    return [row for name in sorted(known) for row in _score_series(root, furthest[name], truths[name])]


def _score_series(root: Path, series: TiltSeries, truth: TiltTruth) -> list[ScoreRow]:
    rows: list[ScoreRow] = []

    def add(metric: str, value: float, unit: str, note: str = "") -> None:
        rows.append(ScoreRow(series=series.name, metric=metric, value=value, unit=unit, note=note))

    place = {name: i for i, name in enumerate(truth.movie_names)}
    kept = [(t, _position(t, truth, place)) for t in series.tilts]
    gone = {_position(e.tilt, truth, place) for e in series.excluded}
    bad = set(truth.bad_tilts)
    add("good tilts lost", float(len(gone - bad)), "tilts")
    add("bad tilts kept", float(len(bad - gone)), "tilts")
    moved = [
        motion_error(t.motion.shifts_angstrom, truth.motion_angstrom[i])
        for t, i in kept
        if t.motion is not None and t.motion.shifts_angstrom.shape == truth.motion_angstrom[i].shape
    ]
    if moved:
        add("motion rms", float(np.sqrt(np.mean(np.square(moved)))), "A", f"worst tilt {max(moved):.2f} A")
    posed = [(t, i) for t, i in kept if t.pose is not None]
    aligned: AlignmentError | None = None
    if len(posed) >= 3:
        geometry = TiltGeometry.from_poses([t.pose for t, _ in posed if t.pose is not None])
        rigid = aligned = alignment_error(truth, [i for _, i in posed], geometry)
        if series.warp is not None:
            warp = read_folded_warp(root / series.warp, series.with_tilts([t for t, _ in posed]))
            aligned = alignment_error(truth, [i for _, i in posed], geometry, warp)
        floor = alignment_error(truth, [i for _, i in posed], truth.geometry[[i for _, i in posed]])
        without = "" if aligned is rigid else f"{rigid.rms_angstrom:.2f} A without local deformation, "
        add("alignment rms", aligned.rms_angstrom, "A", f"{without}true rigid geometry {floor.rms_angstrom:.2f} A")
        add("alignment 95th percentile", aligned.percentile_95_angstrom, "A")
        turn = float(np.median(geometry.z_rot_deg)) - truth.tilt_axis_deg
        add("tilt axis error", (turn + 180.0) % 360.0 - 180.0, "degrees")
    fitted = [(t, i) for t, i in kept if t.ctf is not None]
    if fitted:
        true = 0.5 * (truth.defocus_u_angstrom + truth.defocus_v_angstrom)
        index = [i for _, i in fitted]
        found = np.array([t.ctf.defocus_angstrom for t, _ in fitted if t.ctf is not None])
        low, high = defocus_error(found, true[index], truth.true_tilts_deg[index])
        add("defocus error, |tilt| <= 30", low, "A", "median")
        add("defocus error, |tilt| > 30", high, "A", "median")
        add("hand right", float(series.hand == truth.hand), "", "1 yes, 0 no")
    if series.tomogram is not None and aligned is not None and len(truth.positions):
        volume = read_mrc(root / series.tomogram.path)[0]
        at = aligned.to_estimate(truth.positions)
        contrast = particle_contrast(volume, series.tomogram.voxel_size_angstrom, at)
        add("particle contrast", contrast, "sd", "mean darkness at true particles over that of other places")
    return rows


def _position(tilt: Tilt, truth: TiltTruth, place: dict[str, int]) -> int:
    """Where a tilt stands in the truth: by its movie's name, or by the nearest angle."""
    name = PurePosixPath(tilt.movie or "").name
    if name in place:
        return place[name]
    return int(np.abs(truth.nominal_tilts_deg - tilt.nominal_tilt_deg).argmin())
