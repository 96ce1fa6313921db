"""Deformation of the specimen: laws of its splines, and what the images show of it."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline, make_interp_spline

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import Deformation, ImageWarp, TiltGeometry, VolumeWarp
from eucentric.geometry.splines import natural_spline_weights
from eucentric.geometry.volume_warp import combined

EXTENT = (1800.0, 5200.0, 4300.0)
DOSES = np.array([0.0, 20.0, 55.0, 120.0])


def random_warp(grid=(3, 4, 5), doses=DOSES, seed=0):
    return VolumeWarp.build(
        np.random.default_rng(seed).normal(0.0, 8.0, (len(doses), *grid, 3)), doses, extent_angstrom=EXTENT
    )


def points(count=50, seed=1, reach=0.7):
    """Some of them beyond the box."""
    return np.random.default_rng(seed).uniform(-reach, reach, (count, 3)) * np.array(EXTENT[::-1])


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_weights_are_those_of_the_natural_spline_and_straight_beyond(count):
    values, place = np.random.default_rng(2).normal(size=count), np.linspace(-1.0, count, 80)
    got = natural_spline_weights(place, count) @ values
    if count == 1:
        np.testing.assert_allclose(got, values[0], atol=1e-13)
        return
    spline = (
        CubicSpline(np.arange(count), values, bc_type="natural")
        if count > 2
        else make_interp_spline(np.arange(2), values, 1)
    )
    held = np.clip(place, 0.0, count - 1.0)
    np.testing.assert_allclose(got, spline(held) + (place - held) * spline(held, 1), atol=1e-12)


@pytest.mark.parametrize("grid", [(3, 4, 5), (1, 1, 1), (2, 1, 3)])
@pytest.mark.parametrize("doses", [[10.0], [0.0, 90.0], DOSES])
def test_weights_times_displacements_are_the_field(grid, doses):
    warp, at = random_warp(grid, np.array(doses)), points()
    for dose in (-5.0, 7.0, 60.0, 200.0):
        in_dose = warp.dose_weights(np.array([dose]))[0]
        flat = warp.displacement_angstrom.reshape(len(doses), -1, 3)
        expected = np.einsum("k,ng,kgi->ni", in_dose, warp.space_weights(at), flat)
        np.testing.assert_allclose(warp.at(at, dose), expected, atol=1e-11)


def test_the_field_has_its_values_at_the_grid_points_and_knots():
    warp = random_warp()
    z, y, x = (np.linspace(-0.5 * e, 0.5 * e, g) for e, g in zip(EXTENT, warp.grid, strict=True))
    at = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1).reshape(-1, 3)
    for k, dose in enumerate(DOSES):
        np.testing.assert_allclose(warp.at(at, dose), warp.displacement_angstrom[k].reshape(-1, 3), atol=1e-11)


def test_in_dose_the_field_is_a_spline_and_constant_outside():
    warp, at, doses = random_warp(), points(1), np.array([-3.0, 0.0, 8.0, 33.0, 100.0, 120.0, 300.0])
    knots = np.stack([warp.at(at, d)[0] for d in DOSES])
    expected = CubicSpline(DOSES, knots, bc_type="natural")(np.clip(doses, 0.0, 120.0))
    np.testing.assert_allclose(np.stack([warp.at(at, d)[0] for d in doses]), expected, atol=1e-11)
    two = random_warp(doses=np.array([0.0, 40.0]))
    np.testing.assert_allclose(two.at(at, 10.0), 0.75 * two.at(at, 0.0) + 0.25 * two.at(at, 40.0), atol=1e-11)


def test_a_bent_specimen_is_followed_to_the_error_of_the_spline():
    def bend(at):
        x, y, _ = (at / 1000.0).T
        return np.stack([x * y, -2.0 * x, 5.0 * x * x - 3.0 * y * y], -1)

    grid = (1, 9, 9)
    y, x = (np.linspace(-0.5 * e, 0.5 * e, g) for e, g in zip(EXTENT[1:], grid[1:], strict=True))
    at = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    values = bend(np.column_stack([at, np.zeros(len(at))])).reshape(1, *grid, 3)
    warp = VolumeWarp.build(values, [0.0], EXTENT)
    inside = points(200, reach=0.5)
    step_y, step_x = 5.2 / 8, 4.3 / 8
    # no curvature at the ends is wrong by 2 a, which costs at most h^2 / 8 of it along each axis
    bound = (10.0 * step_x**2 + 6.0 * step_y**2) / 8.0
    assert np.abs(warp.at(inside, 0.0) - bend(inside)).max() < bound


@pytest.mark.parametrize(
    ("values", "doses", "extent", "error", "words"),
    [
        (np.zeros((2, 1, 1, 1, 2)), [0.0, 1.0], EXTENT, ShapeError, "expected"),
        (np.zeros((2, 1, 1, 1, 3)), [0.0], EXTENT, ShapeError, "expected"),
        (np.zeros((2, 0, 1, 1, 3)), [0.0, 1.0], EXTENT, ShapeError, "none empty"),
        (np.full((1, 1, 1, 1, 3), np.nan), [0.0], EXTENT, InputError, "NaN"),
        (np.zeros((1, 1, 1, 1, 3)), [np.inf], EXTENT, InputError, "NaN or infinity"),
        (np.zeros((2, 1, 1, 1, 3)), [3.0, 3.0], EXTENT, InputError, "ascend"),
        (np.zeros((1, 1, 1, 1, 3)), [0.0], (100.0, -1.0, 5.0), InputError, "positive lengths"),
    ],
)
def test_fields_that_make_no_sense_are_refused(values, doses, extent, error, words):
    with pytest.raises(error, match=words):
        VolumeWarp.build(values, doses, extent)


# --- what images show of it

SHAPE, PIXEL = (420, 390), 12.0
TILTS = np.array([-60.0, -20.0, 0.0, 33.0, 60.0])
SEEN = np.array([100.0, 40.0, 3.0, 60.0, 118.0])


def geometry(tilts=TILTS):
    return TiltGeometry.build(
        tilts,
        z_rot_deg=84.0,
        x_tilt_deg=2.0,
        shifts_angstrom=np.random.default_rng(3).normal(0.0, 30.0, (len(tilts), 2)),
        magnification=1.003,
    )


def smooth_warp():
    """A dome that grows with the dose, by 20 A; slower than its grid."""
    z, y, x = (np.linspace(-0.5, 0.5, g) for g in (2, 4, 5))
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    dome = np.stack([6.0 * x * (1 - z), 5.0 * y + 2.0 * x * y, 20.0 * (x * x + y * y)], -1)
    return VolumeWarp.build([f * dome for f in (0.0, 0.5, 1.0)], [0.0, 30.0, 120.0], EXTENT)


def test_folded_into_the_images_points_at_mid_height_are_where_they_are_exactly():
    rigid, warp = geometry(), smooth_warp()
    at = points(300, reach=0.45) * np.array([1.0, 1.0, 0.0])
    folded = warp.folded(rigid, SEEN, SHAPE, PIXEL)
    for t, dose in enumerate(SEEN):
        exact = rigid[t].project(at + warp.at(at, dose))[0, :, :2]
        plain = rigid[t].project(at)[0, :, :2]
        in_image = (np.abs(plain) < 0.5 * PIXEL * np.array(SHAPE[::-1])).all(axis=1)
        got = plain + folded.at(t, torch.from_numpy(plain)).numpy()
        assert dose < 10.0 or np.abs(exact - plain).max() > 1.0
        assert np.abs(got - exact)[in_image].max() < 0.05


def test_folding_stays_finite_at_steep_tilts_and_needs_a_dose_for_every_tilt():
    steep = smooth_warp().folded(geometry(np.array([-90.0, 89.9])), np.array([1.0, 2.0]), SHAPE, PIXEL)
    assert np.abs(steep.displacement_angstrom).max() < 2000.0
    with pytest.raises(ShapeError, match="one for each"):
        smooth_warp().folded(geometry(), SEEN[:2], SHAPE, PIXEL)


def test_the_sum_of_two_deformations_is_on_the_finer_grid_along_each_axis():
    generator = np.random.default_rng(5)
    first, second = (ImageWarp.build(generator.normal(size=(2, *g, 2)), SHAPE, PIXEL) for g in ((5, 3), (3, 9)))
    total, at = combined(first, second), torch.from_numpy(first.grid_places_angstrom[::2])
    assert total.displacement_angstrom.shape == (2, 5, 9, 2)
    torch.testing.assert_close(total.at(1, at), first.at(1, at) + second.at(1, at), atol=1e-10, rtol=0)
    assert combined(None, second) is second
    with pytest.raises(ShapeError, match="the same images"):
        combined(first, second[0])


@pytest.mark.parametrize("grid", [(1, 1), (4, 5), (2, 1)])
def test_weights_of_an_image_warp_reproduce_it(grid):
    warp = ImageWarp.build(np.random.default_rng(6).normal(size=(2, *grid, 2)), SHAPE, PIXEL)
    at = np.random.default_rng(7).uniform(-4000, 4000, (40, 2))
    got = warp.weights(at) @ warp.displacement_angstrom[1].reshape(-1, 2)
    np.testing.assert_allclose(got, warp.at(1, torch.from_numpy(at)).numpy(), atol=1e-10)


def test_a_deformation_knows_its_parts():
    image = ImageWarp.build(np.ones((len(TILTS), 1, 1, 2)), SHAPE, PIXEL)
    both = Deformation(image=image, volume=smooth_warp())
    some = both[[0, 2]]
    assert len(some.image) == 2
    assert some.volume is both.volume
    assert Deformation()[[0]].image is None
