"""Ramp, fall-off and view weights."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError
from eucentric.projection import angular_weights, back_project, filter_lines, ramp_filter, window_gain


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
