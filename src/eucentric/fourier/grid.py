"""Spatial frequencies of a real FFT."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def frequency_vectors(
    shape: Sequence[int],
    spacing: float,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, ...]:
    """Frequencies along each axis in 1/A, shaped to broadcast against ``rfftn`` of an array of `shape`.

    Parameters
    ----------
    shape : real-space sizes, e.g. (y, x); the last axis is the half one
    spacing : A per sample, the same along all axes
    """
    out = []
    for axis, n in enumerate(shape):
        make = torch.fft.rfftfreq if axis == len(shape) - 1 else torch.fft.fftfreq
        line = make(n, d=spacing, device=device, dtype=torch.float64).to(dtype)
        out.append(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return tuple(out)


def frequency_grid(
    shape: Sequence[int],
    spacing: float,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*grid"]:
    """Length of the frequency vector in 1/A at every sample of ``rfftn`` of an array of `shape`."""
    vectors = frequency_vectors(shape, spacing, device=device, dtype=torch.float64)
    return torch.sqrt(sum((v**2 for v in vectors), start=torch.zeros((), dtype=torch.float64, device=device))).to(dtype)
