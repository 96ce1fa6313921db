"""Alignment of a tilt series."""

from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, GREY, SECOND, TILT_AXIS_LABEL, new_figure
from eucentric.typing import FloatArray


def shifts_against_tilt(
    tilts_deg: FloatArray, shifts_angstrom: FloatArray, sigma_angstrom: FloatArray | None = None
) -> Figure:
    """Shifts of the images with one standard deviation.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    shifts_angstrom : (tilt, 2), x and y, A
    sigma_angstrom : (tilt,), A, of each component
    """
    figure, axes = new_figure()
    for column, (name, color) in enumerate((("x", FIRST), ("y", SECOND))):
        axes.errorbar(
            tilts_deg,
            shifts_angstrom[:, column],
            yerr=sigma_angstrom,
            fmt="o-",
            color=color,
            markersize=3.5,
            linewidth=0.8,
            label=name,
        )
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="shift (Å)")
    axes.legend(frameon=False)
    return figure


def scores_against_tilt(tilts_deg: FloatArray, scores: FloatArray) -> Figure:
    """Agreement of each image with the others; both (tilt,)."""
    figure, axes = new_figure()
    axes.plot(tilts_deg, scores, "o-", color=FIRST, markersize=3.5, linewidth=0.8)
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="score")
    return figure


def axis_search(axis_deg: FloatArray, score: FloatArray, found_deg: float | None = None) -> Figure:
    """Score of the tilt axes that were tried; both (axis,), and the axis that was found, degrees."""
    figure, axes = new_figure()
    axes.plot(axis_deg, score, ".-", color=FIRST, linewidth=0.8)
    if found_deg is not None:
        axes.axvline(found_deg, color=SECOND, linewidth=1.0, label=f"found: {found_deg:.2f}°")
        axes.legend(frameon=False)
    axes.set(xlabel="tilt axis (°)", ylabel="score")
    return figure


def intensities(tilts_deg: FloatArray, mean_intensity: FloatArray, excluded_deg: FloatArray) -> Figure:
    """Mean of each image as recorded, (tilt,); the angles of excluded tilts are marked."""
    figure, axes = new_figure()
    for angle in excluded_deg:
        axes.axvline(angle, color=GREY, linewidth=0.8, linestyle=":")
    axes.plot(tilts_deg, mean_intensity, "o-", color=FIRST, markersize=3.5, linewidth=0.8)
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="mean intensity")
    return figure
