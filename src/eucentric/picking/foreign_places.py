"""Places where far denser things than particles lie: gold, crystals of ice, the edge of the carbon."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.typing import FloatArray

_DENSER = 2.0  # of what is left unexplained, over noise: particles and neighbours as dense stay well below


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
