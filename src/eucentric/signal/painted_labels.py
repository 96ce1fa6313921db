"""Volumes from what was painted in some of their slices: brush strokes, and the shapes between painted slices. numpy.

Between two painted slices lies the shape whose signed distance to its outline is the mean of theirs, weighted by how near
each is [1]_. Pieces of one slice are first matched to those of the other and moved onto each other by their middles, so that what runs
obliquely through the slices is followed and not thinned.

References
----------
.. [1] Raya & Udupa, IEEE Trans. Med. Imaging 9:32 (1990), doi:10.1109/42.52980
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, find_objects, shift
from scipy.ndimage import label as connected

from eucentric.errors import InputError
from eucentric.typing import FloatArray

Mask = NDArray[np.bool_]
_EIGHT = np.ones((3, 3), dtype=bool)
_REACH = 4.0  # widths: pieces farther apart than that are taken as different things


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stroke:
    """A round brush drawn along a line in one slice."""

    slice_index: int
    places: FloatArray
    """(point, 2), column and row in voxels, counted from 0 at the centre of the first."""
    radius: float
    """Voxels; voxels whose centre lies within it of the line are painted."""
    erase: bool = False
    fill: bool = False
    """Also what the closed line goes around."""


def stroke_mask(shape: tuple[int, int], stroke: Stroke) -> tuple[Mask, tuple[slice, slice]]:
    """What a stroke covers, in the box of (row, column) that holds it; empty where it lies outside.

    Parameters
    ----------
    shape : (row, column) of the slice

    Raises
    ------
    InputError : no point, numbers that are not finite, or a radius that is not positive
    """
    places = np.asarray(stroke.places, dtype=np.float64).reshape(-1, 2)
    if not len(places) or not np.isfinite(places).all() or not (math.isfinite(stroke.radius) and stroke.radius > 0):
        raise InputError(f"A stroke of {len(places)} points and radius {stroke.radius:g} cannot be painted.")
    low = np.clip(np.floor(places.min(0) - stroke.radius), 0, shape[::-1]).astype(int)
    high = np.clip(np.ceil(places.max(0) + stroke.radius) + 1, 0, shape[::-1]).astype(int)
    box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    y, x = np.mgrid[box]
    if x.size == 0:
        return np.zeros(x.shape, dtype=bool), box
    mask = np.zeros(x.shape, dtype=bool)
    starts = places[:1] if len(places) == 1 else places[:-1]
    ends = places[:1] if len(places) == 1 else places[1:]
    for start, end in zip(starts, ends, strict=True):
        mask |= _near_segment(x, y, start, end, stroke.radius)
    if stroke.fill and len(places) > 2:
        mask |= _inside((int(low[1]), int(low[0])), (mask.shape[0], mask.shape[1]), places)
    return mask, box


def _near_segment(
    x: NDArray[np.int64], y: NDArray[np.int64], start: FloatArray, end: FloatArray, radius: float
) -> Mask:
    along = end - start
    length = float(along @ along)
    share = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length if length > 0 else np.zeros(x.shape)
    share = np.clip(share, 0.0, 1.0)
    away = (x - start[0] - share * along[0]) ** 2 + (y - start[1] - share * along[1]) ** 2
    return np.asarray(away <= radius**2)


def fill_polygon(shape: tuple[int, int], places: ArrayLike) -> Mask:
    """(row, column) voxels whose centre lies inside of a closed line, by the even-odd rule.

    Parameters
    ----------
    shape : (row, column) of the slice; what lies outside of it is passed over
    places : (point, 2), column and row in voxels, counted from 0 at the centre of the first; the last joins the first
    """
    return _inside((0, 0), shape, np.asarray(places, dtype=np.float64).reshape(-1, 2))


def _inside(first: tuple[int, int], shape: tuple[int, int], places: FloatArray) -> Mask:
    """Of the box of (row, column) that begins at `first`."""
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    for (x1, y1), (x2, y2) in zip(places, np.roll(places, -1, axis=0), strict=True):
        rows = np.arange(max(math.ceil(min(y1, y2)), first[0]), min(math.ceil(max(y1, y2)), first[0] + shape[0]))
        if len(rows):
            crossings = x1 + (rows - y1) * (x2 - x1) / (y2 - y1)
            np.add.at(turns, (rows - first[0], np.clip(np.ceil(crossings) - first[1], 0, shape[1]).astype(int)), 1)
    # every voxel before a crossing changes sides there
    after = np.cumsum(turns[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(after[:, 1:] % 2 == 1)


def painted_slices(shape: tuple[int, int], strokes: Iterable[Stroke]) -> dict[int, Mask]:
    """Painted slices by their number, each (row, column), after strokes in their order.

    The first stroke in a slice between two painted ones goes on top of the shape that is interpolated there.

    Parameters
    ----------
    shape : (row, column) of a slice; errors as :func:`stroke_mask`
    """
    painted: dict[int, Mask] = {}
    for stroke in strokes:
        mask, box = stroke_mask(shape, stroke)
        at = stroke.slice_index
        if at not in painted:
            painted[at] = _between_neighbours(shape, painted, at)
        painted[at][box] = painted[at][box] & ~mask if stroke.erase else painted[at][box] | mask
    return painted


def _between_neighbours(shape: tuple[int, int], painted: Mapping[int, Mask], at: int) -> Mask:
    below, above = ([i for i in painted if i < at], [i for i in painted if i > at])
    if not below or not above:
        return np.zeros(shape, dtype=bool)
    low, high = max(below), min(above)
    return interpolate_masks(painted[low], painted[high], high - low, [at - low])[0]


def fill_between(painted: Mapping[int, Mask]) -> dict[int, Mask]:
    """Painted slices, and those between each and the next."""
    numbers = sorted(painted)
    out = {i: painted[i] for i in numbers}
    for low, high in itertools.pairwise(numbers):
        steps = list(range(1, high - low))
        for step, mask in zip(steps, interpolate_masks(painted[low], painted[high], high - low, steps), strict=True):
            out[low + step] = mask
    return out


def interpolate_masks(lower: ArrayLike, upper: ArrayLike, gap: int, steps: Sequence[int]) -> list[Mask]:
    """Shapes between two slices.

    Pieces that overlap, or else are nearest to each other, belong together; a piece without another within four of its widths
    ends in its slice.

    Parameters
    ----------
    lower, upper : (row, column) masks
    gap : slices from the one to the other
    steps : which of them, counted from `lower`
    """
    one, two = np.asarray(lower, dtype=bool), np.asarray(upper, dtype=bool)
    out = [np.zeros(one.shape, dtype=bool) for _ in steps]
    if not steps:
        return out
    for a, b in _matched(one, two, gap):
        for made, step in zip(out, steps, strict=True):
            part, box = _between(a, b, step / gap)
            made[box] |= part
    return out


def _matched(one: Mask, two: Mask, gap: int) -> list[tuple[Mask, Mask]]:
    """Pieces that belong together, each pair as masks of whole slices."""
    first, n = connected(one, _EIGHT)
    second, m = connected(two, _EIGHT)
    if not n or not m:
        return []
    joins = np.unique(np.stack([first, second], -1)[one & two], axis=0).tolist()
    joins += _nearest_pairs(first, second, {i for i, _ in joins}, {j for _, j in joins}, gap)
    group = list(range(n + m))  # pieces of the second after those of the first

    def root(k: int) -> int:
        while group[k] != k:
            k = group[k]
        return k

    for i, j in joins:
        group[root(i - 1)] = root(n + j - 1)
    pairs = []
    for own in {root(k) for k in range(n + m)}:
        left = [i + 1 for i in range(n) if root(i) == own]
        right = [j + 1 for j in range(m) if root(n + j) == own]
        a, b = np.isin(first, left), np.isin(second, right)
        if left and right and gap <= _REACH * max(_width(a), _width(b)):
            pairs.append((a, b))
    return pairs


def _nearest_pairs(
    first: NDArray[np.signedinteger[Any]],
    second: NDArray[np.signedinteger[Any]],
    met: set[int],
    met_too: set[int],
    gap: int,
) -> list[list[int]]:
    """Pieces that overlap nothing, with the ones nearest to them if these say the same."""
    left = [(i + 1, *_about(first, box, i + 1)) for i, box in enumerate(find_objects(first)) if i + 1 not in met]
    right = [(j + 1, *_about(second, box, j + 1)) for j, box in enumerate(find_objects(second)) if j + 1 not in met_too]
    if not left or not right:
        return []
    apart = np.linalg.norm(
        np.array([m for _, m, _ in left])[:, None] - np.array([m for _, m, _ in right])[None], axis=2
    )
    pairs = []
    for i, (a, _, width) in enumerate(left):
        j = int(apart[i].argmin())
        b, _, other = right[j]
        if int(apart[:, j].argmin()) == i and math.hypot(apart[i, j], gap) <= _REACH * max(width, other):
            pairs.append([a, b])
    return pairs


def _about(pieces: NDArray[np.signedinteger[Any]], box: tuple[slice, ...], number: int) -> tuple[FloatArray, float]:
    """Middle and width of a piece."""
    part = pieces[box] == number
    middle = np.argwhere(part).mean(0) + np.array([s.start for s in box])
    return middle, float(max(part.shape))


def _width(mask: Mask) -> float:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(max(np.ptp(rows), np.ptp(columns)) + 1)


def _between(one: Mask, two: Mask, share: float) -> tuple[Mask, tuple[slice, slice]]:
    """The shape at a part of the way, in the box of (row, column) that holds both."""
    places = np.argwhere(one | two)
    low = np.maximum(places.min(0) - 1, 0)
    high = np.minimum(places.max(0) + 2, one.shape)
    box = (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1])))
    # what is cut off by the edge of the slice goes on beyond it
    a, b = (np.pad(m[box], 2, mode="edge") for m in (one, two))
    middle_a, middle_b = (np.argwhere(m).mean(0) for m in (a, b))
    way = middle_b - middle_a
    near = (1.0 - share) * _moved(signed_distance(a), share * way)
    far = share * _moved(signed_distance(b), -(1.0 - share) * way)
    return np.asarray(near + far > 0)[2:-2, 2:-2], box


def _moved(values: FloatArray, by: FloatArray) -> FloatArray:
    return values if np.abs(by).max() < 1e-3 else np.asarray(shift(values, by, order=1, mode="nearest"))


def signed_distance(mask: ArrayLike) -> FloatArray:
    """Distance of each voxel to the outline of a mask, in voxels; positive inside.

    The outline lies half a voxel from the voxels on either side of it.
    """
    inside = np.asarray(mask, dtype=bool)
    if inside.all() or not inside.any():
        return np.full(inside.shape, float(sum(inside.shape)) * (1.0 if inside.all() else -1.0))
    far: FloatArray = np.where(inside, distance_transform_edt(inside) - 0.5, 0.5 - distance_transform_edt(~inside))
    return far
