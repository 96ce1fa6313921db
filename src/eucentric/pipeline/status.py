"""What is done, outdated, failed or still to do in a project, from its records alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from eucentric.errors import EucentricError
from eucentric.io.tilt_series import tilt_series_names
from eucentric.pipeline import records
from eucentric.pipeline.plan import Plan, all_stages
from eucentric.pipeline.records import Record
from eucentric.pipeline.stage import AnyStage, ItemStage
from eucentric.pipeline.steps import IMPORT_TABLE, Step, TaskMaker, find_project, project_steps, survey
from eucentric.pipeline.summary import Change
from eucentric.typing import PathLike

State: TypeAlias = Literal["done", "outdated", "failed", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus:
    """One tilt series."""

    name: str
    states: dict[str, State]
    """By stage. `outdated`: done, but with settings or inputs that are no longer those of the project."""
    messages: tuple[str, ...]
    """Why it failed, and what to know about its results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """A project."""

    root: Path
    series: tuple[SeriesStatus, ...]
    changes: tuple[Change, ...]
    """Settings that differ from those of the results."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        values["root"] = str(self.root)
        return values


def project_status(root: PathLike, stages: Sequence[AnyStage] | None = None) -> ProjectStatus:
    """The state of every tilt series of a project; nothing is changed or locked.

    Raises
    ------
    InputError : not a project, or a plan that does not fit
    """
    place = find_project(Path(root))
    plan = Plan.load(place, all_stages() if stages is None else stages)
    steps = [s for s in project_steps(place, plan) if issubclass(s.stage, ItemStage)]
    names = tilt_series_names(place / IMPORT_TABLE)
    maker = TaskMaker(
        root=place,
        project=plan.project,
        exclusions={name: records.exclusions_of(plan.exclusions, name) for name in names},
        device="cpu",
        overwrite=False,
    )
    every = tuple(_series(maker, steps, name) for name in names)
    return ProjectStatus(root=place, series=every, changes=tuple(survey(maker, steps, names).changes))


def _series(maker: TaskMaker, steps: Sequence[Step], name: str) -> SeriesStatus:
    states: dict[str, State] = {}
    messages = []
    behind = False
    for step in steps:
        record = records.read_record(step.path, name)
        behind = behind or not _is_current(maker, step, name)
        states[step.stage.name] = _state(record, behind)
        if record is not None:
            told = [record.message] if record.message else list(record.caveats)
            messages += [f"{step.stage.name}: {text}" for text in told]
    return SeriesStatus(name=name, states=states, messages=tuple(messages))


def _is_current(maker: TaskMaker, step: Step, name: str) -> bool:
    try:
        return maker.is_current(step, maker.make(step, name))
    except (EucentricError, OSError):
        return False


def _state(record: Record | None, behind: bool) -> State:
    if record is None:
        return "waiting"
    if not record.is_done:
        return "failed"
    return "outdated" if behind else "done"
