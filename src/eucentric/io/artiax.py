"""Lists of particles for ArtiaX, a bundle of ChimeraX, and what comes back from it.

ArtiaX reads tables of RELION 3 (`src/io/RELION/RELIONParticleData.py` of FrangakisLab/ArtiaX): rlnCoordinateX/Y/Z less
rlnOriginX/Y/Z, in voxels of the tomogram from the middle of its first voxel, and RELION's angles. It saves columns of numbers
and further tables of the file, and leaves out texts. So each list holds one tomogram, each particle its row in the list it came
from (`eucParticle`; 0 in particles that ArtiaX adds), and two small tables say which tomogram it is and what was listed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.geometry import Rotation
from eucentric.io import labels
from eucentric.io.particle_columns import class_numbers, need_file
from eucentric.io.star import read_star, read_star_text, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, tomogram_name
from eucentric.typing import FloatArray, PathLike

ROW = "eucParticle"
"""A particle's row in the list that it came from, counted from 1."""
_INDEX = tuple(f"rlnCoordinate{a}" for a in "XYZ")
_ORIGIN = tuple(f"rlnOrigin{a}" for a in "XYZ")
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_CENTRED = tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")
_SIZE = (labels.TOMOGRAM_SIZE_X, labels.TOMOGRAM_SIZE_Y, labels.TOMOGRAM_SIZE_Z)
_CLASS, _SCORE = "rlnClassNumber", "rlnAutopickFigureOfMerit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArtiaxList:
    """Particles of one tomogram as ArtiaX saved them."""

    tomogram: str
    rows: NDArray[np.int64]
    """(particle,) rows of the original list from 1; 0 where ArtiaX added the particle."""
    positions_angstrom: FloatArray
    rotations: FloatArray
    classes: NDArray[np.int64]
    """(particle,) numbers of classes, 0 where none."""
    listed_rows: NDArray[np.int64]
    """Rows that were given to ArtiaX."""
    listed_angstrom: FloatArray
    """(listed, 3) where they were."""


def write_artiax_list(
    path: PathLike, particles: ParticleSet, rows: NDArray[np.int64], tomogram: str, frame: TomogramFrame
) -> None:
    """Write the particles of one tomogram for ArtiaX.

    Parameters
    ----------
    particles : the whole list
    rows : those of `tomogram` that are written, counted from 0

    Raises
    ------
    ShapeError : rows of another tomogram
    """
    part = particles.select(rows)
    if set(part.tomogram_names) - {tomogram}:
        raise ShapeError(f"A list for ArtiaX holds one tomogram; rows beside those of {tomogram} were given.")
    index = frame.to_index(part.positions_angstrom)
    angles = Rotation(part.rotations).as_relion()
    table: dict[str, list[object]] = {name: index[:, i].tolist() for i, name in enumerate(_INDEX)}
    table |= {name: [0.0] * len(part) for name in _ORIGIN}
    table |= {name: angle.tolist() for name, angle in zip(_ANGLES, angles, strict=True)}
    table[ROW] = (np.asarray(rows) + 1).tolist()
    table[_CLASS] = class_numbers(particles.kinds)[rows].tolist() if any(map(str, particles.kinds)) else [0] * len(part)
    if np.isfinite(part.scores).all():
        table[_SCORE] = part.scores.tolist()
    table |= {n: c.tolist() for n, c in part.columns.items() if n not in table and np.isfinite(c).all()}
    # a folder before the name keeps 001 a text
    about: dict[str, list[object]] = {"rlnTomoName": [f"tomograms/{tomogram}"]}
    about |= {labels.TOMOGRAM_VOXEL_SIZE: [frame.voxel_size_angstrom]}
    about |= {name: [size] for name, size in zip(_SIZE, frame.size_xyz, strict=True)}
    listed: dict[str, list[object]] = {ROW: table[ROW]}
    listed |= {name: part.positions_angstrom[:, i].tolist() for i, name in enumerate(_CENTRED)}
    write_star(path, {"tomogram": about, "listed": listed, "particles": table})


def _finite(column: Any) -> FloatArray:
    values: FloatArray = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a coordinate or an angle is not a number")
    return values


def _whole(values: FloatArray) -> NDArray[np.int64]:
    if not (np.abs(values) < 2**53).all():
        raise ValueError("a number of a row or class is none")
    return np.rint(values).astype(np.int64)


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is told below
def read_artiax_list(path: PathLike) -> ArtiaxList:
    """A list that ArtiaX saved from one of :func:`write_artiax_list`.

    Raises
    ------
    InputError : no such file
    FormatError : the tables that say where its particles came from are not in it
    """
    place = need_file(path)
    tables, texts = read_star(place), read_star_text(place)
    blocks = {
        "about": next((b for b, t in tables.items() if labels.TOMOGRAM_VOXEL_SIZE in t and "rlnTomoName" in t), None),
        "listed": next((b for b, t in tables.items() if ROW in t and all(c in t for c in _CENTRED)), None),
    }
    if None in blocks.values():
        raise FormatError(
            f"`{place}` does not say where its particles came from. Open TOMOGRAM_artiax.star of `eucentric map-back` in ArtiaX, and "
            "save it as `RELION STAR file`."
        )
    about, listed = tables[str(blocks["about"])], tables[str(blocks["listed"])]
    try:
        frame = TomogramFrame(
            voxel_size_angstrom=float(about[labels.TOMOGRAM_VOXEL_SIZE][0]),
            size_xyz=(
                round(float(about[_SIZE[0]][0])),
                round(float(about[_SIZE[1]][0])),
                round(float(about[_SIZE[2]][0])),
            ),
        )
        found = next((t for t in tables.values() if all(c in t for c in (*_INDEX, *_ANGLES, ROW))), None)
        # without particles there is a table without rows, or none
        count = 0 if found is None else len(found)
        columns = {
            name: np.zeros(count) if found is None or name not in found else _finite(found[name])
            for name in (*_INDEX, *_ORIGIN, *_ANGLES, ROW, _CLASS)
        }
        index = np.stack([columns[a] - columns[b] for a, b in zip(_INDEX, _ORIGIN, strict=True)], axis=1)
        out = ArtiaxList(
            tomogram=tomogram_name(str(texts[str(blocks["about"])]["rlnTomoName"][0])),
            rows=_whole(columns[ROW]),
            positions_angstrom=frame.to_angstrom(index),
            rotations=np.asarray(Rotation.from_relion(*(columns[a] for a in _ANGLES)).matrices).reshape(-1, 3, 3),
            classes=_whole(columns[_CLASS]),
            listed_rows=_whole(listed[ROW].to_numpy(dtype=np.float64)),
            listed_angstrom=np.stack([listed[c].to_numpy(dtype=np.float64) for c in _CENTRED], axis=1),
        )
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise FormatError(
            f"`{place}` is damaged: {type(error).__name__}: {error}. Save it from ArtiaX again."
        ) from error
    if not (np.isfinite(out.positions_angstrom).all() and np.isfinite(out.rotations).all()):
        raise FormatError(f"`{place}` holds a coordinate or an angle that is not a number. Save it from ArtiaX again.")
    return out
