r"""One tilt axis for a data set: what the microscope keeps from series to series.

Each series measures its axis as :math:`a_i \pm s_i` about a common :math:`m` from which true axes stray by :math:`\tau`
(stage and specimen, some hundredths of a degree). :math:`m` and :math:`\tau` are those of greatest likelihood under a
Student distribution with four degrees of freedom, so that one failed series moves them little; the best estimate of a
series is then the mean of its own and the common axis, weighted by their inverse variances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

_FREEDOM = 4.0
_SPREADS = np.concatenate([[0.02], np.geomspace(0.03, 3.0, 40)])
"""Degrees; below the first no alignment could tell."""
_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedAxis:
    """The axis of a data set, degrees."""

    axis_deg: float
    sigma_deg: float
    """Of the common axis."""
    spread_deg: float
    """One standard deviation of the series' true axes about it."""
    axes_deg: FloatArray
    """(series,), the best estimate of each from its own images and the common axis."""


def share_axis(axes_deg: ArrayLike, sigmas_deg: ArrayLike) -> SharedAxis:
    """The common axis of several series, and what it tells of each.

    Parameters
    ----------
    axes_deg : (series,), any turn; differences are taken the short way round
    sigmas_deg : (series,), one standard deviation of each, above zero

    Raises
    ------
    ShapeError, InputError : not one of each, none at all, or values that are not finite and positive
    """
    axes = np.asarray(axes_deg, dtype=np.float64).reshape(-1)
    sigmas = np.asarray(sigmas_deg, dtype=np.float64).reshape(-1)
    if axes.shape != sigmas.shape or not len(axes):
        raise ShapeError(f"{len(axes)} axes and {len(sigmas)} standard deviations were given; expected one of each.")
    if not (np.isfinite(axes).all() and np.isfinite(sigmas).all() and (sigmas > 0).all()):
        raise InputError("An axis or its standard deviation is not a finite number above zero.")
    unit = np.exp(1j * np.deg2rad(axes))
    origin = axes[int(np.abs(np.angle(unit[:, None] / unit[None])).sum(1).argmin())]
    apart = (axes - origin + 180.0) % 360.0 - 180.0
    fits = [_centre(apart, sigmas, spread) for spread in _SPREADS]
    best = int(np.argmax([fit[2] for fit in fits]))
    middle, sigma, _ = fits[best]
    spread = float(_SPREADS[best])
    own, common = 1.0 / sigmas**2, 1.0 / spread**2
    shared = (own * apart + common * middle) / (own + common)
    return SharedAxis(axis_deg=origin + middle, sigma_deg=sigma, spread_deg=spread, axes_deg=origin + shared)


def _centre(values: FloatArray, sigmas: FloatArray, spread: float) -> tuple[float, float, float]:
    """Location of greatest likelihood, its standard deviation, and the log-likelihood."""
    variance = sigmas**2 + spread**2
    middle = float(np.median(values))
    weights = 1.0 / variance
    for _ in range(_ROUNDS):
        weights = (_FREEDOM + 1.0) / (_FREEDOM + (values - middle) ** 2 / variance) / variance
        middle = float((weights * values).sum() / weights.sum())
    deviation = (values - middle) ** 2 / variance
    likelihood = -0.5 * (_FREEDOM + 1.0) * np.log1p(deviation / _FREEDOM) - 0.5 * np.log(variance)
    return middle, float(1.0 / np.sqrt(weights.sum())), float(likelihood.sum())
