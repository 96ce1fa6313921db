"""Robust losses for the length of two-dimensional residuals, and their scale."""

from dataclasses import dataclass

import numpy as np

from eucentric.typing import FloatArray

RAYLEIGH_MEDIAN = float(np.sqrt(2.0 * np.log(2.0)))
"""Median length of a two-dimensional Gaussian of one standard deviation along each axis."""
_RAYLEIGH_MADN = 0.66488
"""1.4826 times the median deviation of such lengths from their median."""
_BIWEIGHT = 4.685
_BIWEIGHT_VARIANCE = 0.88197
"""Mean of w r^2 over mean of 2 w for the biweight below and Gaussian residuals of unit variance."""


@dataclass(frozen=True, slots=True)
class Huber:
    """Squares up to `threshold` standard deviations, a straight line beyond; a small threshold is least distances."""

    threshold: float = 1.345

    def weights(self, length: FloatArray) -> FloatArray:
        """Weight of each residual from its length in standard deviations."""
        return np.asarray(np.minimum(1.0, self.threshold / np.maximum(length, 1e-300)))

    def cost(self, length: FloatArray) -> float:
        """Sum of the losses; half of the square where residuals are small."""
        k = self.threshold
        return float(np.where(length <= k, 0.5 * length**2, k * (length - 0.5 * k)).sum())


@dataclass(frozen=True, slots=True)
class Biweight:
    """Tukey's biweight with the constants of IMOD's tiltalign, for residual lengths [1]_.

    w = (1 - x^2)^2 with x = (r - median) / (4.685 MADN), 1 below the median and 0 from x = 1 on. Median and MADN
    (normalised median absolute deviation) are those of Gaussian residuals: full weight up to 1.18 standard deviations,
    none beyond 4.3.

    References
    ----------
    .. [1] IMOD manual page of tiltalign, "robust fitting"; Mastronarde & Held, J. Struct. Biol. 197:102 (2017),
       doi:10.1016/j.jsb.2016.07.011
    """

    @property
    def reach(self) -> float:
        """Length in standard deviations from which a residual has no weight."""
        return RAYLEIGH_MEDIAN + _BIWEIGHT * _RAYLEIGH_MADN

    def weights(self, length: FloatArray) -> FloatArray:
        """Weight of each residual from its length in standard deviations."""
        x = np.clip((length - RAYLEIGH_MEDIAN) / (_BIWEIGHT * _RAYLEIGH_MADN), 0.0, 1.0)
        return np.asarray((1.0 - x**2) ** 2)

    def cost(self, length: FloatArray) -> float:
        """Sum of the losses; half of the square where residuals are small, constant where they have no weight."""
        c = _BIWEIGHT * _RAYLEIGH_MADN
        x = np.clip((length - RAYLEIGH_MEDIAN) / c, 0.0, 1.0)
        beyond = c * RAYLEIGH_MEDIAN * (x - 2.0 * x**3 / 3.0 + x**5 / 5.0) + c**2 * (1.0 - (1.0 - x**2) ** 3) / 6.0
        return float((0.5 * np.minimum(length, RAYLEIGH_MEDIAN) ** 2 + beyond).sum())


Loss = Huber | Biweight


def length_scale(length: FloatArray) -> float:
    """Standard deviation along one axis of two-dimensional Gaussian residuals of these lengths, from their median."""
    return float(np.median(length)) / RAYLEIGH_MEDIAN if len(length) else 0.0


def variance_factor(length: FloatArray, weights: FloatArray, unknowns: float) -> float:
    """By how much residuals vary more than their covariances say, biweight weights accounted for.

    Parameters
    ----------
    length : (observation,), whitened residuals of two components each
    weights : (observation,), biweight weights
    unknowns : how many the fit has spent on these residuals
    """
    free = 2.0 * float(weights.sum()) - unknowns
    return float((weights * length**2).sum()) / _BIWEIGHT_VARIANCE / max(free, 1.0)
