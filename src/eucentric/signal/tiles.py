"""Filters of limited reach, tile by tile, from volumes that need not be in memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

TILE = (32, 96, 96)
"""Voxels (z, y, x) of a tile without its halo: with a halo of a few voxels about 2 MB, which caches hold."""


def mirrored(start: int, stop: int, size: int) -> Tensor:
    """Indices of `start` to `stop`, mirrored about the first and the last sample of an axis of `size`."""
    index = torch.arange(start, stop)
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.where(index >= size, period - index, index)


def filter_in_tiles(
    read: Callable[[int, int], Tensor],
    shape: tuple[int, int, int],
    kernel: Callable[[Tensor], Tensor],
    halo: int,
    tile: tuple[int, int, int] | None = None,
) -> Iterator[Tensor]:
    """Slabs (z, y, x) of a filtered volume in order; mirrored beyond its faces. Equal to one tile of the whole.

    Parameters
    ----------
    read : planes `start` to `stop` of the volume, (plane, y, x)
    shape : (z, y, x) of the volume
    kernel : a block with `halo` voxels more on every side in, the block without them out
    halo : voxels
    tile : (z, y, x) voxels of the largest block without its halo; None chooses by the halo
    """
    depth, rows, columns = shape
    # of a tile four halos wide 30% is itself, of one as wide as a halo 4%
    tile = tile or (max(TILE[0], 4 * halo), max(TILE[1], 4 * halo), max(TILE[2], 4 * halo))
    for z in range(0, depth, tile[0]):
        z_stop = min(z + tile[0], depth)
        planes = mirrored(z - halo, z_stop + halo, depth)
        first = int(planes.min())
        slab = read(first, int(planes.max()) + 1)
        slab = slab.index_select(0, (planes - first).to(slab.device))
        out = slab.new_empty(z_stop - z, rows, columns)
        for y in range(0, rows, tile[1]):
            y_stop = min(y + tile[1], rows)
            band = slab.index_select(1, mirrored(y - halo, y_stop + halo, rows).to(slab.device))
            for x in range(0, columns, tile[2]):
                x_stop = min(x + tile[2], columns)
                block = band.index_select(2, mirrored(x - halo, x_stop + halo, columns).to(slab.device))
                out[:, y:y_stop, x:x_stop] = kernel(block)
        yield out


def filter_volume(
    volume: Tensor, kernel: Callable[[Tensor], Tensor], halo: int, tile: tuple[int, int, int] | None = None
) -> Tensor:
    """:func:`filter_in_tiles` of a volume in memory."""
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    return torch.cat(list(filter_in_tiles(lambda a, b: volume[a:b], shape, kernel, halo, tile)))


def trimmed(block: Tensor, width: int) -> Tensor:
    """A block without `width` voxels on every side."""
    return block[width:-width, width:-width, width:-width] if width else block


def smooth_separably(block: Tensor, taps: Tensor, step: int = 1) -> Tensor:
    """A symmetric filter along each axis; the block loses ``step * (len(taps) // 2)`` voxels on every side.

    Parameters
    ----------
    taps : (odd number,), of neighbours `step` voxels apart
    """
    middle = len(taps) // 2
    for axis in range(3):
        count = block.shape[axis] - 2 * step * middle
        out = block.narrow(axis, step * middle, count) * taps[middle]
        for i in range(1, middle + 1):
            low = block.narrow(axis, step * (middle - i), count)
            out = out + (low + block.narrow(axis, step * (middle + i), count)) * taps[middle + i]
        block = out
    return block


def gaussian_taps(sigma: float, radius: int, like: Tensor) -> Tensor:
    """(2 radius + 1,) weights of sum 1; `sigma` in voxels."""
    offset = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (offset / sigma) ** 2)
    return weights / weights.sum()


def quantile(values: Tensor, part: float) -> float:
    """The value that `part` of a tensor is not above; of a regular choice of a million where it has more."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, len(flat) // 1_000_000)]
    return float(flat.kthvalue(max(1, round(part * len(flat)))).values)
