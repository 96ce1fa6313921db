"""Averages over neighbours of like value."""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.signal.tiles import gaussian_taps, smooth_separably, trimmed

_GUIDE_SIGMA = 1.0  # voxels: single voxels of tomograms are noise, so that likeness is asked of values smoothed so far
_GUIDE_RADIUS = 3


def _reach(sigma: float) -> int:
    return max(1, math.ceil(2.0 * sigma))


def bilateral_halo(sigma: float) -> int:
    """Voxels around a block that decide it."""
    return _reach(sigma) + _GUIDE_RADIUS


def guide_of(block: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    """The smoothed values that are compared; 3 voxels less on every side."""
    return smooth_separably(block, gaussian_taps(_GUIDE_SIGMA, _GUIDE_RADIUS, block))


def bilateral_filter(block: Float[Tensor, "z y x"], sigma: float, value_sigma: float) -> Float[Tensor, "z y x"]:
    r"""Averages with weights :math:`\exp(-d^2 / 2 s^2 - (g_i - g_j)^2 / 2 v^2)` over neighbours to 2 s away [1]_.

    The values g that are compared are those of the block smoothed by a Gaussian of one voxel (a joint bilateral filter [2]_), as
    the noise of a voxel is stronger than any edge. The block loses :func:`bilateral_halo` voxels on every side.

    Parameters
    ----------
    block : with its halo
    sigma : voxels, s
    value_sigma : v, in the unit of the volume

    References
    ----------
    .. [1] Tomasi & Manduchi, Proc. ICCV 839 (1998), doi:10.1109/ICCV.1998.710815
    .. [2] Petschnigg et al., ACM Trans. Graph. 23:664 (2004), doi:10.1145/1015706.1015777
    """
    reach = _reach(sigma)
    guide, values = guide_of(block), trimmed(block, _GUIDE_RADIUS)
    centre = trimmed(guide, reach)
    total, weight = torch.zeros_like(centre), torch.zeros_like(centre)
    shape = centre.shape
    for offset in itertools.product(range(-reach, reach + 1), repeat=3):
        distance = sum(o * o for o in offset)
        if distance > reach * reach:
            continue
        cut = tuple(slice(reach + o, reach + o + n) for o, n in zip(offset, shape, strict=True))
        likeness = (guide[cut] - centre).square_().mul_(-0.5 / value_sigma**2)
        likeness = likeness.sub_(0.5 * distance / sigma**2).exp_()
        total.addcmul_(likeness, values[cut])
        weight += likeness
    return total / weight
