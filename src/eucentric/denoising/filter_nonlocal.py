"""Non-local means."""

import itertools

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.signal.tiles import trimmed


def nonlocal_means(
    block: Float[Tensor, "z y x"],
    sigma: float,
    decay: float,
    *,
    search_radius: int,
    patch_radius: int,
) -> Float[Tensor, "z y x"]:
    r"""Averages of the voxels near each, weighted by how alike the patches around them are [1]_.

    The weight is :math:`\exp(-\max(d^2 - 2\sigma^2, 0) / h^2)`, d^2 the mean square difference of two patches, of which
    :math:`2\sigma^2` is noise. A voxel itself has the greatest weight among its neighbours. The block loses
    ``search_radius + patch_radius`` voxels on every side.

    Parameters
    ----------
    block : with its halo
    sigma : 1 sd of the noise of a voxel
    decay : h, in the unit of the volume
    search_radius, patch_radius : voxels, of cubes

    References
    ----------
    .. [1] Buades, Coll & Morel, Multiscale Model. Simul. 4:490 (2005), doi:10.1137/040616024
    """
    reach = search_radius
    inner = trimmed(block, reach)
    shape = [n - 2 * patch_radius for n in inner.shape]
    total, weight, most = (block.new_zeros(shape) for _ in range(3))
    for offset in itertools.product(range(-reach, reach + 1), repeat=3):
        if offset == (0, 0, 0):
            continue
        cut = tuple(slice(reach + o, reach + o + n) for o, n in zip(offset, inner.shape, strict=True))
        other = block[cut]
        apart = _patch_means((other - inner).square_(), patch_radius)
        likeness = apart.sub_(2.0 * sigma * sigma).clamp_(min=0.0).mul_(-1.0 / decay**2).exp_()
        total.addcmul_(likeness, trimmed(other, patch_radius))
        weight += likeness
        most = torch.maximum(most, likeness)
    most.clamp_(min=torch.finfo(block.dtype).tiny)
    return (total + most * trimmed(inner, patch_radius)) / (weight + most)


def patch_noise(sample: Float[Tensor, "z y x"], patch_radius: int) -> float:
    """1 sd of the mean square difference between patches of noise alone: what chance makes of patches that are alike."""
    gap = 2 * patch_radius + 1  # patches that do not overlap
    if sample.shape[2] <= 2 * gap:
        return float(sample.double().var())
    apart = _patch_means((sample[:, :, gap:] - sample[:, :, :-gap]).square(), patch_radius)
    return float(apart.double().std())


def _patch_means(squares: Tensor, radius: int) -> Tensor:
    return functional.avg_pool3d(squares[None, None], 2 * radius + 1, stride=1)[0, 0]
