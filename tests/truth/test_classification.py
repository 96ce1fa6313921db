"""Classes of simulated particles: found, not made up, and told apart from what is not the particle."""

import numpy as np
import pytest
import torch
from imaged_blobs import VOXEL, N, blobs, imaged, random_poses

from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.classify_alignment import pose_in_classes
from eucentric.averaging.classify_checks import adjusted_rand, caveats, relations
from eucentric.averaging.classify_components import sort_by_components
from eucentric.averaging.classify_data import CubeGrid, Differences, joined_differences, particle_differences
from eucentric.averaging.classify_mixture import MixtureData, sort_mixture, sort_several
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.soft_mask import ball_mask
from eucentric.errors import InputError, ShapeError
from eucentric.projection.slices import extract_slices, volume_to_grid

COUNT, NOISE = 64, 30.0


def two_states() -> list[torch.Tensor]:
    """A particle, and the same with a blob elsewhere."""
    line = torch.arange(N) - N // 2

    def blob(x: float, y: float, z: float) -> torch.Tensor:
        away = (line[:, None, None] - z) ** 2 + (line[:, None] - y) ** 2 + (line - x) ** 2
        return torch.exp(-away / 4.5)

    whole = blobs()
    return [whole + 3.0 * blob(7.0, 0.0, 0.0), whole + 3.0 * blob(0.0, 7.0, 3.0)]


def mixed(noise: float, *, same: bool = False) -> tuple[ParticleImages, np.ndarray, np.ndarray]:
    """Particles of both states, their poses and states; of one state only where `same`."""
    rotations, none = random_poses(COUNT, 3, reach=0.0)
    states = np.arange(COUNT) % 2
    volumes = two_states()
    parts = [
        imaged(volumes[0 if same else k], rotations[states == k], none[states == k], noise, seed=k, step=20.0)
        for k in (0, 1)
    ]
    return ParticleImages.joined(parts), np.concatenate([rotations[states == k] for k in (0, 1)]), np.sort(states)


def compared(batch: ParticleImages, rotations: np.ndarray, average: torch.Tensor) -> MixtureData:
    volumes = VolumeSamples(N, VOXEL / 24.0, batch.weight)
    grid = CubeGrid.of(volumes, VOXEL)
    parts = [particle_differences(batch, rotations, volumes, average, np.eye(3)[None])]
    given = joined_differences(grid, parts, torch.arange(batch.count))
    mask = grid.on_cube(ball_mask(N, VOXEL, 170.0, 30.0))
    return MixtureData.build(given, mask, grid.on_cube(average), seed=0)


@pytest.fixture(scope="module")
def sorted_data() -> tuple[MixtureData, np.ndarray]:
    batch, rotations, states = mixed(NOISE)
    return compared(batch, rotations, 0.5 * sum(two_states())), states


def test_the_likelihood_of_a_difference_is_that_of_the_images():
    rotations, none = random_poses(1, 5, reach=0.0)
    first, second = two_states()
    # a small noise level keeps the weights and makes nothing of the likelihood vanish
    batch = imaged(second, rotations, none, 0.0, step=10.0)
    volumes = VolumeSamples(N, 0.45, batch.weight)
    grid = CubeGrid.of(volumes, VOXEL)
    data, power = particle_differences(batch, rotations, volumes, first, np.eye(3)[None])
    change = grid.spectra(grid.on_cube(second - first)[None])[0]
    overlap, norm = float((data[0].conj() * change).real.sum()), float((power[0] * change.abs().square()).sum())

    slices = extract_slices(volume_to_grid(second - first, (2 * N,) * 3), batch.slice_matrices(rotations), N) * VOXEL
    share = torch.full((N // 2 + 1,), 2.0)
    share[0] = share[-1] = 1.0
    expected = float((batch.weight * slices.abs().square() * share).sum())
    # without noise, data less the average are the difference itself, so both sums are the same
    assert overlap == pytest.approx(expected, rel=0.02)
    # weights are smoothed over the box
    assert norm == pytest.approx(expected, rel=0.1)


def test_two_states_are_told_apart_whatever_the_beginning(sorted_data):
    data, states = sorted_data
    found = sort_mixture(data, 2, 3, seed=1)
    assert adjusted_rand(found.best.labels, states) > 0.9
    assert found.best.gain > 0.1
    assert found.agreement > 0.9
    np.testing.assert_allclose(found.best.probabilities.sum(1), 1.0)
    # the difference found is the one between the states
    grid = data.given.grid
    true = grid.on_cube(two_states()[1] - two_states()[0])
    apart = grid.maps(found.best.differences)
    sign = 1.0 if found.best.labels[states == 1].mean() > 0.5 else -1.0
    seen = sign * (apart[1] - apart[0])
    assert np.corrcoef(seen.ravel(), true.ravel())[0, 1] > 0.6


def test_groups_along_principal_differences_are_the_states(sorted_data):
    data, states = sorted_data
    found = sort_by_components(data, 2, 3, 2, seed=0)
    assert adjusted_rand(found.best.labels, states) > 0.9
    assert found.coordinates is not None
    assert found.components is not None
    # the first holds the states, the others hold noise
    assert abs(np.corrcoef(found.coordinates[:, 0], states)[0, 1]) > 0.8
    assert found.coordinates[:, 0].std() > 1.5 * found.coordinates[:, 1].std()


def test_nothing_speaks_for_classes_of_one_state():
    batch, rotations, _ = mixed(NOISE, same=True)
    found = sort_mixture(compared(batch, rotations, two_states()[0]), 2, 2, seed=0)
    assert found.best.gain < 0.05


def test_beginnings_that_mean_something_are_gone_on_from(sorted_data):
    data, states = sorted_data
    shares = np.full((COUNT, 2), 0.3)
    shares[np.arange(COUNT), states] = 0.7
    found = sort_several(data, 2, 0, seed=0, first=shares)
    assert adjusted_rand(found.best.labels, states) > 0.9
    assert np.isnan(found.agreement)


def test_a_mask_elsewhere_hides_the_difference(sorted_data):
    data, states = sorted_data
    line = torch.arange(data.mask.shape[0]) - data.mask.shape[0] // 2
    here = torch.zeros_like(data.mask)
    here[:, :, line < -4] = 1.0
    hidden = MixtureData(
        given=data.given,
        order=data.order,
        bounds=data.bounds,
        mask=data.mask * here,
        floor=data.floor,
        excess=data.excess,
    )
    found = sort_several(hidden, 2, 2, seed=0)
    assert adjusted_rand(found.best.labels, states) < 0.3


def test_one_particle_with_a_bead_is_no_class():
    batch, rotations, states = mixed(NOISE)
    volumes = VolumeSamples(N, VOXEL / 24.0, batch.weight)
    grid = CubeGrid.of(volumes, VOXEL)
    average = 0.5 * sum(two_states())
    data, power = particle_differences(batch, rotations, volumes, average, np.eye(3)[None])
    bead = grid.spectra(grid.on_cube(100.0 * ball_mask(N, VOXEL, 40.0, 20.0))[None])[0]
    data[:2] += power[:2] * bead
    given = Differences(grid=grid, data=data, power=power)
    mask = grid.on_cube(ball_mask(N, VOXEL, 170.0, 30.0))
    found = sort_mixture(MixtureData.build(given, mask, grid.on_cube(average), seed=0), 2, 2, seed=0)
    assert adjusted_rand(found.best.labels[2:], states[2:]) > 0.85


def test_particles_go_to_the_map_that_they_show():
    batch, rotations, states = mixed(NOISE)
    references = [AlignReference.build(v, VOXEL, low_pass_angstrom=24.0, diameter_angstrom=170.0) for v in two_states()]
    found = pose_in_classes(batch, references, None, rotations, "C1")
    assert adjusted_rand(found.log_likelihoods.argmax(1), states) > 0.9
    turned, moved = found.of(states)
    np.testing.assert_array_equal(turned, rotations)
    assert not moved.any()


def test_few_particles_are_refused():
    batch, rotations, _ = mixed(NOISE)
    volumes = VolumeSamples(N, VOXEL / 40.0, batch.weight)
    grid = CubeGrid.of(volumes, VOXEL)
    data, power = particle_differences(batch, rotations, volumes, None, np.eye(3)[None])
    few = Differences(grid=grid, data=data[:15], power=power[:15])
    cube = torch.ones((grid.side,) * 3)
    with pytest.raises(InputError, match="16 or more"):
        MixtureData.build(few, cube, cube, seed=0)
    with pytest.raises(InputError, match="No particle is seen"):
        joined_differences(grid, [], torch.zeros(0))


def test_the_adjusted_rand_index_is_that_of_the_literature():
    # the worked example of Hubert & Arabie's formula: pairs 1, of rows 1, of columns 2, of 6
    assert adjusted_rand(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])) == pytest.approx(4.0 / 7.0)
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array(["b", "b", "a", "a"])) == 1.0
    assert adjusted_rand(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(-0.5)
    with pytest.raises(ShapeError, match="cannot be compared"):
        adjusted_rand(np.zeros(2), np.zeros(3))


def test_classes_that_go_with_something_else_are_told():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(200) % 2)  # equal classes: quarters of a number then lie in one each
    defocus = 20000.0 + 3000.0 * labels + rng.normal(size=200)
    found = relations(
        labels,
        {
            "the tomogram": rng.choice(["a", "b"], 200),
            "the defocus": defocus,
            "the number of images": np.full(200, 41),
        },
    )
    assert [r.name for r in found] == ["the tomogram", "the defocus"]
    assert not found[0].suspicious
    assert found[1].suspicious
    assert found[1].information == pytest.approx(1.0, abs=0.05)
    assert found[1].cramers_v > 0.95 > 0.3 > found[0].cramers_v
    words = caveats(found)
    assert len(words) == 1
    assert "defocus" in words[0]
