"""Where a volume passes a level, as triangles: marching cubes whose table is worked out here, so that no hole can be left.

A cell's eight corners are above the level or not. On each face of the cell every run of corners above is cut off by one segment,
alike in the two cells that share the face: pieces above the level join through edges, and not through diagonals. Segments
chain to loops, and loops are split into triangles by diagonals that lie in no face of the cell, so that every edge of the
mesh has two triangles.
"""

from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

# corner c lies at (z, y, x) = its bits 4, 2, 1
_CORNERS = np.array([(c >> 2 & 1, c >> 1 & 1, c & 1) for c in range(8)])
_EDGES = [(a, b) for a, b in combinations(range(8), 2) if (a ^ b) in (1, 2, 4)]
_EDGE_NUMBER = {pair: k for k, pair in enumerate(_EDGES)} | {(b, a): k for k, (a, b) in enumerate(_EDGES)}
_EDGE_AXIS = np.array([{4: 0, 2: 1, 1: 2}[a ^ b] for a, b in _EDGES])
_EDGE_BASE = np.array([_CORNERS[a] for a, _ in _EDGES])
_NEAREST_CORNER = 1e-3
"""Voxels: vertices stay that far from voxels, so that triangles keep an area."""


def marching_cubes(
    volume: NDArray[np.floating] | NDArray[np.bool_], level: float, *, valid: NDArray[np.bool_] | None = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Triangles where a volume (z, y, x) passes a level [1]_, values along edges taken as linear.

    Parameters
    ----------
    volume : (z, y, x); above the level is inside
    valid : (z, y, x), where values count; cells with a corner elsewhere are left out

    Returns
    -------
    vertices : (vertex, 3) x, y, z in voxels, counted from 0
    faces : (face, 3), counter-clockwise seen from below the level. The mesh ends at the faces of the volume, else it is closed.

    Raises
    ------
    ShapeError : not a volume, or a mask of another shape
    InputError : values that are NaN or infinite where they count

    References
    ----------
    .. [1] Lorensen & Cline, Computer Graphics 21:163 (1987), doi:10.1145/37402.37422
    """
    if volume.ndim != 3:
        raise ShapeError(f"A volume of shape {volume.shape} was given; expected (z, y, x).")
    if valid is not None and valid.shape != volume.shape:
        raise ShapeError(f"The mask of shape {valid.shape} does not fit the volume of shape {volume.shape}.")
    used = volume if valid is None else volume[valid]
    if volume.dtype.kind == "f" and not np.isfinite(used).all():
        raise InputError("The volume holds values that are NaN or infinite. Replace them before a surface is drawn.")
    if min(volume.shape) < 2:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    inside = np.asarray(volume > level)
    case = np.zeros(np.array(volume.shape) - 1, dtype=np.uint8)
    good = np.ones(case.shape, dtype=bool)
    for number, offset in enumerate(_CORNERS):
        at = tuple(slice(o, o + n) for o, n in zip(offset, case.shape, strict=True))
        case |= inside[at].astype(np.uint8) << np.uint8(number)
        if valid is not None:
            good &= valid[at]
    cells = np.argwhere((case > 0) & (case < 255) & good)
    table, counts = _table()
    kinds = case[tuple(cells.T)]
    many = counts[kinds]
    row = np.repeat(np.arange(len(cells)), many)
    within = np.arange(len(row)) - np.repeat(np.cumsum(many) - many, many)
    edge = table[kinds[row], within]
    base = cells[row][:, None, :] + _EDGE_BASE[edge]
    key = np.ravel_multi_index(tuple(base.reshape(-1, 3).T), volume.shape) * 3 + _EDGE_AXIS[edge].ravel()
    names, index = np.unique(key, return_inverse=True)
    start = np.stack(np.unravel_index(names // 3, volume.shape), axis=1)
    along = np.eye(3, dtype=np.int64)[names % 3]
    low, high = (np.asarray(volume[tuple((start + step).T)], dtype=np.float64) for step in (0 * along, along))
    part = np.clip((level - low) / np.where(high == low, 1.0, high - low), _NEAREST_CORNER, 1.0 - _NEAREST_CORNER)
    points = start + part[:, None] * along
    return np.ascontiguousarray(points[:, ::-1]), index.reshape(-1, 3).astype(np.int64)


@cache
def _table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(256, most, 3) numbers of edges of the triangles of each case, and how many there are."""
    cases = [_triangles(case) for case in range(256)]
    counts = np.array([len(c) for c in cases])
    table = np.zeros((256, counts.max(), 3), dtype=np.int64)
    for case, found in enumerate(cases):
        table[case, : len(found)] = np.array(found, dtype=np.int64).reshape(-1, 3)
    return table, counts


def _cell_faces() -> list[list[int]]:
    """The corners of the six faces, counter-clockwise seen from outside the cell in x, y, z."""
    faces = []
    for axis in range(3):
        # of (z, y, x): going u, then v, turns left about the axis in x, y, z
        u, v = [(2, 1), (0, 2), (1, 0)][axis]
        for side in (0, 1):
            ring = []
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                place = [0, 0, 0]
                place[axis], place[u], place[v] = side, a, b
                ring.append(4 * place[0] + 2 * place[1] + place[2])
            faces.append(ring if side else ring[::-1])
    return faces


def _triangles(case: int) -> list[tuple[int, int, int]]:
    above = [bool(case >> c & 1) for c in range(8)]
    follows: dict[int, int] = {}
    for ring in _cell_faces():
        for k in range(4):
            if above[ring[k]] and not above[ring[k - 1]]:
                end = k
                while above[ring[(end + 1) % 4]]:
                    end += 1
                entry = _EDGE_NUMBER[ring[k - 1], ring[k]]
                leave = _EDGE_NUMBER[ring[end % 4], ring[(end + 1) % 4]]
                follows[entry] = leave
    out: list[tuple[int, int, int]] = []
    left = set(follows)
    while left:
        loop = [min(left)]
        while follows[loop[-1]] != loop[0]:
            loop.append(follows[loop[-1]])
        left -= set(loop)
        out += _split(loop)
    return out


def _split(loop: list[int]) -> list[tuple[int, int, int]]:
    """The loop as triangles, by the shortest diagonals of which none lies in a face of the cell."""
    middle = {e: (_CORNERS[_EDGES[e][0]] + _CORNERS[_EDGES[e][1]]) / 2 for e in loop}
    on_faces = {e: {(a, v) for a, v in enumerate(middle[e]) if v in (0.0, 1.0)} for e in loop}

    def length(a: int, b: int) -> float:
        return np.inf if on_faces[a] & on_faces[b] else float(np.linalg.norm(middle[a] - middle[b]))

    @cache
    def best(first: int, last: int) -> tuple[float, tuple[tuple[int, int, int], ...]]:
        if last - first < 2:
            return 0.0, ()
        options = []
        for k in range(first + 1, last):
            cost = sum(length(loop[a], loop[b]) for a, b in ((first, k), (k, last)) if b - a > 1)
            parts = best(first, k), best(k, last)
            corner = (loop[first], loop[k], loop[last])
            options.append((cost + parts[0][0] + parts[1][0], (*parts[0][1], corner, *parts[1][1])))
        return min(options)

    return list(best(0, len(loop) - 1)[1])
