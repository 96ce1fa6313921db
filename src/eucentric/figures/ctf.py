"""Contrast transfer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from eucentric.figures.canvas import (
    FIRST,
    FREQUENCY_LABEL,
    GREY,
    SECOND,
    TILT_AXIS_LABEL,
    decorate,
    draw_over_tilts,
    new_figure,
)
from eucentric.typing import FloatArray, ImageArray

_UM = 1e4
_THIRD = "#009e73"
_CONTRAST = 2.5  # robust standard deviations of a measured spectrum from grey to white


def defocus_against_tilt(
    tilts_deg: FloatArray, defocus_u_angstrom: FloatArray, defocus_v_angstrom: FloatArray, sigma_angstrom: FloatArray
) -> Figure:
    """Defocus along both axes of the astigmatism (shown in micrometres) with one standard deviation; all (tilt,)."""
    figure, axes = new_figure()
    defocus = {"U": defocus_u_angstrom / _UM, "V": defocus_v_angstrom / _UM}
    draw_over_tilts(axes, tilts_deg, "underfocus (µm)", defocus, sigma_angstrom / _UM)
    return figure


def spectra_with_models(
    tilts_deg: FloatArray, frequency: FloatArray, spectrum: FloatArray, model: FloatArray, quality: FloatArray | None
) -> Figure:
    """One-dimensional spectra with the fitted model below each other.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    frequency : (shell,), 1/A
    spectrum, model : (tilt, shell)
    quality : (tilt, shell), local agreement of the two
    """
    count = len(tilts_deg)
    figure = Figure(figsize=(7.0, 0.6 + 1.7 * count), layout="constrained")
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    for row in range(count):
        axes = decorate(grid[row, 0])
        axes.plot(frequency, spectrum[row], color=FIRST, linewidth=0.9, label="spectrum")
        axes.plot(frequency, model[row], color=SECOND, linewidth=0.9, label="model")
        if quality is not None:
            axes.plot(frequency, quality[row], color=_THIRD, linewidth=0.8, linestyle="--", label="quality")
        axes.set_title(f"{tilts_deg[row]:.1f}°", loc="left", fontsize=9)
    grid[0, 0].legend(frameon=False, ncols=3, fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
    grid[-1, 0].set_xlabel(FREQUENCY_LABEL)
    return figure


def equiphase_average(
    frequency: FloatArray,
    spectrum: FloatArray,
    model: FloatArray,
    quality: FloatArray,
    max_resolution_angstrom: float = float("nan"),
) -> Figure:
    """Average over points of equal phase with the fitted model, and below how well they agree.

    Parameters
    ----------
    frequency : (shell,), 1/A
    spectrum, model, quality : (shell,)
    max_resolution_angstrom : end of the agreement, marked by a line; NaN where unknown
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1.0))
    for axes in (above, below):
        decorate(axes)
        if np.isfinite(max_resolution_angstrom):
            axes.axvline(1.0 / max_resolution_angstrom, color=GREY, linewidth=0.9)
    above.plot(frequency, spectrum, color=FIRST, linewidth=1.0, label="spectrum")
    above.plot(frequency, model, color=SECOND, linewidth=1.0, label="model")
    above.set_ylabel("power over background")
    above.legend(frameon=False, ncols=2, fontsize=8)
    below.plot(frequency, quality, color=_THIRD, linewidth=1.0)
    below.axhline(0.5, color=GREY, linewidth=0.7, linestyle=":")
    below.set(xlabel=FREQUENCY_LABEL, ylabel="agreement", ylim=(-0.55, 1.05))
    if np.isfinite(max_resolution_angstrom):
        words = f" {max_resolution_angstrom:.1f} Å"
        below.annotate(words, (1.0 / max_resolution_angstrom, -0.5), color=GREY, fontsize=8, va="bottom")
    return figure


def defocus_and_astigmatism(
    tilts_deg: FloatArray,
    acquisitions: FloatArray,
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
    flagged : tilts without rings, drawn hollow
    """
    figure = Figure(figsize=(9.0, 6.6), layout="constrained")
    grid = figure.subplots(3, 2, sharex="col", sharey="row")
    hollow = np.zeros(len(tilts_deg), dtype=np.bool_)
    hollow[list(flagged)] = True
    rows = (
        ("underfocus (µm)", 0.5 * (defocus_u_angstrom + defocus_v_angstrom) / _UM, sigma_angstrom / _UM, FIRST),
        ("astigmatism (Å)", defocus_u_angstrom - defocus_v_angstrom, None, SECOND),
        ("its angle (°)", astigmatism_angle_deg, None, _THIRD),
    )
    for axes_row, (quantity, values, sigma, color) in zip(grid, rows, strict=True):
        for axes, places in zip(axes_row, (tilts_deg, acquisitions + 1), strict=True):
            _points(decorate(axes), places, values, sigma, color, hollow)
        axes_row[0].set_ylabel(quantity)
    for axes in grid[2]:
        axes.set(ylim=(-95.0, 95.0), yticks=(-90, -45, 0, 45, 90))
    grid[2, 0].set_xlabel(TILT_AXIS_LABEL)
    grid[2, 1].set_xlabel("acquisition")
    grid[2, 1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


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
    axes.plot(places[hollow], values[hollow], "o", markerfacecolor="white", markeredgecolor=color, markersize=4.5)


def joined_halves(measured: ImageArray, fitted: ImageArray) -> ImageArray:
    """A whole plane with a measured spectrum on the left and a fitted one on the right.

    Parameters
    ----------
    measured, fitted : (y, half_x), rows from the most negative y frequency upwards, columns from x frequency zero

    Returns
    -------
    (y, 2 half_x - 1), x frequency zero in the middle. Spectra are alike at opposite points, so the left is the measured half turned
    by half a circle; of an even number of rows the first, which has no opposite, is left out.
    """
    skip = 1 - measured.shape[0] % 2
    left = measured[skip:][::-1, :0:-1]
    return np.asarray(np.concatenate([left, fitted[skip:]], axis=1), dtype=np.float32)


def half_spectra(
    titles: Sequence[str], measured: ImageArray, fitted: ImageArray, edge_frequency: float, *, width: float = 1.9
) -> Figure:
    """Measured (left half) against fitted spectra (right half), one beside the other: a strip to be scrolled.

    Parameters
    ----------
    titles : one for each spectrum, such as the tilt angle
    measured : (tilt, y, half_x), in robust standard deviations; rows from the most negative frequency upwards
    fitted : (tilt, y, half_x), -1 to 1
    edge_frequency : 1/A at the right edge
    width : of one spectrum, inches
    """
    count = len(titles)
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(width * max(1, count), width + 0.3), layout=tight)
    grid = figure.subplots(1, max(1, count), squeeze=False)
    for axes, title, real, model in zip(grid[0], titles, measured, fitted, strict=True):
        plane = joined_halves(np.clip(real / _CONTRAST, -1.0, 1.0), model)
        axes.imshow(plane, cmap="gray", vmin=-1.0, vmax=1.0, origin="lower", interpolation="none")
        axes.set_title(title, fontsize=8, pad=2)
        axes.set_axis_off()
    if count:
        words = f"edge {1.0 / edge_frequency:.1f} Å"
        box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.5, "pad": 1.0}
        grid[0, 0].text(0.02, 0.02, words, transform=grid[0, 0].transAxes, color="white", fontsize=6, bbox=box)
    return figure


def local_defocus_map(x_angstrom: FloatArray, y_angstrom: FloatArray, defocus_angstrom: FloatArray) -> Figure:
    """Defocus over the field of one image, from the image's centre, y up.

    Parameters
    ----------
    x_angstrom, y_angstrom : (x,) and (y,), middles of the tiles, evenly spaced, ascending
    defocus_angstrom : (y, x); NaN, left blank, where unknown
    """
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    field = axes.pcolormesh(
        x_angstrom / 10.0, y_angstrom / 10.0, defocus_angstrom / _UM, cmap="viridis", shading="nearest"
    )
    axes.set(xlabel="x (nm)", ylabel="y (nm)", aspect="equal")
    figure.colorbar(field, ax=axes, label="underfocus (µm)")
    return figure
