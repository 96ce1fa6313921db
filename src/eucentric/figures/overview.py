"""Several results in one figure: correlations of several averages, and an alignment at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from eucentric.errors import ShapeError
from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, SECOND, TILT_AXIS_LABEL, decorate, new_figure
from eucentric.typing import FloatArray

_COLORS = (FIRST, SECOND, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_STYLES = ("-", "--", ":", "-.")
_THRESHOLDS = (0.143, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correlation:
    """Fourier shell correlation of one average."""

    name: str
    frequency: FloatArray
    """(shell,) 1/A."""
    curve: FloatArray
    resolution_angstrom: float = float("nan")


def compared_correlations(correlations: Sequence[Correlation]) -> Figure:
    """Curves of several averages with their resolutions; 0.143 and 0.5 are marked.

    Raises
    ------
    ShapeError : none was given
    """
    if not correlations:
        raise ShapeError("No correlation was given to be drawn.")
    figure, axes = new_figure(7.0, 3.8)
    for number, one in enumerate(correlations):
        reach = one.resolution_angstrom
        known = np.isfinite(reach)
        color, style = _COLORS[number % len(_COLORS)], _STYLES[number // len(_COLORS) % len(_STYLES)]
        label = f"{one.name}: {reach:.1f} Å" if known else one.name
        axes.plot(one.frequency, one.curve, color=color, linestyle=style, linewidth=1.4, label=label)
        if known:
            axes.plot([1.0 / reach] * 2, [-0.15, 0.143], color=color, linestyle=style, linewidth=0.8)
    last = max(float(one.frequency[-1]) for one in correlations)
    axes.axhline(0.0, color=GREY, linewidth=0.7)
    for level in _THRESHOLDS:
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle=":")
        axes.annotate(f"{level:g}", (last, level), color=GREY, fontsize=7, ha="right", va="bottom")
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="Fourier shell correlation", ylim=(-0.15, 1.05), xlim=(0.0, last))
    axes.legend(frameon=False, fontsize=8)
    return figure


def alignment_overview(
    tilts_deg: FloatArray,
    shifts_angstrom: FloatArray,
    sigma_angstrom: FloatArray,
    tilt_and_axis_deg: FloatArray,
    nominal_deg: FloatArray,
    residual_angstrom: FloatArray | None,
) -> Figure:
    """Shifts, angles and residuals of the images of one series.

    Parameters
    ----------
    tilts_deg : (tilt,)
    shifts_angstrom, sigma_angstrom : (tilt, 2) x and y, and (tilt,) one standard deviation of each, NaN where not known
    tilt_and_axis_deg : (tilt, 2) refined tilt angle, and direction of the tilt axis
    nominal_deg : (tilt,) tilt angles as the microscope wrote them
    residual_angstrom : (tilt,) root mean squares of the points followed; none drawn where None
    """
    count = 3 if residual_angstrom is None else 4
    figure = Figure(figsize=(7.0, 1.55 * count + 0.3), layout="constrained")
    grid = figure.subplots(count, 1, sharex=True)
    shown = np.where(np.isfinite(sigma_angstrom), sigma_angstrom, 0.0)
    for axis, (name, color) in enumerate((("x", FIRST), ("y", SECOND))):
        grid[0].errorbar(
            tilts_deg, shifts_angstrom[:, axis], yerr=shown, fmt="o-", color=color, ms=3, linewidth=0.8, label=name
        )
    grid[0].set_ylabel("shift (Å)")
    grid[0].legend(frameon=False, ncols=2)
    grid[1].plot(tilts_deg, tilt_and_axis_deg[:, 0] - nominal_deg, "o-", color=FIRST, ms=3, linewidth=0.8)
    grid[1].set_ylabel("tilt − nominal (°)")
    grid[2].plot(tilts_deg, tilt_and_axis_deg[:, 1], "o-", color=FIRST, ms=3, linewidth=0.8)
    grid[2].set_ylabel("tilt axis (°)")
    if residual_angstrom is not None:
        step = float(np.median(np.diff(np.sort(tilts_deg)))) if len(tilts_deg) > 1 else 1.0
        grid[3].bar(tilts_deg, np.nan_to_num(residual_angstrom), width=0.7 * max(step, 1e-3), color=FIRST)
        grid[3].set_ylabel("residual (Å)")
    for axes in grid:
        decorate(axes)
        axes.ticklabel_format(axis="y", useOffset=False)
    # equal values keep a scale on which they look equal
    for axes, values in ((grid[1], tilt_and_axis_deg[:, 0] - nominal_deg), (grid[2], tilt_and_axis_deg[:, 1])):
        middle, reach = float(np.median(values)), max(float(np.ptp(values)), 0.1)
        axes.set_ylim(middle - reach, middle + reach)
    grid[-1].set_xlabel(TILT_AXIS_LABEL)
    return figure
