"""Numba loops that spread central slices over a Fourier grid and read them from it, without the interpreter lock."""

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eucentric.typing import FloatArray

Single: TypeAlias = NDArray[np.float32]
"""Complex numbers are pairs (real, imaginary) along the last axis."""


@njit(nogil=True, cache=True, inline="always")
def _tap_weights(table: Single, part: float, out: Single) -> None:
    steps = table.shape[0] - 1
    at = np.float32(part * steps)
    row = np.uintp(min(int(at), steps - 1))
    between = at - np.float32(row)
    for i in range(4):
        out[i] = table[row, i] + between * (table[row + np.uintp(1), i] - table[row, i])


@njit(nogil=True, cache=True, fastmath={"contract"})
def spread_slices(
    slices: Single, matrices: FloatArray, scale: FloatArray, limit: float, table: Single, grid: Single
) -> None:
    """Add slices (slice, y, half x, 2) to a grid (z, y, 2 * (half x + 2)) whose x axis starts one sample below zero.

    `scale` is grid samples per slice sample (x, y, z); samples at `limit` or farther from zero are left out. The half
    that a sample stands for is not added: see :func:`eucentric.projection.slices.insert_slices`.
    """
    count, n, half, _two = slices.shape
    depth, height, _width = grid.shape
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for t in range(count):
        m = matrices[t]
        for iy in range(n):
            fy = iy if 2 * iy < n else iy - n
            for ix in range(half):
                if fy * fy + ix * ix >= limit * limit:
                    break
                real, imaginary = slices[t, iy, ix, 0], slices[t, iy, ix, 1]
                if ix == 0:
                    real, imaginary = np.float32(0.5) * real, np.float32(0.5) * imaginary
                gx = scale[0] * (m[0, 0] * ix + m[1, 0] * fy)
                gy = scale[1] * (m[0, 1] * ix + m[1, 1] * fy)
                gz = scale[2] * (m[0, 2] * ix + m[1, 2] * fy)
                if gx < 0.0:
                    gx, gy, gz, imaginary = -gx, -gy, -gz, -imaginary
                x0, y0, z0 = int(np.floor(gx)), int(np.floor(gy)), int(np.floor(gz))
                _tap_weights(table, gx - x0, wx)
                _tap_weights(table, gy - y0, wy)
                _tap_weights(table, gz - z0, wz)
                a0, a1, a2, a3 = real * wx[0], real * wx[1], real * wx[2], real * wx[3]
                b0, b1, b2, b3 = imaginary * wx[0], imaginary * wx[1], imaginary * wx[2], imaginary * wx[3]
                # taps x0 - 1 to x0 + 2, stored one sample on
                start = 2 * x0
                for k in range(4):
                    z = z0 - 1 + k
                    plane = grid[np.uintp(z + depth if z < 0 else z)]
                    for j in range(4):
                        y = y0 - 1 + j
                        out = plane[np.uintp(y + height if y < 0 else y), start : start + 8]
                        weight = wz[k] * wy[j]
                        # all eight are read before any is written, so that they go through one register
                        c0, d0 = out[0] + weight * a0, out[1] + weight * b0
                        c1, d1 = out[2] + weight * a1, out[3] + weight * b1
                        c2, d2 = out[4] + weight * a2, out[5] + weight * b2
                        c3, d3 = out[6] + weight * a3, out[7] + weight * b3
                        out[0], out[1], out[2], out[3] = c0, d0, c1, d1
                        out[4], out[5], out[6], out[7] = c2, d2, c3, d3


@njit(nogil=True, cache=True, fastmath={"contract"})
def read_slices(
    grid: Single, matrices: FloatArray, scale: FloatArray, limit: float, table: Single, slices: Single
) -> None:
    """Fill slices with what the taps of :func:`spread_slices` read from the grid; zero from `limit` on."""
    count, n, half, _two = slices.shape
    depth, height, _width, _two = grid.shape
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for t in range(count):
        m = matrices[t]
        for iy in range(n):
            fy = iy if 2 * iy < n else iy - n
            for ix in range(half):
                if fy * fy + ix * ix >= limit * limit:
                    slices[t, iy, ix, 0] = 0.0
                    slices[t, iy, ix, 1] = 0.0
                    continue
                gx = scale[0] * (m[0, 0] * ix + m[1, 0] * fy)
                gy = scale[1] * (m[0, 1] * ix + m[1, 1] * fy)
                gz = scale[2] * (m[0, 2] * ix + m[1, 2] * fy)
                sign = np.float32(1.0)
                if gx < 0.0:
                    gx, gy, gz, sign = -gx, -gy, -gz, np.float32(-1.0)
                x0, y0, z0 = int(np.floor(gx)), int(np.floor(gy)), int(np.floor(gz))
                _tap_weights(table, gx - x0, wx)
                _tap_weights(table, gy - y0, wy)
                _tap_weights(table, gz - z0, wz)
                real, imaginary = np.float32(0.0), np.float32(0.0)
                for k in range(4):
                    z = z0 - 1 + k
                    z += depth if z < 0 else 0
                    for j in range(4):
                        y = y0 - 1 + j
                        y += height if y < 0 else 0
                        weight = wz[k] * wy[j]
                        for i in range(4):
                            real += weight * wx[i] * grid[z, y, x0 + i, 0]
                            imaginary += weight * wx[i] * grid[z, y, x0 + i, 1]
                slices[t, iy, ix, 0] = real
                slices[t, iy, ix, 1] = sign * imaginary


@njit(nogil=True, cache=True, fastmath={"contract"})
def sum_pairs(
    starts: NDArray[np.int64],
    corner: NDArray[Any],
    part_y: Single,
    part_x: Single,
    weight: Single,
    width: int,
    power: Single,
    out: Single,
) -> None:
    """``out[i] = sum over pairs p of i of weight[p] * power at corner[p] + (part_y[p], part_x[p])``, bilinear."""
    for i in range(starts.shape[0] - 1):
        total = np.float32(0.0)
        for p in range(starts[i], starts[i + 1]):
            c = corner[p]
            below = power[c] + part_x[p] * (power[c + 1] - power[c])
            above = power[c + width] + part_x[p] * (power[c + width + 1] - power[c + width])
            total += weight[p] * (below + part_y[p] * (above - below))
        out[i] = total
