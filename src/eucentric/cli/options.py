"""Options that many commands share, and how their results are shown."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter
from rich.console import Console

from eucentric.pipeline.progress import BarProgress, LineProgress, RunProgress
from eucentric.pipeline.summary import RunInterrupted, RunSummary

RUNNING = Group.create_ordered("How to run")


@Parameter(name="*", group=RUNNING)
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How and on what to run."""

    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """Names of tilt series to work on; wildcards allowed."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n."""
    workers: int | None = None
    """Tilt series side by side; chosen by cores, GPUs and memory where not given."""
    cluster: str = "local"
    """local, slurm, or the address of a Dask scheduler such as tcp://host:8786."""
    overwrite: Annotated[bool, Parameter(negative=())] = False
    """Do everything anew, also what is done."""
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False
    """Write the result as JSON in the last line."""
    debug: Annotated[bool, Parameter(negative=())] = False
    """Show where an error came from."""


@contextmanager
def shown_progress() -> Iterator[RunProgress]:
    """A bar in a terminal, a line a minute elsewhere; both on the error channel, so that results can be piped."""
    console = Console(stderr=True)
    yield BarProgress(console) if console.is_terminal else LineProgress(console)


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
