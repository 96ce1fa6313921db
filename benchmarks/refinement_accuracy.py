"""Particles of lists in every tilt against the truth, their averages, and the best that any refinement could reach.

Run: python benchmarks/refinement_accuracy.py TABLE DATA --species 0=FOLDER [1=FOLDER] [--oracle PROJECT]; TABLE is the estimated
`tilt_series.star`, with local deformation where it has some; DATA is the folder of shared test data; FOLDERs are those of
`eucentric average` of kind 0 (30S) or 1 (20S), or particle lists, which are measured without a map. With --oracle the true geometry,
deformation, defocus and poses of the particles found in each FOLDER are written as PROJECT, a new folder, and averaged there
with the settings of FOLDER.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from averaging_accuracy import KINDS, true_series
from averaging_picks import compared, group_frame
from eucentric.averaging.half_sets import SUBSET
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.evaluation.particle_errors import ParticleErrors, SeriesWithTruth, particle_position_errors
from eucentric.geometry import ImageWarp, VolumeWarp
from eucentric.io.particles import read_particles
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.tilt_series import read_tilt_series, relative_path, write_tilt_series_set
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.io.warps import write_image_warp
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.average_files import average_list
from eucentric.pipeline.images import read_deformation
from eucentric.pipeline.reprojecting import project_of
from eucentric.pipeline.store import ItemStore

PLAN = "eucentric.toml"
GRID, BEYOND = (
    13,
    1.5,
)  # points across, and edge over that of the field, of the deformation as a spline: its ends are straight


def list_of(folder: Path) -> Path:
    return folder / "particles.star" if folder.is_dir() else folder


def sources(table: Path, data: Path, names: tuple[str, ...]) -> list[SeriesWithTruth]:
    """Estimated series beside their truth."""
    root, out = project_of(table), []
    for name in names:
        series = read_tilt_series(table, name, root)
        deformation = read_deformation(series, ItemStore(root, "", name))
        truth = read_truth(data / "practice" / f"{name}_truth.json")
        out.append(SeriesWithTruth(series=series, truth=truth, deformation=deformation))
    return out


def show(errors: ParticleErrors, listed: int) -> None:
    """Print what was measured."""
    distance, (low, high) = errors.distances_angstrom, errors.rms_by_tilt_angstrom
    by_series = ", ".join(f"{name} {rms:.2f}" for name, rms in errors.rms_by_series_angstrom.items())
    print(
        f"  {len(errors.rows)} of {listed} listed are true; {len(distance)} images: rms {errors.rms_angstrom:.2f} A, median "
        f"{np.median(distance):.2f}, 95% {np.quantile(distance, 0.95):.2f}; tilts to 30 degrees {low:.2f}, beyond {high:.2f}; "
        f"{by_series}\n  rms with every particle's place free {errors.geometry_rms_angstrom:.2f} A; centre of the map at "
        f"{np.linalg.norm(errors.centre_angstrom):.2f} A; orientations {np.median(errors.angles_deg):.2f} degrees; defocus "
        f"{np.median(np.abs(errors.defocus_angstrom)):.0f} A (medians)"
    )


def show_average(data: Path, kind: str, folder: Path) -> None:
    average = compared(data, kind, folder)
    print(
        f"  halves {average.halves_angstrom:.2f} A, known map 0.5 {average.known_angstrom:.2f} A (correlation "
        f"{average.found.likeness:.3f})",
        flush=True,
    )


def true_warp(series: TiltSeries, truth: TiltTruth, places: list[int]) -> VolumeWarp:
    """The true deformation, with a knot for every image."""
    doses = series.middle_doses
    order = np.argsort(doses)
    edge = BEYOND * max(truth.image_shape) * truth.pixel_size_angstrom
    line = np.linspace(-0.5 * edge, 0.5 * edge, GRID)
    y, x = np.meshgrid(line, line, indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    moved = truth.deformation(points)[np.array(places)[order]]
    return VolumeWarp.build(moved.reshape(-1, 1, GRID, GRID, 3), doses[order], (edge, edge, edge))


def write_true_series(table: Path, target: Path, found: list[SeriesWithTruth]) -> Path:
    """A project with the images of another one and the true geometry, deformation and CTF; its table."""
    root, out = project_of(table), []
    target.mkdir(parents=True)
    shutil.copy(root / PLAN, target / PLAN)
    for one in found:
        store = ItemStore(root, "", one.series.name)
        series = true_series(one.series, one.truth, one.tilts)
        tilts = [
            replace(t, image=moved_path(t.image or "", store, target), image_even=None, image_odd=None)
            for t in series.tilts
        ]
        warp = f"ctf/warps/{series.name}.npz"
        (target / warp).parent.mkdir(parents=True, exist_ok=True)
        still = ImageWarp.build(np.zeros((len(tilts), 1, 1, 2)), series.image_shape, series.pixel_size_angstrom)
        write_image_warp(
            target / warp, still, [t.acquisition for t in tilts], volume=true_warp(series, one.truth, one.tilts)
        )
        out.append(series.with_tilts(tilts).replace(excluded=(), tomogram=None, specimen=None, warp=warp))
    made = target / "ctf" / "tilt_series.star"
    write_tilt_series_set(made, out, target)
    return made


def moved_path(image: str, store: ItemStore, target: Path) -> str:
    """The path of an image as another project has it."""
    number, at, _ = image.partition("@")
    path = relative_path(store.resolve(image), target)
    return f"{number}@{path}" if at and number.isdigit() else path


def average_truth(
    data: Path,
    kind: str,
    folder: Path,
    table: Path,
    errors: ParticleErrors,
    listed: ParticleSet,
    found: list[SeriesWithTruth],
) -> None:
    """Average the particles of a list that are true ones with their true poses, in the halves that they were in."""
    frame, truths = group_frame(data, kind), {one.series.name: one.truth for one in found}
    names = listed.tomograms[errors.rows]
    pairs = [(truths[str(name)], row) for name, row in zip(names, errors.true_rows, strict=True)]
    known = ParticleSet.build(
        names,
        np.array([truth.positions[row] for truth, row in pairs]),
        rotations=np.array([truth.rotations[row] for truth, row in pairs]) @ frame,
        kinds=kind,
    )
    if SUBSET in listed.columns:
        known = known.with_column(SUBSET, listed.columns[SUBSET][errors.rows])
    target = table.parents[1] / f"particles_{kind}.star"
    pixels = {one.series.name: one.series.pixel_size_angstrom for one in found}
    write_relion_particles(target, known, pixel_sizes_angstrom=pixels)
    about = json.loads((folder / "average.json").read_text())
    output = table.parents[1] / "average" / kind
    average_list(
        target,
        output,
        ExtractParams(**about["extract"]),
        AverageParams(**about["average"]),
        device=torch.device("cpu"),
        table=table,
    )
    known = read_particles(output / "particles.star")
    reached = sources(table, data, known.tomogram_names)
    print(f"oracle of {folder}:")
    show(particle_position_errors(reached, known, int(kind), KINDS[kind][1]), len(known))
    show_average(data, kind, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--species", nargs="+", required=True, metavar="KIND=FOLDER")
    parser.add_argument("--oracle", type=Path)
    options = parser.parse_args()
    species = dict(entry.split("=", 1) for entry in options.species)
    lists = {kind: read_particles(list_of(Path(folder))) for kind, folder in species.items()}
    names = tuple(dict.fromkeys(name for one in lists.values() for name in one.tomogram_names))
    estimated = sources(options.table, options.data, names)
    best = None if options.oracle is None else write_true_series(options.table, options.oracle, estimated)
    for kind, listed in lists.items():
        folder = Path(species[kind])
        errors = particle_position_errors(estimated, listed, int(kind), KINDS[kind][1])
        print(f"{folder}, {KINDS[kind][0]}:")
        show(errors, len(listed))
        if folder.is_dir():
            show_average(options.data, kind, folder)
        if best is not None:
            average_truth(options.data, kind, folder, best, errors, listed, estimated)


if __name__ == "__main__":
    main()
