"""`eucentric exclude`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.options import Debug, Switch


def exclude(
    project: Path,
    series: str,
    angle: Annotated[float, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    reason: str | None = None,
    acquisition: int | None = None,
    undo: Switch = False,
    debug: Debug = False,
) -> int:
    """Leave one tilt out of all later work. It is noted in `eucentric.toml`; the next run redoes what it touches.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    series
        name of the tilt series
    angle
        degrees, nominal; the nearest tilt within 0.5 is meant
    reason
        why, in words
    acquisition
        order of acquisition from 0, where two tilts have the same angle
    undo
        take the tilt back
    """
    from eucentric.pipeline.exclude import exclude_tilt  # here, so that --help does not load torch

    del debug  # read by the program itself
    entry = exclude_tilt(project, series, angle, reason, acquisition, undo)
    what = f"the tilt of {series} at {entry.angle:g} degrees"
    text = f"Took back {what}." if undo else f"Left out {what}: {entry.reason}."
    sys.stdout.write(f"{text} Next: eucentric run {project}\n")
    return 0
