"""`eucentric pick-blobs`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError


def pick_blobs(
    target: Path,
    /,
    *,
    diameter: float,
    largest_diameter: float | None = None,
    name: str = "blobs",
    output: Path | None = None,
    contrast: Literal["dark", "bright"] = "dark",
    max_q_value: float = 0.05,
    min_score: float | None = None,
    distance: float | None = None,
    z_range: Annotated[tuple[float, float] | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    contamination_ratio: float = 4.0,
    contamination_margin: float | None = None,
    min_roundness: float = 0.35,
    edge: float | None = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Pick round things of a size in tomograms, without a template. They have no orientation.

    Faint membranes and the edges of the specimen answer too: select by a mask afterwards, or match a template.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    diameter
        A: of the particle
    largest_diameter
        A: with sizes from the diameter up to this one
    name
        of the picks: they go to pick/NAME/particles.star of the project
    output
        RELION-5 table to be made instead
    contrast
        of protein in the tomogram: dark as recorded, bright where it was inverted
    max_q_value
        part of false picks that is allowed, counted among blobs of the other contrast
    min_score
        standard deviations instead of a q-value
    distance
        A between picks at least; the diameter where not given
    z_range
        A: lowest and highest centre above the specimen's middle; the specimen's thickness where it is known
    contamination_ratio
        what answers so many times more than a typical blob is left out: gold, ice
    contamination_margin
        A around it within which nothing is picked; the diameter where not given
    min_roundness
        1 of balls, 0 of membranes and edges; 0 keeps all
    edge
        A from the faces of the volume within which nothing is picked; the radius where not given
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a table that exists
    """
    from eucentric.compute.device import resolve_device
    from eucentric.picking.blob_params import BlobParams
    from eucentric.pipeline.blob_files import pick_blob_files

    del debug  # read by the program itself
    if output is None:
        if not target.is_dir():
            raise InputError("Give --output FILE for the picks: only a project has a place for them.")
        output = target / "pick" / name / "particles.star"
    if output.is_file() and not overwrite:
        raise InputError(f"`{output}` exists. Give --overwrite to replace it, or another --name or --output.")
    params = BlobParams(
        diameter_angstrom=diameter,
        largest_diameter_angstrom=largest_diameter,
        contrast=contrast,
        max_q_value=max_q_value,
        min_score=min_score,
        distance_angstrom=distance,
        contamination_ratio=contamination_ratio,
        contamination_margin_angstrom=contamination_margin,
        edge_angstrom=edge,
        min_roundness=min_roundness,
    )
    picks, contaminated = pick_blob_files(target, output, params, resolve_device(device), z_range_angstrom=z_range)
    for series, part in contaminated.items():
        count = len(picks.in_tomogram(series))
        note = f", {part:.0%} left out as contaminated" if part > 0.005 else ""
        sys.stdout.write(f"{series}: {count} picks{note}\n")
    sys.stdout.write(f"Wrote {len(picks)} picks to {output}.\n")
    if as_json:
        show_json({"exit_code": 0, "picks": len(picks), "output": str(output)})
    return 0
