"""Averages of particles with true poses on tilt series with known truth: resolution between halves and against the known map, time.

Run: python benchmarks/averaging_accuracy.py PROJECT DATA [--only TS_01 ...] [--true-geometry] [--no-image-weights]; DATA is the folder
of shared test data, PROJECT has its tilt series aligned, with CTF. With --true-geometry poses, deformation and CTF are those of the
truth as well: what the averaging itself can reach.
"""

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.correlate_maps import resolution_against_truth
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.particle_images import SeriesImages, prepare_series
from eucentric.averaging.results import AverageResult
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.tilt_series import read_tilt_series
from eucentric.io.truth import TiltTruth, read_truth
from eucentric.models.particle_projection import ParticleProjections
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import CtfFit, TiltPose, TiltSeries
from eucentric.picking.symmetry_axes import symmetry_frame
from eucentric.pipeline.images import read_images, read_warp
from eucentric.pipeline.particle_files import in_estimated_frame
from eucentric.pipeline.pick_templates import read_template
from eucentric.pipeline.store import ItemStore
from eucentric.projection.symmetrise import turned_mean

KINDS = {"0": ("4v4r_30S.pdb", "C1"), "1": ("3j9i.pdb", "D7")}


def true_series(series: TiltSeries, truth: TiltTruth, places: list[int]) -> TiltSeries:
    """The series with true poses and CTF."""
    geometry: TiltGeometry = truth.geometry[places]
    tilts = [
        replace(
            tilt,
            pose=TiltPose(
                y_tilt_deg=float(geometry.y_tilt_deg[k]),
                z_rot_deg=float(geometry.z_rot_deg[k]),
                x_tilt_deg=float(geometry.x_tilt_deg[k]),
                x_shift_angstrom=float(geometry.shifts_angstrom[k, 0]),
                y_shift_angstrom=float(geometry.shifts_angstrom[k, 1]),
            ),
            ctf=CtfFit(
                defocus_u_angstrom=float(truth.defocus_u_angstrom[i]),
                defocus_v_angstrom=float(truth.defocus_v_angstrom[i]),
                astigmatism_angle_deg=truth.astigmatism_angle_deg,
            ),
        )
        for k, (tilt, i) in enumerate(zip(series.tilts, places, strict=True))
    ]
    return series.with_tilts(tilts).replace(hand=truth.hand, optics=truth.optics, warp=None)


def true_projections(
    source: SeriesImages, truth: TiltTruth, places: list[int], points: np.ndarray
) -> ParticleProjections:
    """Where particles are seen, the deformation of the specimen included."""
    camera = truth.camera_positions(points)[places]
    seen = source.project(points)
    size = np.array(source.series.image_shape[::-1])
    pixels = camera[..., :2] / source.series.pixel_size_angstrom + size // 2
    margin = 0.5 * source.params.inside * source.params.box_size
    visible = ((pixels >= margin - 0.5) & (pixels <= size - 0.5 - margin)).all(-1)
    return replace(seen, pixels=pixels, visible=visible, heights_angstrom=camera[..., 2])


def average(
    project: Path, data: Path, names: list[str], kind: str, symmetry: str, params: ExtractParams, *, true_geometry: bool
) -> tuple[AverageResult, int]:
    """The average of one kind with true poses, and its particles."""
    template = read_template(str(data / "structures" / KINDS[kind][0]), voxel_size=4.0, symmetry=KINDS[kind][1])
    frame = symmetry_frame(template)
    parts = []
    for name in names:
        series = read_tilt_series(project / "ctf" / "tilt_series.star", name, project)
        truth = read_truth(data / "practice" / f"{name}_truth.json")
        store = ItemStore(project, "", name)
        images, warp = read_images(series, store, torch.device("cpu")), read_warp(series, store)
        known = ParticleSet.build(name, truth.positions, rotations=truth.rotations, kinds=[str(k) for k in truth.kinds])
        places = [list(truth.movie_names).index(Path(t.movie or "").name) for t in series.tilts]
        if true_geometry:
            series, warp = true_series(series, truth, places), None
        else:
            known = in_estimated_frame(known, truth, series, project)
        known = known.select(known.kinds == kind)
        source = prepare_series(images, series, params, warp=warp)
        points = known.positions_angstrom
        seen = true_projections(source, truth, places, points) if true_geometry else source.project(points)
        keep = seen.tilts_seen >= params.min_tilts
        known = known.select(keep).with_rotations(known.rotations[keep] @ frame)
        seen = replace(
            seen,
            pixels=seen.pixels[:, keep],
            visible=seen.visible[:, keep],
            heights_angstrom=seen.heights_angstrom[:, keep],
        )
        parts.append((source, known, seen))
    everything = ParticleSet.concatenate([known for _, known, _ in parts])
    halves = assign_halves(everything, 0.5 * params.box_size * parts[0][0].pixel_size_angstrom)
    sums = [FourierSums.empty(params.box_size, parts[0][0].pixel_size_angstrom) for _ in range(2)]
    start = 0
    for source, known, seen in parts:
        batch = source.particles(known.positions_angstrom, seen)
        own = halves[start : start + len(known)]
        for half in (1, 2):
            sums[half - 1].add(batch, known.rotations, (own == half).astype(np.float64))
        start += len(known)
    used = np.concatenate([seen.tilts_seen for _, _, seen in parts])
    result = average_halves((sums[0], sums[1]), AverageParams(symmetry=symmetry), halves=halves, tilts_used=used)
    return result, len(everything)


def known_map(data: Path, kind: str, n: int, voxel: float) -> torch.Tensor:
    """The structure's map in the frame of its symmetry."""
    template = read_template(str(data / "structures" / KINDS[kind][0]), voxel_size=voxel, symmetry=KINDS[kind][1])
    density = template.density
    out = torch.zeros((n, n, n))
    side = min(n, density.shape[0])
    to, start = n // 2 - side // 2, density.shape[0] // 2 - side // 2
    out[to : to + side, to : to + side, to : to + side] = density[
        start : start + side, start : start + side, start : start + side
    ]
    return turned_mean(out, symmetry_frame(template)[None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", default=["TS_01", "TS_02"])
    parser.add_argument("--true-geometry", action="store_true")
    parser.add_argument("--box-size", type=int, default=96)
    parser.add_argument("--min-tilts", type=int, default=20)
    parser.add_argument("--no-image-weights", action="store_true")
    options = parser.parse_args()
    params = ExtractParams(
        box_size=options.box_size, min_tilts=options.min_tilts, image_weights=not options.no_image_weights
    )
    for kind, symmetry in (("1", "D7"), ("1", "C1"), ("0", "C1")):
        started, cpu = time.perf_counter(), time.process_time()
        result, count = average(
            options.project, options.data, options.only, kind, symmetry, params, true_geometry=options.true_geometry
        )
        seconds, busy = time.perf_counter() - started, time.process_time() - cpu
        truth = known_map(options.data, kind, options.box_size, result.voxel_size_angstrom)
        mean = 0.5 * (result.half1 + result.half2)
        true, _, curve = resolution_against_truth(mean, truth, result.voxel_size_angstrom, result.mask)
        print(
            f"{KINDS[kind][0]} {symmetry}: {count} particles, {int(result.tilts_used.sum())} images; halves 0.143 "
            f"{result.correlation.resolution_angstrom:.2f} A, known map 0.5 {true:.2f} A, in the first five shells "
            f"{' '.join(f'{c:.4f}' for c in curve[1:6])}, area {curve[1:].mean():.4f}; {seconds:.0f} s "
            f"({busy:.0f} s of processor), peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
