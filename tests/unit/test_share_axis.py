"""One tilt axis for several series."""

import numpy as np
import pytest

from eucentric.alignment.share_axis import share_axis
from eucentric.errors import InputError, ShapeError


def test_a_series_that_failed_does_not_move_the_others():
    axes = np.array([84.02, 83.97, 84.05, 83.99, 71.0])
    found = share_axis(axes, np.full(5, 0.05))
    assert found.axis_deg == pytest.approx(84.0, abs=0.06)
    assert np.abs(found.axes_deg[:4] - 84.0).max() < 0.08


def test_weak_series_follow_the_common_axis_and_strong_ones_their_own():
    found = share_axis([10.0, 10.02, 9.98, 10.01, 10.6], [0.03, 0.03, 0.03, 0.03, 0.5])
    assert found.axes_deg[4] == pytest.approx(10.0, abs=0.05)
    firm = share_axis([10.0, 10.4, 9.6, 10.2, 9.8], [0.01] * 5)
    assert firm.spread_deg == pytest.approx(np.std([0, 0.4, -0.4, 0.2, -0.2]), rel=0.5)
    assert firm.axes_deg == pytest.approx([10.0, 10.4, 9.6, 10.2, 9.8], abs=0.01)


def test_axes_on_both_sides_of_half_a_turn_are_near_each_other():
    found = share_axis([179.9, -179.9, 180.1], [0.1, 0.1, 0.1])
    assert abs((found.axis_deg - 180.0 + 180.0) % 360.0 - 180.0) < 0.1
    assert np.ptp((found.axes_deg - 90.0) % 360.0) < 0.3


def test_the_error_that_is_claimed_is_the_error_that_is_made():
    generator = np.random.default_rng(3)
    errors, claimed = [], []
    for _ in range(200):
        sigmas = generator.uniform(0.05, 0.3, 12)
        axes = 84.0 + generator.normal(0.0, 0.05, 12) + generator.normal(0.0, sigmas)
        found = share_axis(axes, sigmas)
        errors.append(found.axis_deg - 84.0)
        claimed.append(found.sigma_deg)
    assert np.std(errors) == pytest.approx(np.mean(claimed), rel=0.3)
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(200)


def test_what_is_no_axis_is_refused():
    with pytest.raises(ShapeError):
        share_axis([1.0, 2.0], [0.1])
    with pytest.raises(InputError):
        share_axis([1.0, np.nan], [0.1, 0.1])
    with pytest.raises(InputError):
        share_axis([1.0, 2.0], [0.1, 0.0])
