"""Voxel size and extent of a reconstruction."""

import math
from collections.abc import Sequence

import numpy as np

from eucentric.errors import InputError
from eucentric.fourier.crop import rescaled_shape
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.results import VolumeGrid

_COMFORTABLE_VOXEL = 10.0  # A
_USUAL_THICKNESS = 3000.0  # A
_FEWEST_VOXELS = 8
_STEEPEST = 60.0  # degrees, for which a wide volume makes room: twice the field


def choose_grid(
    params: ReconstructParams,
    *,
    image_shape: tuple[int, int],
    pixel_size: float,
    thickness_angstrom: float | None = None,
    axis_deg: float = 0.0,
    tilts_deg: Sequence[float] = (),
) -> VolumeGrid:
    """The field of view in x and y, the thickness in z, in voxels.

    Tilt by t shows what lies within the field's half width over cos(t) across the axis, so that a wide volume, whose faces
    half of the tilts still see, ends there for the median of the absolute tilts.

    Parameters
    ----------
    image_shape, pixel_size : (y, x) and A per pixel of the images
    thickness_angstrom : of the specimen, where it is known; a thickness in `params` goes first
    axis_deg : of the tilt axis in the images; nearer to their x than to their y, the volume has their sides exchanged
    tilts_deg : of the images, for a wide volume

    Raises
    ------
    InputError : a pixel size or thickness that is not positive, or a pixel size that leaves hardly a voxel
    """
    if not pixel_size > 0:
        raise InputError(f"The pixel size is {pixel_size:g} A; expected a positive number.")
    voxel = params.pixel_size_angstrom or pixel_size * max(1, round(_COMFORTABLE_VOXEL / pixel_size))
    thickness = params.thickness_angstrom or thickness_angstrom or _USUAL_THICKNESS
    if not thickness > 0:
        raise InputError(
            f"The thickness is {thickness:g} A; expected a positive number. Give it with --thickness-angstrom."
        )
    y, x = rescaled_shape(image_shape, pixel_size, voxel)
    if abs(math.sin(math.radians(axis_deg))) > math.sqrt(0.5):
        y, x = x, y
    if params.extent == "wide" and len(tilts_deg):
        steep = min(_STEEPEST, float(np.median(np.abs(tilts_deg))))
        x = 2 * math.ceil(0.5 * x / math.cos(math.radians(steep)))
    if min(y, x) < _FEWEST_VOXELS:
        raise InputError(
            f"Voxels of {voxel:g} A would make a volume of {x} x {y} voxels across; expected {_FEWEST_VOXELS} or more. "
            "Choose a smaller --pixel-size-angstrom."
        )
    return VolumeGrid(voxel_size_angstrom=voxel, shape_zyx=(max(2, 2 * round(thickness / voxel / 2)), y, x))
