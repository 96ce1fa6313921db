"""What maps of the local defocus say of the tilt axis and of a bent specimen."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from eucentric.ctf.fit_inclination import Inclination
from eucentric.ctf.specimen_plane import plane_normal, plane_slopes
from eucentric.geometry import TiltGeometry
from eucentric.typing import FloatArray

CELLS = 4  # along each side of a map
_LEAST_CELLS = 9  # of which anything is said about their scatter
_LEAST_SURPLUS = 1.5  # observations over unknowns
_HUBER = 1.345  # standard deviations from which an observation counts less
_ROUNDS = 4
_SURE = 4.0  # standard errors for a finding
_CHANCE = math.erfc(_SURE / 2**0.5)
_SCATTER_ANGSTROM = (
    1500.0 / 12**0.5 * (CELLS**2 / 30) ** 0.5
)  # of the mean depth of a cell's share of thirty bodies in ice


def axis_offset(
    residual: FloatArray, sigma: FloatArray, places: FloatArray, geometry: TiltGeometry, plane: Inclination, hand: float
) -> tuple[float, float]:
    """Turn of the tilt axis (degrees) that explains the maps of all tilts best, and its sigma.

    Every tilt may have its own defocus, every cell its own height, and the plane another inclination. Sigma is from how much
    single cells move the answer (errors clustered by cell): beads and bodies mislead a cell alike in all tilts.

    Parameters
    ----------
    residual, sigma : (tilt, cell) A, defocus over that of the plane; NaN where unknown
    places : (cell, 2) A, x and y from the image's centre
    plane : whose heights are in the defocus already
    hand : +1 or -1

    Returns
    -------
    NaN where too little is known
    """
    tilt, cell = np.nonzero(np.isfinite(residual) & np.isfinite(sigma))
    numbers = np.array([0.0, plane.x_deg, plane.y_deg])

    def heights(values: FloatArray) -> FloatArray:
        turned = geometry.replace(z_rot_deg=geometry.z_rot_deg + values[0])
        slopes = np.nan_to_num(plane_slopes(turned, plane_normal(float(values[1]), float(values[2]))))
        return np.asarray(np.einsum("tj,tj->t", slopes[tilt], places[cell]))

    rates = [(heights(numbers + step) - heights(numbers - step)) / 2.0 for step in np.eye(3)]
    own = [tilt == t for t in np.unique(tilt)] + [cell == c for c in np.unique(cell)[1:]]
    basis = np.column_stack([*rates, *own]).astype(np.float64)
    if len(tilt) < _LEAST_SURPLUS * basis.shape[1] or len(np.unique(cell)) < _LEAST_CELLS:
        return math.nan, math.nan
    value, weight = hand * residual[tilt, cell], 1.0 / sigma[tilt, cell]
    share = np.ones(len(tilt))
    for _ in range(_ROUNDS):
        scale = weight * np.sqrt(share)
        bread = np.linalg.pinv((basis * scale[:, None]).T @ (basis * scale[:, None]))
        terms = bread @ (basis.T @ (scale**2 * value))
        left = value - basis @ terms
        distance = np.abs(left * weight)
        limit = _HUBER * 1.4826 * float(np.median(distance))
        share = np.minimum(1.0, limit / np.maximum(distance, 1e-12))
    pull = basis * (scale**2 * left)[:, None]
    by_cell = np.stack([pull[cell == c].sum(0) for c in np.unique(cell)]) @ bread
    count = len(by_cell)
    spread = float((by_cell[:, 0] ** 2).sum()) * count / (count - 1)
    return float(terms[0]), math.sqrt(max(spread, float(bread[0, 0])))


def common_bend(
    residual: FloatArray, sigma: FloatArray, near: NDArray[np.bool_], hand: float
) -> tuple[FloatArray, FloatArray]:
    """Height of each cell (A) that the maps (tilt, cell) of the tilts marked in `near` agree on, and its sigma."""
    weight = np.where(np.isfinite(residual) & near[:, None], 1.0 / np.nan_to_num(sigma, nan=1.0) ** 2, 0.0)
    means = [_weighted_mean(np.nan_to_num(residual[:, c]), weight[:, c]) for c in range(residual.shape[1])]
    return np.array([hand * m for m, _ in means]), np.array([s for _, s in means])


def off_plane(height: FloatArray, sigma: FloatArray, places: FloatArray) -> FloatArray:
    """Heights less the plane through them: a plane is no bend."""
    known = np.flatnonzero(np.isfinite(height) & np.isfinite(sigma))
    if len(known) <= 3:
        return np.where(np.isfinite(height), 0.0, np.nan)
    basis = np.column_stack([np.ones(len(places)), places])
    terms = np.linalg.lstsq(basis[known] / sigma[known, None], height[known] / sigma[known], rcond=None)[0]
    return np.asarray(height - basis @ terms)


def describe_maps(
    bend: FloatArray, sigma: FloatArray, places: FloatArray, offset: float, offset_sigma: float
) -> tuple[str, ...]:
    """What stands out, in words: a turned axis (degrees), and a bend of the heights (cell,) in A."""
    out = []
    if abs(offset) > _SURE * offset_sigma:
        out.append(
            f"The rings speak for a tilt axis {offset:+.1f} +- {offset_sigma:.1f} degrees from the geometry's. "
            "Check the alignment."
        )
    span = _smooth_bend(bend, sigma, places)
    if span > 0:
        out.append(f"The specimen is bent: over the field it departs from a plane by {span:.0f} A.")
    return tuple(out)


def _smooth_bend(height: FloatArray, sigma: FloatArray, places: FloatArray) -> float:
    """Span (A) of the curved surface through the heights; 0 where it does not stand out of the roughness about it.

    Bodies at different depths make the map rough; a span that they alone could make is none.
    """
    known = np.flatnonzero(np.isfinite(height) & np.isfinite(sigma))
    flat, curved = 3, 6
    if len(known) < _LEAST_CELLS:
        return 0.0
    x, y = (places / np.abs(places).max()).T
    basis = np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])

    def fitted(count: int) -> tuple[FloatArray, float]:
        part = basis[known, :count] / sigma[known, None]
        terms = np.linalg.lstsq(part, height[known] / sigma[known], rcond=None)[0]
        return np.asarray(terms), float((((height[known] - basis[known, :count] @ terms) / sigma[known]) ** 2).sum())

    freedom = len(known) - curved
    (_, rough), (terms, left) = fitted(flat), fitted(curved)
    ratio = (rough - left) / (curved - flat) / max(left / freedom, 1.0)
    # F distribution: the chance that roughness alone looks so curved
    chance = float(betainc(0.5 * freedom, 0.5 * (curved - flat), freedom / (freedom + (curved - flat) * ratio)))
    span = float(np.ptp(basis[known, flat:] @ terms[flat:]))
    return span if chance < _CHANCE and span > 2.0 * _SCATTER_ANGSTROM else 0.0


def _weighted_mean(value: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Mean and its standard error, by the larger of the stated uncertainty and the scatter."""
    total = float(weight.sum())
    count = int((weight > 0).sum())
    if count < 2:
        return math.nan, math.nan
    mean = float((weight * value).sum() / total)
    scatter = float((weight * (value - mean) ** 2).sum() / (count - 1))
    return mean, math.sqrt(max(1.0, scatter) / total)
