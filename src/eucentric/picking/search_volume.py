r"""Scores of every orientation of a template at every voxel: locally normalised correlation in standard deviations.

With copies t_r of zero mean under the mask m and unit norm, and the volume's standard deviation under the mask,

.. math:: z_r(x) = \frac{\sum_u t_r(u) f(x + u)}{\sigma(x)}, \qquad
          \sigma^2 = \frac{m \star f^2}{N} - \Big(\frac{m \star f}{N}\Big)^2, \qquad N = \sum m .

In white noise z is normal with variance 1. Two ways lead to the greatest z of all copies: a correlation by FFT for each of
them, the plain one; or one for each of the few patterns from which all copies are mixed, and the mixing as a product of
matrices, which has no transform in it and is many times faster.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.picking.rotated_templates import RowBasis, TemplateRows

_TINY = 1e-6
_VOXELS = 4096  # mixed at a time: their scores of one group of copies stay in the cache
_COPIES = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreVolume:
    """What a search found at each voxel."""

    best: Float[Tensor, "z y x"]
    """Greatest score of all orientations; minus infinity where it was not looked."""
    mean_square: Float[Tensor, "z y x"]
    """Mean of the squared scores over the orientations."""
    index: Int[Tensor, "z y x"] | None = None
    """Number of the best orientation, -1 where it was not looked; None where it was not asked for."""


def local_deviation(volume: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    """Standard deviation of the volume under the mask about every voxel; beyond the volume lies zero."""
    side = mask.shape[0]
    shape = tuple(good_size(n + side) for n in volume.shape)
    transform = _corner_transform(mask[None], shape)[0].conj()
    padded = _padded(volume, side, shape)
    count = float(mask.sum())
    mean, square = (
        torch.fft.irfftn(torch.fft.rfftn(data) * transform, s=shape)[tuple(slice(0, n) for n in volume.shape)] / count
        for data in (padded, padded.square())
    )
    variance = square - mean.square()
    floor = _TINY * float(variance.max().clamp_min(1e-30))
    deviation: Tensor = variance.clamp_min(floor).sqrt()
    return deviation


def search_volume(
    volume: Float[Tensor, "z y x"],
    templates: TemplateRows,
    basis: RowBasis | None = None,
    *,
    region: Tensor | None = None,
    with_index: bool = False,
    tile: tuple[int, int, int] | None = None,
) -> ScoreVolume:
    """Greatest score of all copies at every voxel.

    Parameters
    ----------
    volume : whitened, on the voxels of the templates
    basis : of the rows of `templates`; without it every copy is correlated by FFT
    region : (z, y, x) bool, where to look; everywhere where None
    tile : (z, y, x) voxels worked on at a time; as many as memory holds where None

    Raises
    ------
    InputError : the template's cube is larger than the volume
    """
    side = templates.mask.shape[0]
    if templates.mask.sum() <= 0 or float(templates.mask.sum()) > volume.numel():
        raise InputError(
            f"A mask of {float(templates.mask.sum()):.0f} voxels and a volume of {volume.numel()}; expected a smaller mask."
        )
    look = torch.ones(volume.shape, dtype=torch.bool, device=volume.device) if region is None else region
    deviation = local_deviation(volume, templates.mask)
    best = torch.full(volume.shape, -math.inf, device=volume.device)
    square = torch.zeros(volume.shape, device=volume.device)
    index = torch.full(volume.shape, -1, dtype=torch.int32, device=volume.device) if with_index else None
    whole = _padded(volume, side, tuple(n + side for n in volume.shape))
    size = tile or _tile_size(tuple(volume.shape), side, basis, volume.device)
    for place in _tiles(tuple(volume.shape), size):
        here = look[place]
        if not bool(here.any()):
            continue
        cut = whole[tuple(slice(p.start, p.stop + side) for p in place)]
        scale = 1.0 / deviation[place]
        found = (
            _by_mixing(cut, templates, basis, scale, here, with_index)
            if basis
            else _by_transforms(cut, templates, scale)
        )
        best[place] = torch.where(here, found.best, best[place])
        square[place] = torch.where(here, found.mean_square, square[place])
        if index is not None and found.index is not None:
            index[place] = torch.where(here, found.index, index[place])
    return ScoreVolume(best=best, mean_square=square, index=index)


def _by_transforms(cut: Float[Tensor, "z y x"], templates: TemplateRows, scale: Float[Tensor, "z y x"]) -> ScoreVolume:
    shape = tuple(good_size(n) for n in cut.shape)
    transform = torch.fft.rfftn(cut, s=shape)
    best = torch.full(scale.shape, -math.inf, device=scale.device)
    square = torch.zeros_like(best)
    index = torch.full(scale.shape, -1, dtype=torch.int32, device=scale.device)
    inside = tuple(slice(0, n) for n in scale.shape)
    group = max(1, min(8, free_bytes(scale.device) // (64 * math.prod(shape))))
    for start in range(0, len(templates.rows), group):
        rows = templates.rows[start : start + group]
        maps = _correlations(transform, templates.boxes(rows), shape)[(slice(None), *inside)] * scale
        for n, score in enumerate(maps):
            better = score > best
            best = torch.maximum(best, score)
            index = torch.where(better, index.new_tensor(start + n), index)
            square += score.square()
    return ScoreVolume(best=best, mean_square=square / len(templates.rows), index=index)


def _by_mixing(
    cut: Float[Tensor, "z y x"],
    templates: TemplateRows,
    basis: RowBasis,
    scale: Float[Tensor, "z y x"],
    here: Tensor,
    with_index: bool,
) -> ScoreVolume:
    shape = tuple(good_size(n) for n in cut.shape)
    transform = torch.fft.rfftn(cut, s=shape)
    inside = tuple(slice(0, n) for n in scale.shape)
    chosen = here.reshape(-1).nonzero().reshape(-1)
    values = cut.new_empty((len(basis.patterns), len(chosen)))
    factor = scale.reshape(-1)[chosen]
    for n, pattern in enumerate(basis.patterns):
        map_ = _correlations(transform, templates.boxes(pattern[None]), shape)[0][inside]
        torch.mul(map_.reshape(-1)[chosen], factor, out=values[n])
    square = _mean_square(values, basis.weights)
    best = torch.full_like(factor, -math.inf)
    index = torch.full(factor.shape, -1, dtype=torch.int32, device=factor.device)
    step, copies = (_VOXELS, _COPIES) if factor.device.type == "cpu" else (1 << 16, 4096)
    for v in range(0, len(chosen), step):
        part = values[:, v : v + step].contiguous()
        top, at = best[v : v + step], index[v : v + step]
        for r in range(0, len(basis.weights), copies):
            scores = basis.weights[r : r + copies] @ part
            greatest = scores.amax(0)
            if with_index:
                better = greatest > top
                at.copy_(torch.where(better, (scores.argmax(0) + r).int(), at))
            torch.maximum(top, greatest, out=top)
    return ScoreVolume(
        best=_spread(best, chosen, scale, -math.inf),
        mean_square=_spread(square, chosen, scale, 0.0),
        index=_spread(index, chosen, scale, -1) if with_index else None,
    )


def _mean_square(values: Float[Tensor, "pattern voxel"], weights: Float[Tensor, "rotation pattern"]) -> Tensor:
    """Mean over the copies of their squared scores, without the scores."""
    power, vectors = torch.linalg.eigh(weights.T @ weights / len(weights))
    total = values.new_zeros(values.shape[1])
    step = 1 << 16
    for v in range(0, values.shape[1], step):
        total[v : v + step] = power @ (vectors.T @ values[:, v : v + step]).square()
    return total


def _spread(values: Tensor, chosen: Tensor, like: Tensor, empty: float) -> Tensor:
    out = torch.full((like.numel(),), empty, dtype=values.dtype, device=values.device)
    out[chosen] = values
    return out.reshape(like.shape)


def _correlations(
    transform: Complex[Tensor, "z y half_x"], boxes: Float[Tensor, "n c c c"], shape: tuple[int, ...]
) -> Float[Tensor, "n z y x"]:
    """Sum over a cube of its values and those of the volume, the cube's corner at each voxel."""
    out: Tensor = torch.fft.irfftn(transform * _corner_transform(boxes, shape).conj_physical_(), s=shape, dim=(1, 2, 3))
    return out


def _corner_transform(boxes: Float[Tensor, "n c c c"], shape: tuple[int, ...]) -> Complex[Tensor, "n z y half_x"]:
    """The rfftn of cubes filled up with zeros, axis by axis so that empty lines are never transformed."""
    lines = torch.fft.rfft(boxes, n=shape[2], dim=3)
    planes = torch.fft.fft(lines, n=shape[1], dim=2)
    out: Tensor = torch.fft.fft(planes, n=shape[0], dim=1)
    return out


def _padded(volume: Float[Tensor, "z y x"], side: int, shape: tuple[int, ...]) -> Tensor:
    """The volume with half a cube of zeros before it, and zeros up to a shape after it."""
    out = volume.new_zeros(shape)
    low = side // 2
    out[tuple(slice(low, low + n) for n in volume.shape)] = volume
    return out


def _tile_size(shape: tuple[int, ...], side: int, basis: RowBasis | None, device: torch.device) -> tuple[int, ...]:
    """Halve the longest side until the maps of a tile fit; never below a cube's own side."""
    maps = 24 + (0 if basis is None else len(basis.patterns))
    free = min(free_bytes(device), 3 * 2**30 if device.type == "cpu" else 2**40)
    size = list(shape)
    while 4 * maps * math.prod(n + side for n in size) > free and max(size) > side:
        longest = size.index(max(size))
        size[longest] = math.ceil(size[longest] / 2)
    return tuple(size)


def _tiles(shape: tuple[int, ...], size: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    for z in range(0, shape[0], size[0]):
        for y in range(0, shape[1], size[1]):
            for x in range(0, shape[2], size[2]):
                yield (
                    slice(z, min(z + size[0], shape[0])),
                    slice(y, min(y + size[1], shape[1])),
                    slice(x, min(x + size[2], shape[2])),
                )
