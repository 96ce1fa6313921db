"""The progress of a run within a session: shown as always, and on the status page."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from eucentric.pipeline.progress import RunProgress


class SharedProgress(RunProgress):
    """Tells another progress all it hears, and calls back when something goes on.

    Parameters
    ----------
    shown : what shows it
    changed : called with what runs now, in words
    """

    def __init__(self, shown: RunProgress, changed: Callable[[str], None]) -> None:
        super().__init__()
        self._shown = shown
        self._changed = changed

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def begin(self, pending: Mapping[str, int], slots: int) -> None:
        self._shown.begin(pending, slots)
        super().begin(pending, slots)

    def item_started(self, stage: str, series: str) -> None:
        self._shown.item_started(stage, series)
        super().item_started(stage, series)

    def item_progress(self, stage: str, series: str, fraction: float, text: str) -> None:
        self._shown.item_progress(stage, series, fraction, text)
        super().item_progress(stage, series, fraction, text)

    def item_ended(self, stage: str, series: str, seconds: float) -> None:
        self._shown.item_ended(stage, series, seconds)
        super().item_ended(stage, series, seconds)

    def dropped(self, stage: str) -> None:
        self._shown.dropped(stage)
        super().dropped(stage)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def refresh(self) -> None:
        self._changed(self.describe())
