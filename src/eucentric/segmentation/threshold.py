"""Levels that part matter from ground, and masks from them."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError
from eucentric.signal.ridges import smooth_volume

_BINS = 1024
_SD_OF_MAD = 1.4826
LevelMethod = Literal["otsu", "noise"]


def value_range(values: Float[Tensor, "..."]) -> tuple[float, float]:
    """The smallest and the largest value.

    Raises
    ------
    InputError : one value only, or values that are not finite
    """
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("The volume holds values that are not numbers. Mend or cut it first.")
    if not high > low:
        raise InputError("The volume has no contrast: all of its voxels have one value.")
    return low, high


def otsu_level(values: Float[Tensor, "..."]) -> float:
    """The level that leaves the least variance within the two groups on either side of it [1]_.

    Raises
    ------
    InputError : one value only, or values that are not finite

    References
    ----------
    .. [1] Otsu, IEEE Trans. Syst. Man Cybern. 9:62 (1979), doi:10.1109/TSMC.1979.4310076
    """
    low, high = value_range(values)
    counts = torch.histc(values.float(), bins=_BINS, min=low, max=high).double()
    edges = torch.linspace(low, high, _BINS + 1, dtype=torch.float64, device=values.device)
    middles = 0.5 * (edges[1:] + edges[:-1])
    below, above = counts.cumsum(0)[:-1], counts.flip(0).cumsum(0).flip(0)[1:]
    sums = (counts * middles).cumsum(0)
    mean_below = sums[:-1] / below.clamp(min=1.0)
    mean_above = (sums[-1] - sums[:-1]) / above.clamp(min=1.0)
    between = below * above * (mean_below - mean_above) ** 2
    # a gap between the groups has many best levels: its middle is taken
    best = torch.nonzero(between >= between.max() * (1.0 - 1e-12))[:, 0].double()
    place = float(best.mean()) + 1.0
    return low + (high - low) * place / _BINS


def noise_level(values: Float[Tensor, "..."], standard_deviations: float = 3.0) -> float:
    """So many standard deviations of the ground above its middle, both from the lower half of the values.

    The median is taken as the middle of the ground, which so has to fill more than half of the volume.

    Raises
    ------
    InputError : one value only, values that are not finite, or no positive number of deviations
    """
    value_range(values)
    if not standard_deviations > 0:
        raise InputError(f"{standard_deviations:g} standard deviations were given; expected a positive number.")
    middle = values.float().median()
    below = (middle - values[values <= middle].float()).median()
    level = float(middle + standard_deviations * _SD_OF_MAD * below)
    if not float(below) > 0:
        raise InputError("More than half of the voxels have one value: no noise sets a level. Give a level.")
    return level


def global_mask(
    volume: Float[Tensor, "z y x"], level: float | None = None, *, method: LevelMethod = "otsu"
) -> Bool[Tensor, "z y x"]:
    """Voxels above a level, or above that which the method finds where None."""
    return volume > (automatic_level(volume, method) if level is None else level)


def automatic_level(volume: Float[Tensor, "z y x"], method: LevelMethod) -> float:
    """By Otsu's method, for two groups of like size, or by the noise, for few voxels of matter."""
    return otsu_level(volume) if method == "otsu" else noise_level(volume)


def local_mask(
    volume: Float[Tensor, "z y x"], voxel_size: float, *, window_angstrom: float, standard_deviations: float = 2.0
) -> Bool[Tensor, "z y x"]:
    """Voxels above their surroundings by some local standard deviations, where shading rules out one level for all.

    Parameters
    ----------
    window_angstrom : 1 sd of the Gaussian that is averaged over; several times the size of what is sought

    Raises
    ------
    InputError : a window of less than a voxel, one value only, or values that are not finite
    """
    value_range(volume)
    if not window_angstrom >= voxel_size > 0:
        raise InputError(
            f"A window of {window_angstrom:g} A on voxels of {voxel_size:g} A; expected at least one voxel."
        )
    sigma = window_angstrom / voxel_size
    dense = volume.float() - volume.float().mean()
    mean = smooth_volume(dense, sigma)
    variance = (smooth_volume(dense**2, sigma) - mean**2).clamp(min=0.0)
    return dense > mean + standard_deviations * variance.sqrt()


def hysteresis_mask(volume: Float[Tensor, "z y x"], low: float, high: float) -> Bool[Tensor, "z y x"]:
    """Voxels above `low` that hang together, by faces, edges or corners, with one above `high`.

    Raises
    ------
    InputError : a low level above the high one
    """
    if not low <= high:
        raise InputError(
            f"The lower level {low:g} is above the upper one, {high:g}; expected them the other way round."
        )
    values = volume.detach().cpu().numpy()
    pieces, count = ndimage.label(values > low, np.ones((3, 3, 3)))
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(pieces[values > high])] = True
    kept[0] = False
    return torch.from_numpy(kept[pieces]).to(volume.device)
