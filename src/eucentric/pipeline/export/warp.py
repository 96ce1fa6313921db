"""WarpTools and M: tilt series as `.tomostar` and `.xml`, averages of movies where Warp looks for them, lists of particles.

Settings hold one pixel size, dose and size of the specimen, so series that differ get settings of their own; `--input_data` then says
which series a command is for [1]_.

References
----------
.. [1] https://warpem.github.io/warp, WarpTools reference: create_settings, ts_reconstruct, ts_export_particles
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from eucentric.pipeline.export.lists import known_particles
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import read_tilt_image

_FRAMES, _TABLES, _SERIES = "warp_frameseries", "tomostar", "warp_tiltseries"
_VOXEL = 10.0
"""A, of tomograms where the project has none."""


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
    lists: dict[str, ParticleSet] = {}
    for listed in source.lists:
        known = known_particles(source, listed, exported)
        exported.lost_of(listed.name, known, "warp")
        for size in sorted({frames.of(n).voxel_size_angstrom for n in known.tomogram_names}):
            exported.add(_write_list(exported, listed.name, known, frames, size))
        if len(known):
            lists[listed.name] = known
    exported.steps += _steps([g.series for g in source.geometries], lists, frames)


def _list_name(name: str, size: float) -> str:
    return f"particles_{name}_{size:.2f}Apx.star"


def _write_list(exported: Exported, name: str, particles: ParticleSet, frames: TomogramFrames, size: float) -> Path:
    """Particles of the tomograms of one voxel size, which Warp takes from its command line."""
    some = particles.select([frames.of(str(n)).voxel_size_angstrom == size for n in particles.tomograms])
    path = exported.folder / _list_name(name, size)
    write_particles(path, some, "warp", frames)
    return path


def _placed(geometry: SeriesGeometry, exported: Exported) -> SeriesGeometry:
    """The series with every image as the average of a movie of its own; without excluded tilts that have no image."""
    series = geometry.series
    gone = tuple(e for e in series.excluded if _has_image(e.tilt))
    every = [*series.tilts, *(e.tilt for e in gone)]
    stems = [_stem(t, series.name) for t in every]
    if len(set(stems)) < len(stems):
        stems = [f"{series.name}_{t.acquisition:03d}" for t in every]
    moved = [_moved(tilt, stem, series, exported) for tilt, stem in zip(every, stems, strict=True)]
    count = len(series.tilts)
    missing = len(series.excluded) - len(gone)
    if missing:
        exported.losses.append(f"{series.name}: {missing} excluded tilts have no image and are left out.")
    kept = tuple(replace(e, tilt=tilt) for e, tilt in zip(gone, moved[count:], strict=True))
    return replace(geometry, series=series.with_tilts(moved[:count]).replace(excluded=kept))


def _has_image(tilt: Tilt) -> bool:
    path = (tilt.image or "").rpartition("@")[2]
    return bool(path) and Path(path).is_file()


def _moved(tilt: Tilt, stem: str, series: TiltSeries, exported: Exported) -> Tilt:
    """The tilt with its image where Warp looks for the average of its movie."""
    target = exported.folder / _FRAMES / "average" / f"{stem}.mrc"
    section, _, path = (tilt.image or "").rpartition("@")
    if section:
        picture = read_tilt_image(tilt, "image", series.image_shape)
        write_mrc(target, picture, series.pixel_size_angstrom, is_volume=False)
        exported.add(target)
    else:
        exported.place(path, target)
    return replace(tilt, movie=f"../{_FRAMES}/{stem}.mrc", image=None)


def _stem(tilt: Tilt, series: str) -> str:
    named = tilt.movie or ("" if "@" in (tilt.image or "@") else tilt.image or "")
    return movie_stem(named).replace(" ", "_") or f"{series}_{tilt.acquisition:03d}"


@dataclass(frozen=True, slots=True)
class _Settings:
    """What series must have in common to go by one command."""

    pixel: float
    dose: float
    size: tuple[int, int, int]
    voxel: float
    """Of the tomogram to be made."""


def _steps(every: Sequence[TiltSeries], lists: dict[str, ParticleSet], frames: TomogramFrames) -> list[str]:
    """Commands for all series; a block for each different settings."""
    groups: dict[_Settings, list[str]] = {}
    for series in every:
        made = series.tomogram
        key = _Settings(
            pixel=series.pixel_size_angstrom,
            dose=float(np.median(series.doses)),
            size=volume_size(series),
            voxel=_VOXEL if made is None else made.voxel_size_angstrom,
        )
        groups.setdefault(key, []).append(series.name)
    steps: list[str] = []
    for number, (key, names) in enumerate(groups.items(), 1):
        ending, only = "", ""
        if len(groups) > 1:
            ending = f"_{number}"
            only = " --input_data " + " ".join(shlex.quote(f"{_TABLES}/{n}.tomostar") for n in names)
            steps.append(f"# {', '.join(names)}:")
        steps += _block(key, ending, only)
        for listed, particles in lists.items():
            own = {frames.of(n).voxel_size_angstrom for n in particles.tomogram_names if n in names}
            steps += [_export(key, listed, size, ending, only) for size in sorted(own)]
    if lists:
        steps.insert(
            0, "# pixel size, box and diameter of ts_export_particles are examples; tomograms are for looking at"
        )
    return steps


def _block(key: _Settings, ending: str, only: str) -> list[str]:
    x, y, z = key.size
    settings = f"warp_tiltseries{ending}.settings"
    return [
        f'WarpTools create_settings --folder_data {_TABLES} --extension "*.tomostar" --folder_processing {_SERIES} '
        f"--output {settings} --angpix {key.pixel:g} --exposure {key.dose:g} --tomo_dimensions {x}x{y}x{z}",
        f"WarpTools ts_reconstruct --settings {settings} --angpix {key.voxel:g}{only}",
    ]


def _export(key: _Settings, listed: str, size: float, ending: str, only: str) -> str:
    """Cutting out the particles of a list that are counted in voxels of one size."""
    return (
        f"WarpTools ts_export_particles --settings warp_tiltseries{ending}.settings --input_star "
        f"{shlex.quote(_list_name(listed, size))} --coords_angpix {size:g} --output_star {shlex.quote(listed)}{ending}_relion.star "
        f"--output_angpix {2 * key.pixel:g} --box 64 --diameter 200 --2d{only}"
    )
