"""The images of a tilt series made ready for particles to be cut from them: contrast, sampling, and noise of each tilt."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop
from eucentric.fourier.filters import taper_edges
from eucentric.fourier.shells import shell_index

_LEAST_LEVEL = 0.5  # an image whose mean is less than that part of its deviation was normalised before
_EDGE = 0.02  # of the image, faded at each edge
_TRIES = 400  # sizes tried for a ratio of pixel sizes
_CLOSE = 1e-6
_LEAST_WINDOW = 16  # pixels
_FEWEST_SAMPLES = 400.0  # half of them alike, and more under a window: 15% of scatter
_LEAST_NOISE = 0.01  # of that of the median tilt


def contrast_images(images: Float[Tensor, "tilt y x"]) -> Float[Tensor, "tilt y x"]:
    """Each image over its mean, less one: what matter took away, protein negative. In deviations where the mean is near 0."""
    mean = images.mean((1, 2), keepdim=True)
    deviation = images.std((1, 2), keepdim=True).clamp_min(torch.finfo(images.dtype).tiny)
    return (images - mean) / torch.where(mean > _LEAST_LEVEL * deviation, mean, deviation)


def sampling_for(shape: tuple[int, int], pixel_size: float, wanted: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padded size (y, x) and the size of its Fourier crop, so that pixels become as large as wanted to a millionth.

    Parameters
    ----------
    shape : of the images
    pixel_size, wanted : A

    Raises
    ------
    InputError : finer pixels than those of the images
    """
    if wanted < pixel_size * (1.0 - 1e-3):
        raise InputError(
            f"A pixel size of {wanted:g} A was asked for, and the images have {pixel_size:g} A: there is nothing finer in "
            f"them. Give --pixel-size-angstrom {pixel_size:g} or more."
        )
    if wanted <= pixel_size * (1.0 + 1e-3):
        return shape, shape
    old, new = zip(*(_padded_length(n, pixel_size / wanted) for n in shape), strict=True)
    return (old[0], old[1]), (new[0], new[1])


def _padded_length(length: int, ratio: float) -> tuple[int, int]:
    best = (math.inf, 0, 0)
    for n in range(length + length % 2, length + _TRIES, 2):
        new = 2 * round(0.5 * n * ratio)
        error = abs(new / (n * ratio) - 1.0)
        smooth = n == good_size(n)
        # a good size where one is as true, else the truest
        rank = max(error, _CLOSE) * (1.0 if smooth else 2.0)
        if rank < best[0] * (1.0 - 1e-9):
            best = (rank, n, new)
    return best[1], best[2]


def faded_width(size: Sequence[int]) -> int:
    """Pixels over which images of a size are faded at each edge."""
    return max(4, round(_EDGE * min(size)))


def resample_images(
    images: Float[Tensor, "tilt y x"], padded: tuple[int, int], cropped: tuple[int, int]
) -> Float[Tensor, "tilt y2 x2"]:
    """Images of zero mean, faded at their edges, set amid zeros and sampled more coarsely; pixel ``n // 2`` stays the centre."""
    height, width = images.shape[1:]
    faded = taper_edges(images, faded_width((width, height)))
    if padded == (height, width) == cropped:
        return faded
    out = images.new_empty((len(images), *cropped))
    top, left = padded[0] // 2 - height // 2, padded[1] // 2 - width // 2
    for t, image in enumerate(faded):
        frame = image.new_zeros(padded)
        frame[top : top + height, left : left + width] = image
        out[t] = fourier_crop(frame, cropped)
    return out


def noise_power(images: Float[Tensor, "tilt y x"], size: int) -> Float[Tensor, "tilt shell"]:
    """Power for each pixel by shell, ``size // 2`` of them from zero to Nyquist: the median over windows of `size` pixels.

    What lies in most windows counts as noise: shot noise and whatever particles lie in and amid. What is in few of them
    does not: beads, a grid bar. Windows are smaller where images hold fewer than three along an edge, each half over the
    next, and shells are joined, as means of the logarithm, until enough samples tell their power.
    """
    height, width = images.shape[1:]
    side = min(size, max(_LEAST_WINDOW, 2 * (min(height, width) // 4)), height, width)
    step = max(1, side // 2)
    window = torch.hann_window(side, periodic=False, dtype=images.dtype, device=images.device)
    taper = window[:, None] * window
    level = float(taper.square().sum())
    shells = side // 2
    index = shell_index((side, side), shells, device=images.device).reshape(-1)
    # columns beside the first and last stand for two
    both = torch.full((side // 2 + 1,), 2.0, dtype=images.dtype, device=images.device)
    both[0] = 1.0
    if side % 2 == 0:
        both[-1] = 1.0
    samples = images.new_zeros(shells + 1).index_add_(0, index, both.repeat(side))
    out = images.new_empty((len(images), shells))
    tiles = images[:0]
    for t, image in enumerate(images):
        tiles = image.unfold(0, side, step).unfold(1, side, step).reshape(-1, side, side)
        tiles = (tiles - tiles.mean((1, 2), keepdim=True)) * taper
        power = torch.fft.rfft2(tiles).abs().square_().mul_(both / level).flatten(1)
        curves = images.new_zeros((len(tiles), shells + 1)).index_add_(1, index, power) / samples
        out[t] = curves[:, :shells].median(0).values
    out[:, 0] = torch.maximum(out[:, 0], out[:, 1])  # the mean was taken off
    # an empty image has no noise, and must not count for more than the others
    floor = _LEAST_NOISE * out.median(0).values + torch.finfo(out.dtype).tiny
    joined = _joined(torch.maximum(out, floor), samples[:shells] * len(tiles))
    # known at the middles of shells
    place = ((torch.arange(size // 2, device=out.device) + 0.5) * shells / (size // 2) - 0.5).clamp(0.0, shells - 1.0)
    low = place.floor().long().clamp(max=max(0, shells - 2))
    high = (low + 1).clamp(max=shells - 1)
    return torch.lerp(joined[:, low], joined[:, high], (place - low).to(out.dtype))


def _joined(power: Float[Tensor, "tilt shell"], samples: Float[Tensor, " shell"]) -> Float[Tensor, "tilt shell"]:
    """Geometric means over the shells about each, as many as hold the samples that are asked for, and the same on either side."""
    total = torch.cat([samples.new_zeros(1), samples.cumsum(0)])
    logs = power.log()
    sums = torch.cat([logs.new_zeros((len(logs), 1)), logs.cumsum(1)], dim=1)
    count = power.shape[1]
    out = torch.empty_like(power)
    for s in range(count):
        reach = 0
        while reach < min(s, count - 1 - s) and total[s + reach + 1] - total[s - reach] < _FEWEST_SAMPLES:
            reach += 1
        out[:, s] = (sums[:, s + reach + 1] - sums[:, s - reach]) / (2 * reach + 1)
    return out.exp()
