r"""Tomograms made alike before a network sees them: one voxel size, one spectrum, one contrast.

Gold and dirt are cut at some deviations. The amplitude of each shell of Fourier space inside the specimen is brought to
:math:`(1 + (k l)^2)^{-1/2}` with l = 60 A, which is near that of tomograms of proteins, so that defocus, dose and filters of the
reconstruction matter less. What is coarser than a tenth of a micrometre (thickness, uneven illumination) is removed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.typing import FloatArray

_DEVIATIONS = 6.0
_LENGTH = 60.0  # A
_COARSEST = 1000.0  # A
_LARGEST_GAIN = 4.0
_LEAST_SIDE = 8  # voxels
_FINER = 1.05  # a tomogram's voxels may be larger than the model's by this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedVolume:
    """A tomogram as the network sees it."""

    image: Float[Tensor, "z y x"]
    """Mean 0 and standard deviation 1 inside the region; protein dark."""
    region: Bool[Tensor, "z y x"]
    """What is looked at."""
    voxel_xyz: FloatArray
    """A along x, y, z: sizes are whole numbers, so that they differ a little."""
    start_zyx: tuple[int, int, int]
    """Of the first voxel in the resampled tomogram: empty slabs above and below are cut away."""
    full_zyx: tuple[int, int, int]

    def to_voxels(self, positions_angstrom: FloatArray) -> FloatArray:
        """(n, 3) z, y, x in voxels of `image`, of x, y, z in A from the specimen centre."""
        centre = np.array([n // 2 for n in self.full_zyx]) - np.array(self.start_zyx)
        return np.asarray((positions_angstrom / self.voxel_xyz)[:, ::-1] + centre)

    def to_angstrom(self, voxels: FloatArray) -> FloatArray:
        """Inverse of :meth:`to_voxels`."""
        centre = np.array([n // 2 for n in self.full_zyx]) - np.array(self.start_zyx)
        return np.asarray((voxels - centre)[:, ::-1] * self.voxel_xyz)


def prepare_volume(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    target_voxel_size: float,
    region: Bool[Tensor, "z y x"] | None = None,
    *,
    margin: int = 16,
) -> PreparedVolume:
    """Resample, equalise the spectrum and standardise.

    Parameters
    ----------
    voxel_size, target_voxel_size : A
    region : what is looked at; everywhere where None
    margin : voxels kept above and below the region

    Raises
    ------
    InputError : voxels larger than the target's, a volume of a few sections, an empty region, or a constant volume
    """
    if voxel_size > target_voxel_size * _FINER:
        raise InputError(
            f"The tomogram has voxels of {voxel_size:g} A, and the network needs {target_voxel_size:g} A or finer. "
            "Reconstruct with finer voxels, or train a network for these with --voxel-size-angstrom."
        )
    old = tuple(volume.shape)
    if min(old) < _LEAST_SIDE:
        raise InputError(f"A volume of {old} voxels (z, y, x) was given; expected {_LEAST_SIDE} at least a side.")
    inside = torch.ones(old, dtype=torch.bool, device=volume.device) if region is None else region
    if inside.shape != volume.shape:
        raise InputError(f"The region has shape {tuple(inside.shape)} and the tomogram {old}; expected the same.")
    if not bool(inside.any()):
        raise InputError("No voxel is left to look at: the region or mask is empty.")
    level = volume[inside].median()
    spread = 1.4826 * (volume[inside] - level).abs().median()
    if not float(spread) > 0.0:
        raise InputError("The tomogram is constant in what is looked at. Check the file.")
    whole = volume.clamp(float(level - 1.5 * _DEVIATIONS * spread), float(level + 1.5 * _DEVIATIONS * spread)) - level
    new = rescaled_shape(old, voxel_size, target_voxel_size) if target_voxel_size > voxel_size else old
    new = (new[0], new[1], new[2])
    small = fourier_crop(whole, new)
    near = torch.nn.functional.interpolate(inside[None, None].float(), size=new, mode="nearest")[0, 0] > 0.5
    rows = near.any(2).any(1).nonzero()
    if not len(rows):
        raise InputError("The region is thinner than a voxel of the network.")
    low, high = max(0, int(rows.min()) - margin), min(new[0], int(rows.max()) + 1 + margin)
    small, near = small[low:high], near[low:high]
    voxels = np.array([voxel_size * o / n for o, n in zip(old, new, strict=True)])[::-1].copy()
    image = standardise(small, voxels, near)
    return PreparedVolume(
        image=image.contiguous(), region=near.contiguous(), voxel_xyz=voxels, start_zyx=(low, 0, 0), full_zyx=new
    )


def standardise(
    volume: Float[Tensor, "z y x"], voxel_xyz: FloatArray, region: Bool[Tensor, "z y x"] | None = None
) -> Float[Tensor, "z y x"]:
    """Cut what deviates most, equalise, and bring the mean to 0 and the standard deviation to 1 inside a region."""
    inside = torch.ones_like(volume, dtype=torch.bool) if region is None else region
    level = volume[inside].median()
    spread = 1.4826 * (volume[inside] - level).abs().median()
    image = equalise((volume - level).clamp(float(-_DEVIATIONS * spread), float(_DEVIATIONS * spread)), voxel_xyz)
    image = image - image[inside].mean()
    return (image / image[inside].std().clamp_min(1e-20)).clamp(-_DEVIATIONS, _DEVIATIONS)


def equalise(volume: Float[Tensor, "z y x"], voxel_xyz: FloatArray) -> Float[Tensor, "z y x"]:
    """Bring the amplitude of every shell to that of the model spectrum, gains within a factor of 4 of the median gain."""
    shape = tuple(volume.shape)
    spectrum = torch.fft.rfftn(volume)
    axes = [
        torch.fft.fftfreq(shape[0], float(voxel_xyz[2]), device=volume.device)[:, None, None],
        torch.fft.fftfreq(shape[1], float(voxel_xyz[1]), device=volume.device)[None, :, None],
        torch.fft.rfftfreq(shape[2], float(voxel_xyz[0]), device=volume.device)[None, None, :],
    ]
    radius = (axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2).sqrt()
    nyquist = 0.5 / float(voxel_xyz.max())
    shells = max(8, min(shape) // 2)
    place = (radius * (shells / nyquist)).clamp_max(2.0 * shells)
    number = place.long()
    power = spectrum.abs().square_()
    count = torch.bincount(number.reshape(-1), minlength=2 * shells + 2).clamp_min(1)
    mean = torch.bincount(number.reshape(-1), power.reshape(-1).double(), minlength=2 * shells + 2) / count
    # smoothed, so that the grain of few samples in small shells stays
    kernel = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0], dtype=mean.dtype, device=mean.device) / 9.0
    smooth = torch.nn.functional.conv1d(
        torch.nn.functional.pad(mean[None, None], (2, 2), mode="replicate"), kernel[None, None]
    )[0, 0]
    middle = (torch.arange(len(smooth), device=mean.device) + 0.5) * (nyquist / shells)
    wanted = 1.0 / (1.0 + (middle * _LENGTH) ** 2).sqrt()
    gain = wanted / smooth.clamp_min(1e-30).sqrt()
    typical = gain[2:shells].median()
    gain = (gain / typical).clamp(1.0 / _LARGEST_GAIN, _LARGEST_GAIN).to(volume.dtype)
    gain = gain * (1.0 - torch.exp(-0.5 * (middle * _COARSEST) ** 2)).to(volume.dtype)
    fraction = (place - 0.5 - (place - 0.5).floor()).to(volume.dtype)
    first = (place - 0.5).floor().long().clamp(0, len(gain) - 2)
    filtered = spectrum * torch.lerp(gain[first], gain[first + 1], fraction)
    filtered[0, 0, 0] = 0.0
    out: Tensor = torch.fft.irfftn(filtered, s=shape)
    return out
