"""Images that show something else where the particle is: a gold bead, a crystal of ice, the edge of the carbon, of the field.

What is in few places of an image is not part of the noise that is measured for it (see `noise_power`). So the power in the middle
of each box is compared with that at places all over the same image, which hold particles and their neighbours too. An
image whose power is beyond what they scatter by, and beyond what the particle shows in its other images, counts with the noise
that it has, not with that of the tilt.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eucentric.fourier.filters import soft_edge
from eucentric.fourier.shells import shell_index
from eucentric.typing import FloatArray

CORE = 0.5
"""Of the box, in the middle: the particle."""
_BANDS = (1, 2, 4, 8, 16, 32)
"""First shells of bands, an octave each: within one, power over the noise is taken for the same."""
_SCATTER = 4.0
"""Deviations of the logarithm of the power, from its quartiles, up to which an image is as good as any."""
_OWN = 4.0
"""Times the power in half of the particle's own images, up to which an image is as good as any, too."""
_QUARTILES = 1.349  # between those of a normal distribution, in deviations
_FEWEST = 16  # places that tell how power scatters


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsualPower:
    """Power in the middle of boxes, over the noise, up to which an image of a series counts in full."""

    limits: Float[Tensor, "tilt band"]
    band: Int[Tensor, "n half_n"]
    """Of each sample of a box's rfft2."""
    disc: Float[Tensor, "n n"]
    inverse_noise: Float[Tensor, "tilt n half_n"]

    def shares(self, boxes: Float[Tensor, "image n n"], tilts: NDArray[np.int64]) -> Float[Tensor, "image n half_n"]:
        """How much each image of one particle counts at each frequency: 1, or less where its power is beyond the usual.

        A particle that stands out by itself does so in all of its images, and counts in full.

        Parameters
        ----------
        boxes : the images as they are, the particle near pixel ``n // 2``
        tilts : (image,), of each
        """
        index = torch.from_numpy(tilts).to(boxes.device)
        power = band_power(boxes, self.disc, self.inverse_noise[index], self.band, self.limits.shape[1])
        over = power / self.limits[index].clamp_min(torch.finfo(power.dtype).tiny)
        allowed = (_OWN * over.median(0).values).clamp_min(1.0)
        by_band = (allowed / over.clamp_min(torch.finfo(power.dtype).tiny)).clamp(max=1.0)
        return by_band[:, self.band]


def usual_power(images: Float[Tensor, "tilt y x"], inverse_noise: Float[Tensor, "tilt n half_n"]) -> UsualPower | None:
    """From boxes at places half a box apart all over the images; None where there are too few of them.

    Parameters
    ----------
    images : contrast
    inverse_noise : one over the power of the noise in a transform of a box, on the samples of its rfft2
    """
    n = inverse_noise.shape[1]
    height, width = images.shape[1:]
    if min(height, width) < n:
        return None
    band = band_of_samples(n, images.device)
    count = int(band.max()) + 1
    line = torch.arange(n, dtype=images.dtype, device=images.device) - n // 2
    radius = torch.sqrt(line[:, None].square() + line.square())
    disc = soft_edge(radius, 0.5 * CORE * n - 1.0, 0.5 * CORE * n + 1.0)
    limits = images.new_empty((len(images), count))
    for t, image in enumerate(images):
        boxes = image.unfold(0, n, max(1, n // 2)).unfold(1, n, max(1, n // 2)).reshape(-1, n, n)
        if len(boxes) < _FEWEST:
            return None
        logs = band_power(boxes, disc, inverse_noise[t : t + 1], band, count).clamp_min(1e-12).log()
        low, middle, high = torch.quantile(logs, logs.new_tensor([0.25, 0.5, 0.75]), dim=0)
        limits[t] = (middle + _SCATTER * (high - low) / _QUARTILES).exp()
    return UsualPower(limits=limits, band=band, disc=disc, inverse_noise=inverse_noise)


def band_of_samples(n: int, device: torch.device) -> Int[Tensor, "n half_n"]:
    """The band of each sample of the rfft2 of a box; zero frequency is in the first."""
    shell = shell_index((n, n), n // 2, device=device)
    starts = torch.tensor([s for s in _BANDS if s < n // 2], device=device)
    return (torch.searchsorted(starts, shell.contiguous(), right=True) - 1).clamp_min(0)


def band_power(
    boxes: Float[Tensor, "image n n"],
    disc: Float[Tensor, "n n"],
    inverse_noise: Float[Tensor, "image n half_n"],
    band: Int[Tensor, "n half_n"],
    count: int,
) -> Float[Tensor, "image band"]:
    """Mean power over the noise within a disc about pixel ``n // 2``, in each band."""
    inside = (boxes - (boxes * disc).sum((1, 2), keepdim=True) / disc.sum()) * disc
    power = torch.fft.rfft2(inside).abs().square() * inverse_noise
    flat = band.reshape(-1)
    out = power.new_zeros((len(boxes), count)).index_add_(1, flat, power.flatten(1))
    norm = power.new_zeros(count).index_add_(0, flat, torch.ones_like(flat, dtype=power.dtype))
    mean: Tensor = out / (norm * disc.square().mean())
    return mean


def seen_part(centres: FloatArray, radius: float, size: FloatArray, faded: float) -> FloatArray:
    """(image,) how much of the square about each particle its image shows: less than one at the edges of the field.

    Parameters
    ----------
    centres : (image, 2) x and y in pixels
    radius : half the edge of the square, pixels
    size : of the image, x and y, pixels
    faded : how far each of its edges is faded, pixels
    """
    out = np.ones(len(centres))
    for axis in range(2):
        line = np.linspace(0.0, size[axis], 8 * math.ceil(size[axis]) + 1)
        depth = np.minimum(line, size[axis] - line) / faded
        shown = 0.5 - 0.5 * np.cos(np.pi * np.clip(depth, 0.0, 1.0))
        total = np.concatenate([[0.0], np.cumsum(0.5 * (shown[1:] + shown[:-1]))]) * (line[1] - line[0])
        # pixels are counted from their centres
        low, high = (np.interp(centres[:, axis] + 0.5 + side * radius, line, total) for side in (-1.0, 1.0))
        out *= (high - low) / (2.0 * radius)
    return np.clip(out, 0.0, 1.0)
