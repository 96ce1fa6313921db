"""`eucentric pick-geometry trace` and `wall`: filaments found in tomograms, and the subunits of their walls."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from eucentric.cli.list_options import TableOptions, refuse_to_replace, write_list
from eucentric.cli.options import Switch, show_json

Ends = tuple[float, float, float, float, float, float]


def trace(
    target: Path,
    /,
    *,
    diameter: float,
    wall: float | None = None,
    between: Annotated[Ends | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    contrast: Literal["dark", "bright"] = "dark",
    min_score: float = 6.0,
    min_length: float | None = None,
    max_bend: float = 20.0,
    persistence: float | None = None,
    spacing: float | None = None,
    device: str = "auto",
    options: TableOptions,
) -> int:
    """Trace the centre lines of filaments: all in the tomograms, or the one between two ends.

    The table has points along each line, z along it, numbered by rlnHelicalTubeID.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    diameter
        A, outside: 250 of a microtubule, 70 of actin
    wall
        A: thickness of the wall of a tube, 45 of a microtubule; solid where not given
    between
        A from the specimen centre: x y z of one end, then of the other
    contrast
        of protein in the tomogram: dark as recorded, bright where it was inverted
    min_score
        standard deviations at the best place of a filament; noise reaches 5
    min_length
        A; four diameters where not given
    max_bend
        degrees from one diameter of length to the next, at most
    persistence
        A over which it keeps its direction; 10 um for 70 A, and in proportion, where not given
    spacing
        A between points; half the diameter where not given
    device
        auto, cpu, cuda or cuda:n
    """
    import numpy as np

    from eucentric.compute.device import resolve_device
    from eucentric.picking.trace_params import TraceParams
    from eucentric.pipeline.filament_files import trace_filament_files

    refuse_to_replace(options.output, options.overwrite)
    params = TraceParams(
        diameter_angstrom=diameter,
        wall_angstrom=wall,
        contrast=contrast,
        min_score=min_score,
        min_length_angstrom=min_length,
        max_bend_deg=max_bend,
        persistence_angstrom=persistence,
        spacing_angstrom=spacing,
    )
    ends = None if between is None else np.array(between).reshape(2, 3)
    picks, lines = trace_filament_files(target, params, resolve_device(device), ends_angstrom=ends)
    for name, line in lines:
        sys.stdout.write(
            f"{name}: a filament of {line.length_angstrom:.0f} A, score {np.median(line.scores):.1f}; a piece of {diameter:g} A alone "
            f"is placed to {line.sigma_angstrom:.1f} A.\n"
        )
    if not lines:
        sys.stdout.write("No filament was found. Check the diameter, the wall, the contrast, or lower --min-score.\n")
    return write_list(picks, len(picks), options)


def wall(
    tomogram: Path,
    axes: Path,
    /,
    *,
    diameter: float,
    wall: float | None = None,
    spacing: float = 40.9,
    spacing_tolerance: float = 0.06,
    protofilaments: Annotated[tuple[int, int], Parameter(negative=())] = (9, 18),
    starts: Annotated[tuple[int, int], Parameter(negative=())] = (2, 4),
    max_skew: float = 2.5,
    contrast: Literal["dark", "bright"] = "dark",
    reverse: Switch = False,
    device: str = "auto",
    options: TableOptions,
) -> int:
    """Find the lattice in the wall of a tube, and put a particle on each subunit: z outwards, x along the line.

    The lattice does not tell the polarity: x follows the order of the points, or the other way with --reverse.

    Parameters
    ----------
    tomogram
        tomogram (`.mrc`), project or table such as `reconstruct/tilt_series.star`
    axes
        centre lines as `pick-geometry trace` writes them
    diameter
        A, outside: 250 of a microtubule
    wall
        A: thickness of the wall, 45 of a microtubule; half the radius where not given
    spacing
        A between subunits along the axis: 40.9 of tubulin
    spacing_tolerance
        part by which it may differ
    protofilaments
        fewest and most
    starts
        fewest and most of the shallow helix
    max_skew
        degrees of protofilaments to the axis, at most
    contrast
        of protein in the tomogram: dark as recorded, bright where it was inverted
    reverse
        take the other polarity
    device
        auto, cpu, cuda or cuda:n
    """
    from eucentric.compute.device import resolve_device
    from eucentric.picking.trace_params import TraceParams, WallParams
    from eucentric.pipeline.filament_files import pick_wall_files

    refuse_to_replace(options.output, options.overwrite)
    tube = TraceParams(diameter_angstrom=diameter, wall_angstrom=wall, contrast=contrast)
    lattices = WallParams(
        spacing_angstrom=spacing,
        spacing_tolerance=spacing_tolerance,
        protofilaments=protofilaments,
        starts=starts,
        max_skew_deg=max_skew,
    )
    picks, walls = pick_wall_files(tomogram, axes, tube, lattices, resolve_device(device), reverse=reverse)
    rows: list[dict[str, Any]] = []
    for one in walls:
        found = one.lattice
        if found is None:
            sys.stdout.write(f"{one.tomogram} filament {one.tube}: {one.message}\n")
            continue
        hand = "left" if found.starts < 0 else "right"
        sys.stdout.write(
            f"{one.tomogram} filament {one.tube}: {found.protofilaments} protofilaments (score {found.score:.0f}; "
            f"{found.runner_up[0]} has {found.runner_up[1]:.0f}), {found.lateral_angstrom:.1f} A apart at a radius of "
            f"{one.radius_angstrom:.0f} A; a {hand}-handed helix of {abs(found.starts)} starts, subunits every "
            f"{found.spacing_angstrom:.2f} A, twist {found.twist_deg:.2f} degrees, rise {found.rise_angstrom:.2f} A, skew "
            f"{found.skew_deg:.2f} degrees.\n"
        )
        names = (
            "protofilaments",
            "starts",
            "spacing_angstrom",
            "twist_deg",
            "rise_angstrom",
            "skew_deg",
            "layer_line",
            "score",
        )
        row = {"tomogram": one.tomogram, "tube": one.tube, "radius_angstrom": one.radius_angstrom}
        rows.append(row | {name: getattr(found, name) for name in names} | {"runner_up": list(found.runner_up)})
    write_list(picks, len(picks), replace(options, as_json=False))
    if options.as_json:
        show_json({"exit_code": int(len(rows) < len(walls)), "particles": len(picks), "walls": rows})
    return int(len(rows) < len(walls))
