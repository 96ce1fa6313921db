"""Motive lists of TOM and AV3 (`.em`, 20 rows a particle) and of STOPGAP (`.star`).

Rows of an EM list: 1 correlation, 4 particle, 5 tomogram, 6 object, 8-10 x, y, z, 11-13 shifts after rotation, 17 phi, 18 psi,
19 theta, 20 class. STOPGAP has the same as columns (`sg_get_motl_fields.m`): orig_x, x_shift, phi, psi, the. A particle lies at
position + shift, in voxels; both programs are MATLAB's, whose first voxel is 1. STOPGAP's half set (A, B) is kept as
rlnRandomSubset (1, 2), and the object of either as eucInstance unless all are 1.

``Rz(psi) Rx(theta) Rz(phi)`` takes reference to tomogram (TOM's `tom_rotate`).
"""

import numpy as np

from eucentric.errors import FormatError
from eucentric.io import labels
from eucentric.io.em import read_em, write_em
from eucentric.io.particle_columns import (
    class_names,
    class_numbers,
    known_scores,
    matrices_from_tom,
    names_file,
    need_file,
    numbered_names,
    tom_angles,
    write_tomogram_numbers,
)
from eucentric.io.star import read_star, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import FloatArray, PathLike

_ROWS = 20
_MATLAB = 1.0
_FAR = 1e9
_STOPGAP = "stopgap_motivelist"
_SUBSET = "rlnRandomSubset"
_HALVES = {"A": 1.0, "B": 2.0}
_FIELDS = ("tomo_num", "orig_x", "orig_y", "orig_z", "x_shift", "y_shift", "z_shift", "phi", "psi", "the")


def _particles(
    path: PathLike,
    frames: TomogramFrames,
    numbers: FloatArray,
    index: FloatArray,
    angles: FloatArray,
    scores: FloatArray,
    classes: FloatArray,
    columns: dict[str, FloatArray],
) -> ParticleSet:
    """From rows: tomogram numbers, MATLAB positions, phi psi theta."""
    if not all((np.abs(values) < _FAR).all() for values in (numbers, index, angles)):
        raise FormatError(f"`{path}` has positions, angles or tomograms that are not numbers.")
    named = TomogramFrames(by_name=frames.by_name, default=frames.default, numbers=numbered_names(path, frames.numbers))
    tomograms = named.names_of(numbers)
    return ParticleSet.build(
        tomograms,
        named.to_angstrom(tomograms, index - _MATLAB),
        rotations=matrices_from_tom(angles[:, 0], angles[:, 1], angles[:, 2]),
        scores=known_scores(scores),
        kinds=class_names(classes),
        columns=columns,
    )


def _objects(numbers: FloatArray) -> dict[str, FloatArray]:
    """The column of objects, unless it says nothing: what this package writes where there are none."""
    known = np.isfinite(numbers).all() and not ((numbers == 1).all() or (numbers == 0).all())
    return {labels.INSTANCE: numbers} if known else {}


def _object_column(particles: ParticleSet) -> FloatArray:
    return np.nan_to_num(particles.columns.get(labels.INSTANCE, np.ones(len(particles))), nan=1.0)


def read_motive_list(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of an EM motive list; a score of 0 in every row means that there are none.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not an EM file of 20 rows
    """
    volume, header = read_em(path)
    if header.shape[0] != 1 or header.shape[2] != _ROWS:
        z, y, x = header.shape
        raise FormatError(
            f"`{path}` is not a motive list: it holds {x} x {y} x {z} values; expected {_ROWS} x particles x 1."
        )
    with np.errstate(invalid="ignore"):  # some NaN are told on casting
        rows = np.asarray(volume[0], dtype=np.float64)
    if np.isinf(rows).any():
        raise FormatError(f"`{path}` is not a motive list: it holds infinite values.")
    index, angles = rows[:, 7:10] + rows[:, 10:13], rows[:, 16:19]
    return _particles(path, frames, rows[:, 4], index, angles, rows[:, 0], rows[:, 19], _objects(rows[:, 5]))


def write_motive_list(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write an EM motive list (float32: positions to 0.001 voxel), and the names of its tomograms beside it."""
    if not len(particles):
        raise FormatError("An EM motive list cannot be empty. Write a table of another kind.")
    numbers, used = frames.numbers_of(particles.tomograms)
    rows = np.zeros((len(particles), _ROWS))
    rows[:, 0] = np.nan_to_num(particles.scores)
    rows[:, 3] = np.arange(1, len(particles) + 1)
    rows[:, 4] = numbers
    rows[:, 5] = _object_column(particles)
    # whole voxels and a small shift, so that float32 holds far positions as well as near ones
    index = frames.to_index(particles.tomograms, particles.positions_angstrom) + _MATLAB
    rows[:, 7:10] = np.round(index)
    rows[:, 10:13] = index - np.round(index)
    rows[:, 16], rows[:, 17], rows[:, 18] = tom_angles(particles.rotations)
    rows[:, 19] = class_numbers(particles.kinds)
    write_em(path, rows[None])
    write_tomogram_numbers(names_file(path), used)


def read_stopgap(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a STOPGAP motive list; errors as :func:`read_motive_list`."""
    place = need_file(path)
    tables = [t for t in read_star(place).values() if all(name in t for name in _FIELDS)]
    if not tables:
        raise FormatError(f"`{place}` is not a STOPGAP motive list: no table has the columns {', '.join(_FIELDS)}.")
    table = tables[0]
    try:
        column = {name: table[name].to_numpy(dtype=np.float64) for name in _FIELDS}
        score = table["score"].to_numpy(dtype=np.float64) if "score" in table else np.full(len(table), np.nan)
        classes = table["class"].to_numpy(dtype=np.float64) if "class" in table else np.zeros(len(table))
        objects = table["object"].to_numpy(dtype=np.float64) if "object" in table else np.ones(len(table))
    except ValueError as error:
        raise FormatError(f"`{place}` has a value that is not a number: {error}.") from error
    index = np.stack([column[f"orig_{a}"] + column[f"{a}_shift"] for a in "xyz"], axis=1)
    angles = np.stack([column[name] for name in ("phi", "psi", "the")], axis=1)
    columns = _objects(objects)
    halves = [str(h) for h in table["halfset"]] if "halfset" in table else []
    if halves and all(h in _HALVES for h in halves):
        columns[_SUBSET] = np.array([_HALVES[h] for h in halves])
    return _particles(place, frames, column["tomo_num"], index, angles, score, classes, columns)


def _halves(particles: ParticleSet) -> list[str]:
    """A and B as rlnRandomSubset says, else by turns."""
    subset = particles.columns.get(_SUBSET)
    letters = {number: letter for letter, number in _HALVES.items()}
    if subset is None or not all(number in letters for number in subset.tolist()):
        return ["AB"[i % 2] for i in range(len(particles))]
    return [letters[number] for number in subset.tolist()]


def write_stopgap(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a STOPGAP motive list, and the names of its tomograms beside it."""
    numbers, used = frames.numbers_of(particles.tomograms)
    index = frames.to_index(particles.tomograms, particles.positions_angstrom) + _MATLAB
    whole = np.round(index)
    phi, psi, theta = tom_angles(particles.rotations)
    count = len(particles)
    ids = list(range(1, count + 1))
    table = {
        "motl_idx": ids,
        "tomo_num": numbers.tolist(),
        "object": np.rint(_object_column(particles)).astype(int).tolist(),
        "subtomo_num": ids,
        "halfset": _halves(particles),
        **{f"orig_{a}": whole[:, i].astype(int).tolist() for i, a in enumerate("xyz")},
        "score": np.nan_to_num(particles.scores).tolist(),
        **{f"{a}_shift": (index - whole)[:, i].tolist() for i, a in enumerate("xyz")},
        "phi": phi.tolist(),
        "psi": psi.tolist(),
        "the": theta.tolist(),
        "class": class_numbers(particles.kinds).tolist(),
    }
    write_star(path, {_STOPGAP: table})
    write_tomogram_numbers(names_file(path), used)
