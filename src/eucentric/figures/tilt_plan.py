"""A planned tilt series: its order, its directions, and what it will show."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Wedge

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, TILT_AXIS_LABEL, decorate
from eucentric.typing import FloatArray

_DOSE_LABEL = "dose before the image (e/Å²)"
_SHADES = colormaps["viridis_r"]
_STYLES = ("-", "--", ":", "-.")
_RESOLUTIONS = (30.0, 15.0, 10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0)


def planned_scheme(
    angles_deg: FloatArray,
    pre_exposures: FloatArray,
    doses: FloatArray,
    *,
    pretilt_deg: float,
    frequency: FloatArray,
    effective_doses: Mapping[str, FloatArray],
    fsc: Mapping[str, FloatArray],
) -> Figure:
    """Four plots: order of the angles, directions seen from the specimen, effective dose and correlation by frequency.

    Parameters
    ----------
    angles_deg, pre_exposures, doses : (tilt,), in order of acquisition
    pretilt_deg : of the specimen
    frequency : (frequency,), 1/A
    effective_doses, fsc : curves (frequency,) by name; the chosen scheme first
    """
    figure = Figure(figsize=(10.5, 7.0), layout="constrained")
    norm = Normalize(0.0, max(float(pre_exposures.max()), 1.0))
    colors = _SHADES(norm(pre_exposures))
    order = decorate(figure.add_subplot(2, 2, 1))
    order.plot(np.arange(1, len(angles_deg) + 1), angles_deg, color=GREY, linewidth=0.7, zorder=1)
    order.scatter(np.arange(1, len(angles_deg) + 1), angles_deg, c=colors, s=12 + 4 * doses, zorder=2)
    order.set(xlabel="image", ylabel=TILT_AXIS_LABEL, title="order of acquisition")
    _directions(figure.add_subplot(2, 2, 2), angles_deg + pretilt_deg, colors)
    figure.colorbar(ScalarMappable(norm, _SHADES), ax=figure.axes, location="right", shrink=0.6, label=_DOSE_LABEL)
    dose = decorate(figure.add_subplot(2, 2, 3))
    for (name, values), style in zip(effective_doses.items(), _STYLES, strict=False):
        dose.semilogy(frequency, values, style, color=FIRST if style == "-" else GREY, linewidth=1.2, label=name)
    dose.set(xlabel=FREQUENCY_LABEL, ylabel="effective dose (e/Å²)", title="undamaged electrons that show as much")
    dose.legend(frameon=False, fontsize=8)
    _in_angstrom(dose, frequency)
    curve = decorate(figure.add_subplot(2, 2, 4))
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, max(len(fsc), 1)))
    for (name, values), color in zip(fsc.items(), shades, strict=False):
        curve.plot(frequency, values, color=color, linewidth=1.2, label=name)
    curve.axhline(0.143, color=GREY, linewidth=0.7, linestyle=":")
    curve.set(xlabel=FREQUENCY_LABEL, ylabel="correlation of half maps", ylim=(0.0, 1.02), title="expected averages")
    curve.legend(frameon=False, fontsize=8)
    _in_angstrom(curve, frequency)
    return figure


def _directions(axes: Axes, inclinations_deg: FloatArray, colors: FloatArray) -> None:
    """The beam as the specimen sees it, image by image: the specimen lies level, nothing is seen from the grey wedges."""
    low, high = float(inclinations_deg.min()), float(inclinations_deg.max())
    for turn in (0.0, 180.0):
        # where a stage tilted by a sees the specimen from: 90 + a degrees from its plane
        axes.add_patch(Wedge((0, 0), 1.0, turn + 90.0 + high, turn + 270.0 + low, color="0.9", zorder=0))
    for angle, color in zip(inclinations_deg, colors, strict=True):
        x, z = -np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        axes.plot([-x, x], [-z, z], color=color, linewidth=1.0)
    axes.plot([-0.75, 0.75], [0.0, 0.0], color="black", linewidth=5.0, solid_capstyle="butt", alpha=0.6)
    axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), title="beam as the specimen sees it")
    axes.set_axis_off()
    axes.text(0.8, -0.05, "specimen", fontsize=8, va="top", ha="center")
    axes.text(-0.98, 0.1, "missing", fontsize=8, color="0.4", ha="left")


def _in_angstrom(axes: Axes, frequency: FloatArray) -> None:
    """Frequencies also as A, along the top."""
    shown = [r for r in _RESOLUTIONS if frequency[0] <= 1.0 / r <= frequency[-1]]
    top = axes.secondary_xaxis("top")
    top.set_xticks([1.0 / r for r in shown], [f"{r:g} Å" for r in shown], fontsize=7)
