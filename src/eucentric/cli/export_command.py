"""`eucentric export`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json


def export(
    project: Path,
    folder: Path,
    /,
    *,
    to: str,
    series: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    copy: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write a project as a folder that another program opens, with the next command there. Exit code 1 where a series was left out.

    Parameters
    ----------
    project
        folder of the project
    folder
        to be made
    to
        relion5, relion4, warp, imod, aretomo, dynamo, stopgap, emclarity, eman2, copick, zarr or chimerax
    series
        table whose geometry is to be handed on, such as `refine/NAME/tilt_series.star`, with the particles in folders beside it;
        that of the furthest stage where not given
    only
        names of tilt series; wildcards allowed
    copy
        copy images and tomograms; links to those of the project where not given
    overwrite
        write into a folder that is not empty
    """
    del debug  # read by the program itself
    from eucentric.pipeline.export.project import PROGRAMS, export_project

    made = export_project(
        project, to, folder, only=only, table=series, how="copy" if copy else "link", overwrite=overwrite
    )
    out = made.exported
    for name, why in made.failed:
        sys.stdout.write(f"error: {name} was left out: {why}\n")
    for loss in out.losses:
        sys.stdout.write(f"loss: {loss}\n")
    sys.stdout.write(f"Wrote {len(made.series)} tilt series for {PROGRAMS[to].title} to `{folder}`.\nNext, there:\n")
    sys.stdout.write("".join(f"  {step}\n" for step in out.steps))
    code = 1 if made.failed else 0
    if as_json:
        values = {
            "exit_code": code,
            "series": list(made.series),
            "failed": dict(made.failed),
            "losses": out.losses,
            "next": out.steps,
            "files": [str(p) for p in out.files],
        }
        show_json(values)
    return code
