"""Particle tables of Dynamo (`.tbl`): 35 columns or more of numbers.

Of its columns (dynamotable's list): 1 tag, 2 aligned, 4-6 shifts, 7-9 tdrot, tilt, narot, 10 correlation, 20 tomogram, 22
class, 24-26 x, y, z, 36 voxel size. A particle lies at x + dx, in voxels. Dynamo is MATLAB: its first voxel is 1.

Angles turn the reference clockwise, each about the axes as turned so far (Dynamo's wiki, Euler angles convention):
``Rz(-tdrot) Rx(-tilt) Rz(-narot)`` takes reference to tomogram. In a table of a filament picked by Dynamo, this puts the z
axis of the particles along the filament.
"""

import warnings

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import rotation_x, rotation_z
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import (
    class_names,
    class_numbers,
    known_scores,
    names_file,
    need_file,
    number_table,
    numbered_names,
    write_tomogram_numbers,
    zxz_angles,
)
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrames
from eucentric.typing import PathLike

_COLUMNS, _LEAST = 36, 26
_MATLAB = 1.0


def read_dynamo_table(path: PathLike, frames: TomogramFrames) -> ParticleSet:
    """Particles of a table, with their tomograms' names where a file of names lies beside it.

    Raises
    ------
    InputError : no such file, or a tomogram of unknown size
    FormatError : not such a table
    """
    place = need_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty file
        table = number_table(place, None, _LEAST)
    if not np.isfinite(table[:, [3, 4, 5, 6, 7, 8, 19, 23, 24, 25]]).all():
        raise FormatError(f"`{place}` has positions, angles or tomograms that are not numbers.")
    named = TomogramFrames(
        by_name=frames.by_name, default=frames.default, numbers=numbered_names(place, frames.numbers)
    )
    tomograms = named.names_of(table[:, 19])
    index = table[:, 23:26] + table[:, 3:6] - _MATLAB
    tdrot, tilt, narot = table[:, 6], table[:, 7], table[:, 8]
    return ParticleSet.build(
        tomograms,
        named.to_angstrom(tomograms, index),
        rotations=rotation_z(-tdrot) @ rotation_x(-tilt) @ rotation_z(-narot),
        scores=known_scores(table[:, 9]),
        kinds=class_names(table[:, 21]),
    )


def write_dynamo_table(path: PathLike, particles: ParticleSet, frames: TomogramFrames) -> None:
    """Write a table, and the names of its tomograms beside it; no shifts are left in it."""
    numbers, used = frames.numbers_of(particles.tomograms)
    table = np.zeros((len(particles), _COLUMNS))
    table[:, 0] = np.arange(1, len(particles) + 1)
    table[:, 1] = table[:, 2] = 1
    angles = zxz_angles(particles.rotations)
    table[:, 6], table[:, 7], table[:, 8] = -angles[:, 2], -angles[:, 1], -angles[:, 0]
    table[:, 9] = np.nan_to_num(particles.scores)
    table[:, 12] = 1
    table[:, 19] = numbers
    table[:, 21] = class_numbers(particles.kinds)
    table[:, 23:26] = frames.to_index(particles.tomograms, particles.positions_angstrom) + _MATLAB
    table[:, 35] = frames.voxel_sizes(particles.tomograms)
    write_text_atomic(path, "".join(" ".join(f"{v:.10g}" for v in row) + "\n" for row in table))
    write_tomogram_numbers(names_file(path), used)
