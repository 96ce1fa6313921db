"""Where a map's mass lies, and the map moved."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier.grid import frequency_vectors
from eucentric.typing import FloatArray


def centre_of_mass(volume: Float[Tensor, "n n n"]) -> FloatArray:
    """(3,) x, y, z of the bright part, in voxels from voxel ``n // 2``; zeros where nothing is bright."""
    n = volume.shape[0]
    line = torch.arange(n, device=volume.device, dtype=torch.float64) - n // 2
    bright = volume.double().clamp_min(0.0)
    total = float(bright.sum())
    if total <= 0.0:
        return np.zeros(3)
    return np.array([float((bright.sum(axes) * line).sum()) / total for axes in ((0, 1), (0, 2), (1, 2))])


def moved_map(volume: Float[Tensor, "n n n"], move: FloatArray) -> Float[Tensor, "n n n"]:
    """The map moved by (3,) x, y, z voxels; what leaves at one face enters at the other."""
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    x, y, z = (float(m) for m in move)
    fz, fy, fx = frequency_vectors(shape, 1.0, device=volume.device)
    phase = (-2.0 * math.pi * (fx * x + fy * y + fz * z)).to(volume.dtype)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * torch.polar(torch.ones_like(phase), phase), s=shape)
    return out
