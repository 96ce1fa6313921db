"""`eucentric average`: a map from particles."""

import math
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.cli.average_auto import run_iterations
from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, option_name, show_json
from eucentric.cli.progress_lines import shown_parts
from eucentric.errors import InputError

_ALIGNMENT = Parameter(
    name="*",
    group=Group("Alignment, with --auto", sort_key=1),
    negative_iterable=(),
    consume_multiple=True,
    name_transform=option_name,
)


def average(
    target: Path,
    /,
    *,
    output: Path,
    series: Path | None = None,
    mask: Path | None = None,
    auto: Switch = False,
    reference: Path | None = None,
    reference_pixel_size: float | None = None,
    kind: Annotated[list[str] | None, SEVERAL] = None,
    settings: Annotated[AverageParams | None, SETTINGS] = None,
    images: Annotated[ExtractParams | None, SETTINGS] = None,
    alignment: Annotated[IterateParams | None, _ALIGNMENT] = None,
    device: str = "auto",
    workers: int = 1,
    cluster: str = "local",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Average particles straight from the tilt images: with the poses that their list holds, or aligned in turns (--auto).

    Writes map.mrc, half1.mrc, half2.mrc, mask.mrc, map_sharpened.mrc, map_local.mrc (filtered by local_resolution.mrc; protein
    bright), fsc.star, curves.npz, and particles.star with the halves (rlnRandomSubset) and the images of each particle. With
    --auto, particles are aligned to the map of their own half and averaged again until nothing gets better; every iteration
    is kept in iterations/, and the same command goes on where it was interrupted.

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
        volume of 0 to 1 for the resolution, of the map's size; made from the average where not given
    auto
        align and average in turns, with the mask, the pixel size and the detail compared made from each average
    reference
        with --auto: structure (PDB, mmCIF) or map (MRC, protein bright) to start from; the average of the poses given where
        not given. The poses then refer to its own axes
    reference_pixel_size
        A, of a map whose header holds none
    kind
        with --auto: classes of particles to take; all where not given
    device
        auto, cpu, cuda or cuda:n
    workers
        processes among which particles are shared; 1 takes all cores for one particle after another
    cluster
        local, slurm, or the address of a Dask scheduler such as tcp://host:8786
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.average_files import average_list
    from eucentric.pipeline.executors import shared_work

    del debug  # read by the program itself
    target = chosen_list(target)
    if auto:
        if mask is not None:
            raise InputError(
                "--mask and --auto exclude each other: masks grow with the map. Give --mask-diameter-angstrom."
            )
        return run_iterations(
            target,
            output,
            images=images or ExtractParams(),
            average=settings or AverageParams(),
            alignment=alignment or IterateParams(),
            table=series,
            reference=reference,
            reference_pixel_size=reference_pixel_size,
            kinds=kind or (),
            device=device,
            workers=workers,
            cluster=cluster,
            overwrite=overwrite,
            as_json=as_json,
        )
    if reference is not None or reference_pixel_size is not None or kind or alignment is not None:
        raise InputError(
            "--reference, --kind and the options of alignment go with --auto. Without it the poses of the list are taken as they "
            "are; `eucentric particles select --kind` makes a list of one kind."
        )
    tell = shown_parts()
    with shared_work(cluster, workers) as executor:
        made = average_list(
            target,
            output,
            images or ExtractParams(),
            settings or AverageParams(),
            device=resolve_device(device),
            table=series,
            mask=mask,
            overwrite=overwrite,
            executor=executor,
            on_step=lambda done, total: tell(f"{total} particles", done / total),
        )
    resolution = made.resolution_angstrom
    words = (
        f"{resolution:.1f} A (FSC 0.143 between halves)" if math.isfinite(resolution) else "no agreement of the halves"
    )
    sys.stdout.write(
        f"{made.particles} particles, {made.images} images: {words}. "
        f"{f'{made.folder} holds it already' if made.was_current else f'Wrote {made.folder}'}.\n"
    )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    if as_json:
        shown = resolution if math.isfinite(resolution) else None
        show_json(
            {"exit_code": 0, "folder": str(made.folder), "particles": made.particles, "resolution_angstrom": shown}
        )
    return 0
