"""Filaments as labels: broken pieces joined, centre lines painted as tubes, and what is told of each. numpy, A from voxel n // 2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.errors import InputError
from eucentric.typing import FloatArray

_STRAIGHT = 1.0  # diameters at the end of a piece that tell its direction
_BESIDE = 0.5  # diameters that one end may lie beside the other's direction, however short the gap
_END = 0.5  # voxels beyond the last point of a line that still belong to it


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """Which ends of pieces are ends of one gap."""

    gap_angstrom: float
    """At most, between the ends."""
    angle_deg: float
    """At most, of the gap to either end, and of one end to the other."""


def link_pieces(
    pieces: Sequence[FloatArray], diameter_angstrom: float, limits: LinkLimits
) -> list[list[tuple[int, bool]]]:
    """Which pieces make one filament: chains of (piece, whether it is taken from its last point to its first).

    Two ends are joined where each points to the other. The nearest are joined first, each end once; no ring is closed.

    Parameters
    ----------
    pieces : (point, 3) x y z each, in order along the piece
    diameter_angstrom : of the filament; an end may lie half of it beside the other's direction

    Raises
    ------
    InputError : a negative gap, or an angle that is not between 0 and 90 degrees
    """
    if not (limits.gap_angstrom >= 0 and 0 < limits.angle_deg <= 90):
        raise InputError(
            f"A gap of {limits.gap_angstrom:g} A at {limits.angle_deg:g} degrees was given; expected a gap of 0 or more, and an "
            "angle up to 90 degrees."
        )
    ends = [(number, last) for number in range(len(pieces)) for last in (False, True)]
    places = {(n, last): np.asarray(pieces[n][-1 if last else 0]) for n, last in ends}
    ways = {(n, last): _outwards(pieces[n], last, _STRAIGHT * diameter_angstrom) for n, last in ends}
    steep = math.cos(math.radians(limits.angle_deg))
    found = []
    for a, b in combinations(ends, 2):
        gap = places[b] - places[a]
        length = float(np.linalg.norm(gap))
        if a[0] == b[0] or length > limits.gap_angstrom or float(ways[a] @ -ways[b]) < steep:
            continue
        if all(_points_to(way, to, diameter_angstrom, steep) for way, to in ((ways[a], gap), (ways[b], -gap))):
            found.append((length, a, b))
    joined: dict[tuple[int, bool], tuple[int, bool]] = {}
    owner = list(range(len(pieces)))
    for _, a, b in sorted(found):
        if a in joined or b in joined or owner[a[0]] == owner[b[0]]:
            continue
        joined[a], joined[b] = b, a
        owner = [owner[a[0]] if one == owner[b[0]] else one for one in owner]
    chains = []
    seen: set[int] = set()
    for number, last in ends:
        if number in seen or (number, last) in joined:
            continue
        chain, start = [], (number, last)
        while True:
            seen.add(start[0])
            chain.append(start)
            beyond = joined.get((start[0], not start[1]))
            if beyond is None:
                break
            start = beyond
        chains.append(chain)
    return sorted(chains)


def _outwards(piece: FloatArray, last: bool, reach: float) -> FloatArray:
    """Unit vector out of an end."""
    points = np.asarray(piece)[::-1] if last else np.asarray(piece)
    away = np.linalg.norm(points - points[0], axis=1)
    inner = points[min(int(np.argmax(away >= reach)) or len(points) - 1, len(points) - 1)]
    return np.asarray((points[0] - inner) / np.linalg.norm(points[0] - inner))


def _points_to(way: FloatArray, gap: FloatArray, diameter: float, steep: float) -> bool:
    ahead = float(way @ gap)
    beside = math.sqrt(max(float(gap @ gap) - ahead**2, 0.0))
    # ends that overlap a little, or lie beside each other, have no direction of their own
    near = beside <= _BESIDE * diameter and abs(ahead) <= diameter
    return near or (ahead > 0 and ahead >= steep * math.hypot(ahead, beside))


def paint_tubes(
    lines: Sequence[FloatArray], shape: tuple[int, int, int], voxel_size: float, diameter_angstrom: float
) -> NDArray[np.int32]:
    """Labels (z, y, x) of filled tubes along lines, numbered from 1 in their order; where two meet the nearer axis counts.

    Parameters
    ----------
    lines : (point, 3) x y z each, in order and no farther apart than a voxel
    voxel_size : A
    diameter_angstrom : of the tubes, which end flat at the ends of their lines

    Raises
    ------
    InputError : sizes that are not positive, or points that are farther apart
    """
    if not (voxel_size > 0 and diameter_angstrom > 0):
        raise InputError(
            f"A diameter of {diameter_angstrom:g} A on voxels of {voxel_size:g} A was given; expected positive numbers."
        )
    labels = np.zeros(shape, dtype=np.int32)
    nearest = np.full(shape, np.inf, dtype=np.float32)
    size, middle = np.array(shape)[::-1], np.array(shape)[::-1] // 2
    radius = diameter_angstrom / voxel_size / 2.0
    for number, line in enumerate(lines, 1):
        points = np.asarray(line, dtype=np.float64) / voxel_size + middle
        if np.linalg.norm(np.diff(points, axis=0), axis=1).max(initial=0.0) > 1.001:
            raise InputError("The points of a filament lie more than a voxel apart. Sample its line more finely.")
        tangent = np.gradient(points, axis=0)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        tree = cKDTree(points)
        # by pieces, so that the box of a slanting line holds few voxels that are far from it
        step = max(2, math.ceil(2.0 * radius))
        for start in range(0, len(points), step):
            part = points[start : start + step]
            low = np.maximum(np.floor(part.min(axis=0) - radius - 1.0), 0).astype(int)
            high = np.minimum(np.ceil(part.max(axis=0) + radius + 2.0), size).astype(int)
            if (high <= low).any():
                continue
            grid = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
            voxels = np.stack([g.ravel() for g in grid], axis=1)
            near, index = (np.asarray(v) for v in tree.query(voxels, distance_upper_bound=radius + 1.5))
            voxels, index = voxels[np.isfinite(near)], index[np.isfinite(near)]
            away = voxels - points[index]
            along = np.einsum("ni,ni->n", away, tangent[index])
            across = np.sqrt(np.maximum((away**2).sum(axis=1) - along**2, 0.0))
            beyond = ((index == 0) & (along < -_END)) | ((index == len(points) - 1) & (along > _END))
            inside = (across <= radius) & ~beyond
            place = tuple(voxels[inside][:, ::-1].T)
            better = across[inside] < nearest[place]
            place = tuple(axis[better] for axis in place)
            nearest[place] = across[inside][better]
            labels[place] = number
    return labels


def mean_curvature(line: FloatArray, span_angstrom: float) -> float:
    """Mean size of the curvature along a line, 1/A: turns between neighbouring chords over their length.

    Parameters
    ----------
    line : (point, 3) in order, closely and evenly
    span_angstrom : of a chord; what bends within it is not seen, nor is the noise of single points
    """
    points = np.asarray(line, dtype=np.float64)
    track = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    count = max(2, round(track[-1] / span_angstrom))
    even = np.linspace(0.0, track[-1], count + 1)
    chords = np.diff(np.stack([np.interp(even, track, points[:, k]) for k in range(3)], axis=1), axis=0)
    chords /= np.linalg.norm(chords, axis=1, keepdims=True)
    turns = np.arccos(np.clip((chords[1:] * chords[:-1]).sum(axis=1), -1.0, 1.0))
    return float(turns.mean() * count / track[-1])
