"""The exposure that an image of a series stands for."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.grid import frequency_grid
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.typing import FloatArray


def mid_exposures(count: int, pre_exposures: ArrayLike | None, doses: ArrayLike | None) -> FloatArray | None:
    """(tilt,) e/A^2 at the middle of each image; None where it is unknown.

    Parameters
    ----------
    count : of tilts
    pre_exposures, doses : (tilt,) e/A^2 before and during each image

    Raises
    ------
    ShapeError, InputError : not one number for each tilt; numbers that are not finite
    """
    if pre_exposures is None:
        return None
    before = np.asarray(pre_exposures, dtype=np.float64)
    during = np.zeros_like(before) if doses is None else np.asarray(doses, dtype=np.float64)
    if before.shape != (count,) or during.shape != (count,):
        raise ShapeError(
            f"{count} tilts, {before.shape} pre-exposures and {during.shape} doses were given; expected one each for "
            "every tilt."
        )
    if not (np.isfinite(before).all() and np.isfinite(during).all()):
        raise InputError(
            "A pre-exposure or dose is not finite. Give the dose with the import, or turn dose weighting off."
        )
    return np.asarray(before + 0.5 * during, dtype=np.float64)


def fade_lost_detail(
    images: Float[Tensor, "tilt y x"],
    pixel_size: float,
    *,
    exposures: ArrayLike | None,
    voltage_kv: float = 300.0,
    signal: TiltStrength | None = None,
) -> Float[Tensor, "tilt y x"]:
    """Images with the detail faded that radiation had destroyed, or that is blurred: what is left where it was is noise.

    Parameters
    ----------
    pixel_size : A per pixel
    exposures : (tilt,) e/A^2 at the middle of each image; None for no damage
    signal : its B factors count here, its scales do not
    """
    if exposures is None and signal is None:
        return images
    shape = (images.shape[1], images.shape[2])
    frequency = frequency_grid(shape, pixel_size, device=images.device)
    out = torch.empty_like(images)
    given = None if exposures is None else np.asarray(exposures, dtype=np.float64)
    for t in range(len(images)):
        weight = torch.ones_like(frequency)
        if given is not None:
            weight = exposure_weights(frequency, float(given[t]), voltage_kv=voltage_kv)
        if signal is not None:
            weight = weight * signal.fading(frequency, t)
        out[t] = torch.fft.irfft2(torch.fft.rfft2(images[t]).mul_(weight), s=shape)
    return out
