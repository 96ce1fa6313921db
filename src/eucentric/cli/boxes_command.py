"""`eucentric boxes`."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError


def boxes(
    table: Path,
    /,
    *,
    output: Path,
    box_size: int,
    positions: Path | None = None,
    at: Annotated[list[tuple[float, float, float]] | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    series: str | None = None,
    pixel_size: float | None = None,
    ctf: bool = True,
    dose_weighting: bool = True,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Reconstruct small boxes anywhere in the field straight from the images, without a tomogram before.

    Each place gets its own volume, with the contrast transfer of its height and the damage of every image accounted for.
    Protein is dark, as in tomograms.

    Parameters
    ----------
    table
        aligned series such as `ctf/tilt_series.star`
    output
        folder to be made: a volume for each place, and `boxes.star`
    box_size
        voxels along each edge
    positions
        particles (`.star` with rlnCenteredCoordinateX/Y/ZAngst), or text with x, y and z in A from the specimen centre
    at
        A: x, y and z of one place from the specimen centre; may be given several times
    series
        name of the series in the table; not needed where there is one
    pixel_size
        A per voxel; that of the images where not given
    ctf
        divide by the contrast transfer (Wiener)
    dose_weighting
        fade the detail that radiation had destroyed
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.boxes import reconstruct_box_files

    del debug  # read by the program itself
    if (positions is None) == (not at):
        raise InputError("Give the places of the boxes: either --positions FILE or --at X Y Z.")
    made = reconstruct_box_files(
        table,
        series,
        positions if positions is not None else np.array(at, dtype=np.float64),
        output,
        box_size=box_size,
        device=resolve_device(device),
        voxel_size=pixel_size,
        correct_ctf=ctf,
        dose_weighting=dose_weighting,
        overwrite=overwrite,
    )
    sys.stdout.write(
        f"Wrote {len(made.boxes)} box{'es' * (len(made.boxes) != 1)} of {box_size} voxels of "
        f"{made.voxel_size_angstrom:g} A to {output}, and where each was to {made.table}.\n"
    )
    for number in made.empty:
        sys.stdout.write(f"Box {number} is empty: no image shows its place.\n")
    if as_json:
        show_json({"exit_code": 0, "boxes": [str(p) for p in made.boxes], "table": str(made.table)})
    return 0
