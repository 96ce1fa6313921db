"""Places of other things than particles: gold, crystals of ice, the edge of the carbon; membranes."""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.fourier.filters import soft_edge
from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_DENSER = 2.0  # of what is left unexplained, over noise: particles and neighbours as dense stay well below
_HEADS, _WIDTH = 19.0, 5.0
"""A: distance of the phosphates from the middle of a lipid bilayer, and the standard deviation of their layer (Nagle &
Tristram-Nagle, Biochim. Biophys. Acta 1469:159, 2000)."""
_RADII = (math.inf, 600.0, 300.0)
"""A, of flat membranes and of vesicles: within a particle's ball those between differ by less than the width of a layer."""


def membrane_patches(template: Template) -> list[Template]:
    """Pieces of membrane in the ball of a template, flat and bent, their normal along z."""
    return [_membrane_patch(template, radius) for radius in _RADII]


def _membrane_patch(template: Template, bend_radius: float) -> Template:
    """Both layers of head groups, tails as dense as ice; its middle at the origin."""
    n, side = template.density.shape[0], template.voxel_size_angstrom
    fine = 4  # samples a voxel: layers are thinner than voxels
    line = (torch.arange(n, device=template.density.device, dtype=template.density.dtype) - n // 2) * side
    within = ((torch.arange(fine, device=line.device, dtype=line.dtype) + 0.5) / fine - 0.5) * side
    away = (line[:, None].square() + line.square()) / (2.0 * bend_radius)
    density = torch.zeros_like(template.density)
    for step in within:
        height = line[:, None, None] + away + step
        density += torch.exp(-0.5 * ((height.abs() - _HEADS) / _WIDTH) ** 2) / fine
    distance = (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).sqrt()
    radius = 0.5 * template.diameter_angstrom
    return Template(
        name=f"membrane, {template.name}",
        density=density * soft_edge(distance, radius - side, radius + side),
        voxel_size_angstrom=side,
        diameter_angstrom=template.diameter_angstrom,
        symmetry="D12" if math.isinf(bend_radius) else "C12",  # as many sides as a disc needs
    )


def noise_deviation(values: Tensor) -> float:
    """Standard deviation of most values, from the median deviation, so that few outliers do not count."""
    return 1.4826 * float((values - values.median()).abs().median())


def far_denser(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    mask: Float[Tensor, "c c c"],
    positions_angstrom: FloatArray,
    explained: FloatArray,
    *,
    noise: float,
) -> NDArray[np.bool_]:
    """(place,) where what a template leaves unexplained under the mask deviates more than twice as much as noise.

    Parameters
    ----------
    volume : whitened
    mask : of an even number of voxels, about its middle
    positions_angstrom : (place, 3), x, y, z from the specimen centre
    explained : (place,) part of the variance under the mask that the template explains
    noise : standard deviation
    """
    side, total, count = mask.shape[0], mask.sum(), float(mask.square().sum())
    low, shape = side // 2, np.array(volume.shape)
    padded = torch.nn.functional.pad(volume, (low, side - low) * 3)
    out = np.zeros(len(positions_angstrom), dtype=bool)
    for row, (place, part) in enumerate(zip(positions_angstrom, explained, strict=True)):
        corner = np.clip(np.round(place[::-1] / voxel_size).astype(int) + shape // 2, 0, shape - 1)
        box = padded[tuple(slice(int(c), int(c) + side) for c in corner)]
        level = (box * mask).sum() / total
        variance = float(((box - level) * mask).square().sum()) / count
        out[row] = variance * (1.0 - min(1.0, float(part))) > (_DENSER * noise) ** 2
    return out
