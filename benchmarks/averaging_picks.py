"""Averages of particles that were picked, aligned and averaged by the program, against the structures and places they came from.

Run: python benchmarks/averaging_picks.py PROJECT DATA 0|1 FOLDER ...; FOLDERs are those of `eucentric average`, of kind 0 (30S) or 1
(20S); PROJECT has the tilt series, DATA is the folder of shared test data. The known map is turned and moved onto each average first.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from averaging_accuracy import KINDS, known_map
from eucentric.averaging.correlate_maps import resolution_against_truth
from eucentric.averaging.superpose_maps import Superposition, superpose_maps
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles
from eucentric.models.particles import ParticleSet
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.particle_files import read_true_particles
from eucentric.pipeline.pick_templates import read_template
from eucentric.projection.symmetrise import turned_mean

DETAIL, NEAR = 20.0, 40.0  # A, of the superposition; within which a particle is a true one
DIAMETER = {"0": 230.0, "1": 190.0}


def group_frame(data: Path, kind: str) -> np.ndarray:
    """(3, 3) how the axes of the symmetry lie in the structure's frame."""
    file, group = KINDS[kind]
    return symmetry_frame(read_template(str(data / "structures" / file), voxel_size=4.0, symmetry=group))


def truth_of(project: Path, truths: Path, names: list[str], kind: str) -> ParticleSet:
    """True places in the frame of the estimated geometry."""
    table = project / "ctf" / "tilt_series.star"
    parts = [read_true_particles(truths / f"{name}_truth.json", table) for name in names]
    every = ParticleSet.concatenate(parts)
    return every.select(every.kinds == kind)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """An average beside the known map."""

    halves_angstrom: float
    known_angstrom: float
    """FSC=0.5."""
    voxel_size_angstrom: float
    found: Superposition
    """Of the known map on the average."""


def compared(data: Path, kind: str, folder: Path) -> Compared:
    """An average of a kind against the map of its structure, which is turned and moved onto it first."""
    maps = [torch.from_numpy(np.array(read_mrc(folder / f"{name}.mrc")[0])) for name in ("half1", "half2", "mask")]
    voxel = float(read_mrc(folder / "map.mrc")[1].voxel_size_angstrom[0])
    about = json.loads((folder / "average.json").read_text())
    ours, mask = 0.5 * (maps[0] + maps[1]), maps[2]
    known = known_map(data, kind, len(ours), voxel)
    found = superpose_maps(ours * mask, known, voxel, detail_angstrom=DETAIL, diameter_angstrom=DIAMETER[kind])
    turned = turned_mean(known, found.rotation[None])
    shift = np.rint(found.rotation.T @ found.move)  # whole voxels; the rest as phases
    rest = torch.from_numpy(found.rotation.T @ found.move - shift)
    turned = torch.roll(turned, tuple(int(-s) for s in shift[::-1]), dims=(0, 1, 2))
    frequencies = torch.meshgrid(*[torch.fft.fftfreq(n) for n in turned.shape], indexing="ij")
    phase = 2.0 * np.pi * sum(f * r for f, r in zip(frequencies, reversed(rest), strict=True))
    turned = torch.fft.ifftn(torch.fft.fftn(turned) * torch.polar(torch.ones_like(phase), phase)).real.float()
    true, _, _ = resolution_against_truth(ours, turned, voxel, mask)
    halves = about["resolution_angstrom"]
    return Compared(
        halves_angstrom=float("inf") if halves is None else halves,
        known_angstrom=true,
        voxel_size_angstrom=voxel,
        found=found,
    )


def measure(truth: ParticleSet, data: Path, kind: str, folder: Path) -> None:
    """Print what an average of a kind reaches; `truth` has the known particles of that kind where the estimated geometry has them."""
    average = compared(data, kind, folder)
    found, voxel = average.found, average.voxel_size_angstrom
    picks = read_particles(folder / "particles.star")
    moved = found.rotation.T @ found.move * voxel  # known(Q x + c) is ours(x)
    centres = picks.positions_angstrom - np.einsum("pij,j->pi", picks.rotations, moved)
    turns = picks.rotations @ found.rotation.T
    frame = group_frame(data, kind)
    angles, places, false = [], [], 0
    for name, place, turn in zip(picks.tomograms, centres, turns, strict=True):
        own = truth.select(truth.tomograms == name)
        distance = np.linalg.norm(own.positions_angstrom - place, axis=1)
        if distance.min() > NEAR:
            false += 1
            continue
        places.append(distance.min())
        nearest = int(distance.argmin())
        angles.append(symmetric_angle_deg(turn[None], own.rotations[nearest : nearest + 1] @ frame, KINDS[kind][1])[0])
    print(
        f"{folder}: {len(picks)} particles, {false} false; halves {average.halves_angstrom:.2f} A, "
        f"known map 0.5 {average.known_angstrom:.2f} A "
        f"(correlation {found.likeness:.3f}); median errors {np.median(angles):.2f} degrees, {np.median(places):.2f} A"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("kind", choices=("0", "1"))
    parser.add_argument("folders", type=Path, nargs="+")
    given = parser.parse_args()
    for one in given.folders:
        names = read_particles(one / "particles.star").tomogram_names
        measure(truth_of(given.project, given.data / "practice", names, given.kind), given.data, given.kind, one)
