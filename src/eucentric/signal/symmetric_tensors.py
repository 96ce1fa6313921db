"""Symmetric 3 x 3 tensors at many places at once: eigenvalues and eigenvectors in closed form."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Rows and columns of the six values of a symmetric tensor, axes z, y, x."""


def extreme_eigenvalues(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the smallest eigenvalue (...) of symmetric 3 x 3 tensors (6, ...), in closed form."""
    mean = (tensor[0] + tensor[1] + tensor[2]) / 3.0
    a, b, c = tensor[0] - mean, tensor[1] - mean, tensor[2] - mean
    d, e, f = tensor[3], tensor[4], tensor[5]
    tiny = torch.finfo(tensor.dtype).tiny
    spread = torch.sqrt((a * a + b * b + c * c + 2.0 * (d * d + e * e + f * f)) / 6.0)
    scale = 1.0 / spread.clamp(min=tiny)
    a, b, c, d, e, f = (value * scale for value in (a, b, c, d, e, f))
    half_determinant = 0.5 * (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e))
    angle = torch.acos(half_determinant.clamp(-1.0, 1.0)) / 3.0
    return mean + 2.0 * spread * torch.cos(angle), mean + 2.0 * spread * torch.cos(angle + 2.0 * math.pi / 3.0)


def eigenvectors_of(tensor: Float[Tensor, "6 n"], value: Float[Tensor, " n"]) -> Float[Tensor, "3 n"]:
    """Unit vectors of a single eigenvalue; along z where it is not single."""
    a, b, c = tensor[0] - value, tensor[1] - value, tensor[2] - value
    d, e, f = tensor[3], tensor[4], tensor[5]
    rows = (torch.stack([a, d, e]), torch.stack([d, b, f]), torch.stack([e, f, c]))
    crosses = torch.stack([torch.linalg.cross(rows[i], rows[j], dim=0) for i, j in ((0, 1), (0, 2), (1, 2))])
    lengths = crosses.square().sum(1)
    best = lengths.argmax(0)
    chosen = crosses.gather(0, best.expand(1, 3, -1))[0]
    length = chosen.square().sum(0).sqrt()
    trust = length > 0
    unit = chosen / torch.where(trust, length, torch.ones_like(length))
    unit[0] = torch.where(trust, unit[0], torch.ones_like(unit[0]))
    return unit
