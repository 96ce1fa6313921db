"""What is done, running, outdated, failed or still to do in a project, from its records, its lock and what a run says."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from eucentric.io.tilt_series import tilt_series_names
from eucentric.pipeline import records
from eucentric.pipeline.lock import LockHolder, lock_holder
from eucentric.pipeline.plan import Plan, all_stages
from eucentric.pipeline.records import Record
from eucentric.pipeline.results_beside import Command, Result, commands_at_work, results_beside
from eucentric.pipeline.run_note import RunningItem, RunNote, read_run_note
from eucentric.pipeline.stage import AnyStage, ItemStage
from eucentric.pipeline.steps import (
    IMPORT_TABLE,
    Step,
    TaskMaker,
    find_project,
    project_steps,
    steps_behind,
    steps_with_results,
    survey,
)
from eucentric.pipeline.summary import Change
from eucentric.pipeline.time_left import StageTimes, TimeLeft, left_of_run, left_to_do
from eucentric.typing import PathLike

State: TypeAlias = Literal["done", "running", "outdated", "failed", "waiting", "left out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus:
    """One tilt series."""

    name: str
    states: dict[str, State]
    """By stage. `outdated`: done, but with settings or inputs that are no longer those of the project. `left out`: by hand."""
    messages: tuple[str, ...]
    """Why it failed or was left out, and what to know about its results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemNow:
    """What is worked on."""

    stage: str
    series: str
    seconds: float
    """So far."""
    fraction: float
    """How far it is; 0 where it does not say."""
    text: str
    seconds_left: float | None
    """None where nothing tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """A project."""

    root: Path
    series: tuple[SeriesStatus, ...]
    changes: tuple[Change, ...]
    """Settings that differ from those of the results."""
    holder: LockHolder | None
    """The command that writes to the project, or was ended while it did."""
    now: tuple[ItemNow, ...]
    """What is worked on; of a command that was ended, what it left undone."""
    left: TimeLeft | None
    """Of the run that goes on; where none does, of the work that a run would find, one item after another."""
    results: tuple[Result, ...] = ()
    """What was made of all series or of particles."""
    commands: tuple[Command, ...] = ()
    """Other commands on this machine that work on files of the project."""

    @property
    def is_running(self) -> bool:
        """Whether a command writes to the project now, as far as can be told."""
        return self.holder is not None and self.holder.state == "running"

    def counts(self, stage: str) -> dict[State, int]:
        """Series in each state of a stage."""
        return dict(Counter(one.states[stage] for one in self.series))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        values["root"] = str(self.root)
        values["running"] = self.is_running
        return values


def project_status(
    root: PathLike, stages: Sequence[AnyStage] | None = None, moment: float | None = None
) -> ProjectStatus:
    """The state of every tilt series of a project; nothing is changed, and no command is hindered.

    Parameters
    ----------
    moment : s since the epoch; the present where None

    Raises
    ------
    InputError : not a project, a plan that does not fit, or a lock that may not be read
    """
    place = find_project(Path(root))
    now = time.time() if moment is None else moment
    plan = Plan.load(place, all_stages() if stages is None else stages)
    every_step = project_steps(place, plan)
    steps = steps_with_results(place, plan)
    names = tilt_series_names(place / IMPORT_TABLE)
    maker = TaskMaker(
        root=place,
        project=plan.project,
        exclusions={name: records.exclusions_of(plan.exclusions, name) for name in names},
        device="cpu",
        overwrite=False,
    )
    holder = lock_holder(place)
    note = _note_of(place, holder)
    is_running = holder is not None and holder.state == "running"
    at_work = {(i.stage, i.series): note.folders.get(i.stage) for i in note.running} if note and is_running else {}
    left_out = records.excluded_series(plan.exclusions)
    every = tuple(
        _left_out(steps, name, left_out[name]) if name in left_out else _series(maker, steps, name, at_work)
        for name in names
    )
    folders, device = (note.folders, note.device) if note and is_running else ({}, None)
    times = StageTimes.of(every_step, folders, device)
    found = survey(maker, every_step, [name for name in names if name not in left_out])
    if note is not None and is_running:
        left: TimeLeft | None = left_of_run(note, every_step, times, now)
    else:
        left = None if is_running else left_to_do(found.pending, times)
    return ProjectStatus(
        root=place,
        series=every,
        changes=tuple(found.changes),
        holder=holder,
        now=tuple(_now(item, times, now) for item in (note.running if note else ())),
        left=left,
        results=results_beside(place),
        commands=commands_at_work(place, () if holder is None else (holder.pid,)),
    )


def _note_of(root: Path, holder: LockHolder | None) -> RunNote | None:
    """What the holder of the lock says; None where the note is of another process."""
    note = read_run_note(root)
    if note is None or holder is None or (note.pid, note.host) != (holder.pid, holder.host):
        return None
    began = datetime.fromisoformat(holder.since).timestamp()
    return note if note.started >= began - 1 else None


def _now(item: RunningItem, times: StageTimes, moment: float) -> ItemNow:
    return ItemNow(
        stage=item.stage,
        series=item.series,
        seconds=max(0.0, moment - item.started),
        fraction=item.fraction,
        text=item.text,
        seconds_left=times.of_item(item, moment),
    )


def _series(
    maker: TaskMaker, steps: Sequence[Step], name: str, at_work: Mapping[tuple[str, str], str | None]
) -> SeriesStatus:
    states: dict[str, State] = {}
    messages = []
    behind = steps_behind(maker, steps, name)
    for step in steps:
        if not issubclass(step.stage, ItemStage):
            continue
        record = records.read_record(step.path, name)
        is_running = at_work.get((step.stage.name, name)) == step.folder
        states[step.stage.name] = "running" if is_running else _state(record, step.stage.name in behind)
        if record is not None and not is_running:
            told = [record.message] if record.message else list(record.caveats)
            messages += [f"{step.stage.name}: {text}" for text in told]
    return SeriesStatus(name=name, states=states, messages=tuple(messages))


def _left_out(steps: Sequence[Step], name: str, reason: str) -> SeriesStatus:
    states: dict[str, State] = {s.stage.name: "left out" for s in steps if issubclass(s.stage, ItemStage)}
    return SeriesStatus(name=name, states=states, messages=(f"left out by hand: {reason}",))


def _state(record: Record | None, behind: bool) -> State:
    if record is None:
        return "waiting"
    if not record.is_done:
        return "failed"
    return "outdated" if behind else "done"
