"""Tensor voting: every place on a sheet says how a sheet through it would go on, and what agrees adds up."""

import math

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

_REACH = 2.0  # standard deviations of the distance
_LEAST_COSINE2 = 0.5  # at most 45 degrees off the tangent plane, as a circle turns by twice that
_POWER = 4  # of the squared cosine: votes fall to half at 24 degrees off the tangent plane
_BATCH = 2_000_000  # votes at once on a GPU


def cast_votes(
    shape: tuple[int, int, int],
    places: Int[Tensor, "n 3"],
    normals: Float[Tensor, "3 n"],
    weights: Float[Tensor, " n"],
    sigma_px: float,
) -> Float[Tensor, "6 z y x"]:
    r"""Sum of the votes of sheets at some voxels, a symmetric tensor at every voxel [1]_.

    A sheet with normal n at distance :math:`l` along the unit vector u goes on along a circle, with the normal
    :math:`m = n - 2 (n \cdot u) u`. Its vote is :math:`w \exp(-l^2/2\sigma^2) (1 - (n \cdot u)^2)^4 m m^T`, nothing beyond two
    standard deviations or 45 degrees off its plane.

    Parameters
    ----------
    shape : (z, y, x)
    places : (z, y, x) of the voters; their device is that of the result
    normals : unit vectors z, y, x
    weights : >= 0
    sigma_px : voxels

    Returns
    -------
    in the order of `PAIRS`

    References
    ----------
    .. [1] Medioni, Lee & Tang, A Computational Framework for Segmentation and Grouping (2000); Martinez-Sanchez et al.,
       J. Struct. Biol. 186:49 (2014), doi:10.1016/j.jsb.2014.02.015
    """
    radius = max(1, math.ceil(_REACH * sigma_px))
    order = torch.argsort(places[:, 0], stable=True)
    places, normals, weights = places[order], normals[:, order], weights[order]
    if places.device.type != "cpu":
        return cast_votes_plainly(shape, places, normals, weights, sigma_px)
    z = places[:, 0].contiguous().numpy()
    planes = np.arange(shape[0])
    first, last = np.searchsorted(z, planes - radius), np.searchsorted(z, planes + radius, side="right")
    out = np.zeros((6, *shape), dtype=np.float32)
    _cast(
        out,
        places.numpy(),
        normals.T.contiguous().float().numpy(),
        weights.float().numpy(),
        np.float32(0.5 / sigma_px**2),
        radius,
        first,
        last,
    )
    return torch.from_numpy(out)


def cast_votes_plainly(
    shape: tuple[int, int, int],
    places: Int[Tensor, "n 3"],
    normals: Float[Tensor, "3 n"],
    weights: Float[Tensor, " n"],
    sigma_px: float,
) -> Float[Tensor, "6 z y x"]:
    """As :func:`cast_votes`, in tensor operations of any device."""
    radius = max(1, math.ceil(_REACH * sigma_px))
    line = torch.arange(-radius, radius + 1, device=places.device)
    offsets = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).reshape(-1, 3)
    offsets = offsets[offsets.square().sum(1) <= radius**2]
    far2 = offsets.square().sum(1).to(weights)
    unit = offsets.to(weights) / far2.sqrt().clamp(min=1.0)[:, None]
    near = torch.exp(-0.5 * far2 / sigma_px**2)
    size = torch.tensor(shape, device=places.device)
    out = torch.zeros(6, math.prod(shape), dtype=weights.dtype, device=places.device)
    step = max(1, _BATCH // len(offsets))
    for start in range(0, len(places), step):
        chosen = slice(start, start + step)
        to = places[chosen, None] + offsets
        n = normals.T[chosen, None]
        along = (n * unit).sum(-1)
        cosine2 = 1.0 - along**2
        weight = weights[chosen, None] * near * cosine2**_POWER
        good = (cosine2 >= _LEAST_COSINE2) & (to >= 0).all(-1) & (to < size).all(-1)
        m = (n - 2.0 * along[..., None] * unit)[good]
        index = ((to[..., 0] * shape[1] + to[..., 1]) * shape[2] + to[..., 2])[good]
        for row, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
            out[row].index_add_(0, index, weight[good] * m[:, i] * m[:, j])
    return out.reshape(6, *shape)


@numba.njit(parallel=True, nogil=True, cache=True, fastmath=True)
def _cast(
    out: NDArray[np.float32],
    places: NDArray[np.int64],
    normals: NDArray[np.float32],
    weights: NDArray[np.float32],
    falloff: np.float32,
    radius: int,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> None:
    table = np.empty(radius * radius + 1, dtype=np.float32)
    inverse = np.empty(radius * radius + 1, dtype=np.float32)
    for far2 in range(radius * radius + 1):
        table[far2] = np.exp(-falloff * far2)
        inverse[far2] = 1.0 / max(far2, 1)
    _, depth, rows, columns = out.shape
    for z in numba.prange(depth):  # each thread adds to planes of its own
        for voter in range(first[z], last[z]):
            dz = z - places[voter, 0]
            y, x = places[voter, 1], places[voter, 2]
            nz, ny, nx = normals[voter, 0], normals[voter, 1], normals[voter, 2]
            wide = int(np.sqrt(radius * radius - dz * dz))
            for dy in range(max(-wide, -y), min(wide, rows - 1 - y) + 1):
                narrow = int(np.sqrt(radius * radius - dz * dz - dy * dy))
                part = nz * dz + ny * dy
                for dx in range(max(-narrow, -x), min(narrow, columns - 1 - x) + 1):
                    far2 = dz * dz + dy * dy + dx * dx
                    dot = part + nx * dx
                    twice = dot * inverse[far2]
                    cosine2 = np.float32(1.0) - dot * twice
                    twice *= np.float32(2.0)
                    square = cosine2 * cosine2 if cosine2 >= np.float32(_LEAST_COSINE2) else np.float32(0.0)
                    weight = weights[voter] * table[far2] * square * square
                    mz, my, mx = nz - twice * dz, ny - twice * dy, nx - twice * dx
                    out[0, z, y + dy, x + dx] += weight * mz * mz
                    out[1, z, y + dy, x + dx] += weight * my * my
                    out[2, z, y + dy, x + dx] += weight * mx * mx
                    out[3, z, y + dy, x + dx] += weight * mz * my
                    out[4, z, y + dy, x + dx] += weight * mz * mx
                    out[5, z, y + dy, x + dx] += weight * my * mx
