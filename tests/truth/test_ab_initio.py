"""Initial models of simulated particles: right from chance orientations, of the right hand, and nothing from noise."""

import numpy as np
import pytest
import torch
from imaged_blobs import DIAMETER, VOXEL, N, blobs, imaged, random_poses

from eucentric.averaging.ab_initio import find_starts, start_detail
from eucentric.averaging.ab_initio_images import selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import InitialModel, refine_start
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.errors import InputError
from eucentric.geometry.so3 import symmetric_angle_deg

PARAMS = InitialModelParams(
    diameter_angstrom=180.0, starts=2, iterations=8, batch_particles=10, rounds=2, shift_angstrom=12.0
)
COUNT = 24


def model_of(images: ParticleImages) -> tuple[InitialModel, list[float]]:
    starts = find_starts(images, PARAMS)
    halves = 1 + np.arange(images.count) % 2
    return refine_start(images, starts[0], halves, PARAMS), [s.evidence for s in starts]


@pytest.fixture(scope="module")
def made():
    rotations, shifts = random_poses(COUNT, 5, reach=8.0)
    images = imaged(blobs(), rotations, shifts, 25.0, step=15.0)
    return model_of(images), rotations, images


def test_the_map_is_that_of_the_particles(made):
    (model, evidence), rotations, _ = made
    ball = ball_mask(N, VOXEL, DIAMETER, 3.0 * VOXEL)
    compared = {"detail_angstrom": 35.0, "diameter_angstrom": DIAMETER}
    truth = blobs() * ball
    found = superpose_maps(truth, model.volume * ball, VOXEL, **compared)
    assert found.likeness > 0.85
    # the mirror image is another particle
    mirrored = superpose_maps(truth, model.volume.flip(2).roll(1, 2) * ball, VOXEL, **compared)
    assert mirrored.likeness < 0.8 * found.likeness
    # V(Q x + c) is the truth: poses refer to the map's own axes
    errors = symmetric_angle_deg(model.poses.rotations @ found.rotation, rotations)
    assert np.median(errors) < 6.0, errors
    assert model.goes_beyond_start
    assert evidence == sorted(evidence, reverse=True)
    assert len(model.resolutions_angstrom) == PARAMS.rounds


@pytest.mark.slow
def test_the_same_seed_gives_the_same_start(made):
    images = selected_particles(made[2], np.arange(10))
    few = PARAMS.replace(starts=1, iterations=4)
    first, again = find_starts(images, few)[0], find_starts(images, few)[0]
    torch.testing.assert_close(first.volume, again.volume, rtol=0, atol=0)
    other = find_starts(images, few.replace(seed=1))[0]
    assert (other.volume - first.volume).abs().max() > 0.01 * first.volume.abs().max()


@pytest.mark.slow
def test_noise_gives_no_map_beyond_the_start():
    rotations, shifts = random_poses(COUNT, 6)
    images = imaged(torch.zeros(N, N, N), rotations, shifts, 40.0, step=15.0)
    model, _ = model_of(images)
    assert not model.goes_beyond_start, model.resolutions_angstrom


def test_detail_of_beginnings_follows_the_particle():
    assert start_detail(PARAMS) == pytest.approx(60.0)
    assert start_detail(PARAMS.replace(diameter_angstrom=60.0)) == PARAMS.low_pass_angstrom


def test_too_few_particles_and_small_boxes_are_refused(made):
    images = made[2]
    with pytest.raises(InputError, match="7 particles are seen"):
        find_starts(selected_particles(images, np.arange(7)), PARAMS)
    with pytest.raises(InputError, match="does not fit into a box"):
        find_starts(images, PARAMS.replace(diameter_angstrom=300.0))
