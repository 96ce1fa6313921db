"""Separate things in a mask: connected pieces, their sizes and shapes, and what touches cut apart."""

import math
from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from eucentric.errors import InputError
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Objects:
    """Pieces of a mask, the largest first."""

    labels: Int[Tensor, "z y x"]
    """int32, 0 outside, objects from 1."""
    volumes_angstrom3: FloatArray
    """(object,)."""
    centres_px: FloatArray
    """(object, 3), x, y, z in voxels."""
    axes_angstrom: FloatArray
    """(object, 3): semi-axes of the ellipsoid with the same second moments, the longest first."""

    @property
    def flatness(self) -> FloatArray:
        """(object,): 0 where the two shorter axes are alike, near 1 for sheets."""
        return np.asarray(1.0 - self.axes_angstrom[:, 2] / self.axes_angstrom[:, 1])

    @property
    def elongation(self) -> FloatArray:
        """(object,): longest over middle axis, 1 for balls and discs."""
        return np.asarray(self.axes_angstrom[:, 0] / self.axes_angstrom[:, 1])


def find_objects(
    mask: Bool[Tensor, "z y x"],
    voxel_size: float,
    *,
    min_volume_angstrom3: float = 0.0,
    max_volume_angstrom3: float = math.inf,
    max_elongation: float = math.inf,
    max_flatness: float = 1.0,
) -> Objects:
    """Connected pieces (by faces, edges or corners) of a size and shape.

    Raises
    ------
    InputError : a mask that is true everywhere, or a voxel size that is not positive
    """
    if not voxel_size > 0:
        raise InputError(f"A voxel size of {voxel_size:g} A was given; expected a positive number.")
    if bool(mask.all()):
        raise InputError("The mask is true everywhere: there is nothing to tell apart. Check the level.")
    labels, _ = ndimage.label(mask.cpu().numpy(), np.ones((3,) * 3))
    return measure_objects(
        torch.from_numpy(labels.astype(np.int32)).to(mask.device),
        voxel_size,
        min_volume_angstrom3=min_volume_angstrom3,
        max_volume_angstrom3=max_volume_angstrom3,
        max_elongation=max_elongation,
        max_flatness=max_flatness,
    )


def measure_objects(
    labels: Int[Tensor, "z y x"],
    voxel_size: float,
    *,
    min_volume_angstrom3: float = 0.0,
    max_volume_angstrom3: float = math.inf,
    max_elongation: float = math.inf,
    max_flatness: float = 1.0,
) -> Objects:
    """Objects of a label volume that have a size and shape, renumbered by size; the numbers that were given may have gaps."""
    given = labels.cpu().numpy()
    places = np.argwhere(given > 0)
    _, which = np.unique(given[tuple(places.T)], return_inverse=True)
    count = np.bincount(which).astype(np.float64)
    centre = np.stack([np.bincount(which, weights=places[:, a]) for a in range(3)], 1) / count[:, None]
    away = places - centre[which]
    moments = np.zeros((len(count), 3, 3))
    for i in range(3):
        for j in range(i, 3):
            moments[:, i, j] = moments[:, j, i] = np.bincount(which, weights=away[:, i] * away[:, j]) / count
    # a voxel is no point: a cube has a variance of a twelfth along each side
    spread = np.linalg.eigvalsh(moments + np.eye(3) / 12.0)[:, ::-1]
    axes = voxel_size * np.sqrt(5.0 * spread)
    volumes = count * voxel_size**3
    good = (volumes >= min_volume_angstrom3) & (volumes <= max_volume_angstrom3)
    good &= (axes[:, 0] <= max_elongation * axes[:, 1]) & (1.0 - axes[:, 2] / axes[:, 1] <= max_flatness)
    order = np.argsort(-count, kind="stable")
    order = order[good[order]]
    number = np.zeros(len(count), dtype=np.int32)
    number[order] = np.arange(1, len(order) + 1)
    out = np.zeros(given.shape, dtype=np.int32)
    out[tuple(places.T)] = number[which]
    return Objects(
        labels=torch.from_numpy(out).to(labels.device),
        volumes_angstrom3=volumes[order],
        centres_px=centre[order][:, ::-1].copy(),
        axes_angstrom=axes[order],
    )


def split_touching(mask: Bool[Tensor, "z y x"], voxel_size: float, *, neck_angstrom: float) -> Int[Tensor, "z y x"]:
    """Cut apart what touches, where it is narrow: the watershed of the distance to the outside [1]_.

    Two maxima of that distance are two objects if the way between them goes down by more than the neck asks for; so noise in the
    outline does not split anything.

    Parameters
    ----------
    neck_angstrom : A that the radius must shrink by between two objects

    Returns
    -------
    int32 labels, 0 outside; every voxel of the mask belongs to one object

    Raises
    ------
    InputError : a mask that is true everywhere, or a neck that is not positive

    References
    ----------
    .. [1] Vincent & Soille, IEEE Trans. Pattern Anal. Mach. Intell. 13:583 (1991), doi:10.1109/34.87344
    """
    if not (neck_angstrom > 0 and voxel_size > 0):
        raise InputError(f"A neck of {neck_angstrom:g} A on voxels of {voxel_size:g} A; expected positive numbers.")
    if bool(mask.all()):
        raise InputError("The mask is true everywhere: it has no outside to measure from. Check the level.")
    inside = np.pad(mask.cpu().numpy().astype(bool), 1)
    depth = ndimage.distance_transform_edt(inside).astype(np.float32)
    places = np.flatnonzero(inside)
    order = places[np.argsort(-depth.ravel()[places], kind="stable")]
    labels = _flooded(depth.ravel(), order, np.array(inside.shape), np.float32(neck_angstrom / voxel_size))
    out = labels.reshape(inside.shape)[1:-1, 1:-1, 1:-1]
    return torch.from_numpy(np.ascontiguousarray(out)).to(mask.device)


@numba.njit(nogil=True, cache=True)
def _flooded(
    depth: NDArray[np.float32], order: NDArray[np.int64], shape: NDArray[np.int64], neck: np.float32
) -> NDArray[np.int32]:
    """Basins from the deepest voxel on; one that meets a deeper one before it has risen by the neck joins it."""
    label = np.zeros(len(depth), dtype=np.int32)
    parent = [np.int32(0)]
    peak = [np.float32(0.0)]
    rows, columns = shape[1] * shape[2], shape[2]
    for place in order:
        owner = np.int32(0)
        above = np.float32(-1.0)
        for dz in range(-1, 2):
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    beside = place + dz * rows + dy * columns + dx
                    found = label[beside]
                    if found == 0:
                        continue
                    while parent[found] != found:
                        found = parent[found]
                    while parent[owner] != owner:
                        owner = parent[owner]
                    if owner != 0 and owner != found:
                        deep, shallow = (owner, found) if peak[owner] >= peak[found] else (found, owner)
                        if peak[shallow] - depth[place] < neck:
                            parent[shallow] = deep
                            found = owner = deep
                    # it belongs to where the way up is steepest
                    if owner == 0 or depth[beside] > above:
                        owner, above = found, depth[beside]
        if owner == 0:
            owner = np.int32(len(parent))
            parent.append(owner)
            peak.append(depth[place])
        label[place] = owner
    numbers = np.zeros(len(parent), dtype=np.int32)
    count = 0
    for basin in range(1, len(parent)):
        if parent[basin] == basin:
            count += 1
            numbers[basin] = count
    for place in order:
        found = label[place]
        while parent[found] != found:
            found = parent[found]
        label[place] = numbers[found]
    return label
