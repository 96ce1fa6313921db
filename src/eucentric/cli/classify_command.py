"""`eucentric classify`: particles sorted into classes."""

import math
import sys
from pathlib import Path
from typing import Annotated

from eucentric.averaging.classify_params import ClassifyParams
from eucentric.averaging.params import ExtractParams
from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_parts


def classify(
    target: Path,
    /,
    *,
    output: Path,
    series: Path | None = None,
    mask: Path | None = None,
    references: Annotated[list[Path] | None, SEVERAL] = None,
    settings: Annotated[ClassifyParams | None, SETTINGS] = None,
    images: Annotated[ExtractParams | None, SETTINGS] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Sort particles with known poses into classes, straight from the tilt images, and average each.

    Writes class_1.mrc (the largest) and its halves, and so on, particles.star with the class (rlnClassNumber) and probabilities
    of each particle, mask.mrc and classes.json. Tells how far other beginnings agree, whether classes hold for particles that they
    were not made of, and whether they go with the tomogram, the defocus, the number of images or the view.

    Parameters
    ----------
    target
        list of oriented particles in any known format, or a project with one folder below `pick`
    output
        folder to be made
    series
        aligned series; where not given those that the list was made with (its refinement, or its tomograms where these were levelled
        or refined), else `ctf/tilt_series.star` of its project
    mask
        volume of 0 to 1 on the voxels of the boxes: where classes may differ
    references
        structures or maps (protein bright), one for each class, for --method multi-reference
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.classify_files import classify_list

    del debug  # read by the program itself
    target = chosen_list(target)
    made = classify_list(
        target,
        output,
        images or ExtractParams(),
        settings or ClassifyParams(),
        device=resolve_device(device),
        table=series,
        mask=mask,
        references=tuple(references or ()),
        overwrite=overwrite,
        on_step=shown_parts(),
    )
    for number, (count, resolution) in enumerate(zip(made.counts, made.resolutions_angstrom, strict=True), start=1):
        words = f"{resolution:.1f} A" if math.isfinite(resolution) else "no agreement of its halves"
        sys.stdout.write(f"Class {number}: {count} particle{'s' * (count != 1)}, {words}.\n")
    found = made.found
    if math.isfinite(found.best.gain):
        words = (
            f"; other beginnings agree by {found.agreement:.2f} (1 wholly, 0 chance)" if len(found.gains) > 1 else ""
        )
        sys.stdout.write(f"Held-out log-likelihood {found.best.gain:+.2f} nats a particle over one class{words}.\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.folder}.\n")
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "folder": str(made.folder),
                "counts": list(made.counts),
                "resolutions_angstrom": [_finite(r) for r in made.resolutions_angstrom],
                "held_out_gain": _finite(found.best.gain),
                "agreement_of_starts": _finite(found.agreement),
                "relations": [r.as_json() for r in made.relations],
                "caveats": list(made.caveats),
            }
        )
    return 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
