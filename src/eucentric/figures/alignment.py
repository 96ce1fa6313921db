"""Alignment of a tilt series."""

from matplotlib.figure import Figure

from eucentric.figures.canvas import FIRST, GREY, SECOND, draw_over_tilts, new_figure
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
    shifts = {"x": shifts_angstrom[:, 0], "y": shifts_angstrom[:, 1]}
    draw_over_tilts(axes, tilts_deg, "shift (Å)", shifts, sigma_angstrom)
    return figure


def scores_against_tilt(tilts_deg: FloatArray, scores: FloatArray) -> Figure:
    """Agreement of each image with the others; both (tilt,)."""
    figure, axes = new_figure()
    draw_over_tilts(axes, tilts_deg, "score", {"score": scores})
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
    draw_over_tilts(axes, tilts_deg, "mean intensity", {"mean": mean_intensity})
    return figure
