"""Copies of a map where its particles lie: the average put back into the specimen. numpy, voxels and A."""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.typing import FloatArray

_MOST_LABELS = 32767


def place_copies(
    density: Float[Tensor, "n n n"],
    frame: TomogramFrame,
    positions_angstrom: FloatArray,
    rotations: FloatArray,
    *,
    level: float | None = None,
    labels: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """A volume (z, y, x) of a tomogram's size that holds a turned copy at every particle.

    At x stands the sum over particles of the density at :math:`A^{-1}(x - p)`, read by cubic splines.

    Parameters
    ----------
    density : with the tomogram's voxels, its centre at voxel ``n // 2``, and nothing at the faces of its box
    positions_angstrom, rotations : (particle, 3) from the specimen centre, and (particle, 3, 3) reference to specimen
    level : with it, voxels of a copy above it hold the particle's label, and the others 0
    labels : (particle,), 1 to 32767; numbers from 1 where None

    Raises
    ------
    ShapeError : a density that is no cube, or poses of different numbers
    InputError : labels that 16 bits do not hold
    """
    n = density.shape[0]
    if tuple(density.shape) != (n, n, n) or rotations.shape != (len(positions_angstrom), 3, 3):
        raise ShapeError(
            f"A density of {tuple(density.shape)} voxels, {len(positions_angstrom)} places and {len(rotations)} rotations were "
            "given; expected a cube, and as many rotations as places."
        )
    numbers = np.arange(1, len(positions_angstrom) + 1) if labels is None else labels
    if level is not None and len(numbers) and (numbers.min() < 1 or numbers.max() > _MOST_LABELS):
        raise InputError(
            f"Labels from {numbers.min()} to {numbers.max()} were asked for; expected 1 to {_MOST_LABELS}. Put back fewer "
            "particles at a time."
        )
    shape = frame.size_xyz[::-1]
    out = np.zeros(shape, dtype=np.float32)
    splines = spline_filter(density.detach().cpu().numpy().astype(np.float64), mode="constant", output=np.float32)
    line = np.arange(n) - n // 2
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij")[::-1]).reshape(3, -1)  # x, y, z
    ball = np.linalg.norm(grid, axis=0) < 0.5 * n
    places = frame.to_index(positions_angstrom)
    for place, turn, number in zip(places, rotations, numbers, strict=True):
        corner = np.rint(place).astype(np.int64)
        at = corner[:, None] + grid[:, ball]
        inside = ((at >= 0) & (at < np.array(frame.size_xyz)[:, None])).all(axis=0)
        if not inside.any():
            continue
        at = at[:, inside]
        source = turn.T @ (at - place[:, None]) + n // 2
        values = map_coordinates(splines, source[::-1], order=3, prefilter=False, mode="constant")
        index = tuple(at[::-1])
        if level is None:
            out[index] += values
        else:
            out[index] = np.where(values > level, np.float32(number), out[index])
    return out
