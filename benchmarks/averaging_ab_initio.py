"""Initial models from picks without orientations, on tilt series with known truth: how often they come right, and the point group.

Run: python benchmarks/averaging_ab_initio.py PROJECT DATA [--kind 1] [--seeds 10] [--only TS_01 ...]; DATA is the folder of
shared test data, PROJECT has its tilt series aligned, with CTF. Picks are the true places, moved by 8 A (median); true
orientations are not looked at. For each seed (of the picks' errors, of beginnings and halves): correlation with the known map
low-passed to 30 A (an average in chance orientations has 0.83 for the 20S) and Fourier shell correlation at 30 A, after turning
it onto it; median error of the orientations; the point group that is found, its evidence, and the second best that is no part of it.
"""

import argparse
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation as ScipyRotation

from averaging_accuracy import KINDS, known_map
from eucentric.averaging.ab_initio import find_starts
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.ab_initio_refine import refine_start
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import ParticleImages, SeriesImages, prepare_series
from eucentric.averaging.point_group import detect_point_group, is_subgroup
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.solve_average import solve_average
from eucentric.compute.threads import set_threads
from eucentric.geometry.so3 import local_rotations, sample_rotations, symmetric_angle_deg
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.truth import read_truth
from eucentric.models.particles import ParticleSet
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.images import read_images, read_warp
from eucentric.pipeline.particle_files import in_estimated_frame
from eucentric.pipeline.pick_templates import read_template
from eucentric.pipeline.store import ItemStore
from eucentric.projection.turned import CubeSamples, read_turned
from eucentric.typing import FloatArray

DIAMETER, BOX, VOXEL, DETAIL = {"0": 240.0, "1": 200.0}, {"0": 40, "1": 32}, 10.0, 30.0
PLACE_ERROR = 8.0 / 1.538  # median length of three normal numbers


class OntoTruth:
    """A map turned and moved onto the known one."""

    def __init__(self, truth: torch.Tensor, diameter: float) -> None:
        n = truth.shape[0]
        edge = min(3.0 * VOXEL, 0.5 * (n * VOXEL - diameter))
        self.ball = ball_mask(n, VOXEL, diameter, edge)
        self.samples = CubeSamples.below(VOXEL / DETAIL, n, truth)
        self.diameter = diameter
        flat = torch.fft.rfftn(torch.fft.ifftshift(truth * self.ball)).reshape(-1)
        self.counted = self.samples.shares * (self.samples.frequencies.norm(dim=1) > 0)
        self.truth = flat[self.samples.inside]

    def compare(self, volume: torch.Tensor) -> tuple[float, float, FloatArray]:
        """Correlation, that of the shell at 30 A, and the turn from the map's frame to the known one's."""
        reference = AlignReference.build(
            volume * self.ball, VOXEL, low_pass_angstrom=DETAIL, diameter_angstrom=self.diameter
        )
        every = self.counted > 0
        turn, move = np.eye(3), np.zeros(3)
        trials, step = sample_rotations(12.0), 12.0
        while step > 0.4:
            values = self._values(reference, trials, move, every)
            turn = trials[int(values.argmax())]
            for axis in np.concatenate([np.eye(3), -np.eye(3)]) * step / 12.0:
                pair = [float(self._values(reference, turn[None], m, every)[0]) for m in (move, move + axis)]
                move = move + axis if pair[1] > pair[0] else move
            trials, step = local_rotations(step, 0.5 * step) @ turn, 0.5 * step
        length = self.samples.frequencies.norm(dim=1) / VOXEL
        shell = (length - 1.0 / DETAIL).abs() < 1.0 / (len(volume) * VOXEL)
        found = [float(self._values(reference, turn[None], move, some)[0]) for some in (every, shell)]
        return found[0], found[1], turn

    def _values(
        self, reference: AlignReference, turns: FloatArray, move: FloatArray, some: torch.Tensor
    ) -> torch.Tensor:
        phase = -2.0 * math.pi * (self.samples.frequencies @ torch.from_numpy(move).float())
        weight = self.counted * some
        copies = read_turned(reference.transform, self.samples, turns) * torch.polar(torch.ones_like(phase), phase)
        norm = ((copies.abs().square() * weight).sum(1) * (self.truth.abs().square() * weight).sum()).sqrt()
        return (copies * (self.truth.conj() * weight)).real.sum(1) / norm


def sources(
    project: Path, data: Path, names: list[str], kind: str, min_tilts: int
) -> list[tuple[SeriesImages, ParticleSet]]:
    """Images of each series and the true particles in the estimated geometry, those seen in some images."""
    params = ExtractParams(box_size=BOX[kind], pixel_size_angstrom=VOXEL, min_tilts=min_tilts)
    template = read_template(str(data / "structures" / KINDS[kind][0]), voxel_size=4.0, symmetry=KINDS[kind][1])
    frame, out = symmetry_frame(template), []
    for name in names:
        series = read_tilt_series(project / "ctf" / "tilt_series.star", name, project)
        truth = read_truth(data / "practice" / f"{name}_truth.json")
        store = ItemStore(project, "", name)
        images, warp = read_images(series, store, torch.device("cpu")), read_warp(series, store)
        known = ParticleSet.build(name, truth.positions, rotations=truth.rotations, kinds=[str(k) for k in truth.kinds])
        known = in_estimated_frame(known, truth, series, project)
        known = known.select(known.kinds == kind)
        source = prepare_series(images, series, params, warp=warp, pixel_size=VOXEL)
        known = known.select(source.project(known.positions_angstrom).tilts_seen >= min_tilts)
        out.append((source, known.with_rotations(known.rotations @ frame)))
    return out


def one_seed(
    given: list[tuple[SeriesImages, ParticleSet]], truth: OntoTruth, kind: str, seed: int
) -> tuple[float, float, float, str]:
    """Correlation, that at 30 A, median error in degrees, and the point group."""
    rng = np.random.default_rng(seed)
    params = InitialModelParams(diameter_angstrom=DIAMETER[kind], seed=seed)
    picks = [k.with_positions(k.positions_angstrom + PLACE_ERROR * rng.normal(size=(len(k), 3))) for _, k in given]
    batches = [source.particles(p.positions_angstrom) for (source, _), p in zip(given, picks, strict=True)]
    images = ParticleImages.joined([replace(b, voxel_size_angstrom=VOXEL) for b in batches])
    everything = ParticleSet.concatenate(picks)
    halves = assign_halves(everything, 0.5 * BOX[kind] * VOXEL, seed=seed)
    busy = time.process_time()
    starts = find_starts(images, params)
    model = refine_start(images, starts[0], halves, params)
    spent = time.process_time() - busy
    average = model.average
    group = detect_point_group(average.half1, average.half2, VOXEL, average.mask)
    busy = time.process_time() - busy - spent
    whole, shell, turn = truth.compare(model.volume)
    # x in the map's frame is turn x in the known one's
    errors = symmetric_angle_deg(model.poses.rotations @ turn.T, everything.rotations, KINDS[kind][1])
    best = group.evidence[0]
    other = next(g for g in group.evidence if not is_subgroup(g.group, group.group))
    print(
        f"seed {seed}: {len(everything)} particles, correlation {whole:.3f}, at 30 A {shell:.3f}, poses off {np.median(errors):.1f} "
        f"degrees, halves {average.correlation.resolution_angstrom:.1f} A; {group.group} (best {best.group} {best.evidence:+.0f}, "
        f"likeness {best.likeness:.2f}; next {other.group} {other.evidence:+.0f}, {other.likeness:.2f}; needed {group.needed:.1f}); "
        f"starts {', '.join(f'{s.evidence:.0f}' for s in starts)}; {spent:.0f} s and {busy:.0f} s",
        flush=True,
    )
    return whole, shell, float(np.median(errors)), group.group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kind", choices=sorted(KINDS), default="1")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=["TS_01", "TS_02"])
    parser.add_argument("--min-tilts", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    set_threads(options.threads)
    given = sources(options.project, options.data, options.only, options.kind, options.min_tilts)
    truth = OntoTruth(known_map(options.data, options.kind, BOX[options.kind], VOXEL), DIAMETER[options.kind])
    # what averages in chance orientations come to
    images = ParticleImages.joined(
        [replace(source.particles(k.positions_angstrom), voxel_size_angstrom=VOXEL) for source, k in given]
    )
    for name, turns in (
        ("true poses", np.concatenate([k.rotations for _, k in given])),
        ("chance orientations", ScipyRotation.random(images.count, rng=np.random.default_rng(0)).as_matrix()),
    ):
        whole, shell, _ = truth.compare(plain_average(images, turns))
        print(f"{name}: correlation {whole:.3f}, at 30 A {shell:.3f}")
    found = [one_seed(given, truth, options.kind, seed) for seed in range(options.seeds)]
    right = sum(f[0] >= 0.8 and f[1] >= 0.8 for f in found)
    group = KINDS[options.kind][1]
    print(
        f"{right} of {len(found)} with both correlations of 0.8 or more; {group} in {sum(f[3] == group for f in found)}"
    )


def plain_average(images: ParticleImages, rotations: FloatArray) -> torch.Tensor:
    """The average of particles with given poses."""
    sums = FourierSums.empty(images.box_size, images.voxel_size_angstrom)
    sums.add(images, rotations)
    return solve_average(*sums.finished())


if __name__ == "__main__":
    main()
