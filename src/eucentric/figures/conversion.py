"""What a conversion did, for the eye: one phantom through two geometries, particles in two lists, a volume before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eucentric.figures.canvas import FIRST, GREY, SECOND, decorate
from eucentric.typing import FloatArray

_ARROW = 0.12
_MOST_ARROWS = 60
_SLAB = 0.06  # of the tomogram's size on either side of a slice


class Seen(Protocol):
    """Places of a phantom's points in the images, by two descriptions."""

    @property
    def tilts_deg(self) -> FloatArray: ...
    @property
    def first_px(self) -> FloatArray: ...
    @property
    def second_px(self) -> FloatArray: ...
    @property
    def image_shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TomogramSlices:
    """Two slices of a tomogram through one place."""

    pictures: tuple[FloatArray, FloatArray]
    """(y, x) and (z, x)."""
    extent_angstrom: FloatArray
    """(3, 2): low and high x, y and z of the tomogram."""
    at_angstrom: FloatArray
    """(3,): the place, x, y, z."""


def phantom_figure(seen: Seen, first: str, second: str, title: str) -> Figure:
    """Three tilts: circles where the first description sees the points, crosses where the second does; and how far they are apart."""
    shown = sorted({0, int(np.argmin(np.abs(seen.tilts_deg))), len(seen.tilts_deg) - 1})
    figure = Figure(figsize=(3.3 * len(shown) + 3.4, 3.6), layout="constrained")
    ny, nx = seen.image_shape
    for k, tilt in enumerate(shown):
        axes = figure.add_subplot(1, len(shown) + 1, k + 1)
        axes.add_patch(Rectangle((-0.5, -0.5), nx, ny, fill=False, color=GREY, linewidth=0.8))
        axes.plot(*seen.first_px[tilt].T, "o", mfc="none", color=FIRST, ms=9, label=first)
        axes.plot(*seen.second_px[tilt].T, "x", color=SECOND, ms=6, label=second)
        for number, (x, y) in enumerate(seen.first_px[tilt]):
            axes.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7, color=GREY)
        axes.set(title=f"tilt {seen.tilts_deg[tilt]:.1f}°", xlabel="x (px)", ylabel="y (px)", aspect="equal")
    axes = decorate(figure.add_subplot(1, len(shown) + 1, len(shown) + 1))
    away = np.linalg.norm(seen.first_px - seen.second_px, axis=-1)
    axes.plot(seen.tilts_deg, away.max(axis=1), "o-", color=FIRST, ms=3, lw=0.8, label="farthest point")
    axes.plot(seen.tilts_deg, away.mean(axis=1), "-", color=GREY, lw=0.8, label="mean")
    axes.set(xlabel="tilt angle (°)", ylabel="distance (px)", ylim=(0.0, max(0.12, 1.1 * float(away.max()))))
    axes.axhline(0.1, color=SECOND, lw=0.6, ls=":")
    axes.legend(frameon=False, fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _arrows(axes: Axes, places: FloatArray, directions: FloatArray, length: float, color: str) -> None:
    axes.quiver(
        *places.T,
        *(directions * length).T,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        color=color,
        width=0.004,
        alpha=0.8,
    )


def particles_figure(
    positions: Sequence[FloatArray],
    axes_z: Sequence[FloatArray],
    names: Sequence[str],
    *,
    slices: TomogramSlices | None = None,
    title: str = "",
) -> Figure:
    """Particles of two lists from above and from the side, with the direction of their z axes.

    Parameters
    ----------
    positions, axes_z : of each list, (particle, 3), A from the specimen centre, and unit vectors
    slices : of the tomogram, to draw below; only particles near them are shown then
    """
    figure = Figure(figsize=(10.0, 5.4), layout="constrained")
    every = np.concatenate(positions)
    span = float(np.ptp(every, axis=0).max()) if len(every) else 1.0
    if slices is not None:
        span = float(np.ptp(slices.extent_angstrom, axis=1).max())
    for k, (i, j, across) in enumerate(((0, 1, 2), (0, 2, 1))):
        axes = decorate(figure.add_subplot(1, 2, k + 1))
        if slices is not None:
            low, high = slices.extent_angstrom[i], slices.extent_angstrom[j]
            axes.imshow(slices.pictures[k], cmap="gray", origin="lower", extent=(low[0], low[1], high[0], high[1]))
            axes.grid(visible=False)
            axes.set(xlim=tuple(low), ylim=tuple(high))
        for places, turned, name, marker, color, size in zip(
            positions, axes_z, names, ("o", "x"), (FIRST, SECOND), (9, 6), strict=False
        ):
            near = np.ones(len(places), dtype=bool)
            if slices is not None:
                near = np.abs(places[:, across] - slices.at_angstrom[across]) < _SLAB * span
            axes.plot(places[near, i], places[near, j], marker, mfc="none", color=color, ms=size, label=name)
            some = np.flatnonzero(near)[:_MOST_ARROWS]
            _arrows(axes, places[some][:, [i, j]], turned[some][:, [i, j]], _ARROW * span, color)
        axes.set(xlabel=f"{'xyz'[i]} (Å)", ylabel=f"{'xyz'[j]} (Å)", aspect="equal")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=10)
    return figure


def volumes_figure(
    first: Sequence[FloatArray], second: Sequence[FloatArray], names: tuple[str, str], title: str
) -> Figure:
    """Central slices (across z, y and x) of a volume before and after."""
    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    for row, (slices, name) in enumerate(((first, names[0]), (second, names[1]))):
        for column, (picture, across) in enumerate(zip(slices, "zyx", strict=True)):
            axes = figure.add_subplot(2, 3, 3 * row + column + 1)
            axes.imshow(picture, cmap="gray", origin="lower", aspect="equal")
            axes.set(title=f"{name}, across {across}", xticks=[], yticks=[])
            axes.title.set_fontsize(8)
    figure.suptitle(title, fontsize=10)
    return figure
