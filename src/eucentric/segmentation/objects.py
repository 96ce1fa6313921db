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

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLimits:
    """Sizes and shapes of objects that are kept; see `Objects` for what the shapes mean."""

    min_volume_angstrom3: float = 0.0
    max_volume_angstrom3: float = math.inf
    min_elongation: float = 1.0
    max_elongation: float = math.inf
    min_flatness: float = 0.0
    max_flatness: float = 1.0


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
    at_faces: NDArray[np.bool_]
    """(object,): whether it touches a face of the volume, and so may go on beyond it."""

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
    limits: ObjectLimits | None = None,
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
    labels = np.empty(tuple(mask.shape), dtype=np.int32)
    ndimage.label(mask.cpu().numpy(), np.ones((3,) * 3), output=labels)
    return measure_objects(torch.from_numpy(labels).to(mask.device), voxel_size, limits)


def measure_objects(
    labels: Int[Tensor, "z y x"],
    voxel_size: float,
    limits: ObjectLimits | None = None,
) -> Objects:
    """Objects of a label volume that have a size and shape, renumbered by size; the numbers that were given may have gaps."""
    kept = limits or ObjectLimits()
    given = labels.cpu().numpy()
    numbers = np.unique(given)
    numbers = numbers[numbers > 0]
    sums, at_faces = _sums(given, numbers)
    count = sums[:, 0]
    # a plane at a time from the middle of the volume: a volume's list of places would not fit into memory
    centre = sums[:, 1:4] / count[:, None]
    moments = np.empty((len(count), 3, 3))
    for column, (i, j) in enumerate(_PAIRS, 4):
        moments[:, i, j] = moments[:, j, i] = sums[:, column] / count - centre[:, i] * centre[:, j]
    # a voxel is no point: a cube has a variance of a twelfth along each side
    spread = np.linalg.eigvalsh(moments + np.eye(3) / 12.0)[:, ::-1]
    axes = voxel_size * np.sqrt(5.0 * spread)
    volumes = count * voxel_size**3
    good = (volumes >= kept.min_volume_angstrom3) & (volumes <= kept.max_volume_angstrom3)
    elongation, flatness = axes[:, 0] / axes[:, 1], 1.0 - axes[:, 2] / axes[:, 1]
    good &= (elongation >= kept.min_elongation) & (elongation <= kept.max_elongation)
    good &= (flatness >= kept.min_flatness) & (flatness <= kept.max_flatness)
    order = np.argsort(-count, kind="stable")
    order = order[good[order]]
    new = np.zeros(len(count) + 1, dtype=np.int32)
    new[1 + order] = np.arange(1, len(order) + 1)
    out = np.empty(given.shape, dtype=np.int32)
    for plane, target in zip(given, out, strict=True):
        target[...] = new[np.where(plane > 0, 1 + np.searchsorted(numbers, plane), 0)]
    middle = np.array(given.shape) // 2
    return Objects(
        labels=torch.from_numpy(out).to(labels.device),
        volumes_angstrom3=volumes[order],
        centres_px=(centre[order] + middle)[:, ::-1].copy(),
        axes_angstrom=axes[order],
        at_faces=at_faces[order],
    )


def _sums(given: NDArray[np.integer], numbers: NDArray[np.integer]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(object, 10) sums of 1, z, y, x from voxel n // 2 and their products, and which objects touch a face."""
    out = np.zeros((len(numbers), 4 + len(_PAIRS)))
    at_faces = np.zeros(len(numbers), dtype=bool)
    middle = np.array(given.shape) // 2
    for z, plane in enumerate(given):
        y, x = np.nonzero(plane > 0)
        if not len(y):
            continue
        which = np.searchsorted(numbers, plane[y, x])
        here, row = np.unique(which, return_inverse=True)
        place = (np.full(len(y), float(z - middle[0])), y - float(middle[1]), x - float(middle[2]))
        weights = (None, *place, *(place[i] * place[j] for i, j in _PAIRS))
        for column, weight in enumerate(weights):
            out[here, column] += np.bincount(row, weights=weight)
        edge = (z in (0, len(given) - 1)) | np.isin(y, (0, plane.shape[0] - 1)) | np.isin(x, (0, plane.shape[1] - 1))
        at_faces[which[edge]] = True
    return out, at_faces


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
