"""How far a run is: a bar with an estimate in a terminal, a line a minute elsewhere."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_LINE_SECONDS = 60.0


class RunProgress:
    """Follows a run in silence; the base of those that tell.

    Work is counted in items times stages. What is left is estimated from the mean duration of each stage so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._pending: dict[str, int] = {}
        self._total = 0
        self._slots = 1
        self._running: dict[tuple[str, str], tuple[float, str]] = {}
        self._durations: dict[str, list[float]] = defaultdict(list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, pending: Mapping[str, int], slots: int) -> None:
        """Work starts: items to do for each stage, and how many run side by side."""
        self._started = self._clock()
        self._pending = dict(pending)
        self._total = sum(pending.values())
        self._slots = max(1, slots)
        self.refresh()

    def item_started(self, stage: str, series: str) -> None:
        self._running[stage, series] = (0.0, "")
        self.refresh()

    def item_progress(self, stage: str, series: str, fraction: float, text: str) -> None:
        if (stage, series) in self._running:
            self._running[stage, series] = (fraction, text)
            self.refresh()

    def item_ended(self, stage: str, series: str, seconds: float) -> None:
        self._running.pop((stage, series), None)
        self._durations[stage].append(seconds)
        self._pending[stage] = max(0, self._pending.get(stage, 0) - 1)
        self.refresh()

    def dropped(self, stage: str) -> None:
        """An item will not reach a stage, since an earlier one failed."""
        self._pending[stage] = max(0, self._pending.get(stage, 0) - 1)

    def note(self, text: str) -> None:
        """Something the user should see now."""

    def refresh(self) -> None:
        """Show the present state."""

    @property
    def done(self) -> float:
        """Finished items, running ones in part."""
        return self._total - sum(self._pending.values()) + sum(f for f, _ in self._running.values())

    @property
    def total(self) -> int:
        return self._total

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left; None before the first item ends."""
        known = {s: sum(d) / len(d) for s, d in self._durations.items() if d}
        if not known:
            return None
        usual = sum(known.values()) / len(known)
        left = sum(count * known.get(stage, usual) for stage, count in self._pending.items())
        left -= sum(fraction * known.get(stage, usual) for (stage, _), (fraction, _) in self._running.items())
        return max(0.0, left) / min(self._slots, max(1, sum(self._pending.values())))

    def describe(self) -> str:
        """What runs now, in a few words."""
        parts = [
            f"{series} {stage}{' ' + text if text else ''}" for (stage, series), (_, text) in self._running.items()
        ]
        return ", ".join(parts[:2]) + (f" and {len(parts) - 2} more" if len(parts) > 2 else "")


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class BarProgress(RunProgress):
    """A bar in a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._bar = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.completed:.1f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def refresh(self) -> None:
        left = self.seconds_left
        text = self.describe() + ("" if left is None else f"; about {duration(left)} left")
        self._bar.update(self._task, completed=self.done, total=max(1, self.total), description=text.replace("[", "("))


class LineProgress(RunProgress):
    """A line a minute, for logs."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._last = self._clock()

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        if self._clock() - self._last < _LINE_SECONDS:
            return
        self._last = self._clock()
        left = self.seconds_left
        estimate = "" if left is None else f", about {duration(left)} left"
        elapsed = duration(self._clock() - self._started)
        self.note(f"{self.done:.1f} of {self.total} done after {elapsed}{estimate}: {self.describe()}")
