"""How the spectra of recorded images compare with simulated ones."""

import numpy as np
from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, SECOND, new_figure
from eucentric.typing import FloatArray


def spectra_figure(frequency: FloatArray, measured: FloatArray, fitted: FloatArray, floor: FloatArray) -> Figure:
    """Power per area of the contrast, mean over images, against frequency.

    Parameters
    ----------
    frequency : (shell,), 1/A
    measured, fitted : (image, shell), A^2
    floor : (image,), A^2 of the counting noise
    """
    figure, axes = new_figure()
    axes.semilogy(frequency, measured.mean(axis=0), color=FIRST, linewidth=1.2, label="images")
    axes.semilogy(frequency, fitted.mean(axis=0), color=SECOND, linewidth=1.2, label="twin, as fitted")
    axes.axhline(float(floor.mean()), color=GREY, linewidth=0.8, linestyle=":", label="counting noise")
    shown = np.concatenate([measured.mean(axis=0)[2:], [float(floor.mean())]])
    axes.set(
        xlabel=FREQUENCY_LABEL,
        ylabel="power of the contrast (Å²)",
        xlim=(0.0, float(frequency[-1])),
        ylim=(0.9 * float(shown.min()), 1.3 * float(shown.max())),
    )
    axes.legend(frameon=False)
    return figure
