"""Particle tables of RELION 3 and 4 and of Warp, whose coordinates are pixels (see `relion_particles`, which reads them)."""

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import Rotation
from eucentric.io.particle_columns import class_numbers, need_file, need_finite
from eucentric.io.relion_particles import (
    ANGLES,
    CLASS,
    CORNER,
    GROUP,
    SCORE,
    WARP_ENDING,
    optics_groups,
    shared_columns,
    written_numbers,
)
from eucentric.io.star import Column, read_star_columns, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_MAGNIFICATION = 10000.0
_MICROGRAPH = "rlnMicrographName"


def write_relion4_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a RELION-4 table; `frames` are the tomograms in pixels of the tilt images."""
    table = shared_columns(particles)
    table |= _numbers(CORNER, _corner(particles, frames)) | _angles(particles)
    sizes = {name: frames.of(name).voxel_size_angstrom for name in particles.tomogram_names}
    optics, table[GROUP] = optics_groups(particles, sizes)
    write_star(path, {"optics": optics, "particles": table})


def write_relion31_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table of RELION 3.1 for subtomograms: voxels of the tomograms, their size in the optics table."""
    size = frames.voxel_sizes(particles.tomograms)
    voxels = sorted(set(size.tolist())) or [1.0]
    table = _relion3_columns(particles, frames) | _numbers(
        [f"rlnOrigin{a}Angst" for a in "XYZ"], np.zeros((len(particles), 3))
    )
    table[GROUP] = np.searchsorted(voxels, size) + 1
    optics: dict[str, Column] = {
        GROUP: list(range(1, len(voxels) + 1)),
        "rlnOpticsGroupName": [f"opticsGroup{n}" for n in range(1, len(voxels) + 1)],
        "rlnMicrographPixelSize": voxels,
        "rlnImagePixelSize": voxels,
        "rlnImageDimensionality": [3] * len(voxels),
    }
    write_star(path, {"optics": optics, "particles": table})


def write_relion3_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table of RELION 3.0: voxels of the tomograms, their size as that of a detector magnified 10000 times."""
    table = _relion3_columns(particles, frames)
    table["rlnMagnification"] = np.full(len(particles), _MAGNIFICATION)
    table["rlnDetectorPixelSize"] = frames.voxel_sizes(particles.tomograms)
    write_star(path, {"": table})


def _relion3_columns(particles: ParticleSet, frames: TomogramFrames) -> dict[str, Column]:
    table: dict[str, Column] = {_MICROGRAPH: np.char.add(particles.tomograms, ".mrc")}
    table |= _numbers(CORNER, frames.to_index(particles.tomograms, particles.positions_angstrom)) | _angles(particles)
    if (particles.kinds != "").any():
        table[CLASS] = class_numbers(particles.kinds)
    if not np.isnan(particles.scores).all():
        table[SCORE] = particles.scores
    return table


def write_warp_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table for WarpTools and M: pixels of the tomogram, rlnMicrographName `TS.tomostar`, rlnPixelSize (their docs).

    Warp takes its pixel size from its own command line (`--coords_angpix`).
    """
    table = _warp_columns(particles, _corner(particles, frames))
    table["rlnPixelSize"] = frames.voxel_sizes(particles.tomograms)
    if SCORE in table:
        table[SCORE] = table.pop(SCORE)
    write_star(path, {"": table})


def write_warp_normalized_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table for WarpTools with `--normalized_coords`: 0 to 1 over the tomogram."""
    fraction = _corner(particles, frames) / _sizes(particles, frames)
    write_star(path, {"": _warp_columns(particles, fraction)})


def read_warp_normalized_particles(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles whose coordinates go from 0 to 1 over the tomogram, as Warp takes with `--normalized_coords`.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not such a table, or coordinates far from 0 to 1
    """
    place = need_file(path)
    needed = (*CORNER, _MICROGRAPH)
    table = next((t for t in read_star_columns(place).values() if all(c in t for c in needed)), None)
    if table is None:
        raise FormatError(f"`{place}` has no table with {', '.join(needed)}.")
    fraction = need_finite(np.stack([table.numbers(c) for c in CORNER], axis=1), "coordinates", place)
    if len(fraction) and (fraction.min() < -1.0 or fraction.max() > 2.0):
        raise FormatError(
            f"`{place}` has coordinates from {fraction.min():g} to {fraction.max():g}; expected 0 to 1 over the tomogram. "
            "Are they pixels? Then give --from warp."
        )
    names = np.array([tomogram_name(name) for name in table.texts(_MICROGRAPH).tolist()], dtype=np.str_)
    angles = [table.numbers(a) if a in table else np.zeros(len(table)) for a in ANGLES]
    need_finite(np.stack(angles, axis=1), "angles", place)
    bare = ParticleSet.build(names, np.zeros((len(table), 3)))
    return ParticleSet.build(
        names,
        (fraction - 0.5) * _sizes(bare, frames) * frames.voxel_sizes(names)[:, None],
        rotations=Rotation.from_relion(*angles).matrices,
        scores=table.numbers(SCORE) if SCORE in table else np.nan,
    )


def _warp_columns(particles: ParticleSet, coordinates: FloatArray) -> dict[str, Column]:
    table: dict[str, Column] = {_MICROGRAPH: np.char.add(particles.tomograms, WARP_ENDING)}
    table |= _numbers(CORNER, coordinates) | _angles(particles)
    if not np.isnan(particles.scores).all():
        table[SCORE] = particles.scores
    return table


def _sizes(particles: ParticleSet, frames: TomogramFrames) -> FloatArray:
    """(particle, 3) voxels along x, y and z."""
    names, codes = np.unique(particles.tomograms, return_inverse=True)
    sizes = np.array([frames.of(str(name)).size_xyz for name in names], dtype=np.float64).reshape(-1, 3)
    return np.asarray(sizes[codes])


def _corner(particles: ParticleSet, frames: TomogramFrames) -> FloatArray:
    """(particle, 3) pixels with the centre at size / 2."""
    pixel = frames.voxel_sizes(particles.tomograms)[:, None]
    return np.asarray(particles.positions_angstrom / pixel + _sizes(particles, frames) / 2.0)


def _numbers(labels: tuple[str, ...] | list[str], values: FloatArray) -> dict[str, Column]:
    return {label: written_numbers(values[:, i]) for i, label in enumerate(labels)}


def _angles(particles: ParticleSet) -> dict[str, Column]:
    angles = Rotation(particles.rotations).as_relion()
    return {name: written_numbers(angle) for name, angle in zip(ANGLES, angles, strict=True)}
