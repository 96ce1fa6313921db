"""Errors of motion, defocus and tomogram against truth."""

import numpy as np
from numpy.typing import NDArray

from eucentric.geometry.grids import angstrom_to_pixel
from eucentric.typing import FloatArray


def motion_error(estimated: FloatArray, true: FloatArray) -> float:
    """Rms over frames of the distance between displacements (frame, 2) in A, the mean of each removed."""
    difference = (estimated - estimated.mean(0)) - (true - true.mean(0))
    return float(np.sqrt((difference**2).sum(1).mean()))


def defocus_error(estimated: FloatArray, true: FloatArray, tilts_deg: FloatArray) -> tuple[float, float]:
    """Median absolute error in A for |tilt| <= 30 degrees, and beyond; NaN where there is no such tilt."""
    error = np.abs(estimated - true)
    low = np.abs(tilts_deg) <= 30.0
    return tuple(float(np.median(error[part])) if part.any() else float("nan") for part in (low, ~low))  # type: ignore[return-value]


def particle_contrast(
    volume: NDArray[np.floating], voxel_size: float, positions: FloatArray, *, radius_angstrom: float = 60.0
) -> float:
    """How much darker the tomogram is at true particles than at random places, in standard deviations of the latter.

    Parameters
    ----------
    volume : (z, y, x), particles dark
    positions : (particle, 3), A from the centre of the volume; those outside are left out
    radius_angstrom : half the side of the cube averaged at each place
    """
    half = max(1, round(radius_angstrom / voxel_size))
    shape = np.array(volume.shape)

    def means(index_xyz: FloatArray) -> FloatArray:
        index = np.round(index_xyz[:, ::-1]).astype(int)
        inside = ((index >= half) & (index < shape - half)).all(1)
        return np.array(
            [
                np.mean(
                    volume[z - half : z + half + 1, y - half : y + half + 1, x - half : x + half + 1], dtype=np.float64
                )
                for z, y, x in index[inside]
            ]
        )

    found = means(angstrom_to_pixel(positions, tuple(volume.shape), voxel_size))
    if len(found) < 3:
        return float("nan")
    spread = np.abs(positions).max(0).clip(max=(shape[::-1] / 2 - half - 1) * voxel_size)
    places = np.random.default_rng(0).uniform(-1, 1, (500, 3)) * spread
    other = means(angstrom_to_pixel(places, tuple(volume.shape), voxel_size))
    return float((np.median(other) - found.mean()) / max(float(other.std()), 1e-20))
