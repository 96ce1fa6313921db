"""Thresholds, objects, morphology and faces of the specimen."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import filters, measure

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation import morphology
from eucentric.segmentation.objects import ObjectLimits, find_objects, measure_objects, split_touching
from eucentric.segmentation.params import SpecimenParams
from eucentric.segmentation.specimen_faces import find_faces
from eucentric.segmentation.threshold import global_mask, hysteresis_mask, local_mask, noise_level, otsu_level


def two_groups(seed: int, share: float) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12, 20, 24))
    values[rng.uniform(size=values.shape) < share] += 8.0
    return torch.from_numpy(values.astype(np.float32))


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> torch.Tensor:
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return torch.from_numpy((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_otsus_level_is_the_one_of_another_program(share):
    volume = two_groups(0, share)
    bins = float(volume.max() - volume.min()) / 1024
    other = filters.threshold_otsu(volume.numpy(), nbins=1024)
    ours = otsu_level(volume)
    # levels in a gap between the groups are all as good
    between = volume[(volume > min(ours, other) + bins) & (volume <= max(ours, other) - bins)]
    assert len(between) == 0
    assert float(global_mask(volume).float().mean()) == pytest.approx(share, abs=0.03)


def test_the_noise_sets_a_level_that_little_of_it_passes():
    volume = two_groups(1, 0.05)
    level = noise_level(volume, 3.0)
    assert level == pytest.approx(3.0, abs=0.3)
    assert float((volume > level).float().mean()) == pytest.approx(0.05, abs=0.02)


def test_a_local_level_finds_bodies_on_a_slope_that_no_single_level_does():
    shape = (20, 40, 60)
    body = ball(shape, (10, 12, 10), 2.5) | ball(shape, (10, 25, 48), 2.5)
    slope = torch.arange(60.0).expand(shape) * 0.05
    got = local_mask(body.float() + slope, 10.0, window_angstrom=40.0)
    assert got[body].float().mean() > 0.9
    assert got[2:-2, 4:-4, 4:-4].float().sum() < 3 * body.sum()
    assert not got[10, 12, 10] ^ bool(got[10, 25, 48])


def test_hysteresis_is_that_of_another_program():
    volume = torch.from_numpy(ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(14, 22, 18)), 1.5))
    low, high = 0.02, 0.12
    # theirs joins by faces: so ours holds it, and every piece of ours reaches the upper level
    theirs = filters.apply_hysteresis_threshold(volume.numpy(), low, high)
    ours = hysteresis_mask(volume, low, high)
    assert ours.any()
    assert ours.numpy()[theirs].all()
    pieces, count = ndimage.label(ours.numpy(), np.ones((3, 3, 3)))
    assert (ndimage.maximum(volume.numpy(), pieces, range(1, count + 1)) > high).all()
    assert (volume[ours] > low).all()


@pytest.mark.parametrize("volume", [torch.zeros(4, 4, 4), torch.full((4, 4, 4), math.inf)])
def test_levels_of_nothing_are_told(volume):
    for level in (otsu_level, noise_level):
        with pytest.raises(InputError):
            level(volume)


def test_objects_have_the_sizes_and_shapes_that_were_drawn():
    shape = (40, 50, 60)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    rod = ((z - 30.0) / 3) ** 2 + ((y - 36.0) / 4) ** 2 + ((x - 30.0) / 15) ** 2 <= 1
    mask = ball(shape, (12, 14, 16), 8.0) | torch.from_numpy(rod)
    got = find_objects(mask, 5.0)
    assert len(got.volumes_angstrom3) == 2
    np.testing.assert_allclose(got.centres_px, [[16, 14, 12], [30, 36, 30]], atol=1e-9)
    np.testing.assert_allclose(got.axes_angstrom[0], 40.0, rtol=0.03)
    np.testing.assert_allclose(got.axes_angstrom[1], [75.0, 20.0, 15.0], rtol=0.06)
    assert got.volumes_angstrom3[0] == pytest.approx(4 / 3 * math.pi * 40**3, rel=0.03)
    theirs = measure.regionprops(got.labels.numpy())
    assert [r.area * 125.0 for r in theirs] == list(got.volumes_angstrom3)
    assert theirs[1].axis_major_length * 5.0 / 2 == pytest.approx(got.axes_angstrom[1, 0], rel=0.01)
    assert len(find_objects(mask, 5.0, ObjectLimits(max_elongation=2.0)).volumes_angstrom3) == 1
    assert len(find_objects(mask, 5.0, ObjectLimits(max_volume_angstrom3=2e5)).volumes_angstrom3) == 1
    assert len(find_objects(mask, 5.0, ObjectLimits(min_volume_angstrom3=1e9)).volumes_angstrom3) == 0
    assert len(find_objects(mask, 5.0, ObjectLimits(min_elongation=2.0)).volumes_angstrom3) == 1
    assert len(find_objects(mask, 5.0, ObjectLimits(min_flatness=0.2)).volumes_angstrom3) == 1
    assert not got.at_faces.any()
    np.testing.assert_array_equal(find_objects(mask[:, 8:], 5.0).at_faces, [True, False])
    again = measure_objects(got.labels * 7, 5.0)
    assert torch.equal(again.labels, got.labels)


def test_touching_balls_are_cut_where_they_touch():
    shape = (30, 34, 50)
    mask = ball(shape, (15, 16, 15), 10.0) | ball(shape, (14, 18, 33), 9.0)
    assert len(find_objects(mask, 8.0).volumes_angstrom3) == 1
    labels = split_touching(mask, 8.0, neck_angstrom=16.0)
    assert int(labels.max()) == 2
    assert torch.equal(labels > 0, mask)
    parts = measure_objects(labels, 8.0)
    np.testing.assert_allclose(parts.centres_px, [[15, 16, 15], [33, 18, 14]], atol=0.7)
    one = split_touching(mask, 8.0, neck_angstrom=200.0)
    assert int(one.max()) == 1


def test_a_ragged_ball_stays_whole():
    mask = ball((30, 30, 30), (15, 15, 15), 10.0)
    rough = mask & torch.from_numpy(np.random.default_rng(0).uniform(size=(30, 30, 30)) > 0.02)
    assert int(split_touching(morphology.close_mask(rough, 8.0, 12.0), 8.0, neck_angstrom=16.0).max()) == 1


def test_full_masks_are_told():
    for call in (lambda m: find_objects(m, 8.0), lambda m: split_touching(m, 8.0, neck_angstrom=8.0)):
        with pytest.raises(InputError, match="everywhere"):
            call(torch.ones(5, 5, 5, dtype=torch.bool))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.0, 30.0))
def test_laws_of_morphology(seed, radius):
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(ndimage.gaussian_filter(rng.normal(size=(9, 13, 11)), 1.0) > 0.1)
    grown, shrunk = (f(mask, 10.0, radius) for f in (morphology.dilate, morphology.erode))
    opened, closed = (f(mask, 10.0, radius) for f in (morphology.open_mask, morphology.close_mask))
    for small, large in ((shrunk, opened), (opened, mask), (mask, closed), (closed, grown)):
        assert not (small & ~large).any()
    assert torch.equal(morphology.erode(mask, 10.0, radius), ~morphology.dilate(~mask, 10.0, radius))
    assert torch.equal(morphology.open_mask(opened, 10.0, radius)[3:-3, 3:-3, 3:-3], opened[3:-3, 3:-3, 3:-3])


def test_balls_grow_by_the_radius_and_holes_are_filled():
    point = torch.zeros(21, 23, 25, dtype=torch.bool)
    point[10, 11, 12] = True
    assert torch.equal(morphology.dilate(point, 4.0, 24.0), ball((21, 23, 25), (10, 11, 12), 6.0))
    shell = ball((21, 23, 25), (10, 11, 12), 8.0) & ~ball((21, 23, 25), (10, 11, 12), 5.0)
    assert torch.equal(morphology.fill_holes(shell), ball((21, 23, 25), (10, 11, 12), 8.0))
    with pytest.raises(InputError):
        morphology.dilate(point, 0.0, 24.0)


def test_faces_of_a_bent_and_inclined_slab_are_found():
    rng = np.random.default_rng(4)
    shape, voxel = (60, 120, 140), 20.0
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * voxel for n in shape), indexing="ij")
    low, high = -250.0 + 0.06 * x, 200.0 + 0.06 * x + 60.0 * (y / 1200.0) ** 2
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    volume = np.where((z > low) & (z < high), 12.0, 2.0) * texture + 0.3 * rng.normal(size=shape)
    got = find_faces(torch.from_numpy(volume.astype(np.float32)), voxel, SpecimenParams())
    assert got.found
    inner = (slice(10, -10), slice(10, -10))
    assert np.sqrt(((got.bottom_angstrom - low[0])[inner] ** 2).mean()) < 2.0 * voxel
    assert np.sqrt(((got.top_angstrom - high[0])[inner] ** 2).mean()) < 2.0 * voxel
    assert np.median(got.thickness_angstrom) == pytest.approx(np.median((high - low)[0]), abs=1.5 * voxel)
    mask = got.mask(shape, voxel)
    assert mask.mean() == pytest.approx(((z > low) & (z < high)).mean(), rel=0.08)
    with pytest.raises(ShapeError):
        got.mask((60, 20, 20), voxel)


def test_even_noise_has_no_faces():
    volume = torch.from_numpy(np.random.default_rng(5).normal(size=(40, 60, 60)).astype(np.float32))
    got = find_faces(volume, 20.0, SpecimenParams())
    assert not got.found
    np.testing.assert_allclose(got.thickness_angstrom, 800.0)


def test_volumes_without_contrast_or_planes_are_told():
    with pytest.raises(InputError, match="contrast"):
        find_faces(torch.zeros(20, 20, 20), 20.0, SpecimenParams())
    with pytest.raises(InputError, match="planes"):
        find_faces(torch.rand(4, 20, 20), 20.0, SpecimenParams())
    with pytest.raises(InputError, match="finer"):
        SpecimenParams(texture_angstrom=(200.0, 40.0))
