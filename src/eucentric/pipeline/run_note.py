"""What a run says of itself while it goes on, for those who look at the project from outside."""

import contextlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from eucentric.errors import EucentricError
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.live_progress import SharedProgress
from eucentric.pipeline.progress import RunProgress

NOTE_FILE = ".eucentric.run.json"
_VERSION = 1
_LEAST_SECONDS = 1.0  # between two notes that differ only in how far items are


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningItem:
    """One series in one stage, or a stage over all series."""

    stage: str
    series: str
    started: float
    """s since the epoch."""
    fraction: float = 0.0
    """How far it is; 0 where it does not say."""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNote:
    """A run, as its process wrote it last."""

    pid: int
    host: str
    started: float
    """s since the epoch."""
    updated: float
    device: str
    slots: int
    """Items side by side."""
    folders: dict[str, str]
    """Of its stages, in order, relative to the project."""
    pending: dict[str, int]
    """Items still to do by stage, those that run among them; stages over all series are not counted."""
    ended: dict[str, int]
    """Items that came to an end, by stage."""
    running: tuple[RunningItem, ...] = field(default=())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError where the text is no note."""
        values = json.loads(text)
        if values.pop("version") != _VERSION:
            raise ValueError("another version")
        values["running"] = tuple(RunningItem(**item) for item in values["running"])
        return cls(**values)


def read_run_note(root: Path) -> RunNote | None:
    """The note of a project's run; None where there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return RunNote.from_json((root / NOTE_FILE).read_text(encoding="utf-8"))
    return None


class NotedProgress(SharedProgress):
    """Tells another progress all it hears, and keeps a note in the project's folder until the run ends.

    A note that cannot be written, such as on a full disk, is left out: the run goes on.

    Parameters
    ----------
    shown : what shows it
    root : the project's folder, which the run has locked
    folders : of the stages of the run, in order, relative to `root`
    device : that items run on
    """

    def __init__(self, shown: RunProgress, root: Path, folders: Mapping[str, str], device: str) -> None:
        super().__init__(shown, lambda _words: None)
        self._path = root / NOTE_FILE
        self._folders, self._device = dict(folders), device
        self._began = time.time()
        self._item_began: dict[tuple[str, str], float] = {}
        self._ended: Counter[str] = Counter()
        self._written = float("-inf")
        self._has_news = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        super().__exit__(kind, error, trace)

    def begin(self, pending: Mapping[str, int], slots: int) -> None:
        self._began = time.time()
        self._has_news = True
        super().begin(pending, slots)

    def item_started(self, stage: str, series: str) -> None:
        self._item_began[stage, series] = time.time()
        self._has_news = True
        super().item_started(stage, series)

    def item_ended(self, stage: str, series: str, seconds: float) -> None:
        self._item_began.pop((stage, series), None)
        self._ended[stage] += 1
        self._has_news = True
        super().item_ended(stage, series, seconds)

    def refresh(self) -> None:
        if self._has_news or self._clock() - self._written >= _LEAST_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written, self._has_news = self._clock(), False
        note = RunNote(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=self._began,
            updated=time.time(),
            device=self._device,
            slots=self._slots,
            folders=self._folders,
            pending=self._pending,
            ended=dict(self._ended),
            running=tuple(self._running_items()),
        )
        with contextlib.suppress(EucentricError, OSError):
            write_text_atomic(self._path, json.dumps({"version": _VERSION, **asdict(note)}) + "\n")

    def _running_items(self) -> list[RunningItem]:
        return [
            RunningItem(stage=key[0], series=key[1], started=began, fraction=progress[0], text=progress[1])
            for key, began in self._item_began.items()
            if (progress := self._running.get(key)) is not None
        ]
