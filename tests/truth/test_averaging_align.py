"""Poses of simulated particles: found from anywhere, made exact, and no better than noise allows."""

import numpy as np
import pytest
import torch
from imaged_blobs import DIAMETER, VOXEL, N, blobs, imaged, random_poses
from scipy.spatial.transform import Rotation

from eucentric.averaging import align_candidates
from eucentric.averaging.align_climb import climb_pose
from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_prior import Prior
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples, image_samples
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.search_poses import search_poses
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.projection.turned import score_turned


@pytest.fixture(scope="module")
def particle() -> torch.Tensor:
    return blobs()


@pytest.fixture(scope="module")
def reference(particle: torch.Tensor) -> AlignReference:
    return AlignReference.build(particle, VOXEL, low_pass_angstrom=18.0, diameter_angstrom=DIAMETER)


def test_poses_of_particles_without_noise_are_exact(particle, reference):
    rotations, shifts = random_poses(4, 1)
    batch = imaged(particle, rotations, shifts, 0.0)
    found = search_poses(batch, reference, AlignParams(search="global", shift_angstrom=20.0))
    # what linear interpolation of the reference leaves: a tenth of a degree and of a pixel
    assert symmetric_angle_deg(found.rotations, rotations).max() < 0.1
    assert np.linalg.norm(found.shifts_angstrom - shifts, axis=1).max() < 0.1 * VOXEL


@pytest.mark.parametrize("search", ["local", "cone", "global"])
def test_noisy_poses_are_found_as_well_as_noise_allows(particle, reference, search):
    rotations, shifts = random_poses(6, 2)
    batch = imaged(particle, rotations, shifts, 30.0)
    rng = np.random.default_rng(3)
    if search == "cone":  # any turn about the particle's own axis
        own = Rotation.from_rotvec(rng.uniform(-3, 3, (6, 1)) * np.array([0.0, 0.0, 1.0])).as_matrix()
        given = rotations @ own
    else:
        given = Rotation.from_rotvec(np.deg2rad(4.0) * rng.normal(size=(6, 3))).as_matrix() @ rotations
    params = AlignParams(search=search, shift_angstrom=20.0, reach_deg=15.0)
    found = search_poses(batch, reference, params, rotations=given)
    error = symmetric_angle_deg(found.rotations, rotations)
    away = np.linalg.norm(found.shifts_angstrom - shifts, axis=1)
    # the median length of three normal numbers is 1.54 deviations; 6 of them scatter by a third
    assert 0.7 < np.median(error / found.sigma_deg) < 2.6, (np.median(error), np.median(found.sigma_deg))
    assert 0.7 < np.median(away / found.sigma_angstrom) < 2.6, (np.median(away), np.median(found.sigma_angstrom))
    assert error.max() < 6.0
    assert 0.1 < np.median(found.sigma_deg) < 2.0
    assert found.scores.min() > 5.0


def test_symmetric_particles_are_searched_once_and_scored_as_well():
    volume = blobs("D3", seed=4)
    reference = AlignReference.build(volume, VOXEL, low_pass_angstrom=18.0, diameter_angstrom=DIAMETER)
    rotations, shifts = random_poses(4, 5)
    batch = imaged(volume, rotations, shifts, 100.0)
    found = search_poses(batch, reference, AlignParams(search="global", shift_angstrom=20.0), symmetry="D3")
    assert symmetric_angle_deg(found.rotations, rotations, "D3").max() < 3.0
    plain = search_poses(batch, reference, AlignParams(search="global", shift_angstrom=20.0))
    np.testing.assert_allclose(found.scores, plain.scores, rtol=1e-3)


def test_particles_scored_one_by_one_are_found_as_together(particle, reference, monkeypatch):
    rotations, shifts = random_poses(3, 13)
    batch = imaged(particle, rotations, shifts, 30.0)
    params = AlignParams(search="global", shift_angstrom=20.0, climb=False)
    together = search_poses(batch, reference, params)
    monkeypatch.setattr(align_candidates, "_MOST_SCORES", 1)
    alone = search_poses(batch, reference, params)
    np.testing.assert_allclose(alone.rotations, together.rotations, atol=1e-6)
    np.testing.assert_allclose(alone.scores, together.scores, rtol=1e-5)
    # without the climb poses are those of the finest step
    assert np.isnan(together.sigma_deg).all()
    assert symmetric_angle_deg(together.rotations, rotations).max() < 8.0


def test_both_forms_of_a_particle_score_alike(particle, reference):
    rotations, shifts = random_poses(1, 6, reach=0.0)
    batch = imaged(particle, rotations, shifts, 100.0)
    highest = 0.4
    volumes = VolumeSamples(N, highest, batch.weight)
    cube = volumes.of(batch, 0)
    trials = Rotation.random(12, rng=np.random.default_rng(7)).as_matrix()
    place = torch.zeros((1, 3))
    in_cube = score_turned(reference.transform, volumes.samples, trials, cube.data, cube.power, place).reshape(-1)
    seen = image_samples(batch, 0, float(volumes.samples.frequencies.norm(dim=1).max()) + 1e-6)
    free = Prior(rotation=np.eye(3), move=np.zeros(3), per_rad2=0.0, per_voxel2=0.0)
    one_step = {"reach_rad": 1e-9, "reach_voxels": 1e-9}
    in_images = [climb_pose(reference.transform, seen, t, np.zeros(3), free, **one_step).score for t in trials]
    # norms differ a little by the box's edge; overlaps do not
    spread = float(np.std(in_images))
    assert np.abs(np.array(in_images) - in_cube.numpy()).max() < 0.15 * spread


def test_a_climb_is_the_top_of_the_likelihood(particle, reference):
    """Its gradient agrees with differences of the value, so what it ends at is a maximum of that value."""
    rotations, shifts = random_poses(1, 8, reach=4.0)
    batch = imaged(particle, rotations, shifts, 100.0)
    seen = image_samples(batch, 0, 0.4)
    free = Prior(rotation=np.eye(3), move=np.zeros(3), per_rad2=0.0, per_voxel2=0.0)
    start = Rotation.from_rotvec([0.05, -0.04, 0.03]).as_matrix() @ rotations[0]
    reach = {"reach_rad": 0.1, "reach_voxels": 1.0}
    top = climb_pose(reference.transform, seen, start, shifts[0] / VOXEL + 0.3, free, **reach)
    still = {"reach_rad": 1e-12, "reach_voxels": 1e-12}
    for axis in np.eye(3):
        for sign in (-1, 1):
            turned = Rotation.from_rotvec(sign * 0.01 * axis).as_matrix() @ top.rotation
            assert climb_pose(reference.transform, seen, turned, top.move, free, **still).score < top.score
            moved = top.move + sign * 0.1 * axis
            assert climb_pose(reference.transform, seen, top.rotation, moved, free, **still).score < top.score


def test_priors_pull_poses_to_the_given_ones(particle, reference):
    rotations, shifts = random_poses(3, 9, reach=0.0)
    batch = imaged(particle, rotations, shifts, 200.0)
    given = Rotation.from_rotvec([0.05, 0.0, 0.0]).as_matrix() @ rotations
    free = search_poses(batch, reference, AlignParams(reach_deg=10.0), rotations=given)
    held = search_poses(
        batch,
        reference,
        AlignParams(reach_deg=10.0, prior="orientation", prior_sigma_deg=0.01, prior_angstrom=0.01),
        rotations=given,
    )
    assert symmetric_angle_deg(held.rotations, given).max() < 0.05
    assert np.linalg.norm(held.shifts_angstrom, axis=1).max() < 0.05
    assert symmetric_angle_deg(free.rotations, given).min() > 0.5


def test_priors_may_be_about_other_poses_and_about_axes_alone(particle, reference):
    rotations, shifts = random_poses(3, 12, reach=0.0)
    batch = imaged(particle, rotations, shifts, 60.0)
    tight = AlignParams(reach_deg=12.0, prior="orientation", prior_sigma_deg=0.01, prior_angstrom=0.01)
    other = Rotation.from_rotvec([0.0, 0.05, 0.0]).as_matrix() @ rotations
    moves = np.full((3, 3), 3.0)
    held = search_poses(batch, reference, tight, rotations=rotations, expected=(other, moves))
    assert symmetric_angle_deg(held.rotations, other).max() < 0.1
    np.testing.assert_allclose(held.shifts_angstrom, moves, atol=0.1)
    # about its own axis a particle is free to turn
    spun = rotations @ Rotation.from_rotvec([0.0, 0.0, 0.1]).as_matrix()
    axes = search_poses(batch, reference, tight.replace(prior="normal"), rotations=spun)
    np.testing.assert_allclose(axes.rotations[:, :, 2], rotations[:, :, 2], atol=2e-3)
    assert symmetric_angle_deg(axes.rotations, rotations).max() < 1.5 < np.rad2deg(0.1)


def test_particles_that_no_image_shows_keep_their_poses(particle, reference):
    rotations, shifts = random_poses(2, 10)
    batch = imaged(particle, rotations, shifts, 50.0)
    first = batch.particle == 0
    only = ParticleImages(
        data=batch.data[first],
        weight=batch.weight[first],
        particle=batch.particle[first],
        tilt=batch.tilt[first],
        matrices=batch.matrices[first],
        count=2,
        voxel_size_angstrom=VOXEL,
    )
    found = search_poses(only, reference, AlignParams(), rotations=rotations)
    assert found.scores[1] == 0.0
    np.testing.assert_array_equal(found.rotations[1], rotations[1])
    assert found.scores[0] > 5.0


def test_what_does_not_fit_is_refused(particle, reference):
    rotations, shifts = random_poses(1, 11)
    batch = imaged(particle, rotations, shifts, 50.0)
    with pytest.raises(InputError, match="NaN"):
        search_poses(batch, reference, AlignParams(), rotations=np.full((1, 3, 3), np.nan))
    with pytest.raises(InputError, match="local search needs"):
        search_poses(batch, reference, AlignParams())
    with pytest.raises(ShapeError, match="shape"):
        search_poses(batch, reference, AlignParams(), rotations=np.tile(np.eye(3), (2, 1, 1)))
    other = AlignReference.build(particle, 7.0, low_pass_angstrom=20.0, diameter_angstrom=DIAMETER)
    with pytest.raises(ShapeError, match="expected the same"):
        search_poses(batch, other, AlignParams(search="global"))
    with pytest.raises(InputError, match="larger boxes"):
        AlignReference.build(particle, VOXEL, low_pass_angstrom=20.0, diameter_angstrom=300.0)
    with pytest.raises(InputError, match="nothing to align to"):
        AlignReference.build(torch.zeros((16, 16, 16)), VOXEL, low_pass_angstrom=20.0, diameter_angstrom=60.0)
    with pytest.raises(ShapeError, match="cube"):
        AlignReference.build(torch.rand((16, 16, 15)), VOXEL, low_pass_angstrom=20.0, diameter_angstrom=60.0)
