"""Change of sampling in Fourier space: the sample at n // 2 keeps its place, values keep their level."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.fourier.grid import frequency_vectors


def rescaled_shape(shape: Sequence[int], spacing: float, new_spacing: float) -> tuple[int, ...]:
    """Even sizes nearest to `shape` sampled at `new_spacing`."""
    return tuple(max(2, 2 * round(n * spacing / new_spacing / 2)) for n in shape)


def fourier_crop(image: Float[Tensor, "..."], shape: Sequence[int]) -> Float[Tensor, "..."]:
    """Sample images or volumes more coarsely, without aliasing.

    The field of view is kept, so the new spacing is ``spacing * old / new`` along each axis. The sample at ``n // 2``
    stays the centre: where halving sizes would move it by a fraction of a pixel, a phase ramp moves it back.

    Parameters
    ----------
    image : (..., y, x) or (..., z, y, x)
    shape : new sizes of the last axes, none larger than before

    Raises
    ------
    ShapeError : a new size is larger than the old one
    """
    old = tuple(image.shape[-len(shape) :])
    if any(n > o for n, o in zip(shape, old, strict=True)):
        raise ShapeError(f"Fourier cropping from {old} to {tuple(shape)} would enlarge it; expected smaller sizes.")
    return _resample(image, tuple(shape))


def fourier_pad(image: Float[Tensor, "..."], shape: Sequence[int]) -> Float[Tensor, "..."]:
    """Sample images or volumes more finely (band-limited interpolation); the counterpart of :func:`fourier_crop`."""
    old = tuple(image.shape[-len(shape) :])
    if any(n < o for n, o in zip(shape, old, strict=True)):
        raise ShapeError(f"Fourier padding from {old} to {tuple(shape)} would shrink it; expected larger sizes.")
    return _resample(image, tuple(shape))


def _resample(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    dims = tuple(range(-len(shape), 0))
    old = tuple(image.shape[d] for d in dims)
    if old == shape:
        return image.clone()
    spectrum = torch.fft.rfftn(image, dim=dims)
    for axis, (o, n) in enumerate(zip(old, shape, strict=True)):
        last = axis == len(shape) - 1
        spectrum = _resize_axis(spectrum, axis - len(shape), o, n, half=last)
    # centre o // 2 of the old grid sits at o // 2 * n / o of the new one: move it onto n // 2
    moves = [n // 2 - (o // 2) * n / o for o, n in zip(old, shape, strict=True)]
    if any(abs(m) > 1e-12 for m in moves):
        for axis, (move, frequency) in enumerate(
            zip(moves, frequency_vectors(shape, 1.0, device=image.device, dtype=image.dtype), strict=True)
        ):
            if abs(move) > 1e-12:
                angle = -2 * math.pi * frequency * move
                phase = torch.polar(torch.ones_like(angle), angle)
                nyquist = (shape[axis] % 2 == 0) & (frequency.abs() > 0.5 - 0.5 / shape[axis])
                spectrum = spectrum * torch.where(nyquist, torch.cos(angle).to(phase.dtype), phase)
    gain = math.prod(shape) / math.prod(old)
    sampled: Tensor = torch.fft.irfftn(spectrum, s=shape, dim=dims) * gain
    return sampled


def _resize_axis(spectrum: Tensor, dim: int, old: int, new: int, *, half: bool) -> Tensor:
    if old == new:
        return spectrum
    keep = min(old, new)
    mid = keep // 2
    if half:
        count = keep // 2 + 1
        part = spectrum.narrow(dim, 0, count).clone()
        if keep % 2 == 0:
            # the Nyquist sample of the smaller grid stands for two samples of the larger one
            part.narrow(dim, mid, 1).mul_(2.0 if new < old else 0.5)
        size = new // 2 + 1
        return part if size == count else torch.cat([part, _zeros(part, dim, size - count)], dim=dim)
    low = spectrum.narrow(dim, 0, (keep + 1) // 2)
    high = spectrum.narrow(dim, old - (keep - 1) // 2, (keep - 1) // 2)
    if keep % 2 == 1:
        middle = [] if new < old else [_zeros(spectrum, dim, new - keep)]
    elif new < old:
        middle = [spectrum.narrow(dim, mid, 1) + spectrum.narrow(dim, old - mid, 1)]
    else:
        nyquist = 0.5 * spectrum.narrow(dim, mid, 1)
        middle = [nyquist, _zeros(spectrum, dim, new - keep - 1), nyquist]
    return torch.cat([low, *middle, high], dim=dim)


def _zeros(like: Tensor, dim: int, size: int) -> Tensor:
    shape = list(like.shape)
    shape[dim] = size
    return like.new_zeros(shape)
