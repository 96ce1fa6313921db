"""Slices of tomograms and maps: with picks, in galleries, coloured by resolution; and tilt images side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from eucentric.errors import ShapeError
from eucentric.figures.canvas import FIRST, decorate, scale_bar
from eucentric.figures.volume import contrast
from eucentric.typing import FloatArray

ON_GREY = ("#ffe04d", "#7fd4ff", "#8affc1", "#ffb3e0", "#ffb46b", "#d0d0ff")
"""Seen on any grey, on screens and in print."""
_ACROSS = 6.9  # inches of a row of pictures
_BINS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Circles:
    """Particles that a slice cuts."""

    centres_angstrom: FloatArray
    """(particle, 2) across and up, from the specimen centre."""
    diameters_angstrom: FloatArray
    """(particle,) of the circle that the slice cuts out of each."""
    kinds: NDArray[np.str_]


def slice_picture(
    image: FloatArray,
    voxel_size_angstrom: float,
    names: tuple[str, str],
    *,
    percentile: float = 0.5,
    circles: Circles | None = None,
    title: str = "",
) -> Figure:
    """One slice of a tomogram with a scale bar, and circles where it cuts particles.

    Parameters
    ----------
    image : (up, across), pixel n // 2 at the specimen centre
    names : of the axes across and up
    percentile : this many percent of the pixels are darker than black, and as many brighter than white
    """
    rows, columns = image.shape
    across, up = (_ends(n, voxel_size_angstrom) for n in (columns, rows))
    many = circles is not None and len(set(circles.kinds.tolist()) - {""}) > 0
    high = _ACROSS * rows / columns + 0.25 * bool(title) + 0.3 * many
    figure = Figure(figsize=(_ACROSS, min(max(high, 1.2), 9.0)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(
        image,
        cmap="gray",
        origin="lower",
        extent=(*across, *up),
        norm=contrast(image, percentile),
        interpolation="antialiased",
    )
    axes.set(xticks=[], yticks=[], xlabel=names[0], ylabel=names[1])
    if title:
        axes.set_title(title, loc="left", fontsize=8)
    if circles is not None:
        _draw_circles(figure, axes, circles, many)
    axes.set(xlim=across, ylim=up)
    scale_bar(axes, across, up)
    return figure


def gallery(
    images: Sequence[FloatArray],
    titles: Sequence[str],
    voxel_size_angstrom: float,
    *,
    columns: int,
    shared: bool = False,
) -> Figure:
    """Square pictures in rows, all to one scale, with one scale bar.

    Parameters
    ----------
    images : (up, across) each; NaN is drawn grey
    columns : pictures in a row
    shared : grey values mean the same in all

    Raises
    ------
    ShapeError : no images, or not as many titles
    """
    if not len(images) or len(images) != len(titles):
        raise ShapeError(
            f"{len(images)} images and {len(titles)} titles were given; expected as many, and one at least."
        )
    across = min(columns, len(images))
    down = -(-len(images) // across)
    size = _ACROSS / columns
    titled = any(titles)
    tight = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(size * across, (size + 0.16 * titled) * down), layout=tight)
    grid = figure.subplots(down, across, squeeze=False)
    common = contrast(np.concatenate([np.ravel(image) for image in images]), 0.5) if shared else None
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        norm = common or contrast(image, 0.5)
        axes.imshow(image, cmap=colormaps["gray"].with_extremes(bad="#808080"), origin="lower", norm=norm)
        if title:
            axes.set_title(title, fontsize=7, pad=2)
    rows, wide = images[0].shape
    scale_bar(grid[0, 0], (-0.5, wide - 0.5), (-0.5, rows - 0.5), voxel_size_angstrom)
    return figure


def tilt_images(
    images: Sequence[FloatArray], tilts_deg: FloatArray, pixel_size_angstrom: float, *, columns: int
) -> Figure:
    """Images of a tilt series side by side, each with its angle."""
    return gallery(images, [f"{angle:+.1f}°" for angle in tilts_deg], pixel_size_angstrom, columns=columns)


def resolution_slices(
    volume: FloatArray, resolution_angstrom: FloatArray, inside: NDArray[np.bool_], voxel_size_angstrom: float
) -> Figure:
    """Central slices of a map, coloured by local resolution inside of the mask, and how the resolution is spread there.

    Parameters
    ----------
    volume, resolution_angstrom, inside : (z, y, x)
    """
    known = inside & np.isfinite(resolution_angstrom)
    values = resolution_angstrom[known]
    low, high = (float(v) for v in np.percentile(values, [2.0, 98.0])) if values.size else (0.0, 1.0)
    ends = Normalize(low, max(high, low + 1e-6))
    figure = Figure(figsize=(7.0, 2.0), layout="constrained")
    grid = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.1))
    limits = contrast(volume, 0.2)
    around = _around(inside)
    for axis, (axes, (across, up)) in enumerate(zip(grid[:3], (("x", "y"), ("x", "z"), ("y", "z")), strict=True)):
        middle = int(around[axis].stop - around[axis].start) // 2
        plane: list[NDArray[Any]] = [
            np.moveaxis(v[around], axis, 0)[middle] for v in (volume, known, resolution_angstrom)
        ]
        grey, where, fine = plane
        shade = np.interp(grey, (limits.vmin or 0.0, limits.vmax or 1.0), (0.0, 1.0))[..., None]
        colored = colormaps["viridis_r"](ends(np.where(where, fine, low)))[..., :3]
        # density is brightness, resolution is colour
        picture = np.where(where[..., None], colored * (0.25 + 0.75 * shade), 0.9 * shade)
        axes.imshow(picture, origin="lower", interpolation="antialiased")
        axes.set(xticks=[], yticks=[], xlabel=across, ylabel=up)
    rows, columns = (around[i].stop - around[i].start for i in (1, 2))
    scale_bar(grid[0], (-0.5, columns - 0.5), (-0.5, rows - 0.5), voxel_size_angstrom)
    axes = decorate(grid[3])
    if values.size:
        axes.hist(values, bins=_BINS, color=FIRST)
        median = float(np.median(values))
        axes.axvline(median, color="black", linewidth=0.9, label=f"median {median:.1f} Å")
        axes.set_ylim(0.0, 1.25 * axes.get_ylim()[1])
        axes.legend(frameon=False, fontsize=7)
    axes.set(xlabel="local resolution (Å)", ylabel="voxels")
    figure.colorbar(ScalarMappable(ends, "viridis_r"), ax=list(grid[:3]), label="local resolution (Å)", shrink=0.9)
    return figure


def _draw_circles(figure: Figure, axes: Axes, circles: Circles, many: bool) -> None:
    names = sorted(set(circles.kinds.tolist()))
    for number, name in enumerate(names):
        mine = circles.kinds == name
        sizes = circles.diameters_angstrom[mine]
        axes.add_collection(
            EllipseCollection(
                sizes, sizes, np.zeros(len(sizes)), units="xy", offsets=circles.centres_angstrom[mine],
                offset_transform=axes.transData, facecolors="none", edgecolors=ON_GREY[number % len(ON_GREY)], linewidths=0.9,
            )
        )  # fmt: skip
    if many:
        marks = [
            Line2D([], [], marker="o", linestyle="none", markerfacecolor="none", markeredgecolor=ON_GREY[i % len(ON_GREY)], label=name)
            for i, name in enumerate(names)
        ]  # fmt: skip
        figure.legend(
            handles=marks, loc="outside lower center", ncols=4, facecolor="#444444", labelcolor="white", fontsize=8
        )


def _ends(count: int, voxel: float) -> tuple[float, float]:
    """Outer edges of pixels whose number n // 2 is centred at 0."""
    low = (-(count // 2) - 0.5) * voxel
    return low, low + count * voxel


def _around(inside: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The cube about the middle that holds all that is inside, and a little more."""
    n = inside.shape[0]
    places = np.argwhere(inside)
    reach = min(int(np.abs(places - n // 2).max()) + 3, n // 2) if len(places) else n // 2
    return (slice(n // 2 - reach, min(n // 2 + reach + 1, n)),) * 3
