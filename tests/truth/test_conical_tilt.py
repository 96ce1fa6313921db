"""Random conical tilt of simulated particles that lie the same way up: turns from untilted images, the map from tilted ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from imaged_blobs import VOXEL, N, blobs, imaged

from eucentric.averaging.ab_initio import LikelyPoses, StartJob
from eucentric.averaging.ab_initio_images import selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import refine_start
from eucentric.averaging.conical_tilt import find_conical_starts, tilt_pairs
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.errors import InputError
from eucentric.geometry.rotations import rotation_x, rotation_z
from eucentric.geometry.so3 import symmetric_angle_deg

PARAMS = InitialModelParams(
    diameter_angstrom=180.0, random_conical_tilt=True, iterations=8, batch_particles=12, shift_angstrom=12.0
)
COUNT = 28
COMPARED = {"detail_angstrom": 60.0, "diameter_angstrom": 180.0}


def pairs(rotations: np.ndarray, noise: float = 25.0, angles: tuple[int, ...] = (1, 2)) -> ParticleImages:
    """Images at two of the tilts -60, 0, 60."""
    every = imaged(blobs(), rotations, places(len(rotations)), noise, step=60.0)
    rows = np.flatnonzero(np.isin(every.tilt, angles))
    return replace(
        every,
        data=every.data[rows],
        weight=every.weight[rows],
        particle=every.particle[rows],
        tilt=every.tilt[rows],
        matrices=every.matrices[rows],
    )


def places(count: int) -> np.ndarray:
    return np.random.default_rng(2).uniform(-8.0, 8.0, (count, 3))


def turned(count: int, seed: int = 1) -> np.ndarray:
    return rotation_z(np.random.default_rng(seed).uniform(0.0, 360.0, count))


def likeness(volume: torch.Tensor) -> tuple[float, float]:
    """With the particle, and with its mirror image."""
    ball = ball_mask(N, VOXEL, 180.0, 3.0 * VOXEL)
    truth = blobs() * ball
    found = superpose_maps(truth, volume * ball, VOXEL, **COMPARED)
    mirrored = superpose_maps(truth, volume.flip(2).roll(1, 2) * ball, VOXEL, **COMPARED)
    return found.likeness, mirrored.likeness


def map_of_true_poses(images: ParticleImages, rotations: np.ndarray) -> torch.Tensor:
    """What can be had at best: the cone about the normal is not measured."""
    job = StartJob.of(images, PARAMS)
    poses = replace(LikelyPoses.by_chance(rotations), moves=places(len(rotations))[:, None] / VOXEL)
    return job.solved(*job.sums(np.arange(len(rotations)), poses))


@pytest.fixture(scope="module")
def images():
    return pairs(turned(COUNT))


def test_particles_the_same_way_up_give_their_map(images):
    (start,) = find_conical_starts(images, PARAMS)
    right, mirrored = likeness(start.volume)
    at_best, _ = likeness(map_of_true_poses(images, turned(COUNT)))
    assert right > 0.93 * at_best
    assert mirrored < 0.9 * right
    assert start.particles == COUNT - round(PARAMS.held_out * COUNT)


@pytest.mark.slow
def test_halves_begun_with_it_find_the_turns(images):
    (start,) = find_conical_starts(images, PARAMS)
    model = refine_start(images, start, 1 + np.arange(COUNT) % 2, PARAMS.replace(rounds=3))
    found = superpose_maps(blobs(), model.volume, VOXEL, **COMPARED)
    errors = symmetric_angle_deg(model.poses.rotations @ found.rotation, turned(COUNT))
    assert np.median(errors) < 10.0, errors


@pytest.mark.slow
def test_two_faces_are_told_apart():
    over = np.arange(2 * COUNT) % 2 == 1
    rotations = turned(2 * COUNT)
    rotations[over] = rotations[over] @ rotation_x(180.0)
    starts = find_conical_starts(pairs(rotations), PARAMS.replace(faces=2, iterations=20, starts=5))
    assert len(starts) == 2
    # either face is the particle, the other way up
    at_best, _ = likeness(map_of_true_poses(pairs(turned(COUNT)), turned(COUNT)))
    for start in starts:
        right, mirrored = likeness(start.volume)
        assert right > 0.85 * at_best
        assert mirrored < 0.9 * right


def test_untilted_images_are_the_least_tilted(images):
    both, flat = tilt_pairs(images)
    assert len(both.particle) == 2 * COUNT
    np.testing.assert_array_equal(flat.particle, np.arange(COUNT))
    np.testing.assert_array_equal(flat.tilt, 1)


def test_series_without_an_untilted_image_are_refused(images):
    with pytest.raises(InputError, match="No particle is seen both in an image tilted by less than 15"):
        find_conical_starts(pairs(turned(2), angles=(0, 2)), PARAMS)
    with pytest.raises(InputError, match="7 particles are seen"):
        find_conical_starts(selected_particles(images, np.arange(7)), PARAMS)
