"""Voxel size, network, patch and batch of a training, chosen from the labels, the tomograms and the memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage
from torch import Tensor

from eucentric.compute import free_bytes
from eucentric.errors import InputError
from eucentric.networks.params import UNetParams
from eucentric.segmentation.learned.params import SegmenterParams

_VOXELS_ACROSS = 3.0  # of the thinnest class
_COARSEST = 40.0  # A: what is coarser than some 1000 A is taken out of tomograms before a network sees them
_LEAST_FIELD = 48  # voxels that a tomogram keeps along x and y
_LEVELS = (3, 5)
_PATCHES = {1: 32, 2: 32, 3: 48, 4: 64, 5: 96, 6: 128}
_LEAST_PATCH = 32
_BATCH = {"cpu": 2, "cuda": 4}
_FLOATS_KEPT = 24  # for each voxel and channel at full sampling, from forth to back
_MOST_SLICES = 60  # that sizes are measured in


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training does."""

    voxel_size_angstrom: float
    network: UNetParams
    patch_size: int
    batch_size: int
    thickness_angstrom: tuple[float, ...]
    """Of each class, as the labels show it."""

    def in_words(self) -> str:
        """One line."""
        side, network = self.patch_size, self.network
        return (
            f"voxels of {self.voxel_size_angstrom:.3g} A, {network.levels} levels of {network.width} channels and more, "
            f"batches of {self.batch_size} patches of {side} x {side} x {side} voxels"
        )


def typical_thickness(
    masks: Sequence[Bool[Tensor, "z y x"]], axes: Sequence[int | None], voxel_sizes: Sequence[float]
) -> float:
    """A across a class: four times the mean distance to its outside, which is the width of a strip, and two thirds of the
    diameter of a disc.

    Parameters
    ----------
    masks : of one class, in each tomogram
    axes : across which slices are labelled; None where the labels fill the volume, and then sections along z are measured
    voxel_sizes : A

    Raises
    ------
    InputError : no voxel of the class
    """
    total, count = 0.0, 0
    for mask, axis, voxel in zip(masks, axes, voxel_sizes, strict=True):
        planes = np.moveaxis(mask.cpu().numpy(), axis or 0, 0)
        there = np.flatnonzero(planes.any((1, 2)))
        for number in there[:: max(1, len(there) // _MOST_SLICES)]:
            plane = planes[number]
            # beyond the edge of the volume it may go on: the edge is no outside
            away = ndimage.distance_transform_edt(plane) - 0.5 if not plane.all() else np.full(plane.shape, np.inf)
            inside = away[plane]
            total += float(np.minimum(inside, min(plane.shape)).sum()) * voxel
            count += len(inside)
    if not count:
        raise InputError("A class has no voxel.")
    return 4.0 * total / count


def plan_training(
    params: SegmenterParams,
    *,
    classes: int,
    thickness_angstrom: Sequence[float],
    tomograms: Sequence[tuple[tuple[int, int, int], float]],
    device: torch.device,
    start: tuple[UNetParams, float] | None = None,
) -> TrainingPlan:
    """Choose what `params` leaves open.

    Parameters
    ----------
    thickness_angstrom : of each class
    tomograms : shapes (z, y, x) and voxel sizes in A
    start : network and voxel size of a model that the training starts from, which go before what is chosen here

    Raises
    ------
    InputError : a voxel size finer than the tomograms', or a patch that does not fit the levels
    """
    finest = max(voxel for _, voxel in tomograms)
    voxel = params.voxel_size_angstrom
    if voxel is None and start is not None:
        voxel = max(start[1], finest)
    if voxel is None:
        field = min(min(y, x) * size for (_, y, x), size in tomograms)
        wanted = min(min(thickness_angstrom) / _VOXELS_ACROSS, _COARSEST, field / _LEAST_FIELD)
        voxel = max(finest, wanted)
    elif voxel < 0.999 * finest:
        raise InputError(
            f"Voxels of {voxel:g} A were asked for, and a tomogram has {finest:g} A; expected none finer than the tomograms'."
        )
    across = max(thickness_angstrom) / voxel
    levels = params.levels
    if start is not None:
        levels = start[0].levels
    if levels is None:
        levels = _LEVELS[0]
        while levels < _LEVELS[1] and UNetParams(levels=levels).reach < across:
            levels += 1
    network = UNetParams(out_channels=classes, width=params.width, levels=levels)
    if start is not None:
        network = start[0].replace(out_channels=classes)
    multiple = network.multiple
    widest = max(max(shape) * size / voxel for shape, size in tomograms)
    patch = params.patch_size or max(multiple, min(_PATCHES[levels], multiple * int(np.ceil(widest / multiple))))
    if patch % multiple:
        raise InputError(
            f"A patch of {patch} voxels was asked for; expected a multiple of {multiple} with {levels} levels."
        )
    batch = params.batch_size or _BATCH.get(device.type, 2)
    room = free_bytes(device)
    while _bytes_of(network, patch, batch) > room and not params.batch_size and batch > 1:
        batch -= 1
    while _bytes_of(network, patch, batch) > room and not params.patch_size and patch - multiple >= _LEAST_PATCH:
        patch -= multiple
    return TrainingPlan(
        voxel_size_angstrom=float(voxel),
        network=network,
        patch_size=patch,
        batch_size=batch,
        thickness_angstrom=tuple(float(t) for t in thickness_angstrom),
    )


def _bytes_of(network: UNetParams, patch: int, batch: int) -> float:
    return 4.0 * _FLOATS_KEPT * network.width * float(patch) ** 3 * batch
