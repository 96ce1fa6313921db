"""Tilt series that differ from the others of their project."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

LEAST_SERIES = 5
"""With fewer, a median and a spread tell nothing."""
LARGE_Z = 3.5
"""Of the modified z-score, as Iglewicz and Hoaglin recommend."""

_TO_SD = 0.6745  # median absolute deviation of a normal distribution of standard deviation 1
_MEAN_TO_SD = 0.7979  # its mean absolute deviation
_SAME = 1e-6  # differences by less, as a part of the median, are rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A figure of a tilt series far from the median of all."""

    metric: str
    value: float
    median: float
    z: float
    """Distance from the median in robust standard deviations; positive above it."""


def find_outliers(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, tuple[Outlier, ...]]:
    """Outliers of each series, the farthest first; series without are absent.

    The modified z-score of each figure: its distance from the median over 1.4826 times the median absolute deviation [1]_.
    Where more than half of the series share one value that deviation is 0, and the mean absolute deviation stands for it.

    Parameters
    ----------
    figures : by series and name; None or NaN where not known. Figures of fewer than five series are not judged.

    References
    ----------
    .. [1] Iglewicz & Hoaglin, How to Detect and Handle Outliers, ASQC (1993)
    """
    names = dict.fromkeys(name for one in figures.values() for name in one)
    found: dict[str, list[Outlier]] = {}
    for name in names:
        known = {s: float(v) for s, one in figures.items() if (v := one.get(name)) is not None and np.isfinite(v)}
        if len(known) < LEAST_SERIES:
            continue
        values = np.array(list(known.values()))
        median = float(np.median(values))
        away = values - median
        away[np.abs(away) <= _SAME * abs(median)] = 0.0
        spread = float(np.median(np.abs(away))) / _TO_SD or float(np.mean(np.abs(away))) / _MEAN_TO_SD
        if spread == 0.0:
            continue
        for series, value, z in zip(known, values, away / spread, strict=True):
            if abs(z) > LARGE_Z:
                outlier = Outlier(metric=name, value=float(value), median=median, z=float(z))
                found.setdefault(series, []).append(outlier)
    return {series: tuple(sorted(some, key=lambda o: -abs(o.z))) for series, some in found.items()}
