"""Ramp filter, its fall-off, and the weight of each view."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.fourier.filters import soft_edge
from eucentric.typing import FloatArray

Window = Literal["sharp", "hamming", "hann", "cosine", "gaussian"]


def window_gain(fraction_of_nyquist: Float[Tensor, "*grid"], window: Window) -> Float[Tensor, "*grid"]:
    """Fall-off that goes on top of the ramp; zero from Nyquist on.

    ``sharp`` keeps everything and ends in a soft edge from 0.9 to 1 Nyquist; ``hamming`` falls to 0.08, ``hann`` and
    ``cosine`` to 0 and ``gaussian`` to exp(-2) = 0.14 at Nyquist.

    Raises
    ------
    InputError : a name that is none of these
    """
    r = fraction_of_nyquist
    match window:
        case "sharp":
            return soft_edge(r, 0.9, 1.0)
        case "hamming":
            gain = 0.54 + 0.46 * torch.cos(math.pi * r)
        case "hann":
            gain = 0.5 + 0.5 * torch.cos(math.pi * r)
        case "cosine":
            gain = torch.cos(0.5 * math.pi * r)
        case "gaussian":
            gain = torch.exp(-2.0 * r * r)
        case _:
            raise InputError(f"The filter `{window}` is unknown; expected sharp, hamming, hann, cosine or gaussian.")
    return torch.where(r <= 1.0, gain, torch.zeros_like(gain))


def ramp_filter(
    n: int, *, spacing: float = 1.0, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Float[Tensor, " half_n"]:
    r"""Sampled ramp :math:`|k|` for the rfft of a line of `n` samples [1]_, in 1/unit of `spacing`.

    Made from the band-limited kernel in real space, 1/4, then :math:`-1/\pi^2 j^2` at odd distances j: this gives zero
    frequency its right small value and so leaves no bowl or pedestal, which a ramp set to zero there does. Lines must
    be padded to at least twice their length.

    References
    ----------
    .. [1] Kak & Slaney, Principles of Computerized Tomographic Imaging (1988), section 3.3.3
    """
    j = torch.arange(n, dtype=torch.float64)
    j = torch.minimum(j, n - j)
    odd = j.remainder(2) == 1
    kernel = torch.where(odd, -1.0 / (math.pi * j.clamp(min=1.0)) ** 2, 0.0)
    kernel[0] = 0.25
    # kernel / spacing^2 is the response per unit, times spacing for the sum that stands for the integral
    gain: Tensor = torch.fft.rfft(kernel).real / spacing
    return gain.to(dtype=dtype, device=device)


def angular_weights(tilt_angles_deg: ArrayLike) -> FloatArray:
    """Angle in radians that each view stands for: half the gap to either neighbour; one gap at the ends of the range.

    Views at the same angle share its weight. Views that span half a turn, such as -90 to 90 degrees, are periodic: -90
    and 90 are then one direction. One view alone weighs 1.
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    distinct, inverse, counts = np.unique(np.round(angles, 6), return_inverse=True, return_counts=True)
    if len(distinct) == 1:
        return np.full(angles.shape, 1.0 / len(angles))
    gaps = np.diff(distinct)
    closing = 180.0 - (distinct[-1] - distinct[0])
    if closing <= 1.5 * float(np.median(gaps)):
        closing = max(closing, 0.0)
        before = np.concatenate([[closing], gaps])
        after = np.concatenate([gaps, [closing]])
        if closing < 1e-6:
            # the two ends are the same direction and share one gap on either side
            before[0] = after[-1] = 0.0
        weights = 0.5 * (before + after)
    else:
        weights = 0.5 * (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]]))
    return np.asarray(np.deg2rad(weights / counts)[inverse], dtype=np.float64)


def filter_lines(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    window: Window = "sharp",
    weights: ArrayLike | None = None,
) -> Float[Tensor, "tilt y x"]:
    """Weight images for back-projection: ramp across the tilt axis, fall-off, and the angle that each view stands for.

    ``back_project(filter_lines(project(v, ...), ...), ...)`` has the amplitude of `v` in the sampled part of Fourier
    space.

    Parameters
    ----------
    images : (tilt, y, x) with the tilt axis on +y, mean subtracted, edges tapered
    tilt_angles_deg : (tilt,)
    window : fall-off, applied across the axis
    weights : (tilt,), instead of :func:`angular_weights`
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    factor = angular_weights(angles) if weights is None else np.asarray(weights, dtype=np.float64)
    if factor.shape != (images.shape[0],):
        raise InputError(
            f"{images.shape[0]} images and {factor.shape} weights were given; expected one weight for each image."
        )
    width = images.shape[-1]
    n = good_size(2 * width)
    gain = ramp_filter(n, dtype=images.dtype, device=images.device)
    gain = gain * window_gain(2.0 * torch.fft.rfftfreq(n, device=images.device, dtype=images.dtype), window)
    out = torch.empty_like(images)
    for t in range(images.shape[0]):
        out[t] = torch.fft.irfft(torch.fft.rfft(images[t], n=n) * (gain * factor[t]), n=n)[..., :width]
    return out
