"""What averaging reaches in detail: six series of the 20S proteasome from the simulator, at 1.6 A and with the true geometry.

Run: python benchmarks/averaging_high.py DATA [--series 6] [--particles 150] [--box-size 168] [--cache FOLDER]; DATA is the folder of
shared test data. Poses, deformation and CTF are the true ones; what differs from the simulator is ours. After each series the
average so far is measured, so that it is seen how detail grows with particles. `make bench-high` runs it.
"""

import argparse
import resource
import time
from pathlib import Path

import gemmi
import numpy as np
import torch

from averaging_accuracy import true_projections
from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.correlate_maps import resolution_against_truth
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.particle_images import SeriesImages, prepare_series
from eucentric.averaging.results import AverageResult
from eucentric.io.atoms import read_atoms
from eucentric.io.truth import TiltTruth
from eucentric.models.particle_projection import ParticleProjections
from eucentric.models.particles import ParticleSet
from eucentric.optics.atoms import density_from_points
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.pick_templates import read_template
from eucentric.pipeline.truth_tables import series_truth, true_series
from eucentric.simulation.image_formation import SimulatedSeries
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species, species_from_atoms
from eucentric.typing import FloatArray

PIXEL, SIDE = 1.6, 1024  # A, pixels
MODEL, SYMMETRY = "3j9i.pdb", "D7"
DEFOCUS = (18000.0, 26000.0, 22000.0, 30000.0, 20000.0, 24000.0)  # A
AT_ONCE = 40  # particles
FEWEST = 20  # images of a particle


def settings(number: int, particles: int) -> SimulationParams:
    """The simulator's defaults, without motion within a movie and faults of the camera."""
    return SimulationParams(
        seed=7000 + number,
        thickness_angstrom=700.0,
        particles_per_species=(particles,),
        vesicles=0,
        beads=0,
        pixel_size_angstrom=PIXEL,
        image_size_px=(SIDE, SIDE),
        defocus_angstrom=DEFOCUS[number % len(DEFOCUS)],
        frames=1,
        drift_angstrom=0.0,
        doming_angstrom=0.0,
        stage_jitter_angstrom=30.0,
        gain_variation=0.0,
        hot_pixels=0,
        dead_pixels=0,
    )


def recorded(number: int, particles: int, species: Species, cache: Path | None) -> tuple[torch.Tensor, TiltTruth]:
    """Counts (tilt, y, x) of an even camera, and the truth."""
    series = SimulatedSeries.build(settings(number, particles), [species])
    tilts = range(len(series.acquisition.geometry))
    truth = series_truth(series, f"TS_{number + 1:02d}", [f"{t}.tif" for t in tilts])
    file = None if cache is None else cache / f"high_{particles}_{number}.npy"
    if file is not None and file.is_file():
        counts = np.load(file)
    else:
        counts = np.stack([series.movie(t)[0] for t in tilts])
        if file is not None:
            np.save(file, counts)
    return torch.from_numpy(counts.astype(np.float32)), truth


def prepared(
    number: int, particles: int, species: Species, params: ExtractParams, cache: Path | None
) -> tuple[SeriesImages, ParticleSet, ParticleProjections]:
    """A series, its particles that are seen in enough images, and where."""
    images, truth = recorded(number, particles, species, cache)
    series = true_series(truth)
    source = prepare_series(images, series, params)
    known = ParticleSet.build(truth.name, truth.positions, rotations=truth.rotations)
    seen = true_projections(source, truth, list(range(len(series.tilts))), known.positions_angstrom)
    keep = seen.tilts_seen >= params.min_tilts
    part = ParticleProjections(
        pixels=seen.pixels[:, keep],
        visible=seen.visible[:, keep],
        heights_angstrom=seen.heights_angstrom[:, keep],
        defocus_u_angstrom=seen.defocus_u_angstrom[:, keep],
        defocus_v_angstrom=seen.defocus_v_angstrom[:, keep],
    )
    return source, known.select(keep), part


def add_series(
    sums: tuple[FourierSums, FourierSums],
    source: SeriesImages,
    known: ParticleSet,
    seen: ParticleProjections,
    frame: FloatArray,
    halves: np.ndarray,
) -> None:
    for half, total in enumerate(sums, 1):
        mine = np.flatnonzero(halves == half)
        for start in range(0, len(mine), AT_ONCE):
            rows = mine[start : start + AT_ONCE]
            some = ParticleProjections(
                pixels=seen.pixels[:, rows],
                visible=seen.visible[:, rows],
                heights_angstrom=seen.heights_angstrom[:, rows],
                defocus_u_angstrom=seen.defocus_u_angstrom[:, rows],
                defocus_v_angstrom=seen.defocus_v_angstrom[:, rows],
            )
            batch = source.particles(known.positions_angstrom[rows], some)
            total.add(batch, known.rotations[rows] @ frame)


def measured(result: AverageResult, truth: torch.Tensor) -> str:
    """Both resolutions, and the correlation with the known map in a few bands."""
    mean = 0.5 * (result.half1 + result.half2)
    true, frequency, curve = resolution_against_truth(mean, truth, result.voxel_size_angstrom, result.mask)
    bands = " ".join(f"{d:g} A {np.interp(1.0 / d, frequency, curve):.3f}" for d in (40.0, 20.0, 10.0, 7.0, 5.0, 4.0))
    return f"halves 0.143 {result.correlation.resolution_angstrom:.2f} A, known map 0.5 {true:.2f} A; correlation with it at {bands}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--series", type=int, default=6)
    parser.add_argument("--particles", type=int, default=150, help="in the untilted field of each series")
    parser.add_argument("--box-size", type=int, default=168)
    parser.add_argument("--cache", type=Path, help="folder for the images")
    options = parser.parse_args()
    model = options.data / "structures" / MODEL
    atoms = read_atoms(model)
    species = species_from_atoms(
        atoms.positions, [gemmi.Element(int(z)).name for z in atoms.atomic_numbers], name="20S"
    )
    frame = symmetry_frame(read_template(str(model), voxel_size=4.0, symmetry=SYMMETRY))
    n = options.box_size
    truth = density_from_points(species.points_angstrom @ frame, species.weights, (n, n, n), PIXEL)
    params = ExtractParams(box_size=n, min_tilts=FEWEST)
    sums = (FourierSums.empty(n, PIXEL), FourierSums.empty(n, PIXEL))
    count, halves, used = 0, [], []
    for number in range(options.series):
        started, cpu = time.perf_counter(), time.process_time()
        source, known, seen = prepared(number, options.particles, species, params, options.cache)
        made = time.process_time() - cpu
        own = assign_halves(known, 0.5 * n * PIXEL, seed=number)
        add_series(sums, source, known, seen, frame, own)
        added = time.process_time() - cpu - made
        count += len(known)
        halves.append(own)
        used.append(seen.tilts_seen)
        result = average_halves(
            sums,
            AverageParams(symmetry=SYMMETRY),
            halves=np.concatenate(halves),
            tilts_used=np.concatenate(used),
        )
        busy = time.process_time() - cpu
        print(
            f"{number + 1} series, {count} particles, {int(np.concatenate(used).sum())} images: {measured(result, truth)}; "
            f"{time.perf_counter() - started:.0f} s, of processor: images {made:.0f}, sums {added:.0f}, map "
            f"{busy - made - added:.0f} s; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
