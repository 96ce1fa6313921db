r"""Scores of every orientation of a template at every voxel: locally normalised correlation in standard deviations.

With copies t_r of zero mean under the mask m and unit norm, and the volume's standard deviation under the mask,

.. math:: z_r(x) = \frac{\sum_u t_r(u) f(x + u)}{\sigma(x)}, \qquad
          \sigma^2 = \frac{m \star f^2}{N} - \Big(\frac{m \star f}{N}\Big)^2, \qquad N = \sum m .

In white noise z is normal with variance 1. A mask that is no ball turns with the template, and sigma with it. Two ways lead to
the greatest z of all copies: a correlation by FFT for each of them, the plain one; or one for each of the few patterns from which
all copies are mixed, and the mixing as a product of matrices, which has no transform in it and is many times faster. Masks that
turn are mixed likewise, on the volume and on its square.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from eucentric.compute.device import free_bytes, products_type
from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.picking.rotated_templates import RowBasis, TemplateRows

_TINY = 1e-6
_VOXELS = 4096  # mixed at a time: their scores of one group of copies stay in the cache
_COPIES = 512
_SLICE = 1 << 16  # voxels whose best scores stay in the cache while they are compared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreVolume:
    """What a search found at each voxel."""

    best: Float[Tensor, "z y x"]
    """Greatest score of all orientations; minus infinity where it was not looked."""
    mean_square: Float[Tensor, "z y x"]
    """Mean of the squared scores over the orientations."""
    index: Int[Tensor, "z y x"] | None = None
    """Number of the best orientation, -1 where it was not looked; None where it was not asked for."""


@dataclass(slots=True, kw_only=True, eq=False)
class PatternMaps:
    """Scores of all patterns that one search made, for a second one over some of the same places."""

    limit_bytes: int
    """Of all that is kept; what is more is made again."""
    tiles: list[tuple[slice, slice, slice]] = field(default_factory=list)
    parts: dict[int, tuple[Int[Tensor, " voxel"], Float[Tensor, "pattern voxel"]]] = field(default_factory=dict)
    """By tile: numbers of its voxels, rising, and the scores there."""

    def keep(self, tile: int, chosen: Int[Tensor, " voxel"], values: Float[Tensor, "pattern voxel"]) -> None:
        held = sum(v.nbytes for _, v in self.parts.values())
        if held + values.nbytes <= self.limit_bytes:
            self.parts[tile] = chosen, values

    def at(self, tile: int, chosen: Int[Tensor, " voxel"]) -> Float[Tensor, "pattern voxel"] | None:
        """At some of the voxels of a tile; None where they were not kept."""
        if tile not in self.parts:
            return None
        numbers, values = self.parts[tile]
        return values[:, torch.searchsorted(numbers, chosen)]


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
    masks: RowBasis | None = None,
    *,
    region: Tensor | None = None,
    with_index: bool = False,
    tile: tuple[int, int, int] | None = None,
    maps: PatternMaps | None = None,
) -> ScoreVolume:
    """Greatest score of all copies at every voxel.

    Parameters
    ----------
    volume : whitened, on the voxels of the templates
    basis : of the rows of `templates`; without it every copy is correlated by FFT
    masks : of the masks of `templates`, where these turn, for use with `basis`
    region : (z, y, x) bool, where to look; everywhere where None
    tile : (z, y, x) voxels worked on at a time; as many as memory holds where None
    maps : filled by a first search with a basis, read by a second one over a part of its region; for masks that do not turn

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
    turning = templates.masks is not None
    if turning and basis is not None and masks is None:
        raise InputError("Masks that turn with the template need patterns of their own.")
    deviation = torch.ones_like(volume) if turning else local_deviation(volume, templates.mask)
    floor = _TINY * float(volume.square().mean())
    best = torch.full(volume.shape, -math.inf, device=volume.device)
    square = torch.zeros(volume.shape, device=volume.device)
    index = torch.full(volume.shape, -1, dtype=torch.int32, device=volume.device) if with_index else None
    whole = _padded(volume, side, tuple(n + side for n in volume.shape))
    if maps is not None and maps.tiles:
        places = maps.tiles
    else:
        extent = _extent(look)
        size = tile or _tile_size(tuple(e.stop - e.start for e in extent), side, basis, volume.device)
        places = list(_tiles(extent, size))
        if maps is not None:
            maps.tiles = places
    for number, place in enumerate(places):
        here = look[place]
        if not bool(here.any()):
            continue
        cut = whole[tuple(slice(p.start, p.stop + side) for p in place)]
        scale = 1.0 / deviation[place]
        if basis is None:
            found = _by_transforms(cut, templates, scale, floor, with_index)
        else:
            kept = None if maps is None or turning else (maps, number)
            found = _by_mixing(cut, templates, basis, masks, scale, here, floor, with_index, kept)
        best[place] = torch.where(here, found.best, best[place])
        square[place] = torch.where(here, found.mean_square, square[place])
        if index is not None and found.index is not None:
            index[place] = torch.where(here, found.index, index[place])
    return ScoreVolume(best=best, mean_square=square, index=index)


def _by_transforms(
    cut: Float[Tensor, "z y x"],
    templates: TemplateRows,
    scale: Float[Tensor, "z y x"],
    floor: float,
    with_index: bool,
) -> ScoreVolume:
    shape = tuple(good_size(n) for n in cut.shape)
    transform = torch.fft.rfftn(cut, s=shape)
    squared = torch.fft.rfftn(cut.square(), s=shape) if templates.masks is not None else None
    inside = tuple(scale.shape)
    best = torch.full(inside, -math.inf, device=scale.device)
    square = torch.zeros_like(best)
    index = torch.full(inside, -1, dtype=torch.int32, device=scale.device) if with_index else None
    for number in range(len(templates.rows)):
        score = _correlation(transform, templates.boxes(templates.rows[number : number + 1])[0], shape, inside)
        if templates.masks is not None and squared is not None:
            mask = templates.boxes(templates.masks[number : number + 1])[0]
            mean, power = (_correlation(t, mask, shape, inside) for t in (transform, squared))
            score *= (power - mean.square()).clamp_min(floor).rsqrt()
        _keep_greatest(score, scale, number, best, square, index)
    return ScoreVolume(best=best, mean_square=square / len(templates.rows), index=index)


def _keep_greatest(
    score: Float[Tensor, "z y x"],
    scale: Float[Tensor, "z y x"],
    number: int,
    best: Float[Tensor, "z y x"],
    square: Float[Tensor, "z y x"],
    index: Int[Tensor, "z y x"] | None,
) -> None:
    """Take one copy's scores into account, a part of the volume at a time, so that nothing is read from memory twice."""
    flat = [t.reshape(-1) for t in (score, scale, best, square)]
    step = _SLICE if score.device.type == "cpu" else score.numel()
    for v in range(0, score.numel(), step):
        values, factor, top, total = (t[v : v + step] for t in flat)
        values = values.mul_(factor)
        if index is not None:
            index.reshape(-1)[v : v + step].masked_fill_(values > top, number)
        torch.maximum(top, values, out=top)
        total.addcmul_(values, values)


def _by_mixing(
    cut: Float[Tensor, "z y x"],
    templates: TemplateRows,
    basis: RowBasis,
    masks: RowBasis | None,
    scale: Float[Tensor, "z y x"],
    here: Tensor,
    floor: float,
    with_index: bool,
    kept: tuple[PatternMaps, int] | None,
) -> ScoreVolume:
    shape = tuple(good_size(n) for n in cut.shape)
    transform = torch.fft.rfftn(cut, s=shape)
    rounded = products_type(cut.device)
    chosen = here.reshape(-1).nonzero().reshape(-1)

    def mapped(spectrum: Tensor, patterns: Tensor) -> Tensor:
        values = cut.new_empty((len(patterns), len(chosen)))
        for n, pattern in enumerate(patterns):
            map_ = _correlation(spectrum, templates.boxes(pattern[None])[0], shape, tuple(scale.shape))
            torch.index_select(map_.reshape(-1), 0, chosen, out=values[n])
        return values

    known = None if kept is None else kept[0].at(kept[1], chosen)
    values = mapped(transform, basis.patterns) if known is None else known
    best = torch.full((len(chosen),), -math.inf, device=cut.device)
    index = torch.full((len(chosen),), -1, dtype=torch.int32, device=cut.device)
    if masks is None:
        if known is None:
            values *= scale.reshape(-1)[chosen]
        square = _mean_square(values, basis.weights)
        means = powers = None
        values = values.to(rounded)
        if kept is not None and known is None:
            kept[0].keep(kept[1], chosen, values)
    else:
        square = torch.zeros_like(best)
        means = mapped(transform, masks.patterns)
        powers = mapped(torch.fft.rfftn(cut.square(), s=shape), masks.patterns)
    step, copies = (_VOXELS, _COPIES) if cut.device.type == "cpu" else (1 << 16, 4096)
    mixing = basis.weights.to(rounded)
    for v in range(0, len(chosen), step):
        here_ = slice(v, v + step)
        part = values[:, here_].to(rounded).contiguous()
        for r in range(0, len(basis.weights), copies):
            scores = mixing[r : r + copies] @ part
            if masks is not None and means is not None and powers is not None:
                weights = masks.weights[r : r + copies]
                variance = (weights @ powers[:, here_]).addcmul_(*[weights @ means[:, here_]] * 2, value=-1.0)
                scores = variance.clamp_min_(floor).rsqrt_().mul_(scores)
                square[here_] += scores.square().sum(0) / len(basis.weights)
            greatest = scores.amax(0).to(best.dtype)
            if with_index:
                better = greatest > best[here_]
                index[here_] = torch.where(better, (scores.argmax(0) + r).int(), index[here_])
            torch.maximum(best[here_], greatest, out=best[here_])
    return ScoreVolume(
        best=_spread(best, chosen, scale, -math.inf),
        mean_square=_spread(square, chosen, scale, 0.0),
        index=_spread(index, chosen, scale, -1) if with_index else None,
    )


def _mean_square(values: Float[Tensor, "pattern voxel"], weights: Float[Tensor, "rotation pattern"]) -> Tensor:
    """Mean over the copies of their squared scores, without the scores."""
    power, vectors = torch.linalg.eigh(weights.T @ weights / len(weights))
    rounded = products_type(values.device)
    turned = vectors.T.to(rounded).contiguous()
    total: Tensor = power.new_zeros(values.shape[1])
    step = 1 << 14
    for v in range(0, values.shape[1], step):
        total[v : v + step] = power @ (turned @ values[:, v : v + step].to(rounded)).to(power.dtype).square()
    return total


def _spread(values: Tensor, chosen: Tensor, like: Tensor, empty: float) -> Tensor:
    out = torch.full((like.numel(),), empty, dtype=values.dtype, device=values.device)
    out[chosen] = values
    return out.reshape(like.shape)


def _correlation(
    transform: Complex[Tensor, "z y half_x"],
    box: Float[Tensor, "c c c"],
    shape: tuple[int, ...],
    inside: tuple[int, ...],
) -> Float[Tensor, "z y x"]:
    """Sum over a cube of its values and those of the volume, the cube's corner at each voxel of the part asked for.

    Axis by axis, so that lines which nobody asks for are never transformed.
    """
    spectrum = _corner_transform(box[None], shape)[0].conj_physical_().mul_(transform)
    planes = torch.fft.ifft(spectrum, dim=0)[: inside[0]]
    lines = torch.fft.ifft(planes, dim=1)[:, : inside[1]]
    out: Tensor = torch.fft.irfft(lines, n=shape[2], dim=2)[:, :, : inside[2]].contiguous()
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


def _extent(look: Tensor) -> tuple[slice, slice, slice]:
    """The smallest box that holds all places to look at: a specimen is much thinner than its tomogram."""
    planes, lines = look.any(2), look.any(0)
    z, y, x = (seen.nonzero().reshape(-1) for seen in (planes.any(1), planes.any(0), lines.any(0)))
    if not len(z):
        return slice(0, 0), slice(0, 0), slice(0, 0)
    return slice(int(z[0]), int(z[-1]) + 1), slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def _tiles(extent: tuple[slice, slice, slice], size: tuple[int, ...]) -> Iterator[tuple[slice, slice, slice]]:
    parts = (
        [slice(start, min(start + step, e.stop)) for start in range(e.start, e.stop, max(1, step))]
        for e, step in zip(extent, size, strict=True)
    )
    return itertools.product(*parts)
