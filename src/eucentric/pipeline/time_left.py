"""How long a run still takes, from the times that the same stages took before."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eucentric.pipeline import records
from eucentric.pipeline.records import COLLECTIVE, Record
from eucentric.pipeline.run_note import RunningItem, RunNote
from eucentric.pipeline.stage import CollectiveStage
from eucentric.pipeline.steps import Step

_TELLING_FRACTION = 0.1  # from here on an item's own pace is better known than that of others


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLeft:
    """An estimate of what is left."""

    seconds: float
    """By the clock, for the stages that were measured before."""
    unmeasured: tuple[str, ...]
    """Stages with work to do that never came to an end here: their time is not in `seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long the items of each stage took, at the median, in s; stages that were never done are missing."""

    seconds: Mapping[str, float]

    @classmethod
    def of(cls, steps: Sequence[Step], folders: Mapping[str, str], device: str | None) -> "StageTimes":
        """From the records of a project: of those of today's version, settings and device where there are such.

        Parameters
        ----------
        steps : of the project
        folders : where a run writes to, by stage, where that is not the stage's usual folder
        device : that the run uses; None where there is none
        """
        found = {}
        for step in steps:
            own = step.root / folders.get(step.stage.name, step.folder)
            for folder in dict.fromkeys((own, step.path)):
                seconds = _median_seconds(folder, step, device)
                if seconds is not None:
                    found[step.stage.name] = seconds
                    break
        return cls(seconds=found)

    def of_item(self, item: RunningItem, now: float) -> float | None:
        """Time that a running item still needs, in s; None where nothing tells."""
        elapsed = max(0.0, now - item.started)
        if item.fraction >= _TELLING_FRACTION:
            return elapsed * (1 - min(item.fraction, 1.0)) / item.fraction
        usual = self.seconds.get(item.stage)
        return None if usual is None else max(0.0, usual - elapsed)


def _median_seconds(folder: Path, step: Step, device: str | None) -> float | None:
    if issubclass(step.stage, CollectiveStage):
        record = records.read_record(folder, COLLECTIVE)
        every = [] if record is None else [record]
    else:
        every = list(records.read_records(folder).values())
    known = [r for r in every if r.is_done and r.seconds > 0]
    parameters = step.params.model_dump(mode="json")

    def is_like(record: Record, depth: int) -> bool:
        same = (
            record.stage_version == step.stage.version,
            device is None or record.device == device,
            record.parameters == parameters,
        )
        return all(same[:depth])

    for depth in (3, 2, 1, 0):
        times = [r.seconds for r in known if is_like(r, depth)]
        if times:
            return statistics.median(times)
    return None


def left_of_run(note: RunNote, steps: Sequence[Step], times: StageTimes, now: float | None = None) -> TimeLeft:
    """What a run that goes on still takes.

    Series go through stages one after another, so that not more run side by side than are left; a stage over all series waits for all.

    Parameters
    ----------
    note : what the run said last
    now : s since the epoch; the present where None
    """
    moment = time.time() if now is None else now
    of_all = {s.stage.name for s in steps if issubclass(s.stage, CollectiveStage)}
    work, longest, unmeasured = 0.0, 0.0, []
    for item in note.running:
        rest = times.of_item(item, moment)
        if rest is None:
            unmeasured.append(item.stage)
        else:
            work, longest = work + rest, max(longest, rest)
    for stage, count in note.pending.items():
        running = sum(item.stage == stage for item in note.running)
        waiting = count - running if stage not in of_all else int(not running and not note.ended.get(stage))
        if waiting > 0 and stage not in times.seconds:
            unmeasured.append(stage)
        elif waiting > 0 and stage not in of_all:
            work += waiting * times.seconds[stage]
    side_by_side = max(1, min(note.slots, max(note.pending.values(), default=1)))
    total = max(longest, work / side_by_side)
    total += sum(
        times.seconds[s]
        for s in note.pending
        if s in of_all and s in times.seconds and not note.ended.get(s) and not any(i.stage == s for i in note.running)
    )
    return TimeLeft(seconds=total, unmeasured=tuple(dict.fromkeys(unmeasured)))


def left_to_do(pending: Mapping[str, int], times: StageTimes) -> TimeLeft:
    """What a run would take that did what is to do, one item after another.

    Parameters
    ----------
    pending : items to do, by stage
    """
    todo = {stage: count for stage, count in pending.items() if count}
    return TimeLeft(
        seconds=sum(count * times.seconds[stage] for stage, count in todo.items() if stage in times.seconds),
        unmeasured=tuple(stage for stage in todo if stage not in times.seconds),
    )
