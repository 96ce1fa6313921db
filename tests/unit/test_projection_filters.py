"""Ramp, fall-off and view weights."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError
from eucentric.projection import (
    angular_weights,
    back_project,
    exact_gain,
    filter_lines,
    ramp_filter,
    sirt_like_gain,
    window_gain,
)


@pytest.mark.parametrize("spacing", [1.0, 0.35])
def test_the_ramp_is_the_absolute_frequency_with_a_small_right_value_at_zero(spacing):
    n = 512
    ramp = ramp_filter(n, spacing=spacing, dtype=torch.float64).numpy()
    frequency = np.fft.rfftfreq(n, spacing)
    # the kernel ends after n / 2 samples: its sum is 2 / (pi^2 n) to first order, and no frequency errs by more
    assert ramp[0] == pytest.approx(2.0 / (np.pi**2 * n * spacing), rel=0.02)
    assert np.abs(ramp - frequency).max() < 1.1 * ramp[0]


@pytest.mark.parametrize(
    ("window", "half", "end"),
    [
        ("sharp", 1.0, 0.0),
        ("hamming", 0.54, 0.08),
        ("hann", 0.5, 0.0),
        ("cosine", 0.5**0.5, 0.0),
        ("gaussian", np.exp(-0.5), np.exp(-2.0)),
    ],
)
def test_windows_fall_from_one_to_nyquist(window, half, end):
    gain = window_gain(torch.tensor([0.0, 0.5, 1.0, 1.2], dtype=torch.float64), window)
    torch.testing.assert_close(gain, torch.tensor([1.0, half, end, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_an_unknown_window_is_refused():
    with pytest.raises(InputError, match="blackman"):
        window_gain(torch.zeros(3), "blackman")
    with pytest.raises(InputError, match="one weight"):
        filter_lines(torch.zeros(2, 4, 4), [0.0, 1.0], weights=[1.0])


def test_views_stand_for_the_angle_around_them():
    np.testing.assert_allclose(np.rad2deg(angular_weights([0.0, 3.0, 4.0, 10.0])), [3.0, 2.0, 3.5, 6.0])
    np.testing.assert_allclose(np.rad2deg(angular_weights([3.0, 0.0, 3.0, -3.0])), [1.5, 3.0, 1.5, 3.0])
    np.testing.assert_allclose(np.rad2deg(angular_weights(np.arange(-90.0, 90.0, 2.0))), 2.0)
    needle = np.rad2deg(angular_weights(np.arange(-90.0, 91.0, 2.0)))
    np.testing.assert_allclose([needle[0], needle[45], needle[-1]], [1.0, 2.0, 1.0])
    np.testing.assert_allclose(angular_weights([7.0]), [1.0])


def test_filtered_back_projection_gives_back_a_disc():
    # the line integral of a disc of radius r and density 1 is a chord; edges are blurred by a pixel, so look inside
    n, radius = 96, 30.0
    u = np.arange(n) - n // 2
    chord = 2.0 * np.sqrt(np.clip(radius**2 - u**2, 0.0, None))
    angles = np.arange(-90.0, 90.0, 1.5)
    images = torch.from_numpy(np.broadcast_to(chord, (len(angles), 3, n)).copy()).float()
    volume = back_project(filter_lines(images, angles, window="hann"), angles, (n, 3, n)).numpy()
    z, x = np.mgrid[:n, :n] - n // 2
    inside = np.hypot(z, x) < 0.85 * radius
    outside = (np.hypot(z, x) > 1.2 * radius) & (np.hypot(z, x) < n // 2 - 2)
    assert volume[:, 1][inside].mean() == pytest.approx(1.0, abs=0.003)
    assert volume[:, 1][inside].std() < 0.02
    assert abs(volume[:, 1][outside].mean()) < 0.003


def test_exact_weights_are_the_ramp_at_low_frequency_and_one_over_the_ray_beyond():
    tilts = np.sort(np.concatenate([np.arange(-60.0, 0.0, 4.0), np.arange(0.0, 61.0, 2.0)]))
    gain = exact_gain(tilts, 100.0, 400.0)
    step = angular_weights(tilts)
    low, high = np.array([0.01]), np.array([0.4])
    for t in (3, 8, 30, len(tilts) - 1):
        assert gain(low, t)[0] == pytest.approx(0.01 * step[t], rel=0.12)
        # views two degrees apart part at 1 / (100 sin 2) = 0.29 cycles per voxel
        assert gain(high, t)[0] == pytest.approx(np.cos(np.deg2rad(tilts[t])) / 100.0, rel=1e-6)
    doubled = exact_gain(np.concatenate([tilts, tilts]), 100.0, 400.0)
    assert doubled(high, 3)[0] == pytest.approx(0.5 * gain(high, 3)[0], rel=1e-6)
    with pytest.raises(InputError, match="specimen"):
        exact_gain(tilts, 0.0, 10.0)


def test_one_sirt_iteration_is_plain_back_projection():
    # the first step is C A^T R b: one over the length of the ray and the number of views
    tilts = np.array([-40.0, -10.0, 0.0, 25.0])
    gain = sirt_like_gain(tilts, 1, 60.0, 200.0)
    for t in range(4):
        expected = np.cos(np.deg2rad(tilts[t])) / (60.0 * 4)
        np.testing.assert_allclose(gain(np.array([0.0, 0.05, 0.4]), t), expected, rtol=1e-9)
    with pytest.raises(InputError, match="iterations"):
        sirt_like_gain(tilts, 0, 60.0, 200.0)
