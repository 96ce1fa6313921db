"""Thickness and inclination from intensities: the law itself, with beams and blocked images as they come."""

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry, rotation_x, rotation_y, rotation_z
from eucentric.signal.intensity import fit_transmission, image_intensities, mean_free_path

TILTS = np.arange(-60.0, 61.0, 3.0)
SYMMETRIC = np.argsort(np.argsort(np.abs(TILTS + 0.1)))
IN_ORDER = np.arange(len(TILTS))


def _darkened(paths, y_tilt, tilts=TILTS):
    """exp(-path through the slab), of a slab whose normal at tilt 0 leans by y_tilt from the beam, towards +x."""
    lean = np.deg2rad(y_tilt)
    normal = np.array([np.sin(lean), 0.0, np.cos(lean)])  # the stage turns by Ry(tilt): z of a point x is -x sin(tilt)
    beam = np.stack([-np.sin(np.deg2rad(tilts)), np.zeros(len(tilts)), np.cos(np.deg2rad(tilts))], axis=1)
    return 25.0 * np.exp(-paths / (beam @ normal))


@pytest.mark.parametrize(("paths", "y_tilt"), [(0.4, 9.0), (0.9, -20.0), (0.15, 0.0)])
def test_a_slab_is_found_exactly_where_nothing_disturbs(paths, y_tilt):
    geometry = TiltGeometry.build(TILTS, z_rot_deg=84.0, shifts_angstrom=(30.0, -50.0))
    fit = fit_transmission(_darkened(paths, y_tilt), geometry, order=SYMMETRIC)
    assert fit.found
    assert fit.y_tilt_deg == pytest.approx(y_tilt, abs=0.02)
    assert fit.paths == pytest.approx(paths, rel=1e-3)
    assert fit.incident == pytest.approx(25.0, rel=1e-3)


def test_the_inclination_is_that_of_the_normal_in_the_frame_of_the_geometry():
    """Tilts given 9 degrees less than the specimen's are those of a slab inclined by +9 about y."""
    fit = fit_transmission(_darkened(0.5, 0.0), TiltGeometry.build(TILTS - 9.0))
    assert fit.y_tilt_deg == pytest.approx(9.0, abs=0.02)
    turned = rotation_z(84.0) @ rotation_y(TILTS - 9.0) @ rotation_y(fit.y_tilt_deg)
    np.testing.assert_allclose(turned[:, 2, 2], np.cos(np.deg2rad(TILTS)), atol=1e-3)


def test_an_inclination_across_the_axis_only_looks_like_more_ice():
    normal = (rotation_y(7.0) @ rotation_x(10.0))[:, 2]
    cosine = (rotation_y(TILTS) @ normal)[:, 2]
    fit = fit_transmission(np.exp(-0.4 / cosine), TiltGeometry.build(TILTS))
    assert fit.y_tilt_deg == pytest.approx(7.0, abs=0.02)
    assert fit.paths == pytest.approx(0.4 / np.cos(np.deg2rad(10.0)), rel=1e-3)


@pytest.mark.parametrize("blocked", [[0, 40], [0, 1, 2], [5, 20, 33, 39]])
def test_blocked_images_are_named_and_move_nothing(blocked):
    values = _darkened(0.5, 9.0) * np.random.default_rng(1).normal(1.0, 0.003, len(TILTS))
    values[blocked] *= np.linspace(0.1, 0.7, len(blocked))
    fit = fit_transmission(values, TiltGeometry.build(TILTS), order=SYMMETRIC)
    assert abs(fit.y_tilt_deg - 9.0) < 0.5
    assert fit.paths == pytest.approx(0.5, rel=0.05)
    assert np.flatnonzero(fit.residuals < -6.0 * fit.sigma).tolist() == blocked


@pytest.mark.parametrize("order", [SYMMETRIC, IN_ORDER])
def test_uncertainties_hold_for_unsteady_beams(order):
    """Series with beams that drift by 2% and flicker by 1%, and two blocked images each."""
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(25):
        paths, y_tilt = rng.uniform(0.3, 1.0), rng.uniform(-15.0, 15.0)
        beam = 1.0 + 0.02 * rng.normal() * (order / 40.0 - 0.5) + 0.01 * rng.normal(size=len(TILTS))
        beam[rng.choice(len(TILTS), 2, replace=False)] *= 0.3
        fit = fit_transmission(_darkened(paths, y_tilt) * beam, TiltGeometry.build(TILTS), order=order)
        assert fit.found
        pulls.append(((fit.y_tilt_deg - y_tilt) / fit.y_tilt_sigma_deg, (fit.paths - paths) / fit.paths_sigma))
    spread = np.sqrt(np.mean(np.square(pulls), axis=0))
    # the floor of 0.3 degrees for specimens that are no perfect slab makes the first smaller
    assert 0.2 < spread[0] < 1.3
    assert 0.5 < spread[1] < 1.6


def test_a_drift_in_order_of_angle_widens_the_inclination():
    values, geometry = _darkened(0.5, 0.0), TiltGeometry.build(TILTS)
    noisy = values * np.random.default_rng(3).normal(1.0, 0.01, len(TILTS))
    spread = [fit_transmission(noisy, geometry, order=o).y_tilt_sigma_deg for o in (SYMMETRIC, IN_ORDER)]
    assert spread[1] > 1.1 * spread[0]
    assert fit_transmission(noisy, geometry).y_tilt_sigma_deg == pytest.approx(spread[1])


def test_doses_that_the_images_follow_are_divided_out():
    doses = 3.0 / np.cos(np.deg2rad(TILTS)) ** 0.5
    geometry = TiltGeometry.build(TILTS)
    followed = fit_transmission(_darkened(0.5, 9.0) * doses, geometry, doses=doses)
    assert followed.paths == pytest.approx(0.5, rel=0.01)
    assert followed.y_tilt_deg == pytest.approx(9.0, abs=0.1)
    not_followed = fit_transmission(_darkened(0.5, 9.0), geometry, doses=doses)
    assert not_followed.paths == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    "values",
    [
        np.full(41, 20.0),
        np.zeros(41),
        1.0 / _darkened(0.5, 0.0),
        20.0 + np.random.default_rng(4).normal(0.0, 2.0, 41),
        np.r_[np.nan, _darkened(0.5, 0.0)[1:]],
    ],
    ids=["normalised", "zero", "brighter", "random", "nan"],
)
def test_nothing_is_found_where_images_do_not_darken_like_a_slab(values):
    assert not fit_transmission(values, TiltGeometry.build(TILTS)).found


def test_few_tilts_or_a_small_range_tell_nothing():
    few = TILTS[::10]
    assert not fit_transmission(_darkened(0.5, 0.0, few), TiltGeometry.build(few)).found
    narrow = np.linspace(-12.0, 12.0, 25)
    assert not fit_transmission(_darkened(0.5, 0.0, narrow), TiltGeometry.build(narrow)).found


def test_gold_a_shaded_corner_and_skewed_counts_leave_the_intensity():
    rng = np.random.default_rng(5)
    images = torch.from_numpy(rng.poisson(2.5, (3, 160, 176)).astype(np.float32))
    images[1, 20:34, 40:54] = 0.0
    images[2, :48, :64] *= 0.1
    np.testing.assert_allclose(image_intensities(images), 2.5, atol=0.05)
    assert image_intensities(torch.full((2, 5, 9), 7.0)).tolist() == [7.0, 7.0]


def test_the_mean_free_path_follows_the_squared_speed():
    assert mean_free_path(300.0) == 3000.0
    # v^2/c^2 is 0.4835 at 200 kV and 0.6030 at 300 kV
    assert mean_free_path(200.0) == pytest.approx(3000.0 * 0.4835 / 0.6030, rel=1e-3)
    assert mean_free_path(300.0, 3950.0) == 3950.0
    with pytest.raises(InputError):
        mean_free_path(0.0)


def test_lengths_are_checked():
    with pytest.raises(ShapeError):
        fit_transmission(np.ones(5), TiltGeometry.build(TILTS))
    with pytest.raises(ShapeError):
        fit_transmission(np.ones(41), TiltGeometry.build(TILTS), doses=np.ones(3))
