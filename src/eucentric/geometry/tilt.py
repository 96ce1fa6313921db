"""The projection of the specimen into the images of a tilt series: the one place that knows the order of rotations."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import rotation_x, rotation_y, rotation_z
from eucentric.typing import FloatArray


class _Pose(Protocol):
    @property
    def x_tilt_deg(self) -> float: ...
    @property
    def y_tilt_deg(self) -> float: ...
    @property
    def z_rot_deg(self) -> float: ...
    @property
    def x_shift_angstrom(self) -> float: ...
    @property
    def y_shift_angstrom(self) -> float: ...
    @property
    def magnification(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiltGeometry:
    """``x_camera = diag(m, m, 1) Rz(z_rot) Ry(y_tilt) Rx(x_tilt) p + (shift_x, shift_y, 0)``, all in A and degrees.

    RELION-5's order, with a magnification m about the image of the specimen centre. p is a point from the specimen
    centre; x_camera from the image centre, y up, z towards +z of the camera frame; ``pixel = x_camera / px + n // 2`` for x
    and y. Every field but `shifts_angstrom` is (tilt,).
    """

    y_tilt_deg: FloatArray
    z_rot_deg: FloatArray
    x_tilt_deg: FloatArray
    shifts_angstrom: FloatArray
    """(tilt, 2), x and y: where the image shows the specimen centre, whatever the magnification."""
    magnification: FloatArray = field(default_factory=lambda: np.ones(0))
    """Above 1 the specimen looks larger in that image than its pixel size says; 1 for every tilt where not given."""

    def __post_init__(self) -> None:
        n = self.y_tilt_deg.shape
        if not len(self.magnification):
            object.__setattr__(self, "magnification", np.ones(n))
        if (
            len(n) != 1
            or self.z_rot_deg.shape != n
            or self.x_tilt_deg.shape != n
            or self.shifts_angstrom.shape != (*n, 2)
            or self.magnification.shape != n
        ):
            raise ShapeError(
                f"A tilt geometry needs one tilt, axis, x-tilt, shift and magnification for each image; got shapes {n}, "
                f"{self.z_rot_deg.shape}, {self.x_tilt_deg.shape}, {self.shifts_angstrom.shape} and "
                f"{self.magnification.shape}."
            )
        if not (np.isfinite(self.magnification).all() and (self.magnification > 0).all()):
            raise InputError(f"The magnifications are {self.magnification.tolist()}; expected numbers near 1, above 0.")

    @classmethod
    def build(
        cls,
        y_tilt_deg: ArrayLike,
        *,
        z_rot_deg: ArrayLike = 0.0,
        x_tilt_deg: ArrayLike = 0.0,
        shifts_angstrom: ArrayLike = 0.0,
        magnification: ArrayLike = 1.0,
    ) -> Self:
        """From numbers or arrays: single numbers are repeated for every tilt."""
        tilt = np.atleast_1d(np.asarray(y_tilt_deg, dtype=np.float64))
        return cls(
            y_tilt_deg=tilt,
            z_rot_deg=np.array(np.broadcast_to(np.asarray(z_rot_deg, dtype=np.float64), tilt.shape)),
            x_tilt_deg=np.array(np.broadcast_to(np.asarray(x_tilt_deg, dtype=np.float64), tilt.shape)),
            shifts_angstrom=np.array(np.broadcast_to(np.asarray(shifts_angstrom, dtype=np.float64), (*tilt.shape, 2))),
            magnification=np.array(np.broadcast_to(np.asarray(magnification, dtype=np.float64), tilt.shape)),
        )

    @classmethod
    def from_poses(cls, poses: Sequence[_Pose]) -> Self:
        return cls(
            y_tilt_deg=np.array([p.y_tilt_deg for p in poses], dtype=np.float64),
            z_rot_deg=np.array([p.z_rot_deg for p in poses], dtype=np.float64),
            x_tilt_deg=np.array([p.x_tilt_deg for p in poses], dtype=np.float64),
            shifts_angstrom=np.array(
                [(p.x_shift_angstrom, p.y_shift_angstrom) for p in poses], dtype=np.float64
            ).reshape(-1, 2),
            magnification=np.array([p.magnification for p in poses], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.y_tilt_deg)

    def __getitem__(self, index: slice | list[int] | FloatArray | int) -> Self:
        """The geometry of some of the tilts."""
        pick = [index] if isinstance(index, int) else index
        return type(self)(
            y_tilt_deg=self.y_tilt_deg[pick],
            z_rot_deg=self.z_rot_deg[pick],
            x_tilt_deg=self.x_tilt_deg[pick],
            shifts_angstrom=self.shifts_angstrom[pick],
            magnification=self.magnification[pick],
        )

    def replace(self, **changes: FloatArray) -> Self:
        return replace(self, **changes)

    @property
    def matrices(self) -> FloatArray:
        """(tilt, 3, 3), the rotations from specimen to camera, without magnification."""
        return rotation_z(self.z_rot_deg) @ rotation_y(self.y_tilt_deg) @ rotation_x(self.x_tilt_deg)

    @property
    def image_matrices(self) -> FloatArray:
        """(tilt, 2, 3), from specimen points to x and y of the images, magnification included."""
        return self.magnification[:, None, None] * self.matrices[:, :2]

    def project(self, points: ArrayLike) -> FloatArray:
        """Camera coordinates (tilt, ..., 3) in A of specimen points (..., 3) in A; z sets the defocus."""
        out: FloatArray = np.einsum("tij,...j->t...i", self.matrices, np.asarray(points, dtype=np.float64))
        shift = self.shifts_angstrom.reshape(len(self), *([1] * (out.ndim - 2)), 2)
        out[..., :2] *= self.magnification.reshape(len(self), *([1] * (out.ndim - 1)))
        out[..., :2] += shift
        return np.asarray(out)


def angles_of_matrices(
    matrices: FloatArray, *, near_deg: FloatArray, x_tilt_deg: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """z_rot, y_tilt, x_tilt of ``Rz Ry Rx``, of both solutions that with y_tilt nearest to `near_deg`.

    Parameters
    ----------
    matrices : (tilt, 3, 3)
    near_deg : (tilt,), y_tilt
    x_tilt_deg : (tilt,), kept where the specimen is seen edge-on and only the sum of the other two angles is known
    """
    sine, cosine = -matrices[:, 2, 0], np.hypot(matrices[:, 2, 1], matrices[:, 2, 2])
    one = np.rad2deg(np.arctan2(sine, cosine))
    other = np.rad2deg(np.arctan2(sine, -cosine))

    def away(angle: FloatArray) -> FloatArray:
        return np.asarray(np.abs((angle - near_deg + 180.0) % 360.0 - 180.0))

    side = np.where(away(one) <= away(other), 1.0, -1.0)
    y_tilt = np.where(side > 0, one, other)
    edge_on = cosine < 1e-9
    x_tilt = np.where(edge_on, x_tilt_deg, np.rad2deg(np.arctan2(side * matrices[:, 2, 1], side * matrices[:, 2, 2])))
    about_z = matrices @ np.swapaxes(rotation_y(y_tilt) @ rotation_x(x_tilt), -1, -2)
    return np.rad2deg(np.arctan2(about_z[:, 1, 0], about_z[:, 1, 1])), y_tilt, x_tilt
