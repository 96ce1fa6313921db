"""Numba loops that read finely sampled images, straight or bent by a local deformation. Each works on one block."""

import math
from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eucentric.typing import FloatArray, ImageArray

IndexArray: TypeAlias = NDArray[np.int64]


@njit(nogil=True, cache=True, inline="always")
def _span(start: float, step: float, lowest: float, highest: float, first: int, last: int) -> tuple[int, int]:
    """The part of first to last (exclusive) in which ``start + j step`` lies from lowest to highest."""
    if abs(step) < 1e-12:
        return (first, last) if lowest <= start <= highest else (first, first)
    one, other = (lowest - start) / step, (highest - start) / step
    tiny = 1e-9 * (abs(one) + abs(other) + 1.0)
    first = max(first, math.ceil(min(one, other) - tiny))
    return first, max(first, min(last, math.floor(max(one, other) + tiny) + 1))


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def _read_span(
    samples: ImageArray,
    line: tuple[float, float, float, float],
    first: int,
    last: int,
    taps: ImageArray,
    out: ImageArray,
    bend: FloatArray | None,
) -> None:
    """Read ``samples[v + j dv, u + j du]`` into out[j], first <= j < last; `line` is (u, du, v, dv).

    bend : (2, n) to be added to u and v of each j
    """
    u_start, du, v_start, dv = line
    a0, a1, a2, a3 = taps[0, 0], taps[0, 1], taps[0, 2], taps[0, 3]
    b0, b1, b2, b3 = taps[1, 0], taps[1, 1], taps[1, 2], taps[1, 3]
    c0, c1, c2, c3 = taps[2, 0], taps[2, 1], taps[2, 2], taps[2, 3]
    d0, d1, d2, d3 = taps[3, 0], taps[3, 1], taps[3, 2], taps[3, 3]
    half = np.float32(0.5)
    flat, width = samples.reshape(-1), samples.shape[1]
    # unsigned places need no check for negative indices
    down, one, two, three = np.uint64(width), np.uint64(1), np.uint64(2), np.uint64(3)
    batch = 256
    weights = np.empty((8, batch), np.float32)
    places = np.empty(batch, np.uint64)
    for start in range(first, last, batch):
        many = min(batch, last - start)
        for j in range(many):
            u = u_start + (start + j) * du
            v = v_start + (start + j) * dv
            if bend is not None:
                u += bend[0, start + j]
                v += bend[1, start + j]
            u0 = np.int32(u)
            v0 = np.int32(v)
            places[j] = np.int64(v0 - 1) * width + (u0 - 1)
            s = np.float32(u - u0) - half
            q = s * s
            outer, inner = s * (b0 + q * (b1 + q * (b2 + q * b3))), s * (d0 + q * (d1 + q * (d2 + q * d3)))
            mean, middle = a0 + q * (a1 + q * (a2 + q * a3)), c0 + q * (c1 + q * (c2 + q * c3))
            weights[0, j], weights[1, j] = mean + outer, middle + inner
            weights[2, j], weights[3, j] = middle - inner, mean - outer
            s = np.float32(v - v0) - half
            q = s * s
            outer, inner = s * (b0 + q * (b1 + q * (b2 + q * b3))), s * (d0 + q * (d1 + q * (d2 + q * d3)))
            mean, middle = a0 + q * (a1 + q * (a2 + q * a3)), c0 + q * (c1 + q * (c2 + q * c3))
            weights[4, j], weights[5, j] = mean + outer, middle + inner
            weights[6, j], weights[7, j] = middle - inner, mean - outer
        for j in range(many):
            e = places[j]
            f = e + down
            g = f + down
            h = g + down
            y0, y1, y2, y3 = weights[4, j], weights[5, j], weights[6, j], weights[7, j]
            t0 = y0 * flat[e] + y1 * flat[f] + y2 * flat[g] + y3 * flat[h]
            t1 = y0 * flat[e + one] + y1 * flat[f + one] + y2 * flat[g + one] + y3 * flat[h + one]
            t2 = y0 * flat[e + two] + y1 * flat[f + two] + y2 * flat[g + two] + y3 * flat[h + two]
            t3 = y0 * flat[e + three] + y1 * flat[f + three] + y2 * flat[g + three] + y3 * flat[h + three]
            out[start + j] = (weights[0, j] * t0 + weights[1, j] * t1) + (weights[2, j] * t2 + weights[3, j] * t3)


@njit(nogil=True, cache=True)
def _bend_of_row(knots: ImageArray, spacing: int, row: int, first: int, out: FloatArray) -> None:
    """Bilinear values of `knots` in one row from place `first` on, into out (2, n)."""
    n = out.shape[1]
    at_row = row // spacing
    down = (row - at_row * spacing) / spacing
    j = 0
    while j < n:
        knot = (first + j) // spacing
        stop = min(n, (knot + 1) * spacing - first)
        for axis in range(2):
            left = knots[at_row, knot, axis] * (1.0 - down) + knots[at_row + 1, knot, axis] * down
            right = knots[at_row, knot + 1, axis] * (1.0 - down) + knots[at_row + 1, knot + 1, axis] * down
            slope = (right - left) / spacing
            start = left + (first - knot * spacing) * slope
            for k in range(j, stop):
                out[axis, k] = start + k * slope
        j = stop


@njit(nogil=True, cache=True)
def _read_bent(
    samples: ImageArray,
    tail: ImageArray,
    line: FloatArray,
    bend: FloatArray,
    inside: FloatArray,
    tail_map: FloatArray,
    tail_inside: FloatArray,
    taps: ImageArray,
    out: ImageArray,
) -> None:
    """One row of :func:`sample_rows` at bent places: run by run of those that lie in the samples, the tail, or neither."""
    n = out.shape[0]
    u, du, v, dv = line
    has_tail = tail.shape[0] > 0
    far = np.empty((2, n if has_tail else 0))
    where = np.empty(n, np.int8)
    for j in range(n):
        at_u, at_v = u + j * du + bend[0, j], v + j * dv + bend[1, j]
        kind = 0
        if inside[0] <= at_u <= inside[1] and inside[2] <= at_v <= inside[3]:
            kind = 2
        elif has_tail:
            far[0, j], far[1, j] = bend[0, j] * tail_map[0], bend[1, j] * tail_map[1]
            tail_u, tail_v = at_u * tail_map[0] + tail_map[2], at_v * tail_map[1] + tail_map[3]
            if tail_inside[0] <= tail_u <= tail_inside[1] and tail_inside[2] <= tail_v <= tail_inside[3]:
                kind = 1
        where[j] = kind
    first = 0
    while first < n:
        last = first + 1
        while last < n and where[last] == where[first]:
            last += 1
        if where[first] == 2:
            _read_span(samples, (u, du, v, dv), first, last, taps, out, bend)
        elif where[first] == 1:
            outer = (u * tail_map[0] + tail_map[2], du * tail_map[0], v * tail_map[1] + tail_map[3], dv * tail_map[1])
            _read_span(tail, outer, first, last, taps, out, far)
        else:
            out[first:last] = 0.0
        first = last


@njit(nogil=True, cache=True)
def sample_rows(
    samples: ImageArray,
    tail: ImageArray,
    lines: FloatArray,
    inside: FloatArray,
    tail_map: FloatArray,
    tail_inside: FloatArray,
    taps: ImageArray,
    out: ImageArray,
    knots: ImageArray | None,
    spacing: int,
    first_row: int,
    first_place: int,
) -> None:
    """Read rows of places, each evenly spaced along a straight line, from fine samples of one image into out (row, n).

    lines : (row, 4): u, du, v, dv in fine samples
    knots : (knot, knot, 2), what is added to u and v at every `spacing`-th row and place, counted from `first_row` and
        `first_place` back; linear between
    inside : (4,): lowest and highest u, lowest and highest v to which the samples hold
    tail : what lies outside, on coarse samples; at ``(u, v) * tail_map[0:2] + tail_map[2:4]``, zero past `tail_inside`
    """
    n = out.shape[1]
    if knots is not None:
        bend = np.empty((2, n))
        for i in range(out.shape[0]):
            _bend_of_row(knots, spacing, first_row + i, first_place, bend)
            _read_bent(samples, tail, lines[i], bend, inside, tail_map, tail_inside, taps, out[i])
        return
    for i in range(out.shape[0]):
        u, du, v, dv = lines[i]
        first, last = _span(u, du, inside[0], inside[1], 0, n)
        first, last = _span(v, dv, inside[2], inside[3], first, last)
        _read_span(samples, (u, du, v, dv), first, last, taps, out[i], None)
        if last <= first:
            first, last = n, n
        out[i, :first] = 0.0
        out[i, last:] = 0.0
        if tail.shape[0] > 0 and last - first < n:
            u, du = u * tail_map[0] + tail_map[2], du * tail_map[0]
            v, dv = v * tail_map[1] + tail_map[3], dv * tail_map[1]
            far, end = _span(u, du, tail_inside[0], tail_inside[1], 0, n)
            far, end = _span(v, dv, tail_inside[2], tail_inside[3], far, end)
            _read_span(tail, (u, du, v, dv), far, min(first, end), taps, out[i], None)
            _read_span(tail, (u, du, v, dv), max(last, far), end, taps, out[i], None)


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def read_lines(
    samples: ImageArray,
    tails: ImageArray,
    starts: FloatArray,
    index: IndexArray,
    needed: IndexArray,
    inside: FloatArray,
    tail_map: FloatArray,
    tail_inside: FloatArray,
    taps: ImageArray,
    halfway: ImageArray,
    row_start: int,
    doublings: int,
    out: ImageArray,
    bends: ImageArray | None,
    spacing: int,
) -> None:
    """Fine lines of the tilts `index` for some rows, into out (tilt, row, phase, sample).

    starts : (tilt, 6): u and v of the first place read in row 0, their steps along a line, and from row to row
    needed : (tilt of `index`, 2): first sample that is read by any voxel, and the one after the last
    bends : (tilt, knot, knot, 2), `spacing`: see :func:`sample_rows`
    halfway : weights of the pairs around a point between two samples; each doubling leaves out 4 samples at both ends
    """
    tilts, rows, phases, count = out.shape
    pairs = halfway.shape[0]
    coarse = 2**doublings
    line = np.empty((1, 4))
    for i in range(tilts):
        t = index[i]
        # whole samples of every phase, and a whole number of places that are read
        first = needed[i, 0] // (phases * coarse) * coarse
        last = min(count, (needed[i, 1] + phases - 1) // phases)
        wide = (last - first) * phases
        for _ in range(doublings):
            wide = (wide + 1) // 2 + 2 * pairs
        read = np.empty((1, wide), np.float32)
        skip = first * phases // coarse
        for r in range(rows):
            row = row_start + r
            line[0, 0], line[0, 1] = starts[t, 0] + row * starts[t, 4] + skip * starts[t, 2], starts[t, 2]
            line[0, 2], line[0, 3] = starts[t, 1] + row * starts[t, 5] + skip * starts[t, 3], starts[t, 3]
            if bends is None:
                sample_rows(samples[t], tails[t], line, inside, tail_map, tail_inside, taps, read, None, 1, 0, 0)
            else:
                knots = bends[t]
                sample_rows(
                    samples[t], tails[t], line, inside, tail_map, tail_inside, taps, read, knots, spacing, row, skip
                )
            current = read[0]
            for _ in range(doublings):
                n = current.shape[0] - 2 * pairs
                finer, middle = np.empty(2 * n, np.float32), np.empty(n, np.float32)
                _halfway(current, halfway, middle)
                for j in range(n):
                    finer[2 * j] = current[pairs + j]
                    finer[2 * j + 1] = middle[j]
                current = finer
            target = out[i, r]
            target[:, :first] = 0.0
            target[:, last:] = 0.0
            for p in range(phases):
                for j in range(last - first):
                    target[p, first + j] = current[j * phases + p]


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
def _halfway(source: ImageArray, weights: ImageArray, out: ImageArray) -> None:
    n, pairs = out.shape[0], weights.shape[0]
    for j in range(pairs):
        left, right, weight = source[pairs - j : pairs - j + n], source[pairs + 1 + j : pairs + 1 + j + n], weights[j]
        if j == 0:
            for i in range(n):
                out[i] = weight * (left[i] + right[i])
        else:
            for i in range(n):
                out[i] += weight * (left[i] + right[i])
