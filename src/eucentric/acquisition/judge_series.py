"""What an aligned tilt series tells of its stage and of how it was taken: figures, each with one standard deviation."""

import math
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.field_kept import FieldKept, field_kept
from eucentric.acquisition.fit_eucentric import EucentricFit, Figure, fit_eucentric, neighbour_correlation
from eucentric.acquisition.judge_motion import MovieMotion, judge_motion
from eucentric.acquisition.measure_track import (
    ImageShiftFit,
    MeasuredTrack,
    Recording,
    measure_track,
    record_series,
    to_axis_frame,
)
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray

_TO_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation
_UM = 1e4
_LOW_TILT_DEG = 20.0
_DAMAGE_ANGSTROM = 4.0  # detail at which the order of doses is judged
_OPAQUE = 2.0  # mean free paths along the beam: beyond them fewer than 1 electron in 7 comes through unscattered
_FEWEST_FOR_DRIFT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How far apart images saw the specimen after the microscope did what it did; root mean squares, A."""

    across: float
    """From an image to the next taken, across the tilt axis."""
    along: float
    after_turns: float
    """Length of these steps where the stage turned back; NaN where it never did."""
    elsewhere: float
    worst: float
    """Farthest from the place in the first image."""
    worst_tilt_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DefocusError:
    """Fitted defocus less what was asked for; A."""

    mean: Figure
    slope_per_deg: Figure
    """With the tilt angle."""
    scatter: float
    """About a smooth course (mean, slope and bend), one standard deviation."""
    target: float
    """What was asked for, median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseOrder:
    """When the images that show most were taken."""

    level_dose: float
    """e/A^2 before the image nearest to level."""
    low_tilt_dose: float
    """e/A^2 before the middle of images within 20 degrees of level, mean."""
    total_dose: float
    part_left: float
    """Information at 4 A that the order leaves, over that of the best order of the same images and doses."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesJudgement:
    """All figures of a series; None where they cannot be had."""

    name: str
    tilt_count: int
    recording: Recording
    measured: MeasuredTrack
    eucentric: EucentricFit
    drift_per_minute: tuple[Figure, Figure]
    """A a minute across and along the axis, of what the geometry leaves; NaN where there are no times."""
    steps: Steps
    motion: MovieMotion | None
    defocus: DefocusError | None
    field: FieldKept
    dose_order: DoseOrder | None
    pre_tilt: Figure
    """Degrees, about the tilt axis: level at a stage tilt of minus this."""
    pre_tilt_across: Figure
    """Degrees, across the tilt axis."""
    steepest_deg: tuple[float, float]
    """Stage tilts between which the path through the specimen is at most two mean free paths; NaN where unknown."""
    blocked: tuple[tuple[float, str], ...]
    """Tilts that were left out, and why."""
    blocked_dose_part: float
    """Of all dose."""
    extent_angstrom: tuple[float, float]
    pixel_size_angstrom: float

    @property
    def start_tilt_deg(self) -> float:
        """At which the specimen lies level; 0 where that is not known."""
        return -self.recording.sense * self.pre_tilt.value if self.pre_tilt.is_known else 0.0

    @property
    def axis_offset(self) -> Figure:
        """Of the tilt axis on the camera, A; an image shift that was not taken out may be as much of it as its own length."""
        offset, tracking = self.eucentric.axis_offset, self.measured.tracking
        if tracking == "corrected" or not offset.is_known:
            return offset
        if tracking != "none":
            return Figure()
        kept = _UM * float(np.linalg.norm(self.recording.image_shift_um.mean(axis=0)))
        return Figure(offset.value, float(np.hypot(np.nan_to_num(offset.sigma), kept)))


def judge_series(series: TiltSeries, image_shift: ImageShiftFit | None = None) -> SeriesJudgement:
    """Judge an aligned series.

    Parameters
    ----------
    series : with poses; CTF, motion, specimen, times and image shifts are used where they are known
    image_shift : from `estimate_image_shift`, perhaps of all series of the microscope together

    Raises
    ------
    InputError : the series has not been aligned, or has fewer than 5 tilts
    """
    recording = record_series(series)
    measured = measure_track(recording, image_shift)
    eucentric = fit_eucentric(measured, recording.direction)
    extent = (
        series.image_shape[1] * series.pixel_size_angstrom,
        series.image_shape[0] * series.pixel_size_angstrom,
    )
    specimen = series.specimen
    nothing = Figure()
    pre = nothing if specimen is None else Figure(specimen.pre_tilt_y_deg, specimen.pre_tilt_y_sigma_deg)
    across = nothing if specimen is None else Figure(specimen.pre_tilt_x_deg, specimen.pre_tilt_x_sigma_deg)
    level = -recording.sense * pre.value if pre.is_known else 0.0
    gone = sorted(series.excluded, key=lambda e: e.tilt.nominal_tilt_deg)
    spent = float(sum(e.tilt.dose for e in gone))
    whole = spent + float(series.doses.sum())
    return SeriesJudgement(
        name=series.name,
        tilt_count=len(series.tilts),
        recording=recording,
        measured=measured,
        eucentric=eucentric,
        drift_per_minute=_drift(eucentric, recording.times_s),
        steps=_steps(recording),
        motion=judge_motion(series.tilts, series.pixel_size_angstrom),
        defocus=_defocus_error(recording),
        field=field_kept(series.poses, extent, specimen),
        dose_order=_dose_order(series, level),
        pre_tilt=pre,
        pre_tilt_across=across,
        steepest_deg=_steepest(math.nan if specimen is None else specimen.mean_free_paths, level),
        blocked=tuple((e.tilt.nominal_tilt_deg, e.reason) for e in gone),
        blocked_dose_part=spent / whole if whole > 0 else math.nan,
        extent_angstrom=extent,
        pixel_size_angstrom=series.pixel_size_angstrom,
    )


def _steps(one: Recording) -> Steps:
    seen = to_axis_frame(one.seen_angstrom, one.axis_deg)
    moved = np.diff(seen, axis=0)
    length = np.linalg.norm(moved, axis=1)
    turned = one.direction[1:] * one.direction[:-1] < 0
    off = np.linalg.norm(seen - seen[0], axis=1)
    worst = int(np.argmax(off))
    return Steps(
        across=_rms(moved[:, 0]),
        along=_rms(moved[:, 1]),
        after_turns=_rms(length[turned]),
        elsewhere=_rms(length[~turned]),
        worst=float(off[worst]),
        worst_tilt_deg=float(one.tilts_deg[worst]),
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else math.nan


def _drift(fit: EucentricFit, times_s: FloatArray) -> tuple[Figure, Figure]:
    """What places left by the geometry do with time."""
    if not np.isfinite(times_s).all() or len(times_s) < _FEWEST_FOR_DRIFT or np.ptp(times_s) <= 0:
        return Figure(), Figure()
    minutes = times_s / 60.0
    return _slope(minutes, fit.position_left[:, 0]), _slope(minutes, fit.position_left[:, 1])


def _slope(places: FloatArray, values: FloatArray) -> Figure:
    """Of a straight line, by least squares; neighbours that are alike count for fewer."""
    centred = places - places.mean()
    power = float(centred @ centred)
    if len(places) < 3 or power <= 0:
        return Figure()
    slope = float(centred @ values) / power
    left = values - values.mean() - slope * centred
    alike = neighbour_correlation(left)
    variance = float(left @ left) / max(len(values) - 2, 1) / power * (1.0 + alike) / (1.0 - alike)
    return Figure(slope, math.sqrt(variance))


def _defocus_error(one: Recording) -> DefocusError | None:
    error = one.defocus_angstrom - one.target_defocus_angstrom
    known = np.isfinite(error)
    if int(known.sum()) < 3:
        return None
    values, tilts = error[known], one.tilts_deg[known]
    typical = float(np.median(values))
    spread = _TO_SIGMA * float(np.median(np.abs(values - typical)))
    sane = np.abs(values - typical) <= max(5.0 * spread, 1.0)  # fits of the wrong ring lie far off
    values, tilts = values[sane], tilts[sane]
    # a height error bends the course, which is neither slope nor scatter
    centred = (tilts - tilts.mean()) / max(float(np.ptp(tilts)), 1.0)
    degree = 2 if len(values) > _FEWEST_FOR_DRIFT else 1
    design = np.stack([centred**k for k in range(degree + 1)], axis=1)
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    slope = _slope(tilts, left + design[:, 1] * np.linalg.lstsq(design, values, rcond=None)[0][1])
    alike = neighbour_correlation(left)
    scatter = float(np.sqrt((left @ left) / max(len(left) - degree - 1, 1)))
    sigma = scatter / math.sqrt(len(left)) * math.sqrt((1.0 + alike) / (1.0 - alike))
    return DefocusError(
        mean=Figure(float(values.mean()), sigma),
        slope_per_deg=slope,
        scatter=scatter,
        target=float(np.nanmedian(one.target_defocus_angstrom)),
    )


def _dose_order(series: TiltSeries, level_deg: float) -> DoseOrder | None:
    """Against the best order of the same images: by distance from level."""
    doses, before = series.doses, series.pre_exposures
    if not (doses > 0).all() or not np.isfinite(before).all():
        return None
    off = np.abs(series.nominal_tilts_deg - level_deg)
    low = off <= _LOW_TILT_DEG
    order = np.argsort(off, kind="stable")
    best = np.empty_like(before)
    best[order] = float(before.min()) + np.concatenate([[0.0], np.cumsum(doses[order])[:-1]])
    most = _information(off, best, doses, series)
    if not most > 0:  # doses that leave nothing
        return None
    return DoseOrder(
        level_dose=float(before[order[0]] - before.min()),
        low_tilt_dose=float(series.middle_doses[low].mean()) if low.any() else math.nan,
        total_dose=float((before + doses).max()),
        part_left=_information(off, before, doses, series) / most,
    )


def _information(off_deg: FloatArray, before: FloatArray, doses: FloatArray, series: TiltSeries) -> float:
    """Sum over images of dose times the square of what damage leaves, falling off with the path as cos(tilt)."""
    import torch

    from eucentric.fourier.exposure import exposure_weights

    voltage = 300.0 if series.optics is None else series.optics.voltage_kv
    frequency = torch.tensor([1.0 / _DAMAGE_ANGSTROM], dtype=torch.float64)
    left = [float(exposure_weights(frequency, float(m), voltage_kv=voltage)) for m in before + doses / 2.0]
    return float((doses * np.cos(np.deg2rad(np.minimum(off_deg, 89.0))) * np.square(left)).sum())


def _steepest(mean_free_paths: float, level_deg: float) -> tuple[float, float]:
    """Where thickness over cosine reaches two mean free paths."""
    if not math.isfinite(mean_free_paths) or not 0 < mean_free_paths < _OPAQUE:
        return math.nan, math.nan
    reach = math.degrees(math.acos(mean_free_paths / _OPAQUE))
    return level_deg - reach, level_deg + reach
