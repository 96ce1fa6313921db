"""Learned segmentation: scores stand where the objects are, and trainings find what was labelled in slices."""

import numpy as np
import pytest
import torch

from eucentric.errors import FormatError, InputError
from eucentric.networks.model_file import Model
from eucentric.networks.params import AugmentParams, UNetParams
from eucentric.networks.prepare_volume import prepare_volume
from eucentric.networks.train_network import initialise
from eucentric.networks.unet import UNet
from eucentric.segmentation.learned import training_plan
from eucentric.segmentation.learned.find_classes import class_scores
from eucentric.segmentation.learned.label_classes import label_classes
from eucentric.segmentation.learned.labelled_patches import (
    LabelledPatches,
    LabelledSlices,
    LabelledVolume,
    find_slices,
    held_out_patches,
    hold_out,
    known_voxels,
    label_volume,
)
from eucentric.segmentation.learned.params import SegmenterParams
from eucentric.segmentation.learned.segmenter import PURPOSE, Segmenter
from eucentric.segmentation.learned.train_segmenter import choose_thresholds, train_segmenter
from eucentric.segmentation.learned.training_plan import plan_training, typical_thickness

CPU = torch.device("cpu")
VOXEL = 10.0


def local_network(channels: int) -> UNet:
    """Logits that rise with what is dark in the image, each voxel alone."""
    network = UNet(UNetParams(out_channels=channels, width=2, levels=1, normalise=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        first, second = network.down[0][0], network.down[0][2]
        first.weight[0, 0, 1, 1, 1] = -1.0
        second.weight[0, 0, 1, 1, 1] = 1.0
        network.head.weight[:, 0] = 4.0
        network.head.bias[:] = -4.0
    return network.eval()


def segmenter(
    channels: int = 1, *, profile: bool = False, voxel: float = VOXEL, network: UNet | None = None
) -> Segmenter:
    count = channels - profile
    return Segmenter(
        network=network or local_network(channels),
        classes=tuple(f"class {n}" for n in range(count)),
        voxel_size_angstrom=voxel,
        profile=profile,
        thresholds=(0.5,) * count,
    )


def ball(shape: tuple[int, int, int], place_zyx: tuple[float, float, float], radius: float) -> torch.Tensor:
    """(z, y, x) 1 in a ball, 0 outside, with an edge of a voxel."""
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    away = np.sqrt(sum((g - p) ** 2 for g, p in zip(grid, place_zyx, strict=True)))
    return torch.from_numpy(np.clip(radius - away + 0.5, 0, 1).astype(np.float32))


@pytest.mark.parametrize("shape", [(40, 60, 72), (41, 59, 71)])
@pytest.mark.parametrize("voxel", [VOXEL, VOXEL / 1.6])
@pytest.mark.parametrize("mirrors", [1, 4, 8])
def test_scores_lie_on_the_object_at_any_sampling_and_in_any_mirror(shape, voxel, mirrors):
    place = (17.3, 33.8, 44.1)
    generator = torch.Generator().manual_seed(3)
    volume = 0.05 * torch.randn(shape, generator=generator) - 4.0 * ball(shape, place, 9.0)  # matter dark
    found = class_scores(volume, voxel, segmenter(), mirrors=mirrors)
    assert found.shape == (1, *shape)
    assert found.dtype == torch.float32
    weight = ((found[0] - 0.5).clamp_min(0) * ball(shape, place, 13.0)).double()
    grid = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    middle = [float((weight * g).sum() / weight.sum()) for g in grid]
    np.testing.assert_allclose(middle, place, atol=0.2)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_the_specimen_alone_has_scores_and_a_profile_comes_last():
    shape = (48, 40, 36)
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    region = torch.zeros(shape, dtype=torch.bool)
    region[12:20] = True
    network = UNet(UNetParams(out_channels=2, width=4, levels=2))
    initialise(network, 1)
    network.eval()
    found = class_scores(volume, VOXEL, segmenter(2, profile=True, network=network), region=region)
    assert found.shape == (2, *shape)
    assert not found[:, ~region].any()
    assert float(found[0, region].min()) > 0
    assert float(found[1].min()) < 0  # not clipped


def test_mirrors_average_what_one_copy_says():
    shape = (16, 24, 20)
    volume = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    network = UNet(UNetParams(width=4, levels=2))
    initialise(network, 4)
    network.eval()
    one = segmenter(network=network)
    single = class_scores(volume, VOXEL, one, mirrors=1)
    turned = class_scores(volume.flip(-1), VOXEL, one, mirrors=1).flip(-1)
    both = class_scores(volume, VOXEL, one, mirrors=2)
    assert float((single - turned).abs().max()) > 1e-3
    torch.testing.assert_close(
        both, (single + turned) / 2, atol=2e-3, rtol=0
    )  # bfloat16: equalised before and after mirroring


def test_scores_refuse_what_they_cannot_use():
    volume = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(2))
    with pytest.raises(InputError, match="needs 10 A or finer"):
        class_scores(volume, 11.0, segmenter())
    with pytest.raises(InputError, match="constant"):
        class_scores(torch.ones(16, 16, 16), VOXEL, segmenter())
    with pytest.raises(InputError, match="expected 1 to 8"):
        class_scores(volume, VOXEL, segmenter(), mirrors=9)


def test_models_tell_their_classes():
    network = local_network(2)
    settings = {"classes": ["sac", "coat"], "profile": False, "voxel_size_angstrom": 14.0, "thresholds": [0.4, 0.7]}
    model = Model(
        purpose=PURPOSE, network=network.params, weights=network.state_dict(), settings=settings, provenance={}
    )
    read = Segmenter.of_model(model)
    assert (read.classes, read.thresholds, read.voxel_size_angstrom) == (("sac", "coat"), (0.4, 0.7), 14.0)
    for wrong in ({"classes": ["sac"]}, {"thresholds": [0.4]}, {"voxel_size_angstrom": -1.0}, {"profile": True}):
        with pytest.raises(FormatError):
            Segmenter.of_model(
                Model(
                    purpose=PURPOSE,
                    network=network.params,
                    weights=network.state_dict(),
                    settings={**settings, **wrong},
                    provenance={},
                )
            )


def test_labelled_slices_are_those_across_the_axis_that_fewest_are_labelled_along():
    labels = np.zeros((20, 30, 40), dtype=np.int32)
    labels[[4, 9], 5:25, 3:37] = 2
    assert find_slices(labels) == LabelledSlices(axis="z", numbers=(4, 9))
    assert find_slices(labels.transpose(1, 2, 0)) == LabelledSlices(axis="x", numbers=(4, 9))
    with pytest.raises(InputError, match="0 everywhere"):
        find_slices(np.zeros_like(labels))
    known = known_voxels(
        (20, 30, 40), [LabelledSlices(axis="z", numbers=(4,)), LabelledSlices(axis="x", numbers=(0, 39))]
    )
    assert known[4].all()
    assert known[:, :, [0, 39]].all()
    assert known.sum() == 30 * 40 + 2 * 19 * 30
    with pytest.raises(InputError, match="slices 0 to 19"):
        known_voxels((20, 30, 40), [LabelledSlices(axis="z", numbers=(20,))])


def noise(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labelled(labels: np.ndarray, voxel: float, target: float, slices: tuple[LabelledSlices, ...]) -> LabelledVolume:
    shape = labels.shape
    known = known_voxels(shape, slices) if slices else np.ones(shape, dtype=bool)
    prepared = prepare_volume(noise(shape), voxel, target)
    kinds = [[int(n)] for n in np.unique(labels) if n]
    return label_volume(
        prepared, torch.from_numpy(labels.astype(np.int32)), torch.from_numpy(known), kinds, voxel, slices
    )


@pytest.mark.parametrize("shape", [(40, 60, 72), (41, 59, 71)])
def test_labels_keep_their_place_and_size_at_a_coarser_sampling(shape):
    place = (17.3, 33.8, 44.1)
    labels = (ball(shape, place, 11.0) > 0.5).numpy().astype(np.int32)
    whole = labelled(labels, 10.0, 16.0, ())
    assert whole.known[1:, 1:, 1:].all()  # the outermost voxels may reach beyond the volume
    at = whole.classes[0].nonzero().double().numpy() + whole.volume.start_zyx
    centre = (at - [n // 2 for n in whole.volume.full_zyx]) * whole.volume.voxel_xyz[::-1] / 10.0 + [
        n // 2 for n in shape
    ]
    np.testing.assert_allclose(centre.mean(0), place, atol=0.15)
    size = float(np.prod(whole.volume.voxel_xyz)) * len(at) / 10.0**3
    np.testing.assert_allclose(size, labels.sum(), rtol=0.03)


@pytest.mark.parametrize("section", [16, 17, 18])
def test_a_slice_is_known_alone_and_in_full(section):
    shape = (41, 60, 72)
    labels = np.zeros(shape, dtype=np.int32)
    labels[section, 20:44, 12:60] = 1
    one = labelled(labels, 10.0, 16.0, (LabelledSlices(axis="z", numbers=(section,)),))
    planes = one.known.any(2).any(1).nonzero().flatten().tolist()
    assert 1 <= len(planes) <= 2
    assert one.known[planes, 1:, 1:].all()  # the outermost voxels may reach beyond the volume
    step = float(one.volume.voxel_xyz[2]) / 10.0
    exact = (section - shape[0] // 2) / step + one.volume.full_zyx[0] // 2 - one.volume.start_zyx[0]
    assert all(abs(p - exact) < 0.8 for p in planes)
    area = one.classes[0, planes[0]].sum() * step**2
    np.testing.assert_allclose(float(area), 24 * 48, rtol=0.12)


def plain(classes: torch.Tensor, known: torch.Tensor, slices: tuple[tuple[int, int, int], ...] = ()) -> LabelledVolume:
    prepared = prepare_volume(noise(tuple(known.shape)), 10.0, 10.0)
    return LabelledVolume(volume=prepared, classes=classes & known, known=known, trained=known.clone(), slices=slices)


def test_whole_slices_are_held_out_of_many_and_ends_of_few():
    shape = (20, 40, 30)
    classes = torch.zeros(2, *shape, dtype=torch.bool)
    classes[0, :, 5:35, 10] = True
    classes[1, 2:12, 4:30, 20:24] = True
    for numbers in ((1, 4, 7, 10, 13), (3, 9), (6,)):
        known = torch.zeros(shape, dtype=torch.bool)
        known[list(numbers)] = True
        volume = plain(classes, known, tuple((0, n, n) for n in numbers))
        told = hold_out([volume], 0.2)
        assert bool((volume.trained & ~volume.known).any()) is False
        for part in volume.classes:  # each class on both sides
            assert (part & volume.trained).any()
            assert (part & volume.held_out).any()
        planes = volume.held_out.any(2).any(1)
        if len(numbers) == 5:
            # the last slice has nothing of the second class: the one before it
            assert told == "1 of 5 labelled slices"
            assert planes.nonzero().flatten().tolist() == [10]
        else:
            assert told == "one end of each labelled slice"
            rows = volume.held_out.any(2).any(0).nonzero().flatten()
            assert rows.tolist() == list(range(int(rows[0]), 40))


def test_thickness_is_that_of_strips_and_follows_discs():
    strip = torch.zeros(9, 60, 80, dtype=torch.bool)
    strip[4, 20:26] = True
    np.testing.assert_allclose(typical_thickness([strip], [0], [8.0]), 48.0, rtol=0.05)
    np.testing.assert_allclose(typical_thickness([strip.permute(1, 2, 0)], [2], [8.0]), 48.0, rtol=0.05)
    disc = ball((9, 60, 80), (4, 30, 40), 20.0) > 0.5
    np.testing.assert_allclose(
        typical_thickness([disc & (torch.arange(9) == 4)[:, None, None]], [0], [5.0]), 133.0, rtol=0.05
    )


def test_the_plan_follows_labels_tomograms_and_memory(monkeypatch):
    monkeypatch.setattr(training_plan, "free_bytes", lambda device: 2**36)
    big = [((200, 500, 480), 8.0)]

    def plan(params=None, thickness=(40.0,), tomograms=big, **more):
        return plan_training(
            params or SegmenterParams(),
            classes=len(thickness),
            thickness_angstrom=thickness,
            tomograms=tomograms,
            device=CPU,
            **more,
        )

    thin, thick = plan(), plan(thickness=(90.0, 1500.0))
    assert thin.voxel_size_angstrom == pytest.approx(40 / 3)
    assert (thin.network.levels, thin.network.out_channels) == (3, 1)
    assert thick.voxel_size_angstrom == pytest.approx(30.0)
    assert (thick.network.levels, thick.network.out_channels) == (4, 2)
    assert thick.patch_size > thin.patch_size
    assert all(one.patch_size % one.network.multiple == 0 for one in (thin, thick))
    assert plan(thickness=(9.0,)).voxel_size_angstrom == 8.0  # as fine as it is
    assert plan(tomograms=[*big, ((100, 400, 400), 20.0)]).voxel_size_angstrom == 20.0
    small = plan(tomograms=[((20, 50, 40), 8.0)])
    assert small.patch_size <= 48
    start = UNetParams(out_channels=2, width=8, levels=4)
    tuned = plan(start=(start, 12.0))
    assert (tuned.network.width, tuned.network.levels, tuned.network.out_channels, tuned.voxel_size_angstrom) == (
        8,
        4,
        1,
        12.0,
    )
    with pytest.raises(InputError, match="none finer"):
        plan(SegmenterParams(voxel_size_angstrom=5.0))
    with pytest.raises(InputError, match="multiple of 4"):
        plan(SegmenterParams(patch_size=50))
    monkeypatch.setattr(training_plan, "free_bytes", lambda device: 2**27)
    poor = plan()
    assert poor.batch_size == 1
    assert poor.patch_size < thin.patch_size


def test_thresholds_have_the_greatest_dice_on_what_was_held_out():
    shape = (16, 48, 40)
    volume = noise(shape, 5) - 4.0 * ball(shape, (8, 24, 20), 9.0)
    prepared = prepare_volume(volume, VOXEL, VOXEL)
    truth = ball(shape, (8, 24, 20), 9.0) > 0.5
    known = torch.zeros(shape, dtype=torch.bool)
    known[4:12] = True
    trained = known.clone()
    trained[8:] = False
    one = LabelledVolume(volume=prepared, classes=(truth & known)[None], known=known, trained=trained)
    seg = segmenter()
    (found,) = choose_thresholds(seg, [one])
    scores = class_scores(volume, VOXEL, seg)[0]

    def dice(cut: float) -> float:
        mask = (scores >= cut) & one.held_out
        true = one.classes[0] & one.held_out
        return float(2 * (mask & true).sum() / (mask.sum() + true.sum()))

    best = max(dice(c / 100) for c in range(1, 100))
    assert found.voxels == int((one.classes[0] & one.held_out).sum())
    assert found.dice == pytest.approx(dice(found.threshold), abs=0.02)  # tiles of another size round otherwise
    assert found.dice >= best - 0.03
    nothing = LabelledVolume(volume=prepared, classes=one.classes, known=known, trained=known)
    assert choose_thresholds(seg, [nothing])[0].dice is None
    assert choose_thresholds(seg, [nothing])[0].threshold == 0.5


def test_the_class_that_is_farthest_above_its_threshold_wins():
    scores = torch.tensor([[0.6, 0.6, 0.2, 0.95], [0.3, 0.5, 0.21, 0.94]])[:, None, None]
    assert label_classes(scores, (0.5, 0.2)).flatten().tolist() == [2, 2, 2, 2]
    assert label_classes(scores, (0.5, 0.5)).flatten().tolist() == [1, 1, 0, 1]
    with pytest.raises(InputError, match="one each"):
        label_classes(scores, (0.5,))


def test_patches_show_labels_that_are_trained_on_alone():
    shape = (20, 40, 36)
    classes = torch.zeros(1, *shape, dtype=torch.bool)
    classes[0, :, 6:34, 10:14] = True
    known = torch.zeros(shape, dtype=torch.bool)
    known[6] = True
    volume = plain(classes, known, ((0, 6, 6),))
    hold_out([volume], 0.2)
    held = int(volume.held_out.sum())
    make = {"patch_size": 16, "batch_size": 2, "label_share": 0.7, "seed": 3}
    source = LabelledPatches([volume], ["bar"], AugmentParams(), **make)
    first = source.batch(4)
    assert {k: tuple(v.shape) for k, v in first.items()} == {
        "images": (2, 1, 16, 16, 16),
        "targets": (2, 1, 16, 16, 16),
        "known": (2, 16, 16, 16),
    }
    for name, value in LabelledPatches([volume], ["bar"], AugmentParams(), **make).batch(4).items():
        assert torch.equal(first[name], value)
    most = max(int(part.sum()) for step in range(10) for part in source.batch(step)["known"])
    assert 0 < most <= 16 * 16
    judged = held_out_patches([volume], 16, 6, seed=0)
    assert judged
    assert all(0 < int(batch["known"].sum()) <= held for batch in judged)


def test_labels_that_fill_everything_are_refused():
    shape = (16, 24, 24)
    known = torch.ones(shape, dtype=torch.bool)
    full = plain(torch.ones(1, *shape, dtype=torch.bool), known)
    make = {"patch_size": 16, "batch_size": 1, "label_share": 0.5, "seed": 0}
    with pytest.raises(InputError, match="nothing to tell apart"):
        LabelledPatches([full], ["all"], AugmentParams(), **make)
    none = plain(torch.zeros(1, *shape, dtype=torch.bool), known)
    with pytest.raises(InputError, match="No label of all"):
        LabelledPatches([none], ["all"], AugmentParams(), **make)


def scene(shape: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Balls (1) and one thick slab that leans (2), dark in noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int32)
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    labels[np.abs(x - 0.6 * shape[2] - 0.3 * (y - shape[1] / 2) + 0.2 * (z - shape[0] / 2)) < 2.5] = 2
    for _ in range(18):
        place = rng.uniform([3, 3, 3], [shape[0] - 3, shape[1] - 3, 0.5 * shape[2]])
        labels[(z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2 < 4.0**2] = 1
    volume = -2.0 * (labels > 0) + rng.standard_normal(shape)
    return torch.from_numpy(volume.astype(np.float32)), labels


def dice_of(found: torch.Tensor, labels: np.ndarray, number: int, where: np.ndarray) -> float:
    mask, true = (found.numpy() == number) & where, (labels == number) & where
    return float(2 * (mask & true).sum() / (mask.sum() + true.sum()))


@pytest.mark.slow
def test_two_classes_of_three_slices_are_found_in_the_rest_and_from_a_start_at_once():
    shape = (32, 48, 48)
    volume, labels = scene(shape, 2)
    slices = (LabelledSlices(axis="z", numbers=(6, 15, 25)),)
    known = known_voxels(shape, slices)
    prepared = prepare_volume(volume, VOXEL, VOXEL)
    given = torch.from_numpy(np.where(known, labels, 0))
    one = label_volume(prepared, given, torch.from_numpy(known), [[1], [2]], VOXEL, slices)
    hold_out([one], 0.2)
    params = SegmenterParams(
        steps=200,
        width=6,
        levels=2,
        patch_size=24,
        batch_size=2,
        checkpoint_steps=50,
        voxel_size_angstrom=VOXEL,
        learning_rate=5e-3,
        patience=0,
    )
    tomograms = [(shape, VOXEL)]
    plan = plan_training(params, classes=2, thickness_angstrom=(60.0, 50.0), tomograms=tomograms, device=CPU)
    trained = train_segmenter([one], ["ball", "slab"], plan, params, CPU, seed=1)
    made = Segmenter.of_model(trained.model)
    found = label_classes(class_scores(volume, VOXEL, made), made.thresholds)
    assert dice_of(found, labels, 1, ~known) > 0.7
    assert dice_of(found, labels, 2, ~known) > 0.7
    assert trained.bettered
    assert all(q.dice is not None and q.dice > 0.6 for q in trained.qualities)
    # classes of the same names begin where they were, in any order; others anew
    few = params.replace(steps=1, learning_rate=1e-9)
    plan = plan_training(few, classes=3, thickness_angstrom=(50.0,) * 3, tomograms=tomograms, device=CPU)
    more = LabelledVolume(
        volume=prepared, classes=one.classes[[1, 0, 0]], known=one.known, trained=one.trained, slices=one.slices
    )
    again = train_segmenter([more], ["slab", "new", "ball"], plan, few, CPU, start=trained.model)
    first, second = trained.model.weights, again.model.weights
    torch.testing.assert_close(second["head.weight"][[2, 0]], first["head.weight"], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(second["down.0.0.weight"], first["down.0.0.weight"], atol=1e-3, rtol=1e-3)
    assert float((second["head.weight"][1] - first["head.weight"][0]).abs().max()) > 1e-2
