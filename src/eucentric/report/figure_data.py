"""The numbers that a figure shows."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection, PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver
from numpy.typing import NDArray

_DIGITS = 5
_MOST_PIXELS = 4096


def plotted_data(figure: Figure) -> tuple[Mapping[str, Any], ...]:
    """Curves, points, bars, arrows and small images of each set of axes, as plain lists for JSON.

    Numbers have five digits; those that are not finite are None. Of an image of more than 4096 pixels only shape and
    extent are told. Axes without numbers are left out.
    """
    found = []
    for axes in figure.axes:
        curves = [*_lines(axes), *_collections(axes), *_bars(axes)]
        images = [_image(image) for image in axes.images]
        if curves or images:
            titles = {"title": axes.get_title(), "x": axes.get_xlabel(), "y": axes.get_ylabel()}
            found.append({**titles, "curves": curves, "images": images})
    return tuple(found)


def _lines(axes: Axes) -> Iterator[dict[str, Any]]:
    for line in axes.lines:
        x, y = (np.atleast_1d(values) for values in (line.get_xdata(orig=False), line.get_ydata(orig=False)))
        if x.size:
            yield {"kind": "line", "name": _name(line), "x": _plain(x), "y": _plain(y)}


def _collections(axes: Axes) -> Iterator[dict[str, Any]]:
    for drawn in axes.collections:
        if isinstance(drawn, Quiver):
            x, y = np.asarray(drawn.get_offsets()).T
            ends = {"dx": _plain(np.ravel(drawn.U)), "dy": _plain(np.ravel(drawn.V))}
            yield {"kind": "arrows", "name": _name(drawn), "x": _plain(x), "y": _plain(y), **ends}
        elif isinstance(drawn, (PathCollection, EllipseCollection)):
            points = np.ma.filled(np.ma.asarray(drawn.get_offsets(), dtype=np.float64), np.nan)
            if points.size:
                yield {"kind": "points", "name": _name(drawn), "x": _plain(points[:, 0]), "y": _plain(points[:, 1])}
        elif isinstance(drawn, LineCollection):
            parts = [np.asarray(part, dtype=np.float64) for part in drawn.get_segments()]
            parts = [part for part in parts if part.size]
            if parts:
                # a gap between segments keeps them apart
                joined = np.concatenate([np.vstack([part, [np.nan, np.nan]]) for part in parts])[:-1]
                yield {"kind": "segments", "name": _name(drawn), "x": _plain(joined[:, 0]), "y": _plain(joined[:, 1])}


def _bars(axes: Axes) -> Iterator[dict[str, Any]]:
    """Bars by their middle and the end that is not on the axis."""
    for group in axes.containers:
        bars = [bar for bar in group if isinstance(bar, Rectangle)] if isinstance(group, BarContainer) else []
        if not bars:
            continue
        if getattr(group, "orientation", "vertical") == "horizontal":
            x = [bar.get_x() + bar.get_width() for bar in bars]
            y = [bar.get_y() + bar.get_height() / 2 for bar in bars]
        else:
            x = [bar.get_x() + bar.get_width() / 2 for bar in bars]
            y = [bar.get_y() + bar.get_height() for bar in bars]
        yield {"kind": "bars", "name": _name(group), "x": _plain(np.array(x)), "y": _plain(np.array(y))}


def _image(image: Any) -> dict[str, Any]:
    values = np.ma.filled(np.ma.asarray(image.get_array(), dtype=np.float64), np.nan)
    told: dict[str, Any] = {"shape": list(values.shape), "extent": [float(e) for e in image.get_extent()]}
    if values.size <= _MOST_PIXELS:
        told |= {"origin": image.origin, "values": _plain(values)}
    return told


def _name(drawn: Any) -> str:
    """What the legend calls it; nothing for what has no place in one."""
    label = str(drawn.get_label() or "")
    return "" if label.startswith("_") else label


def _plain(values: NDArray[Any]) -> list[Any]:
    """Nested lists of numbers of five digits, None where there is no number."""
    if np.ndim(values) > 1:
        return [_plain(row) for row in values]
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64)]
