"""What a run did, in numbers, in words and for machines."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_CAVEATS_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One item that did not come through."""

    stage: str
    series: str
    """Name of the tilt series; empty for a collective stage."""
    message: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting that is not what a stage was last run with."""

    stage: str
    setting: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"[{self.stage}] {self.setting}: {_shown(self.old)} -> {_shown(self.new)}"


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


@dataclass(slots=True, kw_only=True)
class StageTally:
    """Items of one stage."""

    processed: int = 0
    unchanged: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Sum over items."""


@dataclass(slots=True, kw_only=True)
class RunSummary:
    """Result of a run."""

    root: Path
    stages: dict[str, StageTally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    """What users should know of items that were processed, such as tilts that were left out."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Tilt series that were asked for and are left out by hand, with the reason."""
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some items failed; 130: interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.failures else 0

    def to_json(self) -> str:
        """One line."""
        values = {
            "root": str(self.root),
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 2),
            "stages": {name: asdict(tally) for name, tally in self.stages.items()},
            "changes": [asdict(c) for c in self.changes],
            "caveats": self.caveats,
            "left_out": self.left_out,
            "failures": [{"stage": f.stage, "series": f.series, "message": f.message} for f in self.failures],
        }
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    def lines(self) -> list[str]:
        """What to tell the user at the end."""
        told = []
        for name, tally in self.stages.items():
            parts = [f"{tally.processed} done"]
            parts += [f"{tally.unchanged} unchanged"] if tally.unchanged else []
            parts += [f"{tally.failed} failed"] if tally.failed else []
            told.append(f"{name}: {', '.join(parts)}")
        told += [f"{name} is left out by hand: {reason}" for name, reason in self.left_out.items()]
        told += [f"note: {caveat}" for caveat in self.caveats[:_CAVEATS_SHOWN]]
        if (more := len(self.caveats) - _CAVEATS_SHOWN) > 0:
            told.append(f"note: {more} more are in the report and in `eucentric status`.")
        for failure in self.failures:
            what = f"{failure.series}, {failure.stage}" if failure.series else failure.stage
            told.append(f"FAILED {what}: {failure.message}")
        return told


class RunInterrupted(KeyboardInterrupt):
    """A run that was stopped by Ctrl-C or a signal, in order: what was finished is kept."""

    def __init__(self, summary: RunSummary) -> None:
        self.summary = summary
        kept = sum(t.processed + t.unchanged for t in summary.stages.values())
        super().__init__(
            f"Stopped. What was finished is kept ({kept} results); what was running is dropped. "
            f"Run the same command again to go on."
        )
