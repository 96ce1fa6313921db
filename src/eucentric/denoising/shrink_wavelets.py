"""Shrinkage of undecimated wavelet detail."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.signal.tiles import quantile, smooth_separably, trimmed

_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_NEIGHBOURS = 2  # voxels to either side over which the energy of detail is averaged
_NOISE_BELOW = 0.99


def wavelet_halo(scales: int) -> int:
    """Voxels around a block that decide it."""
    return 2 * ((1 << scales) - 1) + _NEIGHBOURS


def _coarser(block: Tensor, scale: int) -> Tensor:
    return smooth_separably(block, torch.tensor(_TAPS, dtype=block.dtype, device=block.device), 2**scale)


def finest_detail(volume: Float[Tensor, "z y x"]) -> Float[Tensor, " voxel"]:
    """Values of the first scale, away from the faces of the volume."""
    return (trimmed(volume, 2) - _coarser(volume, 0)).reshape(-1)


def white_noise_share() -> float:
    """Spread of the finest detail of white noise of unit spread."""
    centre, squares = _TAPS[2] ** 3, sum(t * t for t in _TAPS) ** 3
    return math.sqrt(1.0 - 2.0 * centre + squares)


def detail_limits(noise: Float[Tensor, "z y x"], scales: int) -> list[float]:
    """What 99% of a volume of noise stays below at every scale: root of the mean square detail over 5^3 neighbours.

    Where the block is too small for a scale, each has 2^(-3/2) of the finer one's, as of noise without correlation.
    """
    out: list[float] = []
    for scale in range(scales):
        if min(noise.shape) <= 4 * 2**scale + 2 * _NEIGHBOURS:
            out.append(out[-1] * 2**-1.5 if out else float(noise.std()) * white_noise_share())
            continue
        smooth = _coarser(noise, scale)
        energy = _local_energy(trimmed(noise, 2 * 2**scale) - smooth)
        out.append(quantile(energy, _NOISE_BELOW) ** 0.5)
        noise = smooth
    return out


def _local_energy(detail: Tensor) -> Tensor:
    return functional.avg_pool3d((detail * detail)[None, None], 2 * _NEIGHBOURS + 1, stride=1)[0, 0]


def shrink_wavelets(block: Float[Tensor, "z y x"], limits: Sequence[float]) -> Float[Tensor, "z y x"]:
    r"""A block without what noise explains at each scale; it loses :func:`wavelet_halo` voxels on every side.

    The detail :math:`w_j` between smoothings with a B3 spline, 2^j voxels between its taps (a trous [1]_), is multiplied by
    :math:`\max(0, 1 - \sigma_j^2 / \overline{w_j^2})`, the mean over the 5^3 neighbours [2]_. Limits above the
    plain spread of the noise leave no specks of it. The coarsest smoothing is kept.

    Parameters
    ----------
    block : with its halo
    limits : sigma_j of each scale, finest first, such as :func:`detail_limits`

    References
    ----------
    .. [1] Starck, Murtagh & Bijaoui, Image Processing and Data Analysis, Cambridge (1998)
    .. [2] Mihcak et al., IEEE Signal Process. Lett. 6:300 (1999), doi:10.1109/97.803428
    """
    left = wavelet_halo(len(limits))
    size = [n - 2 * left for n in block.shape]
    out = block.new_zeros(size)
    for scale, limit in enumerate(limits):
        step = 2 * 2**scale
        smooth = _coarser(block, scale)
        left -= step
        near = trimmed(trimmed(block, step) - smooth, left - _NEIGHBOURS)
        energy = _local_energy(near)
        gain = (1.0 - limit * limit / energy.clamp(min=torch.finfo(energy.dtype).tiny)).clamp(min=0.0)
        out += gain * trimmed(near, _NEIGHBOURS)
        block = smooth
    return out + trimmed(block, left)
