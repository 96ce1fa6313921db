"""Options that commands on lists of particles share, and how these read and write them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.models import ParticleSet
    from eucentric.pipeline.particle_files import Grids


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """The tomograms that lists in voxels refer to; RELION-5's need none of it."""

    from_format: Annotated[str | None, Parameter(name="--from")] = None
    """format of the list, such as dynamo (the names are those of `particles convert --to`); found from the file where not given"""
    tomograms: Path | None = None
    """table of tomograms or tilt series (`.star`), or one tomogram (`.mrc`): sizes and voxel sizes"""
    tomogram_size: Annotated[tuple[int, int, int] | None, Parameter(negative=())] = None
    """voxels along x, y and z, where no table has them"""
    pixel_size: float | None = None
    """A per voxel, with --tomogram-size"""
    tomogram_numbers: Path | None = None
    """text with a number and a name a line, for Dynamo, STOPGAP and EM lists"""
    origin: str | None = None
    """of plain numbers x y z: corner (the first voxel's centre) or centre (voxel n // 2)"""
    unit: str | None = None
    """of plain numbers: voxel or angstrom"""
    euler: str | None = None
    """angles behind x y z: relion (rot tilt psi), zxz (phi theta psi), dynamo (tdrot tilt narot), or none"""
    first_voxel: int | None = None
    """of plain numbers in voxels from the corner: how the first one is counted, 0 or 1"""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReadOptions(GridOptions):
    """Of commands that read lists."""

    as_json: AsJson = False
    debug: Debug = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Of commands that make a list."""

    output: Path
    """table to be made"""
    overwrite: Switch = False
    """replace a file that exists"""
    as_json: AsJson = False
    debug: Debug = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListTableOptions(TableOptions, GridOptions):
    """Of commands that read lists and make one."""


def grids_of(options: GridOptions) -> "Grids":
    """The options as the tools take them."""
    from eucentric.io.plain_particles import PlainWords
    from eucentric.pipeline.particle_files import Grids

    return Grids(
        tomograms=options.tomograms,
        size_xyz=options.tomogram_size,
        pixel_size_angstrom=options.pixel_size,
        numbers=options.tomogram_numbers,
        words=PlainWords(
            origin=options.origin, unit=options.unit, euler=options.euler, first_voxel=options.first_voxel
        ),
    )


def read_given(path: Path, options: GridOptions) -> "ParticleSet":
    """A list that the user named."""
    from eucentric.pipeline.particle_files import read_list

    return read_list(path, grids_of(options), options.from_format)


def write_list(particles: "ParticleSet", before: int, options: TableOptions) -> int:
    """Write a RELION-5 table and tell how many particles, of those before, are in it."""
    from eucentric.io.particles import write_particles

    refuse_to_replace(options.output, options.overwrite)
    write_particles(options.output, particles, "relion5")
    sys.stdout.write(f"Wrote {len(particles)} of {before} particles to {options.output}.\n")
    if options.as_json:
        show_json({"exit_code": 0, "particles": len(particles), "of": before, "output": str(options.output)})
    return 0


def refuse_to_replace(output: Path, overwrite: bool) -> None:
    """Stop before a file that is there is lost."""
    if output.is_file() and not overwrite:
        raise InputError(f"`{output}` exists. Give --overwrite to replace it, or another --output.")
