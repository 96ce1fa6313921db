"""What all figures share: sizes, colours, axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from eucentric.typing import FloatArray

FIRST, SECOND, GREY = "#0072b2", "#d55e00", "#7f7f7f"
"""Two colours that people of any colour vision tell apart, and one for what is only there for reference."""
_MARGIN = 0.05
TILT_AXIS_LABEL = "tilt angle (°)"
FREQUENCY_LABEL = "spatial frequency (1/Å)"


def new_figure(width: float = 7.0, height: float = 3.2) -> tuple[Figure, Axes]:
    """A figure with one plot; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, decorate(figure.add_subplot())


def decorate(axes: Axes) -> Axes:
    """Light grid, no box."""
    axes.grid(visible=True, linewidth=0.5, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_over_tilts(
    axes: Axes, tilts_deg: FloatArray, quantity: str, curves: Mapping[str, FloatArray], sigma: FloatArray | None = None
) -> None:
    """One curve or two by name over the tilt angle, with one standard deviation where it is known; all (tilt,)."""
    for (name, values), color in zip(curves.items(), (FIRST, SECOND), strict=False):
        axes.errorbar(tilts_deg, values, yerr=sigma, fmt="o-", color=color, markersize=3.5, linewidth=0.8, label=name)
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel=quantity)
    if len(curves) > 1:
        axes.legend(frameon=False)


def tilt_colors(tilts_deg: Sequence[float] | NDArray[Any]) -> list[tuple[float, float, float, float]]:
    """A colour for each tilt angle, the same for the same list of angles."""
    angles = np.asarray(tilts_deg, dtype=np.float64)
    span = float(np.ptp(angles)) if angles.size else 0.0
    fractions = (angles - angles.min()) / span if span > 0 else np.full(angles.shape, 0.5)
    shades = colormaps["viridis"](0.9 * fractions)
    return [(float(r), float(g), float(b), float(a)) for r, g, b, a in shades]


def scale_bar_length(width_angstrom: float) -> float:
    """The largest of 1, 2, 5 times a power of ten (A) that is at most a quarter of the width."""
    most = width_angstrom / 4
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most * (1 + 1e-9))


def scale_bar(axes: Axes, across: tuple[float, float], up: tuple[float, float], unit_angstrom: float = 1.0) -> None:
    """Draw a bar of a round length at the lower left of a picture.

    Parameters
    ----------
    across, up : ends of the picture along x and y
    unit_angstrom : A in one unit of these
    """
    width, height = across[1] - across[0], up[1] - up[0]
    length = scale_bar_length(width * unit_angstrom)
    left, bottom, thick = across[0] + _MARGIN * width, up[0] + _MARGIN * height, 0.018 * max(height, 0.3 * width)
    axes.add_patch(
        Rectangle((left, bottom), length / unit_angstrom, thick, color="white", ec="black", lw=0.5, zorder=6)
    )
    words = f"{length:g} Å" if length < 1000.0 else f"{length / 10.0:g} nm"
    text = axes.text(left, bottom + 2 * thick, words, color="white", fontsize=9, zorder=5)
    text.set_bbox({"facecolor": "black", "alpha": 0.5, "pad": 1.5, "edgecolor": "none"})
