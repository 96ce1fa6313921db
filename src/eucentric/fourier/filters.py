"""Soft filters and edges."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def soft_edge(value: Float[Tensor, "*grid"], start: float, stop: float) -> Float[Tensor, "*grid"]:
    """1 below `start`, 0 above `stop`, half a cosine between."""
    if stop <= start:
        return (value <= start).to(value.dtype)
    ramp = ((value - start) / (stop - start)).clamp(0.0, 1.0)
    return 0.5 * (1.0 + torch.cos(math.pi * ramp))


def band_pass(
    frequency: Float[Tensor, "*grid"],
    *,
    low_pass_angstrom: float = 0.0,
    high_pass_angstrom: float = 0.0,
    edge: float = 0.2,
) -> Float[Tensor, "*grid"]:
    """Keep detail between two lengths; zero means no limit on that side.

    Parameters
    ----------
    frequency : 1/A
    low_pass_angstrom : finer detail is removed; the half-way point of the soft edge
    high_pass_angstrom : coarser detail, and the mean, is removed
    edge : width of each soft edge as a fraction of its frequency
    """
    out = torch.ones_like(frequency)
    if low_pass_angstrom > 0:
        cut = 1.0 / low_pass_angstrom
        out = out * soft_edge(frequency, cut * (1 - edge / 2), cut * (1 + edge / 2))
    if high_pass_angstrom > 0:
        cut = 1.0 / high_pass_angstrom
        out = out * (1.0 - soft_edge(frequency, cut * (1 - edge / 2), cut * (1 + edge / 2)))
        out = torch.where(frequency == 0, torch.zeros_like(out), out)
    return out


def taper_edges(image: Float[Tensor, "*batch y x"], width_px: int) -> Float[Tensor, "*batch y x"]:
    """Images that fall to zero over `width_px` pixels at each edge; subtract the mean first."""
    out = image
    for dim in (-2, -1):
        n = image.shape[dim]
        index = torch.arange(n, device=image.device, dtype=image.dtype)
        depth = torch.minimum(index, n - 1 - index)
        window = 1.0 - soft_edge(depth, 0.0, float(min(width_px, n // 2)))
        out = out * (window[:, None] if dim == -2 else window)
    return out
