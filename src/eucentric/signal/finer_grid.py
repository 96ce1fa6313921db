"""Smooth fields brought onto another grid of the same volume."""

import torch
from jaxtyping import Float
from torch import Tensor


def onto_grid(field: Float[Tensor, "z y x"], shape: tuple[int, int, int]) -> Float[Tensor, "z2 y2 x2"]:
    """A smooth field on a grid of other sizes, on straight lines between its voxels; voxel ``n // 2`` is one place on both."""
    for axis, n in enumerate(shape):
        old = field.shape[axis]
        if old == n:
            continue
        place = ((torch.arange(n, device=field.device) - n // 2) * (old / n) + old // 2).clamp(0, old - 1)
        low = place.floor().long().clamp(max=max(0, old - 2))
        part = (place - low).to(field).reshape([-1 if a == axis else 1 for a in range(3)])
        after = (low + 1).clamp(max=old - 1)
        field = field.index_select(axis, low) * (1.0 - part) + field.index_select(axis, after) * part
    return field
