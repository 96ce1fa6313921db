"""Averages over rings and shells of equal frequency."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.fourier.grid import frequency_grid


def shell_index(shape: Sequence[int], count: int, *, device: torch.device | str = "cpu") -> Int[Tensor, "*half_grid"]:
    """Shell number of every sample of an rfft: `count` equal shells from zero to Nyquist; beyond is `count`."""
    radius = frequency_grid(shape, 1.0, device=device, dtype=torch.float64)
    return torch.clamp((radius * 2.0 * count + 1e-9).floor().long(), max=count)


def _half_weights(shape: Sequence[int], device: torch.device | str) -> Tensor:
    """How many samples of the full FFT each sample of the half one stands for."""
    n = shape[-1]
    weights = torch.full((n // 2 + 1,), 2.0, device=device, dtype=torch.float64)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    return weights


def radial_average(power: Float[Tensor, "*half_grid"], shape: Sequence[int], count: int) -> Float[Tensor, " shell"]:
    """Mean over shells of a quantity given on the samples of an rfft of an array of `shape`."""
    index = shell_index(shape, count, device=power.device).reshape(-1)
    weights = _half_weights(shape, power.device).expand(power.shape).reshape(-1)
    total = torch.zeros(count + 1, dtype=torch.float64, device=power.device)
    norm = torch.zeros_like(total)
    total.index_add_(0, index, power.reshape(-1).double() * weights)
    norm.index_add_(0, index, weights)
    return (total / norm.clamp(min=1.0))[:count].to(power.dtype)


def fourier_shell_correlation(
    a: Float[Tensor, "*grid"],
    b: Float[Tensor, "*grid"],
    spacing: float,
    *,
    mask: Float[Tensor, "*half_grid"] | None = None,
) -> tuple[Float[Tensor, " shell"], Float[Tensor, " shell"]]:
    """Correlation of two volumes (or images) in shells one voxel of the largest axis thick.

    Parameters
    ----------
    a, b : (z, y, x) or (y, x), the same shape
    spacing : A per voxel
    mask : weight of each rfft sample, e.g. 1 inside the sampled region

    Returns
    -------
    centre frequency of each shell (1/A); correlation in [-1, 1], zero where a shell is empty
    """
    if a.shape != b.shape:
        raise ShapeError(f"The volumes have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected the same.")
    shape = tuple(a.shape)
    count = max(shape) // 2
    fa, fb = torch.fft.rfftn(a), torch.fft.rfftn(b)
    if mask is not None:
        fa, fb = fa * mask, fb * mask
    cross = radial_average((fa * fb.conj()).real, shape, count)
    norm = torch.sqrt(radial_average(fa.abs() ** 2, shape, count) * radial_average(fb.abs() ** 2, shape, count))
    frequency = (torch.arange(count, device=a.device, dtype=a.dtype) + 0.5) / (2 * count * spacing)
    return frequency, torch.where(
        norm > 0, cross / norm.clamp(min=torch.finfo(norm.dtype).tiny), torch.zeros_like(norm)
    )
