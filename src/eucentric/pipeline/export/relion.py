"""Projects of RELION-5 and RELION-4."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.io.exchange.folded_volume import deformation_rms_angstrom
from eucentric.io.exchange.formats import write_geometry
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.exchange.relion_common import volume_size
from eucentric.io.exchange.relion_trajectories import odd_zernike, write_trajectories
from eucentric.io.particles import write_particles
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.star import write_star
from eucentric.models.optics import Optics
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import Tilt, TiltSeries, Tomogram
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames
from eucentric.optics.odd_aberrations import has_odd_aberrations
from eucentric.pipeline.export.files import Exported, need_images
from eucentric.pipeline.export.source import ExportSource
from eucentric.pipeline.export.stacks import stacked_series

_BOX = 64
_ODD = "rlnOddZernike"


def export_relion5(source: ExportSource, exported: Exported) -> None:
    """Tables of tilt series and tomograms, images and tomograms beside, lists of particles with their optimisation sets."""
    source.need_alignment("RELION-5")
    placed = [_placed(g, exported) for g in source.geometries]
    by_name = {g.series.name: g for g in placed}
    if source.lists:  # trajectories of particles hold the deformation of the specimen as it is
        exported.losses += [text for g in placed for text in _deformation_losses(g)]
        placed = [replace(g, volume=None) for g in placed]
    bare = [replace(g, series=g.series.replace(tomogram=None)) for g in placed]
    tables = [("tilt_series.star", bare)]
    whole = [g for g in placed if g.series.tomogram is not None]
    if whole:
        tables.append(("tomograms.star", whole))
    for name, some in tables:
        exported.written(write_geometry(exported.folder / name, some, "relion5"))
    table = "tomograms.star" if whole else "tilt_series.star"
    for listed in source.lists:
        path = exported.folder / f"particles_{listed.name}.star"
        particles = _with_optics(listed.particles, by_name)
        write_relion_particles(
            path, particles, pixel_sizes_angstrom={n: g.series.pixel_size_angstrom for n, g in by_name.items()}
        )
        exported.add(path)
        exported.lost_of(listed.name, listed.particles, "relion5")
        motion: str | None = None
        if any(by_name[n].volume is not None for n in particles.tomogram_names):
            motion = f"motion_{listed.name}.star"
            write_trajectories(exported.folder / motion, particles, by_name)
            exported.add(exported.folder / motion)
        exported.add(optimisation_set(exported.folder, listed.name, path.name, table, motion))
    if not source.lists:
        exported.losses += [text for g in placed for text in _aberration_losses(g.series)]
    if any(t.movie is not None for g in placed for t in g.series.tilts):
        exported.notes.append("Movies are not in the folder: the tables name those of the project by their full paths.")
    exported.steps += ["# In this folder (paths in the tables start from it):", "relion --tomo &"]
    if not source.lists:
        exported.steps.append(
            f"relion_tomo_reconstruct_tomogram --t {table} --o Tomograms/job001/ --binned_angpix 10 --j 4"
        )
    exported.steps += [
        f"relion_tomo_subtomo --i optimisation_set_{listed.name}.star --o Extract/{listed.name}/ --b {_BOX} --bin 2 --stack2d "
        "--float16 --j 4"
        for listed in source.lists
    ]


def _placed(geometry: SeriesGeometry, exported: Exported) -> SeriesGeometry:
    """The series with its images and tomograms in the export, by their paths from there."""
    series = geometry.series
    need_images(series, "RELION")

    def moved(tilt: Tilt) -> Tilt:
        return replace(
            tilt,
            image=_image(tilt.image, exported, series.name),
            image_even=_image(tilt.image_even, exported, series.name),
            image_odd=_image(tilt.image_odd, exported, series.name),
        )

    tomogram = series.tomogram
    if tomogram is not None:
        tomogram = Tomogram(
            path=_volume(tomogram.path, exported) or "",
            voxel_size_angstrom=tomogram.voxel_size_angstrom,
            shape_zyx=tomogram.shape_zyx,
            half1=_volume(tomogram.half1, exported),
            half2=_volume(tomogram.half2, exported),
        )
    return replace(geometry, series=series.replace(tilts=tuple(moved(t) for t in series.tilts), tomogram=tomogram))


def _image(name: str | None, exported: Exported, series: str) -> str | None:
    if name is None:
        return None
    section, at, path = name.rpartition("@")
    target = exported.folder / "tilt_images" / series / Path(path).name
    if target not in exported.files:
        exported.place(path, target)
    return f"{section}{at}{target.relative_to(exported.folder).as_posix()}"


def _volume(path: str | None, exported: Exported) -> str | None:
    if path is None:
        return None
    target = exported.place(path, exported.folder / "tomograms" / f"rec_{Path(path).name}")
    return target.relative_to(exported.folder).as_posix()


def optimisation_set(folder: Path, name: str, particles: str, tomograms: str, motion: str | None = None) -> Path:
    """Write RELION's list of files that belong together; its path."""
    path = folder / f"optimisation_set_{name}.star"
    files = {"rlnTomoParticlesFile": [particles], "rlnTomoTomogramsFile": [tomograms]}
    write_star(path, {"": files if motion is None else files | {"rlnTomoTrajectoriesFile": [motion]}})
    return path


def _with_optics(particles: ParticleSet, geometries: Mapping[str, SeriesGeometry]) -> ParticleSet:
    """With the optics of their series, aberrations too, for the groups of the list."""
    names = particles.tomogram_names
    optics = {n: geometries[n].series.optics or Optics() for n in names}
    rows = np.array([names.index(str(t)) for t in particles.tomograms])
    columns = {
        "rlnVoltage": [o.voltage_kv for o in optics.values()],
        "rlnSphericalAberration": [o.spherical_aberration_mm for o in optics.values()],
        "rlnAmplitudeContrast": [o.amplitude_contrast for o in optics.values()],
    }
    for label, values in columns.items():
        particles = particles.with_column(label, np.array(values)[rows])
    texts = {label: column for label, column in particles.texts.items() if label != _ODD}
    if any(has_odd_aberrations(o) for o in optics.values()):
        texts[_ODD] = np.array([odd_zernike(o) for o in optics.values()])[rows]
    return replace(particles, texts=texts)


def _deformation_losses(geometry: SeriesGeometry) -> list[str]:
    if geometry.volume is None:
        return []
    return [
        f"{geometry.series.name}: the deformation of the specimen ({deformation_rms_angstrom(geometry):.2f} A rms) is in the "
        "trajectories of the particles (motion_*.star); tomograms that RELION makes go without it."
    ]


def _aberration_losses(series: TiltSeries) -> list[str]:
    if series.optics is None or not has_odd_aberrations(series.optics):
        return []
    return [f"{series.name}: beam tilt and trefoil, which RELION keeps with lists of particles, are left out."]


def export_relion4(source: ExportSource, exported: Exported) -> None:
    """A table of projection matrices with whole stacks, and lists of particles in pixels of the images."""
    stacked = stacked_series(source, exported, "RELION-4", lambda name: f"tilt_series/{name}.mrc")
    exported.written(write_geometry(exported.folder / "tomograms.star", stacked, "relion4"))
    sizes = {g.series.name: (volume_size(g.series), g.series.pixel_size_angstrom) for g in stacked}
    frames = TomogramFrames(
        by_name={n: TomogramFrame(voxel_size_angstrom=px, size_xyz=size) for n, (size, px) in sizes.items()}
    )
    for listed in source.lists:
        path = exported.folder / f"particles_{listed.name}.star"
        write_particles(path, listed.particles, "relion4", frames)
        exported.lost_of(listed.name, listed.particles, "relion4")
        exported.add(path, optimisation_set(exported.folder, listed.name, path.name, "tomograms.star"))
        binning = _binning(source, stacked)
        exported.steps.append(
            f"relion_tomo_subtomo --i optimisation_set_{listed.name}.star --o PseudoSubtomo/{listed.name}/ --b {_BOX * binning} "
            f"--crop {_BOX} --bin {binning} --j 4"
        )
    if not source.lists:
        exported.steps.append("relion_tomo_reconstruct_tomogram --t tomograms.star --o Tomograms/ --bin 4 --j 4")


def _binning(source: ExportSource, stacked: Sequence[SeriesGeometry]) -> int:
    of = [g.series.tomogram for g in source.geometries]
    ratio = [t.voxel_size_angstrom / g.series.pixel_size_angstrom for t, g in zip(of, stacked, strict=True) if t]
    return max(1, round(float(np.median(ratio)))) if ratio else 2
