"""Results of a project that are of all series or of particles, and commands on this machine that work on it."""

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from eucentric.pipeline import records
from eucentric.pipeline.records import COLLECTIVE

_ONLY_LOOKING = {"status", "view", "validate", "score", "figure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was made in one folder."""

    folder: str
    """Relative to the project."""
    stage: str
    is_done: bool
    message: str
    """Why it failed."""
    ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that works on files of a project."""

    name: str
    pid: int
    seconds: float
    """Since its start."""


def results_beside(root: Path) -> tuple[Result, ...]:
    """Results of stages over all series and of particles, by their records, in order of folder."""
    found = []
    for path in sorted((*root.glob(f"*/records/{COLLECTIVE}.json"), *root.glob(f"*/*/records/{COLLECTIVE}.json"))):
        folder = path.parent.parent
        record = records.read_record(folder, COLLECTIVE)
        if record is not None:
            found.append(
                Result(
                    folder=folder.relative_to(root).as_posix(),
                    stage=record.stage,
                    is_done=record.is_done,
                    message=record.message or "",
                    ended=record.ended,
                )
            )
    return tuple(found)


def commands_at_work(root: Path, but: Iterable[int] = ()) -> tuple[Command, ...]:
    """Commands of this program that name a file of a project, among the processes of this machine that may be seen.

    Commands on particles take no lock, so that several may work side by side.

    Parameters
    ----------
    root : the project's folder, whole
    but : processes that are known already
    """
    left_out = {os.getpid(), os.getppid(), *but}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            name = None if process.pid in left_out else _command_on(process.cmdline(), root, process)
            if name is not None:
                seconds = max(0.0, time.time() - process.create_time())
                found.append(Command(name=name, pid=process.pid, seconds=seconds))
    return tuple(found)


def _command_on(words: Sequence[str], root: Path, process: psutil.Process) -> str | None:
    """The command, where the words start one on files of a project."""
    start = next((i for i, word in enumerate(words[:4]) if Path(word).name == "eucentric"), None)
    if start is None or start + 2 >= len(words) or words[start + 1] in _ONLY_LOOKING:
        return None
    if not all(word.startswith("-") or Path(word).name.startswith("python") for word in words[:start]):
        return None  # what started the program, such as `timeout`
    where = Path(process.cwd())
    named = (word.partition("=")[2] if word.startswith("-") else word for word in words[start + 2 :])
    if any(word and (where / word).resolve().is_relative_to(root) for word in named):
        return words[start + 1]
    return None
