"""The plane of the specimen: slabs of blobs with known plane, practice series, noise; and levelling by it."""

import json

import numpy as np
import pytest
import torch

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry, rotation_x, rotation_y
from eucentric.models import CtfFit
from eucentric.reconstruction.find_specimen import find_specimen
from eucentric.reconstruction.level_geometry import SpecimenSlab, level_fits, level_geometry
from eucentric.reconstruction.slab_posterior import slab_posterior
from eucentric.simulation.phantom import Phantom

PIXEL, SIZE, SIGMA = 16.0, 192, 40.0
TILTS = np.arange(-60.0, 61.0, 3.0)


def _slab(x_tilt, y_tilt, z, *, found=True):
    return SpecimenSlab(
        found=found,
        x_tilt_deg=x_tilt,
        y_tilt_deg=y_tilt,
        z_angstrom=z,
        thickness_angstrom=1000.0,
        x_tilt_sigma_deg=0.1,
        y_tilt_sigma_deg=0.1,
        z_sigma_angstrom=1.0,
        thickness_sigma_angstrom=1.0,
        score=100.0,
        contrast=10.0,
    )


def _series(x_tilt, y_tilt, z, thickness, *, seed=0, noisy=True, beads=0):
    """Images of a slab full of blobs: points (u, v, w) of the slab lie at Ry(y_tilt) Rx(x_tilt) (u, v, w) + (0, 0, z)."""
    rng = np.random.default_rng(seed)
    count = 1600
    half = 0.5 * thickness - 2.0 * SIGMA
    inside = np.c_[rng.uniform(-3000, 3000, (count, 2)), rng.uniform(-half, half, count)]
    weights = -0.04 / (SIGMA * np.sqrt(2 * np.pi)) * rng.uniform(0.5, 1.5, count)
    weights[:beads] *= 15.0
    inside[:beads] = np.c_[rng.uniform(0, 1400, (beads, 2)), rng.uniform(-half, half, beads)]
    phantom = Phantom(
        positions_angstrom=inside @ (rotation_y(y_tilt) @ rotation_x(x_tilt)).T + [0.0, 0.0, z],
        weights=weights,
        sigmas_angstrom=np.full(count, SIGMA),
    )
    shifts = rng.normal(0.0, 100.0, (len(TILTS), 2))
    geometry = TiltGeometry.build(TILTS, z_rot_deg=84.3, shifts_angstrom=shifts)
    images = 1.0 + phantom.project(geometry, (SIZE, SIZE), PIXEL)
    if noisy:  # 3 e/A^2
        images = torch.from_numpy(rng.poisson(3.0 * PIXEL**2 * images.clamp(min=0.0).numpy()).astype(np.float32))
    return images, geometry


def _check(slab, x_tilt, y_tilt, z, thickness, *, degrees=1.0):
    assert slab.found
    assert abs(slab.x_tilt_deg - x_tilt) < degrees
    assert abs(slab.y_tilt_deg - y_tilt) < degrees
    assert abs(slab.z_angstrom - z) < 100.0
    assert abs(slab.thickness_angstrom / thickness - 1.0) < 0.15


def _points(rng, x_tilt, y_tilt, z, thickness, *, count=90, outside=3, field=3000.0, depth=6000.0):
    """Points even in a slab, seen in a square field with heights known to 20 A, and some that lie anywhere."""
    wide = np.c_[rng.uniform(-field, field, (4 * count, 2)), rng.uniform(-0.5, 0.5, 4 * count) * thickness]
    placed = wide @ (rotation_y(y_tilt) @ rotation_x(x_tilt)).T + [0.0, 0.0, z]
    placed = placed[(np.abs(placed[:, :2]) < field / 2).all(1)]
    placed[:, 2] += rng.normal(0.0, 20.0, len(placed))
    return np.concatenate([placed, rng.uniform(-0.5, 0.5, (outside, 3)) * (field, field, depth)])


@pytest.mark.parametrize("count", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_the_posterior_of_a_slab_says_how_far_it_is_off(count):
    rng = np.random.default_rng(7)
    space = rng.uniform(-0.5, 0.5, (6000, 3)) * (3000.0, 3000.0, 6000.0)
    pulls = []
    for _ in range(count):
        truth = np.array([*rng.uniform(-10.0, 10.0, 2), rng.uniform(-200.0, 200.0), rng.uniform(600.0, 1800.0)])
        found = slab_posterior(_points(rng, *truth), space, sigma_angstrom=20.0)
        assert found is not None
        assert found.score > 50.0
        pulls.append((found.mean - truth) / found.sigma)
        assert (found.sigma[:2] < 4.0).all()
        assert found.sigma[3] < 0.1 * truth[3]
    spread = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert (spread < (1.4 if count > 10 else 2.2)).all()
    assert (spread > 0.6).all() or count < 10


def test_what_is_known_of_one_inclination_is_kept_and_helps_the_thickness():
    rng = np.random.default_rng(8)
    space = rng.uniform(-0.5, 0.5, (6000, 3)) * (3000.0, 3000.0, 6000.0)
    points = _points(rng, 2.0, -6.0, 50.0, 900.0)
    alone = slab_posterior(points, space, sigma_angstrom=20.0)
    told = slab_posterior(points, space, sigma_angstrom=20.0, y_tilt_deg=(-6.0, 0.2))
    assert told.mean[1] == pytest.approx(-6.0, abs=0.4)
    assert told.sigma[1] < 0.25 < alone.sigma[1]
    assert abs(told.mean[3] - 900.0) < 3.0 * told.sigma[3]
    assert slab_posterior(points[:5], space, sigma_angstrom=20.0) is None


def test_an_inclined_slab_off_the_centre_is_found():
    images, geometry = _series(5.0, -9.0, 250.0, 1200.0)
    _check(find_specimen(images, geometry, pixel_size=PIXEL), 5.0, -9.0, 250.0, 1200.0)


@pytest.mark.slow
def test_what_was_levelled_lies_flat():
    images, geometry = _series(5.0, -9.0, 250.0, 1200.0, seed=6)
    slab = find_specimen(images, geometry, pixel_size=PIXEL)
    again = find_specimen(images, level_geometry(geometry, slab), pixel_size=PIXEL)
    _check(again, 0.0, 0.0, 0.0, 1200.0)


@pytest.mark.slow
def test_contrast_of_either_sign():
    images, geometry = _series(0.0, 4.0, 0.0, 1200.0, seed=5)
    _check(find_specimen(-images, geometry, pixel_size=PIXEL), 0.0, 4.0, 0.0, 1200.0)


@pytest.mark.slow
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(
    ("x_tilt", "y_tilt", "z", "thickness"),
    [(0.0, 0.0, 0.0, 1000.0), (-9.0, 5.0, -400.0, 1500.0), (5.0, 0.0, 150.0, 1200.0), (0.0, -9.0, 100.0, 900.0)],
)
def test_slabs_of_any_tilt_height_and_thickness(x_tilt, y_tilt, z, thickness, noisy):
    images, geometry = _series(x_tilt, y_tilt, z, thickness, seed=3, noisy=noisy)
    # the 420 blobs in the field leave standard deviations of 0.6 degrees
    _check(find_specimen(images, geometry, pixel_size=PIXEL), x_tilt, y_tilt, z, thickness, degrees=1.2)


@pytest.mark.slow
def test_gold_in_one_corner_does_not_draw_the_plane():
    images, geometry = _series(0.0, 5.0, 0.0, 1500.0, seed=4, beads=12)
    _check(find_specimen(images, geometry, pixel_size=PIXEL), 0.0, 5.0, 0.0, 1500.0, degrees=1.5)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_nothing_is_found_in_noise(seed):
    images = torch.randn((len(TILTS), 96, 96), generator=torch.Generator().manual_seed(seed))
    geometry = TiltGeometry.build(TILTS, z_rot_deg=10.0)
    slab = find_specimen(images, geometry, pixel_size=24.0)
    assert not slab.found
    with pytest.raises(InputError):
        level_geometry(geometry, slab)


def test_nothing_is_found_in_blank_images_or_a_field_too_small():
    geometry = TiltGeometry.build(TILTS)
    assert not find_specimen(torch.ones(41, 96, 96), geometry, pixel_size=24.0).found
    assert not find_specimen(torch.randn(41, 32, 32), geometry, pixel_size=10.0).found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TS_01", "TS_02", "TS_03"])
@pytest.mark.parametrize("pre_tilt", [0.0, 9.0])
def test_practice_series(shared_data, name, pre_tilt):
    """Particles fill the slab -T/2 to T/2 of the truth's frame; in that of angles less `pre_tilt` it is inclined."""
    truth = json.loads((shared_data / "practice" / f"{name}_truth.json").read_text())
    matrices, bad = np.array(truth["R"]), truth["spec"]["bad_tilts"]
    keep = [t for t in range(len(matrices)) if t not in bad]
    clean = np.load(shared_data / "practice" / f"{name}_clean.npz")["clean"].astype(np.float32)
    geometry = TiltGeometry.build(
        np.array(truth["true_tilt"]) - pre_tilt,
        z_rot_deg=np.rad2deg(np.arctan2(-matrices[:, 0, 1], matrices[:, 1, 1])),
        # 2 x 2 means: the image centre is a quarter of an 8 A pixel before n // 2
        shifts_angstrom=np.array(truth["shifts"]) - 0.25 * 8.0,
    )[keep]
    slab = find_specimen(torch.from_numpy(clean[keep]), geometry, pixel_size=8.0)
    assert slab.found
    # about a hundred particles in the field: even their true places leave a degree open
    assert abs(slab.x_tilt_deg) < 2.5 * slab.x_tilt_sigma_deg < 5.0
    assert abs(slab.y_tilt_deg - pre_tilt) < 2.5 * slab.y_tilt_sigma_deg < 5.0
    assert abs(slab.z_angstrom) < 3.0 * slab.z_sigma_angstrom < 120.0
    assert abs(slab.thickness_angstrom / truth["spec"]["thickness"] - 1.0) < 0.15


def _any_geometry(rng, count=60):
    return TiltGeometry.build(
        rng.uniform(-110.0, 110.0, count),
        z_rot_deg=rng.uniform(-180.0, 180.0, count),
        x_tilt_deg=rng.uniform(-8.0, 8.0, count),
        shifts_angstrom=rng.normal(0.0, 300.0, (count, 2)),
        magnification=rng.uniform(0.97, 1.03, count),
    )


def test_levelling_moves_no_point_in_any_image_and_keeps_its_defocus():
    rng = np.random.default_rng(1)
    geometry = _any_geometry(rng)
    slab = _slab(5.3, -9.1, 432.0)
    level = level_geometry(geometry, slab)
    flat = rng.uniform(-3000.0, 3000.0, (50, 3))
    before = geometry.project(flat @ (rotation_y(-9.1) @ rotation_x(5.3)).T + [0.0, 0.0, 432.0])
    after = level.project(flat)
    np.testing.assert_allclose(after[..., :2], before[..., :2], atol=1e-6)
    fits = [CtfFit(defocus_u_angstrom=30000.0 + 10 * t, defocus_v_angstrom=29500.0, score=0.5) for t in range(60)]
    for hand in (-1.0, 1.0):
        moved = level_fits(fits, geometry, slab, hand=hand)
        for t, (old, new) in enumerate(zip(fits, moved, strict=True)):
            np.testing.assert_allclose(
                new.defocus_angstrom + hand * after[t, :, 2], old.defocus_angstrom + hand * before[t, :, 2], atol=1e-6
            )
            assert new.defocus_u_angstrom - new.defocus_v_angstrom == pytest.approx(500.0 + 10 * t)
            assert new.score == 0.5


def test_a_plane_tilted_about_y_adds_to_the_tilt_and_one_about_x_becomes_the_x_tilt():
    geometry = TiltGeometry.build([-90.0, -60.0, 0.0, 60.0, 85.0, 90.0], z_rot_deg=84.3, shifts_angstrom=(20.0, -30.0))
    level = level_geometry(geometry, _slab(5.0, -9.0, 100.0))
    np.testing.assert_allclose(level.y_tilt_deg, geometry.y_tilt_deg - 9.0, atol=1e-9)
    np.testing.assert_allclose(level.x_tilt_deg, 5.0, atol=1e-9)
    np.testing.assert_allclose(level.z_rot_deg, 84.3, atol=1e-9)
    # untilted, what lay above the centre stays in the middle; at 90 degrees height is x before the turn by 84.3 degrees
    np.testing.assert_allclose(level.shifts_angstrom[2], (20.0, -30.0), atol=1e-9)
    turn = np.deg2rad(84.3)
    np.testing.assert_allclose(
        level.shifts_angstrom[5], (20.0 + 100 * np.cos(turn), -30.0 + 100 * np.sin(turn)), atol=1e-9
    )


def test_a_tilt_that_becomes_edge_on_keeps_its_points():
    geometry = TiltGeometry.build([81.0, 90.0], z_rot_deg=10.0, x_tilt_deg=[0.0, 3.0])
    for slab in (_slab(4.0, 9.0, 50.0), _slab(0.0, 0.0, 50.0)):
        points = np.random.default_rng(2).uniform(-1000.0, 1000.0, (20, 3))
        np.testing.assert_allclose(
            level_geometry(geometry, slab).project(points)[..., :2],
            geometry.project(points @ slab.rotation.T + slab.centre_angstrom)[..., :2],
            atol=1e-6,
        )


def test_lengths_and_sizes_are_checked():
    geometry = TiltGeometry.build(TILTS)
    with pytest.raises(ShapeError):
        find_specimen(torch.zeros(5, 64, 64), geometry, pixel_size=10.0)
    with pytest.raises(InputError):
        find_specimen(torch.zeros(41, 64, 64), geometry, pixel_size=0.0)
    with pytest.raises(ShapeError):
        level_fits([], geometry, _slab(1.0, 1.0, 0.0), hand=-1.0)
