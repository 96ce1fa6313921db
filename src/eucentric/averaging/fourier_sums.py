r"""The sums over images of which an average is made; sums of parts of the particles add up.

With data d = T y / N and weights w = T^2 / N of every image, in Fourier space of the map and after insertion of all central slices,

.. math:: B(k) = \sum_i d_i, \qquad W(k) = \sum_i w_i, \qquad V = B / (W + \lambda)

is the least squared error for noise N and a map whose power is :math:`1 / \lambda`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.averaging.particle_images import ParticleImages
from eucentric.compute.sizes import good_size
from eucentric.errors import ShapeError
from eucentric.fourier.filters import soft_edge
from eucentric.projection.slices import grid_to_volume, insert_slices
from eucentric.projection.symmetrise import turned_mean
from eucentric.typing import FloatArray

_AT_ONCE = 4096  # slices; a grid is made for each call


@dataclass(slots=True, kw_only=True, eq=False)
class FourierSums:
    """Data and weights on Fourier grids of twice the box, not yet divided and without symmetry."""

    data: Complex[Tensor, "z y half_x"]
    weight: Complex[Tensor, "z y half_x"]
    box_size: int
    voxel_size_angstrom: float
    images: int = 0

    @classmethod
    def empty(cls, box_size: int, voxel_size_angstrom: float, device: torch.device | str = "cpu") -> Self:
        """Sums of nothing."""
        side = good_size(2 * box_size)
        zeros = torch.zeros((side, side, side // 2 + 1), dtype=torch.complex64, device=device)
        return cls(data=zeros, weight=zeros.clone(), box_size=box_size, voxel_size_angstrom=voxel_size_angstrom)

    def add(self, batch: ParticleImages, rotations: FloatArray, shares: FloatArray | None = None) -> None:
        """Insert the images of particles turned by `rotations` (particle, 3, 3).

        Parameters
        ----------
        shares : (particle,), how much each counts; all alike where None, none at all where 0

        Raises
        ------
        ShapeError : boxes of another size
        """
        if batch.box_size != self.box_size or rotations.shape != (batch.count, 3, 3):
            raise ShapeError(
                f"Boxes of {batch.box_size} pixels and {len(rotations)} rotations were given; expected {self.box_size} pixels "
                f"and {batch.count} rotations."
            )
        if not np.isfinite(rotations).all():
            raise ShapeError("A particle has an orientation that is NaN or infinite. Remove it from the list.")
        matrices = batch.slice_matrices(rotations)
        factor = np.ones(batch.count) if shares is None else shares
        rows = np.flatnonzero(factor[batch.particle] > 0)
        grid = (self.data.shape[0],) * 3
        alone = None if batch.common is None else torch.where(batch.common > 0, 1.0 / batch.common, 0.0)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            index = torch.from_numpy(some).to(self.data.device)
            share = torch.from_numpy(factor[batch.particle[some]]).to(batch.weight)[:, None, None]
            if alone is not None:
                share = share * alone
            self.data += insert_slices(batch.data[index] * share, matrices[some], grid)
            self.weight += insert_slices((batch.weight[index] * share).to(batch.data.dtype), matrices[some], grid)
        self.images += len(rows)

    def __add__(self, other: Self) -> Self:
        """Sums of both sets of particles.

        Raises
        ------
        ShapeError : of other sizes
        """
        if (self.box_size, self.voxel_size_angstrom) != (other.box_size, other.voxel_size_angstrom):
            raise ShapeError(
                f"Sums over boxes of {self.box_size} voxels of {self.voxel_size_angstrom:g} A and of {other.box_size} of "
                f"{other.voxel_size_angstrom:g} A cannot be added."
            )
        return type(self)(
            data=self.data + other.data,
            weight=self.weight + other.weight,
            box_size=self.box_size,
            voxel_size_angstrom=self.voxel_size_angstrom,
            images=self.images + other.images,
        )

    def finished(
        self, symmetry: FloatArray | None = None
    ) -> tuple[Complex[Tensor, "n n half_n"], Float[Tensor, "n n half_n"]]:
        """Data and weights on the samples of a box's rfftn, phases from its centre, with symmetry.

        Parameters
        ----------
        symmetry : (element, 3, 3) rotations of the particle's group; none where None
        """
        n = self.box_size
        ball = _ball(n, self.data)
        out = []
        for grid in (self.data, self.weight):
            volume = grid_to_volume(grid, (n, n, n)) * ball
            if symmetry is not None and len(symmetry) > 1:
                volume = turned_mean(volume, symmetry) * len(symmetry)
            out.append(torch.fft.rfftn(torch.fft.ifftshift(volume)))
        # a projection is a sum over voxels times their length
        return out[0], (out[1].real * self.voxel_size_angstrom).clamp_min(0.0)


def _ball(n: int, like: Tensor) -> Float[Tensor, "n n n"]:
    """1 in the ball that fits a box, falling to 0 at its faces: what lies in the corners is not in every turned box."""
    line = torch.arange(n, device=like.device, dtype=like.real.dtype) - n // 2
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return soft_edge(radius, 0.5 * n - max(2.0, n / 16.0), 0.5 * n - 1.0)
