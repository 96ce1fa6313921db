"""Alignment of a tilt series."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.figures.canvas import (
    FIRST,
    GREY,
    SECOND,
    TILT_AXIS_LABEL,
    decorate,
    draw_over_tilts,
    new_figure,
    tilt_colors,
)
from eucentric.typing import FloatArray

_LONGEST = 0.08  # of the field: length of the arrow that 95% of all are shorter than
_ARROWS_A_SIDE = 7  # of a deformation field; finer grids are shown thinned out
_FIELDS_SHOWN = 4
_PICTURES_A_ROW = 5


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


def tracks_over_image(
    points: NDArray[np.int64],
    tilts_deg: FloatArray,
    positions_angstrom: FloatArray,
    extent_angstrom: tuple[float, float],
    *,
    outliers: NDArray[np.bool_] | None = None,
    image: NDArray[Any] | None = None,
) -> Figure:
    """Where each point is seen over the tilts: a line a point, a dot an image in the colour of its tilt.

    Parameters
    ----------
    points : (observation,), names of the points
    tilts_deg : (observation,), degrees, of the images
    positions_angstrom : (observation, 2), x and y from the image centre
    extent_angstrom : width and height of the images
    outliers : (observation,), marked by crosses
    image : (y, x), shown beneath; the one near zero tilt is meant
    """
    figure, axes = new_figure(5.8, 4.8)
    half = np.asarray(extent_angstrom) / 2.0
    if image is not None:
        low, high = np.percentile(image, (1.0, 99.0))
        box = (-half[0], half[0], -half[1], half[1])
        axes.imshow(
            image, cmap="gray", origin="lower", extent=box, vmin=low, vmax=high, alpha=0.6, interpolation="antialiased"
        )
        axes.grid(visible=False)
    for name in np.unique(points):
        rows = np.flatnonzero(points == name)
        path = positions_angstrom[rows[np.argsort(tilts_deg[rows], kind="stable")]]
        axes.plot(path[:, 0], path[:, 1], color=GREY if image is None else "white", linewidth=0.6, zorder=2)
    if len(points):
        axes.scatter(positions_angstrom[:, 0], positions_angstrom[:, 1], s=5, color=tilt_colors(tilts_deg), zorder=3)
        _tilt_bar(figure, axes, tilts_deg)
    if outliers is not None and outliers.any():
        axes.plot(*positions_angstrom[outliers].T, "x", color=SECOND, markersize=6, zorder=4, label="outlier")
        axes.legend(frameon=image is not None, loc="upper right")
    _field(axes, extent_angstrom)
    return figure


def _tilt_bar(figure: Figure, axes: Axes, tilts_deg: FloatArray) -> None:
    """The scale of the colours of `tilt_colors`, which end at 0.9 of the map."""
    lowest, highest = float(np.min(tilts_deg)), float(np.max(tilts_deg))
    if highest > lowest:
        scale = ScalarMappable(Normalize(lowest, lowest + (highest - lowest) / 0.9), "viridis")
        bar = figure.colorbar(scale, ax=axes, label=TILT_AXIS_LABEL, shrink=0.8)
        bar.ax.set_ylim(lowest, highest)


def _field(axes: Axes, extent_angstrom: tuple[float, float]) -> None:
    half = np.asarray(extent_angstrom) / 2.0
    axes.set(xlim=(-half[0], half[0]), ylim=(-half[1], half[1]), xlabel="x (Å)", ylabel="y (Å)")
    axes.set_aspect("equal")


def _enlargement(vectors: FloatArray, wanted_angstrom: float, percentile: float = 95.0) -> float:
    """By how much arrows are drawn longer: one, two or five times a power of ten, as a reader can divide by.

    Parameters
    ----------
    vectors : (..., 2), A
    wanted_angstrom : no arrow is drawn longer than this, but for those beyond the percentile
    """
    lengths = np.linalg.norm(vectors.reshape(-1, 2), axis=1)
    lengths = lengths[np.isfinite(lengths)]
    usual = float(np.percentile(lengths, percentile)) if lengths.size else 0.0
    if not usual > 0:
        return 1.0
    wanted = wanted_angstrom / usual
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(power * max(step for step in (1.0, 2.0, 5.0) if step * power <= wanted))


def _arrows(axes: Axes, places: FloatArray, vectors: FloatArray, enlarged: float, color: Any) -> None:
    axes.quiver(
        places[:, 0], places[:, 1], vectors[:, 0], vectors[:, 1], color=color, angles="xy", scale_units="xy",
        scale=1.0 / enlarged, width=0.0025, headwidth=3.5, zorder=3,
    )  # fmt: skip


def residual_vectors(
    tilts_deg: FloatArray,
    positions_angstrom: FloatArray,
    residuals_angstrom: FloatArray,
    extent_angstrom: tuple[float, float],
    *,
    outliers: NDArray[np.bool_] | None = None,
) -> Figure:
    """What is left at each observation, seen less expected, as arrows drawn longer than they are.

    Parameters
    ----------
    tilts_deg : (observation,), degrees, of the images
    positions_angstrom, residuals_angstrom : (observation, 2), x and y
    extent_angstrom : width and height of the images
    outliers : (observation,), drawn in the second colour and not counted for the scale
    """
    figure, axes = new_figure(5.8, 4.8)
    bad = np.zeros(len(tilts_deg), dtype=np.bool_) if outliers is None else outliers
    enlarged = _enlargement(residuals_angstrom[~bad], _LONGEST * max(extent_angstrom))
    if (~bad).any():
        colours = np.array(tilt_colors(tilts_deg))[~bad]
        _arrows(axes, positions_angstrom[~bad], residuals_angstrom[~bad], enlarged, colours)
        _tilt_bar(figure, axes, tilts_deg)
    if bad.any():
        _arrows(axes, positions_angstrom[bad], residuals_angstrom[bad], enlarged, SECOND)
    good = np.linalg.norm(residuals_angstrom[~bad], axis=1)
    usual = f"root mean square {np.sqrt(np.mean(good**2)):.2f} Å" if good.size else "no observation"
    left_out = f"; {int(bad.sum())} outliers in orange" if bad.any() else ""
    axes.set_title(f"{enlarged:g} times longer than they are; {usual}{left_out}", fontsize=9)
    _field(axes, extent_angstrom)
    return figure


def residuals_against_tilt(
    tilts_deg: FloatArray, rms_angstrom: FloatArray, held_out_angstrom: FloatArray | None = None
) -> Figure:
    """Root mean square residual of each tilt as bars; that of points the fit did not see as a line. All (tilt,), NaN where none."""
    figure, axes = new_figure()
    known = np.isfinite(rms_angstrom)
    step = float(np.median(np.diff(np.sort(tilts_deg)))) if len(tilts_deg) > 1 else 1.0
    axes.bar(tilts_deg[known], rms_angstrom[known], width=0.8 * max(step, 0.1), color=FIRST, label="fitted", zorder=2)
    if held_out_angstrom is not None and np.isfinite(held_out_angstrom).any():
        axes.plot(
            tilts_deg, held_out_angstrom, "o-", color=SECOND, markersize=3.5, linewidth=0.8, label="left out", zorder=3
        )
        axes.legend(frameon=False)
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel="residual (Å)")
    return figure


def residuals_by_point(
    names: Sequence[str], rms_angstrom: FloatArray, *, moved: NDArray[np.bool_] | None = None, shown: int = 40
) -> Figure:
    """Root mean square residual of each point, worst first.

    Parameters
    ----------
    names, rms_angstrom : (point,)
    moved : (point,), points that moved against the specimen, in the second colour
    shown : no more than this many
    """
    order = np.argsort(-np.nan_to_num(rms_angstrom, nan=-1.0), kind="stable")[:shown]
    figure, axes = new_figure()
    flags = np.zeros(len(rms_angstrom), dtype=np.bool_) if moved is None else moved
    places = np.arange(len(order))
    axes.bar(places, rms_angstrom[order], color=[SECOND if flags[i] else FIRST for i in order], zorder=2)
    axes.set_xticks(places, [names[i] for i in order], rotation=90 if len(order) > 12 else 0, fontsize=7)
    more = f", the worst {len(order)} of {len(rms_angstrom)}" if len(order) < len(rms_angstrom) else ""
    axes.set(xlabel=f"point{more}", ylabel="residual (Å)")
    if flags[order].any():
        axes.set_title("orange: points that moved against the specimen", fontsize=9)
    return figure


def models_tried(names: Sequence[str], held_out_angstrom: FloatArray, chosen: int | None = None) -> Figure:
    """Error of each model at points that it was not fitted to; the chosen one in the second colour. Both (model,)."""
    figure, axes = new_figure(7.0, 0.8 + 0.3 * len(names))
    places = np.arange(len(names))
    colours = [SECOND if i == chosen else FIRST for i in places]
    axes.barh(places, held_out_angstrom, color=colours, zorder=2)
    for place, value in zip(places, held_out_angstrom, strict=True):
        if np.isfinite(value):
            axes.text(float(value), float(place), f" {value:.2f}", va="center", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="error at points left out (Å)")
    return figure


def deformation_fields(
    displacement_angstrom: FloatArray,
    tilts_deg: FloatArray,
    exposures: FloatArray,
    extent_angstrom: tuple[float, float],
) -> Figure:
    """Local deformation of images from the first to the last dose, as arrows drawn longer than they are.

    Parameters
    ----------
    displacement_angstrom : (tilt, gy, gx, 2), x and y on a grid from edge to edge of the image
    tilts_deg, exposures : (tilt,), degrees and e/A^2 that the specimen had received
    extent_angstrom : width and height of the images
    """
    order = np.argsort(exposures, kind="stable")
    picks = order[np.unique(np.linspace(0, len(order) - 1, min(_FIELDS_SHOWN, len(order))).round().astype(int))]
    rows, columns = (
        np.unique(np.linspace(0, n - 1, min(n, _ARROWS_A_SIDE)).round().astype(int))
        for n in displacement_angstrom.shape[1:3]
    )
    shown = displacement_angstrom[:, rows][:, :, columns]
    (width, height), count = extent_angstrom, len(picks)
    figure = Figure(figsize=(2.3 * max(count, 2) + 0.6, 2.2 * height / width + 1.0), layout="constrained")
    x, y = (
        (np.linspace(-0.5, 0.5, n)[which] if n > 1 else np.zeros(1)) * size
        for n, which, size in zip(displacement_angstrom.shape[2:0:-1], (columns, rows), extent_angstrom, strict=True)
    )
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    spacing = min(width / max(1, len(columns) - 1), height / max(1, len(rows) - 1))
    enlarged = _enlargement(shown[picks], 0.8 * spacing, 100.0)
    for number, tilt in enumerate(picks, 1):
        axes = decorate(figure.add_subplot(1, count, number))
        field = shown[tilt].reshape(-1, 2)
        axes.quiver(
            places[:, 0], places[:, 1], field[:, 0], field[:, 1], color=FIRST, angles="xy", scale_units="xy",
            scale=1.0 / enlarged, width=0.009, zorder=3, clip_on=False,
        )  # fmt: skip
        _field(axes, extent_angstrom)
        axes.set_title(f"{exposures[tilt]:.0f} e/Å², {tilts_deg[tilt]:.0f}°", fontsize=9)
        axes.tick_params(labelsize=7)
        if number > 1:
            axes.set(ylabel="", yticklabels=[])
    largest = float(np.linalg.norm(displacement_angstrom, axis=-1).max())
    figure.suptitle(
        f"arrows {enlarged:g} times longer than they are; the largest of all tilts is {largest:.1f} Å", fontsize=9
    )
    return figure


def excluded_views(images: Sequence[NDArray[Any]], tilts_deg: Sequence[float], reasons: Sequence[str]) -> Figure:
    """Small pictures of the views that were left out, each with its angle and the reason.

    Parameters
    ----------
    images : (y, x) each, y up
    tilts_deg, reasons : one for each image
    """
    columns = min(_PICTURES_A_ROW, max(len(images), 1))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.75 * columns + 0.2, 2.55 * max(rows, 1)), layout="constrained")
    for number, (image, angle, reason) in enumerate(zip(images, tilts_deg, reasons, strict=True), 1):
        axes = figure.add_subplot(rows, columns, number)
        finite = np.where(np.isfinite(image), image, 0.0)
        low, high = np.percentile(finite, (1.0, 99.0))
        axes.imshow(finite, cmap="gray", origin="lower", vmin=low, vmax=high if high > low else low + 1.0)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{angle:.1f}°", fontsize=8)
        axes.set_xlabel("\n".join(textwrap.wrap(reason, 26, max_lines=4, placeholder=" ...")), fontsize=6.5)
    return figure
