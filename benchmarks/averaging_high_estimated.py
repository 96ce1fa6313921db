"""What averaging reaches in detail with geometry and CTF of our own: the movies of `averaging_high.py`, by the command line.

Run: python benchmarks/averaging_high_estimated.py DATA FOLDER [--series 6] [--particles 150] [--box-size 168] [--beads 6]; DATA is
the folder of shared test data. FOLDER/movies and FOLDER/project are made where missing. Motion, alignment and CTF are estimated; true
particles are carried into that geometry and made wrong by 10 degrees and 8 A (medians), and `average --auto` finds them again
in FOLDER/auto. FOLDER/poses is the average of the particles before they were made wrong.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
from scipy.spatial.transform import Rotation as ScipyRotation

from averaging_high import MODEL, SYMMETRY, settings
from averaging_picks import group_frame, measure
from eucentric.io.atoms import read_atoms
from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.pipeline.particle_files import read_true_particles
from eucentric.pipeline.simulate_project import write_simulated_series
from eucentric.simulation.species import species_from_atoms

KIND = "1"  # 20S, in `averaging_accuracy.KINDS`


def command(*words: object) -> None:
    """A command of the program, whose words are shown."""
    line = [str(word) for word in words]
    print("eucentric " + " ".join(line), flush=True)
    subprocess.run([sys.executable, "-m", "eucentric", *line], check=True)


def write_movies(folder: Path, data: Path, count: int, particles: int, beads: int) -> None:
    atoms = read_atoms(data / "structures" / MODEL)
    elements = [gemmi.Element(int(z)).name for z in atoms.atomic_numbers]
    species = species_from_atoms(atoms.positions, elements, name="20S")
    for number in range(count):
        name = f"TS_{number + 1:02d}"
        if not (folder / f"{name}_truth.json").is_file():
            params = settings(number, particles).model_copy(update={"beads": beads})
            write_simulated_series(folder, params, name, [species])


def carried(folder: Path, count: int) -> ParticleSet:
    """True particles where the estimated geometry has them."""
    table = folder / "project" / "ctf" / "tilt_series.star"
    names = [f"TS_{number + 1:02d}" for number in range(count)]
    parts = [read_true_particles(folder / "movies" / f"{name}_truth.json", table) for name in names]
    return ParticleSet.concatenate(parts)


def made_wrong(known: ParticleSet) -> ParticleSet:
    """Turned by 10 degrees and moved by 8 A, medians of random errors."""
    rng = np.random.default_rng(5)
    median = 1.538  # of the length of three independent normal numbers
    turns = ScipyRotation.from_rotvec(np.deg2rad(10.0 / median) * rng.normal(size=(len(known), 3))).as_matrix()
    moved = known.positions_angstrom + 8.0 / median * rng.normal(size=(len(known), 3))
    return known.with_rotations(turns @ known.rotations).with_positions(moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--series", type=int, default=6)
    parser.add_argument("--particles", type=int, default=150)
    parser.add_argument("--box-size", type=int, default=168)
    parser.add_argument("--beads", type=int, default=6, help="in the untilted field of each series")
    given = parser.parse_args()
    movies, project = given.folder / "movies", given.folder / "project"
    write_movies(movies, given.data, given.series, given.particles, given.beads)
    if not project.is_dir():
        gain = movies / "gain.mrc"
        command("import", project, "--frames", movies / "frames", "--mdoc", movies, "--gain", gain)
    command("run", project, "--until", "ctf")
    command("score", project, "--truth", movies)
    truth = carried(given.folder, given.series)
    known = truth.with_rotations(truth.rotations @ group_frame(given.data, KIND))
    write_particles(given.folder / "true.star", known, "relion5")
    write_particles(given.folder / "wrong.star", made_wrong(known), "relion5")
    common = ["--series", project / "ctf" / "tilt_series.star", "--symmetry", SYMMETRY, "--box-size", given.box_size]
    common += ["--min-tilts", 20, "--overwrite"]
    command("average", given.folder / "true.star", "--output", given.folder / "poses", *common)
    command("average", given.folder / "wrong.star", "--output", given.folder / "auto", "--auto", *common)
    for name in ("poses", "auto"):
        measure(truth, given.data, KIND, given.folder / name)


if __name__ == "__main__":
    main()
