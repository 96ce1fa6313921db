"""Time, memory and error of reading and writing lists of a million particles.

    python benchmarks/particle_lists.py --count 1000000 --formats relion5,dynamo

Each format is written and read in a process of its own, so that the memory is that of one. `foreign` is a table as RELION-5's
refinement leaves it (26 columns with names of images, subtomogram angles and origins), written here line by line; it is read and
written again, and every column of it is compared. Errors are the largest distances (A) and angles (degrees) after the round trip.
"""

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from eucentric.geometry import Rotation
from eucentric.io.particles import ONE_TOMOGRAM, PARTICLE_FORMATS, READ_ONLY, read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

TOMOGRAMS = 100
SIZE, VOXEL = (1000, 1000, 400), 8.0
NAMES = tuple(f"TS_{i:03d}" for i in range(TOMOGRAMS))
FRAMES = TomogramFrames(by_name={name: TomogramFrame(voxel_size_angstrom=VOXEL, size_xyz=SIZE) for name in NAMES})
FOREIGN = (
    *(f"rlnTomoSubtomogram{a}" for a in ("Rot", "Tilt", "Psi")),
    *(f"rlnAngle{a}" for a in ("Rot", "Tilt", "Psi")),
    *(f"rlnOrigin{a}Angst" for a in "XYZ"),
    *(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ"),
)
KEPT = (
    "rlnGroupNumber",
    "rlnNormCorrection",
    "rlnRandomSubset",
    "rlnLogLikeliContribution",
    "rlnMaxValueProbDistribution",
)


def particles(count: int) -> ParticleSet:
    """At random, in equal parts of all tomograms, of three kinds."""
    rng = np.random.default_rng(1)
    half = np.array(SIZE) * VOXEL / 2
    return ParticleSet.build(
        np.array(NAMES)[np.arange(count) * TOMOGRAMS // count],
        rng.uniform(-half, half, (count, 3)),
        rotations=Rotation.random(count, rng).matrices,
        scores=rng.uniform(0.1, 1.0, count).round(6),
        kinds=rng.integers(1, 4, count).astype(np.str_),
    )


def write_foreign(path: Path, count: int) -> None:
    """A table of RELION-5, by nothing of this package."""
    rng = np.random.default_rng(2)
    labels = ["rlnTomoName", "rlnTomoParticleName", "rlnImageName", *FOREIGN, "rlnOpticsGroup", "rlnClassNumber", *KEPT]
    with path.open("w") as out:
        out.write(
            "\n# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n\n# version 50001\n\ndata_optics\n\nloop_\n"
        )
        out.write("_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n_rlnTomoTiltSeriesPixelSize #3\n_rlnVoltage #4\n")
        out.write("1 optics1 1.350000 300.000000\n\n\n# version 50001\n\ndata_particles\n\nloop_\n")
        out.write("".join(f"_{label} #{i}\n" for i, label in enumerate(labels, 1)))
        for first in range(0, count, 10000):
            rows = min(10000, count - first)
            numbers = rng.uniform(-170, 170, (rows, len(FOREIGN)))
            numbers[:, [1, 4]] = np.abs(numbers[:, [1, 4]])
            more = rng.random((rows, 2))
            for i in range(rows):
                n = first + i
                name = NAMES[n * TOMOGRAMS // count]
                values = " ".join(f"{v:12.6f}" for v in numbers[i])
                out.write(
                    f"{name:>9} {name}/{n + 1} Extract/job013/Subtomograms/{name}/{n + 1}_stack2d.mrcs {values} 1 {n % 4 + 1} "
                    f"1 {more[i, 0]:.6f} {n % 2 + 1} {1e5 * more[i, 1]:.6e} {more[i, 1]:.6f}\n"
                )
        out.write("\n")


def apart(one: ParticleSet, other: ParticleSet) -> tuple[float, float]:
    """Largest distance (A) and angle (degrees) of the same rows."""
    if len(one) != len(other) or (one.tomograms != other.tomograms).any():
        return math.inf, math.inf
    place = np.linalg.norm(one.positions_angstrom - other.positions_angstrom, axis=1).max()
    difference = one.rotations - other.rotations
    angle = np.rad2deg(2 * np.arcsin(np.clip(np.sqrt((difference**2).sum(axis=(1, 2)).max() / 8), 0, 1)))
    return float(place), float(angle)


def measure(name: str, count: int, folder: Path) -> None:
    """One line of the table."""
    if name == "foreign":
        source = folder / "foreign.star"
        started = time.perf_counter()
        given = read_particles(source)
        read = time.perf_counter() - started
        started = time.perf_counter()
        write_particles(folder / "again.star", given, "relion5")
        write = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        again = read_particles(folder / "again.star")
        for label, column in given.columns.items():
            if not np.array_equal(column, again.columns[label]):
                raise SystemExit(f"{label} was not kept.")
        for label, texts in given.texts.items():
            if label != "rlnOpticsGroupName" and not np.array_equal(texts, again.texts[label]):
                raise SystemExit(f"{label} was not kept.")
    else:
        given = particles(count)
        path = folder / (name if name in ONE_TOMOGRAM else f"list{PARTICLE_FORMATS[name]}")
        started = time.perf_counter()
        write_particles(path, given, name, FRAMES)
        write = time.perf_counter() - started
        started = time.perf_counter()
        again = read_particles(path, FRAMES, name)
        read = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        if name == "copick":
            order = np.lexsort((given.kinds, given.tomograms))
            given = given.select(order)
    place, angle = apart(given, again)
    sys.stdout.write(
        f"{name:17} {read:7.1f} {write:7.1f} {read + write:7.1f} {memory:7.2f} {place:10.2g} {angle:10.2g}\n"
    )


class ParticleLists:
    """RELION's and Dynamo's lists, of a tenth of a million particles."""

    params = (("relion5", "dynamo", "stopgap"),)
    param_names = ("format_name",)
    count = 100_000

    def setup(self, format_name: str) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.given = particles(self.count)
        self.path = self.folder / f"list{PARTICLE_FORMATS[format_name]}"
        write_particles(self.path, self.given, format_name, FRAMES)

    def time_read(self, format_name: str) -> None:
        read_particles(self.path, FRAMES, format_name)

    def time_write(self, format_name: str) -> None:
        write_particles(self.path, self.given, format_name, FRAMES)

    def peakmem_read(self, format_name: str) -> None:
        read_particles(self.path, FRAMES, format_name)

    def track_error_angstrom(self, format_name: str) -> float:
        return apart(self.given, read_particles(self.path, FRAMES, format_name))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--formats", default="foreign,relion5,relion4,dynamo")
    parser.add_argument("--one", help="one format in this process")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.one:
        measure(given.one, given.count, given.folder)
        return
    names = [n for n in PARTICLE_FORMATS if n not in READ_ONLY] if given.formats == "all" else given.formats.split(",")
    sys.stdout.write(f"{given.count} particles\n{'format':17}  read s write s  both s  GiB      apart A    degrees\n")
    sys.stdout.flush()
    for name in names:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            if name == "foreign":
                write_foreign(Path(folder) / "foreign.star", given.count)
            subprocess.run(
                [sys.executable, __file__, "--one", name, "--count", str(given.count), "--folder", folder], check=True
            )


if __name__ == "__main__":
    main()
