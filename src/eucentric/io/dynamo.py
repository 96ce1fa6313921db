"""Particle tables of Dynamo (`.tbl`): 35 columns or more of numbers.

Of its columns (dynamotable's list): 1 tag, 2 aligned, 4-6 shifts, 7-9 tdrot, tilt, narot, 10 correlation, 20 tomogram, 22
class, 24-26 x, y, z, 36 voxel size. A particle lies at x + dx, in voxels. Dynamo is MATLAB: its first voxel is 1.

Angles turn the reference clockwise, each about the axes as turned so far (Dynamo's wiki, Euler angles convention):
``Rz(-tdrot) Rx(-tilt) Rz(-narot)`` takes reference to tomogram. In a table of a filament picked by Dynamo, this puts the z
axis of the particles along the filament.

Columns that have no other place (tags, tilt ranges, regions, annotations and others) are kept as `dyn...` and written again.
"""

import numpy as np

from eucentric.geometry import rotation_x, rotation_z
from eucentric.io.atomic import atomic_path
from eucentric.io.number_text import number_cells, rows_of_cells
from eucentric.io.particle_columns import (
    class_names,
    class_numbers,
    grouped,
    known_scores,
    names_file,
    need_file,
    need_finite,
    number_table,
    numbered_names,
    write_tomogram_numbers,
    zxz_angles,
)
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import FloatArray, PathLike

_COLUMNS, _LEAST = 36, 26
_MATLAB = 1.0
_ROWS, _FEW_ROWS, _DECIMALS = 1 << 16, 2000, 6
_DEFAULTS = {2: 1.0, 3: 1.0, 13: 1.0}
KEPT_COLUMNS = {
    1: "dynTag",
    2: "dynAligned",
    3: "dynAveraged",
    11: "dynCC2",
    13: "dynFType",
    14: "dynYMinTilt",
    15: "dynYMaxTilt",
    16: "dynXMinTilt",
    17: "dynXMaxTilt",
    18: "dynFS1",
    19: "dynFS2",
    21: "dynRegion",
    23: "dynAnnotation",
    31: "dynOriginalTag",
    32: "dynNPar",
    34: "dynReference",
    35: "dynSubReference",
}
"""Columns, counted from 1, that have no other place in a list."""


def read_dynamo_table(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a table, with their tomograms' names where a file of names lies beside it.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not such a table
    """
    place = need_file(path)
    table = number_table(place, None, _LEAST)
    need_finite(table[:, [3, 4, 5, 6, 7, 8, 19, 23, 24, 25]], "positions, angles or tomograms", place)
    named = TomogramFrames(
        by_name=frames.by_name, default=frames.default, numbers=numbered_names(place, frames.numbers)
    )
    different, codes = np.unique(table[:, 19], return_inverse=True)
    tomograms = named.names_of(different)[codes] if len(table) else np.zeros(0, dtype=np.str_)
    index = table[:, 23:26] + table[:, 3:6] - _MATLAB
    tdrot, tilt, narot = table[:, 6], table[:, 7], table[:, 8]
    return ParticleSet.build(
        tomograms,
        named.to_angstrom(tomograms, index),
        rotations=rotation_z(-tdrot) @ rotation_x(-tilt) @ rotation_z(-narot),
        scores=known_scores(table[:, 9]),
        kinds=class_names(table[:, 21]),
        columns={
            name: table[:, column - 1]
            for column, name in KEPT_COLUMNS.items()
            if column <= table.shape[1] and (table[:, column - 1] != _default(column, len(table))).any()
        },
    )


def _default(column: int, rows: int) -> FloatArray:
    """What is written where nothing else is known."""
    return np.arange(1.0, rows + 1) if column == 1 else np.full(rows, _DEFAULTS.get(column, 0.0))


def write_dynamo_table(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table, and the names of its tomograms beside it; no shifts are left in it."""
    names, codes = grouped(particles.tomograms)
    numbers, used = frames.numbers_of(np.array(names, dtype=np.str_))
    voxels = np.array([frames.of(name).voxel_size_angstrom for name in names], dtype=np.float64)
    centres = np.array([frames.of(name).size_xyz for name in names], dtype=np.int64).reshape(-1, 3) // 2
    table = np.zeros((len(particles), _COLUMNS))
    for column in range(1, _COLUMNS + 1):
        kept = particles.columns.get(KEPT_COLUMNS.get(column, ""))
        known = kept is not None and bool(np.isfinite(kept).all())
        table[:, column - 1] = kept if known else _default(column, len(particles))
    angles = zxz_angles(particles.rotations)
    table[:, 6], table[:, 7], table[:, 8] = -angles[:, 2], -angles[:, 1], -angles[:, 0]
    table[:, 9] = np.nan_to_num(particles.scores)
    table[:, 19] = numbers[codes]
    table[:, 21] = class_numbers(particles.kinds)
    table[:, 23:26] = particles.positions_angstrom / voxels[codes, None] + centres[codes] + _MATLAB
    table[:, 35] = voxels[codes]
    for column in (6, 7, 8, 23, 24, 25):
        table[:, column] = np.round(table[:, column], _DECIMALS)
    _write_table(path, table)
    write_tomogram_numbers(names_file(path), used)


def _write_table(path: PathLike, table: FloatArray) -> None:
    """Rows in parts, so that a long table takes little memory."""
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        if len(table) <= _FEW_ROWS:
            out.write("".join(" ".join(f"{v:.10g}" for v in row) + "\n" for row in table).encode())
            return
        whole = [bool((column == np.round(column)).all()) for column in table.T]
        for first in range(0, len(table), _ROWS):
            part = table[first : first + _ROWS].T
            columns = [c.astype(np.int64) if w else np.ascontiguousarray(c) for c, w in zip(part, whole, strict=True)]
            out.write(rows_of_cells([number_cells(column) for column in columns]))
