"""`eucentric project-map`: a map for single-particle software."""

import sys
from pathlib import Path

from eucentric.cli.options import AsJson, Debug, Switch, show_json


def project_map(
    target: Path,
    /,
    *,
    output: Path,
    step: float = 30.0,
    symmetry: str | None = None,
    pixel_size: float | None = None,
    box_size: int | None = None,
    low_pass: float = 20.0,
    voxel_size: float | None = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Project a map from all sides as picking templates, and write it as an initial model.

    Writes templates.mrcs, templates.star with the angles of each (RELION's) and initial_model.mrc: protein white, the pixel
    size in the headers, hand and centre (voxel n // 2) as RELION has them. Programs that pick dark particles invert them.

    Parameters
    ----------
    target
        folder of an average, or a map, protein bright
    output
        folder to be made
    step
        degrees between neighbouring views, over the whole sphere: views from behind are mirror images
    symmetry
        of the map: views alike are written once; that of the average, or C1, where not given
    pixel_size
        A, of what is written: that of the micrographs to pick in; that of the map where not given
    box_size
        pixels, even; what spans the box of the map where not given
    low_pass
        A; finer detail is left out, so that none of it is found again in noise; 0 keeps all
    voxel_size
        A, of a map whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.project_map import project_map_files

    del debug  # read by the program itself
    made = project_map_files(
        target,
        output,
        device=resolve_device(device),
        step_deg=step,
        symmetry=symmetry,
        pixel_size=pixel_size,
        box_size=box_size,
        low_pass_angstrom=low_pass,
        voxel_size=voxel_size,
        overwrite=overwrite,
    )
    sys.stdout.write(
        f"Wrote {made.views} views of {made.box_size} pixels of {made.pixel_size_angstrom:g} A to {made.stack}, their angles to "
        f"{made.table}, and the map to {made.model}.\n"
    )
    if as_json:
        told = {"views": made.views, "box_size": made.box_size, "pixel_size_angstrom": made.pixel_size_angstrom}
        show_json({"exit_code": 0, "stack": str(made.stack), "table": str(made.table), "map": str(made.model), **told})
    return 0
