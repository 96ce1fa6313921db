"""Filaments in files: tomograms in, centre lines and subunits of their walls out, as lists of particles."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eucentric.errors import InputError, ProcessingError
from eucentric.io import labels
from eucentric.models import ParticleSet
from eucentric.picking.centre_lines import centre_line
from eucentric.picking.filament_lattice import WallLattice, fit_wall_lattice, unroll_wall, wall_points
from eucentric.picking.pick_geometry import filament_points
from eucentric.picking.refine_lines import VolumeSamples
from eucentric.picking.trace_filaments import TracedFilament, bright_and_clipped, trace_between, trace_filaments
from eucentric.picking.trace_params import TraceParams, WallParams
from eucentric.pipeline.blob_files import find_tomograms
from eucentric.pipeline.geometry_files import TRACK, TUBE, oriented_particles
from eucentric.pipeline.particle_files import read_list
from eucentric.pipeline.reprojecting import read_volume
from eucentric.typing import FloatArray


def trace_filament_files(
    target: Path, params: TraceParams, device: torch.device, *, ends_angstrom: FloatArray | None = None
) -> tuple[ParticleSet, list[tuple[str, TracedFilament]]]:
    """Trace filaments in every tomogram; points along them, z along the line, numbered by rlnHelicalTubeID.

    Parameters
    ----------
    ends_angstrom : (2, 3) places beside which the one filament begins and ends; all are looked for where None

    Raises
    ------
    InputError : ends in several tomograms
    """
    tomograms = find_tomograms(target)
    if ends_angstrom is not None and len(tomograms) > 1:
        raise InputError("Two ends lie in one tomogram, and several are given. Name the tomogram (.mrc).")
    parts, found = [], []
    for one in tomograms:
        volume, voxel = read_volume(one.path, None, device)
        lines = (
            trace_filaments(volume, voxel, params)
            if ends_angstrom is None
            else [trace_between(volume, voxel, ends_angstrom, params)]
        )
        for number, line in enumerate(lines, 1):
            found.append((one.name, line))
            parts.append(filament_particles(one.name, line, number))
    return ParticleSet.concatenate(parts), found


def filament_particles(name: str, line: TracedFilament, number: int) -> ParticleSet:
    """Points along a filament of a tomogram as a list, z along the line, with its number and their scores."""
    # the spline through points a chord apart is a little longer: as many points as before, ends included
    step = centre_line(line.points_angstrom).length_angstrom / (len(line.scores) - 1)
    part = oriented_particles(name, filament_points(line.points_angstrom, step), number, tube=True)
    scores = np.interp(part.columns[TRACK], step * np.arange(len(line.scores)), line.scores)
    return part.with_scores(scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilamentWall:
    """What was found in the wall of one filament; `lattice` is None where `message` says why not."""

    tomogram: str
    tube: int
    lattice: WallLattice | None
    radius_angstrom: float = float("nan")
    message: str = ""


def pick_wall_files(
    tomogram: Path,
    axes: Path,
    params: TraceParams,
    wall_params: WallParams,
    device: torch.device,
    *,
    reverse: bool = False,
) -> tuple[ParticleSet, list[FilamentWall]]:
    """Subunits in the walls of filaments whose centre lines are known, a lattice for each.

    Parameters
    ----------
    tomogram : project, table of tilt series or one volume
    axes : list of particles with rlnHelicalTubeID, in order along each line

    Raises
    ------
    InputError : a list without filaments, or none of them in the tomograms
    """
    known = read_list(axes)
    if TUBE not in known.columns:
        raise InputError(
            f"The particles of `{axes}` have no {TUBE}, which tells filaments apart. Make them with: eucentric pick-geometry trace."
        )
    parts, walls = [], []
    for one in find_tomograms(tomogram):
        lines = known.in_tomogram(one.name)
        if not len(lines):
            continue
        volume, voxel = read_volume(one.path, None, device)
        dense = VolumeSamples(
            values=bright_and_clipped(volume, params.contrast).cpu().numpy(), step_angstrom=np.full(3, voxel)
        )
        for tube in np.unique(lines.columns[TUBE]).astype(int).tolist():
            points = lines.positions_angstrom[lines.columns[TUBE] == tube]
            part, wall = _one_wall(one.name, tube, points[::-1] if reverse else points, dense, params, wall_params)
            parts += [] if part is None else [part]
            walls.append(wall)
    if not walls:
        raise InputError(
            f"No filament of `{axes}` lies in a tomogram of `{tomogram}`: its tomograms are {', '.join(known.tomogram_names[:5])}."
        )
    return ParticleSet.concatenate(parts), walls


def _one_wall(
    name: str, tube: int, points: FloatArray, dense: VolumeSamples, params: TraceParams, wall_params: WallParams
) -> tuple[ParticleSet | None, FilamentWall]:
    try:
        wall = unroll_wall(dense, points, params, wall_params.spacing_angstrom)
        lattice = fit_wall_lattice(wall, wall_params)
    except ProcessingError as error:
        return None, FilamentWall(tomogram=name, tube=tube, lattice=None, message=str(error))
    found = wall_points(wall, lattice)
    part = oriented_particles(name, found.oriented, tube, tube=True).with_scores(found.scores)
    part = part.with_column(labels.PROTOFILAMENT, found.protofilament + 1.0)
    return part, FilamentWall(tomogram=name, tube=tube, lattice=lattice, radius_angstrom=wall.radius_angstrom)
