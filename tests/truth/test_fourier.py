"""Fourier tools against analytic scenes."""

import numpy as np
import pytest
import torch

from eucentric.compute import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier import (
    band_pass,
    exposure_weights,
    fourier_crop,
    fourier_pad,
    fourier_shell_correlation,
    fourier_shift,
    frequency_grid,
    radial_average,
)

FIELD = 48.0


def blob(height: int, width: int, at: tuple[float, float] = (3.3, -5.1), sigma: float = 3.0) -> torch.Tensor:
    """A Gaussian at (x, y) from the centre n // 2 of a field of 48 units, on a level of 0.3."""
    y = (torch.arange(height, dtype=torch.float64) - height // 2) * FIELD / height
    x = (torch.arange(width, dtype=torch.float64) - width // 2) * FIELD / width
    return torch.exp(-((x[None] - at[0]) ** 2 + (y[:, None] - at[1]) ** 2) / (2 * sigma**2)) + 0.3


# a Gaussian of sigma 3 holds exp(-2 (pi 3 f)^2) of its amplitude at frequency f: 3e-10 at the Nyquist of 24 samples, 0.25
@pytest.mark.parametrize("fine", [(48, 49), (47, 50), (51, 53)])
@pytest.mark.parametrize("coarse", [(32, 31), (33, 32), (31, 48), (28, 29)])
def test_resampled_image_is_the_scene_on_the_other_grid(fine, coarse):
    torch.testing.assert_close(fourier_crop(blob(*fine), coarse), blob(*coarse), atol=1e-6, rtol=0)
    torch.testing.assert_close(fourier_pad(blob(*coarse), fine), blob(*fine), atol=1e-6, rtol=0)


def test_enlarging_by_cropping_is_refused():
    with pytest.raises(ShapeError, match="enlarge"):
        fourier_crop(blob(16, 16), (18, 16))


@pytest.mark.parametrize("shape", [(48, 48), (47, 48), (48, 45)])
def test_content_moves_by_plus_the_shift(shape):
    step = (FIELD / shape[1], FIELD / shape[0])
    moved = fourier_shift(blob(*shape), torch.tensor([1.5, -2.25], dtype=torch.float64))
    expected = blob(*shape, at=(3.3 + 1.5 * step[0], -5.1 - 2.25 * step[1]))
    # the scene is not periodic: 5.5 sigma from the edge a Gaussian still has 3e-7 of its height
    torch.testing.assert_close(moved, expected, atol=3e-7, rtol=0)


def test_exposure_weights_reproduce_the_published_critical_exposures():
    """Nc of Grant & Grigorieff at 300 kV: 4.3 at 3 A, 6.4 at 5 A, 14.1 at 10 A (weight exp(-1/2) after Nc)."""
    for length, critical in ((3.0, 4.34), (5.0, 6.39), (10.0, 14.14)):
        weight = exposure_weights(torch.tensor([1.0 / length]), critical)
        assert float(weight) == pytest.approx(np.exp(-0.5), abs=2e-3)
    assert float(exposure_weights(torch.tensor([0.0]), 100.0)) == 1.0
    at_200 = exposure_weights(torch.tensor([0.1]), 10.0, voltage_kv=200.0)
    assert float(at_200) == pytest.approx(float(exposure_weights(torch.tensor([0.1]), 12.5)), abs=1e-6)
    with pytest.raises(InputError, match="zero or more"):
        exposure_weights(torch.tensor([0.1]), -1.0)


@pytest.mark.parametrize("shape", [(32, 32), (31, 34), (16, 18, 20)])
def test_white_noise_has_a_flat_radial_spectrum(shape):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    power = torch.fft.rfftn(noise).abs() ** 2 / noise.numel()
    shells = radial_average(power, shape, 5)
    # the mean over n samples of an exponential variable scatters by 1 / sqrt(n); the smallest shell holds over 5
    assert float((shells[1:] - 1).abs().max()) < 0.5
    assert float(shells.mean()) == pytest.approx(1.0, abs=0.25)


def test_shell_correlation_follows_the_signal_to_noise_ratio():
    generator = torch.Generator().manual_seed(2)
    signal = torch.randn(24, 25, 26, generator=generator)
    a = signal + torch.randn(24, 25, 26, generator=generator)
    b = signal + torch.randn(24, 25, 26, generator=generator)
    _, correlation = fourier_shell_correlation(a, b, 4.0)
    assert float(correlation[4:].mean()) == pytest.approx(0.5, abs=0.05)
    frequency, same = fourier_shell_correlation(a, a, 4.0)
    torch.testing.assert_close(same, torch.ones_like(same))
    assert float(frequency[-1]) < 1 / 8


def test_band_pass_keeps_what_lies_between():
    grid = frequency_grid((64, 64), 2.0)
    weight = band_pass(grid, low_pass_angstrom=10.0, high_pass_angstrom=60.0)
    assert float(weight[0, 0]) == 0.0
    assert float(weight[(grid > 0.02) & (grid < 0.085)].min()) == 1.0
    assert float(weight[grid > 0.115].max()) == 0.0


def test_good_sizes_are_even_products_of_small_primes_and_never_smaller():
    for n in range(1, 600):
        size = good_size(n)
        assert size >= n
        assert size % 2 == 0
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1
