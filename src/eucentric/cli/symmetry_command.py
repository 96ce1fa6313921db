"""`eucentric symmetry`: the point group of an average."""

import sys
from pathlib import Path
from typing import Annotated

from eucentric.averaging.point_group_params import PointGroupParams
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json

_SHOWN = 6


def symmetry(
    target: Path,
    /,
    *,
    half2: Path | None = None,
    output: Path | None = None,
    mask: Path | None = None,
    particles: Path | None = None,
    voxel_size: float | None = None,
    settings: Annotated[PointGroupParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find the point group of a map that was made without symmetry, by a likelihood ratio of its halves.

    Axes of Cn, Dn, T, O and I are looked for in each half, and each group is judged by how well that half, averaged over the group,
    foretells the other one. Writes symmetry.json with the evidence of every group and, where one is supported, maps and
    particles turned into its frame: map.mrc, half1.mrc, half2.mrc, mask.mrc, particles.star.

    Parameters
    ----------
    target
        folder of an average or initial model, or half map 1
    half2
        half map 2, with a file as target
    output
        folder to be made; `symmetry` within the target, or beside half map 1, where not given
    mask
        volume of 0 to 1 that holds the particle; that of the folder, or a ball, where not given
    particles
        list whose poses are to be turned along; that of the folder where not given
    voxel_size
        A, of maps whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.symmetry_files import find_symmetry

    del debug  # read by the program itself
    made = find_symmetry(
        target,
        output,
        settings or PointGroupParams(),
        device=resolve_device(device),
        half2=half2,
        mask=mask,
        particles=particles,
        voxel_size=voxel_size,
        overwrite=overwrite,
    )
    found = made.found
    sys.stdout.write(
        f"{found.group}: the highest point group that the halves support, in detail to {found.low_pass_angstrom:.0f} A.\n"
        f"Log-likelihood over C1 (more than {found.needed:.0f} needed), and likeness of turned copies (1: as the halves):\n"
    )
    for one in found.evidence[:_SHOWN]:
        sys.stdout.write(
            f"  {one.group:4}{one.evidence:+9.0f}{one.likeness:7.2f}{'  supported' if one.supported else ''}\n"
        )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    if found.group != "C1":
        sys.stdout.write(f"Maps and poses in its frame: {made.folder}. Average with --symmetry {found.group}.\n")
    if as_json:
        show_json({"exit_code": 0, "folder": str(made.folder), **made.as_json()})
    return 0
