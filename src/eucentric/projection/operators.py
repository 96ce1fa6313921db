"""Projection and back-projection: checks, and the choice of the back end."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.projection import cpu, reference
from eucentric.projection.layout import line_layout


def back_project(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    volume_shape: tuple[int, int, int],
    *,
    x_tilts_deg: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    z_offset: int = 0,
) -> Float[Tensor, "z y x"]:
    r"""Smear images back through a volume: the exact transpose of :func:`project`.

    Voxel p, counted from the centre ``n // 2`` of each axis (x, y, z), gets the sum over tilts of ``weight *
    image(u)`` at ``u = (Ry(tilt) Rx(x_tilt) p)_xy``, that is ``u_x = cos(tilt) x + sin(tilt) z`` and ``u_y = y`` where
    nothing is tilted about x. Voxels and pixels have the same size; what lies outside an image is zero.

    Every line is read with a cubic B-spline onto fine samples, ``cos(tilt) / 2`` voxels apart (1/2 beyond 75 degrees),
    and these with two taps. Float32 on the CPU takes the fast loops; other devices and float64 take plain torch.

    Parameters
    ----------
    images : (tilt, y, x) with the tilt axis on +y
    tilt_angles_deg : (tilt,) about y; any angle
    volume_shape : (z, y, x)
    x_tilts_deg : (tilt,) about x, applied first; none means zero. Half as fast, and a linear read between rows
    weights : (tilt,) factors of the images; none means 1
    z_offset : voxels by which the centre of the volume lies above the centre of the specimen: a slab of a larger volume

    Returns
    -------
    (z, y, x), dtype and device of `images`

    Raises
    ------
    ShapeError, InputError : sizes, angles or weights that do not fit together
    """
    whole = _with_offset(volume_shape, z_offset)
    layout = line_layout(tilt_angles_deg, whole, _rows(images, "images"), x_tilts_deg=x_tilts_deg)
    factor = np.ones(len(layout)) if weights is None else np.asarray(weights, dtype=np.float64)
    if images.shape[0] != len(layout) or factor.shape != (len(layout),):
        raise ShapeError(
            f"{images.shape[0]} images, {len(layout)} angles and weights {factor.shape} were given; expected one each."
        )
    if not np.isfinite(factor).all():
        raise InputError(f"The weights are {factor.tolist()}; expected finite numbers.")
    if not _fast(images):
        return reference.reference_back_project(
            images, tilt_angles_deg, volume_shape, x_tilts_deg=x_tilts_deg, weights=factor, z_offset=z_offset
        )
    out = torch.zeros(volume_shape, dtype=torch.float32)
    cpu.back_project_cpu(images.detach(), layout, factor, out, z_offset)
    return out


def project(
    volume: Float[Tensor, "z y x"],
    tilt_angles_deg: ArrayLike,
    image_shape: tuple[int, int],
    *,
    x_tilts_deg: ArrayLike | None = None,
    z_offset: int = 0,
) -> Float[Tensor, "tilt y x"]:
    r"""Sum a volume along the beam: the line integral in units of a voxel's edge.

    Each voxel spreads its value, with total weight one, around the place where it is seen (see :func:`back_project`,
    whose exact transpose this is): a uniform slab of thickness d seen at a tilt gives ``d / cos(tilt)``, and the sum
    of an image is the sum of the volume as long as nothing leaves the field.

    Parameters
    ----------
    volume : (z, y, x)
    tilt_angles_deg : (tilt,) about y
    image_shape : (y, x)
    x_tilts_deg : (tilt,) about x, applied first; none means zero
    z_offset : voxels by which the centre of the volume lies above the centre of the specimen: a slab of a larger volume

    Returns
    -------
    (tilt, y, x), dtype and device of `volume`
    """
    rows = _rows(volume, "volume")
    shape = (volume.shape[0], rows, volume.shape[2])
    if min(image_shape) < 1:
        raise ShapeError(f"An image shape of {tuple(image_shape)} was given; expected (y, x), both positive.")
    layout = line_layout(tilt_angles_deg, _with_offset(shape, z_offset), image_shape[0], x_tilts_deg=x_tilts_deg)
    if not _fast(volume):
        return reference.reference_project(
            volume, tilt_angles_deg, image_shape, x_tilts_deg=x_tilts_deg, z_offset=z_offset
        )
    out = torch.zeros((len(layout), *image_shape), dtype=torch.float32)
    cpu.project_cpu(volume.detach(), layout, out, z_offset)
    return out


def _with_offset(shape: tuple[int, int, int], z_offset: int) -> tuple[int, int, int]:
    """A centred volume that holds the one off centre: lines must be long enough for it."""
    return (shape[0] + 2 * abs(z_offset), *shape[1:])


def _fast(data: Tensor) -> bool:
    return data.device.type == "cpu" and data.dtype == torch.float32 and not data.requires_grad


def _rows(data: Tensor, name: str) -> int:
    if data.ndim != 3 or min(data.shape) < 1:
        shape: Sequence[int] = tuple(data.shape)
        raise ShapeError(f"The {name} have shape {shape}; expected three axes, none empty.")
    return data.shape[1]
