"""`eucentric average --auto`: what the command does where particles are aligned too."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.cli.options import show_json
from eucentric.cli.progress_lines import shown_parts


def run_iterations(
    target: Path,
    output: Path,
    *,
    images: ExtractParams,
    average: AverageParams,
    alignment: IterateParams,
    table: Path | None,
    reference: Path | None,
    reference_pixel_size: float | None,
    kinds: Sequence[str],
    device: str,
    workers: int,
    cluster: str,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Iterate, and tell what every round came to."""
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.executors import shared_work
    from eucentric.pipeline.iterate_average import iterate_average
    from eucentric.pipeline.iterate_job import IterateSettings

    with shared_work(cluster, workers) as executor:
        made = iterate_average(
            target,
            output,
            IterateSettings(extract=images, average=average, iterate=alignment),
            device=resolve_device(device),
            table=table,
            reference=reference,
            reference_pixel_size=reference_pixel_size,
            kinds=kinds,
            overwrite=overwrite,
            executor=executor,
            on_step=shown_parts(),
        )
    for one in made.rounds[1:]:
        sys.stdout.write(
            f"Iteration {one.number}: {_angstrom(one.resolution_angstrom)}, pixels of {one.pixel_size_angstrom:g} A, particles moved "
            f"{one.change_angstrom:.1f} A and turned {one.change_deg:.1f} degrees (medians).\n"
        )
    resolution = made.result.correlation.resolution_angstrom
    sys.stdout.write(
        f"{made.particles} particles: {_angstrom(resolution)} (FSC 0.143 between halves). Wrote {made.folder}.\n"
    )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "folder": str(made.folder),
                "particles": made.particles,
                "resolution_angstrom": resolution if math.isfinite(resolution) else None,
                "rounds": [r.as_json() for r in made.rounds],
                "caveats": list(made.caveats),
            }
        )
    return 0


def _angstrom(resolution: float) -> str:
    return f"{resolution:.1f} A" if math.isfinite(resolution) else "no agreement of the halves"
