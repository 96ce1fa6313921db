"""Images made ready for their spectra: outliers gone, and no finer sampled than the fit needs."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from eucentric.fourier import fourier_crop

_MAD = 1.4826  # standard deviation of a normal distribution per median absolute deviation
_SAMPLE = 50_000  # pixels are enough for a median to half a percent
_STEPS = 32  # sizes are cut to a multiple of this, so that both axes keep exactly one pixel size


def replace_outliers(image: Float[Tensor, "y x"], sigmas: float) -> Float[Tensor, "y x"]:
    """Hot, dead and X-ray pixels replaced by the median of the 5 x 5 pixels around them.

    A pixel counts as one where it differs from that median by more than `sigmas` robust standard deviations of the
    noise, which differences of neighbouring pixels tell. Only pixels half as far from the median of the image, and from
    the mean of their four neighbours, are looked at.
    """
    stride = max(1, image.numel() // _SAMPLE)
    rows = image[::stride]
    spread = _MAD * (rows[:, 1:] - rows[:, :-1]).abs().median() / 2**0.5
    if not spread > 0:
        return image
    middle, reach = rows.median(), 0.5 * sigmas * spread
    suspects = torch.nonzero((image > middle + reach) | (image < middle - reach))
    padded = functional.pad(image[None, None], (2, 2, 2, 2), mode="reflect")[0, 0]
    y, x = suspects[:, 0] + 2, suspects[:, 1] + 2
    beside = 0.25 * (padded[y - 1, x] + padded[y + 1, x] + padded[y, x - 1] + padded[y, x + 1])
    suspects = suspects[(padded[y, x] - beside).abs() > 0.5 * sigmas * spread]
    offsets = torch.arange(5, device=image.device)
    down, across = suspects[:, 0, None, None] + offsets[:, None], suspects[:, 1, None, None] + offsets[None, :]
    medians = padded[down, across].reshape(len(suspects), 25).median(dim=1).values
    values = image[suspects[:, 0], suspects[:, 1]]
    wrong = (values - medians).abs() > sigmas * spread
    out = image.clone()
    out[suspects[wrong, 0], suspects[wrong, 1]] = medians[wrong]
    return out


def working_scale(pixel_size: float, high_resolution_angstrom: float) -> tuple[int, float]:
    """How far to crop Fourier space: (steps of 32 that are kept, pixel size after it in A).

    The new Nyquist frequency is at least 1.15 times the end of the fitted band, clear of what the cut does at its edge.
    """
    wanted = high_resolution_angstrom / 2.3
    keep = next((n for n in range(2, _STEPS) if pixel_size * _STEPS / n <= wanted), _STEPS)
    return keep, pixel_size * _STEPS / keep


def _cut_shape(shape: Sequence[int]) -> list[int]:
    return [n // (2 * _STEPS) * 2 * _STEPS for n in shape]


def scaled_shape(shape: Sequence[int], keep: int) -> list[int]:
    """Shape of what :func:`crop_to_scale` returns."""
    return list(shape) if keep == _STEPS else [n * keep // _STEPS for n in _cut_shape(shape)]


def crop_to_scale(image: Float[Tensor, "y x"], keep: int) -> Float[Tensor, "y x"]:
    """Sample an image more coarsely by ``32 / keep``, exactly alike along both axes; n // 2 stays the centre.

    Sizes are first cut, about the centre, to a multiple of 64, so that the new sizes are even whole numbers.
    """
    if keep == _STEPS:
        return image
    cut = _cut_shape(image.shape)
    (y, x), (ny, nx) = [n // 2 - c // 2 for n, c in zip(image.shape, cut, strict=True)], cut
    part = image[y : y + ny, x : x + nx]
    level = part.mean()
    scaled: Tensor = fourier_crop(part - level, scaled_shape(image.shape, keep))
    return scaled + level
