"""Discs and polygons in a plane: distances, areas in common, what lies inside what."""

import numpy as np
from numpy.typing import NDArray

from eucentric.typing import FloatArray

BoolArray = NDArray[np.bool_]
_ROUNDING = 1e-9  # of a disc's radius squared: sectors of a disc that is clear add up to some 1e-16


def disc_area_in_polygon(polygon: FloatArray, centre: FloatArray, radius: float) -> FloatArray:
    """Area that a disc and a polygon share, exactly: sectors and triangles about the centre, edge by edge.

    Parameters
    ----------
    polygon : (..., vertex, 2), in either sense
    centre : (..., 2)

    Returns
    -------
    (...), >= 0; exactly 0 where they share none
    """
    start = polygon - np.asarray(centre)[..., None, :]
    end = np.roll(start, -1, axis=-2)
    step = end - start
    a = np.maximum((step**2).sum(-1), 1e-300)
    b = (start * step).sum(-1)
    under_root = b**2 - a * ((start**2).sum(-1) - radius**2)
    root = np.sqrt(np.maximum(under_root, 0.0))
    enters = np.where(under_root > 0, np.clip((-b - root) / a, 0.0, 1.0), 0.0)
    leaves = np.where(under_root > 0, np.clip((-b + root) / a, 0.0, 1.0), 0.0)
    first = start + enters[..., None] * step
    last = start + leaves[..., None] * step
    area = _cross(first, last) + radius**2 * (_angle(start, first) + _angle(last, end))
    shared = np.abs(0.5 * area.sum(-1))
    return np.asarray(np.where(shared > _ROUNDING * radius**2, shared, 0.0))


def distance_to_polygon(polygon: FloatArray, point: FloatArray) -> FloatArray:
    """(...), from a point (..., 2) to a convex polygon (..., vertex, 2); 0 inside it."""
    start = polygon - np.asarray(point)[..., None, :]
    step = np.roll(start, -1, axis=-2) - start
    along = np.clip(-(start * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-300), 0.0, 1.0)
    nearest = np.sqrt(((start + along[..., None] * step) ** 2).sum(-1).min(-1))
    sides = _cross(start, step)
    inside = (sides > 0).all(-1) | (sides < 0).all(-1)
    return np.asarray(np.where(inside, 0.0, nearest))


def inside_polygon(polygon: FloatArray, points: FloatArray) -> BoolArray:
    """(...), whether points (..., 2) lie in a polygon (vertex, 2) of any simple shape, by counting crossings."""
    x, y = points[..., None, 0], points[..., None, 1]
    after = np.roll(polygon, -1, axis=0)
    spans = (polygon[:, 1] > y) != (after[:, 1] > y)
    rise = np.where(after[:, 1] == polygon[:, 1], 1.0, after[:, 1] - polygon[:, 1])
    crossing = polygon[:, 0] + (y - polygon[:, 1]) * (after[:, 0] - polygon[:, 0]) / rise
    return np.asarray((spans & (x < crossing)).sum(-1) % 2 == 1)


def polygons_touch(one: FloatArray, other: FloatArray) -> bool:
    """Whether two simple polygons (vertex, 2) share any area."""
    crossed = _edges_cross(one, other)
    return bool(crossed or inside_polygon(one, other[:1])[0] or inside_polygon(other, one[:1])[0])


def polygon_contains(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether a simple polygon (vertex, 2) holds all of another."""
    return bool(inside_polygon(outer, inner).all() and not _edges_cross(outer, inner))


def _edges_cross(one: FloatArray, other: FloatArray) -> bool:
    p, r = one[:, None], (np.roll(one, -1, axis=0) - one)[:, None]
    q, s = other[None], (np.roll(other, -1, axis=0) - other)[None]
    turn = _cross(r, s)
    safe = np.where(turn == 0, 1.0, turn)
    t, u = _cross(q - p, s) / safe, _cross(q - p, r) / safe
    return bool(((turn != 0) & (t > 0) & (t < 1) & (u > 0) & (u < 1)).any())


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _angle(a: FloatArray, b: FloatArray) -> FloatArray:
    """From a to b, signed."""
    return np.asarray(np.arctan2(_cross(a, b), (a * b).sum(-1)))
