"""Detector corrections against cameras that the tests make, and against practice movies."""

import json

import numpy as np
import pytest
import torch

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.io import read_gain, read_movie
from eucentric.motion import (
    Detector,
    FrameTotals,
    Orientation,
    correct_frames,
    find_defects,
    magnification_from_relion,
    magnification_matrix,
    orient_gain,
    prepare_dark,
    prepare_gain,
)
from eucentric.motion.detector import ORIENTATIONS


def counted(mean: torch.Tensor, frames: int, seed: int = 1) -> torch.Tensor:
    return torch.poisson(mean.expand(frames, *mean.shape), generator=seeded_generator(seed)).to(torch.uint8)


def defects_of(frames: torch.Tensor, sigma: float = 6.0, **detector):
    totals = FrameTotals(255)
    totals.add(frames)
    camera = Detector(shape=tuple(frames.shape[-2:]), **detector)
    return find_defects(totals, camera, sigma=sigma, generator=seeded_generator(2)), camera


def random_gain(shape: tuple[int, int], seed: int = 5, spread: float = 0.06) -> torch.Tensor:
    return torch.exp(spread * torch.randn(shape, generator=seeded_generator(seed)))


def undone(orientation: Orientation, image: torch.Tensor) -> torch.Tensor:
    """The file that `orientation` turns into `image`."""
    return next(o.apply(image) for o in ORIENTATIONS if torch.equal(orientation.apply(o.apply(image)), image))


# --- orientation ---------------------------------------------------------------------------------------------------------


def test_rotations_are_counter_clockwise_with_y_up():
    image = torch.zeros(5, 7)
    image[2, 6] = 1.0  # on the right
    assert Orientation(90).apply(image)[6, 2] == 1.0  # then at the top
    assert Orientation(180).apply(image)[2, 0] == 1.0
    assert Orientation(270).apply(image)[0, 2] == 1.0
    image[4, 6] = 2.0  # upper right
    assert Orientation(0, "up-down").apply(image)[0, 6] == 2.0
    assert Orientation(0, "left-right").apply(image)[4, 0] == 2.0
    # rotation first: the upper right corner goes to the upper left, then down
    assert Orientation(90, "up-down").apply(image)[0, 0] == 2.0


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flip", range(3))
def test_the_numbers_of_other_programs_mean_what_they_do_there(turns, flip):
    image = torch.arange(12.0).reshape(3, 4)
    # RELION and MotionCor in plain loops over (x, y) of the stored image: x' = -y, y' = x, so many times; then flipped
    expected = image.numpy()
    for _ in range(turns):
        turned = np.zeros(expected.shape[::-1])
        for y in range(expected.shape[0]):
            for x in range(expected.shape[1]):
                turned[x, expected.shape[0] - 1 - y] = expected[y, x]
        expected = turned
    expected = {0: expected, 1: expected[::-1], 2: expected[:, ::-1]}[flip]
    found = Orientation.from_motioncor(turns, flip)
    assert np.array_equal(found.apply(image).numpy(), expected)
    assert np.array_equal(found.canonical().apply(image).numpy(), expected)
    assert found.motioncor == (turns, flip)


def test_serialem_flips_before_it_turns():
    image = torch.arange(12.0).reshape(3, 4)
    for number in range(8):
        expected = image.flip(-1) if number >= 4 else image
        for _ in range(number % 4):
            expected = Orientation(90).apply(expected)
        assert torch.equal(Orientation.from_imod(number).apply(image), expected)
        assert Orientation.from_imod(number).imod == number
    square = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(o.apply(square).flatten().tolist()) for o in ORIENTATIONS}) == 8


def test_orientations_that_do_not_exist_are_refused():
    for wrong in (lambda: Orientation(45), lambda: Orientation.from_motioncor(4, 0), lambda: Orientation.from_imod(8)):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"not one of|does not exist"):
            wrong()


# --- references ----------------------------------------------------------------------------------------------------------


def test_a_divisor_becomes_a_factor_that_keeps_the_counts():
    sensitivity = 40.0 * random_gain((12, 10))
    sensitivity[3, 4] = 0.0
    gain = prepare_gain(sensitivity, (12, 10), operation="divide")
    good = gain > 0
    assert int((~good).sum()) == 1
    assert gain[3, 4] == 0
    product = (gain * sensitivity)[good]
    torch.testing.assert_close(product, product.mean().expand(119))  # counts / sensitivity are flat
    assert float((1 / gain[good]).mean()) == pytest.approx(1.0, rel=1e-6)


def test_super_resolution_gain_is_brought_to_the_pixels_whose_counts_add_up():
    fine = random_gain((16, 12))
    fine[0, 0] = 0.0  # a dead quarter
    coarse = prepare_gain(fine, (8, 6))
    # counts of a flat illumination, at super-resolution, added up in 2 x 2 and corrected, are flat
    counts = torch.where(fine > 0, 1.0 / fine, 0.0).reshape(8, 2, 6, 2).sum((1, 3))
    torch.testing.assert_close(coarse * counts, torch.full((8, 6), 4.0))
    again = prepare_gain(coarse, (16, 12))
    assert torch.equal(again[::2, 1::2], coarse)
    assert prepare_gain(fine, (6, 8), orientation=Orientation(90)).shape == (6, 8)


def test_dark_counts_are_neither_lost_nor_made():
    dark = torch.rand(8, 12, generator=seeded_generator(1))
    assert float(prepare_dark(dark, (4, 6)).sum()) == pytest.approx(float(dark.sum()), rel=1e-6)
    assert float(prepare_dark(dark, (32, 48)).sum()) == pytest.approx(float(dark.sum()), rel=1e-6)
    assert torch.equal(prepare_dark(dark, (12, 8), orientation=Orientation(270)), Orientation(270).apply(dark))


def test_references_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match="gain reference is 9 x 8 pixels and the frames are 8 x 8"):
        prepare_gain(torch.ones(8, 9), (8, 8))
    with pytest.raises(ShapeError, match="dark reference is 24 x 24"):
        prepare_dark(torch.ones(24, 24), (8, 8))
    with pytest.raises(InputError, match="negative values"):
        prepare_gain(torch.randn(8, 8, generator=seeded_generator(0)), (8, 8))
    broken = torch.ones(10, 10)
    broken[:3] = 0.0
    with pytest.raises(InputError, match="30% of the pixels"):
        prepare_gain(broken, (10, 10))
    with pytest.raises(ShapeError, match="map of defects is 8 x 8"):
        Detector(shape=(9, 8), defects=torch.zeros(8, 8, dtype=torch.bool))
    with pytest.raises(InputError, match="near the identity"):
        Detector(shape=(9, 8), magnification=3 * torch.eye(2))


@pytest.mark.parametrize("angle", [0.0, 35.0, 120.0])
def test_motioncors_stretch_makes_a_recorded_grid_square(angle):
    major, minor = 1.03, 0.98
    matrix = magnification_matrix(major, minor, angle).numpy()
    x, y = np.meshgrid(np.arange(-3, 4), np.arange(-3, 4))
    grid = 50.0 * np.stack([x.ravel(), y.ravel()])
    recorded = matrix @ grid
    # MotionCor, with y down: stretched along the axis by major / minor, nothing across
    down = recorded * [[1.0], [-1.0]]
    axis = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    corrected = down + (major / minor - 1) * np.outer(axis, axis @ down)
    np.testing.assert_allclose(corrected * [[1.0], [-1.0]], grid, atol=1e-9)
    if angle:
        mirrored = recorded + (major / minor - 1) * np.outer(axis, axis @ recorded)
        assert np.abs(mirrored - grid).max() > 1.0
    with pytest.raises(InputError, match="cannot be"):
        magnification_matrix(5.0, 1.0, 0.0)


def test_relions_matrix_is_applied_to_frequencies():
    relion = torch.tensor([[1.02, 0.03], [-0.01, 0.99]], dtype=torch.float64)
    matrix = magnification_from_relion(relion).numpy()
    places = np.array([[9.0, 4.0], [-6.0, 8.0]])
    x, y = np.meshgrid(np.arange(-40, 41), np.arange(-40, 41))
    points = np.stack([x.ravel(), y.ravel()])
    original = np.linalg.inv(matrix) @ points
    recorded = sum(np.exp(-((original - c[:, None]) ** 2).sum(0) / 18.0) for c in places)
    for k in np.array([[0.03, 0.0], [0.01, 0.05], [-0.04, 0.02]]):
        found = (recorded * np.exp(-2j * np.pi * k @ points)).sum()
        q = relion.numpy() @ k  # RELION reads the reference there
        expected = sum(18 * np.pi * np.exp(-2 * np.pi**2 * 9 * q @ q) * np.exp(-2j * np.pi * q @ c) for c in places)
        assert found == pytest.approx(expected * np.linalg.det(matrix), rel=1e-6)


# --- defects -------------------------------------------------------------------------------------------------------------


def bead_scene(shape: tuple[int, int], counts: float) -> torch.Tensor:
    """Gold beads of 12 px with sharp rims, and a shadow with a sharp edge."""
    y, x = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    image = torch.full(shape, counts)
    for by, bx in ((30, 40), (60, 120), (100, 25), (140, 150), (75, 76)):
        image[(y - by) ** 2 + (x - bx) ** 2 < 6**2] = 0.4 * counts
    image[:, 170:] = 0.05 * counts
    return image


@pytest.mark.parametrize("transposed", [False, True])
def test_every_kind_of_defect_is_found_and_nothing_else(transposed):
    shape = (512, 400)
    gain = random_gain(shape)
    frames = counted(3.0 / gain, 10)
    expected = torch.zeros(shape, dtype=torch.bool)
    for y, x, value in ((5, 5, 200), (200, 30, 9), (201, 30, 9), (511, 399, 255), (0, 200, 0), (77, 250, 0)):
        frames[:, y, x] = value
        expected[y, x] = True
    frames[:, :, 99] = 0
    expected[:, 99] = True
    frames[:, :256, 310] = (frames[:, :256, 310].float() * 1.6).to(torch.uint8)  # the lower half of a column
    expected[:256, 310] = True
    frames[:, 333] += frames[:, 334]
    expected[333] = True
    frames[4, 120, 130] = 90  # an X-ray
    if transposed:
        frames, gain, expected = frames.transpose(1, 2), gain.T.contiguous(), expected.T
    found, _ = defects_of(frames, gain=gain)
    assert torch.equal(found.mask, expected)
    place = (120, 130) if not transposed else (130, 120)
    assert found.event_places.tolist() == [place[0] * frames.shape[2] + place[1]]
    assert found.counts["events"] == 1
    assert found.counts["hot"] == 5
    assert found.counts["columns" if not transposed else "rows"] > 200


@pytest.mark.parametrize("counts", [2.0, 30.0])
def test_beads_and_shadows_are_no_defects(counts):
    scene = bead_scene((180, 200), counts)
    frames = counted(scene, 8)
    frames[:, 91, 20] = min(255, int(counts * 8))
    found, _ = defects_of(frames)
    assert bool(found.mask[91, 20])
    assert int(found.mask.sum()) == 1


@pytest.mark.parametrize("counts", [0.005, 0.05, 1.0])
def test_rare_counts_are_no_defects(counts):
    found, _ = defects_of(counted(torch.full((256, 256), counts), 10))
    assert int(found.mask.sum()) == 0
    assert len(found.event_places) == 0


def test_a_half_blocked_image_keeps_its_pixels():
    mean = torch.full((128, 192), 8.0)
    mean[:, :120] = 0.02
    frames = counted(mean, 4)
    frames[:, 60, 160] = 255
    found, _ = defects_of(frames)
    assert bool(found.mask[60, 160])
    assert int(found.mask.sum()) == 1


def test_known_defects_dead_gain_and_dark_counts_are_used():
    shape = (96, 128)
    gain = random_gain(shape)
    gain[10, 20] = 0.0
    known = torch.zeros(shape, dtype=torch.bool)
    known[40:50, 60:70] = True
    dark = torch.zeros(shape)
    dark[70] = 20.0
    frames = counted(5.0 / gain.clamp(min=0.5) + dark, 6)
    found, camera = defects_of(frames, gain=gain, dark=dark, defects=known)
    assert found.counts == {"known": 101, "hot": 0, "dead": 0, "columns": 0, "rows": 0, "events": 0}
    corrected = correct_frames(frames, camera, found)
    assert float(corrected[:, 70].mean()) == pytest.approx(5.0, abs=4 * np.sqrt(25 / 6 / 128))
    assert float(corrected[:, known].mean()) == pytest.approx(5.0, rel=0.1)
    without, _ = defects_of(frames, gain=gain, defects=known)
    assert bool(without.mask[70].all())  # the row that the dark reference explains


def test_what_stands_in_is_noise_of_the_neighbours_kind():
    frames = counted(torch.full((200, 200), 9.0), 12)
    frames[:, 20:24] = 0
    frames[:, ::7, 50] = 255
    found, camera = defects_of(frames)
    assert int(found.mask.sum()) >= 800
    filled = correct_frames(frames, camera, found)[:, found.mask]
    # Poisson: the standard error of the variance of n counts of mean 9 is 9 sqrt(2 / n)
    assert float(filled.mean()) == pytest.approx(9.0, abs=5 * 3 / np.sqrt(filled.numel()) * 2)
    assert float(filled.var()) == pytest.approx(9.0, rel=0.1)
    # frames are independent, as true frames are: no neighbour is copied in all of them
    assert float(filled.sum(0).var()) == pytest.approx(12 * 9.0, rel=0.25)
    assert abs(float(torch.corrcoef(filled)[0, 1])) < 5 / np.sqrt(filled.shape[1])


def test_frames_come_out_the_same_however_the_movie_is_cut():
    gain = random_gain((90, 110))
    frames = counted(4.0 / gain, 9)
    frames[:, 30] = 0
    frames[:, 50, 60] = 200
    frames[7, 11, 12] = 99
    whole, cut = FrameTotals(255), FrameTotals(255)
    whole.add(frames)
    for block in frames.split([4, 1, 4]):
        cut.add(block)
    assert torch.equal(whole.total, cut.total)
    assert torch.equal(whole.peak, cut.peak)
    assert whole.frame_means == cut.frame_means
    camera = Detector(shape=(90, 110), gain=gain)
    found = find_defects(cut, camera, sigma=6.0, generator=seeded_generator(3))
    at_once = correct_frames(frames, camera, found)
    parts = [correct_frames(frames[a:b], camera, found, first_frame=a) for a, b in ((0, 4), (4, 5), (5, 9))]
    assert torch.equal(torch.cat(parts), at_once)
    assert float(at_once[7, 11, 12]) < 30  # the X-ray
    again = find_defects(whole, camera, sigma=6.0, generator=seeded_generator(3))
    assert torch.equal(correct_frames(frames, camera, again), at_once)
    other = find_defects(whole, camera, sigma=6.0, generator=seeded_generator(4))
    assert not torch.equal(correct_frames(frames, camera, other), at_once)
    # good pixels are the counts times the gain, to the last bit
    good = ~found.mask
    good[11, 12] = False
    assert torch.equal(at_once[:, good], (frames.float() * gain)[:, good])


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.int16, torch.float32])
def test_every_type_of_number_gives_the_same(kind):
    frames = counted(torch.full((64, 64), 5.0), 5)
    frames[:, 9, 9] = 100
    found, camera = defects_of(frames.to(kind))
    assert found.mask.nonzero().tolist() == [[9, 9]]
    expected, _ = defects_of(frames)
    assert torch.equal(correct_frames(frames.to(kind), camera, found), correct_frames(frames, camera, expected))


def test_counts_in_other_units_are_judged_alike():
    frames = counted(torch.full((128, 128), 5.0), 8).float()
    frames[:, 9, 9] = 40
    for unit in (1.0, 0.01, 37.5):
        found, _ = defects_of(frames * unit)
        assert found.mask.nonzero().tolist() == [[9, 9]]


def test_frames_without_use_are_named():
    frames = counted(torch.full((64, 64), 20.0), 6)
    frames[1] = 0
    frames[3, :32] = 255
    frames[4] = counted(torch.full((64, 64), 0.5), 1)[0]
    totals = FrameTotals(255)
    totals.add(frames[:2])
    totals.add(frames[2:])
    reasons = totals.unusable_frames()
    assert sorted(reasons) == [1, 3, 4]
    assert reasons[1] == "it holds no counts"
    assert "50% of its pixels hold 255" in reasons[3]
    assert "the beam was off" in reasons[4]


def test_bad_frames_are_refused():
    totals = FrameTotals()
    with pytest.raises(InputError, match="no frames"):
        _ = totals.total
    totals.add(torch.ones(2, 32, 32))
    broken = torch.ones(3, 32, 32)
    broken[1, 2, 3] = torch.nan
    with pytest.raises(InputError, match="Frame 4 holds values that are not numbers"):
        totals.add(broken)
    with pytest.raises(ShapeError, match="those before were 32 x 32"):
        totals.add(torch.ones(2, 32, 33))
    empty = FrameTotals()
    empty.add(torch.zeros(3, 32, 32, dtype=torch.uint8))
    with pytest.raises(InputError, match="holds no counts"):
        find_defects(empty, Detector(shape=(32, 32)), sigma=6.0, generator=seeded_generator(0))
    with pytest.raises(ShapeError, match="described with"):
        find_defects(totals, Detector(shape=(32, 31)), sigma=6.0, generator=seeded_generator(0))


# --- orientation of the gain ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("operation", ["multiply", "divide"])
def test_the_gain_is_found_in_each_of_its_eight_orientations(orientation, operation):
    shape = (200, 232)
    gain = random_gain(shape)
    counts = counted(bead_scene(shape, 3.0) / gain, 8).float().sum(0)
    stored = undone(orientation, gain)
    stored = 1.0 / stored if operation == "divide" else stored
    found = orient_gain(counts, stored)
    assert (found.orientation, found.operation, found.status) == (orientation, operation, "found")
    assert len(found.evidence) == 4  # the shape excludes the others
    assert abs(found.evidence[0].slope) == pytest.approx(1.0, abs=5 * found.evidence[0].sigma + 0.02)
    assert abs(found.evidence[1].significance) < 5


def test_the_errors_of_the_slopes_are_true_even_for_stripes():
    scores = []
    for seed in range(12):
        generator = seeded_generator(seed)
        stripes = torch.exp(
            0.05 * torch.randn(1, 192, generator=generator) + 0.01 * torch.randn(192, 192, generator=generator)
        )
        counts = torch.poisson(60.0 / stripes, generator=generator)
        other = torch.exp(
            0.05 * torch.randn(1, 192, generator=generator) + 0.01 * torch.randn(192, 192, generator=generator)
        )
        with pytest.raises(InputError, match="in no orientation") as refusal:
            orient_gain(counts, other)
        lines = str(refusal.value).splitlines()[1:]
        scores += [float(line.split("(")[1].split()[0]) for line in lines]
        right = orient_gain(counts, Orientation(90).apply(stripes))
        assert right.orientation.exchanges_axes
    # 96 numbers that should have a standard deviation of 1
    assert 0.7 < np.std(scores) < 1.4


def test_gains_of_super_resolution_are_turned_too():
    fine = random_gain((256, 192))
    coarse_sensitivity = (1 / fine).reshape(128, 2, 96, 2).mean((1, 3))
    counts = torch.poisson(60.0 * coarse_sensitivity, generator=seeded_generator(1))
    found = orient_gain(counts, undone(Orientation(90, "left-right"), fine))
    assert found.orientation == Orientation(90, "left-right")


def test_gains_that_do_not_belong_are_refused_with_the_reason():
    shape = (256, 256)
    gain = random_gain(shape)
    movies = torch.stack([torch.poisson(30.0 / gain, generator=seeded_generator(i)) for i in range(4)])
    with pytest.raises(InputError, match=r"another camera or another day.*\n.*sigma"):
        orient_gain(movies, random_gain(shape, seed=99))
    with pytest.raises(InputError, match="corrected already"):
        orient_gain(movies * gain, gain)
    with pytest.raises(InputError, match="either it is of another camera, or the movies are corrected"):
        orient_gain(movies[0], random_gain(shape, seed=99))
    with pytest.raises(InputError, match="of another time"):
        orient_gain(movies, gain**0.3 * random_gain(shape, seed=99))
    with pytest.raises(InputError, match="counts are too few"):
        orient_gain(torch.poisson(0.01 / gain, generator=seeded_generator(1)), gain)
    with pytest.raises(ShapeError, match="gain reference is 250 x 256"):
        orient_gain(movies, gain[:, :250])


def test_a_gain_that_looks_the_same_in_several_orientations_is_no_riddle():
    flat = orient_gain(torch.poisson(torch.full((64, 64), 9.0), generator=seeded_generator(1)), torch.ones(64, 64))
    assert (flat.status, flat.orientation, flat.operation) == ("flat", Orientation(), "multiply")
    gain = random_gain((192, 192))
    symmetric = 0.5 * (gain + gain.flip(0))
    counts = torch.poisson(40.0 / symmetric, generator=seeded_generator(1))
    found = orient_gain(counts, symmetric)
    assert (found.status, found.orientation) == ("alike", Orientation())
    # nearly symmetric, but not quite
    near = symmetric * random_gain((192, 192), seed=8, spread=0.02)
    with pytest.raises(InputError, match="2 orientations that differ"):
        orient_gain(torch.poisson(40.0 / symmetric, generator=seeded_generator(1)), near)


def test_an_old_gain_is_used_and_called_old():
    gain = random_gain((256, 256))
    old = gain * random_gain((256, 256), seed=3, spread=0.04)
    found = orient_gain(torch.poisson(40.0 / gain, generator=seeded_generator(1)), old)
    assert found.orientation == Orientation()
    assert "another day" in found.note


@pytest.mark.parametrize("series", ["TS_01", "TS_02", "TS_03"])
def test_one_practice_movie_tells_the_orientation(shared_data, series):
    folder = shared_data / "practice"
    truth = json.loads((folder / f"{series}_truth.json").read_text())
    gain = torch.from_numpy(np.array(read_gain(folder / "gain.mrc")))
    frames = read_movie(folder / "frames" / truth["names"][0])[0]  # the highest tilt: the fewest counts
    counts = torch.from_numpy(frames.sum(0, dtype=np.float32))
    for orientation in ORIENTATIONS:
        stored = undone(orientation, gain)
        for operation, reference in (("multiply", stored), ("divide", 1.0 / stored)):
            found = orient_gain(counts, reference)
            assert (found.orientation, found.operation) == (orientation, operation)
            assert abs(found.evidence[0].significance) > 50
            assert abs(found.evidence[1].significance) < 5


@pytest.mark.parametrize("series", ["TS_01", "TS_02", "TS_03"])
def test_the_hot_pixels_of_practice_movies_are_found(shared_data, series):
    folder = shared_data / "practice"
    truth = json.loads((folder / f"{series}_truth.json").read_text())
    gain = torch.from_numpy(np.array(read_gain(folder / "gain.mrc")))
    # the first of TS_02 is blocked but for a quarter, and what a cyclic shift made of the shadow's edge lies at its rim
    for name in (truth["names"][0], truth["names"][len(truth["names"]) // 2]):
        frames = torch.from_numpy(read_movie(folder / "frames" / name)[0])
        found, _ = defects_of(frames, gain=prepare_gain(gain, (768, 768)))
        hot = (frames == 255).all(0)
        assert int(hot.sum()) == 40
        assert torch.equal(found.mask[:, 2:-1], hot[:, 2:-1])
        assert found.counts["hot"] == 40
        assert len(found.event_places) == 0
