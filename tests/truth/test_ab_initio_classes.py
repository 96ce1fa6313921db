"""Several initial models at once, of simulated particles: kinds told apart, false picks in a class of their own."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from imaged_blobs import VOXEL, N, blobs, imaged, random_poses
from scipy.integrate import quad

from eucentric.averaging.ab_initio import LikelyPoses, StartJob, log_likelihoods
from eucentric.averaging.ab_initio_classes import ClassStarts, find_class_starts
from eucentric.averaging.ab_initio_images import selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import refine_start
from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.errors import InputError
from eucentric.fourier.grid import frequency_grid

PARAMS = InitialModelParams(
    diameter_angstrom=180.0, classes=2, starts=2, iterations=14, batch_particles=8, shift_angstrom=8.0, held_out=0.25
)
NOISE = 25.0


def mixed(*volumes: torch.Tensor, count: int, noise: float = NOISE) -> tuple[ParticleImages, np.ndarray]:
    """As many particles of each map, in chance orientations, and the map that each is of."""
    parts = []
    for i, volume in enumerate(volumes):
        rotations, shifts = random_poses(count, 5 + i, reach=5.0)
        parts.append(imaged(volume, rotations, shifts, noise, step=20.0, seed=i))
    return ParticleImages.joined(parts), np.repeat(np.arange(len(volumes)), count)


@pytest.fixture(scope="module")
def sorted_kinds() -> tuple[ClassStarts, np.ndarray, ParticleImages]:
    images, kinds = mixed(blobs(seed=0), blobs(seed=3), count=16)
    return find_class_starts(images, PARAMS), kinds, images


def test_kinds_are_told_apart_without_orientations(sorted_kinds):
    found, kinds, _ = sorted_kinds
    assert adjusted_rand(kinds, found.best.labels) > 0.85, found.best.labels
    assert found.gain > 2.0 * found.gain_error
    assert found.best.probabilities.sum(1) == pytest.approx(1.0)
    # each map is nearer to its own kind
    for number, volume in enumerate(found.best.volumes):
        own = np.bincount(kinds[found.best.labels == number]).argmax()
        like = [
            superpose_maps(blobs(seed=s), volume, VOXEL, detail_angstrom=60.0, diameter_angstrom=180.0).likeness
            for s in (0, 3)
        ]
        assert like[own] > like[1 - own] + 0.02, like


@pytest.mark.slow
def test_false_picks_fall_into_a_class_of_their_own():
    images, kinds = mixed(blobs(seed=0), blobs(seed=0), torch.zeros(N, N, N), count=10)
    found = find_class_starts(images, PARAMS.replace(starts=3))
    assert adjusted_rand(kinds == 2, found.best.labels) > 0.8, found.best.labels
    assert found.best.volumes[0].std() > 2.0 * found.best.volumes[1].std()


@pytest.mark.slow
def test_beginnings_agree_and_the_same_seed_gives_the_same_classes(sorted_kinds):
    found, _, images = sorted_kinds
    again = find_class_starts(images, PARAMS)
    assert found.agreement > 0.7
    assert list(found.evidence) == sorted(found.evidence, reverse=True)
    assert found.evidence == again.evidence
    np.testing.assert_array_equal(found.best.labels, again.best.labels)
    alone = find_class_starts(images, PARAMS.replace(starts=1, iterations=4))
    assert math.isnan(alone.agreement)


@pytest.mark.slow
def test_noise_speaks_for_no_second_class_and_for_no_map():
    images, _ = mixed(torch.zeros(N, N, N), count=32, noise=40.0)
    found = find_class_starts(images, PARAMS)
    assert found.gain < 2.0 * found.gain_error, (found.gain, found.gain_error)
    for number in range(2):
        rows = np.flatnonzero(found.best.labels == number)
        if len(rows) >= 8:
            own, halves = selected_particles(images, rows), 1 + np.arange(len(rows)) % 2
            model = refine_start(own, found.best.start(number), halves, PARAMS.replace(rounds=2))
            assert not model.goes_beyond_start, model.resolutions_angstrom


@pytest.mark.slow
def test_one_kind_speaks_for_no_second_class():
    images, _ = mixed(blobs(seed=0), count=32)
    found = find_class_starts(images, PARAMS)
    assert found.gain < 2.0 * found.gain_error or found.agreement < 0.5, (found.gain, found.gain_error, found.agreement)


@pytest.mark.parametrize(("overlap", "norm"), [(30.0, 20.0), (0.0, 20.0), (-5.0, 3.0)])
def test_likelihoods_are_means_over_contrasts(overlap, norm):
    spread = 0.3

    def weighed(a: float) -> float:
        chance = math.exp(-0.5 * ((a - 1.0) / spread) ** 2) / (spread * math.sqrt(2.0 * math.pi))
        return math.exp(a * overlap - 0.5 * a * a * norm) * chance

    expected = math.log(quad(weighed, -3.0, 5.0, points=[0.0, 1.0, 1.5])[0])
    given = (torch.tensor(overlap, dtype=torch.float64), torch.tensor(norm, dtype=torch.float64))
    assert float(log_likelihoods(*given, spread)) == pytest.approx(expected, abs=1e-6)
    # free contrasts: the best that is not below zero
    assert float(log_likelihoods(*given)) == pytest.approx(max(overlap, 0.0) ** 2 / (2.0 * norm))


def test_too_few_particles_for_so_many_classes_are_refused(sorted_kinds):
    few = selected_particles(sorted_kinds[2], np.arange(15))
    with pytest.raises(InputError, match="2 maps at once need 16 at least"):
        find_class_starts(few, PARAMS)


def test_coarse_sums_are_those_of_all_detail(sorted_kinds):
    images = selected_particles(sorted_kinds[2], np.arange(8))
    job = StartJob.of(images, PARAMS)
    assert job.coarse.box_size < images.box_size
    rotations, shifts = random_poses(8, 3, reach=1.0)
    poses = replace(LikelyPoses.by_chance(rotations), moves=shifts[:, None])
    found, whole = job.sums(np.arange(8), poses), replace(job, coarse=images).sums(np.arange(8), poses)
    # both are blurred by the edges of their cubes, of which the coarse one is the wider
    for a, b in zip(found, whole, strict=True):
        inside = frequency_grid((N, N, N), VOXEL) < 1.0 / job.detail
        assert (a - b)[inside].abs().square().sum() < 0.15**2 * b[inside].abs().square().sum()
    volumes = [job.solved(*sums).flatten() for sums in (found, whole)]
    assert torch.corrcoef(torch.stack(volumes))[0, 1] > 0.99
