"""Views of a map from all sides: projections as templates for picking in single images."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.projection.slices import extract_slices, volume_to_grid
from eucentric.typing import FloatArray

_GENERIC = np.array([0.3572, 0.2311, 0.9050])  # of symmetric views the one nearest to it is taken


def view_angles(step_deg: float, symmetry: str = "C1") -> FloatArray:
    """(view, 3) rot, tilt and psi = 0 in degrees of evenly spread views, one of those that symmetry makes alike.

    A view and the one from behind are mirror images, and both are there.

    Raises
    ------
    InputError : a step outside 3 to 90 degrees, or an unknown symmetry
    """
    if not 3.0 <= step_deg <= 90.0:
        raise InputError(f"The angular step is {step_deg:g} degrees; expected 3 to 90.")
    group = symmetry_rotations(symmetry)
    count = max(6, round(4.0 * math.pi / math.radians(step_deg) ** 2))
    place = (np.arange(count) + 0.5) / count
    z, turn = 1.0 - 2.0 * place, math.pi * (3.0 - math.sqrt(5.0)) * np.arange(count)
    across = np.sqrt(1.0 - z**2)
    views = np.stack([across * np.cos(turn), across * np.sin(turn), z], axis=1)
    near = np.einsum("i,gij,nj->ng", _GENERIC, group, views)
    views = views[near[:, 0] >= near.max(axis=1) - 1e-9]
    rot = np.rad2deg(np.arctan2(views[:, 1], views[:, 0]))
    tilt = np.rad2deg(np.arccos(np.clip(views[:, 2], -1.0, 1.0)))
    return np.stack([rot, tilt, np.zeros(len(views))], axis=1)


def project_views(
    density: Float[Tensor, "n n n"], rotations: FloatArray, voxel_size_angstrom: float
) -> Float[Tensor, "view n n"]:
    """Line integrals along z of a map turned by each of (view, 3, 3), its centre at pixel ``n // 2``.

    Raises
    ------
    ShapeError : a map that is no cube of even size
    """
    n = density.shape[0]
    if tuple(density.shape) != (n, n, n) or n % 2:
        raise ShapeError(f"A map of {tuple(density.shape)} voxels was given; expected a cube of even size.")
    grid = volume_to_grid(density, (2 * n,) * 3)
    slices = extract_slices(grid, rotations, n)
    images: Tensor = torch.fft.fftshift(torch.fft.irfft2(slices, s=(n, n)), dim=(1, 2)) * voxel_size_angstrom
    return images
