"""What maps of the local defocus say: a turned axis, a bend, and cells that mislead."""

import math

import numpy as np
import pytest

from eucentric.ctf.explain_maps import axis_offset, common_bend, describe_maps, off_plane
from eucentric.ctf.fit_inclination import LEVEL
from eucentric.ctf.specimen_plane import plane_normal, plane_slopes
from eucentric.geometry import TiltGeometry

TILTS = np.arange(-60.0, 61.0, 6.0)
PLACES = np.array([[x, y] for y in (-900.0, -300.0, 300.0, 900.0) for x in (-900.0, -300.0, 300.0, 900.0)])
SIGMA = 150.0


def planted(turn=0.0, inclination=(0.0, 0.0), hand=-1.0, misled=(), seed=0):
    """Maps of a plane whose true axis is `turn` degrees on, with noise, and cells that are wrong by 2000 A in all tilts."""
    given = TiltGeometry.build(TILTS, z_rot_deg=84.0)
    true = given.replace(z_rot_deg=given.z_rot_deg + turn)
    rise = plane_slopes(true, plane_normal(*inclination)) - plane_slopes(given)
    residual = hand * rise @ PLACES.T
    generator = np.random.default_rng(seed)
    residual += generator.normal(0.0, SIGMA, residual.shape)
    residual[:, list(misled)] += 2000.0
    return residual, np.full_like(residual, SIGMA), given


@pytest.mark.parametrize("hand", [-1.0, 1.0])
@pytest.mark.parametrize("turn", [0.0, 5.0, -12.0])
def test_a_turned_axis_is_found_beside_an_inclination_and_misled_cells(turn, hand):
    residual, sigma, given = planted(turn, (3.0, -6.0), hand, misled=[2, 9])
    offset, spread = axis_offset(residual, sigma, PLACES, given, LEVEL, hand)
    assert offset == pytest.approx(turn, abs=max(4.0 * spread, 0.5))
    assert spread < 1.0
    told = describe_maps(np.zeros(16), np.full(16, SIGMA), PLACES, offset, spread)
    assert len(told) == (turn != 0.0)


def test_cells_that_turn_with_the_tilt_make_the_axis_uncertain():
    """Two cells whose defocus runs away with the tilt pull at the axis: the sigma grows, and nothing is claimed."""
    residual, sigma, given = planted()
    _, quiet = axis_offset(residual, sigma, PLACES, given, LEVEL, -1.0)
    residual[:, [0, 15]] += 2500.0 * np.sin(np.radians(TILTS))[:, None] * np.array([1.0, -0.2])
    offset, spread = axis_offset(residual, sigma, PLACES, given, LEVEL, -1.0)
    assert spread > 2.0 * quiet
    assert abs(offset) < 4.0 * spread


def test_too_few_cells_or_tilts_tell_nothing():
    residual, sigma, given = planted()
    assert math.isnan(axis_offset(residual[:, :4], sigma[:, :4], PLACES[:4], given, LEVEL, -1.0)[0])
    assert math.isnan(axis_offset(residual[:1], sigma[:1], PLACES, given[[0]], LEVEL, -1.0)[0])
    assert math.isnan(axis_offset(residual * math.nan, sigma, PLACES, given, LEVEL, -1.0)[0])


def test_a_bend_is_smooth_and_no_plane():
    generator = np.random.default_rng(3)
    sigma = np.full(16, 40.0)
    curved = 1200.0 * (PLACES[:, 0] / 900.0) ** 2
    sloped = 0.5 * PLACES[:, 1]
    noise = generator.normal(0.0, 40.0, 16)
    flat = off_plane(curved + sloped + noise, sigma, PLACES)
    np.testing.assert_allclose(flat, off_plane(curved + noise, sigma, PLACES), atol=1e-6)
    assert any("bent" in words for words in describe_maps(flat, sigma, PLACES, math.nan, math.nan))
    for height in (sloped + noise, generator.normal(0.0, 700.0, 16), np.full(16, math.nan)):
        assert describe_maps(off_plane(height, sigma, PLACES), sigma, PLACES, math.nan, math.nan) == ()


def test_maps_of_the_low_tilts_are_averaged():
    residual, sigma, _ = planted(hand=-1.0, misled=[5])
    height, spread = common_bend(residual, sigma, np.abs(TILTS) <= 40.0, -1.0)
    assert height[5] == pytest.approx(-2000.0, abs=4.0 * spread[5])
    assert spread[5] == pytest.approx(SIGMA / math.sqrt(13), rel=0.5)
