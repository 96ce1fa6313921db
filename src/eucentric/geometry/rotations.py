"""Rotations of points: one class, every Euler convention at its border. Angles in degrees, right-handed."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.errors import ShapeError
from eucentric.typing import FloatArray


def rotation_x(angle_deg: ArrayLike) -> FloatArray:
    """(..., 3, 3) matrices that turn points about x, counter-clockwise seen from +x (y towards z)."""
    return _about_axis(angle_deg, 0)


def rotation_y(angle_deg: ArrayLike) -> FloatArray:
    """(..., 3, 3) matrices that turn points about y (z towards x)."""
    return _about_axis(angle_deg, 1)


def rotation_z(angle_deg: ArrayLike) -> FloatArray:
    """(..., 3, 3) matrices that turn points about z (x towards y)."""
    return _about_axis(angle_deg, 2)


def _about_axis(angle_deg: ArrayLike, axis: int) -> FloatArray:
    angle = np.deg2rad(np.asarray(angle_deg, dtype=np.float64))
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out = np.zeros((*angle.shape, 3, 3))
    out[..., axis, axis] = 1.0
    out[..., i, i] = c
    out[..., j, j] = c
    out[..., i, j] = -s
    out[..., j, i] = s
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Particle orientations: matrices (..., 3, 3) that take reference coordinates to specimen coordinates (x, y, z)."""

    matrices: FloatArray

    def __post_init__(self) -> None:
        if self.matrices.shape[-2:] != (3, 3):
            raise ShapeError(f"Rotation matrices have shape {self.matrices.shape}; expected (..., 3, 3).")

    @classmethod
    def from_relion(cls, rot_deg: ArrayLike, tilt_deg: ArrayLike, psi_deg: ArrayLike) -> Self:
        """RELION's rlnAngleRot, rlnAngleTilt, rlnAnglePsi: ``Rz(-psi) Ry(-tilt) Rz(-rot)``.

        The third row is sin(tilt) cos(rot), sin(tilt) sin(rot), cos(tilt).
        """
        rot, tilt, psi = (np.asarray(a, dtype=np.float64) for a in (rot_deg, tilt_deg, psi_deg))
        return cls(rotation_z(-psi) @ rotation_y(-tilt) @ rotation_z(-rot))

    def as_relion(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """rot, tilt, psi in degrees; tilt in [0, 180]. At the poles psi is set to zero."""
        m = self.matrices
        tilt = np.arctan2(np.hypot(m[..., 2, 0], m[..., 2, 1]), m[..., 2, 2])
        pole = np.hypot(m[..., 2, 0], m[..., 2, 1]) < 1e-7
        rot = np.where(pole, 0.0, np.arctan2(m[..., 2, 1], m[..., 2, 0]))
        psi = np.where(pole, 0.0, np.arctan2(m[..., 1, 2], -m[..., 0, 2]))
        # at a pole only rot +- psi is known: put all of it into rot
        flip = np.where(m[..., 2, 2] < 0, -1.0, 1.0)
        rot = np.where(pole, np.arctan2(m[..., 0, 1] * flip, m[..., 0, 0] * flip), rot)
        return np.rad2deg(rot), np.rad2deg(tilt), np.rad2deg(psi)

    @classmethod
    def random(cls, count: int, generator: np.random.Generator) -> Self:
        """`count` orientations, uniform on SO(3)."""
        return cls(np.asarray(_ScipyRotation.random(count, rng=generator).as_matrix(), dtype=np.float64))

    def apply(self, points: ArrayLike) -> FloatArray:
        """Rotate points (..., 3)."""
        return np.asarray(np.einsum("...ij,...j->...i", self.matrices, np.asarray(points, dtype=np.float64)))

    def compose(self, first: Self) -> Self:
        """Rotation by `first`, then by this one."""
        return type(self)(self.matrices @ first.matrices)

    @property
    def inverse(self) -> Self:
        return type(self)(np.swapaxes(self.matrices, -1, -2))

    def angle_to_deg(self, other: Self) -> FloatArray:
        """Angle in degrees of the rotation between two sets of orientations."""
        trace = np.einsum("...ij,...ij->...", self.matrices, other.matrices)
        return np.asarray(np.rad2deg(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0))))
