"""How long commands tell how far they are."""

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


def shown_parts() -> Callable[[str, float], None]:
    """What is done and the part of it that is: one line in a terminal, else a line a minute for those who read it in a log."""
    terminal = sys.stderr.isatty()
    before = time.monotonic()

    def step(what: str, part: float) -> None:
        nonlocal before
        if terminal:
            sys.stderr.write(f"\r{what}: {100.0 * part:.0f}%   {chr(10) if part >= 1.0 else ''}")
        elif (now := time.monotonic()) - before >= _QUIET:
            sys.stderr.write(f"{what}: {100.0 * part:.0f}%\n")
            before = now
        sys.stderr.flush()

    return step
