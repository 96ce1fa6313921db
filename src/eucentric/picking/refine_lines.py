"""A filament's rough line made exact: cross-sections registered along it, and a smoothing spline through them. numpy, A."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import make_smoothing_spline
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from eucentric.errors import ProcessingError
from eucentric.picking.centre_lines import CentreLine, centre_line
from eucentric.typing import FloatArray

_ROUNDS = 4
_MOST_SHIFT = 0.4  # diameters, of a cross-section from the line in one round
_HALF_SECTION = 1.0  # diameters from the line to the border of a cross-section
_SLICES = 8  # a diameter of length
_LEAST_FOR_SPLINE = 5  # pieces


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeSamples:
    """A volume (z, y, x) that is read at places x y z in A from its voxel n // 2."""

    values: NDArray[np.float32]
    step_angstrom: FloatArray
    """(3,), x y z."""

    @property
    def _middle(self) -> NDArray[np.int64]:
        return np.array(self.values.shape, dtype=np.int64)[::-1] // 2

    def to_angstrom(self, index_xyz: ArrayLike) -> FloatArray:
        return np.asarray((np.asarray(index_xyz, dtype=np.float64) - self._middle) * self.step_angstrom)

    def to_index(self, places_angstrom: ArrayLike) -> FloatArray:
        return np.asarray(np.asarray(places_angstrom, dtype=np.float64) / self.step_angstrom + self._middle)

    def at(self, places_angstrom: FloatArray) -> FloatArray:
        """Values (n,) between voxels, linear; 0 outside."""
        index = self.to_index(places_angstrom)[:, ::-1].T
        return np.asarray(map_coordinates(self.values, index, order=1, mode="constant", output=np.float64))

    def inside(self, places_angstrom: FloatArray) -> NDArray[np.bool_]:
        index = self.to_index(places_angstrom)
        return np.asarray(((index >= 0) & (index <= np.array(self.values.shape)[::-1] - 1)).all(axis=1))


def cheapest_path(found: VolumeSamples, ends_angstrom: FloatArray, diameter_angstrom: float) -> FloatArray:
    """(point, 3) A from one place to another through the best scores: the length counts less the higher the score."""
    index = np.round(found.to_index(ends_angstrom)).astype(np.int64)[:, ::-1]
    margin = np.ceil(3.0 * diameter_angstrom / found.step_angstrom[::-1]).astype(np.int64)
    low = np.maximum(index.min(axis=0) - margin, 0)
    high = np.minimum(index.max(axis=0) + margin + 1, found.values.shape)
    part = found.values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    price = 1.0 / np.maximum(part, 1.0) ** 2
    number = np.arange(part.size).reshape(part.shape)
    rows, columns, costs = [], [], []
    for move in np.ndindex(3, 3, 3):
        shift = np.array(move) - 1
        if tuple(shift) <= (0, 0, 0):
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(shift, part.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(shift, part.shape, strict=True))
        length = float(np.linalg.norm(shift * found.step_angstrom[::-1]))
        rows.append(number[here].ravel())
        columns.append(number[there].ravel())
        costs.append(0.5 * length * (price[here] + price[there]).ravel())
    graph = csr_matrix(
        (np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))), shape=(part.size, part.size)
    )
    start, end = (int(number[tuple(place - low)]) for place in index)
    before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)[1]  # type: ignore[call-overload]
    path = [end]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    zyx = np.stack(np.unravel_index(path[::-1], part.shape), axis=1) + low
    points = found.to_angstrom(zyx[:, ::-1])
    track = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    even = np.linspace(0.0, track[-1], max(3, 1 + round(2.0 * track[-1] / diameter_angstrom)))
    return np.stack([np.interp(even, track, points[:, k]) for k in range(3)], axis=1)


def refine_line(
    dense: VolumeSamples, rough_angstrom: FloatArray, diameter_angstrom: float, persistence_angstrom: float
) -> tuple[CentreLine, float, float]:
    """The centre line of a filament near a rough one.

    Parameters
    ----------
    dense : volume with bright filaments, its background 0
    rough_angstrom : (point, 3), two or more, within 0.4 diameters of the centre
    persistence_angstrom : how stiff it is: of a worm-like chain

    Returns
    -------
    the line; how far its pieces, placed alone, lie from it (rms, A); their uncertainty along x or y (1 sd, A)

    Raises
    ------
    ProcessingError : a line that is shorter than a diameter
    """
    line = centre_line(rough_angstrom)
    if line.length_angstrom < diameter_angstrom:
        raise ProcessingError("A filament is shorter than its diameter: its direction is not defined.")
    residual = sigma = 0.0
    for turn in range(_ROUNDS):
        pieces = max(2, round(line.length_angstrom / diameter_angstrom))
        edges = np.linspace(0.0, line.length_angstrom, pieces + 1)
        middle = 0.5 * (edges[1:] + edges[:-1])
        sections, step = _sections(dense, line, edges, diameter_angstrom)
        most = _MOST_SHIFT * diameter_angstrom / step / (1.0 if turn == 0 else 2.0)
        moves, spread = _registered(sections, diameter_angstrom / step, most)
        shifts, sigma = step * moves, step * spread
        places, frames = line.at(middle)
        raw = places + np.einsum("nij,nj->ni", frames[:, :, :2], shifts)
        penalty = max(sigma, 0.01 * step) ** 2 * persistence_angstrom
        even = np.linspace(0.0, line.length_angstrom, max(3, 2 * pieces + 1))
        smooth = np.stack([_smoothed(middle, raw[:, k], even, penalty) for k in range(3)], axis=1)
        fitted = np.stack([_smoothed(middle, raw[:, k], middle, penalty) for k in range(3)], axis=1)
        residual = float(np.sqrt(((raw - fitted) ** 2).sum(axis=1).mean()))
        line = centre_line(smooth)
    return line, residual, sigma


def _smoothed(track: FloatArray, values: FloatArray, at: FloatArray, penalty: float) -> FloatArray:
    """A smoothing spline, straight on beyond its last points; a straight line through few."""
    if len(track) < _LEAST_FOR_SPLINE:
        return np.asarray(np.polynomial.Polynomial.fit(track, values, 1)(at))
    spline = make_smoothing_spline(track, values, lam=penalty)
    inside = np.clip(at, track[0], track[-1])
    return np.asarray(spline(inside) + (at - inside) * spline.derivative()(inside))


def _sections(dense: VolumeSamples, line: CentreLine, edges: FloatArray, diameter: float) -> tuple[FloatArray, float]:
    """(piece, 2, v, u) mean cross-sections between arc lengths, of even and odd slices, and their sampling in A."""
    step = max(float(dense.step_angstrom.min()), diameter / 24.0)
    half = math.ceil(_HALF_SECTION * diameter / step)
    grid = step * np.arange(-half, half + 1)
    v, u = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    out = []
    for start, stop in pairwise(edges):
        count = 2 * max(1, math.ceil(0.5 * _SLICES * (stop - start) / diameter))
        places, frames = line.at(start + (np.arange(count) + 0.5) * (stop - start) / count)
        total = np.zeros((2, len(u)))
        for row, (place, frame) in enumerate(zip(places, frames, strict=True)):
            total[row % 2] += dense.at(place + u[:, None] * frame[:, 0] + v[:, None] * frame[:, 1])
        out.append((2.0 * total / count).reshape(2, len(grid), len(grid)))
    return np.array(out), step


def _registered(halves: FloatArray, diameter: float, most: float) -> tuple[FloatArray, float]:
    """(section, 2) where the centre of each lies, u and v in samples from the middle, and 1 sd of these places."""
    sections = halves.mean(axis=1)
    n = sections.shape[-1]
    half = n // 2
    away = np.hypot(*np.meshgrid(np.arange(n) - half, np.arange(n) - half))
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip((away - 0.6 * diameter) / (0.3 * diameter), 0.0, 1.0))
    size = 2 * n
    flat = sections - sections.mean(axis=(1, 2), keepdims=True)
    mean = flat.mean(axis=0)
    moves = np.zeros((len(sections), 2))
    transforms = np.fft.rfft2(flat, s=(size, size))
    wanted: NDArray[np.complex128] = np.zeros((1, 1), dtype=np.complex128)
    for _ in range(3):
        pattern = (mean - (mean * window).sum() / window.sum()) * window
        wanted = np.fft.rfft2(pattern, s=(size, size)).conj()
        moves = _moves(transforms * wanted, size, most)
        moves -= moves.mean(axis=0)
        mean = np.mean([_moved(t, m, size)[:n, :n] for t, m in zip(transforms, moves, strict=True)], axis=0)
    parts = np.fft.rfft2(halves - halves.mean(axis=(2, 3), keepdims=True), s=(size, size)) * wanted
    gap = _moves(parts[:, 0], size, most) - _moves(parts[:, 1], size, most)
    centre = np.zeros(2)
    for _ in range(3):
        near = np.hypot(*np.meshgrid(np.arange(n) - half - centre[0], np.arange(n) - half - centre[1]))
        soft = 0.5 + 0.5 * np.cos(np.pi * np.clip((near - 0.6 * diameter) / (0.3 * diameter), 0.0, 1.0))
        pattern = (mean - (mean * soft).sum() / soft.sum()) * soft
        twice = np.fft.irfft2(np.fft.rfft2(pattern, s=(size, size)) ** 2, s=(size, size))
        centre = 0.5 * _peak(twice, 2 * half, 2.0 * most)
    return moves + centre, float(0.5 * np.sqrt((gap**2).mean()))


def _moves(products: NDArray[np.complex128], size: int, most: float) -> FloatArray:
    """(section, 2) of the maxima of correlations."""
    correlation = np.fft.fftshift(np.fft.irfft2(products, s=(size, size)), axes=(1, 2))
    return np.array([_peak(c, size // 2, most) for c in correlation])


def _moved(transform: NDArray[np.complex128], by: FloatArray, size: int) -> FloatArray:
    """A section moved back by where it lies."""
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    return np.asarray(np.fft.irfft2(transform * np.exp(2j * np.pi * (kx * by[0] + ky * by[1])), s=(size, size)))


def _peak(image: FloatArray, middle: int, most: float) -> FloatArray:
    """(2,) x and y of the maximum, to a fraction, from the middle, not farther than `most`."""
    reach = max(1, math.floor(most))
    part = image[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    y, x = np.unravel_index(int(part.argmax()), part.shape)
    out = np.array([x - reach, y - reach], dtype=np.float64)
    for axis, (low, high) in enumerate(
        (
            (image[middle - reach + y, middle - reach + x - 1], image[middle - reach + y, middle - reach + x + 1]),
            (image[middle - reach + y - 1, middle - reach + x], image[middle - reach + y + 1, middle - reach + x]),
        )
    ):
        bend = low + high - 2.0 * part[y, x]
        if bend < 0:
            out[axis] += np.clip(0.5 * (low - high) / bend, -0.5, 0.5)
    return out
