"""`eucentric average`: a map from particles."""

import math
import sys
from pathlib import Path
from typing import Annotated

from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json


def average(
    target: Path,
    /,
    *,
    output: Path,
    series: Path | None = None,
    mask: Path | None = None,
    settings: Annotated[AverageParams | None, SETTINGS] = None,
    images: Annotated[ExtractParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Average particles with the places and orientations that their list holds, straight from the tilt images.

    Writes map.mrc, half1.mrc, half2.mrc and mask.mrc (protein bright), fsc.star, and particles.star with the halves
    (rlnRandomSubset) and the images of each particle.

    Parameters
    ----------
    target
        list of oriented particles in any known format, or a project with one folder below `pick`
    output
        folder to be made
    series
        aligned series; `ctf/tilt_series.star` of the list's project where not given
    mask
        volume of 0 to 1 for the resolution, of the map's size; made from the average where not given
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.average_files import average_list

    del debug  # read by the program itself
    made = average_list(
        target,
        output,
        images or ExtractParams(),
        settings or AverageParams(),
        device=resolve_device(device),
        table=series,
        mask=mask,
        overwrite=overwrite,
        on_step=_tell if sys.stderr.isatty() else None,
    )
    resolution = made.result.correlation.resolution_angstrom
    words = (
        f"{resolution:.1f} A (FSC 0.143 between halves)" if math.isfinite(resolution) else "no agreement of the halves"
    )
    sys.stdout.write(
        f"{made.particles} particles, {int(made.result.tilts_used.sum())} images: {words}. Wrote {made.folder}.\n"
    )
    if as_json:
        shown = resolution if math.isfinite(resolution) else None
        show_json(
            {"exit_code": 0, "folder": str(made.folder), "particles": made.particles, "resolution_angstrom": shown}
        )
    return 0


def _tell(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} particles{chr(10) if done == total else ''}")
