"""Slices of a volume as grey pictures, rows going up."""

import numpy as np
from numpy.typing import NDArray

from eucentric.viewer.pictures import grey_png
from eucentric.viewer.volumes import Volume

_AXIS = {"xy": 0, "xz": 1, "zy": 2}
"""Across which the slice is taken."""
_WIDER = 0.5
"""How much further than nearly all grey values the picture reaches on each side: its contrast is set where it is shown."""

_MOST_PIXELS = 2048
"""Of a side of a picture; longer ones have means of blocks."""


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
    turned = image.T if plane == "zy" else image
    factor = -(-max(turned.shape) // _MOST_PIXELS)
    return grey_png(turned if factor == 1 else _in_blocks(turned, factor), (low - margin, high + margin))


def _in_blocks(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means of square blocks; the last ones repeat the edge where the image ends within them."""
    whole = np.pad(image, [(0, -n % factor) for n in image.shape], mode="edge")
    rows, columns = (n // factor for n in whole.shape)
    return np.asarray(whole.reshape(rows, factor, columns, factor).mean(axis=(1, 3)), np.float32)


def _mean(volume: Volume, axis: int, index: int, summed: int, count: int) -> NDArray[np.float32]:
    first = max(index - (summed - 1) // 2, 0)
    last = min(index + summed // 2, count - 1)
    total = volume.plane(axis, first)
    for i in range(first + 1, last + 1):
        total = total + volume.plane(axis, i)
    return np.asarray(total / np.float32(last - first + 1), np.float32)
