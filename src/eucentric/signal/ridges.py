"""Bright sheets in volumes: how strongly every voxel lies on one, and which way it faces."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.signal.symmetric_tensors import PAIRS, extreme_eigenvalues
from eucentric.signal.tiles import filter_volume, gaussian_taps, smooth_separably

_PLANES = 8  # at once, so that the curvatures' temporaries stay small
_REACH = 3.5  # standard deviations of the Gaussian that are summed


def smooth_volume(volume: Float[Tensor, "z y x"], sigma_px: float) -> Float[Tensor, "z y x"]:
    """The volume after a Gaussian of one standard deviation `sigma_px` (voxels), mirrored at the faces."""
    radius = max(1, int(-(-_REACH * sigma_px // 1)))
    taps = gaussian_taps(sigma_px, radius, volume)
    return filter_volume(volume, lambda block: smooth_separably(block, taps), radius)


def sheet_strength(smooth: Float[Tensor, "z y x"], *, alone: bool = False) -> Float[Tensor, "z y x"]:
    r"""How strongly a smoothed volume curves downwards across a sheet: the size of the most negative eigenvalue of its Hessian [1]_.

    Zero on the outermost layer of voxels. Voxels that curve upwards in all directions are negative.

    Parameters
    ----------
    smooth : sheets bright
    alone : take off the greatest size of the other two eigenvalues, so that threads and balls count for little

    References
    ----------
    .. [1] Steger, IEEE Trans. Pattern Anal. Mach. Intell. 20:113 (1998), doi:10.1109/34.659930
    """
    strength = torch.zeros_like(smooth)
    depth = smooth.shape[0]
    for start in range(1, depth - 1, _PLANES):
        stop = min(start + _PLANES, depth - 1)
        tensor = _curvatures(smooth[start - 1 : stop + 1])
        most, least = extreme_eigenvalues(tensor)
        if alone:
            middle = tensor[0] + tensor[1] + tensor[2] - most - least
            least = least + torch.maximum(most.abs(), middle.abs())
        strength[start:stop, 1:-1, 1:-1] = -least
    return strength


def curvatures_at(volume: Float[Tensor, "z y x"], places: Int[Tensor, "n 3"]) -> Float[Tensor, "6 n"]:
    """Second derivatives at single voxels (z, y, x), none of them on a face, in the order of `PAIRS`."""

    def at(*moves: int) -> Tensor:
        return volume[tuple((places + torch.tensor(moves, device=places.device)).T)]

    return torch.stack([_second_difference(at, i, j) for i, j in PAIRS])


def _curvatures(block: Float[Tensor, "z y x"]) -> Float[Tensor, "6 inner_z inner_y inner_x"]:
    """The same everywhere; the block loses a voxel on every side."""

    def at(*moves: int) -> Tensor:
        return block[tuple(slice(1 + m, n - 1 + m) for m, n in zip(moves, block.shape, strict=True))]

    return torch.stack([_second_difference(at, i, j) for i, j in PAIRS])


def _second_difference(at: Callable[..., Tensor], i: int, j: int) -> Tensor:
    def moved(by_i: int, by_j: int) -> Tensor:
        moves = [0, 0, 0]
        moves[i] += by_i
        moves[j] += by_j
        return at(*moves)

    if i == j:
        return moved(1, 0) - 2.0 * moved(0, 0) + moved(-1, 0)
    return 0.25 * (moved(1, 1) - moved(1, -1) - moved(-1, 1) + moved(-1, -1))


def read_between(volume: Float[Tensor, "z y x"], places: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Values between voxels, on straight lines along each axis; places (z, y, x) are held within the volume."""
    most = torch.tensor(volume.shape, dtype=places.dtype, device=places.device) - 1.0
    held = torch.minimum(places.clamp(min=0.0), most)
    low = torch.minimum(held.floor(), (most - 1.0).clamp(min=0.0))
    part, first = held - low, low.long()
    out = torch.zeros(len(places), dtype=volume.dtype, device=volume.device)
    last = most.long()
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=places.device)
        weight = torch.where(step.bool(), part, 1.0 - part).prod(1)
        out += weight * volume[tuple(torch.minimum(first + step, last).T)]
    return out


def on_crest(strength: Float[Tensor, "z y x"], places: Int[Tensor, "n 3"], normals: Float[Tensor, "3 n"]) -> Tensor:
    """Which voxels (z, y, x) are at least as strong as what lies a voxel along their normal, on either side; (n,) bool."""
    here = strength[tuple(places.T)]
    middle, across = places.to(strength.dtype), normals.T
    return (here >= read_between(strength, middle + across)) & (here >= read_between(strength, middle - across))
