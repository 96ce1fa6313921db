"""Numba loop that reads turned samples of a Fourier grid, without the interpreter lock."""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eucentric.projection.slice_kernels import _tap_weights
from eucentric.typing import FloatArray

Single: TypeAlias = NDArray[np.float32]
_TURN = 2.0 * np.pi


@njit(nogil=True, cache=True, fastmath={"contract"})
def read_turned(
    grid: Single,
    matrices: FloatArray,
    shifts: FloatArray,
    scale: FloatArray,
    limit: float,
    table: Single,
    first: int,
    out: Single,
) -> None:
    """Add to out (some z, n, half n, 2) the samples at every matrix times k, for planes k_z from the row `first`.

    `grid` starts one sample below zero along x, as in :mod:`eucentric.projection.slice_kernels`. `shifts` (element, 3) are in
    parts of the box's edge; without rows, nothing is moved.
    """
    planes, n, half, _two = out.shape
    depth, height, _width, _pair = grid.shape
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for iz in range(planes):
        row = first + iz
        fz = row if 2 * row < n else row - n
        for iy in range(n):
            fy = iy if 2 * iy < n else iy - n
            for ix in range(half):
                if fz * fz + fy * fy + ix * ix >= limit * limit:
                    break
                total, other = np.float32(0.0), np.float32(0.0)
                for t in range(matrices.shape[0]):
                    m = matrices[t]
                    gx = scale[0] * (m[0, 0] * ix + m[0, 1] * fy + m[0, 2] * fz)
                    gy = scale[1] * (m[1, 0] * ix + m[1, 1] * fy + m[1, 2] * fz)
                    gz = scale[2] * (m[2, 0] * ix + m[2, 1] * fy + m[2, 2] * fz)
                    angle = 0.0
                    if shifts.shape[0] > 0:
                        moved = shifts[t]
                        angle = gx / scale[0] * moved[0] + gy / scale[1] * moved[1] + gz / scale[2] * moved[2]
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
                        plane = grid[np.uintp(z + depth if z < 0 else z)]
                        for j in range(4):
                            y = y0 - 1 + j
                            line = plane[np.uintp(y + height if y < 0 else y)]
                            weight = wz[k] * wy[j]
                            for i in range(4):
                                real += weight * wx[i] * line[x0 + i, 0]
                                imaginary += weight * wx[i] * line[x0 + i, 1]
                    imaginary *= sign
                    if angle != 0.0:
                        cosine, sine = np.float32(np.cos(_TURN * angle)), np.float32(np.sin(_TURN * angle))
                        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
                    total += real
                    other += imaginary
                out[iz, iy, ix, 0] += total
                out[iz, iy, ix, 1] += other
