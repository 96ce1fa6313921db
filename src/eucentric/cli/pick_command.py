"""`eucentric pick`: template matching."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.picking.params import MatchParams


def pick(
    target: Path,
    /,
    *,
    template: Annotated[list[str], SEVERAL],
    name: str | None = None,
    symmetry: Annotated[list[str] | None, SEVERAL] = None,
    template_pixel_size: float | None = None,
    resolution: float = 0.0,
    only: Annotated[list[str] | None, SEVERAL] = None,
    mask: Path | None = None,
    tilts: Annotated[tuple[float, float] | None, Parameter(allow_leading_hyphen=True, negative=())] = None,
    pixel_size: float | None = None,
    score_volumes: Switch = False,
    output: Path | None = None,
    settings: Annotated[MatchParams | None, SETTINGS] = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find particles in tomograms by their structure (template matching).

    Writes `pick/<name>/particles.star` (RELION-5) with a score in standard deviations and a q-value for each pick.

    Parameters
    ----------
    target
        project, a table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`, with --tilts)
    template
        what to look for: atomic models (PDB, mmCIF), maps (MRC, protein bright) or sphere:DIAMETER in A; several compete
    name
        of the folder below `pick`; that of the first template where not given
    symmetry
        of the template about its own axes, wherever these lie: C1, D7, O and so on; one for all or one for each
    template_pixel_size
        A, of a map whose header holds none or a wrong one
    resolution
        A; finer detail of templates is removed; 0 keeps what the voxels hold
    only
        names of tomograms to work on
    mask
        volume of the tomogram's shape, above 0 where particles may lie
    tilts
        degrees, lowest and highest, of a tomogram without its tilt series
    pixel_size
        A per voxel of a tomogram whose header holds none
    score_volumes
        also write the greatest score at each voxel
    output
        folder for the results, in place of `pick/<name>`
    seed
        of the decoys
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace results that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.pick_templates import describe, pick_templates

    del debug  # read by the program itself
    made = pick_templates(
        target,
        template,
        settings or MatchParams(),
        device=resolve_device(device),
        name=name,
        symmetries=symmetry or (),
        template_pixel_size=template_pixel_size,
        resolution_angstrom=resolution,
        tilts=tilts,
        pixel_size=pixel_size,
        only=only,
        mask=mask,
        output=output,
        score_volumes=score_volumes,
        seed=seed,
        overwrite=overwrite,
        on_step=_tell if sys.stderr.isatty() else None,
    )
    for tomogram, count in made.counts.items():
        sys.stdout.write(f"{tomogram}: {count} particle{'s' * (count != 1)}\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.table}.\n")
    if as_json:
        values: dict[str, Any] = {"exit_code": 0, **describe(made)}
        show_json(values)
    return 0


def _tell(tomogram: str, part: float) -> None:
    sys.stderr.write(f"{tomogram}: {100 * part:.0f}%\n")
