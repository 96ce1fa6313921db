"""Point groups of maps made of blobs with known axes: found where they are, and only where there are any."""

import itertools

import numpy as np
import pytest
import torch
from imaged_blobs import DIAMETER, VOXEL, N, blobs
from scipy.spatial.transform import Rotation

from eucentric.averaging.map_centre import centre_of_mass, moved_map
from eucentric.averaging.point_group import GroupEvidence, chosen_group, detect_point_group, is_subgroup
from eucentric.averaging.point_group_params import PointGroupParams
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.projection.symmetrise import turned_mean

TURN = Rotation.from_rotvec([0.9, -0.5, 0.7]).as_matrix()
PLACE = np.array([0.8, -0.5, 0.4])
MASK = ball_mask(N, VOXEL, DIAMETER, 3.0 * VOXEL)
FEW = PointGroupParams(max_order=4, low_pass_angstrom=26.0)
FEWEST = PointGroupParams(max_order=3, cubic=False, low_pass_angstrom=26.0)


def halves(volume: torch.Tensor, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as strong as a part of the map's deviation inside the mask."""
    generator = torch.Generator().manual_seed(seed)
    level = noise * float((volume * MASK).std())
    return volume + level * torch.randn(volume.shape, generator=generator), volume + level * torch.randn(
        volume.shape, generator=generator
    )


def placed(group: str, seed: int = 3) -> torch.Tensor:
    """Blobs whose axes lie anywhere, about a point off the middle: what was at x is at TURN x + PLACE."""
    return moved_map(turned_mean(blobs(group, seed) * MASK, TURN.T[None]), PLACE)


@pytest.mark.parametrize("group", ["C1", "D3"])
def test_groups_are_found_with_their_axes(group):
    check_group(group, FEWEST)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["C1", "D3", "O"])
def test_groups_are_found_among_more(group):
    check_group(group, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "low_pass"),
    [("C2", 24.0), ("C3", 24.0), ("C5", 24.0), ("D2", 24.0), ("D7", 24.0), ("T", 24.0), ("I", 20.0)],
)
def test_other_groups_are_found_with_their_axes(group, low_pass):
    check_group(group, PointGroupParams(max_order=8, low_pass_angstrom=low_pass))


def check_group(group: str, params: PointGroupParams) -> None:
    half1, half2 = halves(placed(group), 0.3)
    found = detect_point_group(half1, half2, VOXEL, MASK, params)
    assert found.group == group, found.evidence[:4]
    if group == "C1":
        return
    # elements of the group, where they were found, are those that the map was made with
    true = TURN @ symmetry_rotations(group) @ TURN.T
    for g in found.rotation @ symmetry_rotations(group) @ found.rotation.T:
        nearest = symmetric_angle_deg(np.tile(g, (len(true), 1, 1)), true).min()
        assert nearest < 3.0
    if group[0] != "C":
        assert np.linalg.norm(found.centre_angstrom - PLACE * VOXEL) < 0.25 * VOXEL
    best = next(e for e in found.evidence if e.group == group)
    assert best.likeness > 0.9
    assert best.evidence > 3.0 * found.needed


@pytest.mark.slow
def test_noise_has_no_symmetry():
    generator = torch.Generator().manual_seed(1)
    half1, half2 = (torch.randn((N, N, N), generator=generator) for _ in range(2))
    found = detect_point_group(half1, half2, VOXEL, MASK, FEW)
    assert found.group == "C1", found.evidence[:3]


@pytest.mark.slow
def test_a_particle_that_is_merely_alike_is_not_symmetric():
    """Two lobes, one of them a third heavier: each half is noisy enough for the mean over both to foretell more than it loses."""
    line = torch.arange(N) - N // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    twins = torch.exp(-((x - 5) ** 2 + y**2 + z**2) / 12.0) + torch.exp(-((x + 5) ** 2 + y**2 + z**2) / 12.0)
    odd = blobs("C1", 8)
    mixed = twins / twins.std() + 1.2 * odd / odd.std()
    found = detect_point_group(*halves(mixed, 2.0), VOXEL, MASK, FEW)
    assert found.group == "C1", found.evidence[:3]


@pytest.mark.slow
def test_a_smooth_ring_has_no_order_of_its_own():
    line = torch.arange(N) - N // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    ring = torch.exp(-(((x**2 + y**2).sqrt() - 6.0) ** 2 + z**2) / 6.0)
    found = detect_point_group(*halves(ring, 1.0), VOXEL, MASK, FEW)
    assert len(found.rivals) > 1
    assert all(is_subgroup(found.group, rival) for rival in found.rivals)


def test_subgroups_are_those_of_the_rotations():
    """A smaller group can be part of a larger one only if the larger has an axis of each order for every one of its own."""

    def orders(name: str) -> dict[int, int]:
        traces = np.einsum("gii->g", symmetry_rotations(name))
        angles = np.rad2deg(np.arccos(np.clip(0.5 * (traces - 1.0), -1.0, 1.0)))
        return {int(a): int(np.sum(np.rint(angles) == a)) for a in np.unique(np.rint(angles))}

    for small, large in itertools.permutations(["C1", "C2", "C3", "C4", "C6", "D2", "D3", "D6", "T", "O", "I"], 2):
        own, whole = orders(small), orders(large)
        fits = len(symmetry_rotations(large)) % len(symmetry_rotations(small)) == 0
        # three-fold axes of T have no two-fold axis across them
        fits = fits and (small, large) != ("D3", "T") and all(whole.get(a, 0) >= count for a, count in own.items())
        assert is_subgroup(small, large) == fits, (small, large)


def test_groups_that_are_as_good_leave_what_they_share():
    def told(group: str, evidence: float, likeness: float = 0.9, *, supported: bool = True) -> GroupEvidence:
        return GroupEvidence(group=group, evidence=evidence, likeness=likeness, supported=supported)

    several = [told("D6", 100.0), told("D9", 95.0, 0.81), told("D3", 60.0), told("C3", 50.0), told("C2", 20.0)]
    assert chosen_group(several, 8.0) == ("D3", ("D6", "D9"))
    assert chosen_group([told("D9", 80.0, supported=False), told("D3", 70.0), told("C3", 69.0)], 8.0) == ("D3", ())
    assert chosen_group([told("D4", 80.0), told("C3", 75.0)], 8.0) == ("C1", ("D4", "C3"))
    assert chosen_group([told("D4", 80.0), told("D3", 50.0, 0.89), told("C2", 30.0)], 8.0) == ("C2", ("D4", "D3"))
    assert chosen_group([told("D4", 80.0), told("D3", 50.0, 0.81), told("C2", 30.0)], 8.0) == ("D4", ())
    assert chosen_group([told("O", 80.0), told("T", 75.0), told("D4", 30.0)], 8.0) == ("O", ())
    assert chosen_group([told("D9", 5.0, supported=False)], 8.0) == ("C1", ())


def test_a_larger_group_wins_unless_what_it_adds_is_less_alike():
    def told(group: str, evidence: float, likeness: float, *, supported: bool = True) -> GroupEvidence:
        return GroupEvidence(group=group, evidence=evidence, likeness=likeness, supported=supported)

    # two-fold axes that are a little off: their copies have 0.94
    assert chosen_group([told("C7", 607.0, 0.98), told("D7", 561.0, 0.96)], 8.0) == ("D7", ())
    # their copies have 0.79, which is another thing than 0.98
    assert chosen_group([told("C7", 607.0, 0.98), told("D7", 300.0, 0.88)], 8.0) == ("C7", ())
    # in steps: D2 adds to C2, and O to D2
    assert chosen_group([told("C2", 80.0, 0.97), told("D2", 78.0, 0.96), told("O", 70.0, 0.95)], 8.0) == ("O", ())
    assert chosen_group([told("T", 80.0, 0.9), told("O", 75.0, 0.9), told("D4", 30.0, 0.9)], 8.0) == ("O", ())
    assert chosen_group([told("T", 80.0, 0.9), told("O", 75.0, 0.85, supported=False)], 8.0) == ("T", ())


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_maps_are_superposed(seed):
    first = blobs("C1", seed) * MASK
    second = placed("C1", seed)
    noisy = halves(second, 0.5, seed)[0]
    found = superpose_maps(first, noisy * MASK, VOXEL, detail_angstrom=24.0, diameter_angstrom=DIAMETER)
    # moving(Q x + c) = fixed(x), and what was at x of the first is at TURN x + PLACE of the second
    assert symmetric_angle_deg(found.rotation[None], TURN[None]).max() < 2.0
    assert np.linalg.norm(found.move - PLACE) < 0.3
    assert found.likeness > 0.7
    with pytest.raises(ShapeError, match="superposed"):
        superpose_maps(first, noisy[1:, 1:, 1:], VOXEL, detail_angstrom=24.0, diameter_angstrom=DIAMETER)


def test_a_map_is_moved_by_what_its_centre_says():
    volume = blobs("C1", 2)
    before, after = centre_of_mass(volume), centre_of_mass(moved_map(volume, PLACE))
    np.testing.assert_allclose(after - before, PLACE, atol=0.02)
    np.testing.assert_array_equal(centre_of_mass(torch.zeros(8, 8, 8)), 0.0)


def test_wrong_input_is_told():
    half1, half2 = halves(blobs(), 1.0)
    with pytest.raises(ShapeError, match="cubes of the same even size"):
        detect_point_group(half1, half2[:-2], VOXEL, MASK)
    with pytest.raises(InputError, match="mask is empty"):
        detect_point_group(half1, half2, VOXEL, 0.0 * MASK)
    with pytest.raises(InputError, match="finer than voxels"):
        detect_point_group(half1, half2, VOXEL, MASK, PointGroupParams(low_pass_angstrom=5.0))
