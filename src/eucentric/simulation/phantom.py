"""The asymmetric phantom of known hand: Gaussian blobs whose volume and projections are written down, not computed.

Nothing here shares code with the projectors, so a mirrored, transposed, shifted or sign-flipped step elsewhere
disagrees with it.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry, centre_index
from eucentric.typing import FloatArray

# x, y, z as parts of the radius; weight (peak density); sigma as part of the radius
_BLOBS = np.array(
    [
        (0.00, 0.00, 0.00, 1.00, 0.100),
        (0.72, 0.05, -0.08, 0.85, 0.070),
        (0.42, 0.10, 0.02, 0.60, 0.080),
        (-0.18, 0.62, 0.16, 0.95, 0.075),
        (-0.55, 0.48, 0.30, 0.55, 0.060),
        (0.12, -0.38, 0.58, 0.75, 0.085),
        (-0.34, -0.60, 0.12, 0.45, 0.065),
        (-0.20, -0.15, -0.66, 0.90, 0.065),
        (0.33, 0.34, -0.45, 0.50, 0.070),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phantom:
    """A density made of round Gaussian blobs: ``sum_i weight_i exp(-|r - position_i|^2 / 2 sigma_i^2)``."""

    positions_angstrom: FloatArray
    """(blob, 3), x, y, z in A from the specimen centre."""
    weights: FloatArray
    """(blob,), density at the middle of each blob."""
    sigmas_angstrom: FloatArray
    """(blob,), standard deviation of each blob."""

    def __post_init__(self) -> None:
        n = len(self.weights)
        if self.positions_angstrom.shape != (n, 3) or self.weights.shape != (n,) or self.sigmas_angstrom.shape != (n,):
            raise ShapeError(
                f"A phantom of {n} blobs needs positions ({n}, 3), weights ({n},) and sigmas ({n},); got "
                f"{self.positions_angstrom.shape}, {self.weights.shape} and {self.sigmas_angstrom.shape}."
            )
        if not (self.sigmas_angstrom > 0).all():
            raise InputError("A phantom has a blob of no width; expected sigmas above zero, in A.")

    def project(
        self, geometry: TiltGeometry, shape: tuple[int, int], pixel_size: float, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "tilt y x"]:
        """Line integrals of the density along the beam, exact at the middle of each pixel.

        Parameters
        ----------
        geometry : where the specimen lies in each image
        shape : (y, x) of the images; the image centre is at index ``n // 2``
        pixel_size : A

        Returns
        -------
        (tilt, y, x), density times A
        """
        camera = geometry.project(self.positions_angstrom)
        column = self.weights * self.sigmas_angstrom * math.sqrt(2.0 * math.pi)
        y = self._profile(camera[..., 1], shape[0], pixel_size)
        x = self._profile(camera[..., 0], shape[1], pixel_size)
        return torch.from_numpy(np.swapaxes(y * column[:, None], -1, -2) @ x).to(dtype)

    def volume(
        self, shape: tuple[int, int, int], voxel_size: float, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "z y x"]:
        """The density at the middle of each voxel of `voxel_size` A; `shape` is (z, y, x), its centre ``n // 2``."""
        z, y, x = (self._profile(self.positions_angstrom[:, 2 - axis], shape[axis], voxel_size) for axis in range(3))
        return torch.from_numpy(np.einsum("n,nz,ny,nx->zyx", self.weights, z, y, x, optimize=True)).to(dtype)

    def transformed(self, matrix: ArrayLike, shift_angstrom: ArrayLike = (0.0, 0.0, 0.0)) -> Self:
        """The phantom carried to ``matrix @ p + shift_angstrom``; `matrix` (3, 3) is a rotation or a mirror."""
        rotated = self.positions_angstrom @ np.asarray(matrix, dtype=np.float64).T
        moved = rotated + np.asarray(shift_angstrom, dtype=np.float64)
        return replace(self, positions_angstrom=moved)

    def mirrored(self) -> Self:
        """The phantom of the other hand: z turned into -z."""
        return self.transformed(np.diag([1.0, 1.0, -1.0]))

    def _profile(self, position: FloatArray, size: int, spacing: float) -> FloatArray:
        """(..., blob, size): each blob's profile along one axis, 1 at its middle."""
        axis = (np.arange(size) - centre_index(size)) * spacing
        return np.asarray(np.exp(-0.5 * ((axis - position[..., None]) / self.sigmas_angstrom[:, None]) ** 2))


def asymmetric_phantom(radius_angstrom: float = 100.0) -> Phantom:
    """Nine blobs of different weights inside a sphere of `radius_angstrom`: no symmetry, and no mirror symmetry.

    The blobs' standard deviations are 0.06 to 0.1 of the radius: sampled at ``radius / 25`` or finer, sums over samples
    equal integrals to 1e-4 or better.

    Raises
    ------
    InputError : a radius that is not positive
    """
    if not radius_angstrom > 0:
        raise InputError(f"The phantom's radius is {radius_angstrom:g} A; expected a positive number.")
    return Phantom(
        positions_angstrom=_BLOBS[:, :3] * radius_angstrom,
        weights=_BLOBS[:, 3].copy(),
        sigmas_angstrom=_BLOBS[:, 4] * radius_angstrom,
    )
