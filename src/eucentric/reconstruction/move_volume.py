"""A rigid motion in space, and a volume carried by it with one interpolation."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import rotation_x, rotation_y, rotation_z
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.splines import REACH, cubic_weights
from eucentric.typing import FloatArray

_VOXELS_AT_ONCE = 2**19
_MARGIN = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RigidMotion:
    """``p' = rotation @ p + shift_angstrom``; points in A from the centre of their volume."""

    rotation: FloatArray
    """(3, 3), right-handed."""
    shift_angstrom: FloatArray
    """(3,), x, y, z."""

    def __post_init__(self) -> None:
        if self.rotation.shape != (3, 3) or self.shift_angstrom.shape != (3,):
            raise ShapeError(
                f"A rigid motion needs a rotation (3, 3) and a shift (3,); got {self.rotation.shape} and "
                f"{self.shift_angstrom.shape}."
            )
        if not np.allclose(self.rotation @ self.rotation.T, np.eye(3), atol=1e-6) or np.linalg.det(self.rotation) < 0:
            raise InputError("A rigid motion was given a matrix that is not a rotation, or that mirrors.")

    @classmethod
    def build(cls, *, x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0, shift: FloatArray) -> Self:
        """``Rz(z_deg) Ry(y_deg) Rx(x_deg)`` and a shift in A."""
        rotation = rotation_z(z_deg) @ rotation_y(y_deg) @ rotation_x(x_deg)
        return cls(rotation=rotation, shift_angstrom=np.asarray(shift, dtype=np.float64))

    @property
    def angles_deg(self) -> tuple[float, float, float]:
        """(x, y, z) with ``rotation = Rz(z) Ry(y) Rx(x)``."""
        return _euler_xyz(self.rotation)

    @property
    def inverse(self) -> Self:
        turned = self.rotation.T
        return type(self)(rotation=turned, shift_angstrom=-turned @ self.shift_angstrom)

    def carry_geometry(self, geometry: TiltGeometry) -> TiltGeometry:
        """The same images, seen from the frame that this motion leads to.

        With it two series of one specimen share one frame: their images and joined geometries can be solved for one
        volume, and that volume be projected into both.
        """
        back = self.inverse
        angles = np.array([_euler_xyz(m @ back.rotation) for m in geometry.matrices])
        moved = geometry.image_matrices @ back.shift_angstrom
        return TiltGeometry.build(
            angles[:, 1],
            z_rot_deg=angles[:, 2],
            x_tilt_deg=angles[:, 0],
            shifts_angstrom=geometry.shifts_angstrom + moved,
            magnification=geometry.magnification,
        )


def _euler_xyz(rotation: FloatArray) -> tuple[float, float, float]:
    """(x, y, z) in degrees with ``rotation = Rz(z) Ry(y) Rx(x)``, y within +-90."""
    y = np.arctan2(-rotation[2, 0], np.hypot(rotation[0, 0], rotation[1, 0]))
    x = np.arctan2(rotation[2, 1], rotation[2, 2])
    z = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float(np.rad2deg(x)), float(np.rad2deg(y)), float(np.rad2deg(z))


def move_volume(
    volume: Float[Tensor, "z y x"],
    motion: RigidMotion,
    *,
    voxel_size: float,
    shape: tuple[int, int, int] | None = None,
) -> Float[Tensor, "z y x"]:
    """The content of a volume carried by a rigid motion: ``out(p) = volume(rotation^T (p - shift))``.

    One read with a cubic B-spline that passes through all voxels [1]_: no motion and turns by 90 degrees change
    nothing. Zero outside the volume; subtract the mean first.

    Parameters
    ----------
    volume : (z, y, x)
    motion : in A
    voxel_size : A per voxel, of both volumes
    shape : of the result; that of `volume` where None. Either is centred on voxel ``n // 2`` of each axis

    References
    ----------
    .. [1] Unser, Aldroubi & Eden, IEEE Trans. Signal Process. 41:821 (1993), doi:10.1109/78.193220
    """
    if volume.ndim != 3:
        raise ShapeError(f"A volume of shape {tuple(volume.shape)} was given; expected (z, y, x).")
    if not voxel_size > 0:
        raise InputError(f"The voxel size is {voxel_size:g} A; expected a positive number.")
    return read_spline(spline_coefficients(volume), motion, voxel_size, shape or _shape(volume))


def spline_coefficients(volume: Float[Tensor, "z y x"]) -> Float[Tensor, "pz py px"]:
    """Coefficients of the interpolating cubic B-spline of a volume, which is zero outside, with a margin of 3 voxels."""
    out = torch.nn.functional.pad(volume, (_MARGIN,) * 6)
    for axis in range(3):
        n = out.shape[axis] + 2 * REACH
        frequency = torch.fft.rfftfreq(n, device=volume.device, dtype=torch.float64)
        gain = (3.0 / (2.0 + torch.cos(2.0 * torch.pi * frequency))).to(volume.dtype)
        gain = gain.reshape([-1 if a == axis else 1 for a in range(3)])
        other = 1 if axis == 0 else 0
        block = max(1, 2**22 // (out.numel() // out.shape[other]))
        for part in torch.split(out, block, dim=other):  # views: the work of one block at a time
            part.copy_(
                torch.fft.irfft(torch.fft.rfft(part, n=n, dim=axis) * gain, n=n, dim=axis).narrow(
                    axis, 0, part.shape[axis]
                )
            )
    return out


def read_spline(
    coefficients: Float[Tensor, "pz py px"], motion: RigidMotion, voxel_size: float, shape: tuple[int, int, int]
) -> Float[Tensor, "z y x"]:
    """:func:`move_volume` from :func:`spline_coefficients`, which many motions can share."""
    device, dtype = coefficients.device, coefficients.dtype
    sizes = coefficients.shape
    back = motion.inverse
    # array order: matrix and constant of (z, y, x)
    matrix = torch.from_numpy(np.ascontiguousarray(back.rotation[::-1, ::-1])).to(device)
    centre = np.array([(n - 2 * _MARGIN) // 2 + _MARGIN for n in sizes])
    constant = back.shift_angstrom[::-1] / voxel_size + centre
    axes = [torch.arange(n, device=device, dtype=torch.float64) - n // 2 for n in shape]
    in_plane = [matrix[i, 1] * axes[1][:, None] + matrix[i, 2] * axes[2] + float(constant[i]) for i in range(3)]
    rows_of_four = coefficients.reshape(-1).unfold(0, 4, 1)  # x neighbours lie side by side
    out = coefficients.new_empty(shape)
    planes = max(1, _VOXELS_AT_ONCE // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        z = axes[0][start : start + planes, None, None]
        places = [matrix[i, 0] * z + in_plane[i] for i in range(3)]
        base, weights = [], []
        inside = torch.ones(places[0].shape, dtype=torch.bool, device=device)
        for place, n in zip(places, sizes, strict=True):
            inside &= (place >= 1.0) & (place < n - 2.0)
            first = place.floor().clamp(1, n - 3)
            base.append(first.long() - 1)
            weights.append(torch.stack(cubic_weights((place - first).clamp(0, 1).to(dtype)), dim=-1))
        flat = (base[0] * sizes[1] + base[1]) * sizes[2] + base[2]
        total = torch.zeros(flat.shape, device=device, dtype=dtype)
        for i in range(4):
            for j in range(4):
                taps = (rows_of_four[flat + (i * sizes[1] + j) * sizes[2]] * weights[2]).sum(-1)
                total += taps * (weights[0][..., i] * weights[1][..., j])
        out[start : start + planes] = total * inside
    return out


def _shape(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[0], volume.shape[1], volume.shape[2]
