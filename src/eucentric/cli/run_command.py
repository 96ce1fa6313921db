"""`eucentric run`."""

from pathlib import Path

from eucentric.cli.options import RunOptions, show_interrupted, show_summary, shown_progress
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.summary import RunInterrupted

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
    try:
        with shown_progress() as progress:
            summary = run_project(
                project,
                until=until,
                only=options.only,
                workers=options.workers,
                cluster=options.cluster,
                device=options.device,
                overwrite=options.overwrite,
                progress=progress,
            )
    except RunInterrupted as stop:
        return show_interrupted(stop, options)
    return show_summary(summary, options)
