"""`eucentric extract`: particles out of tilt images."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from eucentric.averaging.params import ExtractParams
from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json


def extract(
    target: Path,
    /,
    *,
    output: Path,
    form: Literal["stacks", "pseudo-subtomograms", "boxes"] = "stacks",
    premultiplied: bool = True,
    float16: bool = True,
    series: Path | None = None,
    settings: Annotated[ExtractParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write particles for other programs, cut from the motion-corrected images with one interpolation.

    `eucentric average` needs none of these files: it cuts particles when it needs them.

    Parameters
    ----------
    target
        list of particles in any known format, or a project with one folder below `pick`
    output
        folder to be made: `particles.star` in RELION-5's form, `optimisation_set.star` and the images
    form
        stacks: an image for each tilt that shows the particle; pseudo-subtomograms: volumes with squared transfer and
        multiplicity; boxes: plain volumes, protein bright
    premultiplied
        multiply stacks with CTF and damage; protein is bright either way
    float16
        write stacks with numbers of half the size
    series
        aligned series; where not given those that the list was made with (its refinement, or its tomograms where these were levelled
        or refined), else `ctf/tilt_series.star` of its project
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.extract_particles import extract_particles

    del debug  # read by the program itself
    target = chosen_list(target)
    made = extract_particles(
        target,
        output,
        settings or ExtractParams(),
        device=resolve_device(device),
        form=form,
        premultiplied=premultiplied,
        float16=float16,
        table=series,
        overwrite=overwrite,
    )
    sys.stdout.write(
        f"{'Kept' if made.was_current else 'Wrote'} {made.particles} particle{'s' * (made.particles != 1)} from "
        f"{made.images} images at {made.pixel_size_angstrom:g} A to {output}; their list is {made.table}.\n"
    )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    if as_json:
        show_json({"exit_code": 0, "table": str(made.table), "particles": made.particles, "images": made.images})
    return 0
