"""Images of some particles, or of all without their fine detail, and coarse sums back in the full box."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.align_samples import cropped_spectra
from eucentric.averaging.particle_images import ParticleImages
from eucentric.compute.sizes import good_size

_MARGIN = 10
"""Pixels of coarse images beyond those that the detail needs: sums fade towards the faces of their cube."""


def coarse_images(images: ParticleImages, detail_angstrom: float) -> ParticleImages:
    """The same boxes with larger pixels, that hold some detail and a margin."""
    n, voxel = images.box_size, images.voxel_size_angstrom
    side = min(good_size(math.ceil(2.0 * n * voxel / detail_angstrom) + _MARGIN), n)
    side -= side % 2
    held = {f.name: getattr(images, f.name) for f in fields(images)}
    small: dict[str, Any] = {name: cropped_spectra(v, side) for name, v in held.items() if isinstance(v, Tensor)}
    return replace(images, voxel_size_angstrom=voxel * n / side, **small)


def in_full_box(spectrum: Shaped[Tensor, "m m half_m"], n: int) -> Shaped[Tensor, "n n half_n"]:
    """The rfftn of sums in a cube of the same edge, as in one of more voxels; zero beyond the coarse cube's detail."""
    side = spectrum.shape[0]
    if side == n:
        return spectrum
    half = side // 2
    out = spectrum.new_zeros((n, n, n // 2 + 1))
    low, high = slice(0, half), slice(1 - half, None)
    for z in (low, high):
        for y in (low, high):
            out[z, y, :half] = spectrum[z, y, :half] * (n / side) ** 3
    return out


def selected_particles(batch: ParticleImages, numbers: NDArray[np.int64]) -> ParticleImages:
    """Some particles of a batch, numbered anew; `numbers` ascend."""
    place = np.full(batch.count, -1)
    place[numbers] = np.arange(len(numbers))
    rows = np.flatnonzero(place[batch.particle] >= 0)
    index = torch.from_numpy(rows).to(batch.data.device)
    return replace(
        batch,
        data=batch.data[index],
        weight=batch.weight[index],
        particle=place[batch.particle[rows]],
        tilt=batch.tilt[rows],
        matrices=batch.matrices[rows],
        count=len(numbers),
    )
