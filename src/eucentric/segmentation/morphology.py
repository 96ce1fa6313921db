"""Masks opened, closed, grown, shrunk and filled by balls of a radius in A."""

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError


def dilate(mask: Bool[Tensor, "z y x"], voxel_size: float, radius_angstrom: float) -> Bool[Tensor, "z y x"]:
    """Voxels within a radius of the mask; all operations here are exact for any radius, by distances."""
    return _tensor(_grown(_array(mask), _voxels(voxel_size, radius_angstrom)), mask)


def erode(mask: Bool[Tensor, "z y x"], voxel_size: float, radius_angstrom: float) -> Bool[Tensor, "z y x"]:
    """Voxels farther than a radius from the outside; beyond the faces all counts as the nearest voxel within."""
    return _tensor(~_grown(~_array(mask), _voxels(voxel_size, radius_angstrom)), mask)


def open_mask(mask: Bool[Tensor, "z y x"], voxel_size: float, radius_angstrom: float) -> Bool[Tensor, "z y x"]:
    """What balls of the radius reach that fit into the mask: drops specks and bridges that are thinner."""
    radius = _voxels(voxel_size, radius_angstrom)
    return _tensor(_grown(~_grown(~_padded(mask, radius), radius), radius), mask, crop=radius)


def close_mask(mask: Bool[Tensor, "z y x"], voxel_size: float, radius_angstrom: float) -> Bool[Tensor, "z y x"]:
    """What balls of the radius that fit outside do not reach: fills gaps and holes that are narrower."""
    radius = _voxels(voxel_size, radius_angstrom)
    return _tensor(~_grown(~_grown(_padded(mask, radius), radius), radius), mask, crop=radius)


def fill_holes(mask: Bool[Tensor, "z y x"]) -> Bool[Tensor, "z y x"]:
    """Adds what the mask shuts off from the faces of the volume."""
    return _tensor(np.asarray(ndimage.binary_fill_holes(_array(mask))), mask)


def _array(mask: Tensor) -> NDArray[np.bool_]:
    return np.asarray(mask.detach().cpu().numpy(), dtype=bool)


def _padded(mask: Tensor, radius: float) -> NDArray[np.bool_]:
    return np.pad(_array(mask), int(np.ceil(radius)), mode="edge")


def _tensor(mask: NDArray[np.bool_], like: Tensor, *, crop: float = 0.0) -> Tensor:
    width = int(np.ceil(crop))
    if width:
        mask = mask[width:-width, width:-width, width:-width]
    return torch.from_numpy(np.ascontiguousarray(mask)).to(like.device)


def _grown(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    if not mask.any() or radius == 0:
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius + 1e-6)


def _voxels(voxel_size: float, radius_angstrom: float) -> float:
    if not (voxel_size > 0 and radius_angstrom >= 0):
        raise InputError(
            f"A radius of {radius_angstrom:g} A on voxels of {voxel_size:g} A was given; expected no negative numbers."
        )
    return radius_angstrom / voxel_size
