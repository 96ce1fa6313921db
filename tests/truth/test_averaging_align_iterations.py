"""Alignment and averaging in turns: to the map that is there, and to none where there is only noise."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from imaged_blobs import DIAMETER, VOXEL, N, blobs, imaged, random_poses
from scipy.spatial.transform import Rotation

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.correlate_maps import resolution_against_truth
from eucentric.averaging.iterate_average import (
    SeriesParticles,
    align_and_sum,
    average_of,
    compared_detail,
    diameter_of,
    filtered_half,
    joined_halves,
    on_voxels,
)
from eucentric.averaging.params import AverageParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.so3 import symmetric_angle_deg

_APART = 10_000.0  # A between particles, so that each is known by its place


@dataclass
class Imaged:
    """Stands for a tilt series: gives the images of the particles nearest to the places asked for."""

    parts: list[ParticleImages]

    def particles(self, positions_angstrom):
        numbers = np.rint(positions_angstrom[:, 0] / _APART).astype(int)
        away = positions_angstrom - np.outer(numbers, [_APART, 0.0, 0.0])
        return ParticleImages.joined([self.parts[i] for i in numbers]).moved(away)


def as_series(volume, rotations, shifts, noise, step):
    parts = [
        imaged(volume, r[None], s[None], noise, seed=i, step=step)
        for i, (r, s) in enumerate(zip(rotations, shifts, strict=True))
    ]
    source = Imaged(parts)
    return [SeriesParticles(rows=np.arange(len(parts)), images=lambda: source)]


def low_passed(volume, cut):
    grid = frequency_grid((N, N, N), VOXEL)
    return torch.fft.irfftn(torch.fft.rfftn(volume) * band_pass(grid, low_pass_angstrom=cut), s=(N, N, N))


def iterated(series, given, positions, start, cut, rounds, *, reach, shift):
    """Poses, places and averages of some rounds."""
    halves = np.arange(len(given)) % 2 + 1
    references = (AlignReference.build(start, VOXEL, low_pass_angstrom=cut, diameter_angstrom=DIAMETER),) * 2
    out, start_cut = [], cut
    for _ in range(rounds):
        params = AlignParams(reach_deg=reach, shift_angstrom=shift)
        done = align_and_sum(series, positions, given, halves, references, params)
        result = average_of(done, AverageParams(), halves)
        given, positions = done.poses.rotations, positions + done.poses.shifts_angstrom
        cut = compared_detail(result.correlation)
        filtered = [filtered_half(h, result.mask, result.correlation, cut) for h in (result.half1, result.half2)]
        filtered = joined_halves(filtered[0], filtered[1], VOXEL, start_cut)
        diameter = diameter_of(filtered[0] + filtered[1], VOXEL)
        references = tuple(
            AlignReference.build(f, VOXEL, low_pass_angstrom=cut, diameter_angstrom=diameter) for f in filtered
        )
        out.append(result)
        reach, shift = max(4.0, 0.5 * reach), max(VOXEL, 0.5 * shift)
    return given, positions, out


def test_iterations_find_the_map_and_the_poses():
    volume = blobs()
    rng = np.random.default_rng(21)
    count = 16
    rotations, shifts = random_poses(count, 20, reach=8.0)
    series = as_series(volume, rotations, shifts, 15.0, 10.0)
    given = Rotation.from_rotvec(np.deg2rad(5.0) * rng.normal(size=(count, 3))).as_matrix() @ rotations
    places = np.outer(np.arange(count), [_APART, 0.0, 0.0])
    found, at, results = iterated(series, given, places, low_passed(volume, 50.0), 50.0, 2, reach=15.0, shift=12.0)
    error = symmetric_angle_deg(found, rotations)
    away = np.linalg.norm(at - places - shifts, axis=1)
    assert np.median(error) < 1.5 < np.median(symmetric_angle_deg(given, rotations))
    assert np.median(away) < 2.0
    reported = results[-1].correlation.resolution_angstrom
    true, _, _ = resolution_against_truth(results[-1].volume, volume, VOXEL, results[-1].mask)
    assert reported < 28.0
    assert true < 28.0
    assert results[-1].correlation.resolution_angstrom <= results[0].correlation.resolution_angstrom + 0.5


@pytest.mark.slow
def test_noise_aligned_to_a_template_shows_nothing_beyond_its_low_pass():
    """The reference-bias test: 500 boxes of noise; halves may agree on the template, never on finer detail."""
    volume, cut, count = blobs(), 45.0, 500
    rng = np.random.default_rng(31)
    rotations = Rotation.random(count, rng=rng).as_matrix()
    series = as_series(torch.zeros_like(volume), rotations, np.zeros((count, 3)), 100.0, 20.0)
    places = np.outer(np.arange(count), [_APART, 0.0, 0.0])
    _, _, results = iterated(series, rotations, places, low_passed(volume, cut), cut, 2, reach=30.0, shift=16.0)
    shell = 1.0 / (N * VOXEL)
    for result in results:
        found = result.correlation
        # half the soft edge of the low-pass, and a shell
        beyond = found.frequency > 1.1 / cut + shell
        assert 1.0 / found.resolution_angstrom < 1.1 / cut + shell
        # 3 deviations of the correlation of noise in the smallest of these shells, over the part of the box that the mask leaves
        samples = 2.0 * np.pi * (found.frequency[beyond][0] / shell) ** 2 * float(result.mask.square().mean())
        assert found.corrected[beyond].max() < max(0.143, 4.0 / np.sqrt(samples))
    # and that it is bias, not a broken alignment: the first average holds the template it was aligned to
    inside = frequency_grid((N, N, N), VOXEL) < 0.8 / cut
    both = [torch.fft.rfftn(v)[inside] for v in (results[0].volume, low_passed(volume, cut))]
    likeness = float((both[0] * both[1].conj()).real.sum() / (both[0].norm() * both[1].norm()))
    assert likeness > 0.3


def test_halves_share_coarse_detail_and_keep_their_own_finer_one():
    generator = torch.Generator().manual_seed(2)
    halves = [torch.randn((N, N, N), generator=generator) for _ in range(2)]
    joined = joined_halves(halves[0], halves[1], VOXEL, 40.0)
    spectra = [torch.fft.rfftn(v) for v in (*halves, *joined)]
    grid = frequency_grid((N, N, N), VOXEL)
    coarse, fine = grid < 0.85 / 40.0, grid > 1.15 / 40.0
    torch.testing.assert_close(spectra[2][coarse], spectra[3][coarse], atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(spectra[2][coarse], 0.5 * (spectra[0] + spectra[1])[coarse], atol=1e-2, rtol=1e-4)
    for i in (0, 1):
        torch.testing.assert_close(spectra[2 + i][fine], spectra[i][fine], atol=1e-2, rtol=1e-4)


def test_maps_on_other_voxels_stay_where_they_are():

    def blob(n, voxel):
        axis = (torch.arange(n, dtype=torch.float32) - n // 2) * voxel
        return torch.exp(
            -((axis[None, None] - 9.0) ** 2 + (axis[:, None] + 5.0) ** 2 + (axis[:, None, None] - 3.0) ** 2) / 450.0
        )

    for n, voxel, m, target in ((40, 4.0, 24, 8.0), (40, 4.0, 36, 6.0), (36, 6.0, 48, 4.0), (40, 4.0, 48, 4.0)):
        got = on_voxels(blob(n, voxel), voxel, target, m)
        assert got.shape == (m, m, m)
        torch.testing.assert_close(got, blob(m, target), atol=2e-2, rtol=0)


def test_particles_outside_of_their_series_are_refused():
    class Nothing:
        def particles(self, positions):
            batch = imaged(blobs(), np.eye(3)[None], np.zeros((1, 3)), 0.0, step=60.0)
            none = np.zeros(0, dtype=np.int64)
            return ParticleImages(
                data=batch.data[:0],
                weight=batch.weight[:0],
                particle=none,
                tilt=none,
                matrices=batch.matrices[:0],
                count=len(positions),
                voxel_size_angstrom=VOXEL,
            )

    series = [SeriesParticles(rows=np.arange(2), images=Nothing)]
    turns = np.tile(np.eye(3), (2, 1, 1))
    with pytest.raises(InputError, match="No particle lies in the field"):
        align_and_sum(series, np.zeros((2, 3)), turns, np.array([1, 2]), None, AlignParams())
