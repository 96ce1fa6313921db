"""The four-tap read against waves."""

import numpy as np
import pytest
import torch

from eucentric.projection.interpolation import halve_spacing, tap_transform, tap_weights


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.99])
def test_a_constant_is_read_as_it_is(fraction):
    weights = tap_weights(torch.tensor([fraction], dtype=torch.float64))
    assert float(sum(weights)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("frequency", [0.05, 0.15, 0.25, 0.3])
def test_a_wave_is_read_where_it_is(frequency):
    place = np.linspace(10.0, 12.0, 41)
    first = np.floor(place)
    weights = tap_weights(torch.from_numpy(place - first))
    wave = np.exp(2j * np.pi * frequency * np.arange(24))
    got = sum(w.numpy() * wave[first.astype(int) + k - 1] for k, w in enumerate(weights))
    got = got / tap_transform(np.array([frequency]))
    assert np.abs(got - np.exp(2j * np.pi * frequency * place)).max() < 0.004


@pytest.mark.parametrize("frequency", [0.0, 0.1, 0.2, 0.25])
def test_points_halfway_lie_on_the_wave(frequency):
    wave = torch.cos(2.0 * np.pi * frequency * torch.arange(40, dtype=torch.float64) + 0.3)
    got = halve_spacing(wave)
    place = 4.0 + 0.5 * np.arange(len(got))
    assert len(got) == 64
    np.testing.assert_allclose(got.numpy(), np.cos(2.0 * np.pi * frequency * place + 0.3), atol=0.0012)
