"""Settings that make a simulated series like one of a project."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import EucentricError
from eucentric.geometry import TiltGeometry
from eucentric.io.movies import movie_header
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.io.warps import read_folded_warp
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.explain import unknown_name
from eucentric.simulation.visible_deformation import deformation_amplitude
from eucentric.typing import FloatArray

_STAGES = ("reconstruct", "ctf", "axis", "align", "motion", "import")
STEEPEST_DEG = 80.0
"""The simulator shows no specimen that stands steeper to the beam."""
KEPT_BY_ALIGNMENT = 0.8
"""Part of a deformation that `align` finds, which smooths it: 0.67, 0.75 and 1.03 in three series of our simulator (9 A)."""
_SAME_DOSE = 0.01  # of the mean: doses that differ by less in all are the same
_SIGMAS = 1.4826  # standard deviations of normal values in their median distance from their median
_SETTLE = 3.0  # how fast the simulator's drift dies away


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What was taken over."""

    series: str
    stage: str
    """Whose table it was read from."""
    changes: dict[str, Any]
    """Settings of the simulator."""
    told: tuple[str, ...]
    """In words: what was taken over, and what is not known and stays as it usually is."""


def like_project(root: Path, name: str | None = None) -> Likeness:
    """Settings of the simulator from the newest table of a project that holds a series.

    Parameters
    ----------
    root : the project's folder
    name : of the series; the first one where None

    Raises
    ------
    InputError : no such series
    """
    names = tilt_series_names(root / "import" / "tilt_series.star")
    if name is not None and name not in names:
        raise unknown_name(name, names, "tilt series", f"`{root}`")
    wanted = name or names[0]
    tables = {stage: root / stage / "tilt_series.star" for stage in _STAGES}
    stage = next(s for s, t in tables.items() if t.is_file() and wanted in tilt_series_names(t))
    series = read_tilt_series(tables[stage], wanted, root)
    note = _Notes()
    every = sorted([*series.tilts, *(e.tilt for e in series.excluded)], key=lambda t: t.acquisition)
    _images(series, every, root, note)
    _beam(series, _scheme(every, note), note)
    _defocus(series, every, note)
    _pose(series, every, note)
    _motion(series, note)
    _specimen(series, root, note)
    known = ", ".join(note.known)
    told = [f"Like {wanted} of `{root}` (table of {stage}): {known}."]
    if note.unknown:
        told.append(f"Not known there, so the usual values stand unless given: {', '.join(note.unknown)}.")
    return Likeness(series=wanted, stage=stage, changes=note.changes, told=tuple(told))


class _Notes:
    """What was found so far."""

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.known: list[str] = []
        self.unknown: list[str] = []

    def take(self, words: str, **changes: Any) -> None:
        self.changes |= changes
        self.known.append(words)


def _images(series: TiltSeries, every: Sequence[Tilt], root: Path, note: _Notes) -> None:
    pixel = series.original_pixel_size_angstrom or series.pixel_size_angstrom
    rows, columns = (round(n * series.pixel_size_angstrom / pixel) for n in series.image_shape)
    note.take(
        f"{columns} x {rows} pixels of {pixel:g} A", image_size_px=(columns, rows), pixel_size_angstrom=float(pixel)
    )
    header = None
    for tilt in every:
        try:
            header = movie_header(root / tilt.movie) if tilt.movie else None
        except (EucentricError, OSError):
            continue
        break
    if header is None:
        note.unknown.append("the type of the counts")
    else:
        kind = "uint8" if header.dtype.itemsize == 1 else "uint16"
        note.take(f"counts as {kind}", data_type=kind)


def _scheme(every: Sequence[Tilt], note: _Notes) -> list[Tilt]:
    """Takes the angles over; the tilts that have them."""
    angles = [round(t.nominal_tilt_deg, 3) for t in every]
    used = [i for i, a in enumerate(angles) if abs(a) <= STEEPEST_DEG and a not in angles[:i]]
    kept = [angles[i] for i in used]
    words = f"{len(kept)} tilts from {min(kept):g} to {max(kept):g} degrees in the order in which they were taken"
    if len(kept) < len(angles):
        words += f" (without {len(angles) - len(kept)} taken twice or beyond {STEEPEST_DEG:g} degrees)"
    note.take(words, tilt_angles_deg=tuple(kept), tilt_min_deg=min(kept), tilt_max_deg=max(kept))
    counts = [t.frame_count if t.frames is None else t.frames[1] - t.frames[0] for t in every]
    note.take(f"{round(np.median(counts))} frames each", frames=max(1, round(np.median(counts))))
    return [every[i] for i in used]


def doses_like(doses: FloatArray) -> tuple[dict[str, Any], str]:
    """Settings of the simulator for the doses of images, and words.

    Parameters
    ----------
    doses : (n,), e/A^2, in the order of acquisition, above 0
    """
    if float(np.ptp(doses)) <= _SAME_DOSE * float(doses.mean()):
        dose = float(np.median(doses))
        return {"dose_per_tilt": dose}, f"{dose:.3g} e/A2 a tilt"
    each = tuple(round(float(dose), 5) for dose in doses)
    words = f"{min(each):.3g} to {max(each):.3g} e/A2 a tilt, each its own"
    return {"dose_per_tilt": float(doses.mean()), "tilt_doses": each}, words


def _beam(series: TiltSeries, kept: Sequence[Tilt], note: _Notes) -> None:
    doses = np.array([t.dose for t in kept])
    if (doses > 0).all():
        changes, words = doses_like(doses)
        note.take(words, **changes)
    elif np.median(doses) > 0:
        dose = float(np.median(doses))
        note.take(f"{dose:.3g} e/A2 a tilt, the median, for not every image's is known", dose_per_tilt=dose)
    else:
        note.unknown.append("the dose")
    optics = series.optics
    if optics is None:
        note.unknown.append("voltage and lens, for the images are of scanning transmission")
        return
    note.take(
        f"{optics.voltage_kv:g} kV, Cs {optics.spherical_aberration_mm:g} mm, "
        f"amplitude contrast {optics.amplitude_contrast:g}",
        voltage_kv=optics.voltage_kv,
        spherical_aberration_mm=optics.spherical_aberration_mm,
        amplitude_contrast=optics.amplitude_contrast,
    )


def _defocus(series: TiltSeries, every: Sequence[Tilt], note: _Notes) -> None:
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if not fits:
        nominal = [t.nominal_defocus_angstrom for t in every if t.nominal_defocus_angstrom is not None]
        if nominal:
            defocus = float(np.median(nominal))
            note.take(f"defocus {defocus / 1e4:.2f} um, the target", defocus_angstrom=defocus)
            note.unknown.append("scatter of the defocus, astigmatism and hand")
        else:
            note.unknown.append("defocus, astigmatism and hand")
        return
    values = np.array([f.defocus_angstrom for f in fits])
    middle = float(np.median(values))
    scatter = _scatter(values)
    turns = np.exp(2j * np.deg2rad([f.astigmatism_angle_deg for f in fits]))
    split = np.median(
        [(f.defocus_u_angstrom - f.defocus_v_angstrom) * turn for f, turn in zip(fits, turns, strict=True)]
    )
    angle = float(np.rad2deg(np.angle(split)) / 2.0)
    note.take(
        f"defocus {middle / 1e4:.2f} um +- {scatter:.0f} A and astigmatism {abs(split):.0f} A, as fitted, hand {series.hand:g}",
        defocus_angstrom=middle,
        defocus_jitter_angstrom=scatter,
        astigmatism_angstrom=float(abs(split)),
        astigmatism_angle_deg=angle,
        hand=1 if series.hand > 0 else -1,
    )
    phase = float(np.median([f.phase_shift_deg for f in fits]))
    if abs(phase) > 1.0:
        note.take(f"phase shift {phase:.0f} degrees", phase_shift_deg=phase)


def _pose(series: TiltSeries, every: Sequence[Tilt], note: _Notes) -> None:
    nominal = [t.nominal_axis_deg for t in every if t.nominal_axis_deg is not None]
    posed = [(t, t.pose) for t in series.tilts if t.pose is not None]
    if not posed:
        if nominal:
            note.take(f"tilt axis {np.median(nominal):.1f} degrees, nominal", tilt_axis_deg=float(np.median(nominal)))
        else:
            note.unknown.append("tilt axis")
        note.unknown.append("pre-tilt and how well the stage is tracked")
        return
    axis = float(np.median([p.z_rot_deg for _, p in posed]))
    changes: dict[str, Any] = {"tilt_axis_deg": axis}
    if nominal:
        changes["tilt_axis_error_deg"] = float((np.median(nominal) - axis + 180.0) % 360.0 - 180.0)
    measured = series.specimen
    more_y, more_x = (0.0, 0.0) if measured is None else (measured.y_tilt_deg, measured.x_tilt_deg)
    off = np.array([p.y_tilt_deg - t.nominal_tilt_deg for t, p in posed])
    changes["tilt_offset_deg"] = float(np.median(off)) + more_y
    changes["x_tilt_deg"] = float(np.median([p.x_tilt_deg for _, p in posed])) + more_x
    shifts = np.array([(p.x_shift_angstrom, p.y_shift_angstrom) for _, p in posed])
    changes["stage_jitter_angstrom"] = float(np.sqrt(((shifts - shifts.mean(0)) ** 2).mean()))
    note.take(
        f"tilt axis {axis:.1f} degrees, pre-tilt {changes['tilt_offset_deg']:.1f} about it and "
        f"{changes['x_tilt_deg']:.1f} across, shifts of {changes['stage_jitter_angstrom']:.0f} A rms",
        **changes,
    )


def _motion(series: TiltSeries, note: _Notes) -> None:
    paths = [
        (t.motion.total_angstrom, len(t.motion.shifts_angstrom))
        for t in series.tilts
        if t.motion is not None and len(t.motion.shifts_angstrom) > 1
    ]
    if not paths:
        note.unknown.append("motion within an exposure")
        return
    frames = float(np.median([n for _, n in paths]))
    seen = np.exp(-0.5 * _SETTLE / frames) - np.exp(-_SETTLE * (frames - 0.5) / frames)
    drift = float(np.median([p for p, _ in paths]) / seen)
    note.take(f"motion of {drift:.1f} A within an exposure", drift_angstrom=drift, doming_angstrom=0.0)


def _specimen(series: TiltSeries, root: Path, note: _Notes) -> None:
    thickness = float("nan") if series.specimen is None else series.specimen.thickness_angstrom
    if np.isfinite(thickness) and thickness > 50.0:
        note.take(f"{thickness:.0f} A thick", thickness_angstrom=float(thickness))
        paths = float("nan") if series.specimen is None else series.specimen.mean_free_paths
        if np.isfinite(paths) and paths > 0.02:
            length = float(thickness) / paths
            note.take(f"inelastic path {length:.0f} A from how images darken", inelastic_path_angstrom=length)
        else:
            note.unknown.append("inelastic path")
    else:
        note.unknown.append("thickness and inelastic path")
    _deformation(series, root, note)


def _deformation(series: TiltSeries, root: Path, note: _Notes) -> None:
    if series.warp is None or any(t.pose is None for t in series.tilts) or not (root / series.warp).is_file():
        note.unknown.append("how the specimen deforms")
        return
    warp = read_folded_warp(root / series.warp, series)
    size = series.pixel_size_angstrom
    found = deformation_amplitude(
        warp.displacement_angstrom.reshape(len(series.tilts), -1, 2),
        warp.grid_places_angstrom.reshape(-1, 2),
        TiltGeometry.from_poses(series.poses),
        np.array([t.pre_exposure + 0.5 * t.dose for t in series.tilts]),
        (series.image_shape[1] * size, series.image_shape[0] * size),
    )
    amplitude = found / KEPT_BY_ALIGNMENT
    note.take(
        f"deformation of {amplitude:.1f} A, of which the alignment is taken to have found {100 * KEPT_BY_ALIGNMENT:.0f}%",
        deformation_angstrom=amplitude,
    )


def _scatter(values: FloatArray) -> float:
    return float(_SIGMAS * np.median(np.abs(values - np.median(values))))
