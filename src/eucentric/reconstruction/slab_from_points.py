"""The slab whose faces a person marked: points on its top and bottom in, height, pitch and thickness out. numpy, A."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError
from eucentric.reconstruction.level_geometry import SpecimenSlab
from eucentric.typing import FloatArray

_SURE_SLOPE = 0.1
"""Standard error of a slope, A per A, from which points tell nothing of it."""
_DISAGREE = 3.0  # standard errors between the slopes of both faces from which they are called not parallel
_APART_DEG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedSlab:
    """A slab with two parallel faces through points, as well as it goes."""

    slab: SpecimenSlab
    rms_angstrom: float
    """Of the points, from the faces."""
    pitched: tuple[bool, bool]
    """Whether the points tell the inclination about y, and about x; else it is the one given."""
    wedge_deg: float
    """Angle between the planes through the points of each face alone, where they clearly differ, or 0. The slab then holds all
    points."""


def slab_from_points(
    top_angstrom: ArrayLike,
    bottom_angstrom: ArrayLike,
    *,
    sigma_angstrom: float,
    x_tilt_deg: float = 0.0,
    y_tilt_deg: float = 0.0,
) -> MarkedSlab:
    """Least squares of ``z = a x + b y + c`` with one slope for both faces and a height for each.

    Parameters
    ----------
    top_angstrom, bottom_angstrom : (n, 3) and (m, 3), one point or more each
    sigma_angstrom : how well a point is marked: half a voxel
    x_tilt_deg, y_tilt_deg : inclination of the slab where the points do not tell it

    Raises
    ------
    InputError : a face without points, numbers that are not finite, or a top that is not above the bottom
    """
    top, bottom = (np.asarray(p, dtype=np.float64).reshape(-1, 3) for p in (top_angstrom, bottom_angstrom))
    for face, name in ((top, "top"), (bottom, "bottom")):
        if not len(face):
            raise InputError(f"No point is on the {name} of the specimen. Mark one or more on each face.")
    points = np.concatenate([top, bottom])
    if not np.isfinite(points).all():
        raise InputError("A point on a face of the specimen is no place. Mark it again.")
    is_top = np.arange(len(points)) < len(top)
    expected = _slopes_of(x_tilt_deg, y_tilt_deg)
    fit = _fitted(points, is_top, expected, sigma_angstrom)
    low, high = fit.heights[1], fit.heights[0]
    if high <= low:
        raise InputError(
            f"The top of the specimen lies {low - high:.0f} A below its bottom. Mark the face with larger z as the top."
        )
    normal = np.array([-fit.slopes[0], -fit.slopes[1], 1.0])
    normal /= np.linalg.norm(normal)
    wedge = _wedge(top, bottom, expected, sigma_angstrom)
    if wedge:  # then the slab that holds all points
        high, low = (top @ normal).max() / normal[2], (bottom @ normal).min() / normal[2]
    slab = SpecimenSlab(
        found=True,
        x_tilt_deg=math.degrees(math.asin(-normal[1])),
        y_tilt_deg=math.degrees(math.atan2(normal[0], normal[2])),
        z_angstrom=0.5 * (high + low),
        thickness_angstrom=(high - low) * normal[2],
        x_tilt_sigma_deg=math.degrees(fit.slope_sigma[1]),
        y_tilt_sigma_deg=math.degrees(fit.slope_sigma[0]),
        z_sigma_angstrom=0.5 * math.hypot(*fit.height_sigma),
        thickness_sigma_angstrom=math.hypot(*fit.height_sigma),
        score=0.0,
        contrast=math.nan,
    )
    return MarkedSlab(slab=slab, rms_angstrom=fit.rms, pitched=fit.told, wedge_deg=wedge)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    slopes: FloatArray
    heights: FloatArray
    """(face,), at the specimen centre."""
    slope_sigma: FloatArray
    height_sigma: FloatArray
    told: tuple[bool, bool]
    """Of the slopes along x and y."""
    rms: float


def _slopes_of(x_tilt_deg: float, y_tilt_deg: float) -> FloatArray:
    """Along x and y, of the plane with normal ``Ry(y_tilt) Rx(x_tilt) z``."""
    x, y = math.radians(x_tilt_deg), math.radians(y_tilt_deg)
    normal = np.array([math.sin(y) * math.cos(x), -math.sin(x), math.cos(y) * math.cos(x)])
    return np.asarray(-normal[:2] / normal[2])


def _fitted(points: FloatArray, is_top: np.ndarray, expected: FloatArray, sigma: float) -> _Fit:
    faces = [is_top, ~is_top] if not is_top.all() else [is_top]
    left = points[:, 2] - points[:, :2] @ expected
    centred, level = points[:, :2].copy(), left.copy()
    for face in faces:
        centred[face] -= centred[face].mean(0)
        level[face] -= level[face].mean()
    values, axes = np.linalg.eigh(centred.T @ centred)
    told = sigma / np.sqrt(np.maximum(values, 1e-12)) < _SURE_SLOPE
    known = (axes[:, told] / values[told]) @ axes[:, told].T if told.any() else np.zeros((2, 2))
    change = known @ (centred.T @ level)
    freedom = len(points) - len(faces) - int(told.sum())
    residual = level - centred @ change
    spread = max(sigma, math.sqrt(float(residual @ residual) / freedom)) if freedom > 0 else sigma
    rest = left - points[:, :2] @ change
    heights = np.array([rest[face].mean() for face in faces])
    middles = [points[face, :2].mean(0) for face in faces]
    covariance = spread**2 * known
    height_sigma = np.array(
        [math.sqrt(spread**2 / face.sum() + float(m @ covariance @ m)) for face, m in zip(faces, middles, strict=True)]
    )
    unsure = axes[:, ~told]
    return _Fit(
        slopes=expected + change,
        heights=heights,
        slope_sigma=np.sqrt(np.diag(covariance)),
        height_sigma=height_sigma,
        told=(not (np.abs(unsure[0]) > 0.5).any(), not (np.abs(unsure[1]) > 0.5).any()),
        rms=float(np.sqrt(np.mean(residual**2))),
    )


def _wedge(top: FloatArray, bottom: FloatArray, expected: FloatArray, sigma: float) -> float:
    """Degrees between faces that are clearly not parallel."""
    fits = [_fitted(face, np.ones(len(face), dtype=bool), expected, sigma) for face in (top, bottom)]
    if min(len(top), len(bottom)) < 3 or not all(all(fit.told) for fit in fits):
        return 0.0
    apart = fits[0].slopes - fits[1].slopes
    error = np.hypot(fits[0].slope_sigma, fits[1].slope_sigma)
    angle = math.degrees(math.atan(float(np.linalg.norm(apart))))
    return angle if angle > _APART_DEG and (np.abs(apart) > _DISAGREE * error).any() else 0.0
