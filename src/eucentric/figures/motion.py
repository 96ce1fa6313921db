"""Motion of frames."""

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from eucentric.figures.canvas import FREQUENCY_LABEL, GREY, TILT_AXIS_LABEL, draw_over_tilts, new_figure, tilt_colors
from eucentric.typing import FloatArray


def frame_trajectories(tilts_deg: FloatArray, shifts_angstrom: Sequence[FloatArray]) -> Figure:
    """The path of the frames of each tilt, starting at the origin.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    shifts_angstrom : of each tilt (frame, 2), x and y, A
    """
    figure, axes = new_figure(5.6, 4.4)
    for shifts, color in zip(shifts_angstrom, tilt_colors(tilts_deg), strict=True):
        path = shifts - shifts[:1]
        axes.plot(path[:, 0], path[:, 1], color=color, linewidth=1.0)
        axes.plot(path[-1:, 0], path[-1:, 1], ".", color=color, markersize=5)
    axes.plot(0, 0, "+", color="black", markersize=9)
    axes.set(xlabel="x from the first frame (Å)", ylabel="y from the first frame (Å)")
    axes.set_aspect("equal", adjustable="datalim")
    lowest, highest = float(np.min(tilts_deg)), float(np.max(tilts_deg))
    if highest > lowest:
        # The colours of `tilt_colors` end at 0.9 of the map, where yellow is still readable on white.
        scale = ScalarMappable(Normalize(lowest, lowest + (highest - lowest) / 0.9), "viridis")
        bar = figure.colorbar(scale, ax=axes, label=TILT_AXIS_LABEL)
        bar.ax.set_ylim(lowest, highest)
    return figure


def total_motion(tilts_deg: FloatArray, totals_angstrom: FloatArray) -> Figure:
    """Length of the path of the frames (A) against tilt angle (degrees); both (tilt,)."""
    figure, axes = new_figure()
    draw_over_tilts(axes, tilts_deg, "total motion (Å)", {"total": totals_angstrom})
    axes.set_ylim(bottom=0)
    return figure


def motion_certainty(
    tilts_deg: FloatArray, sigma_angstrom: FloatArray, residual_angstrom: FloatArray, blur_angstrom: FloatArray
) -> Figure:
    """How well positions of frames are known, how far they are from their best, and how frames are smeared (A); all (tilt,)."""
    figure, axes = new_figure()
    draw_over_tilts(axes, tilts_deg, "Å", {"one standard deviation": sigma_angstrom, "residual": residual_angstrom})
    axes.plot(tilts_deg, blur_angstrom, color=GREY, linewidth=1.0, label="blur within a frame")
    axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    return figure


def power_gained(tilts_deg: FloatArray, frequency: FloatArray, aligned: FloatArray, unaligned: FloatArray) -> Figure:
    """Power of the sum of aligned frames over that of the frames as recorded.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    frequency : (shell,), 1/A
    aligned, unaligned : (tilt, shell), power
    """
    figure, axes = new_figure()
    ratio = aligned / np.maximum(unaligned, 1e-30)
    for row, color in zip(ratio, tilt_colors(tilts_deg), strict=True):
        axes.plot(frequency, row, color=color, linewidth=0.5, alpha=0.6)
    axes.plot(frequency, np.median(ratio, axis=0), color="black", linewidth=1.4, label="median")
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="power, aligned over not")
    axes.legend(frameon=False)
    return figure


def counts_over_tilts(tilts_deg: FloatArray, mean_counts: FloatArray) -> Figure:
    """Mean counts of a pixel against tilt angle, with the fall that an even film would show; both (tilt,).

    A film of thickness t transmits ``exp(-t / (L cos(tilt)))``; the line has t / L fitted, robustly.
    """
    figure, axes = new_figure()
    draw_over_tilts(axes, tilts_deg, "mean counts per pixel", {"recorded": mean_counts})
    path = 1.0 / np.maximum(np.cos(np.deg2rad(tilts_deg)), 0.1)
    good = mean_counts > 0
    if np.count_nonzero(good) > 2 and float(np.ptp(path[good])) > 0:
        logarithm, places = np.log(mean_counts[good]), path[good]
        slopes = (logarithm[:, None] - logarithm) / np.where(
            places[:, None] == places, np.nan, places[:, None] - places
        )
        slope = float(np.nanmedian(slopes))
        level = float(np.median(logarithm - slope * places))
        axes.plot(tilts_deg, np.exp(level + slope * path), color=GREY, linewidth=1.0, label="an even film")
        axes.legend(frameon=False)
    axes.set_ylim(bottom=0)
    return figure


def local_motion(
    places_angstrom: FloatArray,
    displacement_angstrom: FloatArray,
    extent_angstrom: tuple[float, float],
    tilt_deg: float,
) -> Figure:
    """What places of an image moved beyond the whole, from the first frame to the last, as arrows.

    Parameters
    ----------
    places_angstrom, displacement_angstrom : (place, 2), x and y in A; places from the image centre
    extent_angstrom : width and height of the image
    tilt_deg : of the image
    """
    figure, axes = new_figure(4.6, 4.4)
    longest = float(np.linalg.norm(displacement_angstrom, axis=1).max())
    enlarged = 0.12 * max(extent_angstrom) / max(longest, 1e-6)
    axes.quiver(
        places_angstrom[:, 0], places_angstrom[:, 1], displacement_angstrom[:, 0], displacement_angstrom[:, 1],
        angles="xy", scale_units="xy", scale=1.0 / enlarged, width=0.004,
    )  # fmt: skip
    half = np.asarray(extent_angstrom) / 2.0
    axes.set(xlim=(-half[0], half[0]), ylim=(-half[1], half[1]), xlabel="x (Å)", ylabel="y (Å)")
    axes.set_title(f"{tilt_deg:.1f}°; the longest arrow is {longest:.1f} Å", fontsize=9)
    axes.set_aspect("equal")
    return figure


def frame_correlations(tilts_deg: FloatArray, frequency: FloatArray, correlation: FloatArray) -> Figure:
    """Correlation between the frames of each tilt.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    frequency : (shell,), 1/A
    correlation : (tilt, shell)
    """
    figure, axes = new_figure()
    for row, color in zip(correlation, tilt_colors(tilts_deg), strict=True):
        axes.plot(frequency, row, color=color, linewidth=0.7)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="correlation of frames")
    return figure
