"""Displaced reads: the quick road and plain torch agree, and both give the spline's values."""

import numpy as np
import torch
from scipy.ndimage import map_coordinates, spline_filter

from eucentric.projection.displaced import read_displaced


def test_both_roads_read_the_same_spline():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(60, 71))
    coefficients = spline_filter(image, order=3, mode="mirror")
    matrix, offset, spacing = np.array([[1.01, 0.02], [-0.015, 0.99]]), [6.3, 5.4], 8
    shape = (44, 53)
    knots = rng.uniform(-2, 2, (shape[0] // spacing + 2, shape[1] // spacing + 2, 2))
    quick = torch.empty(shape)
    read_displaced(
        torch.from_numpy(coefficients).float(), matrix, offset, torch.from_numpy(knots).float(), spacing, quick
    )
    plain = torch.empty(shape, dtype=torch.float64)
    read_displaced(torch.from_numpy(coefficients), matrix, offset, torch.from_numpy(knots), spacing, plain)
    row, column = np.mgrid[: shape[0], : shape[1]].astype(float)
    bend = [map_coordinates(knots[..., i], [row / spacing, column / spacing], order=1) for i in (0, 1)]
    u = matrix[0, 0] * column + matrix[0, 1] * row + offset[0] + bend[0]
    v = matrix[1, 0] * column + matrix[1, 1] * row + offset[1] + bend[1]
    expected = map_coordinates(coefficients, [v, u], order=3, prefilter=False)
    assert np.abs(plain.numpy() - expected).max() < 1e-6
    assert np.abs(quick.numpy() - expected).max() < 2e-4
