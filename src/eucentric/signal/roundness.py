"""How round maxima of a smooth volume are: balls against sheets."""

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.typing import FloatArray


def roundness(values: NDArray[np.floating], index_xyz: FloatArray, step: int) -> FloatArray:
    """(place,) how round a volume is at its maxima: second of the three curvatures over the first, 0 to 1.

    A ball has 1, a rod 1, a sheet 0, and so has the edge of a field, whose response is a sheet. The least of the curvatures is left
    out: the missing wedge draws balls out along z.

    Parameters
    ----------
    values : (z, y, x), positive where maxima are
    index_xyz : (place, 3), voxels from 0
    step : voxels between the samples that curvatures are taken from; about an eighth of the ball

    Raises
    ------
    InputError : a step of less than a voxel
    """
    if step < 1:
        raise InputError(f"A step of {step} voxels was given; expected 1 or more.")
    last = np.array(values.shape) - 1
    zyx = np.round(np.asarray(index_xyz, dtype=np.float64).reshape(-1, 3)[:, ::-1]).astype(np.int64)
    zyx = np.clip(zyx, np.minimum(step, last // 2), np.maximum(last - step, last // 2))

    def at(*move: int) -> FloatArray:
        return np.asarray(values[tuple(np.clip(zyx + step * np.array(move), 0, last).T)], dtype=np.float64)

    axes = np.eye(3, dtype=np.int64)
    bend = np.zeros((len(zyx), 3, 3))
    for i in range(3):
        bend[:, i, i] = at(*axes[i]) + at(*-axes[i]) - 2.0 * at(0, 0, 0)
        for j in range(i):
            both, apart = axes[i] + axes[j], axes[i] - axes[j]
            mixed = (at(*both) + at(*-both) - at(*apart) - at(*-apart)) / 4.0
            bend[:, i, j] = bend[:, j, i] = mixed
    curvature = np.linalg.eigvalsh(-bend)[:, ::-1]
    first = np.maximum(curvature[:, 0], 1e-30)
    return np.asarray(np.clip(curvature[:, 1] / first, 0.0, 1.0))
