"""`eucentric status`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.status import ProjectStatus

_LINE_SECONDS = 60.0


def status(
    project: Path,
    /,
    *,
    watch: Switch = False,
    interval: float = 2.0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show what runs, how long it still takes, and which stages of every tilt series are done, outdated, failed or waiting.

    Time left comes from how long the same stages took before.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    watch
        show it until Ctrl-C; where the output is no terminal, write a line a minute for as long as something runs
    interval
        s between two looks
    """
    del debug  # read by the program itself
    if not 0.1 <= interval <= 3600:
        raise InputError(f"--interval is {interval:g} s; expected 0.1 to 3600.")
    from eucentric.pipeline.status import project_status  # here, so that --help does not load torch

    console = Console(file=sys.stdout)
    found = project_status(project)
    if watch:
        found = _watch(project, interval, console, found)
        if not console.is_terminal:
            return _finish(found, as_json=as_json)
    _show(found, console)
    return _finish(found, as_json=as_json)


def _finish(found: "ProjectStatus", *, as_json: bool) -> int:
    if as_json:
        show_json(found.to_dict())
    crashed = found.holder is not None and found.holder.state == "gone"
    return 1 if crashed or any("failed" in one.states.values() for one in found.series) else 0


def _show(found: "ProjectStatus", console: Console) -> None:
    from eucentric.cli.status_view import closing_lines, now_lines, series_table

    console.print(series_table(found))
    for line in (*now_lines(found), *closing_lines(found)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _watch(project: Path, interval: float, console: Console, found: "ProjectStatus") -> "ProjectStatus":
    """Show a project until Ctrl-C, or write lines while something runs; how it stood last."""
    from rich.live import Live

    from eucentric.cli.status_view import live_view, one_line
    from eucentric.pipeline.status import project_status

    last = float("-inf")
    try:
        if console.is_terminal:
            with Live(live_view(found, console.height), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(live_view(found, console.height), refresh=True)
                    time.sleep(interval)
                    found = project_status(project)
        while True:
            active = found.is_running or bool(found.commands)
            if not active or time.monotonic() - last >= _LINE_SECONDS:
                console.print(one_line(found), markup=False, highlight=False, soft_wrap=True)
                last = time.monotonic()
            if not active:
                return found
            time.sleep(interval)
            found = project_status(project)
    except KeyboardInterrupt:
        return found
