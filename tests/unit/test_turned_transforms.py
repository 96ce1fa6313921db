"""Turned copies of a particle's transform: the compiled loops against plain tensors and against differences."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from eucentric.projection.turned import CubeSamples, read_turned, score_turned, slope_sums

SIDE, SIZE = 14, 42


@pytest.fixture(scope="module")
def scene():
    generator = torch.Generator().manual_seed(3)
    box = torch.zeros((SIZE,) * 3, dtype=torch.float64)
    box[16:26, 15:25, 17:27] = torch.randn((10, 10, 10), generator=generator, dtype=torch.float64)
    transform = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(box)))
    samples = CubeSamples.below(0.5, SIDE, box)
    count = len(samples.inside)
    data = torch.randn(count, generator=generator, dtype=torch.complex128)
    power = torch.rand(count, generator=generator, dtype=torch.float64)
    rotations = Rotation.random(3, rng=5).as_matrix()
    return transform, samples, data, power, rotations


def single(scene):
    transform, _samples, data, power, rotations = scene
    return (
        transform.to(torch.complex64),
        CubeSamples.below(0.5, SIDE, torch.zeros(1)),
        data.to(torch.complex64),
        power.float(),
        rotations,
    )


def test_compiled_loops_equal_plain_tensors(scene):
    transform, samples, data, power, rotations = scene
    fast = single(scene)
    moves = torch.tensor([[-1.0, -0.3, 0.2], [0.0, 0.4, 0.1], [0.7, 1.0, -0.6]], dtype=torch.float64)
    copies = read_turned(transform, samples, rotations)
    scale = float(copies.abs().max())
    torch.testing.assert_close(read_turned(fast[0], fast[1], rotations).to(copies), copies, atol=1e-5 * scale, rtol=0)
    plain = score_turned(transform, samples, rotations, data, power, moves)
    got = score_turned(fast[0], fast[1], rotations, fast[2], fast[3], moves)
    torch.testing.assert_close(got.double(), plain, atol=1e-5 * float(plain.abs().max()), rtol=0)
    sums = slope_sums(transform, samples, rotations[0], data, power)
    found = slope_sums(fast[0], fast[1], rotations[0], fast[2], fast[3])
    size = np.sqrt(np.diag(sums)[:7])
    np.testing.assert_allclose(found[:7, :7], sums[:7, :7], atol=1e-5 * np.outer(size, size).max(), rtol=1e-4)
    np.testing.assert_allclose(found[:7, 7], sums[:7, 7], atol=1e-5 * np.abs(sums[:7, 7]).max(), rtol=1e-4)


def test_scores_of_moves_are_those_of_a_phase_ramp(scene):
    transform, samples, data, power, rotations = scene
    moves = torch.tensor([[0.0, 0.5, -1.0], [0.25, -0.75, 2.0]], dtype=torch.float64)
    scores = score_turned(transform, samples, rotations, data, power, moves)
    move = np.array([0.25, 0.5, 2.0])  # x of the second, y of the first, z of the second
    copy = read_turned(transform, samples, rotations[1:2])[0]
    phase = 2.0 * math.pi * samples.frequencies @ torch.from_numpy(move)
    expected = (data * copy.conj() * torch.polar(torch.ones_like(phase), phase)).real.sum()
    expected = expected / (power * copy.abs().square()).sum().sqrt()
    assert float(scores[1, 1, 0, 1]) == pytest.approx(float(expected), rel=1e-7)  # frequencies are rounded to single


def test_slopes_are_differences(scene):
    transform, samples, data, power, rotations = scene
    tiny = 1e-6

    def overlap(turn, move):
        copy = read_turned(transform, samples, (Rotation.from_rotvec(turn).as_matrix() @ rotations[0])[None])[0]
        phase = 2.0 * math.pi * samples.frequencies @ torch.from_numpy(move)
        return float((data * copy.conj() * torch.polar(torch.ones_like(phase), phase)).real.sum())

    sums = slope_sums(transform, samples, rotations[0], data, power)
    for axis in range(3):
        step = tiny * np.eye(3)[axis]
        turned = (overlap(step, np.zeros(3)) - overlap(-step, np.zeros(3))) / (2 * tiny)
        moved = (overlap(np.zeros(3), step) - overlap(np.zeros(3), -step)) / (2 * tiny)
        # linear interpolation has kinks: a sample that crosses one between the two ends is off, hence not exact
        assert sums[1 + axis, 7] == pytest.approx(turned, rel=1e-3)
        assert 2.0 * math.pi * sums[4 + axis, 7] == pytest.approx(moved, rel=1e-3)
