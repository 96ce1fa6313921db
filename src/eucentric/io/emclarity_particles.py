"""Particles of emClarity: the tables of its template search (`convmap/NAME_REGION_binN.csv`) and the models beside them.

26 numbers a row with spaces between, once for each peak that was kept: 1 score; 2 binning of the search; 4 number of the particle;
7 half set (1 odd, 2 even); 11-13 x, y, z in pixels that are not binned; 14-16 Euler angles e1, e2, e3 (degrees); 17-25 the
rotation, column after column; 26 class, -9999 for particles that were thrown away. (`BH_templateSearch3d_2.m` of
StochasticAnalytics/emClarity.)

The matrix ``Rz(e1) Rx(e2) Rz(e3)`` takes reference to tomogram (`BH_defineMatrix.m`, direction "inv"; `ShiftAll` of
`BH_geometryAnalysis.m` adds R times a shift of the reference to the positions). It is read, not the angles: those of a search are
rounded, and alignment changes only the matrix. A position is the index, from 1 as in MATLAB, in the volume that was searched, times
its binning.

A table belongs to one region of a tilt series, `NAME_REGION`. That is the name of its tomogram here, and its grid is that of the
volume that was searched.
"""

import re
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.imod_models import write_imod_model
from eucentric.io.particle_columns import (
    class_names,
    class_numbers,
    known_scores,
    nearest_rotations,
    need_file,
    number_table,
    zxz_angles,
)
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import PathLike

_COLUMNS = 26
_GONE = -9999
_SUBSET = "rlnRandomSubset"
_MATLAB = 1.0
_BINNING = re.compile(r"_bin\d+$")


def read_emclarity_particles(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """The first peak of each particle that was not thrown away.

    Parameters
    ----------
    frames : grids of the volumes that were searched, `NAME_REGION`

    Raises
    ------
    InputError : no such file, or a volume of unknown size
    FormatError : not such a table
    """
    place = need_file(path)
    if not place.stat().st_size:
        return ParticleSet.empty()
    table = number_table(place, None, _COLUMNS)
    if table.shape[1] % _COLUMNS:
        raise FormatError(f"`{place}` has {table.shape[1]} columns; a table of emClarity has 26 for each peak.")
    rows = table[table[:, 25] != _GONE]
    matrices = rows[:, 16:25].reshape(-1, 3, 3).transpose(0, 2, 1)
    whole = (np.abs(rows[:, :_COLUMNS]) < 1e7).all() and (np.abs(matrices) < 2.0).all() and (rows[:, 1] > 0).all()
    determinants = np.linalg.det(matrices) if whole and len(rows) else np.ones(0)
    if not whole or not ((determinants > 0.5) & (determinants < 2.0)).all():
        raise FormatError(f"`{place}` has places or rotations that cannot be. Copy it again.")
    name = _BINNING.sub("", place.stem)
    index = rows[:, 10:13] / rows[:, 1:2] - _MATLAB
    halves = rows[:, 6] if np.isin(rows[:, 6], (1, 2)).all() and len(np.unique(rows[:, 6])) == 2 else None
    return ParticleSet.build(
        name,
        frames.of(name).to_angstrom(index) if len(rows) else np.zeros((0, 3)),
        rotations=nearest_rotations(matrices),
        scores=known_scores(rows[:, 0]),
        kinds=class_names(rows[:, 25]),
        columns=None if halves is None else {_SUBSET: halves},
    )


def write_emclarity_particles(
    folder: PathLike, particles: ParticleSet, frames: TomogramFrames, binning: int
) -> list[Path]:
    """Write `NAME_REGION_binN.csv` and `.mod` for each tomogram, as `emClarity init` takes them from `convmap`; the files made.

    Parameters
    ----------
    frames : grids of volumes `NAME_REGION`, binned
    binning : of their voxels against the pixels of the images

    Raises
    ------
    InputError : a binning below 1, a tomogram of unknown size, or a name without the number of a region
    """
    if binning < 1:
        raise InputError(f"The binning is {binning}; expected how many pixels of the images a voxel is, 1 or more.")
    files: list[Path] = []
    classes = np.maximum(class_numbers(particles.kinds), 1)
    for name in particles.tomogram_names:
        if not name.rpartition("_")[2].isdecimal() or not name.rpartition("_")[0]:
            raise InputError(
                f"emClarity's tomograms are called NAME_REGION, such as TS_01_1, and this one {name}. Rename it."
            )
        part, frame = particles.in_tomogram(name), frames.of(name)
        index = frame.to_index(part.positions_angstrom) + _MATLAB
        angles = zxz_angles(part.rotations)
        halves = part.columns.get(_SUBSET)
        rows = np.ones((len(part), _COLUMNS))
        rows[:, 0] = np.where(np.isnan(part.scores), 1.0, part.scores)
        rows[:, 1], rows[:, 2], rows[:, 9] = binning, 0, 0
        rows[:, 3] = np.arange(1, len(part) + 1)
        if halves is not None and np.isin(halves, (1, 2)).all():
            rows[:, 6] = halves
        rows[:, 10:13] = index * binning
        rows[:, 13:16] = angles[:, ::-1]  # zxz_angles: Rz(c) Rx(b) Rz(a)
        rows[:, 16:25] = part.rotations.transpose(0, 2, 1).reshape(-1, 9)
        rows[:, 25] = classes[particles.tomograms == name]
        table = Path(folder) / f"{name}_bin{binning}.csv"
        whole = {1, *range(3, 10), 25}
        write_text_atomic(
            table,
            "".join(
                " ".join(str(round(v)) if i in whole else f"{v:.8g}" for i, v in enumerate(row)) + "\n" for row in rows
            ),
        )
        model = table.with_suffix(".mod")
        # emClarity takes model2point's numbers for its own indices
        write_imod_model(model, [[index]], frame.size_xyz, frame.voxel_size_angstrom, (name,))
        files += [table, model]
    return files
