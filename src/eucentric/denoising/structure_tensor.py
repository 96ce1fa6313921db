"""Gradients, and the tensor that tells edges, sheets and threads from noise."""

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.signal.symmetric_tensors import PAIRS
from eucentric.signal.tiles import gaussian_taps, smooth_separably, trimmed

_GRADIENT_SIGMA, _GRADIENT_RADIUS = 1.0, 3
_TENSOR_SIGMA, _TENSOR_RADIUS = 1.5, 4
TENSOR_HALO = _GRADIENT_RADIUS + 1 + _TENSOR_RADIUS
"""Voxels around a block that decide its tensor."""


def gradient(block: Float[Tensor, "z y x"]) -> Float[Tensor, "3 z y x"]:
    """Central differences along z, y, x; the block loses a voxel on every side."""
    parts = []
    for axis in range(3):
        inner = block
        for other in range(3):
            if other != axis:
                inner = inner.narrow(other, 1, inner.shape[other] - 2)
        count = block.shape[axis] - 2
        parts.append(0.5 * (inner.narrow(axis, 2, count) - inner.narrow(axis, 0, count)))
    return torch.stack(parts)


def smooth_gradient(block: Float[Tensor, "z y x"]) -> Float[Tensor, "3 z y x"]:
    """Gradient of the block after a Gaussian of one voxel; 4 voxels are lost on every side."""
    return gradient(smooth_separably(block, gaussian_taps(_GRADIENT_SIGMA, _GRADIENT_RADIUS, block)))


def structure_tensor(slope: Float[Tensor, "3 z y x"]) -> tuple[Float[Tensor, "6 z y x"], Float[Tensor, "3 z y x"]]:
    """Products of the gradient averaged over a Gaussian of 1.5 voxels, and the gradient at the same voxels."""
    taps = gaussian_taps(_TENSOR_SIGMA, _TENSOR_RADIUS, slope)
    tensor = torch.stack([smooth_separably(slope[i] * slope[j], taps) for i, j in PAIRS])
    return tensor, torch.stack([trimmed(part, _TENSOR_RADIUS) for part in slope])
