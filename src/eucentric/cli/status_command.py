"""`eucentric status`."""

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eucentric.cli.options import AsJson, Debug, show_json

_STYLES = {"done": "green", "outdated": "yellow", "failed": "red", "waiting": "dim"}


def status(
    project: Path,
    /,
    *,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show for every tilt series which stages are done, outdated by a change, failed or waiting; and why.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    """
    from eucentric.pipeline.status import project_status  # here, so that --help does not load torch

    del debug  # read by the program itself
    found = project_status(project)
    stages = list(found.series[0].states) if found.series else []
    table = Table("series", *stages, box=None)
    for one in found.series:
        table.add_row(one.name, *(f"[{_STYLES[s]}]{s}[/]" for s in one.states.values()))
    console = Console(file=sys.stdout)
    console.print(table)
    for change in found.changes:
        console.print(f"Changed since the last run: {change}", markup=False, highlight=False, soft_wrap=True)
    for one in found.series:
        for text in one.messages:
            console.print(f"{one.name}, {text}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        show_json(found.to_dict())
    return 1 if any("failed" in one.states.values() for one in found.series) else 0
