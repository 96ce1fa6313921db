"""`/`: all series of the project, how far each came, and its main figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eucentric.errors import EucentricError
from eucentric.pipeline.report_project import QUALITY
from eucentric.pipeline.series_history import SeriesHistory, series_histories
from eucentric.pipeline.status import State, project_status
from eucentric.pipeline.store import StageStore
from eucentric.report.content import format_number, metric_label
from eucentric.viewer.handlers import EnterHandler
from eucentric.viewer.project_view import pick_files, tomogram_of


class IndexHandler(EnterHandler):
    """The page."""

    async def get(self) -> None:
        if self.entered():
            return
        root = self.site.root
        values = await self.in_thread(self.site.recent, lambda: index_values(root), "index")
        self.page("index.html", **values)


def index_values(root: Path) -> dict[str, Any]:
    """What the page shows."""
    histories = series_histories([], StageStore(root, "view", "view"))
    columns = [(stage, name) for stage, name in QUALITY if any(name in h.metrics(stage) for h in histories)]
    try:
        states = {one.name: one.states for one in project_status(root).series}
        fault = None
    except EucentricError as error:
        states, fault = {}, str(error)
    return {
        "rows": [_row(root, h, columns, states.get(h.name, {})) for h in histories],
        "columns": [metric_label(name) for _, name in columns],
        "picks": [file.title for file in pick_files(root)],
        "fault": fault,
    }


def _row(
    root: Path, history: SeriesHistory, columns: list[tuple[str, str]], states: Mapping[str, State]
) -> dict[str, Any]:
    series, found = history.series, {stage: history.metrics(stage) for stage, _ in columns}
    return {
        "name": history.name,
        "address": f"/tomogram/{quote(history.name, safe='')}",
        "picture": f"/pictures/series/{quote(history.name, safe='')}.png" if tomogram_of(root, series) else None,
        "state": state_words(states),
        "failed": "failed" in states.values(),
        "tilts": "" if series is None else len(series.tilts),
        "excluded": "" if series is None else len(series.excluded),
        "quality": [format_number(found[s][name]) if name in found[s] else "" for s, name in columns],
    }


def state_words(states: Mapping[str, State]) -> str:
    """How far a series came, from the states of its stages in their order."""
    failed = next((stage for stage, state in states.items() if state == "failed"), None)
    done = [stage for stage, state in states.items() if state in ("done", "outdated")]
    if "left out" in states.values():
        return "left out"
    if failed is not None:
        return f"failed in {failed}"
    if not done:
        return "to do"
    return f"{done[-1]} done, outdated" if "outdated" in states.values() else f"{done[-1]} done"
