"""TIFF files page by page. Pages are (y, x) with y up: the rows of the file, stored top first, are reversed."""

import contextlib
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import atomic_path
from eucentric.typing import PathLike

# Damage is told by our own errors; without a handler Python would print every line of the library to the terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_DAMAGE = (
    tifffile.TiffFileError, RuntimeError, ValueError, IndexError, KeyError, struct.error, zlib.error, OSError, TypeError
)  # fmt: skip
"""What the decoders raise on damaged input (imagecodecs' errors are RuntimeErrors)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """Pages of a TIFF file."""

    page_count: int
    shape: tuple[int, int]
    """(y, x) of every page."""
    dtype: np.dtype[Any]


def _page_offsets(path: Path, size: int) -> tuple[list[int], int | None]:
    """Offsets of the page headers; and where the next one should be, if the file ends before it."""
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8 or struct.unpack(order + "H", head[2:4])[0] not in (42, 43):
            raise FormatError(f"`{path}` is not a TIFF file: it begins with {head[:4]!r}.")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_type, entry, next_type = ("Q", 20, "Q") if big else ("H", 12, "I")
        width, next_width = struct.calcsize(count_type), struct.calcsize(next_type)
        if big and len(head) < 16:
            return [], 16
        offset = struct.unpack(order + next_type, head[8:16] if big else head[4:8])[0]
        offsets: list[int] = []
        while offset:
            if offset + width > size:
                return offsets, offset
            file.seek(offset)
            entries = struct.unpack(order + count_type, file.read(width))[0]
            end = offset + width + entries * entry
            if end + next_width > size:
                return offsets, offset
            if offset in offsets:
                raise FormatError(f"`{path}` is damaged: its page headers run in a circle.")
            offsets.append(offset)
            file.seek(end)
            offset = struct.unpack(order + next_type, file.read(next_width))[0]
    return offsets, None


def _promised_pages(tif: tifffile.TiffFile) -> int | None:
    """Number of pages that the description of the first page promises, where it does."""
    first = tif.pages.first
    try:
        shape = json.loads(first.description)["shape"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(shape, list) or len(shape) < 3 or tuple(shape[-2:]) != first.shape:
        return None
    return int(np.prod(shape[:-2], dtype=np.int64))


def _ends_early(path: Path, size: int, whole: int, total: int | None, needed: int | None) -> FormatError:
    of_total = "" if total is None else f" of {total}"
    says = "" if needed is None else f"; its header says at least {needed:,}"
    return FormatError(
        f"`{path}` ends after frame {whole}{of_total} (the file is {size:,} bytes{says}). "
        "Copy it again, or leave this tilt out with `eucentric exclude`."
    )


def _existing(path: Path) -> int:
    if not path.is_file():
        raise InputError(f"`{path}` does not exist, or is not a file. Check the name and the folder.")
    return path.stat().st_size


def _checked_pages(tif: tifffile.TiffFile, path: Path, size: int, count: int, cut_at: int | None) -> list[Any]:
    promised = _promised_pages(tif)
    pages: list[Any] = []
    for index in range(count):
        try:
            pages.append(tif.pages.get(index))
        except _DAMAGE as error:
            if cut_at is None:
                raise
            raise _ends_early(path, size, index, promised, cut_at + 1) from error
    total = promised if promised is not None else (None if cut_at is not None else len(pages))
    for index, page in enumerate(pages):
        places, lengths = page.dataoffsets, page.databytecounts
        end = max((o + n for o, n in zip(places, lengths, strict=False)), default=0)
        if end > size or not lengths or 0 in lengths or len(places) != len(lengths):
            needed = max(end, cut_at or 0) if end > size else None
            raise _ends_early(path, size, index, total, needed)
    if cut_at is not None or (promised is not None and len(pages) < promised):
        raise _ends_early(path, size, len(pages), total, None if cut_at is None else cut_at + 1)
    first = pages[0]
    if len(first.shape) != 2:
        raise FormatError(f"`{path}` is a colour image or holds volumes: {first.shape}; expected grey (y, x) frames.")
    for index, page in enumerate(pages):
        if page.shape != first.shape or page.dtype != first.dtype:
            raise FormatError(
                f"Frame {index + 1} of `{path}` is {page.shape} {page.dtype}, the first {first.shape} {first.dtype}; "
                "expected frames of one size."
            )
    return pages


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    size = _existing(path)
    offsets, cut_at = _page_offsets(path, size)
    if not offsets:
        raise _ends_early(path, size, 0, None, (cut_at or 8) + 1)
    try:
        with tifffile.TiffFile(path) as tif:
            yield _checked_pages(tif, path, size, len(offsets), cut_at)
    except _DAMAGE as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise InputError(f"`{path}` cannot be read: {error.strerror}.") from error
        raise FormatError(f"`{path}` is a damaged TIFF file: {error}. Copy it again.") from error


def read_tiff_layout(path: PathLike) -> TiffLayout:
    """Number, shape and type of the pages; no pixel is decoded.

    Raises
    ------
    InputError : no such file
    FormatError : not a TIFF file, ends early, or pages of different shape
    """
    place = Path(path)
    with _opened(place) as pages:
        first = pages[0]
        return TiffLayout(page_count=len(pages), shape=(first.shape[0], first.shape[1]), dtype=np.dtype(first.dtype))


def read_tiff(path: PathLike) -> NDArray[Any]:
    """All pages, (page, y, x), y up, in the file's number type. Errors as `read_tiff_layout`."""
    place = Path(path)
    with _opened(place) as pages:
        first = pages[0]
        frames = np.empty((len(pages), *first.shape), dtype=np.dtype(first.dtype).newbyteorder("="))
        for index, page in enumerate(pages):
            try:
                frames[index] = page.asarray()[::-1]
            except _DAMAGE as error:
                raise FormatError(
                    f"Frame {index + 1} of {len(pages)} of `{place}` cannot be decoded: {error}. "
                    "Copy it again, or leave this tilt out with `eucentric exclude`."
                ) from error
        return frames


def write_tiff(
    path: PathLike, frames: NDArray[Any], *, compression: str | None = "zlib", bigtiff: bool = False
) -> None:
    """Write (page, y, x) or (y, x) with y up: rows are stored top first.

    Parameters
    ----------
    path : `.tif` or `.tiff`
    frames : 8 or 16-bit integers, or float32
    compression : `zlib` (deflate), `lzw` or None
    bigtiff : 64-bit offsets, for files past 4 GB

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    stack = np.asarray(frames)
    stack = stack[None] if stack.ndim == 2 else stack
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=bigtiff) as writer:
        writer.write(np.ascontiguousarray(stack[:, ::-1]), photometric="minisblack", compression=compression)
