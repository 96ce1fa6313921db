"""TIFF files page by page. Pages are (y, x) with y up: the rows of the file, stored top first, are reversed."""

import contextlib
import json
import logging
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

TIFF_DAMAGE = (
    tifffile.TiffFileError, RuntimeError, ValueError, IndexError, KeyError, struct.error, zlib.error, OSError, TypeError,
    AttributeError, ArithmeticError, AssertionError, MemoryError, NotImplementedError,
)  # fmt: skip
"""What the decoders raise on damaged input (imagecodecs' errors are RuntimeErrors)."""

_MOST_UNPACKED = 200_000
"""Bytes that one stored byte may become: more than any compression reaches, on empty images too."""
_SUPER_RESOLUTION = ((7676, 7420), (7680, 7424), (11520, 8184))
"""Pixels of K2 and K3 frames that SerialEM packs as 4 bits: width and height, or the other way round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """Pages of a TIFF file."""

    page_count: int
    shape: tuple[int, int]
    """(y, x) of every page."""
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageChain:
    """Where the page headers of a TIFF file stand."""

    order: str
    """`<` or `>`."""
    big: bool
    """BigTIFF: offsets of 64 bits."""
    offsets: tuple[int, ...]
    cut_at: int | None
    """Where the next page header should be, if the file ends before it."""

    @property
    def count_format(self) -> str:
        """Of the number of entries of a page header."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry_bytes(self) -> int:
        """Of one entry of a page header."""
        return 20 if self.big else 12


def read_page_chain(path: Path, size: int) -> PageChain:
    """Follow the page headers of a file of `size` bytes.

    Raises
    ------
    FormatError : not a TIFF file, or headers that run in a circle
    """
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8 or struct.unpack(order + "H", head[2:4])[0] not in (42, 43):
            raise FormatError(f"`{path}` is not a TIFF file: it begins with {head[:4]!r}.")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        chain = PageChain(order=order, big=big, offsets=(), cut_at=16)
        if big and len(head) < 16:
            return chain
        next_format = order + ("Q" if big else "I")
        width, next_width = struct.calcsize(chain.count_format), struct.calcsize(next_format)
        offset = struct.unpack(next_format, head[8:16] if big else head[4:8])[0]
        offsets: dict[int, None] = {}
        while offset:
            if offset in offsets:
                raise FormatError(f"`{path}` is damaged: its page headers run in a circle.")
            if offset + width > size:
                break
            file.seek(offset)
            entries = struct.unpack(chain.count_format, file.read(width))[0]
            end = offset + width + entries * chain.entry_bytes
            if end + next_width > size:
                break
            offsets[offset] = None
            file.seek(end)
            offset = struct.unpack(next_format, file.read(next_width))[0]
    return PageChain(order=order, big=big, offsets=tuple(offsets), cut_at=offset or None)


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


def ends_early(path: Path, size: int, whole: int, total: int | None, needed: int | None) -> FormatError:
    """What to raise for a movie of `size` bytes of which only `whole` frames are there."""
    of_total = "" if total is None else f" of {total}"
    says = "" if needed is None else f"; its header says at least {needed:,}"
    return FormatError(
        f"`{path}` ends after frame {whole}{of_total} (the file is {size:,} bytes{says}). "
        "Copy it again, or leave this tilt out with `eucentric exclude`."
    )


def existing_size(path: Path) -> int:
    """Bytes of a file.

    Raises
    ------
    InputError : no such file
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist, or is not a file. Check the name and the folder.")
    return path.stat().st_size


def refuse_missing_strips(page: Any, path: Path) -> None:
    """FormatError where a page lists far fewer pieces than its size needs, which would be made up one by one."""
    expected, there = math.prod(page.chunked), len(page.dataoffsets)
    if expected > 4 * there + 16:
        raise FormatError(
            f"`{path}` is damaged: a page of {' x '.join(map(str, page.shape))} pixels would have {expected:,} strips, and it lists "
            f"{there:,}. Copy it again."
        )


def _checked_pages(tif: tifffile.TiffFile, path: Path, size: int, count: int, cut_at: int | None) -> list[Any]:
    promised = _promised_pages(tif)
    pages: list[Any] = []
    for index in range(count):
        try:
            pages.append(tif.pages.get(index))
        except TIFF_DAMAGE as error:
            if cut_at is None:
                raise
            raise ends_early(path, size, index, promised, cut_at + 1) from error
    total = promised if promised is not None else (None if cut_at is not None else len(pages))
    for index, page in enumerate(pages):
        places, lengths = page.dataoffsets, page.databytecounts
        end = max((o + n for o, n in zip(places, lengths, strict=False)), default=0)
        if end > size or not lengths or 0 in lengths or len(places) != len(lengths):
            needed = max(end, cut_at or 0) if end > size else None
            raise ends_early(path, size, index, total, needed)
    if cut_at is not None or (promised is not None and len(pages) < promised):
        raise ends_early(path, size, len(pages), total, None if cut_at is None else cut_at + 1)
    first = pages[0]
    if len(first.shape) != 2 or min(first.shape) < 1:
        raise FormatError(f"`{path}` is a colour image or holds volumes: {first.shape}; expected grey (y, x) frames.")
    refuse_missing_strips(first, path)
    need = first.shape[0] * first.shape[1] * np.dtype(first.dtype).itemsize
    if need > _MOST_UNPACKED * sum(first.databytecounts) + 2**26:
        raise FormatError(
            f"`{path}` is damaged: its header gives frames of {first.shape[1]} x {first.shape[0]} pixels, which "
            f"{sum(first.databytecounts):,} bytes cannot hold. Copy it again."
        )
    for index, page in enumerate(pages):
        if page.shape != first.shape or page.dtype != first.dtype:
            raise FormatError(
                f"Frame {index + 1} of `{path}` is {page.shape} {page.dtype}, the first {first.shape} {first.dtype}; "
                "expected frames of one size."
            )
    return pages


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    size = existing_size(path)
    try:
        chain = read_page_chain(path, size)
        if not chain.offsets:
            raise ends_early(path, size, 0, None, (chain.cut_at or 8) + 1)
        with tifffile.TiffFile(path) as tif:
            tif.filehandle.set_lock(True)  # pages are read by several threads
            yield _checked_pages(tif, path, size, len(chain.offsets), chain.cut_at)
    except TIFF_DAMAGE as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise InputError(f"`{path}` cannot be read: {error.strerror}.") from error
        raise FormatError(f"`{path}` is a damaged TIFF file: {error}. Copy it again.") from error


def _is_packed(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether bytes hold two 4-bit values each: no mark says so, only the size, half of a super-resolution frame.

    SerialEM writes such movies of K2 and K3 cameras. The sizes and their tolerance of 2 are IMOD's.
    """
    y, x = shape
    pairs = (pair for sizes in _SUPER_RESOLUTION for pair in (sizes, sizes[::-1]))
    return dtype == np.uint8 and any(abs(2 * x - wide) <= 4 and abs(y - high) <= 2 for wide, high in pairs)


class TiffFrames:
    """The pages of an open TIFF file, decoded as they are asked for.

    Parameters
    ----------
    path : the file
    threads : pages decoded at a time

    Raises
    ------
    InputError : no such file
    FormatError : not a TIFF file, ends early, or pages of different shape
    """

    def __init__(self, path: PathLike, *, threads: int = 2) -> None:
        self._path = Path(path)
        self._threads = threads
        self._open = contextlib.ExitStack()
        self._pages = self._open.enter_context(_opened(self._path))
        first = self._pages[0]
        shape, dtype = first.shape, np.dtype(first.dtype).newbyteorder("=")
        self._packed = _is_packed(shape, dtype)
        columns = shape[1] * 2 if self._packed else shape[1]
        self.layout = TiffLayout(page_count=len(self._pages), shape=(shape[0], columns), dtype=dtype)

    def _decode(self, index: int, out: NDArray[Any]) -> None:
        try:
            page = self._pages[index].asarray(maxworkers=1)[::-1]
            if page.shape != self._pages[0].shape:
                raise ValueError(f"it gives {page.shape} pixels")
        except TIFF_DAMAGE as error:
            raise FormatError(
                f"Frame {index + 1} of {len(self._pages)} of `{self._path}` cannot be decoded: {error}. "
                "Copy it again, or leave this tilt out with `eucentric exclude`."
            ) from error
        if self._packed:
            # In contrast to TIFF's own order for 4 bits a sample, the left value stands in the low half.
            np.bitwise_and(page, 15, out=out[:, 0::2])
            np.right_shift(page, 4, out=out[:, 1::2])
        else:
            out[...] = page

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Pages `start` to `stop` (without it), (page, y, x), y up, in the machine's byte order."""
        frames = np.empty((stop - start, *self.layout.shape), dtype=self.layout.dtype)
        run_threaded(lambda i: self._decode(start + i, frames[i]), stop - start, self._threads)
        return frames

    def close(self) -> None:
        """Close the file."""
        self._open.close()


def run_threaded(task: Callable[[int], None], count: int, threads: int) -> None:
    """`task(0)` ... `task(count - 1)`, `threads` at a time; the decoders let go of Python's lock."""
    if min(count, threads) < 2:
        for index in range(count):
            task(index)
        return
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(task, index) for index in range(count)]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def read_tiff_layout(path: PathLike) -> TiffLayout:
    """Number, shape and type of the pages; no pixel is decoded. Errors as `TiffFrames`."""
    frames = TiffFrames(path)
    frames.close()
    return frames.layout


def read_tiff(path: PathLike) -> NDArray[Any]:
    """All pages, (page, y, x), y up, in the machine's byte order. Errors as `TiffFrames`."""
    frames = TiffFrames(path)
    try:
        return frames.read(0, frames.layout.page_count)
    finally:
        frames.close()


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
