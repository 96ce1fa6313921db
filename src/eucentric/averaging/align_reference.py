"""A map as alignment compares particles with it: its transform, read in any orientation at any frequency."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError

_PADDING = 3  # of the cube whose transform is read: linear interpolation then errs by less than 1%


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignReference:
    """Transform of a reference. Its scale does not matter: scores are divided by the norm of the copy."""

    transform: Complex[Tensor, "z y x"]
    """Of the padded cube, zero frequency in the middle."""
    box_size: int
    voxel_size_angstrom: float
    low_pass_angstrom: float
    """Detail that is finer is not compared."""
    diameter_angstrom: float
    """Of the particle: with an angle, it tells which detail that angle moves."""

    @classmethod
    def build(
        cls,
        volume: Float[Tensor, "n n n"],
        voxel_size: float,
        *,
        low_pass_angstrom: float,
        diameter_angstrom: float,
    ) -> Self:
        """From a masked map, protein bright, the particle's centre at voxel ``n // 2``.

        Parameters
        ----------
        low_pass_angstrom : never finer than what two voxels hold
        diameter_angstrom : of the particle

        Raises
        ------
        ShapeError : no cube of even size
        InputError : nothing in the map, or a diameter beyond the box
        """
        n = volume.shape[0]
        if tuple(volume.shape) != (n, n, n) or n % 2:
            raise ShapeError(f"The reference has {tuple(volume.shape)} voxels; expected a cube of even size.")
        if not bool(volume.isfinite().all()) or float(volume.std()) == 0.0:
            raise InputError("The reference holds nothing to align to: all of its values are alike, or some are NaN.")
        if not 0 < diameter_angstrom <= n * voxel_size:
            raise InputError(
                f"The particle's diameter is {diameter_angstrom:g} A, and the box {n * voxel_size:g} A wide. Extract larger boxes."
            )
        size = _PADDING * n
        size += size % 2
        line = torch.arange(n, device=volume.device, dtype=volume.dtype) - n // 2
        # what linear interpolation of the transform dims in the cube is put right beforehand
        dimmed = torch.sinc(line / size).square()
        box = volume.new_zeros((size,) * 3)
        low = size // 2 - n // 2
        box[(slice(low, low + n),) * 3] = volume / (dimmed[:, None, None] * dimmed[None, :, None] * dimmed)
        transform = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(box)))
        return cls(
            transform=transform.contiguous(),
            box_size=n,
            voxel_size_angstrom=voxel_size,
            low_pass_angstrom=max(low_pass_angstrom, 2.0 * voxel_size),
            diameter_angstrom=diameter_angstrom,
        )
