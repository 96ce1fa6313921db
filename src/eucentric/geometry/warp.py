"""Local deformation of tilt images: a smooth displacement field over each image."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.splines import natural_coefficients, natural_spline_weights, natural_taps
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageWarp:
    r"""What the rigid geometry expects at position u of image t is found at :math:`u + d_t(u)`.

    u and d are in A, u from the image centre (pixel ``n // 2``), y up. d is given on a grid whose first and last points
    are the first and last pixel of the image along each axis, evenly spaced between. Between them it is the cubic
    B-spline that passes through the given values, of zero curvature at the edges (a natural spline); beyond the edges
    it goes on as a straight line, which is as smooth. One grid point along an axis means a constant, two a straight line.
    """

    displacement_angstrom: FloatArray
    """(tilt, gy, gx, 2), x and y in A at the grid points."""
    image_shape: tuple[int, int]
    """(y, x) of the images over which the grid is laid."""
    pixel_size_angstrom: float

    def __post_init__(self) -> None:
        shape = self.displacement_angstrom.shape
        if len(shape) != 4 or shape[3] != 2 or min(shape[1:3]) < 1 or min(self.image_shape) < 1:
            raise ShapeError(
                f"A displacement field of shape {shape} over images of {tuple(self.image_shape)} was given; expected "
                "(tilt, grid y, grid x, 2) and (y, x), none empty."
            )
        if not (np.isfinite(self.displacement_angstrom).all() and self.pixel_size_angstrom > 0):
            raise InputError(
                f"A displacement field holds NaN or infinity, or its pixel size {self.pixel_size_angstrom:g} A is not positive. "
                "Estimate it again, or leave it out."
            )

    @classmethod
    def build(cls, displacement_angstrom: ArrayLike, image_shape: tuple[int, int], pixel_size_angstrom: float) -> Self:
        """From numbers of any kind."""
        return cls(
            displacement_angstrom=np.asarray(displacement_angstrom, dtype=np.float64),
            image_shape=(int(image_shape[0]), int(image_shape[1])),
            pixel_size_angstrom=float(pixel_size_angstrom),
        )

    def __len__(self) -> int:
        return len(self.displacement_angstrom)

    def __getitem__(self, index: slice | list[int] | FloatArray | int) -> Self:
        """The fields of some of the tilts."""
        pick = [index] if isinstance(index, int) else index
        return replace(self, displacement_angstrom=self.displacement_angstrom[pick])

    @property
    def grid_spacing_angstrom(self) -> tuple[float, float]:
        """(y, x) distance of grid points; that of the image's edges where there is one point only."""
        y, x = (
            max(1, n - 1) * self.pixel_size_angstrom / max(1, g - 1)
            for n, g in zip(self.image_shape, self.displacement_angstrom.shape[1:3], strict=True)
        )
        return y, x

    @property
    def grid_places_angstrom(self) -> FloatArray:
        """(gy, gx, 2), x and y of the grid points in A from the image centre; of the centre where there is one along an axis."""
        y, x = (
            np.array([0.0]) if g == 1 else (np.linspace(0.0, n - 1.0, g) - n // 2) * self.pixel_size_angstrom
            for n, g in zip(self.image_shape, self.displacement_angstrom.shape[1:3], strict=True)
        )
        return np.stack(np.meshgrid(x, y), axis=-1)

    def at(self, tilt: int, positions_angstrom: Float[Tensor, "*point 2"]) -> Float[Tensor, "*point 2"]:
        """Displacement in A at positions (x, y) in A from the image centre; dtype and device of the positions."""
        coefficients = torch.from_numpy(self._coefficients(tilt)).to(positions_angstrom)
        rows, columns = coefficients.shape[:2]
        grid_y, grid_x = self.displacement_angstrom.shape[1:3]
        first_x, weights_x = natural_taps(self._place(positions_angstrom[..., 0], 1), grid_x)
        first_y, weights_y = natural_taps(self._place(positions_angstrom[..., 1], 0), grid_y)
        flat = coefficients.reshape(rows * columns, 2)
        out = torch.zeros_like(positions_angstrom)
        for j, weight_y in enumerate(weights_y):
            for i, weight_x in enumerate(weights_x):
                out += (weight_y * weight_x)[..., None] * flat[(first_y + j) * columns + first_x + i]
        return out

    def weights(self, positions_angstrom: FloatArray) -> FloatArray:
        """Weights (n, gy * gx) of the grid points, flattened, whose sum of displacements is that :meth:`at` positions (n, 2) in A."""
        at = torch.from_numpy(positions_angstrom)
        y, x = (
            natural_spline_weights(
                self._place(at[:, 1 - axis], axis).numpy(), self.displacement_angstrom.shape[1 + axis]
            )
            for axis in (0, 1)
        )
        return np.asarray((y[:, :, None] * x[:, None, :]).reshape(len(at), -1))

    def curvature_bound(self) -> float:
        """No second derivative of a component of d along any direction is larger than this, in 1/A, anywhere.

        Second derivatives of a cubic B-spline lie within the second differences of its coefficients.
        """
        step_y, step_x = self.grid_spacing_angstrom
        worst = 0.0
        for tilt in range(len(self)):
            c = self._coefficients(tilt)
            along_x = np.abs(np.diff(c, 2, axis=1)).max() / step_x**2
            along_y = np.abs(np.diff(c, 2, axis=0)).max() / step_y**2
            mixed = np.abs(np.diff(np.diff(c, axis=0), axis=1)).max() / (step_x * step_y)
            worst = max(worst, float(max(along_x, along_y) + mixed))
        return worst

    def _place(self, position: Tensor, axis: int) -> Tensor:
        """Positions in A along an axis (0: y, 1: x) in grid steps."""
        n, g = self.image_shape[axis], self.displacement_angstrom.shape[1 + axis]
        place: Tensor = (position / self.pixel_size_angstrom + n // 2) * ((g - 1) / max(1, n - 1))
        return place

    def _coefficients(self, tilt: int) -> FloatArray:
        """(gy + 2, gx + 2, 2): B-spline coefficients, one beyond each end (two points at least along each axis)."""
        c = self.displacement_angstrom[tilt]
        for axis in (0, 1):
            c = np.moveaxis(natural_coefficients(np.moveaxis(c, axis, 0)), 0, axis)
        return np.ascontiguousarray(c)
