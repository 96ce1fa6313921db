"""Membranes without training against phantoms: bilayers by a formula of their own, with noise and a missing wedge."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.membranes.bilayer_filter import bilayer_transform
from eucentric.segmentation.membranes.segment_membranes import segment_membranes
from eucentric.segmentation.membranes.vote import cast_votes, cast_votes_plainly
from eucentric.segmentation.params import MembraneParams
from eucentric.signal.ridges import sheet_strength, smooth_volume

VOXEL = 10.0
SHAPE = (48, 64, 88)
CENTRE = np.array([-210.0, 60.0, 15.0])
RADIUS = 205.0
NOISE = 0.5


def leaflets(distance: np.ndarray) -> np.ndarray:
    """Two heads 37 A apart and tails between them, as Gaussians, matter positive."""
    heads = np.exp(-0.5 * ((np.abs(distance) - 18.5) / 5.0) ** 2)
    return heads + 0.4 * np.exp(-0.5 * (distance / 9.0) ** 2)


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * VOXEL for n in SHAPE), indexing="ij")
    return x, y, z


def vesicle() -> np.ndarray:
    x, y, z = grid()
    return leaflets(np.sqrt((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2) - RADIUS)


def tube() -> np.ndarray:
    """Along y, wide enough to stand beside the vesicle."""
    x, _, z = grid()
    return leaflets(np.sqrt((x - 270.0) ** 2 + (z + 20.0) ** 2) - 130.0)


def recorded(matter: np.ndarray, noise: float, *, seed: int = 0) -> torch.Tensor:
    """Matter dark, at 3 um of defocus with flipped phases; white noise; nothing of either beyond 60 degrees of tilt about y."""
    rng = np.random.default_rng(seed)
    kz, ky = (torch.fft.fftfreq(n, VOXEL) for n in SHAPE[:2])
    kz, ky, kx = kz[:, None, None], ky[:, None], torch.fft.rfftfreq(SHAPE[2], VOXEL)
    transfer = torch.sin(math.pi * 0.0197 * 30_000.0 * (kz**2 + ky**2 + kx**2) + 0.07).abs()
    spectrum = -transfer * torch.fft.rfftn(torch.from_numpy(matter))
    spectrum += torch.fft.rfftn(torch.from_numpy(noise * rng.normal(size=SHAPE)))
    return torch.fft.irfftn(spectrum * (kz.abs() <= math.tan(math.radians(60.0)) * kx.abs()), s=SHAPE).float()


def only_noise() -> torch.Tensor:
    """As half the difference of two half volumes would be."""
    return recorded(np.zeros(SHAPE), NOISE, seed=5)


def sphere_points(count: int = 3000) -> np.ndarray:
    i = np.arange(count) + 0.5
    z = 1.0 - 2.0 * i / count
    flat, turn = np.sqrt(1.0 - z**2), math.pi * (1.0 + math.sqrt(5.0)) * i
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def places_angstrom(found: object) -> np.ndarray:
    return (found.places_px - np.array(SHAPE[::-1]) // 2) * VOXEL  # type: ignore[attr-defined]


def measured(normals: np.ndarray, slack: float = 1.0) -> np.ndarray:
    """Normals whose line in Fourier space was recorded."""
    return np.abs(normals[:, 2]) <= slack * math.tan(math.radians(60.0)) * np.abs(normals[:, 0])


@pytest.fixture(scope="module")
def two_bodies() -> object:
    return segment_membranes(recorded(vesicle() + tube(), NOISE), VOXEL, MembraneParams(), noise=only_noise())


def test_vesicle_and_tube_are_two_sheets_found_where_they_are(two_bodies):
    got = two_bodies
    assert len(got.areas_angstrom2) >= 2
    points = places_angstrom(got)
    directions = sphere_points()
    seen = measured(directions, 0.8)
    far, _ = cKDTree(points).query(CENTRE + RADIUS * directions)
    assert (far[seen] <= 2.0 * VOXEL).mean() >= 0.95
    to_vesicle = np.linalg.norm(points - CENTRE, axis=1) - RADIUS
    to_tube = np.hypot(points[:, 0] - 270.0, points[:, 2] + 20.0) - 130.0
    nearest = np.minimum(np.abs(to_vesicle), np.abs(to_tube))
    # beyond the rims of what the wedge leaves, sheets are drawn out a little
    assert (nearest[got.seen] > 2.0 * VOXEL).mean() <= 0.1
    assert (nearest > 2.0 * VOXEL).mean() <= 0.25
    # every sheet belongs to one body
    owner = np.abs(to_vesicle) < np.abs(to_tube)
    for number in np.unique(got.numbers):
        share = owner[got.numbers == number].mean()
        assert min(share, 1.0 - share) <= 0.02


def test_places_between_voxels_lie_on_the_mid_surface(two_bodies):
    points = places_angstrom(two_bodies)
    away = points - CENTRE
    distance = np.linalg.norm(away, axis=1) - RADIUS
    own = (np.abs(distance) < 30.0) & two_bodies.seen
    assert own.sum() > 1000
    assert np.sqrt((distance[own] ** 2).mean()) <= 0.85 * VOXEL
    # the radius of the sphere through the places, within 3%
    design = np.concatenate([2.0 * points[own], np.ones((own.sum(), 1))], axis=1)
    solution = np.linalg.lstsq(design, (points[own] ** 2).sum(1), rcond=None)[0]
    radius = math.sqrt(solution[3] + (solution[:3] ** 2).sum())
    assert radius == pytest.approx(RADIUS, rel=0.03)
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    along = (unit * two_bodies.normals).sum(1)[own]
    assert np.median(along) > 0.97  # outwards


def test_labels_are_as_thick_as_a_bilayer_and_carry_the_numbers_of_the_places(two_bodies):
    at = np.rint(two_bodies.places_px).astype(int)
    inside = ((at >= 0) & (at < SHAPE[::-1])).all(1)
    labels = two_bodies.labels.numpy()
    agree = labels[tuple(at[inside, ::-1].T)] == two_bodies.numbers[inside]
    assert agree.mean() > 0.98
    thickness = (labels > 0).sum() * VOXEL**3 / two_bodies.areas_angstrom2.sum()
    assert 35.0 < thickness < 60.0
    assert list(two_bodies.areas_angstrom2) == sorted(two_bodies.areas_angstrom2, reverse=True)


def test_two_near_sheets_stay_two():
    x, _, _ = grid()
    matter = leaflets(x + 40.0) + leaflets(x - 90.0)
    got = segment_membranes(recorded(matter, NOISE), VOXEL, MembraneParams(), noise=only_noise())
    x_found = places_angstrom(got)[:, 0]
    assert len(got.areas_angstrom2) == 2
    for number in (1, 2):
        place = x_found[got.numbers == number]
        assert min(abs(place.mean() + 40.0), abs(place.mean() - 90.0)) < 3.0
        assert place.std() < 6.0


def test_noise_holds_no_membrane():
    got = segment_membranes(recorded(np.zeros(SHAPE), 1.0, seed=1), VOXEL, MembraneParams())
    assert got.areas_angstrom2.sum() == 0.0
    assert not got.labels.any()


def test_levels_from_a_part_of_the_noise_are_those_of_all_of_it():
    """Votes of short reach: the control is then cut to its middle."""
    x, _, _ = grid()
    volume = recorded(leaflets(x - 90.0), NOISE)
    got = segment_membranes(volume, VOXEL, MembraneParams(bridge_angstrom=30.0), noise=only_noise())
    assert len(got.places_px) > 1000
    assert (np.abs(places_angstrom(got)[:, 0] - 90.0) < 20.0).mean() > 0.95


@pytest.mark.slow
def test_contrast_and_scale_do_not_matter(two_bodies):
    volume = recorded(vesicle() + tube(), NOISE)
    bright = segment_membranes(
        -37.0 * volume + 5.0, VOXEL, MembraneParams(contrast="bright"), noise=-37.0 * only_noise()
    )
    assert (two_bodies.labels == bright.labels).float().mean() > 0.999


@pytest.mark.slow
def test_a_mask_is_used_and_noise_as_strong_as_the_volume_leaves_nothing():
    volume = recorded(vesicle() + tube(), NOISE)
    x, _, _ = grid()
    left = torch.from_numpy(x < 60.0)
    got = segment_membranes(volume, VOXEL, MembraneParams(), counted=left, noise=only_noise())
    assert len(got.places_px) > 500
    assert (places_angstrom(got)[:, 0] < 80.0).all()
    none = segment_membranes(volume, VOXEL, MembraneParams(), noise=volume)
    assert len(none.places_px) == 0


def test_the_profile_has_the_sign_that_leaflets_have_at_the_inverse_of_their_distance():
    k = torch.tensor([0.0, 1.0 / 80.0, 1.0 / 37.0])
    transform = bilayer_transform(k)
    assert float(transform[0]) == pytest.approx(1.0)
    assert transform[1] > 0 > transform[2]
    stretched = bilayer_transform(k * 37.0 / 50.0, 50.0)
    torch.testing.assert_close(stretched, transform)


def test_fast_votes_equal_the_plain_ones():
    rng = np.random.default_rng(3)
    shape = (13, 17, 22)
    places = torch.from_numpy(np.stack([rng.integers(0, n, 25) for n in shape], 1))
    normals = torch.from_numpy(rng.normal(size=(3, 25))).float()
    normals /= normals.norm(dim=0)
    weights = torch.rand(25, generator=torch.Generator().manual_seed(1))
    fast = cast_votes(shape, places, normals, weights, 3.0)
    plain = cast_votes_plainly(shape, places, normals, weights, 3.0)
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)  # float32 sums in another order


def test_votes_of_a_point_go_round_the_circle_through_it():
    """A vote for the place at angle a on a circle through the voter is its normal there."""
    normal = torch.tensor([[0.0], [0.0], [1.0]])
    votes = cast_votes_plainly((41, 3, 41), torch.tensor([[20, 1, 8]]), normal, torch.ones(1), 10.0)
    # a circle of radius 15 with its centre 15 ahead in x, at the angle whose sine is 0.8: 12 away in z, 6 in x
    tensor = votes[:, 20 + 12, 1, 8 + 6]
    expected = torch.tensor([0.64, 0.0, 0.36, 0.0, -0.48, 0.0])
    torch.testing.assert_close(tensor / (tensor[0] + tensor[2]), expected, atol=1e-6, rtol=0)


def test_strength_of_a_sheet_a_thread_and_a_ball():
    z, y, x = torch.meshgrid(*(torch.arange(31.0) - 15,) * 3, indexing="ij")
    middle = (15, 15, 15)
    sheet = sheet_strength(smooth_volume((x.abs() < 1).float(), 2.0), alone=True)[middle]
    thread = sheet_strength(smooth_volume(((x**2 + y**2) < 2).float(), 2.0), alone=True)[middle]
    ball = sheet_strength(smooth_volume(((x**2 + y**2 + z**2) < 3).float(), 2.0), alone=True)[middle]
    assert sheet > 0
    assert abs(float(thread)) < 0.02 * float(sheet)
    assert abs(float(ball)) < 0.02 * float(sheet)


@pytest.mark.parametrize(
    ("volume", "voxel", "mask", "words"),
    [
        (torch.zeros(20, 20, 20), 10.0, None, "no contrast"),
        (torch.full((20, 20, 20), math.nan), 10.0, None, "not numbers"),
        (torch.rand(20, 20, 20), 0.0, None, "voxel size"),
        (torch.rand(20, 20, 20), 60.0, None, "finer"),
        (torch.rand(8, 20, 20), 10.0, None, "16"),
        (torch.rand(20, 20, 20), 10.0, torch.zeros(20, 20, 20, dtype=torch.bool), "no voxel"),
    ],
)
def test_bad_input_is_told(volume, voxel, mask, words):
    with pytest.raises(InputError, match=words):
        segment_membranes(volume, voxel, MembraneParams(), counted=mask)


def test_other_shapes_are_told():
    volume = torch.rand(20, 20, 20)
    with pytest.raises(ShapeError, match="expected the same"):
        segment_membranes(volume, 10.0, MembraneParams(), noise=volume[:-1])
    with pytest.raises(ShapeError, match="volume"):
        segment_membranes(volume[0], 10.0, MembraneParams())
    with pytest.raises(InputError, match="lower level"):
        MembraneParams(low_false_share=0.001)
