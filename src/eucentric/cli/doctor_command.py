"""`eucentric doctor`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json

if TYPE_CHECKING:
    from eucentric.pipeline.doctor.findings import Checkup, Fault

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_INDENT = 11


def doctor(
    *places: Path,
    gain: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    measure: int = 3,
    no_machine: Switch = False,
    all_checks: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compare metadata with images, files with each other, and the machine with what is to be done.

    Each finding says what was compared, how sure it is, what follows, and the command that mends it. Exit code 1 where
    something is wrong that spoils results. Nothing is changed.

    Parameters
    ----------
    places
        a project (perhaps with its mdoc files), or mdoc, movie, stack and STAR files; nothing for the machine alone
    gain
        gain reference of movies that are given without a project; a file with `gain` in its name is taken for it
    only
        names of tilt series to look at; wildcards allowed
    measure
        tilt series whose images are looked at, about 15 s each; the others are judged by tables and records. 0 for none
    no_machine
        leave out GPU, memory, disk and the like
    all_checks
        list every check that found nothing wrong too
    """
    del debug  # read by the program itself
    from eucentric.pipeline.doctor.examine import examine  # here, so that --help does not load torch

    console = Console(file=sys.stdout, highlight=False, soft_wrap=False)
    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status("looking") as status:
            found = examine(
                places,
                gain=gain,
                only=only or (),
                measure=measure,
                machine=not no_machine,
                tell=lambda text: status.update(text),
            )
    else:
        found = examine(places, gain=gain, only=only or (), measure=measure, machine=not no_machine)
    _show(found, console, everything=all_checks)
    if as_json:
        show_json(found.to_dict())
    return found.exit_code


def _show(found: "Checkup", console: Console, *, everything: bool) -> None:
    for fault in found.by_severity:
        _show_fault(fault, console)
    if everything:
        for good in found.passed:
            _line(console, "in order", f"{good.series + ': ' if good.series else ''}{good.text}")
    for skipped in found.not_checked:
        _line(console, "unknown", f"{skipped.series + ': ' if skipped.series else ''}{skipped.text}")
    counts = {kind: sum(f.severity == kind for f in found.faults) for kind in _STYLES}
    told = ", ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in counts.items() if n) or "Nothing wrong was found"
    more = "" if everything else " (--all-checks lists them)"
    console.print(
        f"{told}; {len(found.passed)} checks in order{more}, {len(found.not_checked)} could not be made.",
        markup=False,
        soft_wrap=True,
    )


def _show_fault(fault: "Fault", console: Console) -> None:
    where = f"{fault.series}: " if fault.series else ""
    sure = fault.confidence + (f", {fault.sigmas:.1f} standard errors" if fault.sigmas is not None else "")
    _line(console, fault.severity.upper(), f"{where}{fault.title} [{sure}]", style=_STYLES[fault.severity])
    _line(console, "", fault.compared)
    _line(console, "so", fault.consequence)
    for remedy in fault.remedies:
        if remedy.when:
            _line(console, "mend", f"{remedy.when}:")
        # unwrapped, so that it can be copied
        console.print(f"{'' if remedy.when else 'mend':>{_INDENT - 1}} {remedy.command}", markup=False, soft_wrap=True)
    console.print()


def _line(console: Console, head: str, text: str, style: str = "") -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=0)
    table.add_column(width=_INDENT)
    table.add_column()
    table.add_row(Text(f"{head:>{_INDENT - 1}} ", style), Text(text, style))
    console.print(Padding(table, 0))
