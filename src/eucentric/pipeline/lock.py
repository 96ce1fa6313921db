"""One writer a project: a lock that the system frees when its holder dies, however it dies."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

from eucentric.errors import InputError
from eucentric.io.atomic import make_folder, writing_error
from eucentric.pipeline.records import now
from eucentric.typing import PathLike

LOCK_FILE = ".eucentric.lock"
_TRIES, _TRY_SECONDS = 10, 0.02  # `lock_holder` holds the lock for an instant to look at it
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class ProjectLock:
    """Held while a command writes to a project.

    Parameters
    ----------
    root : the project's folder
    command : what holds it, for the message that a second command shows

    Raises
    ------
    InputError : another process holds it, or the folder may not be written to
    BackendError : the disk is full
    """

    def __init__(self, root: PathLike, command: str) -> None:
        self._path = Path(root) / LOCK_FILE
        self._command = command
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        make_folder(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            meant = writing_error(error, self._path)
            if meant is None:
                raise
            raise meant from error
        try:
            _take(descriptor)
        except BlockingIOError as error:
            text = _holder(descriptor)
            os.close(descriptor)
            raise self._refusal(text) from error
        except OSError as error:
            text = _holder(descriptor)
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            # A network folder without locks: the note in the file is all there is.
            if _is_alive(text):
                os.close(descriptor)
                raise self._refusal(text) from error
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": now(), "command": self._command}
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode(), 0)
        except OSError as error:  # such as a full disk
            os.close(descriptor)
            meant = writing_error(error, self._path)
            if meant is None:
                raise
            raise meant from error
        self._descriptor = descriptor
        return self

    def _refusal(self, holder: dict[str, object]) -> InputError:
        who = (
            "`eucentric {command}`, process {pid} on {host}, since {since}".format_map(holder)
            if holder
            else "another process"
        )
        return InputError(
            f"`{self._path.parent}` is being written to by {who}. "
            f"Wait for it to end, or stop it; if it is gone for certain, remove `{self._path}`."
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            # Emptied, not removed: a removed file could be locked by one process and made anew by the next.
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _take(descriptor: int) -> None:
    """Lock; who only looks whether it is locked is waited for. Errors as `flock`."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_TRY_SECONDS)
    return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who locked a folder last without giving the lock back."""

    state: Literal["running", "gone", "elsewhere"]
    """`gone`: its process ended without a word; `elsewhere`: noted by another host, and not to be told from here."""
    pid: int
    host: str
    since: str
    command: str


def lock_holder(root: PathLike) -> LockHolder | None:
    """Who holds the lock of a folder, or died while holding it; None where nobody does. Nothing is changed.

    Raises
    ------
    InputError : the lock may not be read
    """
    path = Path(root) / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise InputError(f"`{path}` may not be read, so nothing can be said of what runs. Ask its owner.") from error
    try:
        if not _holder(descriptor):
            return None
        held = _is_held(descriptor)
        note = _holder(descriptor)  # anew: it may just have been given back
    finally:
        os.close(descriptor)
    if not note:
        return None
    state: Literal["running", "gone", "elsewhere"] = "running" if held else "gone"
    if not held and note["host"] != socket.gethostname():
        state = "elsewhere"
    elif held is None:
        state = "running" if _is_alive(note) else "gone"
    return LockHolder(
        state=state,
        pid=int(str(note["pid"])),
        host=str(note["host"]),
        since=str(note["since"]),
        command=str(note["command"]),
    )


def _is_held(descriptor: int) -> bool | None:
    """Whether a process holds the lock; None on a network folder without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return False


def _holder(descriptor: int) -> dict[str, object]:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return {name: note[name] for name in ("pid", "host", "since", "command")}
    except (ValueError, KeyError, TypeError):
        return {}


def _is_alive(holder: dict[str, object]) -> bool:
    """Whether the process of a note may still run; one on another host is taken to."""
    if not holder:
        return False
    return holder["host"] != socket.gethostname() or psutil.pid_exists(int(str(holder["pid"])))
