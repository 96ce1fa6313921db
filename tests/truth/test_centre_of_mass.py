"""Alignment by the centre of mass, on blobs projected by formula: a particle alone, with axis and shifts of its own."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from eucentric.alignment import align_centre_of_mass
from eucentric.errors import ProcessingError, ShapeError
from eucentric.geometry import TiltGeometry

PIXEL, SHAPE = 10.0, (90, 96)
# asymmetric, longer along the axis than across it: x, y, z in A, and the sigma of each blob
POINTS = np.array([[40.0, -180, 30], [-20, -60, -50], [60, 40, 10], [-35, 150, 25], [10, 230, -10]])
SIGMAS = np.array([40.0, 35.0, 50.0, 30.0, 25.0])


def images_of(geometry):
    y, x = np.indices(SHAPE)
    at = geometry.project(POINTS)[..., :2] / PIXEL + np.array([SHAPE[1] // 2, SHAPE[0] // 2])
    distance = (x - at[..., 0, None, None]) ** 2 + (y - at[..., 1, None, None]) ** 2
    blobs = np.exp(-0.5 * distance / (SIGMAS[:, None, None] / PIXEL) ** 2)
    return torch.from_numpy(100.0 + (SIGMAS[:, None, None] * blobs).sum(1)).float()


def triangulation_error(geometry, truth):
    """Root mean square distance between where the points are seen and where the best points would be seen."""
    seen = truth.project(POINTS)[..., :2] - geometry.shifts_angstrom[:, None]
    rows = geometry.matrices[:, :2].reshape(-1, 3)
    points = np.linalg.lstsq(rows, seen.transpose(0, 2, 1).reshape(len(rows), -1), rcond=None)[0]
    misses = seen - np.einsum("tij,jp->tpi", geometry.matrices[:, :2], points)
    return np.sqrt((misses**2).sum(-1).mean())


@pytest.mark.parametrize(("axis", "limit"), [(84.0, 70.0), (-7.5, 70.0), (96.0, 90.0)])
def test_axis_and_shifts_are_found(axis, limit):
    tilts = np.arange(-limit, limit + 1, 5.0)
    rng = np.random.default_rng(4)
    shifts = rng.uniform(-40, 40, (len(tilts), 2)) + np.array([20.0, -35.0])
    truth = TiltGeometry.build(tilts, z_rot_deg=axis, shifts_angstrom=shifts)
    given = 90.0 if axis > 45 else 0.0
    result = align_centre_of_mass(images_of(truth), tilts, pixel_size=PIXEL, axis_deg=given)
    assert_allclose(result.geometry.z_rot_deg, axis, atol=0.3)
    assert triangulation_error(result.geometry, truth) < 0.2 * PIXEL
    assert result.residuals_px.max() < 0.2


def test_what_cannot_be_aligned_is_said():
    tilts = np.arange(-60.0, 61, 10)
    images = images_of(TiltGeometry.build(tilts))
    with pytest.raises(ShapeError, match="12 images and 13 tilt angles"):
        align_centre_of_mass(images[:-1], tilts, pixel_size=PIXEL, axis_deg=0.0)
    with pytest.raises(ProcessingError, match="too few or too close"):
        align_centre_of_mass(images[:2], tilts[:2], pixel_size=PIXEL, axis_deg=0.0)
    with pytest.raises(ProcessingError, match="No part of the specimen is in view"):
        align_centre_of_mass(torch.ones_like(images), tilts, pixel_size=PIXEL, axis_deg=0.0)
