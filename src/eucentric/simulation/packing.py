"""Random sequential placing of real shapes on a grid of the film: each is turned and moved at random until it fits.

A shape is a set of points; it fits where none of them, nor any ice that must stay around it, falls on a voxel that is
taken. What was placed takes its voxels. Large shapes go first, since small ones find room between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label

from eucentric.simulation.film import Film
from eucentric.simulation.surfaces import Surface
from eucentric.typing import FloatArray

SOLID, MEMBRANE, OUTSIDE, INSIDE = 1, 2, 4, 8
"""Bits of a voxel: taken by a particle, bead or filament; by a membrane; beyond the faces of the film; within a membrane."""
TAKEN = SOLID | MEMBRANE | OUTSIDE
GAP_ANGSTROM = 4.0
"""Ice left between things, beside what the voxels leave."""
_VOXEL = 10.0
_SHELL_STEP = 7.0  # A between the points of a membrane: it has no hole through which its inside leaks out
_MOST_VOXELS = 300_000_000
_STEP = 6.0  # A between the points of a shape: hardly any falls through the voxels
_TRIES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """Points that stand for the volume of something, in its own frame."""

    points: FloatArray
    """(n, 3), A: what it takes."""
    reach: FloatArray
    """(m, 3), A: what must be free, the ice around it too; in an order that finds collisions soon."""

    @classmethod
    def from_points(cls, points: FloatArray, *, gap: float = GAP_ANGSTROM) -> Self:
        """The volume about atoms, residues or voxels (n, 3) whose neighbours are not farther than 6 A, holes filled."""
        margin = int(np.ceil(gap / _STEP)) + 1
        cell = np.floor(points / _STEP).astype(np.int64)
        first = cell.min(0) - margin
        inside = np.zeros(cell.max(0) - first + margin + 1, dtype=bool)
        inside[tuple((cell - first).T)] = True
        inside = binary_fill_holes(inside)
        return cls._from_grid(inside, (first + 0.5) * _STEP, gap)

    @classmethod
    def ball(cls, radius: float, *, gap: float = GAP_ANGSTROM) -> Self:
        """A ball of a radius in A."""
        count = int(np.ceil((radius + gap) / _STEP)) + 1
        grid = _STEP * np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        distance = np.linalg.norm(grid, axis=1)
        return cls(points=grid[distance <= radius], reach=_scattered(grid[distance <= radius + gap + 0.5 * _STEP]))

    @classmethod
    def shell(cls, surfaces: Sequence[Surface], half: float, *, gap: float = GAP_ANGSTROM) -> Self:
        """What lies within `half` A of surfaces on either side."""
        places = [surface.even_points(_SHELL_STEP, None) for surface in surfaces]
        middle = np.concatenate([place[0] for place in places])
        normals = np.concatenate([place[1] for place in places])
        order = np.random.default_rng(len(middle)).permutation(len(middle))
        middle, normals = middle[order], normals[order]

        def layers(reach: float, step: float) -> FloatArray:
            distances = np.linspace(-reach, reach, max(3, int(np.ceil(2.0 * reach / step)) + 1))
            return np.asarray((middle[:, None] + distances[:, None] * normals[:, None]).reshape(-1, 3))

        # nothing that was placed before is so small that it slips between the layers
        return cls(points=layers(half, 9.0), reach=layers(half + gap, 18.0))

    @classmethod
    def _from_grid(cls, inside: NDArray[np.bool_], first: FloatArray, gap: float) -> Self:
        grown = np.asarray(distance_transform_edt(~inside)) * _STEP <= gap + 0.5 * _STEP
        return cls(
            points=np.argwhere(inside) * _STEP + first,
            reach=_scattered(np.argwhere(grown) * _STEP + first),
        )

    @property
    def thinnest(self) -> float:
        """A, about the least distance of two parallel planes between which it fits."""
        centred = self.points - self.points.mean(0)
        _, axes = np.linalg.eigh(centred.T @ centred)
        return float(np.ptp(centred @ axes, axis=0).min()) if len(centred) > 1 else 0.0


class Occupancy:
    """Which voxels of a film are taken."""

    def __init__(self, film: Film, half_extent: tuple[float, float, float], rng: np.random.Generator) -> None:
        self.half = half_extent
        self._rng = rng
        # films that would take too much memory get larger voxels
        self.voxel = voxel = max(_VOXEL, float((8.0 * np.prod(half_extent) / _MOST_VOXELS) ** (1 / 3)))
        margin = 12  # voxels beside the film, for what reaches out of it
        half = [int(np.ceil(h / voxel)) + margin for h in half_extent[:2]]
        x, y = (np.arange(-n, n + 1) * voxel for n in half)
        lower, upper = film.faces(x[None, :], y[:, None])
        empty = film.thickness_at(x[None, :], y[:, None]) <= 0
        self.low: float = float(np.min(lower[~empty], initial=0.0))
        self.high: float = float(np.max(upper[~empty], initial=0.0))
        self.thickest = float((upper - lower).max())
        """A, of the ice."""
        bottom, top = int(np.floor(self.low / voxel)) - 1, int(np.ceil(self.high / voxel)) + 2
        z = np.arange(bottom, top) * voxel
        self._origin = np.array([x[0], y[0], z[0]])
        free = (z[:, None, None] - 0.5 * voxel >= lower) & (z[:, None, None] + 0.5 * voxel <= upper) & ~empty
        self.cells: NDArray[np.uint8] = np.where(free, np.uint8(0), np.uint8(OUTSIDE))

    def place(
        self,
        shape: Shape,
        count: int,
        *,
        within: tuple[float, float] | None = None,
        turned: bool = True,
        tries: int = _TRIES,
        mark: int = SOLID,
        blocked: int = TAKEN,
        needed: int = 0,
        beyond: float = 0.0,
    ) -> tuple[FloatArray, FloatArray]:
        """Place copies of a shape, as many as find room.

        Parameters
        ----------
        count : copies wanted
        within : half lengths in A along x and y of the part of the film for their middles; None for all of it
        turned : at random, over all rotations; otherwise as it is
        tries : places looked at for each copy before giving up
        mark : the bit to set
        blocked : the bits that keep it away
        needed : bits that the voxel of its middle must have
        beyond : A above and below the film where its middle may lie too

        Returns
        -------
        (placed, 3) middles in A and (placed, 3, 3) rotations; fewer than `count` where there is no more room
        """
        half = within or self.half[:2]
        low = np.array([-half[0], -half[1], self.low - beyond])
        high = np.array([half[0], half[1], self.high + beyond])
        centres, rotations = np.zeros((count, 3)), np.zeros((count, 3, 3))
        placed = _place(
            self.cells,
            self._origin,
            1.0 / self.voxel,
            np.ascontiguousarray(shape.points),
            np.ascontiguousarray(shape.reach),
            low,
            high,
            turned,
            tries,
            blocked,
            needed,
            mark,
            centres,
            rotations,
            int(self._rng.integers(2**31)),
        )
        return centres[:placed], rotations[:placed]

    def free(self, points: FloatArray, bits: int = TAKEN) -> NDArray[np.bool_]:
        """(n,) whether points (n, 3) in A lie on voxels without any of these bits; beside the grid they do."""
        index, inside = self._index(points)
        result = np.ones(len(points), dtype=bool)
        result[inside] = (self.cells[tuple(index[inside].T)] & bits) == 0
        return result

    @property
    def taken(self) -> float:
        """Part of the ice's voxels that particles, beads, filaments and membranes take."""
        ice = (self.cells & OUTSIDE) == 0
        return float((self.cells[ice] & (SOLID | MEMBRANE) != 0).mean()) if ice.any() else 0.0

    def volume(self, bits: int = 0, without: int = OUTSIDE) -> float:
        """A^3 of the voxels between minus and plus the half extents along x and y that have `bits` and not `without`."""
        rows, columns = (int(h / self.voxel) for h in self.half[1::-1])
        _, height, width = self.cells.shape
        part = self.cells[
            :, height // 2 - rows : height // 2 + rows + 1, width // 2 - columns : width // 2 + columns + 1
        ]
        chosen = float(np.count_nonzero((part & (bits | without)) == bits)) / part[0].size
        return float(chosen * self.voxel * 4.0 * self.half[0] * self.half[1])

    def enclose(self, points: FloatArray) -> None:
        """Note as inside what points (n, 3) of a membrane close off, the faces of the film taken as closed too."""
        index, inside = self._index(points)
        index = index[inside]
        if not len(index):
            return
        low = np.maximum(index.min(0) - 1, 0)
        box = tuple(slice(a, b) for a, b in zip(low, index.max(0) + 2, strict=True))
        part = self.cells[box]
        wall = (part & OUTSIDE) != 0
        wall[tuple((index - low).T)] = True
        number, _ = label(~wall)
        rim = np.concatenate(
            [number[:, edge].reshape(-1) for edge in (0, -1)] + [number[:, :, e].reshape(-1) for e in (0, -1)]
        )
        part[(number > 0) & ~np.isin(number, rim)] |= np.uint8(INSIDE)

    def mark(self, points: FloatArray, bits: int = SOLID) -> None:
        """Take the voxels of points (n, 3) in A."""
        index, inside = self._index(points)
        np.bitwise_or.at(self.cells, tuple(index[inside].T), np.uint8(bits))

    def _index(self, points: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        index = np.floor((points - self._origin) / self.voxel + 0.5).astype(np.int64)[:, ::-1]
        # above and below all is outside: what reaches there falls on the outermost layer
        index[:, 0] = np.clip(index[:, 0], 0, self.cells.shape[0] - 1)
        inside = ((index[:, 1:] >= 0) & (index[:, 1:] < self.cells.shape[1:])).all(1)
        return index, inside


def _scattered(points: FloatArray) -> FloatArray:
    """The same points in an order of no pattern, always the same."""
    return points[np.random.default_rng(len(points)).permutation(len(points))]


def _place_loop(
    cells: Any,
    origin: Any,
    scale: float,
    points: Any,
    reach: Any,
    low: Any,
    high: Any,
    turned: bool,
    tries: int,
    blocked: int,
    needed: int,
    bit: int,
    centres: Any,
    rotations: Any,
    seed: int,
) -> int:
    np.random.seed(seed)  # noqa: NPY002
    depth, rows, columns = cells.shape
    m = np.eye(3)
    for body in range(len(centres)):
        found = False
        for _ in range(tries):
            cx = low[0] + (high[0] - low[0]) * np.random.random()  # noqa: NPY002
            cy = low[1] + (high[1] - low[1]) * np.random.random()  # noqa: NPY002
            cz = low[2] + (high[2] - low[2]) * np.random.random()  # noqa: NPY002
            if turned:  # Shoemake, Graphics Gems III:124 (1992)
                u, v, w = np.random.random(), np.random.random(), np.random.random()  # noqa: NPY002
                inner, outer = np.sqrt(1.0 - u), np.sqrt(u)
                qx, qy = inner * np.sin(2 * np.pi * v), inner * np.cos(2 * np.pi * v)
                qz, qw = outer * np.sin(2 * np.pi * w), outer * np.cos(2 * np.pi * w)
                m[0, 0] = 1 - 2 * (qy * qy + qz * qz)
                m[0, 1] = 2 * (qx * qy - qz * qw)
                m[0, 2] = 2 * (qx * qz + qy * qw)
                m[1, 0] = 2 * (qx * qy + qz * qw)
                m[1, 1] = 1 - 2 * (qx * qx + qz * qz)
                m[1, 2] = 2 * (qy * qz - qx * qw)
                m[2, 0] = 2 * (qx * qz - qy * qw)
                m[2, 1] = 2 * (qy * qz + qx * qw)
                m[2, 2] = 1 - 2 * (qx * qx + qy * qy)
            ox, oy, oz = cx - origin[0], cy - origin[1], cz - origin[2]
            fits = True
            if needed != 0:
                ix, iy, iz = int(ox * scale + 0.5), int(oy * scale + 0.5), int(oz * scale + 0.5)
                if cells[iz, iy, ix] & needed == 0:
                    continue
            for i in range(len(reach)):
                px, py, pz = reach[i, 0], reach[i, 1], reach[i, 2]
                ix = int(np.floor((m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + ox) * scale + 0.5))
                iy = int(np.floor((m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + oy) * scale + 0.5))
                iz = int(np.floor((m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + oz) * scale + 0.5))
                if ix < 0 or iy < 0 or ix >= columns or iy >= rows:
                    continue
                if cells[min(max(iz, 0), depth - 1), iy, ix] & blocked:
                    fits = False
                    break
            if fits:
                found = True
                break
        if not found:
            return body
        for i in range(len(points)):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            ix = int(np.floor((m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + ox) * scale + 0.5))
            iy = int(np.floor((m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + oy) * scale + 0.5))
            iz = int(np.floor((m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + oz) * scale + 0.5))
            if 0 <= ix < columns and 0 <= iy < rows and 0 <= iz < depth:
                cells[iz, iy, ix] |= np.uint8(bit)
        centres[body, 0], centres[body, 1], centres[body, 2] = cx, cy, cz
        rotations[body] = m
    return len(centres)


_place = numba.njit(cache=True, nogil=True)(_place_loop)
