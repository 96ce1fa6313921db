"""Particles in Xmipp's metadata (`.xmd`): `xcoor`, `ycoor`, `zcoor`, and perhaps shifts and angles.

Coordinates are voxels counted from 0 at the first voxel. `angleRot`, `angleTilt`, `anglePsi` are Xmipp's ZYZ angles, whose matrix
``Rz(-psi) Ry(-tilt) Rz(-rot)`` takes reference to tomogram, as RELION's [1]_. `shiftX`, `shiftY`, `shiftZ` are voxels; the
particle lies at coordinate - shift [2]_. Scipion's plugin rounds coordinates to whole voxels. The tomogram is named by
`tiltSeriesId`, `tomogramVolume` or `micrograph`, else by the file.

References
----------
.. [1] I2PC/xmipp-portal wiki, Conventions; azazellochg/3DEM-conventions
.. [2] I2PC/scipion-em-xmipptomo, `xmipptomo/convert/convert.py` (alignmentToRow, geometryFromMatrix)
"""

from pathlib import Path

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import Rotation
from eucentric.io.particle_columns import class_names, class_numbers, known_scores
from eucentric.io.xmipp_metadata import Table, read_xmd, write_xmd, xmd_numbers
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_NEEDED = ("xcoor", "ycoor", "zcoor")
_NAMES = ("tiltSeriesId", "tomogramVolume", "micrograph")
_FAR = 1e9


def read_xmipp_particles(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a table; those that are disabled are left out.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : no table of particles, or damaged
    """
    place = Path(path)
    table = next((t for t in read_xmd(place).values() if all(label in t for label in _NEEDED)), None)
    if table is None:
        raise FormatError(f"`{place}` holds no particles: expected the labels {', '.join(_NEEDED)}.")
    count = len(table["xcoor"])
    if not count:
        return ParticleSet.empty()

    def columns(*labels: str) -> FloatArray:
        found = [xmd_numbers(table, label, place) for label in labels]
        return np.stack([np.zeros(count) if f is None else f for f in found], axis=1)

    index = columns(*_NEEDED) - columns("shiftX", "shiftY", "shiftZ")
    if np.abs(index).max() > _FAR:
        raise FormatError(f"`{place}` has coordinates far outside any tomogram; it is damaged.")
    angles = columns("angleRot", "angleTilt", "anglePsi")
    enabled = columns("enabled")[:, 0] if "enabled" in table else np.ones(count)
    names = np.array(_names(table, place), dtype=np.str_)
    particles = ParticleSet.build(
        names,
        frames.to_angstrom(names, index),
        rotations=Rotation.from_relion(angles[:, 0], angles[:, 1], angles[:, 2]).matrices,
        scores=known_scores(columns("score" if "score" in table else "maxCC")[:, 0]),
        kinds=class_names(columns("ref")[:, 0]),
    )
    return particles.select(enabled > 0)


def _names(table: Table, place: Path) -> list[str]:
    for label in _NAMES:
        if label in table and all(table[label]):
            return [tomogram_name(text) for text in table[label]]
    return [tomogram_name(place.stem.removesuffix("_extracted"))] * len(table["xcoor"])


def write_xmipp_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write particles: whole voxels, and the rest of their places as shifts, so that programs which round lose nothing.

    Raises
    ------
    InputError : a tomogram of unknown size; the place cannot be written to
    FormatError : no particle
    """
    if not len(particles):
        raise FormatError("Xmipp's metadata cannot be empty. Write a table of another kind.")
    index = frames.to_index(particles.tomograms, particles.positions_angstrom)
    whole = np.round(index)
    rot, tilt, psi = Rotation(particles.rotations).as_relion()
    table: dict[str, list[object]] = {
        "itemId": list(range(1, len(particles) + 1)),
        "enabled": [1] * len(particles),
        "tiltSeriesId": [str(name) for name in particles.tomograms],
        **{label: whole[:, i].astype(int).tolist() for i, label in enumerate(_NEEDED)},
        **{f"shift{a}": (whole - index)[:, i].tolist() for i, a in enumerate("XYZ")},
        "angleRot": rot.tolist(),
        "angleTilt": tilt.tolist(),
        "anglePsi": psi.tolist(),
        "score": np.nan_to_num(particles.scores).tolist(),
        "ref": class_numbers(particles.kinds).tolist(),
    }
    write_xmd(path, table)
