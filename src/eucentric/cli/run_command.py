"""`eucentric run`."""

from functools import partial
from pathlib import Path

from eucentric.cli.options import RunOptions, run_and_show

_DEFAULT = RunOptions()


def run(project: Path, /, *, until: str | None = None, options: RunOptions = _DEFAULT) -> int:
    """Run every stage on every tilt series, doing only what is not done yet or was changed.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    until
        the last stage to run
    """
    from eucentric.pipeline.runner import run_project  # here, so that --help does not load torch

    return run_and_show(partial(run_project, project, until=until), options)
