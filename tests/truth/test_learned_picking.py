"""Learned picking on volumes whose objects are known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from eucentric.errors import InputError
from eucentric.networks.params import AugmentParams
from eucentric.networks.prepare_volume import prepare_volume
from eucentric.networks.vary_patch import turn_patch, vary_patch
from eucentric.picking.learned.calibrate import best_cutoff, calibrate, match_labels, q_values_of
from eucentric.picking.learned.embedding import cluster_objects, similarities
from eucentric.picking.learned.find_objects import find_peaks, heat_maps
from eucentric.picking.learned.params import PickerClass, PickerParams
from eucentric.picking.learned.train_picker import hold_out, train_picker
from eucentric.picking.learned.training_patches import LabelledVolume, PatchSource

BALL, BAR = PickerClass(name="ball", diameter_angstrom=100.0), PickerClass(name="bar", diameter_angstrom=100.0)
PLAIN = AugmentParams(wedge_chance=0, b_factor=(0.0, 0.0), ripple=0, noise=0, contrast=0, offset=0, ball_chance=0)


def specimen(seed, shape=(32, 72, 72), count=14, voxel=12.0):
    """Dark balls and crosses in noise, (count, 3) z, y, x and their kinds."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=shape).astype(np.float32)
    places, kinds = [], []
    for _ in range(2000):
        place = rng.uniform(6, np.array(shape) - 6)
        if places and np.linalg.norm(np.array(places) - place, axis=1).min() < 12:
            continue
        places.append(place)
        kinds.append(len(places) % 2)
        if len(places) == count:
            break
    z, y, x = np.indices(shape)
    for place, kind in zip(places, kinds, strict=True):
        dz, dy, dx = z - place[0], y - place[1], x - place[2]
        if kind == 0:
            volume -= 2.5 * np.exp(-(dz**2 + dy**2 + dx**2) / 8.0)
        else:  # a hollow ball
            volume -= 2.5 * np.exp(-((np.sqrt(dz**2 + dy**2 + dx**2) - 4.0) ** 2) / 2.0)
    prepared = prepare_volume(torch.from_numpy(volume), voxel, voxel)
    return prepared, np.array(places), np.array(kinds)


def labelled(seed, trained=True, **changes):
    prepared, places, kinds = specimen(seed)
    return LabelledVolume(
        volume=prepared,
        positions=places,
        kinds=kinds,
        negatives=np.zeros((0, 3)),
        trained=np.full(prepared.image.shape[1], trained),
    )


@pytest.mark.parametrize(("shape", "voxel"), [((40, 63, 52), 8.0), ((33, 48, 50), 9.0), ((24, 30, 36), 12.0)])
def test_a_prepared_volume_keeps_places(shape, voxel):
    place = np.array([100.0, -60.0, 30.0])
    z, y, x = ((np.arange(n) - n // 2) * voxel for n in shape)
    squared = (x - place[0]) ** 2 + ((y - place[1]) ** 2)[:, None] + ((z - place[2]) ** 2)[:, None, None]
    volume = -20.0 * np.exp(-squared / (2 * 25.0**2)) + np.random.default_rng(1).normal(size=shape)
    prepared = prepare_volume(torch.from_numpy(volume.astype(np.float32)), voxel, 12.0)
    smooth = ndimage.gaussian_filter(prepared.image.numpy(), 2.0)
    lowest = np.array(np.unravel_index(smooth.argmin(), smooth.shape), dtype=float)[None]
    assert np.abs(prepared.to_angstrom(lowest)[0] - place).max() < 12.0
    np.testing.assert_allclose(prepared.to_angstrom(prepared.to_voxels(place[None])), place[None], atol=1e-9)
    assert abs(float(prepared.image.mean())) < 0.05
    assert 0.9 < float(prepared.image.std()) < 1.1


def test_two_filters_of_one_tomogram_look_alike_once_prepared():
    noise = np.random.default_rng(3).normal(size=(32, 48, 48)).astype(np.float32)
    sharp = noise + 30.0 * ndimage.gaussian_filter(noise, 3.0)
    soft = 7.0 + 3.0 * (sharp - 0.7 * ndimage.gaussian_filter(sharp, 3.0))  # what is coarse is weaker
    first, second = (prepare_volume(torch.from_numpy(v), 12.0, 12.0).image for v in (sharp, soft))
    before = float(np.corrcoef(sharp.ravel(), soft.ravel())[0, 1])
    after = float(torch.corrcoef(torch.stack([first.reshape(-1), second.reshape(-1)]))[0, 1])
    assert after > 0.97 > before


def test_volumes_that_no_network_can_use_are_told():
    noise = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match=r"voxels of 16 A, and the network needs 12 A"):
        prepare_volume(noise, 16.0, 12.0)
    with pytest.raises(InputError, match="region or mask is empty"):
        prepare_volume(noise, 12.0, 12.0, torch.zeros(20, 20, 20, dtype=torch.bool))
    with pytest.raises(InputError, match="constant"):
        prepare_volume(torch.ones(20, 20, 20), 12.0, 12.0)
    with pytest.raises(InputError, match="expected the same"):
        prepare_volume(noise, 12.0, 12.0, torch.ones(2, 2, 2, dtype=torch.bool))


def test_turns_keep_the_hand():
    """A corner with three unequal arms: every turn leaves the triple product of its arms as it was."""
    patch = torch.zeros(9, 9, 9)
    patch[4, 4, 5], patch[4, 6, 4], patch[7, 4, 4] = 1, 2, 3  # along x, y, z
    for quarter in range(4):
        for flip in (False, True):
            turned = turn_patch(patch, quarter, flip)
            arms = [((turned == n).nonzero()[0] - 4).flip(0).double() for n in (1, 2, 3)]
            assert float(torch.linalg.det(torch.stack(arms))) == 6.0


def test_spots_lie_on_their_particles_in_every_turned_copy():
    params = PickerParams(patch_size=24, turned_copies=3, batch_size=4, label_share=1.0, complete=True)
    source = PatchSource([labelled(5)], [BALL, BAR], params, PLAIN, seed=2)
    inside, outside = [], []
    for step in range(12):
        batch = source.batch(step)
        for image, target, weight in zip(batch["images"][:, 0], batch["targets"], batch["weights"], strict=True):
            middle = target[0] > 0.9
            inside.append(image[middle & (weight > 0)].numpy())
            outside.append(image[(target.sum(0) < 0.05) & (weight > 0)].numpy())
    assert np.concatenate(inside).mean() < -2.0
    assert abs(np.concatenate(outside).mean()) < 0.2
    again = PatchSource([labelled(5)], [BALL, BAR], params, PLAIN, seed=2)
    assert all(torch.equal(again.batch(7)[name], value) for name, value in source.batch(7).items())


def test_a_wedge_is_cut_where_the_tilt_axis_says():
    noise = torch.randn(32, 32, 32, generator=torch.Generator().manual_seed(1))
    params = PLAIN.replace(wedge_chance=1.0, wedge_deg=(50.0, 50.0))
    for axis in (0.0, 90.0):
        varied = vary_patch(noise, 12.0, axis, params, np.random.default_rng(1))
        power = torch.fft.fftn(varied).abs().square()
        along_z = power[8, 0, 0] + power[10, 0, 0]
        # with the axis along y the beam's own direction z is missing, tilted about y; across it x is kept
        kept = power[0, 0, 8:12].sum() if axis == 90.0 else power[0, 8:12, 0].sum()
        tilted = power[10, 0, 4] if axis == 90.0 else power[10, 4, 0]
        sideways = power[10, 12, 0] if axis == 90.0 else power[10, 0, 12]
        assert float(along_z + tilted + sideways) < 1e-6 * float(kept)


def test_given_negatives_and_held_out_rows_reach_the_weights():
    volume = labelled(6)
    trained = np.arange(72) < 40
    changed = LabelledVolume(
        volume=volume.volume,
        positions=volume.positions,
        kinds=volume.kinds,
        negatives=np.array([[16.0, 20.0, 36.0]]),
        trained=trained,
    )
    params = PickerParams(patch_size=24, turned_copies=0, batch_size=2, label_share=0.2)
    source = PatchSource([changed], [BALL, BAR], params, PLAIN, seed=1)
    codes = torch.stack([source.batch(step)["weights"] for step in range(30)])
    assert {int(c) for c in codes.unique()} == {0, 1, 2, 3}


def test_classes_without_labels_to_train_on_are_told():
    only = labelled(6)
    one = LabelledVolume(
        volume=only.volume,
        positions=only.positions[:1],
        kinds=only.kinds[:1],
        negatives=only.negatives,
        trained=only.trained,
    )
    with pytest.raises(InputError, match="No label of ball is left"):
        PatchSource([one], [BALL, BAR], PickerParams(patch_size=24, turned_copies=0), PLAIN, seed=1)


def test_what_is_held_out_holds_some_of_every_class():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 200, (60, 3))
    kinds = np.array([0] * 50 + [1] * 10)
    trained = hold_out(positions, kinds, 200, 0.2)
    out = ~trained[positions[:, 1].astype(int)]
    assert 0.15 < out.mean() < 0.35
    for kind in (0, 1):
        assert 1 <= out[kinds == kind].sum() <= (kinds == kind).sum() / 2 + 1
    assert hold_out(positions[:1], kinds[:1], 200, 0.2).all()


def test_calibrated_probabilities_are_true_as_often_as_they_say():
    rng = np.random.default_rng(2)
    x = rng.uniform(-3, 1, 4000)
    true = rng.random(4000) < 1 / (1 + np.exp(-(2.5 * x + 2.0)))
    found = calibrate(np.exp(x), true, int(true.sum()), complete=True)
    assert abs(found.slope - 2.5) < 0.3
    assert abs(found.offset - 2.0) < 0.3
    probability = found.probabilities(np.exp(x))
    kept = q_values_of(probability) <= 0.05
    assert 0.03 < 1 - true[kept].mean() < 0.07


def test_unlabelled_particles_do_not_count_as_false_where_labels_are_few():
    rng = np.random.default_rng(3)
    good, bad = rng.normal(-0.2, 0.3, 60), rng.normal(-2.5, 0.4, 200)
    labelled_rows = np.zeros(260, dtype=bool)
    labelled_rows[:20] = True
    x = np.exp(np.concatenate([good, bad]))
    few = calibrate(x, labelled_rows, 20, complete=False)
    naive = calibrate(x, labelled_rows, 20, complete=True)
    assert np.median(few.probabilities(np.exp(good))) > 0.9
    assert np.median(naive.probabilities(np.exp(good))) < 0.6
    assert few.probabilities(np.exp(bad)).mean() < 0.05


def test_the_cutoff_has_the_greatest_expected_f1():
    probability = np.array([0.99, 0.95, 0.9, 0.6, 0.3, 0.1])
    cut, best = best_cutoff(probability, 0.5)
    total = probability.sum() + 0.5
    every = [2 * probability[:n].sum() / (n + total) for n in range(1, 7)]
    assert best == pytest.approx(max(every))
    assert int((probability >= cut).sum()) == int(np.argmax(every)) + 1


def test_a_label_is_matched_once_by_the_nearest_of_its_class():
    labels = np.array([[0.0, 0, 0], [10.0, 0, 0]])
    found = np.array([[1.0, 0, 0], [0.5, 0, 0], [10.5, 0, 0]])
    true, owner = match_labels(found, np.array([0, 0, 0]), labels, np.array([0, 1]), [3.0, 3.0])
    assert true.tolist() == [False, True, False]
    assert owner.tolist() == [-1, 0, -1]


def test_clusters_and_likeness_of_known_directions():
    rng = np.random.default_rng(4)
    directions = np.linalg.qr(rng.normal(size=(32, 3)))[0].T
    kinds = np.repeat([0, 1, 2], [20, 12, 6])
    vectors = directions[kinds] + 0.05 * rng.normal(size=(38, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert cluster_objects(vectors).numbers.tolist() == (kinds + 1).tolist()
    assert cluster_objects(vectors, count=2).numbers.max() == 2
    assert ((similarities(vectors, vectors[:1]) > 0.6) == (kinds == 0)).all()
    with pytest.raises(InputError, match="40 clusters of 38 objects"):
        cluster_objects(vectors, count=40)
    with pytest.raises(InputError, match="No example"):
        similarities(vectors, vectors[:0])


def test_a_picker_trained_on_one_volume_finds_both_kinds_in_another():
    params = PickerParams(
        width=8, levels=2, patch_size=24, steps=100, batch_size=2, turned_copies=1, complete=True, learning_rate=1e-2
    )
    classes = [BALL, BAR]
    source = PatchSource([labelled(1)], classes, params, PLAIN, seed=1)
    trained = train_picker(source, classes, params, torch.device("cpu"), calibrate_on=[labelled(2, trained=False)])
    assert all(c.true_count == 7 for c in trained.calibrations)
    prepared, places, kinds = specimen(3)
    sigmas = [params.spot * kind.radius_angstrom / 12.0 for kind in classes]
    found = find_peaks(heat_maps(trained.model.build(), prepared.image, 2), prepared, classes, sigmas, distance=1.2)
    probability = np.array(
        [
            trained.calibrations[k].probabilities(np.array([s]))[0]
            for k, s in zip(found.kinds, found.scores, strict=True)
        ]
    )
    kept = found.select(probability >= np.array([c.cutoff for c in trained.calibrations])[found.kinds])
    true, _ = match_labels(kept.positions, kept.kinds, places, kinds, [2.0, 2.0])
    f1 = 2 * true.sum() / (len(kept.scores) + len(places))
    assert f1 >= 0.85
