"""Images read at displaced places with cubic B-splines."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.projection import line_kernels
from eucentric.projection.bends import Bends
from eucentric.projection.cpu import is_fast, run_blocks
from eucentric.projection.resampling import read_torch
from eucentric.projection.splines import cubic_weights
from eucentric.typing import FloatArray

_TAPS = np.array(
    [
        [0.125 / 6, 1.5 / 6, 0.0, 0.0],
        [-0.75 / 6, -1.0 / 6, 0.0, 0.0],
        [23.0 / 48, -0.25, 0.0, 0.0],
        [-0.625, 0.5, 0.0, 0.0],
    ],
    dtype=np.float32,
)
"""Cubic B-spline weights as the line kernels take them: see :func:`eucentric.projection.interpolation.tap_polynomials`."""


def read_displaced(
    coefficients: Float[Tensor, "rows columns"],
    matrix: FloatArray,
    offset: Sequence[float],
    knots: Float[Tensor, "knot_row knot_column 2"],
    spacing: int,
    out: Float[Tensor, "y x"],
) -> None:
    """Fill `out` with a cubic B-spline read at ``matrix @ (column, row) + offset + bend``, zero outside of it.

    Parameters
    ----------
    coefficients : of the spline, one a pixel
    matrix : (2, 2), from (column, row) of `out` to that of `coefficients`
    offset : (column, row)
    knots : what is added to (column, row) at every `spacing`-th pixel of `out`, bilinear between; one more than needed to
        reach the last pixel
    """
    height, width = out.shape
    inside = np.array([1.0, coefficients.shape[1] - 3.0, 1.0, coefficients.shape[0] - 3.0])
    row = np.arange(height)[:, None]
    start = np.array([offset[0], matrix[0, 0], offset[1], matrix[1, 0]])
    lines = start + row * np.array([matrix[0, 1], 0.0, matrix[1, 1], 0.0])
    if is_fast(out) and out.is_contiguous():
        source, target, bends = coefficients.numpy(), out.numpy(), knots.to(torch.float32).contiguous().numpy()
        none = np.empty((0, 0), np.float32)

        def work(first: int, last: int) -> None:
            line_kernels.sample_rows(
                source, none, lines[first:last], inside, np.zeros(4), np.zeros(4), _TAPS, target[first:last],
                bends, spacing, first, 0,
            )  # fmt: skip

        run_blocks(height, 64, work)
        return
    bend = Bends(knots=knots[None].to(torch.float64), spacing=spacing).spread(0, height, width)
    places = torch.from_numpy(lines).to(out.device)
    column = torch.arange(width, dtype=torch.float64, device=out.device)
    u = places[:, 0:1] + column * places[:, 1:2] + bend[..., 0]
    v = places[:, 2:3] + column * places[:, 3:4] + bend[..., 1]
    out.copy_(read_torch(coefficients, u, v, inside, cubic_weights))


def white_prefilter(
    frequency: Float[Tensor, " frequency"], fractions: Float[Tensor, " fraction"]
) -> Float[Tensor, " frequency"]:
    """Gain along one axis that makes cubic B-spline coefficients of samples and keeps white noise white.

    A read at a fraction f of the way between two samples passes ``H_f = sum of taps exp(2 pi i frequency j)`` of the
    coefficients; the gain is one over the root of the mean of its square over the `fractions` that will be read. Reads at
    samples alone have the usual interpolating filter.

    Parameters
    ----------
    frequency : cycles per sample
    fractions : 0 to 1
    """
    turn = 2 * math.pi * frequency.to(torch.float64)
    power = torch.zeros_like(turn)
    taps = torch.stack(cubic_weights(fractions.to(torch.float64).reshape(-1)))
    # mean over the fractions of products of taps: only their distance matters for the square of the sum
    products = taps @ taps.T / taps.shape[1]
    for lag in range(4):
        value = float(torch.diagonal(products, offset=lag).sum())
        power = power + value * (1.0 if lag == 0 else 2.0) * torch.cos(lag * turn)
    return power.rsqrt()
