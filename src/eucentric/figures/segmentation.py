"""Labels over slices of a tomogram, and seen from outside."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from eucentric.errors import ShapeError
from eucentric.figures.canvas import scale_bar
from eucentric.figures.shaded_surface import shaded_surface
from eucentric.figures.volume import contrast
from eucentric.typing import ImageArray

_WIDEST = 7.6  # inches
_OPAQUE = 0.55
_RENDERED = 360  # voxels along the longest side of what is drawn in space
_SMOOTH = 0.8  # voxels


def label_colors(labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """(*labels, 3) red, green, blue: twenty colours in turn."""
    table = np.asarray(colormaps["tab20"].colors, dtype=np.float32)  # type: ignore[attr-defined]
    # dark and light of a hue stand side by side in the table
    turned = np.concatenate([table[0::2], table[1::2]])
    return turned[(np.asarray(labels, dtype=np.int64) - 1) % len(turned)]


def labels_over_slices(
    volume: ImageArray,
    labels: NDArray[np.integer[Any]],
    voxel_size_angstrom: float,
    *,
    percentile: float = 0.5,
) -> Figure:
    """The slices with most labels across z and y, without and with the labels: x-y above, x-z below.

    Parameters
    ----------
    volume, labels : (z, y, x) of one shape; 0 is nothing
    percentile : this many percent of the pixels are darker than black, and as many brighter than white

    Raises
    ------
    ShapeError : volumes of other shapes
    """
    if volume.shape != labels.shape or labels.ndim != 3:
        raise ShapeError(
            f"A volume of {volume.shape} and labels of {labels.shape} were given; expected one shape (z, y, x)."
        )
    depth, height, width = labels.shape
    below = max(depth, 0.15 * height)
    inches = _WIDEST / 2
    figure = Figure(figsize=(_WIDEST, inches * (height + below) / width + 0.4), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=[height, below], squeeze=False)
    for row, axis in enumerate((0, 1)):
        others = tuple(n for n in range(3) if n != axis)
        at = int((labels > 0).sum(others).argmax()) if labels.any() else labels.shape[axis] // 2
        # three slices together show membranes that one drowns in noise
        near = slice(max(0, at - 1), at + 2)
        image = volume[near].mean(0) if axis == 0 else volume[:, near].mean(1)
        marked = np.asarray(labels.take(at, axis))
        for column in range(2):
            axes = grid[row, column]
            _grey(axes, np.asarray(image, dtype=np.float32), percentile)
            if column:
                over = np.zeros((*marked.shape, 4), dtype=np.float32)
                over[..., :3] = label_colors(marked)
                over[..., 3] = _OPAQUE * (marked > 0)
                axes.imshow(over, origin="lower", interpolation="nearest")
            axes.set(xlabel="x", ylabel=("y", "z")[row] if column == 0 else "")
    grid[0, 0].set_title("tomogram", loc="left", fontsize=9)
    grid[0, 1].set_title("with labels", loc="left", fontsize=9)
    scale_bar(grid[0, 0], (-0.5, width - 0.5), (-0.5, height - 0.5), voxel_size_angstrom)
    return figure


def label_views(labels: NDArray[np.integer[Any]], voxel_size_angstrom: float) -> Figure:
    """Labels in space, shaded, seen from +z (y up) and from -y (z up), in the colours of `labels_over_slices`.

    Parameters
    ----------
    labels : (z, y, x), 0 is nothing

    Raises
    ------
    ShapeError : not (z, y, x)
    """
    if labels.ndim != 3:
        raise ShapeError(f"Labels of shape {labels.shape} were given; expected (z, y, x).")
    step = max(1, round(max(labels.shape) / _RENDERED))
    coarse = labels[::step, ::step, ::step]
    body = gaussian_filter(np.pad(coarse > 0, 1).astype(np.float32), _SMOOTH)
    padded = np.pad(coarse, 1)
    depth, height, width = body.shape
    figure = Figure(
        figsize=(_WIDEST, 0.5 * _WIDEST * max(height, depth) / width + 0.4), layout="constrained", facecolor="white"
    )
    for number, (name, flip, order) in enumerate((("+z", 1, (0, 1, 2)), ("-y", -1, (1, 0, 2)))):
        turned, own = body[:, ::flip].transpose(order), padded[:, ::flip].transpose(order)
        shade, places = shaded_surface(np.asarray(turned, dtype=np.float64), 0.4)
        hit = np.isfinite(shade)
        at = np.rint(places[0]).astype(np.int64).clip(0, own.shape[0] - 1)
        rows, columns = np.indices(hit.shape)
        # the surface of the smoothed labels lies up to a voxel outside of them
        seen = np.zeros(hit.shape, dtype=np.int64)
        for deeper in (0, 1, -1, 2):
            there = own[(at - deeper).clip(0, own.shape[0] - 1), rows, columns]
            seen = np.where(seen == 0, there, seen)
        picture = np.full((*hit.shape, 3), 0.07, dtype=np.float32)
        colors = np.where((seen > 0)[..., None], label_colors(seen), 0.6)
        picture[hit] = (shade[..., None] * colors)[hit]
        axes = figure.add_subplot(1, 2, number + 1)
        axes.imshow(picture.clip(0.0, 1.0), origin="lower", interpolation="antialiased")
        axes.set(xticks=[], yticks=[], xlabel="x", ylabel=("y", "z")[number])
        axes.set_title(f"from {name}", loc="left", fontsize=9)
        if not number:
            scale_bar(axes, (-0.5, width - 0.5), (-0.5, height - 0.5), voxel_size_angstrom * step)
    return figure


def _grey(axes: Axes, image: NDArray[np.float32], percentile: float) -> None:
    axes.imshow(image, cmap="gray", origin="lower", norm=contrast(image, percentile), interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
