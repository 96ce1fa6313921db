"""How strong the noise of an image is."""

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier.filters import taper_edges
from eucentric.fourier.shells import radial_average


def noise_power(image: Float[Tensor, "y x"]) -> float:
    """Variance per pixel of the white noise in an image: its power between 0.8 and 1 of the Nyquist frequency.

    Counting noise is white, while the envelopes of microscope and detector leave little of the specimen there.
    """
    shape = (image.shape[-2], image.shape[-1])
    tapered = taper_edges(image - image.mean(), max(2, min(shape) // 16))
    window = taper_edges(torch.ones_like(image), max(2, min(shape) // 16))
    power = torch.fft.rfft2(tapered).abs() ** 2 / (window**2).sum()
    count = max(10, min(shape) // 4)
    shells = radial_average(power, shape, count)
    return float(shells[int(0.8 * count) :].median())
