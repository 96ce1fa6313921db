"""Where each stage of a run reads and writes, and which items it has to do."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.pipeline import records
from eucentric.pipeline.explain import unknown_name
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import InputFile
from eucentric.pipeline.settings import ProjectSettings
from eucentric.pipeline.stage import AnyStage, CollectiveStage, ItemStage
from eucentric.pipeline.summary import Change
from eucentric.pipeline.work import ItemTask, upstream_of, upstream_with

IMPORT_TABLE = "import/tilt_series.star"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One stage of a run."""

    root: Path
    stage: AnyStage
    params: Any
    folder: str
    """Written to, relative to the root."""
    source: str
    """The folder whose item rows are read, or the tilt-series set (`.star`) that holds all items."""

    @property
    def path(self) -> Path:
        return self.root / self.folder

    def table(self, series: str) -> str:
        """The tilt-series set that one item is read from, relative to the root."""
        return self.source if self.source.endswith(".star") else f"{self.source}/records/{series}.star"


@dataclass(slots=True, kw_only=True, eq=False)
class TaskMaker:
    """Makes the tasks of a run; remembers what it read of the imported tables."""

    root: Path
    project: ProjectSettings
    exclusions: Mapping[str, tuple[dict[str, Any], ...]]
    device: str
    overwrite: bool
    _seen: dict[tuple[str, str], tuple[str, tuple[InputFile, ...]]] = field(default_factory=dict)

    def make(self, step: Step, series: str) -> ItemTask:
        """The task of one item.

        Raises
        ------
        EucentricError, OSError : what it is to be read from cannot be read
        """
        upstream, inputs = self.upstream(step, series)
        assert issubclass(step.stage, ItemStage)
        upstream = upstream_with(upstream, step.stage, series, step.params, self.root)
        return self._task(step, series, upstream, inputs)

    def unreadable(self, step: Step, series: str) -> ItemTask:
        """The task of an item whose input cannot be read, for its record."""
        return self._task(step, series, "unreadable", ())

    def _task(self, step: Step, series: str, upstream: str, inputs: tuple[InputFile, ...]) -> ItemTask:
        assert issubclass(step.stage, ItemStage)
        return ItemTask(
            stage=step.stage,
            series=series,
            root=str(self.root),
            folder=step.folder,
            source=step.table(series),
            params=step.params,
            project=self.project,
            exclusions=self.exclusions.get(series, ()),
            upstream=upstream,
            inputs=inputs,
            device=self.device,
        )

    def upstream(self, step: Step, series: str) -> tuple[str, tuple[InputFile, ...]]:
        """Fingerprint and files of what a stage reads for one series; errors as `make`."""
        key = step.source, series
        if key in self._seen:
            return self._seen[key]
        before = records.read_record(step.path, series)
        table = self.root / step.table(series)
        found = upstream_of(table, series, self.root, () if before is None else before.inputs)
        if step.source.endswith(".star"):  # which no stage of this run changes
            self._seen[key] = found
        return found

    def with_missing(self, task: ItemTask) -> ItemTask:
        """A task that is going to run, with files that are gone noted as gone: the item is done again when they are back.

        Errors as `make`.
        """
        if all((self.root / f.path).exists() for f in task.inputs):
            return task
        upstream, inputs = upstream_of(self.root / task.source, task.series, self.root)
        upstream = upstream_with(upstream, task.stage, task.series, task.params, self.root)
        return replace(task, upstream=upstream, inputs=inputs)

    def is_current(self, step: Step, task: ItemTask) -> bool:
        """Whether an item needs nothing done."""
        return not self.overwrite and task.is_current(records.read_record(step.path, task.series))


@dataclass(slots=True, kw_only=True)
class Survey:
    """What a run would do."""

    pending: dict[str, int]
    """Items to do, by stage."""
    changes: list[Change]
    peak_bytes: list[int]
    """Memory that the items to do need, one after another at most."""


def survey(maker: TaskMaker, steps: Sequence[Step], names: Sequence[str]) -> Survey:
    """Look at the records of all items without changing anything."""
    pending = {step.stage.name: 0 for step in steps}
    changes: dict[tuple[str, str], Change] = {}
    peaks = []
    for name in names:
        for step in steps:
            if issubclass(step.stage, ItemStage):
                _note_changes(step, name, changes)
        behind = steps_behind(maker, steps, name)
        for stage in behind:
            pending[stage] += 1
        if behind:
            peaks.append(_peak(maker, steps, name))
    return Survey(pending=pending, changes=list(changes.values()), peak_bytes=peaks)


def steps_behind(maker: TaskMaker, steps: Sequence[Step], name: str) -> list[str]:
    """Stages in which an item is to be done: it is not current there, or in one that they read, directly or not."""
    behind: dict[str, bool] = {}
    for step in steps:
        late = behind.get(step.stage.after, False)
        if issubclass(step.stage, ItemStage):
            late = late or not _is_current(maker, step, name)
        behind[step.stage.name] = late
    of_items = {s.stage.name for s in steps if issubclass(s.stage, ItemStage)}
    return [stage for stage, late in behind.items() if late and stage in of_items]


def _is_current(maker: TaskMaker, step: Step, name: str) -> bool:
    try:
        return maker.is_current(step, maker.make(step, name))
    except (EucentricError, OSError):
        return False


def _note_changes(step: Step, name: str, changes: dict[tuple[str, str], Change]) -> None:
    record = records.read_record(step.path, name)
    if record is None or not record.is_done:
        return
    now = step.params.model_dump(mode="json")
    for setting in dict.fromkeys((*record.parameters, *now)):
        old, new = record.parameters.get(setting), now.get(setting)
        if old != new:
            change = Change(stage=step.stage.name, setting=setting, old=old, new=new)
            changes.setdefault((step.stage.name, setting), change)


def _peak(maker: TaskMaker, steps: Sequence[Step], name: str) -> int:
    """Memory that an item needs at most, judged by the first table it is read from."""
    item_steps = [s for s in steps if issubclass(s.stage, ItemStage)]
    try:
        series = read_tilt_series(maker.root / item_steps[0].table(name), name, maker.root)
    except (EucentricError, OSError):
        return 0
    return max(s.stage().peak_bytes(series, s.params) for s in item_steps)


def project_steps(root: Path, plan: Plan, until: str | None = None) -> list[Step]:
    """The steps of a whole project, without stages that join no run, but for the one that is asked for by name.

    Raises
    ------
    InputError : no stage called `until`, or one for which something must be chosen first
    """
    steps = []
    for stage in plan.stages:
        params = plan.params(stage)
        missing = stage.waits_for(params)
        if missing is not None and stage.name == until:
            raise InputError(missing)
        if missing is None and (stage.joins_runs(params) or stage.name == until):
            steps.append(_step(root, stage, params))
    if until is None:
        return steps
    known = [s.stage.name for s in steps]
    if until not in known:
        raise unknown_name(until, [s.name for s in plan.stages], "stage", "Eucentric")
    return steps[: known.index(until) + 1]


def steps_with_results(root: Path, plan: Plan) -> list[Step]:
    """The steps of a whole project, and of stages that join no run those that have results."""
    in_run = {step.stage.name: step for step in project_steps(root, plan)}
    found = []
    for stage in plan.stages:
        if stage.name in in_run:
            found.append(in_run[stage.name])
        elif not stage.joins_runs(params := plan.params(stage)):
            step = _step(root, stage, params)
            found += [step] if records.read_records(step.path) else []
    return found


def _step(root: Path, stage: AnyStage, params: Any) -> Step:
    source = IMPORT_TABLE if stage.after == "import" else stage.after
    return Step(root=root, stage=stage, params=params, folder=stage.folder(params), source=source)


def segments(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps that items go through one after another without waiting for each other; a collective stage stands alone."""
    found: list[list[Step]] = []
    for step in steps:
        if found and issubclass(step.stage, ItemStage) and not issubclass(found[-1][0].stage, CollectiveStage):
            found[-1].append(step)
        else:
            found.append([step])
    return found


def selected(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """The names that `--only` asks for, wildcards allowed.

    Raises
    ------
    InputError : a name that no series has
    """
    if not only:
        return list(names)
    for pattern in only:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise unknown_name(pattern, names, "tilt series", "The project")
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in only)]


def find_project(path: Path) -> Path:
    """The project folder that a path means.

    Raises
    ------
    InputError : there is none
    """
    if path.is_dir() and (path / IMPORT_TABLE).is_file():
        return path.resolve()
    if not path.exists():
        raise InputError(
            f"`{path}` does not exist. Give the folder of a project, "
            f"or make one with `eucentric import {path} --frames ...`."
        )
    raise InputError(
        f"`{path}` is not a project: it has no `{IMPORT_TABLE}`. Make one with `eucentric import {path} --frames ...`."
    )
