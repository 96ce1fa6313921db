r"""How the specimen still moved while its images were taken, and how long to wait after tilting.

Frames of image :math:`i` were displaced by :math:`d_i(t) = a_i + v_i t - s_i e^{-t/\tau}` with one :math:`\tau` for all
images: a stage that settles. The time constant is scanned; for each all other unknowns are linear. It is told where the
decay explains more than a movement of the same number of unknowns by chance does: by 12 in twice the log-likelihood.
Movement that the beam causes decays too, with the dose: it is the same for small and large steps of the stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.fit_eucentric import Figure
from eucentric.models.tilt_series import Tilt
from eucentric.typing import FloatArray

_DECISIVE = 12.0
_LEAST_FRAMES = 4
_TRIALS = 40
_SHORTEST, _LONGEST = 0.5, 3.0  # of a frame time and of the exposure: what exposures can show
_LEAST_SIGMA = 0.02  # A
_HARMLESS = 0.25  # cycles at twice the pixel size that may pass within a frame: it keeps sinc(0.25) = 90% there
_LEAST_IMAGES = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MovieMotion:
    """Movement within the movies of a series; speeds in A/s."""

    early: Figure
    """Mean speed in the first third of the exposure."""
    late: Figure
    """In the last third."""
    settling_s: Figure
    """Time constant of the decay; NaN where exposures show none."""
    start_speed: float
    """By the decay, root mean square over the images, as the shutter opens."""
    harmless_speed: float
    """At which a frame keeps 90% of its contrast at twice the pixel size."""
    wait_s: float
    """To wait longer than was done, until the decaying part is harmless; 0 for not at all, NaN where not told."""
    tilts_deg: FloatArray
    """(n,), of the movies that were judged, ascending."""
    early_speeds: FloatArray
    """(n,)"""
    late_speeds: FloatArray
    """(n,)"""


def judge_motion(tilts: Sequence[Tilt], pixel_size: float) -> MovieMotion | None:
    """Movement within movies; None where fewer than 5 have known frames and exposure times.

    Parameters
    ----------
    tilts : in any order
    pixel_size : A
    """
    ordered = sorted(tilts, key=lambda t: t.nominal_tilt_deg)
    kept = [(t.nominal_tilt_deg, movie) for t in ordered if (movie := _movie(t)) is not None]
    angles, shown = np.array([angle for angle, _ in kept]), [movie for _, movie in kept]
    if len(shown) < _LEAST_IMAGES:
        return None
    early = np.array([_speed(shifts, sigma, time, first=True) for shifts, sigma, time in shown])
    late = np.array([_speed(shifts, sigma, time, first=False) for shifts, sigma, time in shown])
    frame_time = float(np.median([time / len(shifts) for shifts, _, time in shown]))
    harmless = _HARMLESS * 2.0 * pixel_size / frame_time
    settling, start = _settling(shown, frame_time)
    wait = float("nan")
    if settling.is_known:
        wait = max(settling.value * float(np.log(max(start, 1e-12) / harmless)), 0.0)
    return MovieMotion(
        early=_mean(early),
        late=_mean(late),
        settling_s=settling,
        start_speed=start,
        harmless_speed=harmless,
        wait_s=wait,
        tilts_deg=angles,
        early_speeds=early,
        late_speeds=late,
    )


def _movie(tilt: Tilt) -> tuple[FloatArray, FloatArray, float] | None:
    """Shifts of the frames, their deviations, and the exposure time; None where that tells nothing."""
    motion, time = tilt.motion, tilt.exposure_s
    if motion is None or time is None or not time > 0 or len(motion.shifts_angstrom) < _LEAST_FRAMES:
        return None
    return (motion.shifts_angstrom, motion.sigma_angstrom, time) if np.isfinite(motion.shifts_angstrom).all() else None


def _mean(values: FloatArray) -> Figure:
    return Figure(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def _speed(shifts: FloatArray, sigma: FloatArray, exposure_s: float, *, first: bool) -> float:
    """Over a third of the frames, two at least; the share of the noise is taken off."""
    third = max(len(shifts) // 3, 1)
    ends = (0, third) if first else (len(shifts) - 1 - third, len(shifts) - 1)
    step = shifts[ends[1]] - shifts[ends[0]]
    noise = float(np.nan_to_num(sigma[list(ends)] ** 2).sum()) * 2.0
    length = np.sqrt(max(float(step @ step) - noise, 0.0))
    return float(length / (third * exposure_s / len(shifts)))


def _settling(shown: Sequence[tuple[FloatArray, FloatArray, float]], frame_time: float) -> tuple[Figure, float]:
    """The time constant, and the speed of the decaying part as the shutter opens."""
    longest = max(time for _, _, time in shown)
    trials = np.geomspace(_SHORTEST * frame_time, _LONGEST * longest, _TRIALS)
    without, free = _misfit(shown, None)
    each = [_misfit(shown, float(tau)) for tau in trials]
    misfits, left_free = np.array([m for m, _ in each]), each[0][1]
    best = int(np.argmin(misfits))
    nothing = Figure(), float("nan")
    if left_free < 1 or best in (0, len(trials) - 1) or misfits[best] <= 0:
        return nothing
    noise = max(float(misfits[best]) / left_free, 1.0)  # deviations may be said too small
    unknowns = free - left_free
    # movement of no use explains as much as unknowns by chance, within its spread
    if (without - misfits[best]) / noise < unknowns + _DECISIVE + 2.0 * np.sqrt(2.0 * unknowns):
        return nothing
    near = np.flatnonzero((misfits - misfits[best]) / noise < 1.0)
    low, high = trials[max(near[0] - 1, 0)], trials[min(near[-1] + 1, len(trials) - 1)]
    tau = float(trials[best])
    return Figure(tau, float(high - low) / 2.0), _start_speed(shown, tau)


def _design(count: int, exposure_s: float, tau: float | None) -> FloatArray:
    """(frame, unknown): mean, even movement, and the decay, averaged over each frame."""
    length = exposure_s / count
    begin = np.arange(count) * length
    columns = [np.ones(count), begin + length / 2]
    if tau is not None:
        columns.append(tau / length * (np.exp(-begin / tau) - np.exp(-(begin + length) / tau)))
    return np.stack(columns, axis=1)


def _misfit(shown: Sequence[tuple[FloatArray, FloatArray, float]], tau: float | None) -> tuple[float, int]:
    """Sum of squares over variances, and the degrees of freedom."""
    total, free = 0.0, 0
    for shifts, sigma, time in shown:
        weight = 1.0 / np.maximum(np.nan_to_num(sigma, nan=_LEAST_SIGMA), _LEAST_SIGMA)
        design = _design(len(shifts), time, tau) * weight[:, None]
        values = shifts * weight[:, None]
        left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        total += float((left**2).sum())
        free += 2 * (len(shifts) - design.shape[1])
    return total, free


def _start_speed(shown: Sequence[tuple[FloatArray, FloatArray, float]], tau: float) -> float:
    """Root mean square speed of the decaying part at the start, less the share of its errors."""
    squares = []
    for shifts, sigma, time in shown:
        weight = 1.0 / np.maximum(np.nan_to_num(sigma, nan=_LEAST_SIGMA), _LEAST_SIGMA)
        design = _design(len(shifts), time, tau) * weight[:, None]
        size = np.linalg.lstsq(design, shifts * weight[:, None], rcond=None)[0][2]
        variance = np.linalg.pinv(design.T @ design)[2, 2]
        squares.append(float(size @ size) - 2.0 * float(variance))
    return float(np.sqrt(max(float(np.mean(squares)), 0.0)) / tau)
