"""What all figures share: sizes, colours, axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.typing import FloatArray

FIRST, SECOND, GREY = "#0072b2", "#d55e00", "#7f7f7f"
"""Two colours that people of any colour vision tell apart, and one for what is only there for reference."""
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
