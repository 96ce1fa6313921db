"""Points of IMOD models (`.mod`) and PEET's motive lists (`.csv`) beside them; a model is of one tomogram.

In a model pixel i of x and y is at i + 0.5, and section k of z at k (see `imod_models`). Each object is a kind; every contour's
points are particles. `peet_lists` tells what PEET's table holds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import InputError
from eucentric.io.imod_models import read_imod_model, write_imod_model
from eucentric.io.particle_columns import class_names, class_numbers, need_file
from eucentric.io.peet_lists import model_of, read_motive_csv, write_motive_csv
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

_CORNER = np.array([0.5, 0.5, 0.0])


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


def read_imod_particles(
    path: PathLike, frames: TomogramFrames, tomogram: str | None = None, *, table: PathLike | None = None
) -> ParticleSet:
    """Particles of a model, of the tomogram that is named like its file, with PEET's angles where its table lies beside it.

    Parameters
    ----------
    path : the model, or PEET's table of one that is found from it (`model_of`)
    table : PEET's table; that named like the model where None

    Raises
    ------
    InputError : no such file, or the size or voxel size of the tomogram is neither known nor in the model
    FormatError : not a model, or a table of another one
    """
    place = need_file(path)
    listed = None if table is None else Path(table)
    if place.suffix.lower() == ".csv":
        listed, place = place, model_of(place)
    name = tomogram or tomogram_name(place.name)
    frame = model_frame(place, name, frames)
    contours = read_model_contours(place, frame)
    points = np.concatenate([np.zeros((0, 3)), *(p for _, p in contours)])
    kinds = np.array([kind for kind, p in contours for _ in range(len(p))], dtype=np.str_)
    listed = listed or place.with_suffix(".csv")
    if not listed.is_file():
        return ParticleSet.build(name, points, kinds=kinds)
    rows = read_motive_csv(listed, len(points))
    named = kinds[rows.points]
    return ParticleSet.build(
        name,
        points[rows.points] + rows.shifts_px * frame.voxel_size_angstrom,
        rotations=rows.rotations,
        scores=rows.scores,
        kinds=named if any(named) else class_names(rows.classes),
    )


def write_imod_particles(
    path: PathLike, particles: ParticleSet, frames: TomogramFrames, *, with_table: bool = False
) -> None:
    """Write the particles of one tomogram as a model with an object a kind, and PEET's table of angles if they have any.

    Parameters
    ----------
    with_table : write the table for particles that are not turned too

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
    if ordered.oriented or with_table:
        numbers = class_numbers(ordered.kinds).tolist()
        write_motive_csv(Path(path).with_suffix(".csv"), ordered.rotations, ordered.scores, numbers)
