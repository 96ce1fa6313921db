"""How a figure is spread over tilt series."""

import numpy as np
from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, SECOND, new_figure
from eucentric.typing import FloatArray

_EQUAL = 1e-6  # spread as a part of the median that is rounding


def distribution(values: FloatArray, quantity: str) -> Figure:
    """A histogram with a point for each series below it, and the median as a line.

    Parameters
    ----------
    values : (series,), finite, at least one
    quantity : with its unit, for the axis
    """
    figure, axes = new_figure(7.0, 2.8)
    spread = float(np.ptp(values))
    middle = float(np.median(values))
    # the Freedman-Diaconis rule makes thousands of bins of a lone far value; the square root does not
    bins = min(40, max(1, round(float(np.sqrt(len(values))))))
    around = max(abs(middle), 1.0) * 0.05
    equal = spread <= _EQUAL * abs(middle)
    limits = (float(values.min()), float(values.max())) if not equal else (middle - around, middle + around)
    bins = 1 if equal else bins
    counts, _, _ = axes.hist(values, bins=bins, range=limits, color=FIRST, alpha=0.55)
    most = float(np.max(counts))
    axes.scatter(
        values, np.full(len(values), -0.08 * most), s=18, color=FIRST, linewidths=0, label="each series", zorder=3
    )
    axes.axvline(middle, color=SECOND, linewidth=1.2, label="median")
    axes.set(xlabel=quantity, ylabel="number of series", ylim=(-0.16 * most, 1.1 * most))
    axes.set_yticks(np.unique(np.linspace(0, most, min(int(most), 5) + 1).round().astype(int)))
    axes.legend(frameon=False, fontsize=8)
    return figure
