"""WarpTools and M: tilt series as `.tomostar` and `.xml`, averages of movies where Warp looks for them, lists of particles."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.io.exchange.formats import write_geometry
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.exchange.relion_common import volume_size
from eucentric.io.external_alignments import movie_stem
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import write_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.pipeline.export.files import Exported, need_images
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import read_tilt_image

_FRAMES, _TABLES, _SERIES = "warp_frameseries", "tomostar", "warp_tiltseries"


def export_warp(source: ExportSource, exported: Exported) -> None:
    """`tomostar`, `warp_tiltseries` and `warp_frameseries/average`, as WarpTools names them."""
    source.need_alignment("Warp")
    placed = []
    for geometry in source.geometries:
        need_images(geometry.series, "Warp")
        placed.append(_placed(geometry, exported))
    made = write_geometry(exported.folder / _SERIES, placed, "warp")
    for file in made.files:
        if file.suffix == ".tomostar":
            target = exported.folder / _TABLES / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            exported.add(target)
        else:
            exported.add(file)
    exported.losses += made.losses
    frames = source.tomogram_frames
    for listed in source.lists:
        for size in sorted({frames.of(n).voxel_size_angstrom for n in listed.particles.tomogram_names}):
            exported.add(_write_list(exported, listed.name, listed.particles, frames, size))
    first = placed[0].series
    exported.steps += _steps(first, source)


def _write_list(exported: Exported, name: str, particles: ParticleSet, frames: TomogramFrames, size: float) -> Path:
    """Particles of the tomograms of one voxel size, which Warp takes from its command line."""
    some = particles.select([frames.of(str(n)).voxel_size_angstrom == size for n in particles.tomograms])
    path = exported.folder / f"particles_{name}_{size:.2f}Apx.star"
    write_particles(path, some, "warp", frames)
    return path


def _placed(geometry: SeriesGeometry, exported: Exported) -> SeriesGeometry:
    """The series with every image as the average of a movie of its own."""
    series = geometry.series
    stems = [_stem(t, series.name) for t in series.tilts]
    if len(set(stems)) < len(stems):
        stems = [f"{series.name}_{t.acquisition:03d}" for t in series.tilts]

    def moved(tilt: Tilt, stem: str) -> Tilt:
        target = exported.folder / _FRAMES / "average" / f"{stem}.mrc"
        section, _, path = (tilt.image or "").rpartition("@")
        if section:
            picture = read_tilt_image(tilt, "image", series.image_shape)
            write_mrc(target, picture, series.pixel_size_angstrom, is_volume=False)
            exported.add(target)
        else:
            exported.place(path, target)
        return replace(tilt, movie=f"../{_FRAMES}/{stem}.mrc", image=None)

    tilts = [moved(t, s) for t, s in zip(series.tilts, stems, strict=True)]
    gone = tuple(
        replace(e, tilt=replace(e.tilt, movie=f"../{_FRAMES}/{_stem(e.tilt, series.name)}.mrc", image=None))
        for e in series.excluded
    )
    if gone:
        exported.losses.append(
            f"{series.name}: {len(gone)} excluded tilts are listed as not used; their images are not in the folder."
        )
    return replace(geometry, series=series.with_tilts(tilts).replace(excluded=gone))


def _stem(tilt: Tilt, series: str) -> str:
    named = tilt.movie or ("" if "@" in (tilt.image or "@") else tilt.image or "")
    return movie_stem(named).replace(" ", "_") or f"{series}_{tilt.acquisition:03d}"


def _steps(series: TiltSeries, source: ExportSource) -> list[str]:
    pixel, dose = series.pixel_size_angstrom, float(np.median(series.doses))
    x, y, z = volume_size(series)
    tomogram = next((g.series.tomogram for g in source.geometries if g.series.tomogram is not None), None)
    voxel = 10.0 if tomogram is None else tomogram.voxel_size_angstrom
    steps = [
        f'WarpTools create_settings --folder_data {_TABLES} --extension "*.tomostar" --folder_processing {_SERIES} '
        f"--output warp_tiltseries.settings --angpix {pixel:g} --exposure {dose:g} --tomo_dimensions {x}x{y}x{z}",
        f"WarpTools ts_reconstruct --settings warp_tiltseries.settings --angpix {voxel:g}",
    ]
    return steps + [
        f"WarpTools ts_export_particles --settings warp_tiltseries.settings --input_star particles_{listed.name}_{voxel:.2f}Apx.star "
        f"--coords_angpix {voxel:g} --output_star {listed.name}_relion.star --output_angpix {2 * pixel:g} --box 64 --diameter 200 --2d"
        for listed in source.lists
    ]
