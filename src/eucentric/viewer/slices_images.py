"""Slices of a volume as grey pictures, rows going up."""

import numpy as np
from numpy.typing import NDArray

from eucentric.viewer.pictures import grey_png
from eucentric.viewer.volumes import Volume

_AXIS = {"xy": 0, "xz": 1, "zy": 2}
"""Across which the slice is taken."""
_WIDER = 0.5
"""How much further than nearly all grey values the picture reaches on each side: its contrast is set where it is shown."""


def slice_picture(volume: Volume, plane: str, index: int, summed: int, limits: tuple[float, float]) -> bytes:
    """A slice as PNG.

    Parameters
    ----------
    plane : `xy`; `xz` with z up; `zy` with z to the right and y up
    index : voxel along the third axis, from 0
    summed : slices about it whose mean is shown
    limits : between which nearly all voxels lie

    Raises
    ------
    IndexError : no such slice
    """
    axis = _AXIS[plane]
    count = volume.levels[0].shape_zyx[axis]
    if not 0 <= index < count:
        raise IndexError(index)
    image = _mean(volume, axis, index, summed, count)
    low, high = limits
    margin = _WIDER * (high - low)
    return grey_png(image.T if plane == "zy" else image, (low - margin, high + margin))


def _mean(volume: Volume, axis: int, index: int, summed: int, count: int) -> NDArray[np.float32]:
    first = max(index - (summed - 1) // 2, 0)
    last = min(index + summed // 2, count - 1)
    total = volume.plane(axis, first)
    for i in range(first + 1, last + 1):
        total = total + volume.plane(axis, i)
    return np.asarray(total / np.float32(last - first + 1), np.float32)
