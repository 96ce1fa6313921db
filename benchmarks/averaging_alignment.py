"""Time, memory and accuracy of aligning particles to a reference: what a global search and one local iteration cost.

Run: python benchmarks/averaging_alignment.py global|local [--particles 200] [--box 48] [--tilts 41] [--threads 2] [--snr 0.003].

Boxes of a made-up complex of 1 MDa with the transfer of 2.5 um underfocus, white noise, at 8 A; `snr` is signal over noise by
variance in an image of a box. `global`: all orientations and +-3 pixels, from the images to poses, first without the climb (the
usual 7.5 degrees), then with it. `local`: 4 degrees and 8 A about poses that are that far off, and the sums of the next map.
"""

import argparse
import math
import resource
import time

import numpy as np
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.particle_images import ParticleImages, phase_ramps
from eucentric.averaging.search_poses import search_poses
from eucentric.compute.threads import set_threads
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.slices import extract_slices, volume_to_grid
from eucentric.simulation.species import procedural_macromolecule
from eucentric.typing import FloatArray

VOXEL, BATCH = 8.0, 20
WAVELENGTH, DEFOCUS, CS = 0.0197, 25_000.0, 2.7e7  # A, 300 kV


class Boxes:
    """Particles, made batch by batch."""

    def __init__(self, box: int, tilts: int, snr: float) -> None:
        species = procedural_macromolecule(1000.0)
        self.diameter = 2.0 * species.radius_angstrom
        self.volume = species.volume((box,) * 3, VOXEL)
        self.box = box
        angles = np.linspace(-60.0, 60.0, tilts)
        self.geometry = TiltGeometry.build(angles, z_rot_deg=85.0)
        self._grid = volume_to_grid(self.volume, (2 * box,) * 3)
        k = torch.sqrt(torch.fft.fftfreq(box)[:, None] ** 2 + torch.fft.rfftfreq(box) ** 2) / VOXEL
        chi = math.pi * (WAVELENGTH * DEFOCUS * k**2 - 0.5 * CS * WAVELENGTH**3 * k**4) + 0.08
        damage = torch.stack([torch.exp(-(k**2) * abs(float(a))) for a in angles])
        self._transfer = chi.sin() * damage
        self._inside = (k < 0.5 / VOXEL).float()
        seen = torch.fft.irfft2(self._slices(np.eye(3)) * self._transfer, s=(box, box))
        self._power = float(seen.var()) / snr

    def _slices(self, rotation: FloatArray) -> torch.Tensor:
        return extract_slices(self._grid, self.geometry.matrices @ rotation, self.box) * VOXEL

    def images(self, rotations: FloatArray, shifts: FloatArray, seed: int) -> ParticleImages:
        """Noisy images of particles turned and moved."""
        generator = torch.Generator().manual_seed(seed)
        count, tilts, n = len(rotations), len(self.geometry), self.box
        level = self._power * n**2
        data = []
        for turn, shift in zip(rotations, shifts, strict=True):
            clean = self._slices(turn)
            moved = np.einsum("tab,b->ta", self.geometry.matrices[:, :2], shift) / VOXEL
            noise = torch.fft.rfft2(torch.randn((tilts, n, n), generator=generator)) * math.sqrt(self._power)
            shown = clean * phase_ramps(-moved, n, clean) * self._transfer + noise
            data.append(shown * (self._transfer * self._inside / level))
        weight = self._transfer.square() * self._inside / level
        return ParticleImages(
            data=torch.cat(data),
            weight=weight.repeat(count, 1, 1),
            particle=np.repeat(np.arange(count), tilts),
            tilt=np.tile(np.arange(tilts), count),
            matrices=np.tile(self.geometry.matrices, (count, 1, 1)),
            count=count,
            voxel_size_angstrom=VOXEL,
        )


def run(kind: str, particles: int, box: int, tilts: int, snr: float) -> None:
    """Print what one kind of search comes to."""
    boxes = Boxes(box, tilts, snr)
    rng = np.random.default_rng(0)
    rotations = ScipyRotation.random(particles, rng=rng).as_matrix()
    shifts = rng.uniform(-3.0 * VOXEL, 3.0 * VOXEL, (particles, 3))
    reference = AlignReference.build(boxes.volume, VOXEL, low_pass_angstrom=20.0, diameter_angstrom=boxes.diameter)
    if kind == "global":
        every = [
            AlignParams(search="global", shift_angstrom=3.0 * VOXEL, climb=False),
            AlignParams(search="global", shift_angstrom=3.0 * VOXEL),
        ]
        given = np.tile(np.eye(3), (particles, 1, 1))
    else:
        every = [AlignParams(reach_deg=6.0, shift_angstrom=8.0)]
        given = ScipyRotation.from_rotvec(np.deg2rad(2.0) * rng.normal(size=(particles, 3))).as_matrix() @ rotations
        shifts = 0.25 * shifts
    first = boxes.images(rotations[:1], shifts[:1], 0)
    search_poses(first, reference, every[0], rotations=given[:1])  # loops are compiled before
    for params in every:
        wall, processor, errors, away = 0.0, 0.0, [], []
        sums = FourierSums.empty(box, VOXEL)
        for start in range(0, particles, BATCH):
            some = slice(start, start + BATCH)
            batch = boxes.images(rotations[some], shifts[some], start + 1)
            began, spent = time.perf_counter(), time.process_time()
            found = search_poses(batch, reference, params, rotations=given[some])
            if kind == "local":
                sums.add(batch.moved(found.shifts_angstrom), found.rotations)
            wall, processor = wall + time.perf_counter() - began, processor + time.process_time() - spent
            errors.append(symmetric_angle_deg(found.rotations, rotations[some]))
            away.append(np.linalg.norm(found.shifts_angstrom - shifts[some], axis=1))
        error, off = np.concatenate(errors), np.concatenate(away)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        what = kind if params.climb else f"{kind}, without the climb"
        print(
            f"{what}: {particles} particles of {box}^3, {tilts} tilts: {wall:.1f} s, processor {processor:.1f} s, peak {peak:.2f} GiB"
        )
        print(
            f"    angle {np.median(error):.2f} degrees, {np.mean(error > 15):.1%} beyond 15; place {np.median(off):.2f} A (medians)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["global", "local"])
    parser.add_argument("--particles", type=int, default=None)
    parser.add_argument("--box", type=int, default=48)
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--snr", type=float, default=0.003)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    set_threads(given.threads)
    run(given.kind, given.particles or (200 if given.kind == "global" else 500), given.box, given.tilts, given.snr)


if __name__ == "__main__":
    main()
