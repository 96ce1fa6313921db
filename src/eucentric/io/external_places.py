"""Poses and local deformation of an external alignment, in A about the centre of our images."""

from collections.abc import Sequence

import numpy as np

from eucentric.errors import InputError
from eucentric.geometry.warp import ImageWarp
from eucentric.io.external_alignments import Centre, ExternalAlignment, ExternalView
from eucentric.models.tilt_series import TiltPose
from eucentric.typing import FloatArray

_SAME_SIZE = 0.01  # relative difference of widths and heights that rounding on binning explains


def angstrom_per_unit(
    external: ExternalAlignment, pixel_size_angstrom: float, image_shape: tuple[int, int], name: str
) -> float:
    """A in the unit of the shifts; of pixels whose size the files do not tell, from the sizes of the images.

    Raises
    ------
    InputError : images of another shape
    """
    if external.unit == "angstrom":
        return 1.0
    if external.image_size is None:
        return external.pixel_size_angstrom or pixel_size_angstrom
    ratios = [n / m for n, m in zip(image_shape[::-1], external.image_size, strict=True)]
    if abs(ratios[0] / ratios[1] - 1.0) > _SAME_SIZE:
        x, y = external.image_size
        raise InputError(
            f"{external.source} aligned images of {x} x {y} pixels; those of {name} are {image_shape[1]} x "
            f"{image_shape[0]}, of another shape. Check that it belongs to this series."
        )
    return external.pixel_size_angstrom or pixel_size_angstrom * float(np.mean(ratios))


def centre_offset(centre: Centre, pixel_size_angstrom: float, image_shape: tuple[int, int]) -> FloatArray:
    """(x, y) in A: where the centre that another program counts from lies from ours (pixel ``n // 2``)."""
    n = np.array(image_shape[::-1], dtype=np.float64)
    there = {"floor": n // 2, "half": n / 2, "middle": (n - 1) / 2}[centre]
    out: FloatArray = (there - n // 2) * pixel_size_angstrom
    return out


def pose_of(view: ExternalView, unit: float, offset: FloatArray, sign: float = 1.0) -> TiltPose:
    """Our pose of a view.

    Parameters
    ----------
    unit : A in the unit of its shifts
    offset : of :func:`centre_offset`
    sign : -1 turns its tilts the other way
    """
    shift = np.array(view.shift) * unit + offset
    return TiltPose(
        y_tilt_deg=sign * view.y_tilt_deg,
        z_rot_deg=view.z_rot_deg,
        x_tilt_deg=sign * view.x_tilt_deg,
        x_shift_angstrom=float(shift[0]),
        y_shift_angstrom=float(shift[1]),
        magnification=view.magnification,
    )


def sampled_warp(
    external: ExternalAlignment,
    views: Sequence[int],
    unit: float,
    offset: FloatArray,
    pixel_size_angstrom: float,
    image_shape: tuple[int, int],
) -> ImageWarp | None:
    """The local deformation of some views on a grid of ours; None where there is none."""
    if external.local is None:
        return None
    (ny, nx), (gy, gx) = image_shape, external.local.grid
    x = (np.linspace(0, nx - 1, gx) if gx > 1 else np.array([(nx - 1) / 2])) - nx // 2
    y = (np.linspace(0, ny - 1, gy) if gy > 1 else np.array([(ny - 1) / 2])) - ny // 2
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) * pixel_size_angstrom
    size = (nx * pixel_size_angstrom / unit, ny * pixel_size_angstrom / unit)
    fields = [external.local.at(v, (places - offset) / unit, size) * unit for v in views]
    field = np.array(fields).reshape(len(views), gy, gx, 2)
    return ImageWarp.build(field, image_shape, pixel_size_angstrom)
