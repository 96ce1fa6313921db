"""Contrast transfer."""

from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, SECOND, decorate, draw_over_tilts, new_figure
from eucentric.typing import FloatArray

_UM = 1e4


def defocus_against_tilt(
    tilts_deg: FloatArray, defocus_u_angstrom: FloatArray, defocus_v_angstrom: FloatArray, sigma_angstrom: FloatArray
) -> Figure:
    """Defocus along both axes of the astigmatism (shown in micrometres) with one standard deviation; all (tilt,)."""
    figure, axes = new_figure()
    defocus = {"U": defocus_u_angstrom / _UM, "V": defocus_v_angstrom / _UM}
    draw_over_tilts(axes, tilts_deg, "underfocus (µm)", defocus, sigma_angstrom / _UM)
    return figure


def spectra_with_models(
    tilts_deg: FloatArray, frequency: FloatArray, spectrum: FloatArray, model: FloatArray, quality: FloatArray | None
) -> Figure:
    """One-dimensional spectra with the fitted model below each other.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    frequency : (shell,), 1/A
    spectrum, model : (tilt, shell)
    quality : (tilt, shell), local agreement of the two
    """
    count = len(tilts_deg)
    figure = Figure(figsize=(7.0, 0.6 + 1.7 * count), layout="constrained")
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    for row in range(count):
        axes = decorate(grid[row, 0])
        axes.plot(frequency, spectrum[row], color=FIRST, linewidth=0.9, label="spectrum")
        axes.plot(frequency, model[row], color=SECOND, linewidth=0.9, label="model")
        if quality is not None:
            axes.plot(frequency, quality[row], color="#009e73", linewidth=0.8, linestyle="--", label="quality")
        axes.set_title(f"{tilts_deg[row]:.1f}°", loc="left", fontsize=9)
    grid[0, 0].legend(frameon=False, ncols=3, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
    grid[-1, 0].set_xlabel(FREQUENCY_LABEL)
    return figure
