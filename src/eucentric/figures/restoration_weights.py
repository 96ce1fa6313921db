"""How much of a restored tomogram is the network's and how much is raw, shell by shell."""

from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, new_figure
from eucentric.typing import FloatArray


def shell_weights(frequency: FloatArray, network: FloatArray, raw: FloatArray) -> Figure:
    """Weights of the network's output and of the raw tomogram over frequency (1/A), all (shell,)."""
    figure, axes = new_figure(7.0, 2.9)
    axes.plot(frequency, network, color=FIRST, linewidth=1.3, label="network")
    axes.plot(frequency, raw, color=GREY, linewidth=1.3, label="raw tomogram")
    axes.axhline(1.0, color=GREY, linewidth=0.7, linestyle=":")
    highest = max(1.0, float(network.max(initial=0.0)), float(raw.max(initial=0.0)))
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="weight", ylim=(0.0, 1.08 * highest), xlim=(0.0, None))
    axes.legend(frameon=False, fontsize=8)
    return figure
