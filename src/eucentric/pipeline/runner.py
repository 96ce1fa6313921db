"""Running stages over the tilt series of a project: resume, failures, interruption, global tables."""

import contextlib
import heapq
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eucentric.compute.device import resolve_device
from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import tilt_series_names
from eucentric.pipeline import records
from eucentric.pipeline.collective import run_collective
from eucentric.pipeline.executors import Executor, Finished, choose_workers, make_executor
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.plan import PLAN_FILE, Plan, all_stages
from eucentric.pipeline.progress import RunProgress
from eucentric.pipeline.records import COLLECTIVE, Record
from eucentric.pipeline.run_note import NotedProgress
from eucentric.pipeline.stage import AnyStage, CollectiveStage, ItemStage
from eucentric.pipeline.steps import (
    IMPORT_TABLE,
    Step,
    TaskMaker,
    find_project,
    project_steps,
    segments,
    selected,
    survey,
)
from eucentric.pipeline.summary import Failure, RunInterrupted, RunSummary, StageTally
from eucentric.pipeline.tables import require_writable, sweep, write_global_table, write_run_file
from eucentric.pipeline.work import ItemTask, failed_record, write_failed_record
from eucentric.typing import PathLike

_TABLE_SECONDS = 30.0  # how long a global table may lag behind its items


def run_project(
    root: PathLike,
    until: str | None = None,
    only: Sequence[str] | None = None,
    workers: int | None = None,
    cluster: str = "local",
    device: str = "auto",
    overwrite: bool = False,
    stages: Sequence[AnyStage] | None = None,
    progress: RunProgress | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunSummary:
    """Run every stage on every tilt series of a project, doing only what is not done yet.

    Parameters
    ----------
    root : the project's folder, made by `eucentric import`
    until : the last stage to run
    only : names of tilt series, wildcards allowed
    workers : tilt series side by side; None chooses by cores, GPUs and memory
    cluster : `local`, `slurm`, or the address of a Dask scheduler
    device : `auto`, `cpu`, `cuda` or `cuda:n`
    overwrite : do everything anew
    stages : in order; None for those of the product
    progress : told what happens
    changes : by stage, settings of this run alone that go before those of the plan

    Returns
    -------
    RunSummary : failed items are in it, not raised

    Raises
    ------
    InputError : not a project, an unknown name, a setting that does not fit, or another command writing to the project
    BackendError : no such device, or no worker
    RunInterrupted : Ctrl-C or SIGTERM; carries the summary
    """
    place = find_project(Path(root))
    plan = Plan.load(place, all_stages() if stages is None else stages)
    for stage, values in (changes or {}).items():
        plan = plan.with_changes(stage, values)
    steps = project_steps(place, plan, until)
    every = tilt_series_names(place / IMPORT_TABLE)
    run = _Run(place, plan, steps, every, device, cluster, overwrite, workers, progress or RunProgress())
    with ProjectLock(place, "run"):
        return run.execute(selected(every, only))


def run_stage(
    target: PathLike,
    stage: str,
    changes: Mapping[str, Any] | None = None,
    output: str | None = None,
    only: Sequence[str] | None = None,
    workers: int | None = None,
    cluster: str = "local",
    device: str = "auto",
    overwrite: bool = False,
    stages: Sequence[AnyStage] | None = None,
    progress: RunProgress | None = None,
) -> RunSummary:
    """Run one stage on the results of the one before it.

    Parameters
    ----------
    target : a project, or a table such as `motion/tilt_series.star`
    stage : name of the stage
    changes : settings other than those of the plan. Without `output` they are written to the plan, so that a later
        run of the project agrees
    output : folder in the project for a variant of the results; None for the stage's own
    only, workers, cluster, device, overwrite, stages, progress : as for `run_project`, which has the same errors
    """
    place = Path(target)
    kinds = tuple(all_stages() if stages is None else stages)
    is_table = place.is_file()
    root = _root_of(place) if is_table else find_project(place)
    plan = Plan.load(root, kinds)
    kind = plan.stage(stage)
    varied = plan.with_changes(stage, changes or {})
    table = place.resolve() if is_table else _table_before(root, kind, plan)
    missing = kind.waits_for(varied.params(kind))
    if missing is not None:
        raise InputError(missing)
    folder = _output_folder(root, output or kind.folder(varied.params(kind)), table)
    source = table.relative_to(root).as_posix() if table.is_relative_to(root) else str(table)
    step = Step(root=root, stage=kind, params=varied.params(kind), folder=folder, source=source)
    every = tilt_series_names(table)
    run = _Run(root, varied, [step], every, device, cluster, overwrite, workers, progress or RunProgress())
    with ProjectLock(root, stage):
        if changes and output is None and (root / PLAN_FILE).is_file():
            plan.save(stage, changes)
        return run.execute(selected(every, only))


def _root_of(table: Path) -> Path:
    """The folder that the paths of a table start from: its project, or else the working folder, as in RELION."""
    parents = table.resolve().parents
    return next((p for p in parents if (p / PLAN_FILE).is_file()), Path.cwd())


def _table_before(root: Path, kind: AnyStage, plan: Plan) -> Path:
    table = root / kind.after / "tilt_series.star"
    before = None if kind.after == "import" else plan.stage(kind.after)
    if not table.is_file() and before is not None and issubclass(before, CollectiveStage) and before.may_be_passed_over:
        return _table_before(root, before, plan)
    if not table.is_file():
        raise InputError(
            f"{kind.name} reads the results of {kind.after}, and `{table}` is not there. "
            f"Run `eucentric {kind.after} {root}` first, or `eucentric run {root} --until {kind.name}`."
        )
    return table


def _output_folder(root: Path, output: str, table: Path) -> str:
    folder = (root / output).resolve()
    if not folder.is_relative_to(root) or folder == root:
        raise InputError(f"--output `{output}` lies outside of `{root}`; expected a folder name inside the project.")
    if folder == table.parent:
        raise InputError(f"--output `{output}` is the folder that is read from. Give it another name.")
    return folder.relative_to(root).as_posix()


class _Run:
    """One run: its steps, and what has become of each item."""

    def __init__(
        self,
        root: Path,
        plan: Plan,
        steps: list[Step],
        every: list[str],
        device: str,
        cluster: str,
        overwrite: bool,
        workers: int | None,
        progress: RunProgress,
    ) -> None:
        self.steps = steps
        reasons = records.excluded_series(plan.exclusions)
        self.left_out = {name: reasons[name] for name in every if name in reasons}
        self.every = [name for name in every if name not in self.left_out]
        # Workers elsewhere choose their own device.
        self.device = str(resolve_device(device)) if cluster == "local" else device
        self.maker = TaskMaker(
            root=root,
            project=plan.project,
            exclusions={name: records.exclusions_of(plan.exclusions, name) for name in every},
            device=self.device,
            overwrite=overwrite,
        )
        self.cluster, self.workers = cluster, workers
        self.progress = NotedProgress(progress, root, {s.stage.name: s.folder for s in steps}, self.device)
        self.summary = RunSummary(root=root, stages={s.stage.name: StageTally() for s in steps})
        self.failed: dict[str, set[str]] = {s.stage.name: set() for s in steps}
        self._touched: set[str] = set()
        self._written: dict[str, float] = {}
        self._executor: Executor | None = None

    def execute(self, names: list[str]) -> RunSummary:
        """All steps for some items."""
        clock = time.monotonic()
        for step in self.steps:
            sweep(step.path)
        self.summary.left_out = {name: self.left_out[name] for name in names if name in self.left_out}
        names = [name for name in names if name not in self.left_out]
        ahead = survey(self.maker, self.steps, names)
        for step in self.steps:
            if ahead.pending[step.stage.name]:
                require_writable(step.path)
        self.summary.changes = ahead.changes
        for change in ahead.changes:
            self.progress.note(f"Changed since the last run: {change}")
        count = max(ahead.pending.values(), default=0)
        choice = choose_workers(max(1, count), ahead.peak_bytes, self.device)
        self._executor = make_executor(self.cluster, self.workers, choice, self.progress.item_progress)
        try:
            with stopping_on_terminate(), self.progress:
                self.progress.begin(ahead.pending, self._executor.slots)
                for steps in segments(self.steps):
                    if issubclass(steps[0].stage, CollectiveStage):
                        self._collective(steps[0])
                    else:
                        names = self._items(steps, names)
            self._executor.close()
        except KeyboardInterrupt as stop:
            self._executor.abort()
            self.summary.interrupted = True
            raise RunInterrupted(self.summary) from stop
        except BaseException:
            self._executor.abort()
            raise
        finally:
            self.summary.seconds = time.monotonic() - clock
            for step in self.steps:
                sweep(step.path)
                if not issubclass(step.stage, CollectiveStage):
                    self._write_tables(step)
        return self.summary

    def _items(self, steps: list[Step], names: Sequence[str]) -> list[str]:
        """Take items through stages, each as far as it comes; the names of those that came through all that others read.

        A stage that fails keeps an item only from those that read its results.
        """
        executor = self._executor
        assert executor is not None
        order = {name: i for i, name in enumerate(names)}
        # Items that are far go first: results show early, and a full disk is met before all is half done.
        ready = [(0, i, name) for name, i in order.items()]
        heapq.heapify(ready)
        running: dict[tuple[str, str], int] = {}
        through: set[str] = set()
        lacking: dict[str, set[str]] = {name: set() for name in names}
        read = {step.stage.after for step in self.steps}

        def advance(name: str, index: int) -> None:
            for later, step in enumerate(steps[index + 1 :], start=index + 1):
                if step.stage.after not in lacking[name]:
                    heapq.heappush(ready, (-later, order[name], name))
                    return
                lacking[name].add(step.stage.name)
                self.progress.dropped(step.stage.name)
            if not lacking[name] & read:
                through.add(name)

        def fail(name: str, index: int) -> None:
            lacking[name].add(steps[index].stage.name)
            advance(name, index)

        while ready or running:
            while ready and len(running) < executor.slots:
                depth, _, name = heapq.heappop(ready)
                step = steps[-depth]
                task = self._task(step, name)
                if task is None:
                    fail(name, -depth)
                elif self.maker.is_current(step, task):
                    self.summary.stages[step.stage.name].unchanged += 1
                    advance(name, -depth)
                else:
                    self.progress.item_started(step.stage.name, name)
                    self._touched.add(step.folder)
                    executor.submit(task)
                    running[step.stage.name, name] = -depth
            if running:
                back = executor.finished()
                index = running.pop((back.task.stage.name, back.task.series))
                after = advance if self._account(steps[index], back) else fail
                after(back.task.series, index)
        return [name for name in names if name in through]

    def _task(self, step: Step, name: str) -> ItemTask | None:
        try:
            task = self.maker.make(step, name)
            return task if self.maker.is_current(step, task) else self.maker.with_missing(task)
        except (EucentricError, OSError) as error:
            self._touched.add(step.folder)
            task = self.maker.unreadable(step, name)
            self._fail(step, write_failed_record(task, failed_record(task, str(error))))
            self.progress.dropped(step.stage.name)
            return None

    def _account(self, step: Step, back: Finished) -> bool:
        """Count an item that came back; whether it is done."""
        record = back.record
        if record is None:
            record = write_failed_record(back.task, failed_record(back.task, back.lost or "The worker was lost."))
        tally = self.summary.stages[step.stage.name]
        tally.seconds += record.seconds
        self.progress.item_ended(step.stage.name, record.series, record.seconds)
        if record.is_done:
            tally.processed += 1
            self.summary.caveats += [f"{record.series}, {step.stage.name}: {caveat}" for caveat in record.caveats]
        else:
            self._fail(step, record)
        if time.monotonic() - self._written.get(step.folder, 0.0) > _TABLE_SECONDS:
            self._write_tables(step)
        return record.is_done

    def _fail(self, step: Step, record: Record) -> None:
        self._tell_failure(step, record.series, record.message or "", record.traceback)

    def _tell_failure(self, step: Step, series: str, message: str, trace: str | None = None) -> None:
        name = "" if series == COLLECTIVE else series
        self.summary.stages[step.stage.name].failed += 1
        self.failed[step.stage.name].add(series)
        self.summary.failures.append(Failure(stage=step.stage.name, series=name, message=message, traceback=trace))
        self.progress.note(f"FAILED {name + ', ' if name else ''}{step.stage.name}: {message}")

    def _collective(self, step: Step) -> None:
        assert self._executor is not None
        gone = set().union(*(self.failed[s.stage.name] for s in self.steps))
        names = [n for n in self.every if n not in gone and (step.root / step.table(n)).is_file()]
        if not step.source.endswith(".star"):
            done = records.read_records(step.root / step.source)
            names = [n for n in names if n in done and done[n].is_done]
        earlier = [s.folder for s in self.steps if s is not step]
        tally = self.summary.stages[step.stage.name]
        self.progress.item_started(step.stage.name, "all series")
        try:
            record = run_collective(self.maker, step, names, earlier, self._executor)
        except (EucentricError, OSError) as error:  # a disk so full that not even the failure could be recorded
            self._tell_failure(step, COLLECTIVE, str(error))
            self.progress.item_ended(step.stage.name, "all series", 0.0)
            return
        if record is None:
            tally.unchanged += 1
        else:
            tally.seconds += record.seconds
            if record.is_done:
                tally.processed += 1
            else:
                self._fail(step, record)
        self.progress.item_ended(step.stage.name, "all series", 0.0 if record is None else record.seconds)

    def _write_tables(self, step: Step) -> None:
        """The global table and `run.json` of a stage, where something in it changed."""
        self._written[step.folder] = time.monotonic()
        table = step.path / "tilt_series.star"
        untouched = step.folder not in self._touched and (table.is_file() or not step.path.is_dir())
        if untouched and not self._is_outdated(step, table):
            return
        tally = self.summary.stages[step.stage.name]
        known = records.read_records(step.path)
        values = {
            "stage": step.stage.name,
            "stage_version": step.stage.version,
            "source": step.source,
            "parameters": step.params.model_dump(mode="json"),
            "project": self.maker.project.model_dump(mode="json"),
            "exclusions": [e for name in self.every for e in self.maker.exclusions.get(name, ())],
            "device": self.device,
            "cluster": self.cluster,
            "workers": 1 if self._executor is None else self._executor.slots,
            "host": socket.gethostname(),
            "written": records.now(),
            "versions": records.software_versions(),
            "processed": tally.processed,
            "unchanged": tally.unchanged,
            "failed": tally.failed,
            "items": {
                name: {"outcome": r.outcome, "message": r.message, "seconds": r.seconds, "metrics": r.metrics}
                for name, r in known.items()
            },
        }
        try:
            write_global_table(step.path, self.every, self.failed[step.stage.name])
            if issubclass(step.stage, ItemStage):
                gone = self.failed[step.stage.name]
                done = [n for n in self.every if n in known and known[n].is_done and n not in gone]
                step.stage().gather(step.path, done)
            write_run_file(step.path, values)
        except (EucentricError, OSError) as error:  # such as a full disk; what the run did must still be told
            failure = Failure(stage=step.stage.name, series="", message=str(error))
            if failure not in self.summary.failures:
                self.summary.failures.append(failure)

    def _is_outdated(self, step: Step, table: Path) -> bool:
        """Whether a global table holds a series that is left out by now, or lacks one that was taken back."""
        if not table.is_file():
            return False
        listed = set(tilt_series_names(table))
        if listed & set(self.left_out):
            return True
        known = {name: records.read_record(step.path, name) for name in self.every if name not in listed}
        gone = self.failed[step.stage.name]
        return any(name not in gone and record is not None and record.is_done for name, record in known.items())


class _Terminated(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is."""


@contextlib.contextmanager
def stopping_on_terminate() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C does, in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        del number, frame
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
