"""Cubic B-splines: the interpolation behind every read of an image or a projection line."""

import math

import torch
from torch import Tensor

POLE = math.sqrt(3.0) - 2.0
REACH = 12
"""Samples beyond the ends of a zero-extended signal where its spline coefficients still matter: POLE**12 is 1e-7."""


def prefilter_kernel(dtype: torch.dtype = torch.float64) -> Tensor:
    """(2 REACH + 1,) convolution that turns samples into cubic B-spline coefficients, ``sqrt(3) POLE**|j|`` [1]_.

    References
    ----------
    .. [1] Unser, Aldroubi & Eden, IEEE Trans. Signal Process. 41:821 (1993), doi:10.1109/78.193220
    """
    j = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    return (math.sqrt(3.0) * POLE ** j.abs()).to(dtype)


def cubic_weights(fraction: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four coefficients at floor - 1, floor, floor + 1, floor + 2."""
    f = fraction
    g = 1.0 - f
    return g**3 / 6.0, 2.0 / 3.0 - f**2 * (2.0 - f) / 2.0, 2.0 / 3.0 - g**2 * (2.0 - g) / 2.0, f**3 / 6.0


def line_matrix(width: int, length: int, q0: float, step: float, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(width, length): plain samples of a line to fine ones, at ``(q - q0) * step + width // 2``; zero outside."""
    position = (torch.arange(length, dtype=torch.float64) - q0) * step + width // 2
    base = position.floor()
    taps = torch.zeros(length, width + 2 * REACH + 4, dtype=torch.float64)
    offset = REACH + 2
    for tap, weight in enumerate(cubic_weights(position - base)):
        index = base.long() + tap - 1 + offset
        inside = (index >= 2) & (index < width + 2 * REACH + 2)
        taps[inside, index[inside]] += weight[inside]
    # coefficient k is the convolution of the samples with the prefilter
    kernel = prefilter_kernel()
    k = torch.arange(taps.shape[1])[:, None] - offset
    lag = k - torch.arange(width)[None, :]
    prefilter = torch.where(lag.abs() <= REACH, kernel[(lag + REACH).clamp(0, 2 * REACH)], 0.0)
    return (taps @ prefilter).T.contiguous().to(dtype=dtype, device=device)
