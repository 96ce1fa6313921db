"""An image or volume sampled on another grid by an affine map, with one interpolation."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eucentric.errors import ShapeError
from eucentric.geometry.affine import Affine
from eucentric.typing import FloatArray


def resample_affine(
    values: NDArray[np.float32],
    spacing: FloatArray,
    to_target: Affine,
    shape: tuple[int, ...],
    target_spacing: float,
    target_first: FloatArray,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values on a grid of the target, by cubic splines; zero outside of the image.

    Parameters
    ----------
    values : (z, y, x) or (y, x)
    spacing : (d,) length of a pixel along x, y, and z; pixel 0 lies at 0
    to_target : from lengths (x, y, and z) of the image to those of the target
    shape : of the grid, z, y, x or y, x
    target_spacing : length of a voxel of the grid
    target_first : (d,) x, y, and z of its voxel 0

    Returns
    -------
    sampled : `shape`
    inside : `shape`, whether the image reaches there

    Raises
    ------
    ShapeError : numbers of dimensions that differ
    """
    d = values.ndim
    if not d == len(shape) == len(spacing) == len(target_first) == len(to_target.offset):
        raise ShapeError(f"An image of {d} dimensions cannot be sampled on a grid of shape {shape}.")
    back = to_target.inverse
    matrix = back.matrix * target_spacing / np.asarray(spacing)[:, None]
    offset = back(np.asarray(target_first)[None])[0] / np.asarray(spacing)
    order = np.arange(d)[::-1]  # scipy counts z, y, x
    matrix, offset = matrix[np.ix_(order, order)], offset[order]
    sampled = ndimage.affine_transform(values, matrix, offset, output_shape=shape, order=3, mode="nearest")
    grid = np.indices(shape).reshape(d, -1)
    index = (matrix @ grid + offset[:, None]).reshape(d, *shape)
    size = np.array(values.shape).reshape(d, *(1,) * d)
    inside = ((index >= -0.5) & (index <= size - 0.5)).all(axis=0)
    return np.where(inside, sampled, np.float32(0.0)).astype(np.float32), inside
