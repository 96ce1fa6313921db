"""Curves over spatial frequency."""

from matplotlib.figure import Figure

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
