"""The projector's loops on the CPU: blocks shared out over threads of our own.

The kernels release the interpreter lock and use no Numba threading layer, so that any number of threads or Dask
workers may call them at once (two threads in parallel Numba kernels abort under the workqueue layer).
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from eucentric.projection import kernels, line_kernels
from eucentric.projection.bends import Bends
from eucentric.projection.interpolation import halfway_taps, tap_polynomials
from eucentric.projection.layout import PHASES, LineLayout
from eucentric.projection.plan import FinePlan, Gains, read_limits
from eucentric.projection.splines import REACH, prefilter_kernel
from eucentric.typing import FloatArray


def run_blocks(count: int, block: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` for every block of `count` items, on as many threads as torch may use."""
    starts = range(0, count, block)
    threads = min(torch.get_num_threads(), len(starts))
    if threads <= 1:
        for start in starts:
            work(start, min(start + block, count))
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, start, min(start + block, count)) for start in starts]:
            done.result()


def run_items(count: int, work: Callable[[int], None]) -> None:
    """Call ``work(item)`` for every item, on as many threads as torch may use, each of which gives torch one.

    One transform a thread needs no barriers: those stall the whole step where the cores are taken by others.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        for item in range(count):
            work(item)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(work, item) for item in range(count)]:
                done.result()
    finally:
        torch.set_num_threads(before)


def is_fast(data: Tensor) -> bool:
    """The loops of this module serve float32 on the CPU."""
    return data.device.type == "cpu" and data.dtype == torch.float32 and not data.requires_grad


def filter_spectrum(
    spectrum: Tensor,
    out: Tensor,
    row_source: np.ndarray,
    frequencies: tuple[FloatArray, FloatArray],
    across: tuple[float, float],
    gains: Gains,
    spread: float,
    inverse: tuple[FloatArray, FloatArray],
) -> None:
    """Fill `out` with rows of `spectrum` times their gains; see :func:`eucentric.projection.resampling.fine_samples`."""
    source, target = spectrum.contiguous().numpy(), out.numpy()
    along = np.empty(0, np.float32) if gains.along is None else gains.along.numpy()
    radial, line, nodes = gains.radial.numpy(), gains.line.numpy(), gains.nodes_per_unit
    fade, smooth = 2.0 * (math.pi * spread / nodes) ** 2, spread > 0.0
    rows, columns = inverse[0].astype(np.float32), inverse[1].astype(np.float32)
    ky, kx = frequencies

    def work(start: int, stop: int) -> None:
        kernels.filter_spectrum(
            source,
            target,
            row_source,
            ky,
            kx,
            across,
            radial,
            line,
            along,
            nodes,
            fade,
            smooth,
            rows,
            columns,
            start,
            stop,
        )

    run_blocks(len(target), 256, work)


def sample_rows(fine: Tensor, starts: FloatArray, plan: FinePlan, out: Tensor, bends: Bends | None = None) -> None:
    """Fill `out` (y, x) with evenly spaced reads; see :func:`eucentric.projection.resampling.sample_spline`.

    `bends` is that of the one image.
    """
    source, target, limits, taps = fine.numpy(), out.numpy(), read_limits(plan), tap_polynomials().astype(np.float32)
    none = np.empty((0, 0), np.float32)
    lines = starts[[0, 2, 1, 3]] + np.arange(len(target))[:, None] * np.array([starts[4], 0.0, starts[5], 0.0])
    knots, spacing = (None, 1) if bends is None else (bends.knots[0].numpy(), bends.spacing)

    def work(start: int, stop: int) -> None:
        part = target[start:stop]
        line_kernels.sample_rows(source, none, lines[start:stop], *limits, taps, part, knots, spacing, start, 0)

    run_blocks(len(target), 64, work)


def place_image(image: Tensor, edges: tuple[Tensor, Tensor], frame: int, swap: bool, out: Tensor) -> None:
    """The image less its mean, tapered by the `edges` of its rows and columns, into a frame; transposed if `swap`."""
    window = (edges[0].numpy(), edges[1].numpy())
    kernels.place_image(image.numpy(), float(image.mean()), *window, frame, swap, out.numpy())


def read_lines(
    samples: Tensor,
    tails: Tensor,
    starts: FloatArray,
    plan: FinePlan,
    index: np.ndarray,
    layout: LineLayout,
    doublings: int,
    bends: Bends | None,
    start: int,
    stop: int,
    out: np.ndarray,
) -> None:
    """Write the lines of image rows start to stop, of the tilts `index`, to out (tilt, row, phase, sample)."""
    constants = (*read_limits(plan), tap_polynomials().astype(np.float32), halfway_taps().astype(np.float32))
    line_kernels.read_lines(
        samples.numpy(),
        tails.numpy(),
        starts,
        index,
        layout.needed[index],
        *constants,
        start,
        doublings,
        out[:, : stop - start],
        None if bends is None else bends.knots.numpy(),
        1 if bends is None else bends.spacing,
    )


def back_project_cpu(
    images: Tensor, layout: LineLayout, weights: np.ndarray, volume: Tensor, z_offset: int = 0
) -> None:
    """Add the weighted back-projection of images (tilt, y, x) to a volume (z, y, x) whose centre is at `z_offset`."""
    source = images.contiguous().numpy()
    kernel = prefilter_kernel(torch.float32).numpy()[REACH:]
    for index in (np.flatnonzero(layout.stretched), np.flatnonzero(~layout.stretched)):
        if len(index):
            part = layout.select(index)
            phases = PHASES if part.stretched[0] else 1
            chosen = source if len(index) == len(layout) else source[index]
            factor = weights[index].astype(np.float32)
            fill = partial(_stretch, chosen, part, factor, kernel, phases)
            add_lines_cpu(volume, part, fill, z_start=z_offset)


def _stretch(
    images: np.ndarray,
    layout: LineLayout,
    factor: np.ndarray,
    kernel: np.ndarray,
    phases: int,
    start: int,
    stop: int,
    lines: np.ndarray,
) -> None:
    kernels.stretch_lines(images, start, stop, layout.q0, layout.step, factor, kernel, phases, lines)


def add_lines_cpu(
    volume: Tensor,
    layout: LineLayout,
    fill: Callable[[int, int, np.ndarray], None],
    *,
    whole_shape: tuple[int, int, int] | None = None,
    z_start: int = 0,
    rows_at_once: int = 32,
    y_range: tuple[int, int] | None = None,
) -> None:
    """Add fine lines to a volume, a block of rows a thread at a time. All tilts of `layout` are stretched, or none is.

    Parameters
    ----------
    volume : (z, y, x) float32; the planes from `z_start` on of a volume of `whole_shape`
    fill : ``fill(first row, last row + 1, out)`` writes those image rows to out (tilt, row, phase, sample)
    y_range : rows of the volume to work on; all of them where None
    """
    target = volume.numpy()
    whole = whole_shape or target.shape
    centre = np.array([n // 2 for n in whole])
    stretched = bool(layout.stretched[0])
    phases = layout.phases if stretched else 1
    y_first, y_last = y_range or (0, whole[1])
    names = ("qx", "qy", "qz", "q0", "ry", "rz", "r0")
    maps = np.stack([getattr(layout, n) for n in names], axis=1)

    def work(start: int, stop: int) -> None:
        start, stop = start + y_first, stop + y_first
        lowest, highest = _rows_needed(layout, (start, stop), z_start, target.shape[0], centre)
        if highest <= lowest:
            return
        lines = np.empty((len(layout), highest - lowest, phases, layout.length // phases), np.float32)
        fill(lowest, highest, lines)
        if stretched:
            taps = 4 if layout.sheared else 2
            kernels.add_stretched(target, z_start, 0, centre, lines, lowest, maps[:, 1:], phases, taps, start, stop)
        elif layout.sheared:
            kernels.add_gathered(target, z_start, 0, centre, lines[:, :, 0], lowest, maps, start, stop)
        else:
            first_y = max(start, lowest - int(layout.r0[0]) + int(centre[1]))
            inner = np.ascontiguousarray(lines[:, :, 0].transpose(0, 2, 1))
            steep = np.ascontiguousarray(maps[:, [0, 2, 3]])
            kernels.add_plain(target, z_start, centre, inner, steep, highest - lowest, first_y)

    # few rows at a time keep unsheared stretched lines in the cache; sheared rows and plain lines want wide blocks
    run_blocks(y_last - y_first, 4 if stretched and not layout.sheared else rows_at_once, work)


def _rows_needed(
    layout: LineLayout, y_range: tuple[int, int], z_start: int, planes: int, centre: np.ndarray
) -> tuple[int, int]:
    """Image rows, clipped to the image, that a block of the volume reads."""
    y = np.array([y_range[0], y_range[1] - 1])[:, None, None] - centre[1]
    z = np.array([z_start, z_start + planes - 1])[:, None] - centre[0]
    row = layout.ry * y + layout.rz * z + layout.r0
    highest = int(np.floor(row.max())) + (2 if layout.sheared else 1)
    return max(0, int(np.floor(row.min()))), min(layout.rows, highest)


def project_cpu(volume: Tensor, layout: LineLayout, images: Tensor, z_offset: int = 0) -> None:
    """Fill images (tilt, y, x) with the projections of a volume (z, y, x) whose centre is at `z_offset`."""
    source, target = volume.contiguous().numpy(), images.numpy()
    centre = np.array([n // 2 for n in source.shape])
    centre[0] -= z_offset
    kernel = prefilter_kernel(torch.float32).numpy()[REACH:]
    fast = layout.stretched & (not layout.sheared)
    if fast.any():
        _project_rows(source, layout, np.flatnonzero(fast), centre, kernel, target)
    slow = np.flatnonzero(~fast)

    def work(start: int, stop: int) -> None:
        for t in slow[start:stop]:
            phases = PHASES if layout.stretched[t] else 1
            maps = np.array([getattr(layout, n)[t] for n in ("qx", "qy", "qz", "q0", "ry", "rz", "r0")])
            lines = np.zeros((layout.rows, layout.length), np.float32)
            kernels.spread_gathered(source, centre, lines, maps)
            split = np.ascontiguousarray(lines.reshape(layout.rows, -1, phases).transpose(0, 2, 1))
            for row in range(layout.rows):
                kernels.shrink_line(split[row], layout.q0[t], layout.step[t], kernel, target[t, row])

    run_blocks(len(slow), 1, work)


def _project_rows(
    source: np.ndarray,
    layout: LineLayout,
    index: np.ndarray,
    centre: np.ndarray,
    kernel: np.ndarray,
    target: np.ndarray,
) -> None:
    maps = np.stack([layout.qz[index], layout.q0[index] - PHASES * centre[2]], axis=1)
    offset = int(layout.r0[0]) - int(centre[1])

    def work(start: int, stop: int) -> None:
        lines = np.empty((len(index), PHASES, layout.length // PHASES), np.float32)
        for y in range(max(start, -offset), min(stop, layout.rows - offset)):
            lines[:] = 0.0
            kernels.spread_stretched(source, y, centre, lines, maps, PHASES)
            for i, t in enumerate(index):
                kernels.shrink_line(lines[i], layout.q0[t], layout.step[t], kernel, target[t, y + offset])

    run_blocks(source.shape[1], 4, work)
