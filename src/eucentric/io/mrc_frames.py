"""Movies in MRC files, frame by frame: plain, packed with gzip or bzip2, and with two 4-bit values a byte."""

import contextlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.mrc import (
    FOUR_BIT,
    IMOD_STAMP,
    STORED_TYPES,
    MrcHeader,
    is_compressed,
    open_unpacked,
    parse_mrc_header,
    read_mrc,
    read_unpacked,
    unpack_four_bit,
)
from eucentric.io.tiff import ends_early
from eucentric.typing import PathLike

_HEADER_BYTES = 1024
_PACKED_FLAG = 16
_PACKED_LABEL = "4 bits packed"
_SKIPPED_AT_ONCE = 2**18


def _is_half_width(raw: bytes, header: MrcHeader) -> bool:
    """Whether bytes hold two 4-bit values each: bit 16 of IMOD's flags, or the label that SerialEM wrote before."""
    stamp, flags = np.frombuffer(raw[152:160], dtype=">i4" if header.big_endian else "<i4")
    flagged = int(stamp) == IMOD_STAMP and bool(int(flags) & _PACKED_FLAG)
    return header.mode == 0 and (flagged or any(_PACKED_LABEL in label for label in header.labels))


class MrcFrames:
    """The sections of an open MRC file, read as they are asked for; of a packed file one section at a time is held.

    The length of a packed file is known only when it was unpacked to its end, so that one that ends early is noticed
    when the missing frame is read. Frames of a packed file are cheapest in order: to go back it is unpacked anew.

    Parameters
    ----------
    path : the file

    Raises
    ------
    InputError : no such file
    FormatError : not an MRC file, or (if not packed) one that ends early
    """

    def __init__(self, path: PathLike) -> None:
        self._path = Path(path)
        self._compressed = is_compressed(self._path)
        raw = read_unpacked(self._path, _HEADER_BYTES)
        size = None if self._compressed else self._path.stat().st_size
        self._header = header = parse_mrc_header(raw, size, self._path, unit="frame")
        self._four_bit = header.mode == FOUR_BIT
        self._half_width = _is_half_width(raw, header)
        count, rows, columns = header.shape
        kind = "u1" if self._four_bit or header.unsigned_bytes or self._half_width else STORED_TYPES[header.mode]
        self._number = np.dtype(kind).newbyteorder(">" if header.big_endian else "<")
        self._stored = (rows, (columns + 1) // 2 if self._four_bit else columns)
        self._columns = 2 * columns if self._half_width else columns
        scaled = (header.scale, header.offset) != (1.0, 0.0)
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if scaled else self._number.newbyteorder("=")
        self.frame_count = count
        self.shape = (rows, self._columns)
        self.pixel_size_angstrom = header.pixel_size_angstrom
        # Only hand-made files have turned axes; they need not be read in parts.
        self._turned = None if header.axes == (1, 2, 3) else read_mrc(self._path, as_stored=True)[0]
        self._file: Any = None
        self._next = 0

    def _ends_early(self, whole: int) -> FormatError:
        return ends_early(self._path, self._path.stat().st_size, whole, self.frame_count, None)

    def _open_at(self, start: int) -> None:
        """Have the file open with the first byte of frame `start` next."""
        section = self._stored[0] * self._stored[1] * self._number.itemsize
        if self._file is None or (self._compressed and start < self._next):
            self.close()
            self._file, self._next = open_unpacked(self._path), 0
            if self._compressed:
                self._skip(self._header.data_offset, 0)
        if not self._compressed:
            self._file.seek(self._header.data_offset + start * section)
            self._next = start
        while self._next < start:
            self._skip(section, self._next)
            self._next += 1

    def _skip(self, count: int, index: int) -> None:
        while count:
            got = len(self._file.read(min(count, _SKIPPED_AT_ONCE)))
            if not got:
                raise self._ends_early(index)
            count -= got

    def _section(self, index: int) -> NDArray[Any]:
        stored = np.empty(self._stored, dtype=self._number)
        rest = stored.reshape(-1).view(np.uint8).data
        while rest:
            got = self._file.readinto(rest)
            if not got:
                raise self._ends_early(index)
            rest = rest[got:]
        if self._compressed and index + 1 == self.frame_count:
            while self._file.read(_SKIPPED_AT_ONCE):  # the checksum stands at the end of the stream
                pass
        self._next = index + 1
        if self._four_bit or self._half_width:
            return unpack_four_bit(stored, self._columns)
        return stored

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop` (without it), (frame, y, x), in the machine's byte order, a scale applied.

        Raises
        ------
        InputError : the file is gone
        FormatError : it ends early or is damaged
        """
        frames = np.empty((stop - start, *self.shape), dtype=self.dtype)
        try:
            if self._turned is None:
                self._open_at(start)
            for index in range(start, stop):
                frames[index - start] = self._section(index) if self._turned is None else self._turned[index]
        except EOFError as error:
            raise self._ends_early(self._next) from error
        except FileNotFoundError as error:
            raise InputError(f"`{self._path}` does not exist any more. Check the name and the folder.") from error
        except (zlib.error, OSError) as error:
            raise FormatError(
                f"`{self._path}` is damaged after frame {self._next} of {self.frame_count}: {error}. "
                "Copy it again, or leave this tilt out with `eucentric exclude`."
            ) from error
        if self._header.scale != 1.0 or self._header.offset != 0.0:
            frames *= np.float32(self._header.scale)
            frames += np.float32(self._header.offset)
        return frames

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
