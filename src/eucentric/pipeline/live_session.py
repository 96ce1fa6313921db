"""A project that follows a folder: looking, importing, running, and telling how things stand."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eucentric.errors import EucentricError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.findings import Finding
from eucentric.pipeline.import_drafts import some_of
from eucentric.pipeline.importing import ImportPlan, plan_import
from eucentric.pipeline.live_advice import (
    Advice,
    SeriesFigures,
    advise_on_series,
    advise_on_session,
    read_figures,
)
from eucentric.pipeline.live_files import FolderWatch
from eucentric.pipeline.live_import import add_to_project
from eucentric.pipeline.live_pace import behind_advice, pace_lines
from eucentric.pipeline.live_page import PAGE_FILE, LivePage, LiveRow, render_live
from eucentric.pipeline.live_progress import SharedProgress
from eucentric.pipeline.live_records import (
    LiveRecord,
    keep_session,
    read_live_records,
    session_settings,
    write_live_record,
)
from eucentric.pipeline.live_series import SeriesFiles, SeriesFinder, awaited
from eucentric.pipeline.plan import all_stages
from eucentric.pipeline.progress import RunProgress
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.stage import AnyStage
from eucentric.typing import PathLike

_PAGE_SECONDS = 5.0  # at most so often is the page written while stages run


@dataclass(frozen=True, kw_only=True)
class RunChoices:
    """How and on what to run; see `run_project`."""

    device: str = "auto"
    workers: int | None = None
    cluster: str = "local"
    stages: Sequence[AnyStage] | None = None
    progress: Callable[[], RunProgress] = RunProgress
    """Makes what follows a run."""


@dataclass(slots=True, kw_only=True)
class LiveSummary:
    """What a session came to."""

    root: Path
    records: dict[str, LiveRecord] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    """What each series that was not taken waits for, in words."""
    problems: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    run_problem: str | None = None
    """Why the last run did not take place or its report was not written, in words."""
    stopped: bool = False
    """By Ctrl-C or a signal."""

    def named(self, *outcomes: str) -> list[str]:
        """Series with one of some outcomes."""
        return [name for name, record in self.records.items() if record.outcome in outcomes]

    @property
    def exit_code(self) -> int:
        """0: all that was whole is done; 1: some failed, or could not be run; 130: stopped."""
        if self.stopped:
            return 130
        return 1 if self.run_problem or self.named("failed", "refused") else 0


class LiveSession:
    """One project that follows one folder. Arguments and errors as `run_live`."""

    def __init__(
        self,
        watched: PathLike,
        project: PathLike,
        settings: Mapping[str, Any],
        adopt: bool,
        choices: RunChoices,
        clock: Callable[[], float],
    ) -> None:
        self.root, self.watched = Path(project).expanduser().resolve(), Path(watched).expanduser().resolve()
        if not self.watched.is_dir():
            raise InputError(
                f"`{watched}` is not a folder that is there. "
                "Give the one that the microscope writes to; if it is on a share, mount it."
            )
        if self.root == self.watched:
            raise InputError(
                f"`{watched}` is the microscope's folder and the project's. Give the project a folder of its own with --project."
            )
        self.params = session_settings(self.root, self.watched, _whole_paths(settings), adopt=adopt)
        gain = self.params.gain
        if gain is not None and not Path(gain).is_file():
            raise InputError(f"The gain reference `{gain}` does not exist, or is not a file. Give it with --gain.")
        left_out = {self.root, *([] if gain is None else [Path(gain)])}
        self.watch = FolderWatch(self.watched, left_out, self.params.settle_seconds, clock)
        self.records: dict[str, LiveRecord] = {}
        self.stopped = False
        self._choices, self._clock = choices, clock
        self._finder = SeriesFinder()
        self._waiting: dict[str, str] = {}
        self._without: dict[str, list[str]] = {}
        self._running: tuple[str, ...] = ()
        self._ready: list[SeriesFiles] = []
        self._found: dict[str, SeriesFiles] = {}
        self._problems: tuple[str, ...] = ()
        self._run_problem: str | None = None
        self._figures: dict[str, SeriesFigures] = {}
        self._page_written = float("-inf")

    def open(self, *, retry_failed: bool) -> None:
        """Keep the settings, and read what earlier sessions did."""
        keep_session(self.root, self.watched, self.params)
        self.records = read_live_records(self.root)
        if retry_failed:
            for name, record in self.records.items():
                if record.outcome in ("failed", "refused"):
                    self.records[name] = replace(record, outcome="taken")

    def look(self) -> list[SeriesFiles]:
        """List the folder; the series that are to be processed now, in the order in which they ended."""
        self.watch.look()
        found, findings, unused = self._finder.find(self.watch)
        self._found = {series.name: series for series in found}
        self._problems = _problems(self.watch.problem, findings, unused)
        self._waiting, ready = {}, []
        for finding in findings:
            if finding.series is not None and finding.series not in self._found:
                self._waiting[finding.series] = finding.text
        now = self._clock()
        for series in found:
            record = self.records.get(series.name)
            if record is not None and record.is_final and not self._news(series, record):
                continue
            words, self._without[series.name] = awaited(series, self.watch, self.params, now)
            if words is None:
                ready.append(series)
            else:
                self._waiting[series.name] = words
        self._ready = sorted(ready, key=lambda s: max(self.watch.files[p].changed for p in s.files))
        return self._ready

    def _marks(self, series: SeriesFiles) -> dict[str, tuple[int, int]]:
        seen = {p.relative_to(self.watched).as_posix(): self.watch.files[p] for p in series.files}
        return {name: (one.size, one.mtime_ns) for name, one in seen.items()}

    def _news(self, series: SeriesFiles, record: LiveRecord) -> bool:
        """Whether a file is new or another one; that files are gone is none, since raw data may be archived."""
        return any(record.files.get(name) != mark for name, mark in self._marks(series).items())

    def step(self) -> bool:
        """Look, and process some of what is whole; whether there was something."""
        ready = self.look()[: self.params.series_per_run]
        if not ready:
            return False
        before, self._run_problem = self._run_problem, None
        try:
            self._process(ready)
        except (EucentricError, OSError) as error:
            # It is of the project, not of a series: such as a lock, the plan or the disk.
            self._run_problem = str(error)
            if self._run_problem != before:
                self._choices.progress().note(self._run_problem)
            return False
        finally:
            self._running = ()
        return True

    def _process(self, ready: Sequence[SeriesFiles]) -> None:
        """Import series, and take those through all stages that could be."""
        taken: dict[str, LiveRecord] = {}
        plans: list[ImportPlan] = []
        for series in ready:
            record = LiveRecord(
                series=series.name,
                outcome="taken",
                files=self._marks(series),
                without=tuple(self._without[series.name]),
                recorded=max(self.watch.files[p].changed for p in series.files),
                taken=self._clock(),
            )
            plan = self._import_plan(series, record)
            if plan is not None:
                plans.append(plan)
                taken[series.name] = record
        if plans:
            add_to_project(self.root, plans, self._choices.stages)
            for record in taken.values():
                self._keep(record)
            self._run(taken)

    def _import_plan(self, series: SeriesFiles, record: LiveRecord) -> ImportPlan | None:
        """What an import of the series would write; None, and a record of why, where it cannot be imported."""
        p = self.params
        try:
            if not series.movies:
                raise InputError(
                    f"{series.name} has none of the movies that its mdoc names. It is tried again when its files change."
                )
            plan = plan_import(
                series.movies,
                series.mdocs,
                gain=p.gain,
                voltage_kv=p.voltage_kv,
                pixel_size=p.pixel_size_angstrom,
                dose_per_tilt=p.dose_per_tilt,
                tilt_axis_deg=p.tilt_axis_deg,
            )
            if [s.name for s in plan.series] != [series.name]:
                raise InputError(f"The mdoc of {series.name} could not be read as one tilt series.")
        except (EucentricError, OSError) as error:
            self._keep(replace(record, outcome="refused", message=str(error), finished=self._clock()))
            return None
        return plan

    def _keep(self, record: LiveRecord) -> None:
        write_live_record(self.root, record)
        self.records[record.series] = record
        self._figures.pop(record.series, None)

    def _run(self, taken: Mapping[str, LiveRecord]) -> None:
        """Take series through all stages, and record what became of each."""
        kinds = all_stages() if self._choices.stages is None else self._choices.stages
        changes = {k.name: {"share": self.params.share_axis} for k in kinds if k.name == "axis"}
        self._running = tuple(taken)
        self.write_page(f"Processes {', '.join(taken)}.")
        summary = run_project(
            self.root,
            only=list(taken),
            workers=self._choices.workers,
            cluster=self._choices.cluster,
            device=self._choices.device,
            stages=kinds,
            progress=SharedProgress(self._choices.progress(), self._on_progress),
            changes=changes,
        )
        end = self._clock()
        failures = {f.series: f"{f.stage}: {f.message}" for f in summary.failures if f.series}
        for name, record in taken.items():
            self._keep(
                replace(
                    record,
                    outcome="failed" if name in failures else "done",
                    message=failures.get(name, ""),
                    finished=end,
                    seconds=(end - record.taken) / len(taken),
                )
            )
        of_all = [f"{f.stage}: {f.message}" for f in summary.failures if not f.series]
        self._run_problem = of_all[0] if of_all else None

    def _on_progress(self, running: str) -> None:
        if running and self._clock() - self._page_written >= _PAGE_SECONDS:
            self.write_page(f"Processes {running}.")

    @property
    def summary(self) -> LiveSummary:
        """How things stand."""
        return LiveSummary(
            root=self.root,
            records=dict(sorted(self.records.items())),
            waiting=dict(sorted(self._waiting.items())),
            problems=self._problems,
            advice=self._advice(),
            run_problem=self._run_problem,
            stopped=self.stopped,
        )

    def _figures_of(self, name: str) -> SeriesFigures:
        if name not in self._figures:
            self._figures[name] = read_figures(self.root, name)
        return self._figures[name]

    def _recent(self) -> list[LiveRecord]:
        done = sorted((r for r in self.records.values() if r.outcome == "done"), key=lambda r: r.finished)
        return done[-self.params.recent_series :]

    def _advice(self) -> tuple[Advice, ...]:
        recent = [self._figures_of(r.series) for r in self._recent()]
        told = advise_on_session(recent, self.params)
        told += [one for figures in reversed(recent) for one in advise_on_series(figures, self.params)]
        behind = behind_advice(list(self.records.values()), len(self._ready), self.params.recent_series)
        return tuple(told if behind is None else [behind, *told])

    def write_page(self, doing: str) -> None:
        """Write the status page; where that fails, the session goes on."""
        now = self._clock()
        page = LivePage(
            watched=str(self.watched),
            written=now,
            refresh_seconds=max(5, round(self.params.interval_seconds)),
            doing=doing,
            pace=tuple(pace_lines(list(self.records.values()), self.params.recent_series)),
            advice=self._advice(),
            problems=(*self._problems, *([] if self._run_problem is None else [self._run_problem])),
            rows=tuple(self._rows()),
            has_report=(self.root / "report" / "index.html").is_file(),
        )
        with contextlib.suppress(EucentricError, OSError):
            write_text_atomic(self.root / PAGE_FILE, render_live(page))
        self._page_written = now

    def _rows(self) -> Iterator[LiveRow]:
        """Series that run, are next or are awaited; then those with an outcome, newest first."""
        for name in self._running:
            yield LiveRow(name=name, state="running", message="")
        ready = [s.name for s in self._ready if s.name not in self._running and self._is_open(s.name)]
        for name in ready:
            yield LiveRow(name=name, state="ready", message="Whole; it is next.")
        for name, words in sorted(self._waiting.items()):
            yield LiveRow(name=name, state="waiting", message=words)
        shown = {*self._running, *ready, *self._waiting}
        for record in sorted(self.records.values(), key=lambda r: -r.finished):
            if record.series in shown:
                continue
            page = f"report/{record.series}.html"
            yield LiveRow(
                name=record.series,
                state="waiting" if record.outcome == "taken" else record.outcome,
                message=_row_words(record),
                page=page if (self.root / page).is_file() else None,
                figures=self._figures_of(record.series) if record.outcome == "done" else None,
                seconds=record.seconds or None,
            )

    def _is_open(self, name: str) -> bool:
        record = self.records.get(name)
        return record is None or not record.is_final or self._news(self._found[name], record)


def _row_words(record: LiveRecord) -> str:
    if record.outcome == "taken":
        return "It was stopped on its way; the next start goes on with it."
    if record.message or not record.without:
        return record.message
    return f"Missing or incomplete: {some_of(record.without)}."


def _whole_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they hold from any folder."""
    gain = settings.get("gain")
    return {**settings, **({} if gain is None else {"gain": str(Path(gain).expanduser().resolve())})}


def _problems(listing: str | None, findings: Sequence[Finding], unused: int) -> tuple[str, ...]:
    told = [] if listing is None else [listing]
    told += [f.text for f in findings if f.series is None]
    if unused:
        told.append(f"{f'{unused} movies are' if unused > 1 else 'One movie is'} in no mdoc so far.")
    return tuple(told)
