"""Surfaces of labelled regions and of score volumes. numpy, A from the specimen centre, which is voxel ``n // 2``."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from eucentric.errors import InputError, ShapeError
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.segmentation.geometry.marching_cubes import marching_cubes
from eucentric.segmentation.geometry.smooth_surface import decimate_surface, smooth_surface
from eucentric.segmentation.geometry.surfaces import Surface, need_voxel_size

LEAST_VOXELS = 8
"""Of a label that has a surface: below it a mesh tells nothing of a shape."""


def label_surface(
    labels: NDArray[np.integer] | NDArray[np.bool_],
    voxel_size_angstrom: float | None,
    *,
    label: int = 1,
    rounds: int = 20,
    close_at_faces: bool = False,
    most_faces: int | None = None,
) -> Surface:
    """The surface of one label, normals out of it; watertight where the label does not touch the faces of the volume.

    Marching cubes half-way between voxels, then smoothing that does not shrink: area and volume of balls of 10 voxels' radius
    and more are right to 1%.

    Parameters
    ----------
    labels : (z, y, x); True and 1 are the same
    rounds : of smoothing (`smooth_surface`)
    close_at_faces : the volume's faces count as the end of the label; else the surface is open there, and no area is made up
    most_faces : triangles to be left (`decimate_surface`); all where None

    Raises
    ------
    ShapeError : not a volume
    InputError : the label is not there, fills the volume, or is smaller than 8 voxels; or no voxel size
    """
    voxel = need_voxel_size(voxel_size_angstrom)
    _need_labels(labels)
    region = np.asarray(labels == label)
    places = np.flatnonzero(region.any(axis=(1, 2)))
    if not len(places):
        raise InputError(f"Label {label} is empty: no voxel has it. The volume has labels {_some(labels)}.")
    if region.all():
        raise InputError(
            f"Label {label} fills the whole volume: it has no surface. Give labels that leave something out."
        )
    count = int(region.sum())
    if count < LEAST_VOXELS:
        raise InputError(
            f"Label {label} has {count} voxel{'s' if count > 1 else ''}; a surface needs {LEAST_VOXELS}. "
            "Leave it out, or take smaller voxels."
        )
    box = find_objects(region.astype(np.uint8))[0]
    return _surface_in(region, box, voxel, rounds, close_at_faces, most_faces)


def label_surfaces(
    labels: NDArray[np.integer],
    voxel_size_angstrom: float | None,
    *,
    rounds: int = 20,
    close_at_faces: bool = False,
    least_voxels: int = LEAST_VOXELS,
    most_faces: int | None = None,
) -> dict[int, Surface]:
    """The surface of each label but 0 (`label_surface`), by its number; those below some voxels are left out.

    Raises
    ------
    ShapeError, InputError : as `label_surface`
    """
    voxel = need_voxel_size(voxel_size_angstrom)
    _need_labels(labels)
    if labels.min() < 0:
        raise InputError(f"A label is {labels.min()}; expected 0 for nothing and whole numbers from 1.")
    if labels.max() > 16 * labels.size ** (2 / 3) + 1e6:
        raise InputError(f"The largest label is {labels.max()}. Number labels from 1 without wide gaps.")
    out = {}
    for number, box in enumerate(find_objects(labels), start=1):
        if not box:
            continue
        region = labels[box] == number
        count = int(region.sum())
        if count == labels.size:
            raise InputError(
                f"Label {number} fills the whole volume: it has no surface. Give labels that leave something out."
            )
        if count >= max(least_voxels, 1):
            out[number] = _surface_in(
                np.asarray(region), tuple(slice(0, n) for n in region.shape), voxel, rounds, close_at_faces, most_faces,
                start=tuple(s.start for s in box), whole=labels.shape,
            )  # fmt: skip
    return out


def level_surface(
    volume: NDArray[np.floating],
    voxel_size_angstrom: float | None,
    level: float,
    *,
    rounds: int = 0,
    close_at_faces: bool = False,
    most_faces: int | None = None,
) -> Surface:
    """Where a volume (z, y, x), such as a score, passes a level; normals towards lower values.

    Parameters
    ----------
    rounds, close_at_faces, most_faces : as for `label_surface`

    Raises
    ------
    ShapeError : not a volume
    InputError : the level lies outside of the values, values that are NaN or infinite, or no voxel size
    """
    voxel = need_voxel_size(voxel_size_angstrom)
    if volume.ndim != 3:
        raise ShapeError(f"A volume of shape {volume.shape} was given; expected (z, y, x).")
    low, high = float(np.min(volume)), float(np.max(volume))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("The volume holds values that are NaN or infinite. Replace them before a surface is drawn.")
    if not low < level < high:
        raise InputError(
            f"No surface lies at {level:.4g}: the values run from {low:.4g} to {high:.4g}. Give a level between them."
        )
    values = np.pad(volume, 1, constant_values=low) if close_at_faces else volume
    points, faces = marching_cubes(values, level)
    return _finished(points - (1 if close_at_faces else 0), faces, volume.shape, voxel, rounds, most_faces)


def frame_of(shape: Sequence[int], voxel_size_angstrom: float) -> TomogramFrame:
    """The grid of a volume (z, y, x)."""
    z, y, x = shape
    return TomogramFrame(voxel_size_angstrom=voxel_size_angstrom, size_xyz=(x, y, z))


def _surface_in(
    region: NDArray[np.bool_],
    box: tuple[slice, ...],
    voxel: float,
    rounds: int,
    close_at_faces: bool,
    most_faces: int | None,
    *,
    start: Sequence[int] = (0, 0, 0),
    whole: Sequence[int] | None = None,
) -> Surface:
    """Of a region that begins at `start` in a volume of shape `whole`: its part in a box."""
    shape = region.shape if whole is None else whole
    first = np.array([s.start for s in box]) + start
    end = np.array([s.stop for s in box]) + start
    # one voxel of nothing around, but not where the volume ends
    before = [1 if close_at_faces or a > 0 else 0 for a in first]
    after = [1 if close_at_faces or b < n else 0 for b, n in zip(end, shape, strict=True)]
    cut = np.pad(region[box], list(zip(before, after, strict=True)))
    points, faces = marching_cubes(cut, 0.5)
    return _finished(points + (first - before)[::-1], faces, shape, voxel, rounds, most_faces)


def _finished(
    points: NDArray[np.float64],
    faces: NDArray[np.int64],
    shape: Sequence[int],
    voxel: float,
    rounds: int,
    most_faces: int | None,
) -> Surface:
    surface = Surface(vertices_angstrom=frame_of(shape, voxel).to_angstrom(points), faces=faces)
    surface = smooth_surface(surface, rounds)
    return surface if most_faces is None else decimate_surface(surface, most_faces)


def _need_labels(labels: NDArray[np.integer] | NDArray[np.bool_]) -> None:
    if labels.ndim != 3 or min(labels.shape) < 2:
        raise ShapeError(
            f"Labels of shape {labels.shape} were given; expected (z, y, x) with two voxels each at least."
        )
    if labels.dtype.kind not in "biu":
        raise InputError(f"Labels of type {labels.dtype} were given; expected whole numbers. For scores give a level.")


def _some(labels: NDArray[np.integer] | NDArray[np.bool_]) -> str:
    found = np.unique(labels)
    names = ", ".join(str(int(v)) for v in found[:8])
    return names + (f" and {len(found) - 8} more" if len(found) > 8 else "")
