"""Which particles lie in a region: a volume, near a surface, in a slab, among neighbours. Masks (particle,), True to keep."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import rotation_x, rotation_y
from eucentric.models.particles import ParticleSet
from eucentric.models.specimen import Specimen
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.typing import FloatArray

Mask = NDArray[np.bool_]


def in_volume(positions_angstrom: FloatArray, volume: ArrayLike, frame: TomogramFrame, threshold: float = 0.5) -> Mask:
    """Where a mask (z, y, x), at the nearest voxel, is above a threshold; outside of the volume nothing is.

    Raises
    ------
    ShapeError : a volume that is not of the frame's size
    """
    values = _checked(volume, frame)
    index = np.round(frame.to_index(positions_angstrom)).astype(np.int64)
    size = np.array(frame.size_xyz)
    inside = ((index >= 0) & (index < size)).all(axis=1)
    x, y, z = np.clip(index, 0, size - 1).T
    return np.asarray(inside & (values[z, y, x] > threshold))


def distance_to_mask(
    positions_angstrom: FloatArray, volume: ArrayLike, frame: TomogramFrame, threshold: float = 0.5
) -> FloatArray:
    """(particle,) A to the border of a segmented region: positive outside of it, negative inside.

    The border runs half a voxel from the voxels next to it. Beyond the volume the distance goes on from its edge.

    Raises
    ------
    ShapeError : a volume that is not of the frame's size
    InputError : a mask that is empty, or full
    """
    region = _checked(volume, frame) > threshold
    if not region.any() or region.all():
        word = "full" if region.all() else "empty"
        raise InputError(f"The mask is {word} above {threshold:g}, so nothing can be near its border.")
    signed = np.where(region, 0.5 - distance_transform_edt(region), distance_transform_edt(~region) - 0.5)
    index = frame.to_index(positions_angstrom)
    held = np.clip(index, 0, np.array(frame.size_xyz) - 1)
    beyond = np.linalg.norm(index - held, axis=1)
    at = map_coordinates(signed.astype(np.float32), held[:, ::-1].T, order=1, mode="nearest")
    return np.asarray((at + beyond) * frame.voxel_size_angstrom, dtype=np.float64)


def _checked(volume: ArrayLike, frame: TomogramFrame) -> FloatArray:
    values = np.asarray(volume, dtype=np.float64)
    if values.shape != frame.size_xyz[::-1]:
        raise ShapeError(
            f"A volume of shape {values.shape} was given for a tomogram of {frame.size_xyz[::-1]} (z, y, x)."
        )
    return values


def distance_to_points(positions_angstrom: FloatArray, points_angstrom: FloatArray) -> FloatArray:
    """(particle,) A to the nearest of some points, such as those of a membrane's mid-surface; infinite without any."""
    if not len(points_angstrom) or not len(positions_angstrom):
        return np.full(len(positions_angstrom), np.inf)
    return np.asarray(cKDTree(points_angstrom).query(positions_angstrom)[0], dtype=np.float64)


def height_in_specimen(positions_angstrom: FloatArray, specimen: Specimen) -> FloatArray:
    """(particle,) A above the middle plane of the specimen, along its normal."""
    normal = (rotation_y(specimen.y_tilt_deg) @ rotation_x(specimen.x_tilt_deg))[:, 2]
    return np.asarray((positions_angstrom - [0.0, 0.0, specimen.z_angstrom]) @ normal)


def has_neighbours(
    particles: ParticleSet, distance_angstrom: float, count: int, *, max_angle_deg: float | None = None
) -> Mask:
    """Those with so many neighbours that far away or nearer, as subunits of a lattice have.

    Parameters
    ----------
    distance_angstrom : A between neighbours, at most
    count : neighbours at least
    max_angle_deg : a neighbour's z axis (`directions`) differs by no more than this; any where None

    Raises
    ------
    InputError : a distance or count that is not positive
    """
    if not distance_angstrom > 0 or count < 1:
        raise InputError(
            f"{count} neighbours within {distance_angstrom:g} A were asked for; expected positive numbers."
        )
    alike = -2.0 if max_angle_deg is None else float(np.cos(np.deg2rad(max_angle_deg)))
    found = np.zeros(len(particles), dtype=np.int64)
    for name in particles.tomogram_names:
        rows = np.flatnonzero(particles.tomograms == name)
        pairs = cKDTree(particles.positions_angstrom[rows]).query_pairs(distance_angstrom, output_type="ndarray")
        a, b = rows[pairs[:, 0]], rows[pairs[:, 1]]
        close = np.einsum("ni,ni->n", particles.directions[a], particles.directions[b]) >= alike - 1e-12
        np.add.at(found, a[close], 1)
        np.add.at(found, b[close], 1)
    return found >= count
