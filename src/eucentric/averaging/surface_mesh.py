"""The surface of a map as triangles, few enough that many copies can be shown. numpy, A from the map's centre."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, map_coordinates

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

_DUST = 0.01  # of the largest piece: what is smaller is left out
_COARSER = 1.15
_MOST_COARSE = 8.0
_ROUNDS = 5
_CORNERS = np.array([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceMesh:
    """Triangles of a closed surface; seen from outside their corners run counter-clockwise."""

    vertices_angstrom: FloatArray
    """(vertex, 3) x, y, z from voxel ``n // 2``."""
    normals: FloatArray
    """(vertex, 3) unit vectors, outwards."""
    triangles: NDArray[np.int64]
    """(triangle, 3) numbers of vertices."""


def surface_mesh(
    volume: FloatArray, voxel_size_angstrom: float, level: float, *, most_triangles: int = 6000
) -> SurfaceMesh:
    """Where a map (z, y, x) has a level, by surface nets [1]_ whose corners are moved onto the level.

    The map is smoothed and sampled more coarsely until its surface has few enough triangles; corners then go along the
    gradient to the level of the map itself, no farther than half a step of that sampling. Pieces smaller than a hundredth of the
    largest are left out.

    Parameters
    ----------
    most_triangles : triangles, at least 100

    Raises
    ------
    ShapeError : not a volume
    InputError : the level lies outside of the map's values, or too few triangles are asked for

    References
    ----------
    .. [1] Gibson, MICCAI 1998, 888, doi:10.1007/BFb0056277
    """
    if volume.ndim != 3 or min(volume.shape) < 3:
        raise ShapeError(
            f"A map of shape {volume.shape} was given; expected (z, y, x) with three voxels each at least."
        )
    if most_triangles < 100:
        raise InputError(f"{most_triangles} triangles show no surface. Ask for 100 at least.")
    low, high = float(volume.min()), float(volume.max())
    if not low < level < high:
        raise InputError(
            f"No surface lies at {level:.4g}: the map's values run from {low:.4g} to {high:.4g}. Give a --level between them."
        )
    clean = _without_dust(np.asarray(volume, dtype=np.float32), level)
    # faces of the box are outside, so that every surface closes
    padded = np.pad(clean, 2, constant_values=min(low, level - 0.5 * (high - level)))
    step = 1.0
    while True:
        points, triangles = _net(_coarser(padded, step), level)
        if len(triangles) <= most_triangles or step > _MOST_COARSE:
            break
        step *= max(_COARSER, float(np.sqrt(0.9 * len(triangles) / most_triangles)))
    index = _onto_level(padded, points * step, level, 0.5 * step)
    slopes = _slopes(gaussian_filter(padded, 0.5 * step), index)
    normals = -slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-12)
    middle = np.array(volume.shape) // 2 + 2
    return SurfaceMesh(
        vertices_angstrom=((index - middle) * voxel_size_angstrom)[:, ::-1],
        normals=normals[:, ::-1],
        triangles=triangles,
    )


def sample_at(volume: FloatArray, voxel_size_angstrom: float, vertices_angstrom: FloatArray) -> FloatArray:
    """Values of a map (z, y, x), linearly between voxels, at places (n, 3) x, y, z from its voxel ``n // 2``."""
    index = vertices_angstrom[:, ::-1] / voxel_size_angstrom + np.array(volume.shape) // 2
    out: FloatArray = map_coordinates(np.asarray(volume, dtype=np.float64), index.T, order=1, mode="nearest")
    return out


def _without_dust(volume: FloatArray, level: float) -> FloatArray:
    pieces, count = label(volume > level)
    if count < 2:
        return volume
    sizes = np.bincount(pieces.ravel())
    sizes[0] = sizes[1:].max()
    small = sizes < _DUST * sizes[0]
    out: FloatArray = np.where(small[pieces], np.minimum(volume, level - 1e-3 * abs(level) - 1e-12), volume)
    return out


def _coarser(volume: FloatArray, step: float) -> FloatArray:
    """The map at every `step` voxels, smoothed before."""
    if step == 1.0:
        return volume
    smooth = gaussian_filter(volume, 0.35 * step, mode="nearest")
    lines = [np.arange(0.0, n - 1 + step, step) for n in volume.shape]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"))
    out: FloatArray = map_coordinates(smooth, grid, order=1, mode="nearest")
    return out


def _net(volume: FloatArray, level: float) -> tuple[FloatArray, NDArray[np.int64]]:
    """Corners (vertex, 3) z, y, x in samples, one for each cell that the level passes, and triangles between them."""
    inside = volume > level
    cells = np.array(volume.shape) - 1
    corner = [tuple(slice(o, o + n) for o, n in zip(offset, cells, strict=True)) for offset in _CORNERS]
    filled = np.stack([inside[c] for c in corner])
    mixed = filled.any(axis=0) & ~filled.all(axis=0)
    number = np.full(mixed.shape, -1, dtype=np.int64)
    number[mixed] = np.arange(int(mixed.sum()))
    base = np.argwhere(mixed)
    values = np.stack([volume[c][mixed] for c in corner])
    total, count = np.zeros((len(base), 3)), np.zeros(len(base))
    for a, b in _EDGES:
        crosses = (values[a] > level) != (values[b] > level)
        part = (level - values[a][crosses]) / (values[b][crosses] - values[a][crosses])
        total[crosses] += _CORNERS[a] + part[:, None] * (_CORNERS[b] - _CORNERS[a])
        count[crosses] += 1
    points = base + total / np.maximum(count, 1)[:, None]
    triangles = []
    for axis in range(3):
        # an edge along `axis` whose ends differ: a square of the four cells around it
        u, v = (axis + 1) % 3, (axis + 2) % 3
        first = [slice(1, -1)] * 3
        first[axis] = slice(0, -1)
        second = list(first)
        second[axis] = slice(1, None)
        here, there = inside[tuple(first)], inside[tuple(second)]
        place = np.argwhere(here != there) + np.where(np.arange(3) == axis, 0, 1)
        outwards = here[here != there]
        square = []
        for du, dv in ((-1, -1), (0, -1), (0, 0), (-1, 0)):
            at = place.copy()
            at[:, u] += du
            at[:, v] += dv
            square.append(number[tuple(at.T)])
        corners = np.stack(square, axis=1)
        # indices run z, y, x: what turns right there turns left in x, y, z
        corners = np.where(outwards[:, None], corners[:, ::-1], corners)
        triangles += [corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]]
    return points, np.concatenate(triangles)


def _onto_level(volume: FloatArray, points: FloatArray, level: float, reach: float) -> FloatArray:
    """Points moved along the gradient to where the map has the level, no farther than `reach` voxels."""
    moved = points.copy()
    for _ in range(_ROUNDS):
        error = map_coordinates(volume, moved.T, order=1, mode="nearest") - level
        slopes = _slopes(volume, moved)
        squared = np.maximum((slopes**2).sum(axis=1), 1e-20)
        stride = -(error / squared)[:, None] * slopes
        length = np.linalg.norm(stride, axis=1, keepdims=True)
        moved += stride * np.minimum(1.0, 0.5 * reach / np.maximum(length, 1e-12))
        away = moved - points
        far = np.linalg.norm(away, axis=1, keepdims=True)
        moved = points + away * np.minimum(1.0, reach / np.maximum(far, 1e-12))
    return moved


def _slopes(volume: FloatArray, points: FloatArray) -> FloatArray:
    """(point, 3) differences over a voxel along z, y and x."""
    out = np.empty_like(points)
    for axis in range(3):
        shift = np.where(np.arange(3) == axis, 0.5, 0.0)
        ends = [map_coordinates(volume, (points + s * shift).T, order=1, mode="nearest") for s in (1.0, -1.0)]
        out[:, axis] = ends[0] - ends[1]
    return out
