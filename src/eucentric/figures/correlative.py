"""A registered light-microscope image over what it was registered to, with its landmarks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.figures.canvas import FIRST, GREY, SECOND, scale_bar_length
from eucentric.typing import FloatArray

_LIGHT = LinearSegmentedColormap.from_list(
    "light", [(0.0, 0.45, 0.70, 0.0), (0.34, 0.71, 0.91, 0.35), (0.95, 0.9, 0.25, 0.85)]
)
"""Clear to blue to yellow: told from grey by all eyes."""
_NAMED = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """A picture and where it lies."""

    values: NDArray[np.float32]
    """(y, x), y up."""
    extent: tuple[float, float, float, float]
    """Left, right, bottom, top in A."""


def correlative_overlay(
    target: Placed | None,
    light: Placed,
    names: Sequence[str],
    fixed: FloatArray,
    mapped: FloatArray,
    used: NDArray[np.bool_],
    *,
    title: str = "",
) -> Figure:
    """The light over the target, the landmarks in both, and by how much they differ.

    Parameters
    ----------
    target : the grid map or a slab of the tomogram; None where there is no picture of it
    light : one channel, registered
    names : of the landmarks
    fixed, mapped : (landmark, 2) A, in the target, and where the registration takes them
    used : (landmark,), False of those that were found wrong
    """
    figure = Figure(figsize=(9.5, 4.6), layout="constrained")
    place, bars = figure.subplots(1, 2, width_ratios=(1.4, 1.0))
    if target is not None:
        low, high = np.percentile(target.values, (1, 99))
        place.imshow(
            target.values, cmap="gray", extent=target.extent, origin="lower", vmin=low, vmax=max(high, low + 1e-6)
        )
    low, high = np.percentile(light.values, (50, 99.95))
    place.imshow(light.values, cmap=_LIGHT, extent=light.extent, origin="lower", vmin=low, vmax=max(high, low + 1e-6))
    for good, color, word in ((True, FIRST, "used"), (False, SECOND, "found wrong")):
        rows = np.flatnonzero(used == good)
        if len(rows):
            place.plot(*fixed[rows].T, "+", color=color, markersize=9, label=f"target, {word}")
            place.plot(*mapped[rows].T, "o", color=color, markersize=7, fillstyle="none", label=f"light, {word}")
            place.plot(*np.stack([fixed[rows], mapped[rows]]).transpose(2, 0, 1), "-", color=color, linewidth=0.8)
    corners = [light.extent if target is None else target.extent, (*_range(fixed[:, 0]), *_range(fixed[:, 1]))]
    box = np.array(corners)
    left, bottom, right, top = box[:, 0].min(), box[:, 2].min(), box[:, 1].max(), box[:, 3].max()
    margin = 0.05 * max(right - left, top - bottom)
    place.set(
        xlim=(left - margin, right + margin), ylim=(bottom - margin, top + margin), aspect="equal", xticks=[], yticks=[]
    )
    for name, (x, y) in zip(names, fixed, strict=True) if len(names) <= _NAMED else ():
        place.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7, color=GREY)
    length = scale_bar_length(right - left + 2 * margin)
    place.plot([left, left + length], [bottom - 0.5 * margin] * 2, color="black", linewidth=3, solid_capstyle="butt")
    place.annotate(
        f"{length / 1e4:g} µm", (left, bottom - 0.5 * margin), xytext=(0, 4), textcoords="offset points", fontsize=8
    )
    figure.suptitle(title, fontsize=9)
    place.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, frameon=False)
    errors = np.linalg.norm(fixed - mapped, axis=1)
    bars.barh(np.arange(len(names)), errors / 10, color=np.where(used, FIRST, SECOND))
    bars.set_yticks(np.arange(len(names)), labels=list(names), fontsize=7 if len(names) <= _NAMED else 3)
    bars.invert_yaxis()
    bars.set(xlabel="error of the landmark (nm)")
    bars.spines[["top", "right"]].set_visible(False)
    return figure


def _range(values: FloatArray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
