r"""Where a specimen lay relative to the tilt axis, from the path that it took.

A point at :math:`(x_0, z_0)` from the axis at tilt 0 is seen across it, and stands, at

.. math::
    x(\theta) &= x_0 \cos\theta + z_0 \sin\theta + c + \tfrac12 b_x u \\
    z(\theta) &= z_0 \cos\theta - x_0 \sin\theta + h

with :math:`c` the place at which the camera sees the axis (the offset between optical and mechanical axis), :math:`u` = 1
where the stage came from lower angles and -1 where it came from higher ones, and :math:`b_x` the backlash. Along the axis
:math:`y = y_0 + \tfrac12 b_y u + p \cos\theta + q \sin\theta`, with :math:`p` and :math:`q` what an axis leaves that lies
a little otherwise on the camera. Places and heights are weighted by what the fit leaves of each kind, points far off count
less (Huber). A stage that turned back less than 3 times may have drifted as well: its backlash is not fitted. What is left of
a stage is not independent from image to image, so covariances are multiplied by
:math:`(1 + \rho) / (1 - \rho)` with :math:`\rho` the correlation of neighbours.
"""

from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.measure_track import LEAST_TILTS, MeasuredTrack
from eucentric.typing import FloatArray

_ROUNDS = 8
_HUBER = 1.5  # standard deviations beyond which a point counts less
_FLOOR = 0.1  # A: fits of exact numbers
LEAST_TURNS = 3
"""Of the stage; one that turned once may have drifted as well."""
_TO_SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with one standard deviation; NaN where unknown."""

    value: float = float("nan")
    sigma: float = float("nan")

    @property
    def is_known(self) -> bool:
        return bool(np.isfinite(self.value))

    def beyond(self, limit: float, sigmas: float = 2.0) -> bool:
        """Whether its size is above a limit, and above so many standard deviations of it."""
        sigma = self.sigma if np.isfinite(self.sigma) else 0.0
        return self.is_known and abs(self.value) > max(limit, sigmas * sigma)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EucentricFit:
    """The geometry of a path; lengths in A."""

    height: Figure
    """z0: of the specimen over the tilt axis."""
    distance: Figure
    """x0: of the specimen from the tilt axis, across it."""
    axis_offset: Figure
    """c: where the camera sees the tilt axis."""
    backlash_across: Figure
    backlash_along: Figure
    position_left: FloatArray
    """(n, 2), of the places, what the fit leaves."""
    smooth: FloatArray
    """(n, 3), x, y and z of the fit."""
    by_position: bool
    """Whether places had a say in `height` and `distance`."""
    by_height: bool


def fit_eucentric(measured: MeasuredTrack, direction: FloatArray) -> EucentricFit:
    """Fit the geometry to a path.

    Places count where what the microscope did to follow is known, heights where what its lens did is. Where neither is,
    what was seen is fitted as it is: that is then what the microscope's own tracking left.

    Parameters
    ----------
    measured : from `measure_track`
    direction : (n,) 1, -1 or 0, as `Recording.direction`
    """
    track = measured.track
    turned = int(np.sum(direction[1:] * direction[:-1] < 0)) >= LEAST_TURNS
    direction = direction if turned else np.zeros_like(direction)
    heights_known = np.isfinite(track.height_angstrom)
    by_height = measured.focusing in ("corrected", "none") and int(heights_known.sum()) >= LEAST_TILTS
    by_position = measured.tracking in ("corrected", "none") or not by_height
    angle = np.deg2rad(track.tilts_deg)
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones_like(angle), np.zeros_like(angle)
    x, y = track.position_angstrom.T
    # unknowns: x0, z0, c, bx, h
    across = np.stack([cos, sin, one, direction / 2, zero], axis=1)
    upwards = np.stack([-sin, cos, zero, zero, one], axis=1)[heights_known]
    kinds = []
    if by_position:
        kinds.append((across, x))
    if by_height:
        kinds.append((upwards, track.height_angstrom[heights_known]))
    found, sigma = _joint_fit(kinds)
    own = found
    if not by_position:  # backlash and the axis are still those of what was seen
        own, own_sigma = _joint_fit([(across, x)])
        found = np.array([found[0], found[1], np.nan, own[3], found[4]])
        sigma = np.array([sigma[0], sigma[1], np.nan, own_sigma[3], sigma[4]])
    if by_position:  # an image shift that is too long or turned scales and turns the path
        sigma = np.hypot(sigma, np.array([1.0, 1.0, 1.0, 0.0, 0.0]) * measured.scale_sigma * np.hypot(*found[:2]))
        sigma[2] = np.hypot(sigma[2], measured.offset_sigma_angstrom)
    along = np.stack([one, direction / 2, cos, sin], axis=1)
    found_y, sigma_y = _joint_fit([(along, y)])
    smooth_x, smooth_y = across @ own, along @ found_y
    smooth_z = np.stack([-sin, cos, zero, zero, one], axis=1) @ np.nan_to_num(found)
    nothing = Figure()
    return EucentricFit(
        height=Figure(float(found[1]), float(sigma[1])),
        distance=Figure(float(found[0]), float(sigma[0])),
        axis_offset=Figure(float(found[2]), float(sigma[2])) if by_position else nothing,
        backlash_across=Figure(float(found[3]), float(sigma[3])) if turned else nothing,
        backlash_along=Figure(float(found_y[1]), float(sigma_y[1])) if turned else nothing,
        position_left=np.stack([x - smooth_x, y - smooth_y], axis=1),
        smooth=np.stack([smooth_x, smooth_y, smooth_z if by_height else np.full(len(track), np.nan)], axis=1),
        by_position=by_position,
        by_height=by_height,
    )


def _joint_fit(kinds: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Unknowns and their standard deviations from kinds of measurements that share them, each with a scatter of its own.

    Unknowns that nothing tells are 0 with no standard deviation (NaN).
    """
    count = kinds[0][0].shape[1]
    scatter = [max(float(np.std(values)), _FLOOR) for _, values in kinds]
    weights = [np.ones(len(values)) for _, values in kinds]
    found = np.zeros(count)
    inverse = np.zeros((count, count))
    for _ in range(_ROUNDS):
        rows = np.concatenate(
            [m * np.sqrt(w)[:, None] / s for (m, _), w, s in zip(kinds, weights, scatter, strict=True)]
        )
        values = np.concatenate([v * np.sqrt(w) / s for (_, v), w, s in zip(kinds, weights, scatter, strict=True)])
        inverse = np.linalg.pinv(rows.T @ rows, hermitian=True, rcond=1e-10)
        found = inverse @ (rows.T @ values)
        for i, (matrix, measured) in enumerate(kinds):
            left = measured - matrix @ found
            free = max(len(left) - count / len(kinds), 1.0)
            robust = _TO_SIGMA * float(np.median(np.abs(left))) * np.sqrt(len(left) / free)
            scatter[i] = max(robust, _FLOOR)
            weights[i] = np.minimum(1.0, _HUBER * scatter[i] / np.maximum(np.abs(left), 1e-12))
    alike = max(neighbour_correlation(v - m @ found) for m, v in kinds)
    variance = np.diag(inverse) * (1.0 + alike) / (1.0 - alike)
    told = np.any([np.any(m != 0, axis=0) for m, _ in kinds], axis=0)
    return found, np.where(told, np.sqrt(np.maximum(variance, 0.0)), np.nan)


def neighbour_correlation(left: FloatArray) -> float:
    """Correlation of what is left at neighbouring images, 0 to 0.9."""
    centred = left - left.mean()
    power = float(centred @ centred)
    if len(left) < LEAST_TILTS or power <= 0:
        return 0.0
    return float(np.clip((centred[1:] @ centred[:-1]) / power, 0.0, 0.9))
