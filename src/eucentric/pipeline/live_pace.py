"""How fast tilt series come and go, in words."""

from collections.abc import Sequence

from eucentric.pipeline.live_advice import Advice
from eucentric.pipeline.live_records import LiveRecord
from eucentric.pipeline.progress import duration


def pace_lines(every: Sequence[LiveRecord], count: int) -> list[str]:
    """How fast series come and go, in words; nothing before the second.

    Parameters
    ----------
    every : records of a session
    count : series, the last ones, that it is measured over
    """
    done = sorted((r for r in every if r.outcome == "done"), key=lambda r: r.finished)[-count:]
    if not done:
        return []
    took = sum(r.seconds for r in done) / len(done)
    words = f"A series takes {duration(took)} of processing"
    delay = sum(r.finished - r.recorded for r in done) / len(done)
    words += f", and is done {duration(delay)} after its last image"
    made = _between(sorted(r.recorded for r in done))
    if made is not None:
        words += f". The microscope finishes one every {duration(made)} ({3600.0 / made:.1f} an hour)"
    return [f"{words} (of the last {len(done)})."]


def behind_advice(every: Sequence[LiveRecord], waiting: int, count: int) -> Advice | None:
    """That processing cannot keep up; None where it does."""
    done = sorted((r for r in every if r.outcome == "done"), key=lambda r: r.finished)[-count:]
    made = _between(sorted(r.recorded for r in done))
    if made is None or waiting < 2:
        return None
    took = sum(r.seconds for r in done) / len(done)
    if took <= made:
        return None
    text = (
        f"{waiting} series wait: processing one takes {duration(took)}, the microscope makes one every {duration(made)}. Use more "
        "--workers, or larger pixels in `eucentric.toml`."
    )
    return Advice(kind="pace", text=text)


def _between(moments: Sequence[float]) -> float | None:
    """Mean s between moments in order; None where there are no two that differ."""
    if len(moments) < 2 or not moments[-1] > moments[0]:
        return None
    return (moments[-1] - moments[0]) / (len(moments) - 1)
