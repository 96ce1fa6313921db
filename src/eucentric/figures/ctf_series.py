"""Contrast transfer over a whole tilt series: spectra, fit resolution, thickness, and checks of the geometry."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from eucentric.figures.canvas import (
    FIRST,
    FREQUENCY_LABEL,
    GREY,
    SECOND,
    TILT_AXIS_LABEL,
    decorate,
    new_figure,
)
from eucentric.typing import FloatArray

_UM = 1e4
_NM = 10.0
_THIRD = "#009e73"
_SHADES = 98.0  # percentile of the depth of the rings that is white
_VAGUE_DEG = 30.0  # of a tilt axis: as good as unknown
_LOWEST = -20.0  # log-likelihood: what is less likely than e^-20 of the best is not told apart


def defocus_and_astigmatism(
    tilts_deg: FloatArray,
    acquisitions: NDArray[Any],
    defocus_u_angstrom: FloatArray,
    defocus_v_angstrom: FloatArray,
    astigmatism_angle_deg: FloatArray,
    sigma_angstrom: FloatArray,
    flagged: Sequence[int] = (),
) -> Figure:
    """Mean defocus, size and angle of the astigmatism against tilt angle (left) and order of acquisition (right).

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    acquisitions : (tilt,), order from 0; shown from 1
    defocus_u_angstrom, defocus_v_angstrom, sigma_angstrom : (tilt,)
    astigmatism_angle_deg : (tilt,), of U, from x towards y
    flagged : tilts drawn hollow
    """
    figure = Figure(figsize=(9.0, 6.6), layout="constrained")
    grid = figure.subplots(3, 2, sharex="col", sharey="row")
    # the axis of the astigmatism is the same half a turn on: shown within 90 degrees of the usual one
    size = defocus_u_angstrom - defocus_v_angstrom
    usual = _usual_axis(size, astigmatism_angle_deg)
    angle = usual + (astigmatism_angle_deg - usual + 90.0) % 180.0 - 90.0
    rows = (
        ("underfocus (µm)", 0.5 * (defocus_u_angstrom + defocus_v_angstrom) / _UM, sigma_angstrom / _UM, FIRST),
        ("astigmatism (Å)", size, None, SECOND),
        ("its angle (°)", angle, None, _THIRD),
    )
    for axes_row, (quantity, values, sigma, color) in zip(grid, rows, strict=True):
        for axes, places in zip(axes_row, (tilts_deg, acquisitions + 1), strict=True):
            _points(decorate(axes), places, values, sigma, color, _hollow(flagged, len(tilts_deg)))
        axes_row[0].set_ylabel(quantity)
    grid[1, 0].set_ylim(0.0, 1.15 * max(float(np.nanmax(size)), 1.0))
    spread = max(20.0, 1.2 * float(np.nanmax(np.abs(angle - usual))))
    for axes in grid[2]:
        axes.set_ylim(usual - spread, usual + spread)
    grid[2, 0].set_xlabel(TILT_AXIS_LABEL)
    grid[2, 1].set_xlabel("acquisition")
    grid[2, 1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def equiphase_map(
    tilts_deg: FloatArray,
    frequency: FloatArray,
    spectrum: FloatArray,
    model: FloatArray,
    resolution_angstrom: FloatArray,
) -> Figure:
    """Equiphase averages of all tilts side by side with what the fit makes of them, a row a tilt.

    Parameters
    ----------
    tilts_deg, resolution_angstrom : (tilt,); a dot marks the fit resolution, where it is known
    frequency : (shell,), 1/A, evenly spaced
    spectrum, model : (tilt, shell)
    """
    count = len(tilts_deg)
    figure = Figure(figsize=(9.0, min(2.0 + 0.09 * count, 9.0)), layout="constrained")
    order = np.argsort(tilts_deg)
    edges = frequency[0] - 0.5 * (frequency[1] - frequency[0]), frequency[-1] + 0.5 * (frequency[1] - frequency[0])
    ticks = np.unique(np.linspace(0, count - 1, min(count, 7)).round().astype(int))
    grid = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, values, title in zip(grid, (spectrum, model), ("measured", "fitted"), strict=True):
        # rings fade with frequency: each shell is drawn over the depth of the rings about it
        depth = np.percentile(np.abs(model), _SHADES, axis=0)
        shown = values[order] / np.maximum(depth, 0.05 * max(float(depth.max()), 1e-12))
        axes.imshow(
            shown,
            cmap="gray",
            vmin=-1.0,
            vmax=1.0,
            aspect="auto",
            origin="lower",
            extent=(edges[0], edges[1], -0.5, count - 0.5),
            interpolation="none",
        )
        axes.plot(1.0 / resolution_angstrom[order], np.arange(count), "o", color=SECOND, markersize=2.5)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(FREQUENCY_LABEL)
        axes.set_xlim(*edges)
    grid[0].set_yticks(ticks, [f"{tilts_deg[order][t]:.0f}" for t in ticks])
    grid[0].set_ylabel(TILT_AXIS_LABEL)
    return figure


def resolution_against_tilt(
    tilts_deg: FloatArray, resolution_angstrom: FloatArray, band_end_angstrom: float, flagged: Sequence[int] = ()
) -> Figure:
    """Finest detail to which the fit follows the spectrum, finer upwards; both (tilt,).

    Parameters
    ----------
    band_end_angstrom : end of the fitted band, a dotted line
    flagged : tilts drawn hollow
    """
    figure, axes = new_figure(height=2.6)
    _points(axes, tilts_deg, resolution_angstrom, None, FIRST, _hollow(flagged, len(tilts_deg)))
    axes.axhline(band_end_angstrom, color=GREY, linewidth=0.9, linestyle=":")
    worst = float(np.nanmax(np.append(resolution_angstrom, 2.0 * band_end_angstrom)))
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="fit resolution (Å)", ylim=(1.05 * worst, band_end_angstrom - 0.05 * worst))
    return figure


def phase_shift_over_time(acquisitions: NDArray[Any], phase_shift_deg: FloatArray, sigma_deg: FloatArray) -> Figure:
    """Phase shift of a phase plate with one standard deviation, degrees, by the order of acquisition; all (tilt,)."""
    figure, axes = new_figure(height=2.6)
    _points(axes, acquisitions + 1, phase_shift_deg, sigma_deg, FIRST, _hollow((), len(acquisitions)))
    axes.set(xlabel="acquisition", ylabel="phase shift (°)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def thickness_profile(
    trials_angstrom: FloatArray,
    log_likelihood: FloatArray,
    thickness_angstrom: float,
    sigma_angstrom: float,
    smallest_visible_angstrom: float,
) -> Figure:
    """How likely each thickness is by the nodes of the rings, and what was concluded.

    Parameters
    ----------
    trials_angstrom, log_likelihood : (trial,); the latter less its maximum
    thickness_angstrom, sigma_angstrom : NaN where not determined
    smallest_visible_angstrom : thinner specimens have no node in the band: shaded
    """
    figure, axes = new_figure(height=2.8)
    axes.plot(trials_angstrom / _NM, np.maximum(log_likelihood, _LOWEST), color=FIRST, linewidth=1.2)
    axes.axvspan(0.0, smallest_visible_angstrom / _NM, color=GREY, alpha=0.2, linewidth=0)
    high = max(float(trials_angstrom.max()), smallest_visible_angstrom) / _NM
    axes.set(xlabel="thickness (nm)", ylabel="log-likelihood", xlim=(0.0, high), ylim=(_LOWEST, 2.0))
    words = f"not determined: below {smallest_visible_angstrom / _NM:.0f} nm no node lies in the band"
    if np.isfinite(thickness_angstrom):
        words = f"{thickness_angstrom / _NM:.0f} ± {sigma_angstrom / _NM:.0f} nm"
        ends = (thickness_angstrom - sigma_angstrom) / _NM, (thickness_angstrom + sigma_angstrom) / _NM
        axes.axvspan(*ends, color=SECOND, alpha=0.3, linewidth=0)
    axes.set_title(words, loc="left", fontsize=10)
    return figure


def specimen_bend(places_angstrom: FloatArray, bend_angstrom: FloatArray, sigma_angstrom: FloatArray) -> Figure:
    """Height of the specimen over its plane by the local defocus, from the image's centre, y up.

    Parameters
    ----------
    places_angstrom : (cell, 2), x and y
    bend_angstrom, sigma_angstrom : (cell,); NaN where unknown
    """
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    known = np.isfinite(bend_angstrom)
    # grey below what two standard deviations of the worst cell could be
    reach = float(np.max(np.abs(bend_angstrom[known]) + 2.0 * sigma_angstrom[known], initial=1.0))
    columns, rows = (_levels(places_angstrom[:, axis]) for axis in (0, 1))
    field = np.full((len(rows), len(columns)), np.nan)
    for (x, y), value in zip(places_angstrom, bend_angstrom, strict=True):
        field[np.argmin(np.abs(rows - y)), np.argmin(np.abs(columns - x))] = value
    shown = axes.pcolormesh(
        columns / _NM, rows / _NM, field / _NM, cmap="PuOr", vmin=-reach / _NM, vmax=reach / _NM, shading="nearest"
    )
    for (x, y), value, sigma in zip(places_angstrom, bend_angstrom, sigma_angstrom, strict=True):
        if np.isfinite(value):
            text = f"{round(value / _NM):+d}\n±{sigma / _NM:.0f}"
            color = "white" if abs(value) > 0.6 * reach else "black"
            axes.text(x / _NM, y / _NM, text, ha="center", va="center", fontsize=7, color=color)
    axes.set(xlabel="x (nm)", ylabel="y (nm)", aspect="equal")
    figure.colorbar(shown, ax=axes, label="height over the plane (nm)")
    return figure


def free_geometry(
    tilts_deg: FloatArray,
    free_tilt_deg: FloatArray,
    free_tilt_sigma_deg: FloatArray,
    free_axis_deg: FloatArray,
    free_axis_sigma_deg: FloatArray,
    expected_tilt_deg: FloatArray,
    expected_axis_deg: FloatArray,
) -> Figure:
    """Tilt angle and axis that the rings of each image alone speak for, against the geometry's (lines); all (tilt,).

    Axes less certain than 30 degrees are not drawn: near zero tilt there is none.
    """
    figure = Figure(figsize=(9.0, 3.2), layout="constrained")
    left, right = (decorate(axes) for axes in figure.subplots(1, 2))
    order = np.argsort(tilts_deg)
    left.errorbar(
        tilts_deg,
        free_tilt_deg,
        yerr=free_tilt_sigma_deg,
        fmt="o",
        color=FIRST,
        markersize=3.5,
        elinewidth=0.8,
        label="by the rings alone",
    )
    left.plot(tilts_deg[order], expected_tilt_deg[order], color=SECOND, linewidth=1.0, label="geometry")
    left.set(xlabel=TILT_AXIS_LABEL, ylabel="inclination to the beam (°)")
    left.legend(frameon=False, fontsize=8)
    sure = np.isfinite(free_axis_deg) & np.isfinite(expected_axis_deg) & (free_axis_sigma_deg < _VAGUE_DEG)
    right.errorbar(
        tilts_deg[sure],
        free_axis_deg[sure],
        yerr=free_axis_sigma_deg[sure],
        fmt="o",
        color=FIRST,
        markersize=3.5,
        elinewidth=0.8,
    )
    told = order[np.isfinite(expected_axis_deg[order])]
    right.plot(tilts_deg[told], expected_axis_deg[told], color=SECOND, linewidth=1.0)
    right.set(xlabel=TILT_AXIS_LABEL, ylabel="tilt axis (°)", xlim=left.get_xlim())
    return figure


def _levels(values: FloatArray) -> FloatArray:
    """Distinct places of cells along one axis, ascending."""
    return np.unique(values.round(3))


def _usual_axis(size: FloatArray, angle_deg: FloatArray) -> float:
    """Direction of the mean astigmatism, degrees."""
    known = np.isfinite(size) & np.isfinite(angle_deg)
    total = np.sum(size[known] * np.exp(2j * np.radians(angle_deg[known])))
    return float(np.degrees(0.5 * np.angle(total)))


def _hollow(flagged: Sequence[int], count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    hollow = np.zeros(count, dtype=np.bool_)
    hollow[list(flagged)] = True
    return hollow


def _points(
    axes: Axes,
    places: FloatArray,
    values: FloatArray,
    sigma: FloatArray | None,
    color: str,
    hollow: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> None:
    order = np.argsort(places)
    axes.plot(places[order], values[order], color=color, linewidth=0.6, alpha=0.6)
    if sigma is not None:
        axes.errorbar(places, values, yerr=sigma, fmt="none", ecolor=color, elinewidth=0.8)
    axes.plot(places[~hollow], values[~hollow], "o", color=color, markersize=3.5)
    axes.plot(places[hollow], values[hollow], "o", markerfacecolor="white", markeredgecolor=color, markersize=5.5)
