r"""From an aligned tilt series to the path of its specimen on the tilting stage.

The poses of a series tell where the specimen was seen, after whatever the microscope did to keep it in the field. What
the microscope did is in the image shift of each image, in micrometres and in a frame of its own: its rotation to the
camera is in no file. It is therefore estimated, from the steps of the image shift that a smooth path of the stage does
not explain: with places and image shifts as complex numbers :math:`s` and :math:`q`,

.. math:: s_i = \sum_k c_k b_k(i) + m q_i + e_i \quad\text{or}\quad s_i = \sum_k c_k b_k(i) + m q_i^* + e_i,

where the smooth :math:`b_k` are 1, the cosine and sine of the tilt and of twice it, the number of the image, and the
direction from which the stage came. :math:`m` is one for all series of a microscope. Where the microscope follows a
rough path without error, :math:`m` comes out too small; so the image shift is only taken out where its length is what its
unit says (a micrometre at the specimen) within the errors of a calibration. Else only the residual error of the
microscope's own tracking is seen, and the results say so.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.geometry.rotations import rotation_x, rotation_y, rotation_z
from eucentric.models.stage_track import StageTrack
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.typing import FloatArray

Following = Literal["corrected", "none", "residual", "unknown"]
"""What the microscope did to follow the specimen: known and taken out; nothing; something that is not known well enough, so
that only what it left is seen; not said in the files."""

LEAST_TILTS = 5
"""Fewer tilts tell nothing of a path with three unknowns."""
_UM = 1e4
_LEAST_SHIFT_UM = 0.005  # image shifts that change by less are those of a microscope that did not follow
_LEAST_FOCUS = 50.0  # A: likewise of defocus; half a hundredth of a micrometre is the rounding of files
_CALIBRATION = 0.25  # by which a micrometre of image shift may differ from one at the specimen
_LARGEST_ERROR = 0.10  # relative, of an image shift that is taken out
_DECISIVE = 12.0  # log-likelihood ratio, twice, between a matrix and its mirror image
_LEAST_FREE = 6  # images beyond the unknowns of the smooth path


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """What is known of the images of an aligned series, in the order in which they were taken."""

    name: str
    tilts_deg: FloatArray
    """(n,), nominal angles."""
    seen_angstrom: FloatArray
    """(n, 2), where the middle of the specimen was seen, from the image centre, in the frame of the camera."""
    sigma_angstrom: FloatArray
    """(n,), of a component; NaN where unknown."""
    axis_deg: FloatArray
    """(n,), rlnTomoZRot."""
    direction: FloatArray
    """(n,), 1 where the stage came from lower angles, -1 from higher, 0 for the first image; images left out count."""
    image_shift_um: FloatArray
    """(n, 2), as the microscope wrote it; NaN where it did not."""
    defocus_angstrom: FloatArray
    """(n,), of the middle of the specimen; NaN where not fitted."""
    defocus_sigma_angstrom: FloatArray
    target_defocus_angstrom: FloatArray
    shown_defocus_angstrom: FloatArray
    """(n,), of the lens, from an unknown zero."""
    times_s: FloatArray
    hand: float
    """Of heights in the sense of the nominal angles."""
    sense: float
    """-1 where poses count angles the other way than the stage does, as imported ones may."""

    def __len__(self) -> int:
        return len(self.tilts_deg)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageShiftFit:
    """How image shift moves the specimen on the camera."""

    matrix: FloatArray
    """(2, 2), A on the camera (referred to the specimen) for a micrometre of image shift."""
    sigma_angstrom: float
    """One standard deviation of what a micrometre does, A."""
    scale: float
    """Length of a micrometre of image shift, in micrometres."""
    turn_deg: float
    """From the x axis of the image shift to that of the camera."""
    mirrored: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredTrack:
    """The path of a specimen, and what of it can be believed."""

    track: StageTrack
    tracking: Following
    """Of image shift, for the places."""
    focusing: Following
    """Of the lens, for the heights."""
    scale_sigma: float = 0.0
    """Relative error that all places share, where image shift was taken out."""
    offset_sigma_angstrom: float = 0.0
    """Of where they all lie, by the same."""


def record_series(series: TiltSeries) -> Recording:
    """The images of a series in the order in which they were taken.

    Raises
    ------
    InputError : the series has not been aligned, or has fewer than 5 tilts
    """
    poses = series.poses
    if len(poses) < LEAST_TILTS:
        raise InputError(
            f"{series.name} has {len(poses)} tilts that can be used; its stage can be judged by {LEAST_TILTS} at least."
        )
    order = sorted(range(len(poses)), key=lambda i: series.tilts[i].acquisition)
    tilts = [series.tilts[i] for i in order]
    height = 0.0 if series.specimen is None else series.specimen.z_angstrom
    rotations = pose_matrices([poses[i] for i in order])
    middle = rotations @ np.array([0.0, 0.0, height if np.isfinite(height) else 0.0])
    shifts = np.array([[poses[i].x_shift_angstrom, poses[i].y_shift_angstrom] for i in order])
    fits = [t.ctf for t in tilts]
    nominal, posed = np.array([[t.nominal_tilt_deg, poses[i].y_tilt_deg] for i, t in zip(order, tilts, strict=True)]).T
    sense = -1.0 if float((nominal - nominal.mean()) @ (posed - posed.mean())) < 0 else 1.0
    return Recording(
        name=series.name,
        tilts_deg=nominal,
        seen_angstrom=shifts + middle[:, :2],
        sigma_angstrom=np.array([poses[i].sigma_angstrom for i in order]),
        axis_deg=np.array([poses[i].z_rot_deg for i in order]),
        direction=_directions(tilts, [*series.tilts, *(e.tilt for e in series.excluded)]),
        image_shift_um=np.array([t.image_shift_um or (np.nan, np.nan) for t in tilts], dtype=np.float64),
        defocus_angstrom=np.array([np.nan if f is None else f.defocus_angstrom for f in fits])
        + series.hand * middle[:, 2],
        defocus_sigma_angstrom=np.array([np.nan if f is None else f.defocus_sigma_angstrom for f in fits]),
        target_defocus_angstrom=_numbers([t.nominal_defocus_angstrom for t in tilts]),
        shown_defocus_angstrom=_numbers([t.shown_defocus_angstrom for t in tilts]),
        times_s=_numbers([t.time_s for t in tilts]),
        hand=series.hand * sense,
        sense=sense,
    )


def pose_matrices(poses: Sequence[TiltPose]) -> FloatArray:
    """(n, 3, 3) rotations ``Rz Ry Rx`` of poses."""
    turns = [rotation_z(p.z_rot_deg) @ rotation_y(p.y_tilt_deg) @ rotation_x(p.x_tilt_deg) for p in poses]
    return np.stack(turns)


def _numbers(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _directions(tilts: Sequence[Tilt], every: Sequence[Tilt]) -> FloatArray:
    """From where the stage came to each of `tilts`, by all images that were taken."""
    ordered = sorted(every, key=lambda t: t.acquisition)
    came = {ordered[0].acquisition: 0.0}
    for before, after in itertools.pairwise(ordered):
        came[after.acquisition] = float(np.sign(after.nominal_tilt_deg - before.nominal_tilt_deg))
    return np.array([came[t.acquisition] for t in tilts])


def estimate_image_shift(recordings: Sequence[Recording]) -> ImageShiftFit | None:
    """How image shift moves the specimen on the camera, from all series of one microscope and magnification together.

    Returns
    -------
    ImageShiftFit, or None where it cannot be told: no image shifts, too few images, an error above a tenth, a mirrored
    matrix as likely, or a length that is not the unit's within a quarter
    """
    power, spread, free = 0.0, 0.0, 0
    products = np.zeros(2, dtype=np.complex128)
    for one in recordings:
        if _tracking(one, None) != "residual":
            continue
        smooth = _smooth_path(one)
        if len(one) - smooth.shape[1] < _LEAST_FREE:
            continue
        seen = _rough(one.seen_angstrom[:, 0] + 1j * one.seen_angstrom[:, 1], smooth)
        shift = _rough(one.image_shift_um[:, 0] + 1j * one.image_shift_um[:, 1], smooth)
        products += [np.vdot(shift, seen), np.vdot(np.conj(shift), seen)]
        power += float(np.vdot(shift, shift).real)
        spread += float(np.vdot(seen, seen).real)
        free += len(one) - smooth.shape[1]
    if power <= 0 or free < 2:
        return None
    factors = products / power
    left = spread - np.abs(products) ** 2 / power
    best = int(np.argmin(left))
    variance = max(float(left[best]), 1e-9) / (free - 1)  # of both components together
    factor, sigma = complex(factors[best]), float(np.sqrt(variance / power))
    # what the microscope followed of a rough path makes the factor smaller, by no more than this part
    sigma = float(np.hypot(sigma, abs(factor) * variance * free / max(abs(factor) ** 2 * power, 1e-12)))
    scale = abs(factor) / _UM
    decided = (left[1 - best] - left[best]) / variance > _DECISIVE
    honest = abs(scale - 1.0) <= _CALIBRATION + 3.0 * sigma / _UM
    if not decided or sigma > _LARGEST_ERROR * abs(factor) or not honest:
        return None
    a, b, mirror = factor.real, factor.imag, best == 1
    matrix = np.array([[a, b], [b, -a]]) if mirror else np.array([[a, -b], [b, a]])
    return ImageShiftFit(
        matrix=matrix,
        sigma_angstrom=sigma / np.sqrt(2.0),
        scale=scale,
        turn_deg=float(np.rad2deg(np.angle(factor))),
        mirrored=mirror,
    )


def _smooth_path(one: Recording) -> FloatArray:
    """(n, k) orthonormal columns that a smooth path of the stage is made of."""
    angle = np.deg2rad(one.tilts_deg)
    columns = [np.ones(len(one)), np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)]
    columns += [np.arange(len(one), dtype=np.float64), one.direction]
    vectors, values, _ = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
    return np.asarray(vectors[:, values > 1e-6 * values[0]])


def _rough(values: NDArray[np.complex128], smooth: FloatArray) -> NDArray[np.complex128]:
    return np.asarray(values - smooth @ (smooth.T @ values))


def _tracking(one: Recording, fit: ImageShiftFit | None) -> Following:
    if not np.isfinite(one.image_shift_um).all():
        return "unknown"
    if np.ptp(one.image_shift_um, axis=0).max() < _LEAST_SHIFT_UM:
        return "none"
    return "residual" if fit is None else "corrected"


def _focusing(one: Recording) -> Following:
    if not np.isfinite(one.shown_defocus_angstrom).all():
        return "unknown"
    return "none" if np.ptp(one.shown_defocus_angstrom) < _LEAST_FOCUS else "corrected"


def to_axis_frame(vectors: FloatArray, axis_deg: FloatArray) -> FloatArray:
    """(n, 2) vectors of the camera in the frame of the tilt axis: x across it, y along it."""
    turn = np.deg2rad(axis_deg)
    x, y = vectors[:, 0], vectors[:, 1]
    return np.stack([np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y], axis=1)


def measure_track(one: Recording, fit: ImageShiftFit | None = None) -> MeasuredTrack:
    """The path of the middle of the specimen as an uncorrected camera would have seen it.

    Parameters
    ----------
    one : from `record_series`
    fit : from `estimate_image_shift`; without it image shift is left in
    """
    tracking, focusing = _tracking(one, fit), _focusing(one)
    seen, variance = one.seen_angstrom, one.sigma_angstrom**2
    if tracking == "corrected" and fit is not None:
        seen = seen - one.image_shift_um @ fit.matrix.T
        moved = np.linalg.norm(one.image_shift_um - one.image_shift_um.mean(axis=0), axis=1)
        variance = variance + (fit.sigma_angstrom * moved) ** 2
    focus = one.defocus_angstrom - (one.shown_defocus_angstrom if focusing == "corrected" else 0.0)
    known = np.flatnonzero(np.isfinite(focus))
    height = (focus - (focus[known[0]] if known.size else 0.0)) / one.hand
    track = StageTrack(
        name=one.name,
        tilts_deg=one.tilts_deg,
        position_angstrom=to_axis_frame(seen, one.axis_deg),
        height_angstrom=height,
        position_sigma_angstrom=np.sqrt(variance),
        height_sigma_angstrom=one.defocus_sigma_angstrom,
        times_s=one.times_s,
    )
    shared = offset = 0.0
    if tracking == "corrected" and fit is not None:
        shared = float(np.sqrt(2.0) * fit.sigma_angstrom / (fit.scale * _UM))
        offset = float(fit.sigma_angstrom * np.linalg.norm(one.image_shift_um.mean(axis=0)))
    return MeasuredTrack(
        track=track, tracking=tracking, focusing=focusing, scale_sigma=shared, offset_sigma_angstrom=offset
    )
