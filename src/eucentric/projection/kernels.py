"""Numba loops of the projector. Each works on one block without the interpreter lock; threads share out the blocks."""

import math
from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eucentric.typing import FloatArray, ImageArray

IndexArray: TypeAlias = NDArray[np.int64]
ComplexArray: TypeAlias = NDArray[np.complex64]


@njit(nogil=True, cache=True)
def place_image(
    image: ImageArray, mean: float, edge_y: ImageArray, edge_x: ImageArray, frame: int, swap: bool, out: ImageArray
) -> None:
    """``(image - mean) edge_y edge_x``, or its transpose, into `out`, `frame` from the corner."""
    block = 32
    height, width = image.shape
    for y_first in range(0, height, block):
        for x_first in range(0, width, block):
            for y in range(y_first, min(y_first + block, height)):
                for x in range(x_first, min(x_first + block, width)):
                    value = (image[y, x] - np.float32(mean)) * (edge_y[y] * edge_x[x])
                    if swap:
                        out[frame + x, frame + y] = value
                    else:
                        out[frame + y, frame + x] = value


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def filter_spectrum(
    spectrum: ComplexArray,
    out: ComplexArray,
    row_source: IndexArray,
    ky: FloatArray,
    kx: FloatArray,
    across: tuple[float, float],
    radial: ImageArray,
    line: ImageArray,
    along: ImageArray,
    nodes_per_unit: float,
    fade: float,
    smooth: bool,
    gain_y: ImageArray,
    gain_x: ImageArray,
    start: int,
    stop: int,
) -> None:
    """Rows start to stop of `out`: those of `spectrum` that `row_source` names (none: -1) times all gains.

    radial, line, along : tables over the frequency, its part across the tilt axis and its part along it, `nodes_per_unit` apart
    across : unit vector (x, y) across the tilt axis
    fade : ``exp(-d) (1 + d + d^2 / 2)`` with d = fade k^2 is kept where `smooth`, else what is missing to one; 0: all
    """
    columns = out.shape[1]
    last = radial.shape[0] - 2
    for i in range(start, stop):
        source = row_source[i]
        if source < 0:
            out[i] = 0.0
            continue
        y = ky[i] * nodes_per_unit
        for j in range(columns):
            x = kx[j] * nodes_per_unit
            square = x * x + y * y
            at = math.sqrt(square)
            n = int(at)
            if n > last:
                out[i, j] = 0.0
                continue
            gain = radial[n] + np.float32(at - n) * (radial[n + 1] - radial[n])
            if gain == 0.0:
                out[i, j] = 0.0
                continue
            at = abs(x * across[0] + y * across[1])
            n = min(int(at), last)
            gain *= line[n] + np.float32(at - n) * (line[n + 1] - line[n])
            if along.shape[0] > 0:
                at = abs(y * across[0] - x * across[1])
                n = min(int(at), last)
                gain *= along[n] + np.float32(at - n) * (along[n + 1] - along[n])
            depth = fade * square
            if fade > 0.0 and (smooth or depth < 24.0):
                kept = math.exp(-depth) * (1.0 + depth * (1.0 + 0.5 * depth))
                gain *= np.float32(kept if smooth else 1.0 - kept)
            out[i, j] = spectrum[source, j] * (gain * gain_y[i] * gain_x[j])


@njit(nogil=True, cache=True, inline="always")
def _sum_of_eight(acc: ImageArray, lines: ImageArray, o: IndexArray, w: ImageArray, fresh: bool) -> None:
    """``acc (+)= sum over taps of w * lines[o : o + n]``: unit stride, no gather, one pass over `acc`."""
    n = acc.shape[0]
    a, b, c, d = lines[o[0] : o[0] + n], lines[o[1] : o[1] + n], lines[o[2] : o[2] + n], lines[o[3] : o[3] + n]
    e, f, g, h = lines[o[4] : o[4] + n], lines[o[5] : o[5] + n], lines[o[6] : o[6] + n], lines[o[7] : o[7] + n]
    wa, wb, wc, wd, we, wf, wg, wh = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    if fresh:
        for x in range(n):
            acc[x] = (wa * a[x] + wb * b[x] + wc * c[x] + wd * d[x]) + (we * e[x] + wf * f[x] + wg * g[x] + wh * h[x])
    else:
        for x in range(n):
            acc[x] += (wa * a[x] + wb * b[x] + wc * c[x] + wd * d[x]) + (we * e[x] + wf * f[x] + wg * g[x] + wh * h[x])


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def add_stretched(
    volume: ImageArray,
    z_first: int,
    y_first: int,
    centre: IndexArray,
    lines: ImageArray,
    row_first: int,
    maps: FloatArray,
    phases: int,
    taps_per_tilt: int,
    y_start: int,
    y_stop: int,
) -> None:
    """Add stretched lines to the rows y_start to y_stop of `volume` (z, y, x), whose corner is at (z_first, y_first).

    lines : (tilt, row, phase, sample), rows from `row_first` on
    maps : (tilt, 6): qy, qz, q0, ry, rz, r0 of the layout
    taps_per_tilt : 2, or 4 where rows are sheared
    """
    tilts, rows, _, samples = lines.shape
    flat = lines.reshape(-1)
    tile = 16
    taps = (tilts * taps_per_tilt + 7) // 8 * 8
    offsets = np.zeros((tile, taps), np.int64)
    weights = np.zeros((tile, taps), np.float32)
    planes, _, width = volume.shape
    buffer = np.empty((tile, width), np.float32)
    start_x = -phases * centre[2]
    for y in range(y_start, y_stop):
        centred_y = y + y_first - centre[1]
        for tile_first in range(0, planes, tile):
            deep = min(tile, planes - tile_first)
            for i in range(deep):
                centred_z = tile_first + i + z_first - centre[0]
                for t in range(tilts):
                    sample = maps[t, 0] * centred_y + maps[t, 1] * centred_z + maps[t, 2] + start_x
                    first = math.floor(sample)
                    part = sample - first
                    row = maps[t, 3] * centred_y + maps[t, 4] * centred_z + maps[t, 5]
                    at_row = math.floor(row)
                    row_part = row - at_row
                    for k in range(taps_per_tilt):
                        r = at_row + k // 2
                        q = first + k % 2
                        weight = (part if k % 2 == 1 else 1.0 - part) * (row_part if k >= 2 else 1.0 - row_part)
                        n = t * taps_per_tilt + k
                        if r < row_first or r >= row_first + rows:
                            offsets[i, n] = 0
                            weights[i, n] = 0.0
                        else:
                            offsets[i, n] = ((t * rows + r - row_first) * phases + q % phases) * samples + q // phases
                            weights[i, n] = weight
            for group in range(0, taps, 8):
                for i in range(deep):
                    _sum_of_eight(
                        buffer[i], flat, offsets[i, group : group + 8], weights[i, group : group + 8], group == 0
                    )
            for i in range(deep):
                volume[tile_first + i, y, :] += buffer[i]


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def add_plain(
    volume: ImageArray,
    z_first: int,
    centre: IndexArray,
    lines: ImageArray,
    maps: FloatArray,
    y_count: int,
    y_target: int,
) -> None:
    """Add lines of plain spacing, y innermost, to rows `y_target` and on of `volume` (z, y, x).

    lines : (tilt, sample, y), a block of image rows that answer to the block of volume rows
    maps : (tilt, 3): qx, qz, q0 of the layout
    """
    tilts, samples, wide = lines.shape
    planes, _, width = volume.shape
    flat = lines.reshape(-1)
    taps = (2 * tilts + 7) // 8 * 8
    tile = 16
    offsets = np.zeros((tile, taps), np.int64)
    weights = np.zeros((tile, taps), np.float32)
    buffer = np.empty((tile, wide), np.float32)
    for z in range(planes):
        centred_z = z + z_first - centre[0]
        for x_first in range(0, width, tile):
            many = min(tile, width - x_first)
            for i in range(many):
                centred_x = x_first + i - centre[2]
                for t in range(tilts):
                    sample = maps[t, 0] * centred_x + maps[t, 1] * centred_z + maps[t, 2]
                    first = math.floor(sample)
                    part = sample - first
                    offsets[i, 2 * t] = (t * samples + first) * wide
                    offsets[i, 2 * t + 1] = (t * samples + first + 1) * wide
                    weights[i, 2 * t] = 1.0 - part
                    weights[i, 2 * t + 1] = part
            for group in range(0, taps, 8):
                for i in range(many):
                    _sum_of_eight(
                        buffer[i], flat, offsets[i, group : group + 8], weights[i, group : group + 8], group == 0
                    )
            for y in range(y_count):
                for i in range(many):
                    volume[z, y_target + y, x_first + i] += buffer[i, y]


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def add_gathered(
    volume: ImageArray,
    z_first: int,
    y_first: int,
    centre: IndexArray,
    lines: ImageArray,
    row_first: int,
    maps: FloatArray,
    y_start: int,
    y_stop: int,
) -> None:
    """Add lines of plain spacing with sheared rows, voxel by voxel: steep tilts that are tilted about x too.

    lines : (tilt, row, sample); maps : (tilt, 7): qx, qy, qz, q0, ry, rz, r0 of the layout
    """
    tilts, rows, _ = lines.shape
    planes, _, width = volume.shape
    for y in range(y_start, y_stop):
        centred_y = y + y_first - centre[1]
        for z in range(planes):
            centred_z = z + z_first - centre[0]
            for t in range(tilts):
                row = maps[t, 4] * centred_y + maps[t, 5] * centred_z + maps[t, 6]
                at_row = math.floor(row)
                row_part = row - at_row
                start = maps[t, 1] * centred_y + maps[t, 2] * centred_z + maps[t, 3] - maps[t, 0] * centre[2]
                for k in range(2):
                    r = at_row + k - row_first
                    if r < 0 or r >= rows:
                        continue
                    row_weight = row_part if k == 1 else 1.0 - row_part
                    line = lines[t, r]
                    for x in range(width):
                        sample = start + maps[t, 0] * x
                        first = int(sample)
                        part = sample - first
                        volume[z, y, x] += np.float32(
                            row_weight * (line[first] * (1.0 - part) + line[first + 1] * part)
                        )


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def spread_stretched(
    volume: ImageArray, y: int, centre: IndexArray, lines: ImageArray, maps: FloatArray, phases: int
) -> None:
    """Transpose of :func:`add_stretched` for one row of voxels and unsheared tilts, into `lines` (tilt, phase, sample).

    Every phase of a line takes one tap from every plane, so eight planes at a time are summed at unit stride.
    maps : (tilt, 2): qz and q0 plus the terms of x and y
    """
    tilts, _, _samples = lines.shape
    planes, _, width = volume.shape
    reach = 0.0
    for t in range(tilts):
        reach = max(reach, abs(maps[t, 0]))
    pad = math.ceil(7.0 * reach / phases) + 3
    padded = np.zeros((8, width + 2 * pad), np.float32)
    flat = padded.reshape(-1)
    starts = np.empty((phases, 8), np.int64)
    offsets = np.empty(8, np.int64)
    weights = np.zeros((phases, 8), np.float32)
    for group in range(0, planes, 8):
        deep = min(8, planes - group)
        for i in range(8):
            if i < deep:
                padded[i, pad : pad + width] = volume[group + i, y]
            else:
                padded[i] = 0.0
        for t in range(tilts):
            for i in range(8):
                sample = maps[t, 0] * (group + min(i, deep - 1) - centre[0]) + maps[t, 1]
                first = math.floor(sample)
                part = sample - first
                for k in range(phases):
                    starts[k, i] = (first - k + phases - 1) // phases
                    weights[k, i] = 0.0
                for k in range(2):
                    q = first + k
                    starts[q % phases, i] = q // phases
                    weights[q % phases, i] = part if k == 1 else 1.0 - part
            for k in range(phases):
                lowest, highest = starts[k].min(), starts[k].max()
                for i in range(8):
                    offsets[i] = i * (width + 2 * pad) + pad + lowest - starts[k, i]
                _sum_of_eight(lines[t, k, lowest : highest + width], flat, offsets, weights[k], False)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def spread_gathered(volume: ImageArray, centre: IndexArray, lines: ImageArray, maps: FloatArray) -> None:
    """Transpose of one tilt's read, voxel by voxel, any angle: into `lines` (row, sample).

    maps : (7,): qx, qy, qz, q0, ry, rz, r0 of the layout
    """
    planes, height, width = volume.shape
    rows = lines.shape[0]
    for y in range(height):
        centred_y = y - centre[1]
        for z in range(planes):
            centred_z = z - centre[0]
            row = maps[4] * centred_y + maps[5] * centred_z + maps[6]
            at_row = math.floor(row)
            row_part = row - at_row
            start = maps[1] * centred_y + maps[2] * centred_z + maps[3] - maps[0] * centre[2]
            for k in range(2):
                r = at_row + k
                row_weight = row_part if k == 1 else 1.0 - row_part
                if r < 0 or r >= rows or row_weight == 0.0:
                    continue
                line = lines[r]
                for x in range(width):
                    sample = start + maps[0] * x
                    first = int(sample)
                    part = sample - first
                    value = row_weight * volume[z, y, x]
                    line[first] += np.float32(value * (1.0 - part))
                    line[first + 1] += np.float32(value * part)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def _convolve_symmetric(source: ImageArray, kernel: ImageArray, out: ImageArray) -> None:
    """``out[i] = sum over j of kernel[|j|] source[i + reach + j]``, with ``len(source) = len(out) + 2 reach``."""
    n = out.shape[0]
    reach = kernel.shape[0] - 1
    middle = source[reach : reach + n]
    for i in range(n):
        out[i] = kernel[0] * middle[i]
    for j in range(1, reach + 1):
        left, right, weight = source[reach - j : reach - j + n], source[reach + j : reach + j + n], kernel[j]
        for i in range(n):
            out[i] += weight * (left[i] + right[i])


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def stretch_lines(
    images: ImageArray,
    row_start: int,
    row_stop: int,
    q0: FloatArray,
    step: FloatArray,
    weight: FloatArray,
    kernel: ImageArray,
    phases: int,
    lines: ImageArray,
) -> None:
    """Fine lines of some image rows, times a weight per tilt, into `lines` (tilt, row, phase, sample)."""
    tilts, _, width = images.shape
    reach = kernel.shape[0] - 1
    edge = reach + 4
    source = np.zeros(width + 4 * reach, np.float32)
    coefficients = np.zeros(width + 2 * edge, np.float32)
    samples = lines.shape[3]
    for t in range(tilts):
        first, last = _sample_range(q0[t], step[t], width, reach, phases * samples)
        for r in range(row_start, row_stop):
            source[2 * reach : 2 * reach + width] = images[t, r]
            _convolve_symmetric(source, kernel, coefficients[edge - reach : edge + reach + width])
            target = lines[t, r - row_start]
            target[:] = 0.0
            for q in range(first, last):
                position = (q - q0[t]) * step[t] + width // 2 + edge
                base = int(position)
                f = np.float32(position - base)
                g = np.float32(1.0) - f
                w0 = g * g * g * np.float32(1.0 / 6.0)
                w1 = np.float32(2.0 / 3.0) - f * f * (np.float32(2.0) - f) * np.float32(0.5)
                w2 = np.float32(2.0 / 3.0) - g * g * (np.float32(2.0) - g) * np.float32(0.5)
                w3 = f * f * f * np.float32(1.0 / 6.0)
                c = coefficients[base - 1 : base + 3]
                target[q % phases, q // phases] = weight[t] * (w0 * c[0] + w1 * c[1] + w2 * c[2] + w3 * c[3])


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def shrink_line(line: ImageArray, q0: float, step: float, kernel: ImageArray, out: ImageArray) -> None:
    """Transpose of :func:`stretch_lines` for one line (phase, sample) of one tilt, into a row of an image."""
    phases, samples = line.shape
    width = out.shape[0]
    reach = kernel.shape[0] - 1
    edge = reach + 4
    coefficients = np.zeros(width + 2 * edge, np.float32)
    first, last = _sample_range(q0, step, width, reach, phases * samples)
    for q in range(first, last):
        position = (q - q0) * step + width // 2 + edge
        base = int(position)
        f = np.float32(position - base)
        g = np.float32(1.0) - f
        value = line[q % phases, q // phases]
        coefficients[base - 1] += value * g * g * g * np.float32(1.0 / 6.0)
        coefficients[base] += value * (np.float32(2.0 / 3.0) - f * f * (np.float32(2.0) - f) * np.float32(0.5))
        coefficients[base + 1] += value * (np.float32(2.0 / 3.0) - g * g * (np.float32(2.0) - g) * np.float32(0.5))
        coefficients[base + 2] += value * f * f * f * np.float32(1.0 / 6.0)
    _convolve_symmetric(coefficients[edge - reach : edge + reach + width], kernel, out)


@njit(nogil=True, cache=True, inline="always")
def _sample_range(q0: float, step: float, width: int, reach: int, count: int) -> tuple[int, int]:
    """Fine samples that see any coefficient of a line: those within `reach` + 2 of its ends."""
    one = (-(width // 2) - reach - 2.0) / step + q0
    other = (width - width // 2 + reach + 1.0) / step + q0
    first = max(0, math.ceil(min(one, other)))
    last = min(count, math.floor(max(one, other)) + 1)
    return first, max(first, last)
