"""Deformation of the specimen while it is imaged: a displacement field in space that changes smoothly with dose."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.splines import natural_spline_weights
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.typing import FloatArray

_FINER = 8  # points of a folded field for each step of the volume's grid: tilted, a step is seen shorter
_STEEPEST = 0.1  # cosine of the tilt beyond which points of the specimen are not sought further out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeWarp:
    r"""A point p of the specimen lies at :math:`p + d(p, N)` once it has received the dose N; then it is projected.

    p and d are in A, x, y, z, p from the specimen centre. Along each axis of space d is the natural cubic spline through the
    values on an even grid, a straight line beyond it, as for :class:`ImageWarp`; one grid point along an axis means a constant.
    In dose it is the natural cubic spline through the knots (a straight line through two), constant before the first and after
    the last.
    """

    displacement_angstrom: FloatArray
    """(knot, gz, gy, gx, 3), x, y and z in A at the grid points."""
    doses: FloatArray
    """(knot,), e/A^2, ascending."""
    extent_angstrom: tuple[float, float, float]
    """(z, y, x), edges of the box about the specimen centre whose faces hold the first and last grid points."""

    def __post_init__(self) -> None:
        shape = self.displacement_angstrom.shape
        if len(shape) != 5 or shape[4] != 3 or min(shape) < 1 or self.doses.shape != shape[:1]:
            raise ShapeError(
                f"A displacement field of shape {shape} at doses of shape {self.doses.shape} was given; expected "
                "(dose, grid z, grid y, grid x, 3) and (dose,), none empty."
            )
        if not (np.isfinite(self.displacement_angstrom).all() and np.isfinite(self.doses).all()):
            raise InputError(
                "A displacement field of the specimen, or its doses, holds NaN or infinity. Estimate it again, or leave it out."
            )
        if not (np.diff(self.doses) > 0).all():
            raise InputError(
                f"The fields of a deformed specimen are at {self.doses.tolist()} e/A^2; expected doses that ascend."
            )
        if not all(np.isfinite(e) and e > 0 for e in self.extent_angstrom):
            raise InputError(
                f"The box of a displacement field is {self.extent_angstrom} A; expected three positive lengths (z, y, x)."
            )

    @classmethod
    def build(
        cls, displacement_angstrom: ArrayLike, doses: ArrayLike, extent_angstrom: tuple[float, float, float]
    ) -> Self:
        """From numbers of any kind."""
        z, y, x = (float(e) for e in extent_angstrom)
        return cls(
            displacement_angstrom=np.asarray(displacement_angstrom, dtype=np.float64),
            doses=np.asarray(doses, dtype=np.float64),
            extent_angstrom=(z, y, x),
        )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Grid points along z, y, x."""
        z, y, x = self.displacement_angstrom.shape[1:4]
        return z, y, x

    def at(self, points_angstrom: FloatArray, dose: float) -> FloatArray:
        """Displacements (n, 3) in A of points (n, 3) in A, at a dose in e/A^2."""
        return np.asarray(self.along(points_angstrom, np.array([dose]))[0])

    def along(self, points_angstrom: FloatArray, doses: FloatArray) -> FloatArray:
        """Displacements (t, n, 3) in A of points (n, 3) in A, at doses (t,) in e/A^2."""
        values = np.tensordot(self.dose_weights(doses), self.displacement_angstrom, axes=1)
        return np.asarray(self.space_weights(points_angstrom) @ values.reshape(len(doses), -1, 3))

    def space_weights(self, points_angstrom: FloatArray) -> FloatArray:
        """Weights (n, gz * gy * gx) of the grid points at points (n, 3) in A.

        ``at(p, N) = sum_kg dose_weights(N)[k] space_weights(p)[g] displacement[k, g]`` with the grid flattened.
        """
        z, y, x = (
            natural_spline_weights((points_angstrom[:, 2 - axis] / edge + 0.5) * (count - 1), count)
            for axis, (edge, count) in enumerate(zip(self.extent_angstrom, self.grid, strict=True))
        )
        return np.asarray(np.einsum("na,nb,nc->nabc", z, y, x).reshape(len(points_angstrom), -1))

    def dose_weights(self, doses: FloatArray) -> FloatArray:
        """Weights (t, knot) of the knots at doses (t,) in e/A^2.

        Raises
        ------
        InputError : a dose that is not known
        """
        if not np.isfinite(doses).all():
            raise InputError(
                "The specimen's deformation changes with dose, and the dose of some images is not known. Give the doses, or "
                "leave the deformation out."
            )
        if len(self.doses) == 1:
            return np.ones((len(doses), 1))
        from scipy.interpolate import CubicSpline  # knots are as far apart as the doses are, so not an even grid

        spline = CubicSpline(self.doses, np.eye(len(self.doses)), bc_type="natural")
        return np.asarray(spline(np.clip(doses, self.doses[0], self.doses[-1])))

    def plus(self, other: Self) -> Self:
        """The sum of two deformations of the same specimen, on the finer of their grids along each axis and all their knots."""
        z, y, x = (max(a, b) for a, b in zip(self.grid, other.grid, strict=True))
        edges = [max(a, b) for a, b in zip(self.extent_angstrom, other.extent_angstrom, strict=True)]
        doses = np.union1d(self.doses, other.doses)
        lines = [
            np.zeros(1) if n == 1 else np.linspace(-0.5, 0.5, n) * e for n, e in zip((z, y, x), edges, strict=True)
        ]
        grid = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], axis=-1).reshape(-1, 3)
        values = [self.at(grid, float(d)) + other.at(grid, float(d)) for d in doses]
        return replace(
            self,
            displacement_angstrom=np.stack(values).reshape(len(doses), z, y, x, 3),
            doses=doses,
            extent_angstrom=(edges[0], edges[1], edges[2]),
        )

    def folded(
        self,
        geometry: TiltGeometry,
        doses: FloatArray,
        image_shape: tuple[int, int],
        pixel_size_angstrom: float,
        grid: tuple[int, int] | None = None,
    ) -> ImageWarp:
        """What the images show of the deformation at mid-height, z = 0, as a deformation of the images.

        For what knows deformed images only. At other heights it is wrong by how d differs between them and mid-height.

        Parameters
        ----------
        doses : (tilt,), e/A^2 that the specimen had received in the middle of each image
        image_shape : (y, x)
        grid : (gy, gx); some points for each step of this field's grid where None
        """
        if len(doses) != len(geometry):
            raise ShapeError(f"{len(doses)} doses were given for {len(geometry)} tilts; expected one for each.")
        fine = 1 + _FINER * (max(self.grid[1:]) - 1)
        rows, columns = grid or (fine, fine)
        blank = ImageWarp.build(np.zeros((len(geometry), rows, columns, 2)), image_shape, pixel_size_angstrom)
        places = blank.grid_places_angstrom
        fields = np.empty_like(blank.displacement_angstrom)
        for t, (matrix, shift) in enumerate(zip(geometry.image_matrices, geometry.shifts_angstrom, strict=True)):
            left, values, right = np.linalg.svd(matrix[:, :2])
            back = (right.T / np.maximum(values, _STEEPEST)) @ left.T
            points = np.zeros((rows * columns, 3))
            points[:, :2] = (places.reshape(-1, 2) - shift) @ back.T
            fields[t] = (self.at(points, float(doses[t])) @ matrix.T).reshape(rows, columns, 2)
        return replace(blank, displacement_angstrom=fields)


def combined(first: ImageWarp | None, second: ImageWarp) -> ImageWarp:
    """The sum of two deformations of the same images, on the finer of their grids along each axis.

    Raises
    ------
    ShapeError : images of different numbers, sizes or pixels
    """
    if first is None:
        return second
    if (len(first), first.image_shape) != (len(second), second.image_shape) or not np.isclose(
        first.pixel_size_angstrom, second.pixel_size_angstrom
    ):
        raise ShapeError(
            f"Deformations of {len(first)} images of {first.image_shape} and of {len(second)} images of {second.image_shape} "
            f"pixels of {first.pixel_size_angstrom:g} and {second.pixel_size_angstrom:g} A were given; expected the same images."
        )
    fields = first.displacement_angstrom, second.displacement_angstrom
    rows, columns = (max(f.shape[axis] for f in fields) for axis in (1, 2))
    blank = replace(first, displacement_angstrom=np.zeros((len(first), rows, columns, 2)))
    places = torch.from_numpy(blank.grid_places_angstrom)
    sums = [(first.at(t, places) + second.at(t, places)).numpy() for t in range(len(first))]
    return replace(blank, displacement_angstrom=np.stack(sums) if sums else blank.displacement_angstrom)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deformation:
    """What departs from the rigid geometry: of the specimen first, then of its images."""

    image: ImageWarp | None = None
    volume: VolumeWarp | None = None

    def __getitem__(self, index: slice | list[int] | FloatArray | int) -> Self:
        """That of some of the tilts."""
        return replace(self, image=None if self.image is None else self.image[index])
