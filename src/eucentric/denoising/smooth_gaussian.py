"""Gaussian smoothing in Fourier space, and how much of it the halves ask for."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.fourier.grid import frequency_grid
from eucentric.fourier.shells import radial_average
from eucentric.signal.tiles import mirrored

_SHELLS = 64
_FALLBACK_ANGSTROM = 30.0
_SIGMAS_VOXELS = torch.logspace(math.log10(0.2), math.log10(6.0), 60, dtype=torch.float64)


def gaussian_filter(volume: Float[Tensor, "z y x"], sigma_angstrom: float, voxel_size: float) -> Float[Tensor, "z y x"]:
    r"""The volume times :math:`\exp(-2 \pi^2 s^2 k^2)` in Fourier space, mirrored at its faces.

    Parameters
    ----------
    sigma_angstrom : s
    voxel_size : A
    """
    frequency, padded = padded_transform(volume, math.ceil(4.0 * sigma_angstrom / voxel_size), voxel_size)
    padded *= torch.exp(-2.0 * math.pi**2 * sigma_angstrom**2 * frequency * frequency)
    return from_padded(padded, volume.shape)


def padded_transform(volume: Tensor, margin: int, voxel_size: float) -> tuple[Tensor, Tensor]:
    """Frequencies (1/A) and the transform of a volume that its mirror image continues for `margin` voxels at least."""
    for axis in range(3):
        size = volume.shape[axis]
        whole = good_size(size + 2 * margin)
        after = (whole - size + 1) // 2
        index = torch.cat([mirrored(0, size + after, size), mirrored(size + after - whole, 0, size)])
        volume = volume.index_select(axis, index.to(volume.device))
    frequency = frequency_grid(tuple(volume.shape), voxel_size, device=volume.device, dtype=volume.dtype)
    return frequency, torch.fft.rfftn(volume)


def from_padded(transform: Tensor, shape: torch.Size) -> Tensor:
    """The volume of :func:`padded_transform`."""
    size = [good_size_of(transform, axis) for axis in range(3)]
    out: Tensor = torch.fft.irfftn(transform, s=size)
    return out[: shape[0], : shape[1], : shape[2]].contiguous()


def good_size_of(transform: Tensor, axis: int) -> int:
    """Real size of an axis of a half transform; padded sizes are even."""
    return transform.shape[axis] if axis < 2 else 2 * (transform.shape[2] - 1)


def fallback_sigma() -> float:
    """A: halves the amplitude of detail of 30 A."""
    return _FALLBACK_ANGSTROM * math.sqrt(math.log(2.0) / 2.0) / math.pi


def choose_gaussian_sigma(volume: Float[Tensor, "z y x"], noise: Float[Tensor, "z y x"], voxel_size: float) -> float:
    r"""The sigma in A with the least expected square error, :math:`\sum_k (1 - G)^2 S + G^2 N` over shells.

    Parameters
    ----------
    volume : specimen and noise
    noise : of the same block and scale, without the specimen; what the volume has more power than that is signal
    """
    shape = tuple(volume.shape)
    powers = [torch.fft.rfftn(v - v.mean()).abs().double().square() for v in (volume, noise)]
    whole, noise_power = (radial_average(power, shape, _SHELLS) for power in powers)
    signal_power = (whole - noise_power).clamp(min=0.0)
    frequency = (torch.arange(_SHELLS, dtype=torch.float64, device=volume.device) + 0.5) / (2 * _SHELLS)
    count = frequency**2
    sigmas = _SIGMAS_VOXELS.to(volume.device)
    gain = torch.exp(-2.0 * math.pi**2 * sigmas[:, None] ** 2 * frequency**2)
    error = (((1 - gain) ** 2 * signal_power + gain**2 * noise_power) * count).sum(1)
    return float(sigmas[int(error.argmin())]) * voxel_size
