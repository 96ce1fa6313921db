"""A surface through contours that were drawn in several slices. numpy, A, x y z from the specimen centre.

Every contour is a smooth line through its points, sampled evenly; neighbours are turned and, where that lies nearer, reversed to
fit each other, and points of equal number are joined by curves that keep between their ends (monotone cubics).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

from eucentric.errors import InputError
from eucentric.picking.centre_lines import centre_line
from eucentric.typing import FloatArray

_MOST_SIDE = 400
"""Samples along a contour, and from first to last, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """A mesh of triangles."""

    vertices_angstrom: FloatArray
    """(vertex, 3)."""
    faces: NDArray[np.int64]
    """(face, 3), counter-clockwise seen from outside where the contours are closed."""


def surface_through_contours(
    contours_angstrom: Sequence[ArrayLike], spacing_angstrom: float, *, closed: bool = False
) -> Surface:
    """The surface through two contours or more, each in a slice of its own.

    The ends of closed contours are left open: nothing was drawn there.

    Parameters
    ----------
    contours_angstrom : (point, 3) each, in any order
    spacing_angstrom : between vertices, about
    closed : the last point of each contour is joined to its first

    Raises
    ------
    InputError : fewer than two contours, too few points in one, two in one slice, or a spacing that is not positive
    """
    lines = [np.asarray(c, dtype=np.float64).reshape(-1, 3) for c in contours_angstrom]
    if len(lines) < 2:
        raise InputError("A surface needs contours in two slices or more.")
    if not spacing_angstrom > 0:
        raise InputError(f"The spacing is {spacing_angstrom:g} A; expected a positive number.")
    axis = int(np.mean([line.var(0) for line in lines], axis=0).argmin())
    lines.sort(key=lambda line: float(line[:, axis].mean()))
    height = np.array([line[:, axis].mean() for line in lines])
    if np.diff(height).min() < 1e-3:
        raise InputError("Two contours of the surface lie in one slice. Draw one in each, or two surfaces.")
    curves = [_curve(line, closed) for line in lines]
    longest = max(_length(curve) for curve in curves)
    count = int(np.clip(round(longest / spacing_angstrom), 3, _MOST_SIDE)) + (0 if closed else 1)
    rows = [_sampled(curve, count, closed) for curve in curves]
    if closed and _area(rows[0], axis) < 0:
        rows[0] = rows[0][::-1]
    for i in range(1, len(rows)):
        rows[i] = _fitted_to(rows[i], rows[i - 1], closed)
    track = np.concatenate(
        [[0.0], np.cumsum([np.linalg.norm(b - a, axis=1).mean() for a, b in itertools.pairwise(rows)])]
    )
    steps = int(np.clip(round(track[-1] / spacing_angstrom), len(rows) - 1, _MOST_SIDE))
    # the drawn contours stay rows of the mesh
    at = np.unique(np.concatenate([track, np.linspace(0.0, track[-1], steps + 1)]).round(6))
    grid = np.asarray(PchipInterpolator(track, np.stack(rows), axis=0)(np.clip(at, 0.0, track[-1])))
    return Surface(vertices_angstrom=grid.reshape(-1, 3), faces=_faces(len(at), count, closed))


def _curve(line: FloatArray, closed: bool) -> FloatArray:
    """Fine samples of a smooth line; of a closed one the first is also the last."""
    if not closed:
        return centre_line(line).places
    ring = line[np.linalg.norm(line - np.roll(line, 1, axis=0), axis=1) > 1e-6]
    if len(ring) < 3:
        raise InputError("A closed contour needs three different points or more.")
    ring = np.concatenate([ring, ring[:1]])
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    spline = CubicSpline(chord, ring, bc_type="periodic")
    return np.asarray(spline(np.linspace(0.0, chord[-1], 100 * len(ring))))


def _length(curve: FloatArray) -> float:
    return float(np.linalg.norm(np.diff(curve, axis=0), axis=1).sum())


def _sampled(curve: FloatArray, count: int, closed: bool) -> FloatArray:
    """(count, 3) evenly by arc length; of a closed curve without its end."""
    track = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    at = np.linspace(0.0, track[-1], count + 1)[:-1] if closed else np.linspace(0.0, track[-1], count)
    return np.stack([np.interp(at, track, curve[:, k]) for k in range(3)], axis=1)


def _area(ring: FloatArray, axis: int) -> float:
    """Positive where it is walked counter-clockwise about an axis."""
    return float(np.cross(ring - ring.mean(0), np.roll(ring, -1, axis=0) - ring.mean(0))[:, axis].sum())


def _fitted_to(row: FloatArray, before: FloatArray, closed: bool) -> FloatArray:
    """The same samples begun, and walked, as those of the contour before."""
    # closed ones keep their sense: a ring that is walked the other way would turn the surface inside out
    if not closed:
        return row if ((row - before) ** 2).sum() <= ((row[::-1] - before) ** 2).sum() else row[::-1]
    axis = int(row.var(0).argmin())
    if _area(row, axis) * _area(before, axis) < 0:
        row = row[::-1]
    middle = before - before.mean(0)
    turned = [np.roll(row, k, axis=0) for k in range(len(row))]
    best = min(turned, key=lambda r: float(((r - r.mean(0) - middle) ** 2).sum()))
    return np.asarray(best)


def _faces(rows: int, columns: int, closed: bool) -> NDArray[np.int64]:
    number = np.arange(rows * columns).reshape(rows, columns)
    here = number[:-1] if closed else number[:-1, :-1]
    beside = np.roll(number, -1, axis=1)[:-1] if closed else number[:-1, 1:]
    over = number[1:] if closed else number[1:, :-1]
    across = np.roll(number, -1, axis=1)[1:] if closed else number[1:, 1:]
    a, b, c, d = (part.ravel() for part in (here, beside, over, across))
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]).astype(np.int64)
