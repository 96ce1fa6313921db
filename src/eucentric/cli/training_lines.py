"""How a training tells how far it is."""

import sys
import time
from collections.abc import Callable

_QUIET = 60.0  # seconds between lines where the error channel is no terminal


def shown_steps() -> Callable[[int, int, float], None]:
    """A line now and then: every second in a terminal, else every minute."""
    every = 1.0 if sys.stderr.isatty() else _QUIET
    began = before = time.monotonic()
    first: int | None = None

    def step(done: int, total: int, loss: float) -> None:
        nonlocal before, first
        first = done - 1 if first is None else first
        now = time.monotonic()
        if now - before >= every or done == total:
            left = (now - began) / max(1, done - first) * (total - done)
            end = "\r" if every < _QUIET and done < total else "\n"
            sys.stderr.write(f"step {done} of {total}, loss {loss:.3f}, {left:.0f} s left  {end}")
            before = now

    return step
