"""Objects above a level: smoothed, thresholded, mended, cut apart and chosen by size and shape."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.morphology import close_mask, dilate, erode, fill_holes, open_mask
from eucentric.segmentation.objects import ObjectLimits, Objects, find_objects, measure_objects, split_touching
from eucentric.segmentation.threshold import automatic_level, hysteresis_mask, local_mask, noise_level, value_range
from eucentric.segmentation.threshold_params import ThresholdParams
from eucentric.signal.ridges import smooth_volume

_LEAST_SIGMA = 0.05  # voxels: a Gaussian below it changes nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThresholdedObjects:
    """Objects, and the levels that they were found by."""

    objects: Objects
    level: float | None
    """In the tomogram's own values after smoothing; None of local thresholds, which have none."""
    low_level: float | None
    """Of hysteresis."""
    above: float
    """Part of the volume that passed the threshold."""


def segment_by_threshold(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    params: ThresholdParams,
    *,
    protect: Bool[Tensor, "z y x"] | None = None,
) -> ThresholdedObjects:
    """Label what is above a level, in the order: smooth, level, fill, open, close, erode, dilate, split, sizes and shapes.

    Parameters
    ----------
    volume : tomogram of the contrast that the settings tell
    voxel_size : A
    protect : places that never get a label; they do not set the level either

    Raises
    ------
    ShapeError : a protecting mask of another shape
    InputError : no contrast, values that are not numbers, nothing that is not protected, or all of the volume above the level
    """
    if protect is not None and protect.shape != volume.shape:
        raise ShapeError(
            f"The mask of protected places has shape {tuple(protect.shape)} and the tomogram {tuple(volume.shape)}; "
            "expected the same."
        )
    free = None if protect is None else ~protect.to(volume.device)
    if free is not None and not bool(free.any()):
        raise InputError("The mask of protected places is true everywhere: no voxel is left to be labelled. Check it.")
    sign = -1.0 if params.contrast == "dark" else 1.0
    dense = sign * volume.float()
    if params.smooth > _LEAST_SIGMA * voxel_size:
        dense = smooth_volume(dense, params.smooth / voxel_size)
    mask, levels = _above(dense, voxel_size, params, free, sign)
    if bool(mask.all()):
        raise InputError(
            f"Every voxel is {'below' if sign < 0 else 'above'} the level{_told(levels[0], sign)}: all of the volume would be one "
            "object. Check the level and the contrast."
        )
    above = float(mask.float().mean())
    for change in _changes(params, voxel_size):
        mask = change(mask) if free is None else change(mask & free)
    if free is not None:
        mask &= free
    objects = _chosen(mask, voxel_size, params)
    high, low = (None if level is None else sign * level for level in levels)
    return ThresholdedObjects(objects=objects, level=high, low_level=low, above=above)


def _above(
    dense: Tensor, voxel_size: float, params: ThresholdParams, free: Tensor | None, sign: float
) -> tuple[Tensor, tuple[float | None, float | None]]:
    """Voxels above the threshold, and its levels, of matter that is bright."""
    ground = dense if free is None else dense[free]
    if params.method == "local":
        return local_mask(dense, voxel_size, window_angstrom=params.window, standard_deviations=params.deviations), (
            None,
            None,
        )
    value_range(ground)  # a volume without contrast is told also where a level was given
    if params.method == "hysteresis":
        high, low = (
            sign * given if given is not None else noise_level(ground, deviations)
            for given, deviations in ((params.level, params.deviations), (params.low_level, params.low_deviations))
        )
        if low > high:
            raise InputError(
                f"Levels of {sign * high:g} and, lower, {sign * low:g} were given for {params.contrast} matter; expected the "
                f"{'smaller' if sign < 0 else 'larger'} one first. Check the contrast."
            )
        return hysteresis_mask(dense, low, high), (high, low)
    if params.level is not None:
        level = sign * params.level
    else:
        level = noise_level(ground, params.deviations) if params.method == "noise" else automatic_level(ground, "otsu")
    return dense > level, (level, None)


def _told(level: float | None, sign: float) -> str:
    return "" if level is None else f" {sign * level:g}"


def _changes(params: ThresholdParams, voxel_size: float) -> list[Callable[[Tensor], Tensor]]:
    """What is asked for of a mask, in order."""
    steps: list[Callable[[Tensor], Tensor]] = [fill_holes] if params.fill else []
    for change, radius in (
        (open_mask, params.open),
        (close_mask, params.close),
        (erode, params.erode),
        (dilate, params.dilate),
    ):
        if radius > 0:
            steps.append(partial(change, voxel_size=voxel_size, radius_angstrom=radius))
    return steps


def _chosen(mask: Tensor, voxel_size: float, params: ThresholdParams) -> Objects:
    """Objects of the sizes and shapes that are asked for."""
    limits = ObjectLimits(
        min_volume_angstrom3=params.min_volume,
        max_volume_angstrom3=math.inf if params.max_volume is None else params.max_volume,
        min_elongation=params.min_elongation,
        max_elongation=math.inf if params.max_elongation is None else params.max_elongation,
        min_flatness=params.min_flatness,
        max_flatness=params.max_flatness,
    )
    if params.split is None:
        return find_objects(mask, voxel_size, limits)
    return measure_objects(split_touching(mask, voxel_size, neck_angstrom=params.split), voxel_size, limits)
