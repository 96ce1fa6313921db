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
