"""`eucentric fill-wedge`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from eucentric.cli.options import SETTINGS, RunOptions, run_and_show, show_summary
from eucentric.cli.restore_one import VOLUMES, OneTomogram, restore_one
from eucentric.denoising.restoring_params import FillWedgeParams
from eucentric.errors import InputError
from eucentric.pipeline.summary import RunSummary

_DEFAULT = RunOptions()


def fill_wedge(
    target: Path,
    /,
    *,
    output: str | None = None,
    half1: Path | None = None,
    half2: Path | None = None,
    pixel_size: float | None = None,
    tilt_range: tuple[float, float] | None = None,
    settings: Annotated[FillWedgeParams | None, SETTINGS] = None,
    options: RunOptions = _DEFAULT,
) -> int:
    """Fill the missing wedge of tomograms, so that what lies across the beam is seen.

    What fills the wedge was not measured: it is what a network or the constraints expect there. Look at it and segment it, but
    average from the raw data. A check on data withheld from the network says how much of it is made up.

    Parameters
    ----------
    target
        project, a table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder in the project, `fill-wedge` where not given; or the file to be made of one tomogram
    half1
        first half volume, of one tomogram; a project knows its own
    half2
        second half volume
    pixel_size
        A per voxel of one tomogram whose header holds none
    tilt_range
        degrees, lowest and highest tilt of one tomogram; measured in it where not given
    """
    chosen = settings or FillWedgeParams()
    if target.suffix.lower() in VOLUMES:
        from eucentric.pipeline import restore_files

        one = OneTomogram(target, output, half1, half2, pixel_size, tilt_range)
        return restore_one(one, "filled", options, partial(restore_files.fill_wedge, params=chosen))
    if half1 or half2 or pixel_size is not None or tilt_range:
        raise InputError("--half1, --half2, --pixel-size and --tilt-range are for one tomogram; a project has its own.")
    from eucentric.pipeline.runner import run_stage

    changes = {} if settings is None else {field: getattr(settings, field) for field in settings.model_fields_set}
    work = partial(run_stage, target, "fill-wedge", changes, output)
    return run_and_show(work, options, _show)


def _show(summary: RunSummary, options: RunOptions) -> int:
    from eucentric.pipeline.denoise_files import AVERAGING_USES_RAW

    sys.stdout.write(AVERAGING_USES_RAW + "\n")
    return show_summary(summary, options)
