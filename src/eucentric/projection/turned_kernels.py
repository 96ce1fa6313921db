"""Numba loops that read the transform of a turned particle on the samples of a cube, without the interpreter lock."""

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eucentric.typing import FloatArray

_BLOCK = 128  # points whose slopes stay in the cache

Single: TypeAlias = NDArray[np.float32]
"""Complex numbers are pairs (real, imaginary) along the last axis."""


@njit(nogil=True, cache=True, inline="always")
def _cell(place: Any, size: int) -> Any:
    """First sample of the cell in which a place lies, and how far on it lies, as float32."""
    base = min(max(int(place), 0), size - 2)
    return np.uintp(base), np.float32(place - np.float32(base))


@njit(nogil=True, cache=True, inline="always")
def _read(grid: Single, x: Any, y: Any, z: Any, fx: Any, fy: Any, fz: Any) -> Any:
    """Linear interpolation between eight samples."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    x2 = two * x
    ex = np.float32(1.0) - fx
    a, b = grid[z, y], grid[z, y + one]
    c, d = grid[z + one, y], grid[z + one, y + one]
    wa = (np.float32(1.0) - fz) * (np.float32(1.0) - fy)
    wb, wc, wd = (np.float32(1.0) - fz) * fy, fz * (np.float32(1.0) - fy), fz * fy
    real0 = wa * a[x2] + wb * b[x2] + wc * c[x2] + wd * d[x2]
    imag0 = wa * a[x2 + one] + wb * b[x2 + one] + wc * c[x2 + one] + wd * d[x2 + one]
    real1 = wa * a[x2 + two] + wb * b[x2 + two] + wc * c[x2 + two] + wd * d[x2 + two]
    imag1 = wa * a[x2 + three] + wb * b[x2 + three] + wc * c[x2 + three] + wd * d[x2 + three]
    return ex * real0 + fx * real1, ex * imag0 + fx * imag1


@njit(nogil=True, cache=True, fastmath={"contract"})
def read_turned(grid: Single, places: Single, rotations: Single, out: Single) -> None:
    """Fill out (rotation, point, 2) with a grid (z, y, 2 x), its zero frequency in the middle, read at R^T place."""
    size = grid.shape[0]
    middle = np.float32(size // 2)
    for n in range(rotations.shape[0]):
        m = rotations[n]
        for p in range(places.shape[0]):
            kx, ky, kz = places[p, 0], places[p, 1], places[p, 2]
            x, fx = _cell(kx * m[0, 0] + ky * m[1, 0] + kz * m[2, 0] + middle, size)
            y, fy = _cell(kx * m[0, 1] + ky * m[1, 1] + kz * m[2, 1] + middle, size)
            z, fz = _cell(kx * m[0, 2] + ky * m[1, 2] + kz * m[2, 2] + middle, size)
            out[n, p, 0], out[n, p, 1] = _read(grid, x, y, z, fx, fy, fz)


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def score_turned(
    grid: Single,
    places: Single,
    lines: NDArray[np.int64],
    rotations: Single,
    data: Single,
    power: Single,
    phases: Single,
    out: Single,
) -> None:
    """Fill out (rotation, z move, y move, x move) with Re sum data conj(T) exp(i k t) over the norm of T.

    lines (line, 4): first point of a line along x, points in it, its row and its plane; phases (3, move, sample, 2):
    exp(i k t) of the samples along x, y and z. One sum for each axis: a point costs as many products as there are moves along x.
    """
    size, count = grid.shape[0], phases.shape[1]
    middle = np.float32(size // 2)
    along, plane = np.empty((count, 2), np.float32), np.empty((count, count, 2), np.float32)
    product = np.empty((phases.shape[2], 2), np.float32)
    for n in range(rotations.shape[0]):
        m, total = rotations[n], out[n]
        total[:] = 0.0
        plane[:] = 0.0
        norm: Any = 0.0
        for i in range(lines.shape[0]):
            first, length, row, level = lines[i, 0], lines[i, 1], lines[i, 2], lines[i, 3]
            part = np.float32(0.0)
            for j in range(length):
                p = np.uintp(first + j)
                kx, ky, kz = places[p, 0], places[p, 1], places[p, 2]
                x, fx = _cell(kx * m[0, 0] + ky * m[1, 0] + kz * m[2, 0] + middle, size)
                y, fy = _cell(kx * m[0, 1] + ky * m[1, 1] + kz * m[2, 1] + middle, size)
                z, fz = _cell(kx * m[0, 2] + ky * m[1, 2] + kz * m[2, 2] + middle, size)
                real, imaginary = _read(grid, x, y, z, fx, fy, fz)
                part += power[p] * (real * real + imaginary * imaginary)
                product[j, 0] = data[p, 0] * real + data[p, 1] * imaginary
                product[j, 1] = data[p, 1] * real - data[p, 0] * imaginary
            norm += part
            for a in range(count):
                turn = phases[0, a]
                real, imaginary = np.float32(0.0), np.float32(0.0)
                for j in range(length):
                    real += product[j, 0] * turn[j, 0] - product[j, 1] * turn[j, 1]
                    imaginary += product[j, 0] * turn[j, 1] + product[j, 1] * turn[j, 0]
                along[a, 0], along[a, 1] = real, imaginary
            for b in range(count):
                c, s = phases[1, b, row, 0], phases[1, b, row, 1]
                for a in range(count):
                    plane[b, a, 0] += c * along[a, 0] - s * along[a, 1]
                    plane[b, a, 1] += c * along[a, 1] + s * along[a, 0]
            if i + 1 == lines.shape[0] or lines[i + 1, 3] != level:
                for d in range(count):
                    c, s = phases[2, d, level, 0], phases[2, d, level, 1]
                    for b in range(count):
                        for a in range(count):
                            total[d, b, a] += c * plane[b, a, 0] - s * plane[b, a, 1]
                plane[:] = 0.0
        scale = np.float32(1.0 / np.sqrt(max(norm, 1e-30)))
        for d in range(count):
            for b in range(count):
                for a in range(count):
                    total[d, b, a] *= scale


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _products(u: Single, weights: Single, values: Single, count: int, sums: FloatArray) -> None:
    """Add the products of a block's slopes (7, 2, point) with each other and with its data (2, point)."""
    weighted = np.empty((2, _BLOCK), np.float32)
    for i in range(7):
        for p in range(count):
            weighted[0, p], weighted[1, p] = weights[p] * u[i, 0, p], weights[p] * u[i, 1, p]
        for j in range(i, 7):
            total = np.float32(0.0)
            for p in range(count):
                total += weighted[0, p] * u[j, 0, p] + weighted[1, p] * u[j, 1, p]
            sums[i, j] += total
        total = np.float32(0.0)
        for p in range(count):
            total += u[i, 0, p] * values[0, p] + u[i, 1, p] * values[1, p]
        sums[i, 7] += total


@njit(nogil=True, cache=True, fastmath={"contract"})
def slope_sums(grid: Single, places: Single, rotation: Single, data: Single, power: Single, out: FloatArray) -> None:
    """Fill out (8, 8) with sums over the points of products of T, its six slopes and the data.

    Row 0 and column 0 belong to T, 1 to 3 to turns about x, y and z in radians, 4 to 6 to moves along x, y and z, with k in
    samples, 7 to the data. Among T and its slopes a product is Re(a conj(b)) times the power; with the data it is plain.
    """
    size = grid.shape[0]
    middle = np.float32(size // 2)
    m = rotation
    u, values, weights = (
        np.empty((7, 2, _BLOCK), np.float32),
        np.empty((2, _BLOCK), np.float32),
        np.empty(_BLOCK, np.float32),
    )
    sums = np.zeros((8, 8), np.float64)
    one, two = np.uintp(1), np.uintp(2)
    for start in range(0, places.shape[0], _BLOCK):
        count = min(_BLOCK, places.shape[0] - start)
        for i in range(count):
            p = np.uintp(start + i)
            n = np.uintp(i)
            kx, ky, kz = places[p, 0], places[p, 1], places[p, 2]
            x, fx = _cell(kx * m[0, 0] + ky * m[1, 0] + kz * m[2, 0] + middle, size)
            y, fy = _cell(kx * m[0, 1] + ky * m[1, 1] + kz * m[2, 1] + middle, size)
            z, fz = _cell(kx * m[0, 2] + ky * m[1, 2] + kz * m[2, 2] + middle, size)
            ex, ey, ez = np.float32(1.0) - fx, np.float32(1.0) - fy, np.float32(1.0) - fz
            for part in range(2):
                at = two * x + np.uintp(part)
                a0, a1 = grid[z, y, at], grid[z, y, at + two]
                b0, b1 = grid[z, y + one, at], grid[z, y + one, at + two]
                c0, c1 = grid[z + one, y, at], grid[z + one, y, at + two]
                d0, d1 = grid[z + one, y + one, at], grid[z + one, y + one, at + two]
                a, b, c, d = ex * a0 + fx * a1, ex * b0 + fx * b1, ex * c0 + fx * c1, ex * d0 + fx * d1
                u[0, part, n] = ez * (ey * a + fy * b) + fz * (ey * c + fy * d)
                gx = ez * (ey * (a1 - a0) + fy * (b1 - b0)) + fz * (ey * (c1 - c0) + fy * (d1 - d0))
                gy = ez * (b - a) + fz * (d - c)
                gz = ey * (c - a) + fy * (d - b)
                # the slope in the frame of the specimen, then its product with the change of the place
                sx = m[0, 0] * gx + m[0, 1] * gy + m[0, 2] * gz
                sy = m[1, 0] * gx + m[1, 1] * gy + m[1, 2] * gz
                sz = m[2, 0] * gx + m[2, 1] * gy + m[2, 2] * gz
                u[1, part, n], u[2, part, n], u[3, part, n] = sy * kz - sz * ky, sz * kx - sx * kz, sx * ky - sy * kx
                values[part, n] = data[p, part]
            real, imaginary = u[0, 0, n], u[0, 1, n]
            u[4, 0, n], u[4, 1, n] = kx * imaginary, -kx * real
            u[5, 0, n], u[5, 1, n] = ky * imaginary, -ky * real
            u[6, 0, n], u[6, 1, n] = kz * imaginary, -kz * real
            weights[n] = power[p]
        _products(u, weights, values, count, sums)
    for i in range(8):
        for j in range(8):
            out[i, j] = sums[min(i, j), max(i, j)]
