"""Options that many commands share, and how their results are shown."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.console import Console

from eucentric.pipeline.progress import BarProgress, LineProgress, RunProgress
from eucentric.pipeline.summary import RunInterrupted, RunSummary

RUNNING = Group.create_ordered("How to run")
_OPTIONS = {"purpose": "for"}  # `--for view` reads as a sentence, but `for` cannot name a field


def option_name(field: str) -> str:
    """The option, without its dashes, that stands for a field."""
    return _OPTIONS.get(field, field.replace("_", "-"))


SETTINGS = Parameter(
    name="*",
    group=Group("Settings", sort_key=0),
    negative_iterable=(),
    consume_multiple=True,
    name_transform=option_name,
)
"""Of a settings class: each field is an option."""
SEVERAL = Parameter(consume_multiple=True, negative=())
"""Of a list: values follow each other after one option."""
Switch = Annotated[bool, Parameter(negative=())]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), help="write the result as JSON in the last line")]
Debug = Annotated[bool, Parameter(negative=(), help="show where an error came from")]


@Parameter(name="*", group=RUNNING)
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How and on what to run."""

    only: Annotated[list[str] | None, SEVERAL] = None
    """names of tilt series to work on; wildcards allowed"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n"""
    workers: int | None = None
    """tilt series side by side; chosen by cores, GPUs and memory where not given"""
    cluster: str = "local"
    """local, slurm, or the address of a Dask scheduler such as tcp://host:8786"""
    overwrite: Switch = False
    """do everything anew, also what is done"""
    as_json: AsJson = False
    debug: Debug = False


@contextmanager
def shown_progress() -> Iterator[RunProgress]:
    """A bar in a terminal, a line a minute elsewhere; both on the error channel, so that results can be piped."""
    console = Console(stderr=True)
    yield BarProgress(console) if console.is_terminal else LineProgress(console)


def show_json(values: Mapping[str, Any]) -> None:
    """Print a result for machines, on one line."""
    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")


def show_summary(summary: RunSummary, options: RunOptions) -> int:
    """Tell what a run did; its exit code."""
    for line in summary.lines():
        sys.stdout.write(line + "\n")
    if options.debug:
        for failure in summary.failures:
            if failure.traceback:
                sys.stderr.write(f"{failure.series} {failure.stage}:\n{failure.traceback}\n")
    if options.as_json:
        sys.stdout.write(summary.to_json() + "\n")
    return summary.exit_code


def show_interrupted(stop: RunInterrupted, options: RunOptions) -> int:
    """Tell what a stopped run leaves."""
    sys.stderr.write(f"{stop}\n")
    if options.as_json:
        sys.stdout.write(stop.summary.to_json() + "\n")
    return stop.summary.exit_code


def run_and_show(
    work: Callable[..., RunSummary],
    options: RunOptions,
    show: Callable[[RunSummary, RunOptions], int] = show_summary,
) -> int:
    """Run stages and show what came of it, also where the run was stopped; the exit code.

    Parameters
    ----------
    work : `run_project` or `run_stage` with all arguments but those of the options
    options : how to run
    show : called when the run came to its end
    """
    try:
        with shown_progress() as progress:
            summary = work(
                only=options.only,
                workers=options.workers,
                cluster=options.cluster,
                device=options.device,
                overwrite=options.overwrite,
                progress=progress,
            )
    except RunInterrupted as stop:
        return show_interrupted(stop, options)
    return show(summary, options)
