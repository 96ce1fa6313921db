"""Blocks of volumes, their windowed transforms, and errors of what is summed over blocks."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError

Measured: TypeAlias = Callable[[tuple[int, int, int]], Tensor]
"""For the shape of a block: what was measured of each sample of its rfftn, from 0 (nothing) to 1; real, (z, y, x // 2 + 1)."""
Block: TypeAlias = tuple[slice, slice, slice]

_LEAST_EDGE = 16
_ALIKE = (1.0 + 2.0 * (2.0 / 3.0) ** 2 + 2.0 * (1.0 / 6.0) ** 2) ** 3  # samples that the window makes as good as one
INSIDE, OUTSIDE = 0.5, 0.05
"""Samples with more than the first part are measured, with less than the second they are not; edges count as neither."""


def place_blocks(
    shape: Sequence[int], edge: int, count: int | None, *, generator: torch.Generator | None = None
) -> tuple[Block, ...]:
    """Blocks spread evenly over a volume, that overlap only where its size is no multiple of theirs.

    Parameters
    ----------
    edge : voxels; axes that are shorter are taken whole
    count : so many at most, drawn by `generator`; all where None

    Raises
    ------
    InputError : an edge or an axis shorter than 16 voxels, or no block asked for
    """
    if len(shape) != 3 or min(edge, *shape) < _LEAST_EDGE or (count is not None and count < 1):
        raise InputError(
            f"{count} blocks of {edge} voxels of a volume of shape {tuple(shape)} were asked for; expected one or more, of a "
            f"(z, y, x) volume, with all sizes at least {_LEAST_EDGE}."
        )
    starts = []
    for n in shape:
        size = min(edge, n)
        many = max(1, -(-n // size) if n % size > size // 2 else n // size)
        step = (n - size) / max(many - 1, 1)
        starts.append([slice(round(i * step), round(i * step) + size) for i in range(many)])
    blocks = [(z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]]
    if count is None or count >= len(blocks):
        return tuple(blocks)
    drawn = torch.randperm(len(blocks), generator=generator)[:count].tolist()
    return tuple(blocks[i] for i in sorted(drawn))


def hann_window(shape: Sequence[int], *, device: torch.device | str = "cpu") -> Float[Tensor, "z y x"]:
    """Hann window of mean square 1 along each axis.

    It spreads each sample of the transform over its direct neighbours only, exactly, so that a region is free of what lies
    outside once it has lost its outermost samples.
    """
    z, y, x = ((3.0 / 8.0) ** -0.5 * torch.hann_window(n, periodic=True, device=device) for n in shape)
    window: Tensor = z[:, None, None] * y[:, None] * x
    return window


def windowed_transform(block: Float[Tensor, "z y x"]) -> Tensor:
    """The rfftn of a block less its mean under a Hann window, per root of the number of voxels: power is variance."""
    block = block.float()
    window = hann_window(block.shape, device=block.device)
    mean = (block * window).sum() / window.sum()
    out: Tensor = torch.fft.rfftn((block - mean) * window, norm="ortho")
    return out


def measured_on(measured: Measured, shape: tuple[int, int, int], device: torch.device) -> Float[Tensor, "z y half_x"]:
    """What was measured for the shape of a block, checked.

    Raises
    ------
    ShapeError : another shape came back
    """
    found = measured(shape).to(device=device, dtype=torch.float32)
    expected = (shape[0], shape[1], shape[2] // 2 + 1)
    if tuple(found.shape) != expected:
        raise ShapeError(
            f"What was measured came back with shape {tuple(found.shape)} for a block of {shape}; expected {expected}."
        )
    return found


def lowest_around(samples: Float[Tensor, "z y half_x"], last: int) -> Float[Tensor, "z y half_x"]:
    """The least of each sample of an rfftn and its 26 neighbours.

    Parameters
    ----------
    samples : real, the same at k and -k
    last : size of the last axis in real space
    """
    out = samples
    for axis in (0, 1):
        out = torch.minimum(out, torch.minimum(out.roll(1, axis), out.roll(-1, axis)))
    opposite = out.flip((0, 1)).roll((1, 1), (0, 1))
    before = torch.cat([opposite[..., min(1, out.shape[2] - 1)][..., None], out[..., :-1]], dim=2)
    beyond = out.shape[2] - 2 if last % 2 == 0 else out.shape[2] - 1
    after = torch.cat([out[..., 1:], opposite[..., beyond][..., None]], dim=2)
    return torch.minimum(out, torch.minimum(before, after))


def region_inside(measured: Float[Tensor, "z y half_x"], last: int) -> Float[Tensor, "z y half_x"]:
    """1 where a sample and all of its neighbours were measured, else 0."""
    return (lowest_around(measured, last) > INSIDE).float()


def region_outside(measured: Float[Tensor, "z y half_x"], last: int) -> Float[Tensor, "z y half_x"]:
    """1 where neither a sample nor any of its neighbours were measured, else 0."""
    return (-lowest_around(-measured, last) < OUTSIDE).float()


def all_samples(half: Float[Tensor, "z y half_x"], last: int) -> Float[Tensor, "z y x"]:
    """Real samples of an rfftn, the same at k and -k, on those of the fftn."""
    opposite = half.flip((0, 1)).roll((1, 1), (0, 1))
    return torch.cat([half, opposite[..., 1 : (last + 1) // 2].flip(2)], dim=2)


def jackknife(
    parts: Float[Tensor, "block quantity band"], estimate: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, " band"], Float[Tensor, " band"]]:
    """An estimate from sums over blocks, and its standard deviation from leaving out one block at a time.

    Parameters
    ----------
    parts : sums of each block
    estimate : (quantity, band) to (band,)

    Returns
    -------
    estimate, standard deviation (NaN with a single block)
    """
    total = parts.sum(0)
    whole = estimate(total)
    count = parts.shape[0]
    if count < 2:
        return whole, torch.full_like(whole, torch.nan)
    without = torch.stack([estimate(total - part) for part in parts])
    spread = (without - without.mean(0)).square().sum(0) * (count - 1) / count
    return whole, spread.sqrt()


def is_known(signal: Tensor, power1: Tensor, power2: Tensor, samples: Tensor) -> Tensor:
    """Where the product of two halves, summed, is more than three standard deviations of what noise alone would give.

    Parameters
    ----------
    signal, power1, power2 : sums of the product and of the powers over samples
    samples : how many, k and -k both counted
    """
    doubt = (power1.clamp(min=0.0) * power2.clamp(min=0.0) * _ALIKE / samples.clamp(min=1.0)).sqrt()
    return (samples > 0) & (signal > 3.0 * doubt)


def check_same_shapes(**volumes: Tensor) -> None:
    """Volumes by name must be (z, y, x), finite, and of one shape.

    Raises
    ------
    ShapeError : other shapes
    """
    shapes = {name: tuple(volume.shape) for name, volume in volumes.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 3:
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"The volumes have the shapes {given}; expected one (z, y, x) shape.")


def check_independent(half1: Tensor, half2: Tensor) -> None:
    """Halves that are one volume tell nothing of each other.

    Raises
    ------
    InputError : more than half of the voxels agree exactly
    """
    told = (half1 != 0) | (half2 != 0)
    if float(((half1 == half2) & told).float().sum()) > 0.5 * float(told.float().sum()):
        raise InputError(
            "The two halves are identical: they hold the same noise, so that neither can check the other. Give halves of even "
            "and odd frames or tilts."
        )
