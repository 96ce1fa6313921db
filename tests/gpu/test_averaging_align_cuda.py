"""Poses found on a GPU: the same as on the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.search_poses import search_poses
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.slices import extract_slices, volume_to_grid

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

N, VOXEL = 32, 8.0


def _particle():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3)) * 4.0
    line = np.arange(N) - N // 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    out = sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / 4.5) for p in points)
    return torch.from_numpy(np.asarray(out, dtype=np.float32))


def _images(volume, rotations):
    geometry = TiltGeometry.build(np.arange(-60.0, 61.0, 10.0), z_rot_deg=85.0)
    tilts, count = len(geometry), len(rotations)
    grid = volume_to_grid(volume, (2 * N,) * 3)
    slices = torch.cat([extract_slices(grid, geometry.matrices @ r, N) * VOXEL for r in rotations])
    level = 20.0**2 * N**2
    noise = torch.fft.rfft2(20.0 * torch.randn((count * tilts, N, N), generator=torch.Generator().manual_seed(1)))
    return ParticleImages(
        data=(slices + noise) / level,
        weight=torch.full(slices.shape, 1.0 / level),
        particle=np.repeat(np.arange(count), tilts),
        tilt=np.tile(np.arange(tilts), count),
        matrices=np.tile(geometry.matrices, (count, 1, 1)),
        count=count,
        voxel_size_angstrom=VOXEL,
    )


@pytest.mark.parametrize("search", ["global", "local"])
def test_poses_are_those_of_the_cpu(search):
    volume = _particle()
    rotations = Rotation.random(4, rng=np.random.default_rng(2)).as_matrix()
    batch = _images(volume, rotations)
    found = []
    for device in ("cpu", "cuda"):
        there = replace(batch, data=batch.data.to(device), weight=batch.weight.to(device))
        reference = AlignReference.build(volume.to(device), VOXEL, low_pass_angstrom=20.0, diameter_angstrom=180.0)
        params = AlignParams(search=search, shift_angstrom=16.0)
        found.append(search_poses(there, reference, params, rotations=rotations))
    here, there = found
    assert symmetric_angle_deg(here.rotations, there.rotations).max() < 0.1
    np.testing.assert_allclose(there.shifts_angstrom, here.shifts_angstrom, atol=0.1)
    np.testing.assert_allclose(there.scores, here.scores, rtol=1e-3)
