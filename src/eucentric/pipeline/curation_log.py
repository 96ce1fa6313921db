"""The log of curation, `curation/log.jsonl`: one entry a line, only ever added to.

What is in force follows from the log alone: an `undo` takes the latest edit of a scope back, a `redo` brings it again, a new edit
of the scope ends what could be brought again.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import make_folder, writing_error
from eucentric.pipeline.curation_base import FOLDER, Edit, Entry
from eucentric.pipeline.curation_kinds import edit_of

LOG, _LOCK = "log.jsonl", ".lock"
_PATIENCE_SECONDS = 30.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The log as it was read."""

    entries: tuple[Entry, ...] = ()
    damaged: tuple[int, ...] = ()
    """Lines, from 1, that are no whole entry: left by a crash or a full disk, and passed over."""
    ends_torn: bool = False
    """Whether the last line has no end."""

    @property
    def done(self) -> tuple[Entry, ...]:
        """Edits in force, in the order in which they were made."""
        return tuple(sorted((e for stack in _stacks(self.entries)[0].values() for e in stack), key=lambda e: e.number))

    def undoable(self, scopes: Sequence[str] | None = None) -> Entry | None:
        """The latest edit in force, of some scopes or of all."""
        return _latest([stack[-1] for stack in self._of(0, scopes)])

    def redoable(self, scopes: Sequence[str] | None = None) -> Entry | None:
        """The edit that was taken back last and may be brought again, of some scopes or of all."""
        last = {e.of: e.number for e in self.entries if e.action == "undo"}
        found = [stack[-1] for stack in self._of(1, scopes)]
        return max(found, key=lambda e: last[e.number], default=None)

    def _of(self, which: int, scopes: Sequence[str] | None) -> list[list[Entry]]:
        stacks = _stacks(self.entries)[which]
        return [stack for scope, stack in stacks.items() if stack and (scopes is None or scope in scopes)]

    @property
    def next_number(self) -> int:
        """Of the entry that comes next; a damaged line keeps the number that it may have had."""
        return max(max((e.number for e in self.entries), default=0), len(self.entries) + len(self.damaged)) + 1


def _latest(entries: Sequence[Entry]) -> Entry | None:
    return max(entries, key=lambda e: e.number, default=None)


def _stacks(entries: Sequence[Entry]) -> tuple[dict[str, list[Entry]], dict[str, list[Entry]]]:
    """By scope: edits in force, and edits that were taken back, the latest last."""
    done: dict[str, list[Entry]] = {}
    undone: dict[str, list[Entry]] = {}
    edits = {e.number: e for e in entries if e.action == "edit"}
    for entry in entries:
        meant = entry if entry.action == "edit" else edits.get(entry.of or 0)
        if meant is None or meant.edit is None:
            continue  # of an edit whose line is damaged
        scope = meant.edit.scope
        here, back = done.setdefault(scope, []), undone.setdefault(scope, [])
        if entry.action == "edit":
            here.append(entry)
            back.clear()
        elif entry.action == "undo" and here and here[-1] is meant:
            back.append(here.pop())
        elif entry.action == "redo" and back and back[-1] is meant:
            here.append(back.pop())
    return done, undone


def read_log(root: Path) -> Log:
    """The log of a project; empty where it has none.

    Raises
    ------
    FormatError : an entry of a kind that this version does not know
    """
    path = root / FOLDER / LOG
    if not path.is_file():
        return Log()
    content = path.read_bytes()
    *whole, rest = content.split(b"\n")
    entries, damaged = [], []
    for number, line in enumerate([*whole, rest] if rest else whole, start=1):
        if not line.strip():
            continue
        entry = _entry(line, path, number)
        if entry is None:
            damaged.append(number)
        else:
            entries.append(entry)
    return Log(entries=tuple(entries), damaged=tuple(damaged), ends_torn=bool(rest))


def _entry(line: bytes, path: Path, number: int) -> Entry | None:
    try:
        values: dict[str, Any] = json.loads(line)
        action = values["action"]
        edit, before = values.get("edit"), values.get("before")
        found = Entry(
            number=int(values["number"]),
            time=str(values["time"]),
            user=str(values["user"]),
            action=action,
            before=before,
            of=values.get("of"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if action not in ("edit", "undo", "redo"):
        raise _later(path, number, f"its action is `{action}`")
    if action != "edit":
        return found
    try:
        read: Edit = edit_of(edit)
    except InputError as error:
        raise _later(path, number, str(error)) from error
    return Entry(number=found.number, time=found.time, user=found.user, action="edit", edit=read, before=before or {})


def _later(path: Path, number: int, why: str) -> FormatError:
    return FormatError(
        f"Line {number} of `{path}` is an entry that this Eucentric does not know: {why} Install the version that wrote it."
    )


def append_entry(root: Path, log: Log, entry: Entry) -> Log:
    """Add an entry to the file, whole and synced; the log with it. Only under :func:`log_lock`.

    Raises
    ------
    InputError, BackendError : the file cannot be written to, or the disk is full
    """
    values = {"number": entry.number, "time": entry.time, "user": entry.user, "action": entry.action}
    if entry.edit is not None:
        values |= {"edit": entry.edit.model_dump(mode="json"), "before": dict(entry.before or {})}
    if entry.of is not None:
        values["of"] = entry.of
    line = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
    path = root / FOLDER / LOG
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            data = (("\n" if log.ends_torn else "") + line).encode()
            written = os.write(descriptor, data)
            if written != len(data):
                os.ftruncate(descriptor, size)  # half of a line of our own, which says nothing
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        meant = writing_error(error, path)
        if meant is None:
            raise
        raise meant from error
    return Log(entries=(*log.entries, entry), damaged=log.damaged)


@contextlib.contextmanager
def log_lock(root: Path) -> Iterator[None]:
    """Held for the moment that an entry takes; others wait for it.

    Raises
    ------
    InputError : another process holds it for half a minute, or the folder may not be written to
    """
    path = make_folder(root / FOLDER) / _LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        meant = writing_error(error, path)
        if meant is None:
            raise
        raise meant from error
    try:
        _wait_for(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, path: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise InputError(f"`{path.parent}` is being written to by another process. Try again later.") from error
            time.sleep(0.01)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return  # a network folder without locks: entries are still written whole, at the file's end
            raise
