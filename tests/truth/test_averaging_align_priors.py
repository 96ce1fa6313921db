"""Priors of poses from geometry: fewer wrong poses from fewer trials, and a wrong prior is told."""

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from imaged_blobs import DIAMETER, VOXEL, blobs, imaged, random_poses
from scipy.spatial.transform import Rotation

from eucentric.averaging import align_candidates
from eucentric.averaging.align_candidates import SharedGrid, search_stages
from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_prior import Prior, check_prior, cone_rotations, expected_at_border
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.search_poses import search_poses
from eucentric.errors import InputError
from eucentric.geometry.so3 import sample_rotations, symmetric_angle_deg
from eucentric.geometry.symmetry import symmetry_rotations

SIGMA = 6.0
"""Degrees about each of two axes: nine of ten normals are within 13 degrees, half within 7."""
NORMAL = AlignParams(search="global", prior="normal", prior_sigma_deg=SIGMA)
Z = np.array([0.0, 0.0, 1.0])


def picked(rotations, seed, *, sigma=SIGMA, off_deg=0.0, upside_down=False):
    """Orientations as geometry gives them: z off by `sigma` about x and y, any turn about it; off by more where asked."""
    rng = np.random.default_rng(seed)
    n = len(rotations)
    tilt = Rotation.from_rotvec(np.deg2rad(sigma) * rng.normal(size=(n, 3)) * [1, 1, 0])
    spin = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi, (n, 1)) * Z)
    wrong = Rotation.from_rotvec(np.deg2rad(off_deg) * np.array([1.0, 0.0, 0.0]))
    over = Rotation.from_rotvec(np.pi * np.array([1.0, 0.0, 0.0]) * (upside_down * rng.integers(0, 2, (n, 1))))
    return rotations @ (wrong * tilt * over * spin).as_matrix()


@pytest.fixture(scope="module")
def reference():
    return AlignReference.build(blobs(), VOXEL, low_pass_angstrom=18.0, diameter_angstrom=DIAMETER)


@pytest.fixture(scope="module")
def noisy():
    rotations, shifts = random_poses(32, 1)
    return imaged(blobs(), rotations, shifts, 150.0), rotations


@pytest.fixture
def trials(monkeypatch):
    """Orientations scored after the first step that all particles share."""
    count, score = [0], align_candidates.score_turned

    def counted(transform, samples, rotations, *rest):
        count[0] += len(rotations)
        return score(transform, samples, rotations, *rest)

    monkeypatch.setattr(align_candidates, "score_turned", counted)
    return count


def test_known_normals_leave_fewer_wrong_poses_than_all_orientations(reference, noisy, trials):
    batch, rotations = noisy
    free = search_poses(batch, reference, AlignParams(search="global"))
    in_free = trials[0]
    held = search_poses(batch, reference, NORMAL, rotations=picked(rotations, 2))
    in_held = trials[0] - in_free
    both = search_poses(
        batch, reference, NORMAL.replace(prior="axis"), rotations=picked(rotations, 3, upside_down=True)
    )
    wrong = [np.mean(symmetric_angle_deg(f.rotations, rotations) > 15.0) for f in (free, held, both)]
    assert wrong[0] > 0.25, wrong
    assert wrong[1] < 0.5 * wrong[0], wrong
    assert wrong[2] < 0.7 * wrong[0], wrong
    # the free search has scored all orientations before, and both directions of an axis are followed to the end
    in_both = trials[0] - in_free - in_held
    assert in_held < 0.6 * in_free, (in_free, in_held, in_both)
    assert in_both < 2.2 * in_held, (in_free, in_held, in_both)
    assert free.evidence is None
    assert held.evidence.shape == (32,)
    assert held.evidence.mean() > 1.0
    # the curvature of the likelihood alone is that of a free search
    assert np.median(held.sigma_deg) < 1.05 * np.median(free.sigma_deg)


def test_evidence_and_border_tell_a_wrong_prior(reference, noisy):
    batch, rotations = noisy
    stage = search_stages(reference, NORMAL, batch.box_size)[0]
    volumes = VolumeSamples(batch.box_size, stage.highest, batch.weight)
    grid = SharedGrid(reference, volumes, stage, NORMAL, "C1")
    seen = [volumes.of(batch, i) for i in range(batch.count)]

    def evidence(given, params=NORMAL):
        told = grid.evidence(seen, [Prior.of(params, g, np.zeros(3), VOXEL, "C1") for g in given])
        return told.mean() / (told.std() / np.sqrt(len(told)))

    assert evidence(picked(rotations, 2)) > 4.0
    assert evidence(picked(rotations, 2, off_deg=180.0)) < -4.0
    assert evidence(picked(rotations, 3, upside_down=True), NORMAL.replace(prior="axis")) > 3.0


def test_poses_pile_up_at_the_border_of_normals_that_are_off(reference):
    rotations, shifts = random_poses(16, 4)
    batch = imaged(blobs(), rotations, shifts, 60.0)
    for off, wrong in ((0.0, False), (35.0, True)):
        given = picked(rotations, 5, off_deg=off)
        found = search_poses(batch, reference, NORMAL, rotations=given)
        check = check_prior(NORMAL, found.rotations, given, "C1")
        assert check is not None
        assert check.wrong is wrong, (off, check)


def test_a_right_prior_leaves_the_expected_part_at_its_border():
    rotations = Rotation.random(4000, rng=np.random.default_rng(6)).as_matrix()
    check = check_prior(NORMAL, rotations, picked(rotations, 7), "C1")
    assert check is not None
    part = expected_at_border()
    assert abs(check.at_border / 4000 - part) < 4.0 * np.sqrt(part * (1 - part) / 4000)  # four deviations
    assert not check.wrong
    doubled = check_prior(NORMAL, rotations, picked(rotations, 8, sigma=2.0 * SIGMA), "C1")
    assert doubled is not None
    assert doubled.wrong
    assert check_prior(AlignParams(prior="orientation"), rotations, rotations, "C1") is None


@pytest.mark.parametrize(
    ("group", "kind"), [("C1", "normal"), ("C4", "normal"), ("C1", "axis"), ("D3", "axis"), ("D2", "normal")]
)
@pytest.mark.parametrize("own", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
def test_a_cone_holds_every_orientation_about_the_axis(group, kind, own):
    params = AlignParams(prior=kind, own_axis=own)
    cone = cone_rotations(params, group, 30.0, 10.0)
    every = sample_rotations(14.0)
    prior = Prior.of(params, np.eye(3), np.zeros(3), 1.0, group)
    inside = every[np.degrees(prior.away_rad(every)) < 30.0]
    assert len(inside) > 30
    nearest = np.array([symmetric_angle_deg(cone, np.broadcast_to(r, cone.shape), group).min() for r in inside])
    # half the diagonal of a cell of 10 degrees along each axis, and as much again at the rim, where the square grid ends
    assert nearest.max() < 8.7 + 5.0
    assert np.degrees(prior.away_rad(cone)).max() < 30.0 + 1e-6
    np.testing.assert_allclose(cone[0], np.eye(3), atol=1e-12)


@settings(max_examples=25, deadline=None)
@drawn(
    seed=st.integers(0, 10_000),
    group=st.sampled_from(["C1", "C3", "D2", "T"]),
    kind=st.sampled_from(["orientation", "normal", "axis"]),
)
def test_a_prior_is_the_same_for_all_copies_and_its_gradient_that_of_its_value(seed, group, kind):
    rng = np.random.default_rng(seed)
    given, pose = Rotation.random(2, rng=rng).as_matrix()
    move = rng.normal(size=3)
    params = AlignParams(prior=kind, prior_sigma_deg=20.0, prior_angstrom=3.0)
    prior = Prior.of(params, given, rng.normal(size=3), 2.0, group)
    value, slope = prior.cost(pose, move)
    copies = pose @ symmetry_rotations(group)
    if kind == "axis":
        copies = np.concatenate([copies, copies @ Rotation.from_rotvec([np.pi, 0, 0]).as_matrix()])
    np.testing.assert_allclose([prior.cost(copy, move)[0] for copy in copies], value, rtol=1e-6)
    np.testing.assert_allclose(
        prior.costs(copies), value - 0.5 * prior.per_voxel2 * ((move - prior.move) ** 2).sum(), rtol=1e-5, atol=1e-6
    )
    step = 1e-6
    for axis in range(3):
        turned = [
            prior.cost(Rotation.from_rotvec(s * step * np.eye(3)[axis]).as_matrix() @ pose, move)[0] for s in (-1, 1)
        ]
        moved = [prior.cost(pose, move + s * step * np.eye(3)[axis])[0] for s in (-1, 1)]
        assert (turned[1] - turned[0]) / (2 * step) == pytest.approx(slope[axis], rel=1e-3, abs=1e-3)
        assert (moved[1] - moved[0]) / (2 * step) == pytest.approx(slope[3 + axis], rel=1e-4, abs=1e-4)


def test_places_stay_within_a_reach_along_the_axis_and_are_free_across(reference):
    rotations, _ = random_poses(6, 9)
    axis = rotations[:, :, 2]
    across = np.cross(axis, [1.0, 0.0, 0.0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    batch = imaged(blobs(), rotations, 15.0 * across + 2.0 * axis, 40.0)
    params = NORMAL.replace(shift_along_angstrom=4.0)
    inside = search_poses(batch, reference, params, rotations=rotations)
    assert symmetric_angle_deg(inside.rotations, rotations).max() < 5.0
    np.testing.assert_allclose(inside.shifts_angstrom, 15.0 * across + 2.0 * axis, atol=4.0)
    # what lies farther along is not gone after
    slid = imaged(blobs(), rotations, 15.0 * across + 16.0 * axis, 40.0)
    held = search_poses(slid, reference, params, rotations=rotations)
    along = np.einsum("ni,ni->n", held.shifts_angstrom, axis)
    assert np.abs(along).max() < 4.0 + 1e-6
    free = search_poses(slid, reference, NORMAL, rotations=rotations)
    assert np.median(np.einsum("ni,ni->n", free.shifts_angstrom, axis)) > 12.0


def test_places_beyond_a_reach_are_not_tried_unless_none_is_nearer():
    prior = Prior(
        rotation=np.eye(3), move=np.zeros(3), per_rad2=1.0, per_voxel2=0.0,
        own=Z[None], direction=Z, along_voxels=1.0,
    )  # fmt: skip
    line = np.repeat(np.array([-2.0, 0.0, 2.0])[:, None], 3, axis=1)
    cost = prior.place_costs(line, 0.5)
    assert cost is not None
    assert np.isinf(cost[[0, 2]]).all()
    assert (cost[1] == 0).all()
    far = prior.place_costs(line + 9.0, 0.5)
    assert far is not None
    assert np.isfinite(far[0]).all()
    np.testing.assert_allclose(prior.held(np.array([5.0, 6.0, -7.0])), [5.0, 6.0, -1.0])
    free = Prior(rotation=np.eye(3), move=np.zeros(3), per_rad2=1.0, per_voxel2=0.0)
    assert free.place_costs(line, 0.5) is None


def test_a_prior_of_what_was_not_given_is_refused(reference):
    rotations, shifts = random_poses(1, 11)
    with pytest.raises(InputError, match="prior of them"):
        search_poses(imaged(blobs(), rotations, shifts, 50.0), reference, NORMAL)
    with pytest.raises(InputError, match="prior of them"):
        search_poses(
            imaged(blobs(), rotations, shifts, 50.0), reference, AlignParams(search="global", prior="orientation")
        )
