"""Particles in Scipion's sets (`.sqlite`): `SetOfCoordinates3D` and `SetOfSubTomograms`.

Coordinates are voxels of the set's sampling rate from the middle of the tomogram, its size / 2 [1]_: half a voxel beside ours,
``n // 2``, along axes of odd size. A matrix M (4 x 4) takes a place in the tomogram, from the coordinate, to the reference:
``f'(r) = f(M r)`` [2]_, so our rotation is the inverse of M's, and the particle lies at the coordinate plus ``- R^-1 t``.

Scipion's plugin for RELION turns the shift of M by its own rule (`convertMatrix` with `relion`) where M came from RELION; the
definition above is what is read here.

References
----------
.. [1] scipion-em/scipion-em-tomo, `tomo/objects.py` (Coordinate3D, Tomogram.getShiftsFromOrigin), `tomo/constants.py`
.. [2] the same, `convertMatrix`
"""

from collections.abc import Sequence

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.particle_columns import class_names, class_numbers, known_scores, nearest_rotations
from eucentric.io.scipion_sets import Column, Row, ScipionItem, ScipionSet, read_scipion_set, write_scipion_set
from eucentric.models.particles import ParticleSet, Texts
from eucentric.models.tomogram_frames import TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_COORDINATES, _SUBTOMOGRAMS = "SetOfCoordinates3D", "SetOfSubTomograms"
_COLUMNS: tuple[Column, ...] = (
    ("_x", "Float"),
    ("_y", "Float"),
    ("_z", "Float"),
    ("_volId", "Integer"),
    ("_eulerMatrix", "Transform"),
    ("_eulerMatrix._matrix", "Matrix"),
    ("_groupId", "Integer"),
    ("_tomoId", "String"),
    ("_score", "Float"),
)
_FAR = 1e9  # voxels


def read_scipion_particles(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a set; those that are disabled are left out.

    Parameters
    ----------
    frames : grids of the tomograms: their sizes matter where they are odd, and are taken as even where unknown

    Raises
    ------
    InputError : no such file
    FormatError : no set of coordinates or subtomograms, or damaged
    """
    whole = read_scipion_set(path)
    if whole.kind not in (_COORDINATES, _SUBTOMOGRAMS):
        raise FormatError(f"`{path}` is a {whole.kind}; expected {_COORDINATES} or {_SUBTOMOGRAMS}.")
    size = _sampling_rate(whole, path)
    prefix = "_coordinate." if whole.kind == _SUBTOMOGRAMS else ""
    items = [item for item in whole.items if item.enabled]
    if not items:
        return ParticleSet.empty()
    places = np.array([[_needed(item, f"{prefix}_{axis}", path) for axis in "xyz"] for item in items])
    matrices = np.array([_matrix(item, prefix) for item in items])
    turns = matrices[:, :3, :3]
    if (np.abs(turns @ np.swapaxes(turns, 1, 2) - np.eye(3)).max() > 0.01) or (np.linalg.det(turns) < 0).any():
        raise FormatError(f"`{path}` has a matrix that is no rotation; expected rotations and shifts.")
    rotations = np.swapaxes(nearest_rotations(turns), 1, 2)
    centres = places - np.einsum("nij,nj->ni", rotations, matrices[:, :3, 3])
    names = [_tomogram(item, prefix, path) for item in items]
    halves = np.array([_half(frames, name) for name in names])
    kinds = [item.number("_classId") or item.number(f"{prefix}_groupId") or 0.0 for item in items]
    scores = [item.number(f"{prefix}_score") or 0.0 for item in items]
    return ParticleSet.build(
        names,
        (centres + halves) * size,
        rotations=rotations,
        scores=known_scores(scores),
        kinds=class_names(np.array(kinds)),
    )


def _sampling_rate(whole: ScipionSet, path: PathLike) -> float:
    try:
        size = float(whole.properties.get("_samplingRate", ""))
    except ValueError:
        size = float("nan")
    if not 0 < size < 1e6:
        raise FormatError(f"`{path}` does not tell its sampling rate (A per voxel); it is damaged.")
    return size


def _needed(item: ScipionItem, name: str, path: PathLike) -> float:
    value = item.number(name)
    if value is None or abs(value) > _FAR:
        raise FormatError(f"`{path}` has an item without coordinate {name}, or one far outside; it is damaged.")
    return value


def _matrix(item: ScipionItem, prefix: str) -> FloatArray:
    for name in ("_transform._matrix", f"{prefix}_eulerMatrix._matrix"):
        found = item.matrix(name)
        if found is not None and found.shape == (4, 4) and np.abs(found).max() < _FAR:
            return found
    return np.eye(4)


def _tomogram(item: ScipionItem, prefix: str, path: PathLike) -> str:
    name = item.text(f"{prefix}_tomoId") or tomogram_name(item.text("_volName"))
    if name:
        return name
    number = item.number(f"{prefix}_volId")
    if number is None:
        raise FormatError(f"`{path}` has an item that belongs to no tomogram (_tomoId).")
    return str(int(number))


def _half(frames: TomogramFrames, name: str) -> FloatArray:
    """Voxels from our centre to Scipion's: half a voxel along odd axes."""
    frame = frames.by_name.get(name, frames.default)
    if frame is None:
        return np.zeros(3)
    size = np.array(frame.size_xyz, dtype=np.float64)
    return np.asarray(size / 2 - size // 2)


def write_scipion_particles(
    path: PathLike, particles: ParticleSet, frames: TomogramFrames, *, box_size: int = 32
) -> None:
    """Write a `SetOfCoordinates3D`, as Scipion's protocol "import coordinates 3D from scipion" reads it.

    Parameters
    ----------
    frames : grids of the tomograms, all with one voxel size
    box_size : voxels, as Scipion draws the particles

    Raises
    ------
    InputError : a tomogram of unknown size; the place cannot be written to
    FormatError : tomograms of different voxel sizes, or no particle
    """
    if not len(particles):
        raise FormatError("A set of Scipion cannot be empty. Write a table of another kind.")
    sizes = np.unique(frames.voxel_sizes(particles.tomograms))
    if len(sizes) != 1:
        raise FormatError(
            f"Scipion's sets have one voxel size, and the tomograms have {len(sizes)}. Write a file for each of them."
        )
    size = float(sizes[0])
    halves = np.array([_half(frames, str(name)) for name in particles.tomograms])
    places = particles.positions_angstrom / size - halves
    rows = _rows(particles, places, list(dict.fromkeys(str(n) for n in particles.tomograms)))
    properties: dict[str, str | float | int | None] = {
        "self": _COORDINATES,
        "_size": len(rows),
        "_streamState": 2,
        "_boxSize": box_size,
        "_samplingRate": size,
    }
    write_scipion_set(path, properties, "Coordinate3D", _COLUMNS, rows)


def _rows(particles: ParticleSet, places: FloatArray, names: Sequence[str]) -> list[Row]:
    kinds: Sequence[int] = class_numbers(_texts(particles)).tolist()
    scores = np.nan_to_num(particles.scores).tolist()
    rows: list[Row] = []
    for i, place in enumerate(places.tolist()):
        matrix = np.eye(4)
        matrix[:3, :3] = particles.rotations[i].T
        name = str(particles.tomograms[i])
        values = (*place, names.index(name) + 1, None, str(matrix.tolist()), kinds[i], name, scores[i])
        rows.append((i + 1, True, values))
    return rows


def _texts(particles: ParticleSet) -> Texts:
    return particles.kinds
