"""Where the centre is, and how pixels become Angstrom. The only place that knows `n // 2`."""

import numpy as np
from numpy.typing import ArrayLike

from eucentric.typing import FloatArray


def centre_index(n: int) -> int:
    """Index of the centre along an axis of `n` samples: ``n // 2``, for images, volumes, boxes and rotations alike."""
    return n // 2


def pixel_to_angstrom(index_xy: ArrayLike, shape: tuple[int, ...], pixel_size: float) -> FloatArray:
    """Position (..., d) in A from the centre of an array, from indices (..., d) ordered x, y(, z).

    `shape` is the array's shape in its own order, (y, x) or (z, y, x).
    """
    centre = np.array([centre_index(n) for n in reversed(shape)], dtype=np.float64)
    return np.asarray((np.asarray(index_xy, dtype=np.float64) - centre) * pixel_size)


def angstrom_to_pixel(position: ArrayLike, shape: tuple[int, ...], pixel_size: float) -> FloatArray:
    """Inverse of :func:`pixel_to_angstrom`: fractional indices (..., d) ordered x, y(, z)."""
    centre = np.array([centre_index(n) for n in reversed(shape)], dtype=np.float64)
    return np.asarray(np.asarray(position, dtype=np.float64) / pixel_size + centre)
