"""`eucentric segment`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from eucentric.cli.options import SETTINGS, RunOptions, run_and_show, show_json, show_summary
from eucentric.cli.restore_one import VOLUMES
from eucentric.errors import InputError
from eucentric.segmentation.stage_params import SegmentParams

_DEFAULT = RunOptions()


def segment(
    target: Path,
    /,
    *,
    output: str | None = None,
    half1: Path | None = None,
    half2: Path | None = None,
    pixel_size: float | None = None,
    settings: Annotated[SegmentParams | None, SETTINGS] = None,
    options: RunOptions = _DEFAULT,
) -> int:
    """Find the membranes in tomograms: labels, meshes, oriented points and measures.

    Each connected membrane has a number of its own, the largest first. The network that comes with the program was shown simulated
    tomograms alone; `--method votes` needs no network. Raw tomograms serve best; what was restored may be named with --tomograms.

    Parameters
    ----------
    target
        project, a table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder in the project, `segment` where not given; or the folder for what is made of one tomogram
    half1
        first half volume of one tomogram, for --method votes: the difference tells the noise
    half2
        second half volume
    pixel_size
        A per voxel of one tomogram whose header holds none
    """
    chosen = settings or SegmentParams()
    if target.suffix.lower() in VOLUMES:
        return _one_file(target, output, half1, half2, pixel_size, chosen, options)
    if half1 or half2 or pixel_size is not None:
        raise InputError("--half1, --half2 and --pixel-size are for one tomogram; a project has its own.")
    from eucentric.pipeline.runner import run_stage

    changes = {} if settings is None else {field: getattr(settings, field) for field in settings.model_fields_set}
    return run_and_show(partial(run_stage, target, "segment", changes, output), options, show_summary)


def _one_file(
    tomogram: Path,
    output: str | None,
    half1: Path | None,
    half2: Path | None,
    pixel_size: float | None,
    params: SegmentParams,
    options: RunOptions,
) -> int:
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.models.tomogram_frames import tomogram_name
    from eucentric.pipeline.blob_files import TomogramFile
    from eucentric.pipeline.reprojecting import refuse_to_replace
    from eucentric.pipeline.segment_files import SegmentSource, segment_to_folder

    for path in (tomogram, half1, half2):
        if path is not None and not path.is_file():
            raise InputError(f"`{path}` does not exist. Give an MRC volume.")
    if (half1 is None) != (half2 is None):
        raise InputError("Only one half was given. Give both, --half1 and --half2, or none.")
    if half1 is not None and params.method == "network":
        raise InputError("Half volumes tell the noise to --method votes; the network has no use for them.")
    name = tomogram_name(tomogram.name)
    folder = Path(output) if output else tomogram.with_name(f"{name}_segment")
    if folder.suffix.lower() in VOLUMES:
        raise InputError(f"--output is `{output}`; expected a folder, as several files are made.")
    refuse_to_replace([folder / "labels" / f"{name}.mrc"], [tomogram], options.overwrite)
    made = segment_to_folder(
        SegmentSource(
            tomogram=TomogramFile(name=name, path=tomogram, specimen=None),
            voxel_size_angstrom=pixel_size,
            half1=half1,
            half2=half2,
            protect=None if params.protect is None else Path(params.protect),
        ),
        folder,
        params,
        device=resolve_device(options.device),
    )
    for line in (
        *made.caveats,
        f"{made.figures['sheets']:.0f} membranes of {made.figures['membrane_area_um2']:.3f} um^2 in {name}.",
        *(f"Wrote {path}." for path in made.written),
    ):
        sys.stdout.write(line + "\n")
    if options.as_json:
        show_json(
            {
                "exit_code": 0,
                "written": [str(path) for path in made.written],
                "figures": made.figures,
                "caveats": list(made.caveats),
            }
        )
    return 0
