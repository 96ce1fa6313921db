"""Resampling into the frame of the projector, against waves that are known everywhere."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.projection import coverage_of_tilts, resample_tilts

GEOMETRY = TiltGeometry.build([0.0, 10.0], z_rot_deg=[84.3, -30.0], shifts_angstrom=[[13.0, -7.0], [5.0, 22.0]])


def _grid(shape, spacing):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x - shape[1] // 2) * spacing, (y - shape[0] // 2) * spacing


def _wave(x, y, k, direction):
    return np.cos(2 * np.pi * k * (np.cos(direction) * x + np.sin(direction) * y) + 0.4)


def _expected(shape, spacing, k, direction):
    out = []
    for t in range(2):
        angle = np.deg2rad(GEOMETRY.z_rot_deg[t])
        u, v = _grid(shape, spacing)
        x = np.cos(angle) * u - np.sin(angle) * v + GEOMETRY.shifts_angstrom[t, 0]
        y = np.sin(angle) * u + np.cos(angle) * v + GEOMETRY.shifts_angstrom[t, 1]
        out.append(_wave(x, y, k, direction))
    return np.array(out)


@pytest.mark.parametrize("shape", [(200, 207), (191, 196)])
@pytest.mark.parametrize(
    ("pixel", "out_pixel", "out_shape"), [(4.0, 4.0, (90, 101)), (4.0, 9.3, (41, 40)), (4.0, 3.0, (99, 120))]
)
@pytest.mark.parametrize("fraction", [0.3, 0.7])
def test_a_wave_keeps_its_place_and_height(shape, pixel, out_pixel, out_shape, fraction):
    k = fraction * 0.5 / max(pixel, out_pixel)
    for direction in (0.3, 1.2, 2.0):
        wave = _wave(*_grid(shape, pixel), k, direction)
        images = torch.from_numpy(np.stack([wave, wave])).float()
        got = resample_tilts(images, GEOMETRY, pixel, out_shape=out_shape, out_pixel_size=out_pixel)
        expected = _expected(out_shape, out_pixel, k, direction)
        # a cubic B-spline on twofold samples errs by 0.4% at 0.7 Nyquist; finer pixels keep what rings at the edges too
        assert np.abs(got.numpy() - expected).max() < (0.01 if out_pixel >= pixel else 0.015)
        plain = resample_tilts(images.double(), GEOMETRY, pixel, out_shape=out_shape, out_pixel_size=out_pixel)
        torch.testing.assert_close(got.double(), plain, rtol=0, atol=1e-5)


def test_detail_that_the_new_pixels_cannot_hold_is_removed():
    wave = _wave(*_grid((160, 160), 4.0), 0.10, 0.7)  # Nyquist of 8 A is 0.0625
    images = torch.from_numpy(np.stack([wave, wave])).float()
    got = resample_tilts(images, GEOMETRY, 4.0, out_shape=(40, 40), out_pixel_size=8.0)
    assert float(got.abs().max()) < 0.02  # the ends of the wave alone leave anything


def test_outside_the_image_is_zero_and_coverage_says_where():
    images = torch.ones(2, 30, 50)
    got = resample_tilts(images, GEOMETRY, 4.0, out_shape=(70, 61), out_pixel_size=4.0)
    inside = coverage_of_tilts(GEOMETRY, (30, 50), 4.0, out_shape=(70, 61), out_pixel_size=4.0)
    assert torch.equal(got != 0, inside)
    torch.testing.assert_close(got[inside], torch.ones(int(inside.sum())), rtol=0, atol=1e-5)
    assert abs(int(inside[0].sum()) - 29 * 49) < 40


def test_bad_input_is_named():
    images = torch.zeros(2, 8, 8)
    images[1, 3, 3] = float("nan")
    with pytest.raises(InputError, match=r"tilt 1 \(10.0 degrees\) holds NaN"):
        resample_tilts(images, GEOMETRY, 4.0, out_shape=(8, 8), out_pixel_size=4.0)
    with pytest.raises(ShapeError, match="2 tilts"):
        resample_tilts(images[:1], GEOMETRY, 4.0, out_shape=(8, 8), out_pixel_size=4.0)
    for pixel, out_pixel in ((0.0, 4.0), (4.0, -1.0)):
        with pytest.raises(InputError, match="pixel size is"):
            resample_tilts(torch.zeros(2, 8, 8), GEOMETRY, pixel, out_shape=(8, 8), out_pixel_size=out_pixel)
