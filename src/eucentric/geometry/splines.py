"""The cubic spline through values on an even grid that has no curvature at the ends: what every smooth field here is made of."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.typing import FloatArray


def natural_taps(
    place: Float[Tensor, "*point"], count: int
) -> tuple[Int[Tensor, "*point"], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The first of four coefficients (:func:`natural_coefficients`) at each place, and the weights of the four.

    Parameters
    ----------
    place : in grid steps, 0 at the first value and count - 1 at the last; beyond them the spline goes on as a straight line
    count : values along the axis
    """
    held = place.clamp(0.0, count - 1)
    first = held.floor().clamp(max=max(0, count - 2))
    f, beyond = held - first, place - held
    h = 1.0 - f
    weights = (
        h**3 / 6.0 - 0.5 * h**2 * beyond,
        2.0 / 3.0 - f**2 * (2.0 - f) / 2.0 + (1.5 * f**2 - 2.0 * f) * beyond,
        2.0 / 3.0 - h**2 * (2.0 - h) / 2.0 - (1.5 * h**2 - 2.0 * h) * beyond,
        f**3 / 6.0 + 0.5 * f**2 * beyond,
    )
    return first.long(), weights


def natural_coefficients(values: FloatArray) -> FloatArray:
    """(n, ...) values to coefficients of the natural cubic B-spline through them, one more at each end, four at least."""
    if len(values) == 1:
        return np.repeat(values, 4, axis=0)
    n = len(values)
    # (c[i-1] + 4 c[i] + c[i+1]) / 6 = f[i]; no curvature at the ends makes those coefficients the values themselves
    matrix = np.eye(n)
    for i in range(1, n - 1):
        matrix[i, i - 1 : i + 2] = 1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0
    inner = np.linalg.solve(matrix, values.reshape(n, -1)).reshape(values.shape)
    return np.concatenate([2.0 * inner[:1] - inner[1:2], inner, 2.0 * inner[-1:] - inner[-2:-1]])


def natural_spline_weights(place: FloatArray, count: int) -> FloatArray:
    """Weights (n, count) of the values at each of (n,) places, in grid steps as for :func:`natural_taps`."""
    first, taps = natural_taps(torch.from_numpy(np.asarray(place, dtype=np.float64)), count)
    coefficients = natural_coefficients(np.eye(count))
    basis, row = np.zeros((len(place), len(coefficients))), np.arange(len(place))
    for offset, tap in enumerate(taps):
        basis[row, first.numpy() + offset] = tap.numpy()
    return np.asarray(basis @ coefficients)
