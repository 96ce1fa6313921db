"""`eucentric live`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from eucentric.cli.options import RUNNING, SETTINGS, AsJson, Debug, Switch, show_json
from eucentric.pipeline.live_params import LiveParams
from eucentric.pipeline.progress import BarProgress, LineProgress, RunProgress

if TYPE_CHECKING:
    from eucentric.pipeline.live_session import LiveSummary

_How = Parameter(group=RUNNING)


def _progress() -> RunProgress:
    console = Console(stderr=True)
    return BarProgress(console) if console.is_terminal else LineProgress(console)


def live(
    watched: Path,
    /,
    *,
    project: Path,
    once: Annotated[Switch, _How] = False,
    until_idle: Annotated[float | None, _How] = None,
    adopt: Annotated[Switch, _How] = False,
    retry_failed: Annotated[Switch, _How] = False,
    settings: Annotated[LiveParams | None, SETTINGS] = None,
    device: Annotated[str, _How] = "auto",
    workers: Annotated[int | None, _How] = None,
    cluster: Annotated[str, _How] = "local",
    as_json: Annotated[AsJson, _How] = False,
    debug: Annotated[Debug, _How] = False,
) -> int:
    """Follow a microscope's folder: process each tilt series as it ends, renew the report, and advise the operator.

    Ctrl-C stops it in order; the same command goes on. `PROJECT/live.html` shows how things stand. Settings that are not
    given are those of the session's last start.

    Parameters
    ----------
    watched
        folder that the microscope writes to; movies and mdocs may lie in folders within
    project
        folder to make, or that of an earlier start
    once
        process the series that are whole, and end
    until_idle
        minutes without news after which it ends
    adopt
        go on with a project that followed another folder, or was made by `eucentric import`
    retry_failed
        take up series again that failed, though their files are as they were
    device
        auto, cpu, cuda or cuda:n
    workers
        tilt series side by side; chosen by cores, GPUs and memory where not given
    cluster
        local, slurm, or the address of a Dask scheduler such as tcp://host:8786
    """
    from eucentric.pipeline.live import run_live
    from eucentric.pipeline.live_session import RunChoices

    del debug  # read by the program itself
    chosen = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
    summary = run_live(
        watched,
        project,
        chosen,
        once=once,
        until_idle_minutes=until_idle,
        adopt=adopt,
        retry_failed=retry_failed,
        choices=RunChoices(device=device, workers=workers, cluster=cluster, progress=_progress),
    )
    _show(summary)
    if as_json:
        show_json(_as_json(summary))
    return summary.exit_code


def _show(summary: "LiveSummary") -> None:
    for name in summary.named("failed", "refused"):
        sys.stdout.write(f"FAILED {name}, {summary.records[name].message}\n")
    for name, words in summary.waiting.items():
        sys.stdout.write(f"waiting: {name}: {words}\n")
    for words in (*summary.problems, *([] if summary.run_problem is None else [summary.run_problem])):
        sys.stdout.write(f"note: {words}\n")
    for one in summary.advice:
        sys.stdout.write(f"advice: {one.series or 'session'}, {one.kind}: {one.text}\n")
    done = len(summary.named("done"))
    sys.stdout.write(f"{done} tilt series done in `{summary.root}`. How things stand: `{summary.root / 'live.html'}`\n")
    if summary.stopped:
        sys.stderr.write("Stopped. What was finished is kept. Run the same command again to go on.\n")


def _as_json(summary: "LiveSummary") -> dict[str, object]:
    return {
        "exit_code": summary.exit_code,
        "root": str(summary.root),
        "series": {name: {"outcome": r.outcome, "message": r.message} for name, r in summary.records.items()},
        "waiting": summary.waiting,
        "problems": list(summary.problems),
        "run_problem": summary.run_problem,
        "advice": [{"series": a.series, "kind": a.kind, "text": a.text} for a in summary.advice],
    }
