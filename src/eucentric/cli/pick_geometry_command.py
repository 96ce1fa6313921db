"""`eucentric pick-geometry`: particles where spheres, surfaces and filaments are."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.list_options import ListTableOptions, TableOptions, grids_of, write_list
from eucentric.cli.options import Switch


def spheres(
    source: Path,
    /,
    *,
    spacing: float,
    radius: float | None = None,
    tomogram: str | None = None,
    seed: int = 0,
    options: TableOptions,
) -> int:
    """Points on spheres and vesicles, evenly spaced, their z axes outwards.

    Parameters
    ----------
    source
        text (`.txt`, `.csv`) with x, y, z from the specimen centre and radius in A, or a list of particles that are the centres
    spacing
        A between points; half the expected distance picks each particle several times, for cleaning after alignment
    radius
        A, for a list of centres
    tomogram
        name of the tomogram, for text
    seed
        of the random turns about the normals
    """
    from eucentric.pipeline.geometry_files import pick_on_spheres

    picks = pick_on_spheres(source, spacing, seed, radius_angstrom=radius, tomogram=tomogram)
    return write_list(picks, len(picks), options)


def surface(
    source: Path,
    /,
    *,
    spacing: float,
    tomogram: str | None = None,
    threshold: float = 0.5,
    sheet: Switch = False,
    seed: int = 0,
    options: TableOptions,
) -> int:
    """Points on the surface of a segmentation or a mesh, none nearer than the spacing, their z axes along the normals.

    Parameters
    ----------
    source
        segmentation (`.mrc`) on the grid of its tomogram, or mesh (`.ply`, `.stl`, `.obj`) in A from the specimen centre
    spacing
        A between points at least
    tomogram
        name of the tomogram; that of the segmentation's file where not given
    threshold
        what lies above it is inside
    sheet
        of a thin sheet, such as a segmented membrane, take the middle: one layer of points, not one on either side
    seed
        of the random places
    """
    from eucentric.pipeline.geometry_files import pick_on_surface

    picks = pick_on_surface(source, spacing, seed, tomogram=tomogram, threshold=threshold, sheet=sheet)
    return write_list(picks, len(picks), options)


def filaments(
    source: Path,
    /,
    *,
    spacing: float,
    twist: Annotated[float, Parameter(allow_leading_hyphen=True)] = 0.0,
    radius: float = 0.0,
    around: int = 1,
    reverse: Switch = False,
    tomogram: str | None = None,
    options: ListTableOptions,
) -> int:
    """Places along filaments, evenly by arc length: on the axis, or around it on a helix or in rings.

    Parameters
    ----------
    source
        IMOD model with a contour a filament, or particles with rlnHelicalTubeID in order
    spacing
        A along the filament: the rise
    twist
        degrees from one rise to the next
    radius
        A from the axis: then z points outwards and x along the filament; on the axis z points along it
    around
        places at each rise
    reverse
        take the other polarity: from the last point to the first
    tomogram
        name of the tomogram; that of the model's file where not given
    """
    from eucentric.pipeline.geometry_files import pick_along_filaments

    picks = pick_along_filaments(
        source,
        spacing,
        grids_of(options),
        twist_deg=twist,
        radius_angstrom=radius,
        around=around,
        reverse=reverse,
        tomogram=tomogram,
    )
    return write_list(picks, len(picks), options)
