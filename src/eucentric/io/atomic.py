"""Files appear whole or not at all: written under a temporary name in the same folder, synced, renamed."""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eucentric.errors import BackendError, EucentricError, InputError
from eucentric.typing import PathLike

_PARTIAL = ".partial"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}


def writing_error(error: OSError, path: Path) -> EucentricError | None:
    """The user's words for a failed write, or None where the failure is of another kind."""
    folder = path.parent
    existing = next((p for p in (folder, *folder.parents) if p.is_dir()), Path("/"))
    free = shutil.disk_usage(existing).free
    # numpy.ndarray.tofile reports a short write without an error number.
    short_write = error.errno is None and "requested and" in str(error)
    if error.errno in _NO_SPACE or short_write:
        return BackendError(
            f"The disk that holds `{folder}` is full ({free / 1e6:,.1f} MB free), so `{path.name}` was not written. "
            "Free some space or choose another --output, then run the same command again: finished items are kept."
        )
    if error.errno in _NOT_ALLOWED:
        return InputError(
            f"`{path}` cannot be written: {os.strerror(error.errno or 0).lower()}. "
            "Choose a folder that you may write to with --output, or change its permissions."
        )
    if error.errno == errno.ENOENT and folder.is_dir() and not _takes_files(folder):
        return InputError(
            f"`{path}` cannot be written: the system takes no new files in the folder `{folder}`. Choose another --output."
        )
    return None


def _takes_files(folder: Path) -> bool:
    """Whether a file can be made in a folder that exists: not in those that only show the state of the system, as /proc."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=_PARTIAL, dir=folder)
    except OSError:
        return False
    os.close(descriptor)
    Path(name).unlink(missing_ok=True)
    return True


def make_folder(folder: PathLike) -> Path:
    """The folder, made with its parents where missing.

    Raises
    ------
    InputError : the folder may not be made there
    BackendError : the disk is full
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        meant = writing_error(error, place / "")
        if meant is None:
            raise
        raise meant from error
    return place


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary path beside `path`; what was written there becomes `path` when the block ends without error.

    Parameters
    ----------
    path : the file to be made or replaced; missing folders are made

    Raises
    ------
    BackendError : the disk is full
    InputError : the place may not be written to
    """
    target = Path(path)
    make_folder(target.parent)
    suffix = "".join(target.suffixes[-1:])
    temporary = target.with_name(f".{target.name.removesuffix(suffix)}.{secrets.token_hex(4)}{_PARTIAL}{suffix}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        elsewhere = error.filename is not None and Path(os.fsdecode(error.filename)) not in (temporary, target)
        meant = None if elsewhere else writing_error(error, target)
        if meant is None:
            raise
        raise meant from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: PathLike, content: bytes) -> None:
    """Write a whole file; errors as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text_atomic(path: PathLike, text: str) -> None:
    """Write a whole UTF-8 text file with newline ends; errors as `atomic_path`."""
    write_bytes_atomic(path, text.encode())


def remove_partial_files(folder: PathLike) -> int:
    """Remove what a killed process left half-written in a folder and below; returns how many files and folders went.

    A folder whose name ends in `.old.zarr` is the last whole one of an image that was being replaced, and stays.

    Only for a folder that no other process is writing to.
    """
    left = [p for p in Path(folder).rglob(f".*{_PARTIAL}*") if not p.name.endswith(".old.zarr")]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)
