"""Lists of particles in every format that is known: which one a file has, reading and writing, and grids of tomograms."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.copick import read_copick, write_copick
from eucentric.io.dynamo import read_dynamo_table, write_dynamo_table
from eucentric.io.imod_particles import read_imod_particles, write_imod_particles
from eucentric.io.motive_lists import read_motive_list, read_stopgap, write_motive_list, write_stopgap
from eucentric.io.mrc import read_mrc_header
from eucentric.io.particle_columns import need_file, read_tomogram_numbers
from eucentric.io.pytom_particles import read_pytom_star, read_pytom_xml, write_pytom_star, write_pytom_xml
from eucentric.io.relion_particles import (
    read_relion_particles,
    write_relion4_particles,
    write_relion_particles,
    write_warp_particles,
)
from eucentric.io.star import read_star, read_star_text
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import PathLike

PARTICLE_FORMATS: Mapping[str, str] = {
    "relion5": ".star",
    "relion4": ".star",
    "warp": ".star",
    "pytom": ".star",
    "pytom-xml": ".xml",
    "dynamo": ".tbl",
    "stopgap": ".star",
    "em": ".em",
    "imod": ".mod",
    "copick": ".json",
}
"""Name -> the ending of its files."""
IN_PIXELS_OF_IMAGES = frozenset({"relion5", "relion4"})
"""Formats whose pixels are those of the tilt images, not voxels of a tomogram."""
ONE_TOMOGRAM = frozenset({"imod", "copick"})
"""Formats whose files hold one tomogram: several files go into a folder."""


def particle_format(path: PathLike) -> str:
    """The format of a file, from its ending and, of STAR files, its columns.

    Raises
    ------
    InputError : no such file
    FormatError : none that is known
    """
    place = need_file(path)
    ending = place.suffix.lower()
    if ending == ".star":
        columns = {label for table in read_star_text(place).values() for label in table}
        if {"tomo_num", "orig_x", "the"} <= columns:
            return "stopgap"
        if "rlnCenteredCoordinateXAngst" in columns:
            return "relion5"
        if "rlnCoordinateX" in columns:
            if {"rlnLCCmax", "rlnDetectorPixelSize", "rlnMicrographName"} <= columns:
                return "pytom"
            return "relion4" if "rlnTomoName" in columns else "warp"
        raise FormatError(
            f"`{place}` is a STAR file without particles: none of its tables has coordinates that are known."
        )
    found = [name for name, its in PARTICLE_FORMATS.items() if its == ending and ending != ".star"]
    if not found:
        raise FormatError(
            f"`{place.name}` is of no kind that is known. Expected one of {', '.join(sorted(set(PARTICLE_FORMATS.values())))}."
        )
    return found[0]


def known_format(name: str) -> str:
    """The name itself; InputError where no format is called so."""
    if name not in PARTICLE_FORMATS:
        raise InputError(f"There is no format `{name}`. Expected one of {', '.join(PARTICLE_FORMATS)}.")
    return name


def read_particles(path: PathLike, frames: TomogramFrames | None = None, format_name: str | None = None) -> ParticleSet:
    """Particles of a file, or of all files of a folder, of any known format.

    Parameters
    ----------
    path : file, or folder of files with one ending
    frames : grids of the tomograms; not needed for RELION-5's tables
    format_name : one of `PARTICLE_FORMATS`; found from the file where None

    Raises
    ------
    InputError : no such file, an unknown format, or a tomogram of unknown size
    FormatError : a file that is not of the format
    """
    place, grids = Path(path), frames or TomogramFrames()
    if place.is_dir():
        endings = {PARTICLE_FORMATS[known_format(format_name)]} if format_name else {".mod", ".json"}
        files = sorted(f for f in place.iterdir() if f.suffix.lower() in endings)
        if not files:
            raise InputError(f"`{place}` holds no file of particles ({', '.join(sorted(endings))}).")
        return ParticleSet.concatenate([read_particles(f, grids, format_name) for f in files])
    name = known_format(format_name) if format_name else particle_format(place)
    if name in ("relion5", "relion4", "warp"):
        return read_relion_particles(place, grids)
    readers = {
        "pytom": read_pytom_star,
        "pytom-xml": read_pytom_xml,
        "dynamo": read_dynamo_table,
        "stopgap": read_stopgap,
        "em": read_motive_list,
        "imod": read_imod_particles,
        "copick": read_copick,
    }
    return readers[name](place, grids)


def write_particles(
    path: PathLike, particles: ParticleSet, format_name: str, frames: TomogramFrames | None = None
) -> list[Path]:
    """Write particles; the files made.

    A format of one tomogram a file gets a folder with a file for each (copick: and each kind), unless `path` has the ending of
    the format and the particles are of one.

    Raises
    ------
    InputError : an unknown format, or a tomogram of unknown size
    BackendError : the disk is full
    """
    place, grids, name = Path(path), frames or TomogramFrames(), known_format(format_name)
    if name in ONE_TOMOGRAM and place.suffix.lower() != PARTICLE_FORMATS[name]:
        made = []
        for tomogram in particles.tomogram_names:
            part = particles.in_tomogram(tomogram)
            if name == "imod":
                made += write_particles(place / f"{tomogram}.mod", part, name, grids)
                continue
            for kind in sorted({str(k) for k in part.kinds}):
                file = place / f"{tomogram}_{kind or 'particle'}.json"
                made += write_particles(file, part.select(part.kinds == kind), name, grids)
        return made
    if name == "relion5":
        sizes = {n: f.voxel_size_angstrom for n, f in grids.by_name.items()}
        write_relion_particles(place, particles, pixel_sizes_angstrom=sizes or None)
        return [place]
    writers = {
        "relion4": write_relion4_particles,
        "warp": write_warp_particles,
        "pytom": write_pytom_star,
        "pytom-xml": write_pytom_xml,
        "dynamo": write_dynamo_table,
        "stopgap": write_stopgap,
        "em": write_motive_list,
        "imod": write_imod_particles,
        "copick": write_copick,
    }
    writers[name](place, particles, grids)
    return [place]


def read_tomogram_frames(path: PathLike, *, of_images: bool = False) -> TomogramFrames:
    """Grids of tomograms, from a table of tilt series or tomograms (ours or RELION's), or from one tomogram's own header.

    Parameters
    ----------
    path : `.star` with rlnTomoName, rlnTomoSizeX/Y/Z and rlnTomoTiltSeriesPixelSize, or `.mrc`
    of_images : in pixels of the tilt images; else in voxels of the reconstructions, where the table has them

    Raises
    ------
    InputError : no such file
    FormatError : a table without sizes
    """
    place = need_file(path)
    if place.suffix.lower() != ".star":
        header = read_mrc_header(place)
        if header.voxel_size_angstrom is None:
            raise FormatError(f"`{place}` does not tell its voxel size. Give --tomogram-size X Y Z and --pixel-size.")
        z, y, x = header.shape
        return TomogramFrames(
            by_name={
                tomogram_name(place.name): TomogramFrame(
                    voxel_size_angstrom=header.voxel_size_angstrom[0], size_xyz=(x, y, z)
                )
            }
        )
    size = tuple(f"rlnTomoSize{a}" for a in "XYZ")
    block = next(
        (b for b, t in read_star_text(place).items() if "rlnTomoName" in t and all(s in t for s in size)), None
    )
    if block is None:
        raise FormatError(f"`{place}` has no table with rlnTomoName and {', '.join(size)}.")
    table, names = read_star(place)[block], read_star_text(place)[block]["rlnTomoName"]
    own = tuple(f"eucTomogramSize{a}" for a in "XYZ")
    frames: dict[str, TomogramFrame] = {}
    for row, name in enumerate(names):
        pixel = (
            float(table["rlnTomoTiltSeriesPixelSize"][row]) if "rlnTomoTiltSeriesPixelSize" in table else float("nan")
        )
        shape = np.array([float(table[s][row]) for s in size])
        if not of_images and all(s in table for s in (*own, "eucTomogramVoxelSizeAngst")):
            values = np.array([float(table[s][row]) for s in own])
            if np.isfinite(values).all():
                shape, pixel = values, float(table["eucTomogramVoxelSizeAngst"][row])
        elif not of_images and "rlnTomoTomogramBinning" in table:
            binning = float(table["rlnTomoTomogramBinning"][row])
            shape, pixel = np.round(shape / binning), pixel * binning
        if not (np.isfinite(shape).all() and np.isfinite(pixel)):
            continue
        x, y, z = (round(float(n)) for n in shape)
        frames[tomogram_name(name or "")] = TomogramFrame(voxel_size_angstrom=pixel, size_xyz=(x, y, z))
    if not frames:
        raise FormatError(f"`{place}` gives neither sizes nor pixel sizes of tomograms.")
    return TomogramFrames(by_name=frames)


def with_numbers(frames: TomogramFrames, path: PathLike) -> TomogramFrames:
    """The same grids, with the numbers of tomograms in a file of two columns: number, name."""
    return TomogramFrames(by_name=frames.by_name, default=frames.default, numbers=read_tomogram_numbers(path))
