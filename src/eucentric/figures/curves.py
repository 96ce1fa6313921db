"""Curves over spatial frequency."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, new_figure
from eucentric.typing import FloatArray


def correlation_curve(frequency: FloatArray, correlation: FloatArray) -> Figure:
    """Fourier shell correlation against frequency (1/A); both (shell,). Lines mark 0.5 and 0.143."""
    figure, axes = new_figure()
    axes.plot(frequency, correlation, color=FIRST, linewidth=1.2)
    for level in (0.0, 0.143, 0.5):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle="-" if level == 0 else ":")
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="Fourier shell correlation")
    return figure


def convergence_curve(residual: FloatArray) -> Figure:
    """Residual over that of nothing, (iteration,), against the iteration from 1."""
    figure, axes = new_figure()
    axes.plot(np.arange(1, len(residual) + 1), residual, "o-", color=FIRST, markersize=3.5, linewidth=1.0)
    axes.set(xlabel="iteration", ylabel="residual", ylim=(0.0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def signal_to_noise_curve(frequency: FloatArray, ratio: FloatArray) -> Figure:
    """Power of the specimen over that of the noise against frequency (1/A); both (band,). A line marks 1."""
    figure, axes = new_figure()
    axes.semilogy(frequency, ratio, color=FIRST, linewidth=1.2)
    axes.axhline(1.0, color=GREY, linewidth=0.7, linestyle=":")
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="signal over noise")
    return figure
