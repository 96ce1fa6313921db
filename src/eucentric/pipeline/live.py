"""Following a microscope: each tilt series is imported and processed as it ends, once, and its operator is told.

All that a session knows is in its project: `live/session.json`, a record a series in `live/records`, and the records of the
stages. A session that was stopped, in whatever way, goes on where it was.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from eucentric.pipeline.live_records import (
    LIVE_FOLDER,
)
from eucentric.pipeline.live_session import LiveSession, LiveSummary, RunChoices
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.runner import stopping_on_terminate
from eucentric.typing import PathLike

_PAUSE_SECONDS = 0.05  # a look takes place at least so long after the last, where files need not settle


def run_live(
    watched: PathLike,
    project: PathLike,
    settings: Mapping[str, Any] | None = None,
    *,
    once: bool = False,
    until_idle_minutes: float | None = None,
    adopt: bool = False,
    retry_failed: bool = False,
    choices: RunChoices | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> LiveSummary:
    """Follow a folder until Ctrl-C, or as `once` and `until_idle_minutes` say.

    Parameters
    ----------
    watched : the microscope's folder; movies and mdocs may lie in folders within
    project : the project's folder, made where missing
    settings : of `LiveParams`; others are those of the last session of the project, or defaults
    once : process what is whole, and end
    until_idle_minutes : end when nothing was new and nothing was processed for so long
    adopt : go on with a project that followed another folder, or was made by an import
    retry_failed : take up series again that failed, though their files are as they were
    choices : how to run
    clock, sleep : s since the epoch, and waiting so many s

    Returns
    -------
    LiveSummary : series that failed are in it, not raised

    Raises
    ------
    InputError : no such folder, a project of other files, or one that another session follows
    FormatError : the session's file is damaged
    """
    session = LiveSession(watched, project, settings or {}, adopt, choices or RunChoices(), clock)
    with ProjectLock(session.root / LIVE_FOLDER, "live"), stopping_on_terminate():
        try:
            session.open(retry_failed=retry_failed)
            if once:
                session.look()
                sleep(session.params.settle_seconds + _PAUSE_SECONDS)
                while session.step():
                    pass
            else:
                _follow(session, until_idle_minutes, clock, sleep)
        except KeyboardInterrupt:
            session.stopped = True
        finally:
            session.write_page("Stopped." if session.stopped else "Ended.")
    return session.summary


def _follow(
    session: LiveSession, idle_minutes: float | None, clock: Callable[[], float], sleep: Callable[[float], None]
) -> None:
    busy = clock()
    while True:
        if session.step():
            busy = clock()
            continue
        busy = max(busy, session.watch.last_change)
        if idle_minutes is not None and clock() - busy >= 60.0 * idle_minutes:
            return
        session.write_page("Waits for the next tilt series.")
        sleep(session.params.interval_seconds)
