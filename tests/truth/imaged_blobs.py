"""Particles of Gaussian blobs in tilt images with known poses, made without files: for tests of alignment."""

import math

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from eucentric.averaging.particle_images import ParticleImages, phase_ramps
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.slices import extract_slices, volume_to_grid

N, VOXEL, DIAMETER = 32, 8.0, 170.0


def blobs(symmetry: str = "C1", seed: int = 0) -> torch.Tensor:
    """A particle of Gaussian blobs, known without any grid."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 3))
    points *= 9.0 * rng.uniform(0.2, 1.0, (40, 1)) ** (1 / 3) / np.linalg.norm(points, axis=1, keepdims=True)
    every = np.concatenate([points @ g.T for g in symmetry_rotations(symmetry)])
    line = np.arange(N) - N // 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    out = sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / 4.5) for p in every)
    return torch.from_numpy(np.asarray(out, dtype=np.float32))


def imaged(
    volume: torch.Tensor, rotations: np.ndarray, shifts: np.ndarray, noise: float, *, seed: int = 0, step: float = 6.0
) -> ParticleImages:
    """Tilt images of particles with a contrast transfer and white noise; noise 0 keeps the weights and adds none."""
    tilts = np.arange(-60.0, 60.1, step)
    geometry = TiltGeometry.build(tilts, z_rot_deg=85.0)
    count, particles = len(tilts), len(rotations)
    grid = volume_to_grid(volume, (2 * N,) * 3)
    k = torch.sqrt(torch.fft.fftfreq(N)[:, None] ** 2 + torch.fft.rfftfreq(N) ** 2) / VOXEL
    transfer = torch.sin(math.pi * 0.0197 * 20000.0 * k**2 + 0.08) * torch.exp(-60.0 * k**2)
    power = max(noise, 1.0) ** 2 * N**2
    generator = torch.Generator().manual_seed(seed)
    data = []
    for turn, shift in zip(rotations, shifts, strict=True):
        slices = extract_slices(grid, geometry.matrices @ turn, N) * VOXEL
        seen = np.einsum("tab,b->ta", geometry.matrices[:, :2], shift) / VOXEL
        clean = slices * phase_ramps(-seen, N, slices) * transfer
        grain = torch.fft.rfft2(torch.randn((count, N, N), generator=generator)) * noise
        data.append((clean + grain) * transfer / power * (k < 0.5 / VOXEL))
    weight = (transfer**2 / power * (k < 0.5 / VOXEL)).repeat(count * particles, 1, 1)
    return ParticleImages(
        data=torch.cat(data),
        weight=weight,
        particle=np.repeat(np.arange(particles), count),
        tilt=np.tile(np.arange(count), particles),
        matrices=np.tile(geometry.matrices, (particles, 1, 1)),
        count=particles,
        voxel_size_angstrom=VOXEL,
    )


def random_poses(count: int, seed: int, reach: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return Rotation.random(count, rng=rng).as_matrix(), rng.uniform(-reach, reach, (count, 3))
