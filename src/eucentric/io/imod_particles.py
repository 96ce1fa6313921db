"""Points of IMOD models (`.mod`) and PEET's motive lists (`.csv`) beside them; a model is of one tomogram.

In a model pixel i of x and y is at i + 0.5, and section k of z at k (see `imod_models`). Each object is a kind; every contour's
points are particles. PEET's table has a row a point and 20 columns: 1 correlation, 11-13 shift in voxels, 17 EulerZ(1), 18 EulerZ(3),
19 EulerX(2): ``Rz(Z3) Rx(X2) Rz(Z1)`` takes reference to tomogram.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.imod_models import read_imod_model, write_imod_model
from eucentric.io.particle_columns import known_scores, matrices_from_tom, need_file, tom_angles
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_CORNER = np.array([0.5, 0.5, 0.0])
_PEET = (
    "CCC,reserved,reserved,pIndex,wedgeWT,NA,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,reserved,"
    "EulerZ(1),EulerZ(3),EulerX(2),reserved"
)
_COLUMNS = 20


def model_frame(path: PathLike, tomogram: str, frames: TomogramFrames) -> TomogramFrame:
    """The grid of a model's tomogram: as given, or as the model itself says."""
    if tomogram in frames.by_name or frames.default is not None:
        return frames.of(tomogram)
    model = read_imod_model(path)
    if model.pixel_size_angstrom is None or min(model.image_size) < 1:
        return frames.of(tomogram)  # says what is missing
    return TomogramFrame(voxel_size_angstrom=model.pixel_size_angstrom, size_xyz=model.image_size)


def read_model_contours(path: PathLike, frame: TomogramFrame) -> list[tuple[str, FloatArray]]:
    """Contours of a model with the names of their objects: points in A from the specimen centre, in the order drawn."""
    model = read_imod_model(path)
    return [
        (model.names[i] if i < len(model.names) else "", frame.to_angstrom(contour - _CORNER))
        for i, contours in enumerate(model.objects)
        for contour in contours
        if len(contour)
    ]


def write_model_contours(path: PathLike, contours: Mapping[str, Sequence[FloatArray]], frame: TomogramFrame) -> None:
    """Write lines in A from the specimen centre as open contours, an object a name; the inverse of `read_model_contours`.

    Raises
    ------
    InputError, BackendError : as `write_imod_model`
    """
    objects = [[frame.to_index(points) + _CORNER for points in lines] for lines in contours.values()]
    write_imod_model(path, objects, frame.size_xyz, frame.voxel_size_angstrom, tuple(contours))


def read_imod_particles(path: PathLike, frames: TomogramFrames, tomogram: str | None = None) -> ParticleSet:
    """Particles of a model, of the tomogram that is named like its file, with PEET's angles where its table lies beside it.

    Raises
    ------
    InputError : no such file, or the size or voxel size of the tomogram is neither known nor in the model
    FormatError : not a model, or a table of other length
    """
    place = need_file(path)
    name = tomogram or tomogram_name(place.name)
    frame = model_frame(place, name, frames)
    contours = read_model_contours(place, frame)
    points = np.concatenate([np.zeros((0, 3)), *(p for _, p in contours)])
    kinds = [kind for kind, p in contours for _ in range(len(p))]
    table = place.with_suffix(".csv")
    if not table.is_file():
        return ParticleSet.build(name, points, kinds=kinds)
    try:
        rows = np.loadtxt(table, delimiter=",", skiprows=1, ndmin=2)
    except ValueError as error:
        raise FormatError(f"`{table}` is not a motive list of PEET: {error}.") from error
    if rows.shape != (len(points), _COLUMNS):
        raise FormatError(
            f"`{table}` has {' x '.join(map(str, rows.shape))} numbers; `{place.name}` has {len(points)} points, each with {_COLUMNS}."
        )
    return ParticleSet.build(
        name,
        points + rows[:, 10:13] * frame.voxel_size_angstrom,
        rotations=matrices_from_tom(rows[:, 16], rows[:, 17], rows[:, 18]),
        scores=known_scores(rows[:, 0]),
        kinds=kinds,
    )


def write_imod_particles(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write the particles of one tomogram as a model with an object a kind, and PEET's table of angles if they have any.

    Raises
    ------
    InputError : particles of several tomograms
    """
    if len(particles.tomogram_names) > 1:
        raise InputError("A model holds the particles of one tomogram. Give a folder to write one for each.")
    frame = (
        frames.of(particles.tomogram_names[0])
        if len(particles)
        else TomogramFrame(voxel_size_angstrom=1.0, size_xyz=(1, 1, 1))
    )
    kinds = sorted({str(k) for k in particles.kinds})
    ordered = ParticleSet.concatenate([particles.select(particles.kinds == kind) for kind in kinds])
    index = frame.to_index(ordered.positions_angstrom) + _CORNER
    objects = [[index[ordered.kinds == kind]] for kind in kinds]
    write_imod_model(path, objects, frame.size_xyz, frame.voxel_size_angstrom, kinds)
    if ordered.oriented:
        rows = np.zeros((len(ordered), _COLUMNS))
        rows[:, 0] = np.nan_to_num(ordered.scores)
        rows[:, 3] = np.arange(1, len(ordered) + 1)
        rows[:, 16], rows[:, 17], rows[:, 18] = tom_angles(ordered.rotations)
        lines = [_PEET, *(",".join(f"{v:.8g}" for v in row) for row in rows)]
        write_text_atomic(Path(path).with_suffix(".csv"), "\n".join(lines) + "\n")
