"""How a tilt series was taken: the path of the stage, focus, movement, and the field that was kept."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eucentric.figures.canvas import FIRST, GREY, SECOND, TILT_AXIS_LABEL, decorate, draw_over_tilts, new_figure
from eucentric.typing import FloatArray

_NM, _UM = 10.0, 1e4
_CLIP = 1.6  # of the range of what was measured: predictions before anything was learned go far


def stage_path(
    tilts_deg: FloatArray,
    measured_angstrom: FloatArray,
    sigma_angstrom: FloatArray,
    predicted_angstrom: FloatArray | None = None,
    predicted_sigma_angstrom: FloatArray | None = None,
    geometry_angstrom: FloatArray | None = None,
) -> Figure:
    """Where each image saw the specimen and where it was to be expected: whole by order (left), less the geometry by tilt.

    Parameters
    ----------
    tilts_deg : (n,), in the order of acquisition
    measured_angstrom : (n, 3), x across the tilt axis, y along it, z; NaN where unknown
    sigma_angstrom : (n, 3), one standard deviation
    predicted_angstrom, predicted_sigma_angstrom : (n, 3), from the images before each
    geometry_angstrom : (n, 3), of a point that turns about the axis; NaN where not fitted, then nothing is taken off
    """
    figure = Figure(figsize=(9.0, 6.6), layout="constrained")
    grid = figure.subplots(3, 2, sharex="col")
    number = np.arange(1, len(tilts_deg) + 1, dtype=np.float64)
    upward = np.argsort(tilts_deg, kind="stable")
    geometry = np.full_like(measured_angstrom, np.nan) if geometry_angstrom is None else geometry_angstrom
    for i, name in enumerate(("x, across (nm)", "y, along (nm)", "z, height (nm)")):
        sigma = np.nan_to_num(sigma_angstrom[:, i]) / _NM
        columns = (
            (number, np.arange(len(number)), np.zeros(len(number))),
            (tilts_deg, upward, np.nan_to_num(geometry[:, i])),
        )
        for axes, (places, order, off) in zip(grid[i], columns, strict=True):
            decorate(axes)
            values = (measured_angstrom[:, i] - off) / _NM
            if predicted_angstrom is not None:
                spread = None if predicted_sigma_angstrom is None else predicted_sigma_angstrom[order, i] / _NM
                _predicted(axes, places[order], (predicted_angstrom[:, i] - off)[order] / _NM, spread)
            line = (geometry[:, i] - off)[order] / _NM
            axes.plot(places[order], line, color=GREY, linewidth=0.9, label="geometry")
            axes.errorbar(
                places,
                values,
                yerr=sigma,
                fmt="o",
                color=FIRST,
                markersize=3.5,
                elinewidth=0.8,
                label="measured",
                zorder=4,
            )
            _limit(axes, values)
            if not np.isfinite(values).any():
                axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", color=GREY)
        grid[i, 0].set_ylabel(name)
    grid[0, 0].legend(frameon=False, fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    grid[0, 1].set_title("less the geometry", loc="left", fontsize=9)
    grid[2, 0].set_xlabel("acquisition")
    grid[2, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[2, 1].set_xlabel(TILT_AXIS_LABEL)
    return figure


def _predicted(axes: Axes, places: FloatArray, values: FloatArray, sigma: FloatArray | None) -> None:
    if sigma is not None:
        axes.fill_between(places, values - sigma, values + sigma, color=SECOND, alpha=0.15, linewidth=0)
    axes.plot(
        places, values, "-", color=SECOND, linewidth=0.9, marker="s", markersize=2.5, mfc="none", label="predicted"
    )


def _limit(axes: Axes, values: FloatArray) -> None:
    """The range of what was measured with some room."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return
    middle, half = (known.max() + known.min()) / 2, max((known.max() - known.min()) / 2, 1.0)
    axes.set_ylim(middle - _CLIP * half, middle + _CLIP * half)


def defocus_against_target(
    tilts_deg: FloatArray, defocus_angstrom: FloatArray, sigma_angstrom: FloatArray, target_angstrom: FloatArray
) -> Figure:
    """Fitted defocus with one standard deviation, and what was asked for (a line); all (n,), NaN where unknown."""
    figure, axes = new_figure(height=2.6)
    order = np.argsort(tilts_deg, kind="stable")
    if np.isfinite(target_angstrom).any():
        axes.plot(tilts_deg[order], target_angstrom[order] / _UM, color=GREY, linewidth=1.0, label="asked for")
    axes.errorbar(
        tilts_deg,
        defocus_angstrom / _UM,
        yerr=np.nan_to_num(sigma_angstrom) / _UM,
        fmt="o",
        color=FIRST,
        markersize=3.5,
        elinewidth=0.8,
        label="fitted",
    )
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="underfocus (µm)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def movement_in_movies(
    tilts_deg: FloatArray, early_speeds: FloatArray, late_speeds: FloatArray, harmless_speed: float
) -> Figure:
    """Speeds at the beginnings and ends of exposures, A/s, all (n,); dotted is what blurs no frame."""
    figure, axes = new_figure(height=2.6)
    draw_over_tilts(axes, tilts_deg, "speed (Å/s)", {"first third": early_speeds, "last third": late_speeds})
    axes.axhline(harmless_speed, color=GREY, linewidth=0.9, linestyle=":")
    axes.set_ylim(bottom=0.0)
    return figure


def field_against_tilt(tilts_deg: FloatArray, kept: FloatArray) -> Figure:
    """Part of the untilted field that each image shows; both (n,), ascending."""
    figure, axes = new_figure(height=2.4)
    axes.plot(tilts_deg, 100.0 * kept, "o-", color=FIRST, markersize=3.5, linewidth=0.8)
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="field kept (%)", ylim=(min(100.0 * float(kept.min()), 75.0) - 3.0, 102.0))
    return figure
