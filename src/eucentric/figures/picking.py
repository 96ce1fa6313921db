"""Picks: where they lie, how they score against decoys, which way they look."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from eucentric.figures.canvas import FIRST, GREY, SECOND, decorate
from eucentric.typing import FloatArray

_COLORS = (FIRST, SECOND, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_ON_GREY = (
    "#ffe04d",
    "#7fd4ff",
    "#8affc1",
    "#ffb3e0",
    "#ffb46b",
    "#d0d0ff",
)  # seen on any grey, on screens and in print
_BINS = 40
_MOST_POINTS = 4000


def picks_over_slabs(
    slabs: NDArray[np.uint8],
    edges_angstrom: FloatArray,
    pixel_angstrom: float,
    positions_angstrom: FloatArray,
    kinds: NDArray[np.int64],
    names: Sequence[str],
    diameters_angstrom: FloatArray,
) -> Figure:
    """Layers of a tomogram with circles of the particles' size about the picks that lie in each.

    Parameters
    ----------
    slabs : (slab, y, x) grey values, pixel n // 2 at the specimen centre
    edges_angstrom : (slab + 1,) heights of their faces; picks beyond them are drawn on the nearest
    positions_angstrom : (pick, 3), x, y, z
    kinds : (pick,), numbers of `names`
    diameters_angstrom : (kind,)
    """
    count, (rows, columns) = len(slabs), slabs.shape[1:]
    across = min(2, count)
    down = -(-count // across)
    width = 4.2
    figure = Figure(
        figsize=(width * across, (width * rows / columns + 0.35) * down + 0.3 * (len(names) > 1)), layout="constrained"
    )
    extent = _extent(columns, pixel_angstrom) + _extent(rows, pixel_angstrom)
    layer = np.clip(np.searchsorted(edges_angstrom, positions_angstrom[:, 2], side="right") - 1, 0, count - 1)
    for number, image in enumerate(slabs):
        axes = figure.add_subplot(down, across, number + 1)
        axes.imshow(image, cmap="gray", origin="lower", extent=extent, vmin=0, vmax=255, interpolation="antialiased")
        for kind, diameter in enumerate(diameters_angstrom):
            mine = (layer == number) & (kinds == kind)
            _circles(axes, positions_angstrom[mine, :2], float(diameter), _ON_GREY[kind % len(_ON_GREY)])
        low, high = edges_angstrom[number : number + 2]
        axes.set_title(f"z {low:.0f} to {high:.0f} Å, {int((layer == number).sum())} picks", fontsize=9)
        _plain(axes)
    if len(names) > 1:
        marks = [_mark(_ON_GREY[k % len(_ON_GREY)], name) for k, name in enumerate(names)]
        figure.legend(
            handles=marks, loc="outside lower center", ncols=4, facecolor="#444444", labelcolor="white", fontsize=8
        )
    return figure


def score_views(
    top: NDArray[np.uint8],
    side: NDArray[np.uint8],
    ends: FloatArray,
    voxel_angstrom: float,
    positions_angstrom: FloatArray,
    diameter_angstrom: float,
) -> Figure:
    """Greatest scores of one template seen from above and from the side, with its picks; black where it was not looked.

    Parameters
    ----------
    top, side : (y, x) and (z, x): 0 not looked, 1 to 255 scores
    ends : (2,) the scores, in standard deviations, that 1 and 255 stand for
    """
    rows, columns = top.shape
    looked = np.flatnonzero(side.any(axis=1))
    first, last = (int(looked[0]), int(looked[-1]) + 1) if len(looked) else (0, len(side))
    width = 5.4
    per_px = width / columns
    figure = Figure(figsize=(width + 1.0, per_px * (rows + last - first) + 0.7), layout="constrained")
    grid = figure.subplots(2, 1, sharex=True, height_ratios=(rows, last - first))
    low, high = float(ends[0]), float(ends[1])
    shown = None
    for axes, view, vertical, label in ((grid[0], top, 1, "y"), (grid[1], side, 2, "z")):
        scores = np.where(view > 0, low + (view.astype(np.float64) - 1.0) / 254.0 * (high - low), np.nan)
        extent = _extent(columns, voxel_angstrom) + _extent(view.shape[0], voxel_angstrom)
        shown = axes.imshow(
            scores, cmap="magma", origin="lower", extent=extent, vmin=low, vmax=high, interpolation="nearest"
        )
        axes.set_facecolor("black")
        _circles(axes, positions_angstrom[:, [0, vertical]], diameter_angstrom, "#7fd4ff")
        _plain(axes)
        axes.set_ylabel(label)
    bottom = _extent(len(side), voxel_angstrom)[0]
    grid[1].set_ylim(bottom + first * voxel_angstrom, bottom + last * voxel_angstrom)
    grid[1].set_xlabel("x")
    if shown is not None:
        figure.colorbar(shown, ax=list(grid), label="greatest score (σ)", shrink=0.6, pad=0.02)
    return figure


def score_histograms(
    names: Sequence[str],
    picks: Sequence[FloatArray],
    rejected: Sequence[FloatArray],
    decoys: Sequence[FloatArray],
    cutoffs: FloatArray,
    lowest_kept: FloatArray,
    quantity: str = "score (σ of the background)",
    *,
    decoy_words: str = "decoys",
    decoy_weight: float = 1.0,
    unit: str = " σ",
) -> Figure:
    """Scores of picks, of candidates that were not kept and of decoys, with what was required; a row a kind.

    Parameters
    ----------
    picks, rejected, decoys : of each kind, (n,) standard deviations
    cutoffs : (kind,) the level that chance passes, or that was set; NaN where there is none
    lowest_kept : (kind,) score of the worst pick, NaN without picks
    quantity : what the scores are
    decoy_words : what stands for chance
    decoy_weight : how many each of these counts
    unit : of the scores
    """
    count, digits = len(names), 1 if unit else 2
    figure = Figure(figsize=(7.0, 0.5 + 2.2 * count), layout="constrained")
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    every = np.concatenate([*picks, *rejected, *decoys, cutoffs, [0.0]])
    every = every[np.isfinite(every)]
    bins = np.linspace(min(float(every.min()), 0.0), float(every.max()) * 1.02 + 1e-6, _BINS + 1)
    for row, name in enumerate(names):
        axes = decorate(grid[row, 0])
        stacked = [np.asarray(picks[row]), np.asarray(rejected[row])]
        axes.hist(
            stacked, bins=list(bins), stacked=True, color=[FIRST, "#c9d6e2"], label=["picks", "candidates not kept"]
        )
        if len(decoys[row]):
            weights = np.full(len(decoys[row]), decoy_weight)
            axes.hist(
                decoys[row],
                bins=list(bins),
                weights=weights,
                label=decoy_words,
                histtype="step",
                color=SECOND,
                linewidth=1.6,
            )
        if np.isfinite(cutoffs[row]):
            axes.axvline(
                cutoffs[row], color=GREY, linestyle=":", linewidth=1.2, label=f"least {cutoffs[row]:.{digits}f}{unit}"
            )
        if np.isfinite(lowest_kept[row]):
            label = f"lowest pick {lowest_kept[row]:.{digits}f}{unit}"
            axes.axvline(lowest_kept[row], color="black", linewidth=1.0, label=label)
        axes.set_ylabel("count")
        axes.set_title(name, loc="left", fontsize=9)
        axes.legend(frameon=False, fontsize=8)
    grid[-1, 0].set_xlabel(quantity)
    return figure


def beam_directions(by_kind: Mapping[str, FloatArray]) -> Figure:
    """From where particles are seen: both halves of the sphere in equal areas, z of the symmetry's axes in the middle.

    Parameters
    ----------
    by_kind : unit vectors (n, 3) in the frame of each template
    """
    count = len(by_kind)
    figure = Figure(figsize=(6.4, 3.2 * count), layout="constrained")
    grid = figure.subplots(count, 2, squeeze=False)
    for row, (name, vectors) in enumerate(by_kind.items()):
        some = vectors[:: max(1, len(vectors) // _MOST_POINTS)]
        for column, sign in enumerate((1.0, -1.0)):
            axes = grid[row, column]
            half = some[some[:, 2] * sign >= 0.0]
            # Lambert's projection: equal parts of the sphere get equal areas of the disc
            scale = np.sqrt(1.0 / (1.0 + np.abs(half[:, 2])))
            shade = float(np.clip(200.0 / max(len(some), 1), 0.2, 0.9))
            axes.scatter(
                sign * half[:, 0] * scale,
                half[:, 1] * scale,
                s=11,
                alpha=shade,
                color=_COLORS[row % len(_COLORS)],
                lw=0,
            )
            turn = np.linspace(0.0, 2.0 * np.pi, 181)
            for lift_deg, style in ((90.0, "-"), (60.0, ":"), (30.0, ":")):
                radius = np.sqrt(2.0) * np.sin(np.deg2rad(lift_deg) / 2.0)
                axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=GREY, linewidth=0.8, linestyle=style)
            axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
            axes.set_title(f"{name}, from {'+' if sign > 0 else '-'}z", fontsize=9)
            _plain(axes)
            axes.spines[:].set_visible(False)
    return figure


def slices_picture(slices: NDArray[np.uint8], *, enlarge: int = 1, quality: int = 38) -> bytes:
    """The three slices of a pick below each other as a small WebP.

    Parameters
    ----------
    slices : (3, side, side) grey values, rows upwards
    enlarge : pixels for each; browsers smooth what they enlarge
    quality : of the compression, 0 to 100
    """
    side = slices.shape[1]
    gap = np.full((1, side), 255, dtype=np.uint8)
    plane = np.concatenate([slices[0][::-1], gap, slices[1][::-1], gap, slices[2][::-1]])
    image = Image.fromarray(np.ascontiguousarray(plane))
    image = image.resize((side * enlarge, plane.shape[0] * enlarge), Image.Resampling.BICUBIC)
    target = BytesIO()
    image.save(target, format="WEBP", quality=quality, method=2)
    return target.getvalue()


def _extent(count: int, pixel_angstrom: float) -> tuple[float, float]:
    """Outer edges of pixels whose number n // 2 is centred at 0."""
    low = (-(count // 2) - 0.5) * pixel_angstrom
    return low, low + count * pixel_angstrom


def _circles(axes: Axes, centres: FloatArray, diameter: float, color: str) -> None:
    sizes = np.full(len(centres), diameter)
    axes.add_collection(
        EllipseCollection(
            sizes,
            sizes,
            np.zeros(len(centres)),
            units="xy",
            offsets=centres,
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=color,
            linewidths=1.1,
        )
    )


def _mark(color: str, name: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="none", markerfacecolor="none", markeredgecolor=color, label=name)


def _plain(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
