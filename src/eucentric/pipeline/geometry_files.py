"""Geometric picking in files: spheres, surfaces and filaments in, lists of oriented particles out."""

from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.imod_particles import model_frame, read_model_contours
from eucentric.io.meshes import read_mesh
from eucentric.io.mrc import read_mrc
from eucentric.io.particle_columns import need_file, number_table
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.picking.pick_geometry import (
    OrientedPoints,
    filament_points,
    mesh_points,
    segmentation_points,
    sphere_points,
)
from eucentric.picking.sheet_points import sheet_points
from eucentric.pipeline.particle_files import Grids, read_list
from eucentric.typing import FloatArray

TUBE, TRACK = "rlnHelicalTubeID", "rlnHelicalTrackLengthAngst"
_PRIORS = {"rlnAngleTiltPrior": 90.0, "rlnAnglePsiPrior": 0.0}
_VOLUMES = (".mrc", ".rec", ".map")


def oriented_particles(name: str, found: OrientedPoints, number: int, *, tube: bool) -> ParticleSet:
    """A list of points with the priors of their axes, and the number of what they lie on."""
    columns: dict[str, float | FloatArray] = {**_PRIORS, labels.INSTANCE: float(number)}
    if tube:
        columns |= {TUBE: float(number), TRACK: found.track_angstrom}
    return ParticleSet.build(name, found.points, rotations=found.rotations, columns=columns)


def pick_on_spheres(
    source: Path,
    spacing_angstrom: float,
    seed: int,
    *,
    radius_angstrom: float | None = None,
    tomogram: str | None = None,
) -> ParticleSet:
    """Points on spheres: lines of x, y, z and radius in A, or a list of particles that are centres, with one radius.

    Raises
    ------
    InputError : no such file, no radius, or text without the name of its tomogram
    FormatError : text that is not such lines
    """
    generator = np.random.default_rng(seed)
    if source.suffix.lower() in (".txt", ".csv"):
        if tomogram is None:
            raise InputError(f"`{source}` does not say which tomogram its spheres are in. Give --tomogram NAME.")
        table = number_table(need_file(source), "," if source.suffix.lower() == ".csv" else None, 4)
        centres, radii, names = table[:, :3], table[:, 3], [tomogram] * len(table)
    else:
        if radius_angstrom is None:
            raise InputError("Give --radius: a list of centres has no radii. Text with x, y, z and radius in A has.")
        known = read_list(source)
        centres, radii = known.positions_angstrom, np.full(len(known), radius_angstrom)
        names = [str(name) for name in known.tomograms]
    return ParticleSet.concatenate(
        [
            oriented_particles(
                name, sphere_points(centre, float(radius), spacing_angstrom, generator), number, tube=False
            )
            for number, (name, centre, radius) in enumerate(zip(names, centres, radii, strict=True), 1)
        ]
    )


def pick_on_surface(
    source: Path,
    spacing_angstrom: float,
    seed: int,
    *,
    tomogram: str | None = None,
    threshold: float = 0.5,
    sheet: bool = False,
) -> ParticleSet:
    """Points on the surface of a segmented volume, on the middle of a thin sheet, or on a mesh in A from the specimen centre.

    Raises
    ------
    InputError : no such file, or a mesh without the name of its tomogram
    FormatError : neither a volume with a voxel size nor a mesh
    """
    generator = np.random.default_rng(seed)
    if source.suffix.lower() not in _VOLUMES:
        if tomogram is None:
            raise InputError(f"`{source}` does not say which tomogram it is of. Give --tomogram NAME.")
        if sheet:
            raise InputError(f"`{source}` is a mesh, which is one layer already. Leave --sheet out.")
        return oriented_particles(tomogram, mesh_points(*read_mesh(source), spacing_angstrom, generator), 1, tube=False)
    volume, header = read_mrc(source)
    if header.voxel_size_angstrom is None:
        raise FormatError(f"`{source}` does not tell its voxel size. Set it in the header.")
    z, y, x = volume.shape
    frame = TomogramFrame(voxel_size_angstrom=header.voxel_size_angstrom[0], size_xyz=(x, y, z))
    points_of = sheet_points if sheet else segmentation_points
    found = points_of(volume, frame, spacing_angstrom, generator, threshold=threshold)
    return oriented_particles(tomogram or tomogram_name(source.name), found, 1, tube=False)


def pick_along_filaments(
    source: Path,
    spacing_angstrom: float,
    grids: Grids,
    *,
    twist_deg: float = 0.0,
    radius_angstrom: float = 0.0,
    around: int = 1,
    reverse: bool = False,
    tomogram: str | None = None,
) -> ParticleSet:
    """Places along filaments: contours of an IMOD model, or particles in the order of each rlnHelicalTubeID.

    Raises
    ------
    InputError : no such file, no filament in it, or a tomogram of unknown size
    """
    lines: list[tuple[str, FloatArray]] = []
    if source.suffix.lower() == ".mod":
        name = tomogram or tomogram_name(need_file(source).name)
        frame = model_frame(source, name, grids.frames("imod"))
        lines = [(name, points) for _, points in read_model_contours(source, frame) if len(points) > 1]
    else:
        known = read_list(source, grids)
        if TUBE not in known.columns:
            raise InputError(
                f"The particles of `{source}` have no {TUBE}, which tells filaments apart. Draw them as IMOD contours."
            )
        for name in known.tomogram_names:
            part = known.in_tomogram(name)
            lines += [
                (name, part.positions_angstrom[part.columns[TUBE] == tube]) for tube in np.unique(part.columns[TUBE])
            ]
    if not lines:
        raise InputError(f"`{source}` holds no contour of two points or more.")
    return ParticleSet.concatenate(
        [
            oriented_particles(
                name,
                filament_points(
                    line,
                    spacing_angstrom,
                    twist_deg=twist_deg,
                    radius_angstrom=radius_angstrom,
                    around=around,
                    reverse=reverse,
                ),
                number,
                tube=True,
            )
            for number, (name, line) in enumerate(lines, 1)
        ]
    )
