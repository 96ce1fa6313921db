"""MRC images, stacks and volumes (MRC2014 and the oddities of real files): arrays are (z, y, x), rows as stored.

Bytes (mode 0) are signed, as MRC2014 says, unless the file bears IMOD's stamp without its signed flag, or an older
header without that stamp gives a largest value that no signed byte has.
References: Cheng et al., J. Struct. Biol. 192:146 (2015), doi:10.1016/j.jsb.2015.04.002; IMOD's MRC format page.
"""

import bz2
import contextlib
import gzip
import math
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import atomic_path
from eucentric.io.findings import Finding
from eucentric.io.stored_values import (
    Limits,
    StoredType,
    byte_scale,
    checked_origin,
    checked_voxel_size,
    covering_limits,
    finite_range,
    half_scale,
    sums,
    true_values,
    whole_numbers,
)
from eucentric.typing import PathLike

_HEADER_BYTES = 1024
_MOST_VOXELS = 2**24  # along an axis: larger sizes are damage
_BLOCK_BYTES = 2**22
STORED_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
FOUR_BIT = 101
IMOD_STAMP = 1146047817
_SCALE_LABEL = "Eucentric: true value = stored value * "
_CLIPPED_LABEL = "Eucentric: values outside the limits of int8, clipped: "
_SPACE_GROUP_VOLUME = 1
MrcType: TypeAlias = StoredType | Literal["int16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MrcHeader:
    """What the header of an MRC file says, after its oddities were put right."""

    shape: tuple[int, int, int]
    """(z, y, x) of the array."""
    mode: int
    voxel_size_angstrom: tuple[float, float, float] | None
    """(x, y, z); None where the header holds no pixel size."""
    labels: tuple[str, ...]
    is_volume: bool
    """False for a stack of images."""
    scale: float
    """True value = stored value * scale + offset; already applied to the array."""
    offset: float
    big_endian: bool
    data_offset: int
    """Bytes before the first voxel."""
    axes: tuple[int, int, int]
    """Which of x, y, z (1, 2, 3) the columns, rows and sections of the file run along; already turned to x, y, z."""
    unsigned_bytes: bool
    origin_angstrom: tuple[float, float, float]
    """Where the first voxel lies, (x, y, z), with the sign of MRC2014; from `nstart` where the header's origin is 0."""
    findings: tuple[Finding, ...]

    @property
    def pixel_size_angstrom(self) -> float | None:
        """Voxel size along x, or None where the header holds none."""
        return None if self.voxel_size_angstrom is None else self.voxel_size_angstrom[0]


def open_unpacked(path: Path) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File:
    """The bytes of a file as if it had not been packed with gzip or bzip2."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".bz2":
        return bz2.open(path, "rb")
    return path.open("rb")


def is_compressed(path: Path) -> bool:
    """Whether a file name says that it is packed with gzip or bzip2."""
    return path.suffix.lower() in {".gz", ".bz2"}


def read_unpacked(path: Path, count: int = -1, *, counted: Callable[[int], None] | None = None) -> bytes:
    """The first `count` bytes of a file, packed or not; all of them without `count`.

    `counted` is told how many bytes there are in all, which of a packed file are found by unpacking it to its end.
    """
    try:
        with open_unpacked(path) as file:
            first = file.read(count)
            if counted is not None:
                total = len(first)
                while block := file.read(_BLOCK_BYTES):
                    total += len(block)
                counted(total)
            return first
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist. Check the name and the folder.") from error
    except IsADirectoryError as error:
        raise InputError(f"`{path}` is a folder; expected an MRC file.") from error
    except PermissionError as error:
        raise InputError(f"`{path}` cannot be read: permission denied. Ask its owner for the right to.") from error
    except (EOFError, zlib.error, OSError) as error:  # bz2 tells of damage by a plain OSError
        if not is_compressed(path):
            raise
        raise FormatError(f"`{path}` is a damaged compressed file: {error}. Copy it again.") from error


def _plausible(record: Any) -> bool:
    sizes = [int(record[name]) for name in ("nx", "ny", "nz")]
    return int(record["mode"]) in (*STORED_TYPES, 3, 4, FOUR_BIT) and all(0 < n < _MOST_VOXELS for n in sizes)


def _record(raw: bytes, path: Path) -> tuple[Any, bool]:
    """The header record in the byte order that makes sense of it, and whether that is big-endian."""
    if len(raw) < _HEADER_BYTES:
        raise FormatError(
            f"`{path}` is {len(raw):,} bytes long; an MRC file has a header of {_HEADER_BYTES:,} bytes. Copy it again."
        )
    little = np.frombuffer(raw[:_HEADER_BYTES], dtype=HEADER_DTYPE)[0]
    big = np.frombuffer(raw[:_HEADER_BYTES], dtype=HEADER_DTYPE.newbyteorder(">"))[0]
    if _plausible(little):
        return little, False
    if _plausible(big):
        return big, True
    sizes = " x ".join(str(int(little[name])) for name in ("nx", "ny", "nz"))
    raise FormatError(
        f"`{path}` is not an MRC file that can be read: its header gives {sizes} voxels in mode {int(little['mode'])}; "
        f"expected positive sizes and one of the modes {', '.join(map(str, (*STORED_TYPES, FOUR_BIT)))}."
    )


def _row_bytes(mode: int, columns: int) -> int:
    return (columns + 1) // 2 if mode == FOUR_BIT else columns * np.dtype(STORED_TYPES[mode]).itemsize


def _labels(record: Any, notes: list[str]) -> tuple[str, ...]:
    count = int(record["nlabl"])
    texts = [bytes(label).decode("latin-1").rstrip("\0 ") for label in record["label"]]
    filled = sum(bool(text) for text in texts)
    if not 0 <= count <= 10 or count != filled:
        notes.append(f"says it has {count} labels and has {filled}")
    return tuple(text for text in texts if text)


def _voxel_size(record: Any) -> tuple[float, float, float] | None:
    sizes = []
    for axis, count in (("x", "mx"), ("y", "my"), ("z", "mz")):
        length, cells = float(record["cella"][axis]), int(record[count])
        # Single precision in the file: 7 digits are real, the rest would show as 5.143999862670898.
        sizes.append(float(f"{length / cells:.7g}") if cells > 0 and math.isfinite(length) else 0.0)
    x, y, z = sizes
    if not (x > 0 and y > 0):
        return None
    return x, y, z if z > 0 else x


def _origin(
    record: Any, raw: bytes, big_endian: bool, voxel: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    """Before the version of MRC2014, IMOD wrote it with the other sign where flag 4 is not set (its `mrcfiles.c`)."""
    x, y, z = (float(record["origin"][axis]) for axis in "xyz")
    if not all(abs(v) < 1e9 for v in (x, y, z)):
        return 0.0, 0.0, 0.0
    if (x, y, z) != (0.0, 0.0, 0.0):
        stamp, flags = np.frombuffer(raw[152:160], dtype=">i4" if big_endian else "<i4")
        turned = int(stamp) == IMOD_STAMP and not int(flags) & 4 and int(record["nversion"]) <= 0
        return (-x, -y, -z) if turned else (x, y, z)
    axes = (int(record["mapc"]), int(record["mapr"]), int(record["maps"]))
    if voxel is None or sorted(axes) != [1, 2, 3]:
        return 0.0, 0.0, 0.0
    start = dict(zip(axes, (int(record[name]) for name in ("nxstart", "nystart", "nzstart")), strict=True))
    if any(abs(n) > _MOST_VOXELS for n in start.values()):
        return 0.0, 0.0, 0.0
    return start[1] * voxel[0], start[2] * voxel[1], start[3] * voxel[2]


def _axes(record: Any, notes: list[str]) -> tuple[int, int, int]:
    axes = (int(record["mapc"]), int(record["mapr"]), int(record["maps"]))
    if axes == (1, 2, 3):
        return axes
    if sorted(axes) == [1, 2, 3]:
        notes.append(f"stores its axes in the order {axes}; they were turned to x, y, z")
        return axes
    notes.append(f"gives its axes as {axes}; x, y, z was assumed")
    return 1, 2, 3


def _data_offset(record: Any, size: int | None, data_bytes: int, path: Path, notes: list[str]) -> int:
    extra = int(record["nsymbt"])
    if size is not None and extra and size - _HEADER_BYTES == data_bytes:
        notes.append(f"says its extended header is {extra} bytes long and has none")
        return _HEADER_BYTES
    if extra < 0 or (size is not None and _HEADER_BYTES + extra > size):
        raise FormatError(
            f"`{path}` says that its extended header is {extra:,} bytes long, which the file has no room for. "
            "Copy it again from where it was made."
        )
    return _HEADER_BYTES + extra


def _check_length(
    path: Path, size: int, offset: int, stored: tuple[int, int, int], row: int, notes: list[str], unit: str
) -> None:
    sections, rows, _ = stored
    expected = offset + sections * rows * row
    if size < expected:
        whole = max(size - offset, 0) // (rows * row)
        raise FormatError(
            f"`{path}` ends after {unit} {whole} of {sections} "
            f"(the file is {size:,} bytes; its header says {expected:,}). Copy it again from where it was made."
        )
    if size > expected:
        notes.append(f"has {size - expected:,} bytes after its last voxel")


def _has_unsigned_bytes(record: Any, raw: bytes, big_endian: bool) -> bool:
    stamp, flags = np.frombuffer(raw[152:160], dtype=">i4" if big_endian else "<i4")
    if int(stamp) == IMOD_STAMP:
        return not int(flags) & 1
    return float(record["dmin"]) >= 0.0 and 127.0 < float(record["dmax"]) <= 255.0


def parse_mrc_header(raw: bytes, size: int | None, path: Path, *, unit: str = "section") -> MrcHeader:
    """What the first 1,024 bytes of a file say.

    Parameters
    ----------
    size : bytes of the file (unpacked); None leaves its length unchecked
    unit : what a section is called if the file ends early

    Raises
    ------
    FormatError : not an MRC file, or shorter than its header says
    """
    record, big_endian = _record(raw, path)
    notes: list[str] = []
    mode = int(record["mode"])
    if mode in (3, 4):
        raise FormatError(
            f"`{path}` holds complex numbers (mode {mode}): a Fourier transform, not an image. "
            "Give the real-space file it was made from."
        )
    stored = (int(record["nz"]), int(record["ny"]), int(record["nx"]))
    row = _row_bytes(mode, stored[2])
    offset = _data_offset(record, size, stored[0] * stored[1] * row, path, notes)
    if size is not None:
        _check_length(path, size, offset, stored, row, notes, unit)
    if bytes(record["map"]) not in (b"MAP ", b"MAP"):  # numpy drops trailing zero bytes
        notes.append("has no MAP word in its header (an old or hand-made file)")
    labels = _labels(record, notes)
    axes = _axes(record, notes)
    voxel_size = _voxel_size(record)
    if voxel_size is None:
        notes.append("holds no pixel size")
    scales = [text.removeprefix(_SCALE_LABEL) for text in labels if text.startswith(_SCALE_LABEL)]
    scale, value_offset = _scale(scales[-1], path) if scales else (1.0, 0.0)
    by_axis = dict(zip(axes, stored[::-1], strict=True))
    return MrcHeader(
        shape=(by_axis[3], by_axis[2], by_axis[1]),
        mode=mode,
        voxel_size_angstrom=voxel_size,
        labels=labels,
        is_volume=int(record["ispg"]) != 0,
        scale=scale,
        offset=value_offset,
        big_endian=big_endian,
        data_offset=offset,
        axes=axes,
        unsigned_bytes=mode == 0 and _has_unsigned_bytes(record, raw, big_endian),
        origin_angstrom=_origin(record, raw, big_endian, voxel_size),
        findings=tuple(Finding(severity="warning", text=f"`{path}` {note}.") for note in notes),
    )


def _scale(text: str, path: Path) -> tuple[float, float]:
    parts = text.split(" + ")
    try:
        numbers = [float(part) for part in parts if re.fullmatch(r"[0-9.eE+-]+", part)]
    except ValueError:
        numbers = []
    if len(parts) > 2 or len(numbers) != len(parts) or not all(map(math.isfinite, numbers)):
        raise FormatError(f"`{path}` names a scale `{text}` that is not a number. The file was changed by hand.")
    return numbers[0], numbers[1] if len(numbers) == 2 else 0.0


def read_mrc_header(path: PathLike) -> MrcHeader:
    """The header alone; the voxels are not read (a compressed file is unpacked to learn its length).

    Raises
    ------
    InputError : no such file
    FormatError : not an MRC file, or shorter than its header says
    """
    place = Path(path)
    if is_compressed(place):
        sizes: list[int] = []
        raw = read_unpacked(place, _HEADER_BYTES, counted=sizes.append)
        return parse_mrc_header(raw, sizes[0], place)
    raw = read_unpacked(place, _HEADER_BYTES)
    return parse_mrc_header(raw, place.stat().st_size, place)


def unpack_four_bit(packed: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Two values a byte, the left one in the low half; each row starts on a new byte."""
    values = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype=np.uint8)
    values[..., 0::2] = packed & 15
    values[..., 1::2] = packed >> 4
    return np.ascontiguousarray(values[..., :columns])


def read_mrc(path: PathLike, *, as_stored: bool = False) -> tuple[NDArray[Any], MrcHeader]:
    """Voxels and header of an MRC file, also of one packed with gzip or bzip2.

    Parameters
    ----------
    path : `.mrc`, `.mrcs`, `.st`, `.map`, `.rec` ..., or these with `.gz` or `.bz2`
    as_stored : leave the scale and offset of the header to the caller, who can so map a file larger than memory

    Returns
    -------
    array : (z, y, x) in the file's number type. A read-only memory map; an array in memory where the file is packed,
        4-bit or carries a scale (then float32 true values, unless `as_stored`)
    header : the header, with what was odd in `findings`

    Raises
    ------
    InputError : no such file
    FormatError : not an MRC file, shorter than its header says, or holding complex numbers
    """
    place = Path(path)
    header = read_mrc_header(place)
    sections, rows, columns = (header.shape[3 - axis] for axis in reversed(header.axes))
    four_bit = header.mode == FOUR_BIT
    kind = "u1" if four_bit or header.unsigned_bytes else STORED_TYPES[header.mode]
    number = np.dtype(kind).newbyteorder(">" if header.big_endian else "<")
    stored = (sections, rows, (columns + 1) // 2 if four_bit else columns)
    array: NDArray[Any]
    if is_compressed(place):
        raw = read_unpacked(place, header.data_offset + math.prod(stored) * number.itemsize)
        array = np.frombuffer(raw, dtype=number, count=math.prod(stored), offset=header.data_offset).reshape(stored)
    else:
        array = np.memmap(place, dtype=number, mode="r", offset=header.data_offset, shape=stored)
    if four_bit:
        array = unpack_four_bit(np.asarray(array), columns)
    if header.axes != (1, 2, 3):
        # Array axis of the file that runs along z, then y, then x.
        array = array.transpose([2 - header.axes.index(axis) for axis in (3, 2, 1)])
    if not as_stored and (header.scale, header.offset) != (1.0, 0.0):
        array = true_values(array, header.scale, header.offset)
    return array, header


class MrcSlabWriter:
    """Writes a volume or stack slab by slab in order; the file appears under its name when it is complete.

    Parameters
    ----------
    path : file to be made
    shape : (z, y, x)
    voxel_size_angstrom : one number, or (x, y, z)
    dtype : `float32` (mode 2), `float16` (mode 12; values beyond its range are stored divided by a power of two that
        a label records and `read_mrc` applies), `int8` (mode 0, signed) or `int16` (mode 1, whole numbers as they are)
    labels : lines for the header, at most 80 characters each
    is_volume : False marks a stack of images
    limits : only and always for `int8`: the true values stored as -127 and 127. A label records
        `true value = stored value * scale + offset`, which `read_mrc` applies; values outside are clipped, and
        another label says how many
    origin_angstrom : (x, y, z) of the first voxel

    The least, largest and mean value and the deviation in the header are those of the stored numbers.

    Raises
    ------
    InputError : a voxel size that is not positive, an origin that is none, another number type, or limits that do not fit it
    ShapeError : a size below 1

    Examples
    --------
    >>> with MrcSlabWriter("map.mrc", (64, 32, 32), 4.0) as writer:  # doctest: +SKIP
    ...     for slab in slabs:
    ...         writer.write(slab)
    """

    def __init__(
        self,
        path: PathLike,
        shape: tuple[int, int, int],
        voxel_size_angstrom: float | Sequence[float],
        dtype: MrcType = "float32",
        *,
        labels: Sequence[str] = (),
        is_volume: bool = True,
        limits: Limits | None = None,
        origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        if min(shape) < 1:
            raise ShapeError(
                f"An MRC file of shape {tuple(shape)} was asked for; expected three positive sizes (z, y, x)."
            )
        self._bytes = None if dtype == "int16" and limits is None else byte_scale(dtype, limits)
        self._path = Path(path)
        self._shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self._voxel_size = checked_voxel_size(voxel_size_angstrom)
        self._number = np.dtype(dtype).newbyteorder("<")
        kept = [text for text in labels if not text.startswith((_SCALE_LABEL, _CLIPPED_LABEL))]
        self._labels = [text.encode("ascii", "replace")[:80] for text in kept][:7]
        self._is_volume = is_volume
        self._origin = checked_origin(origin_angstrom)
        self._written = 0
        self._clipped = 0
        self._scale = 1.0
        self._largest = 0.0
        self._sum = self._sum_squares = 0.0
        self._low, self._high = math.inf, -math.inf

    def __enter__(self) -> Self:
        self._context = atomic_path(self._path)
        temporary = self._context.__enter__()
        try:
            self._file = temporary.open("w+b")
            self._file.write(bytes(_HEADER_BYTES))
        except OSError as error:
            self._context.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, slab: NDArray[Any]) -> None:
        """Append sections: (z, y, x), or (y, x) for one.

        Raises
        ------
        ShapeError : the sections have another size, or are more than the file was to hold
        ProcessingError : values that are not numbers
        """
        given = np.asarray(slab)
        whole = self._bytes is not None and self._bytes.keeps_bytes and given.dtype in (np.int8, np.uint8)
        block = given if whole else given.astype(np.float32, copy=False)
        block = block[None] if block.ndim == 2 else block
        if block.ndim != 3 or block.shape[1:] != self._shape[1:] or self._written + len(block) > self._shape[0]:
            raise ShapeError(
                f"Sections of shape {np.shape(slab)} were given after {self._written} of a file of shape {self._shape}."
            )
        if block.size == 0:
            return
        stored: NDArray[Any]
        low, high = (0.0, 0.0) if whole else finite_range(block, self._path)
        if whole and int(block.min()) >= -127 and int(block.max()) <= 127:
            stored = np.ascontiguousarray(block, np.int8)
        elif self._bytes is not None:
            stored, clipped = self._bytes.encode(block)
            self._clipped += clipped
        elif self._number.kind == "i":
            stored = whole_numbers(block, self._path).astype(self._number)
        else:
            if self._number.itemsize == 2:
                self._largest = max(self._largest, abs(low), abs(high))
                self._rescale(half_scale(self._largest))
            stored = np.ascontiguousarray(
                block / np.float32(self._scale) if self._scale != 1.0 else block, self._number
            )
        self._file.write(stored.data)
        self._written += len(block)
        self._count(stored)

    def _count(self, stored: NDArray[Any]) -> None:
        # numpy compares and adds float16 several times more slowly.
        numbers = stored.astype(np.float32) if self._number == np.float16 else stored
        self._low, self._high = min(self._low, float(numbers.min())), max(self._high, float(numbers.max()))
        total, squares = sums(numbers)
        self._sum, self._sum_squares = self._sum + total, self._sum_squares + squares

    def _rescale(self, scale: float) -> None:
        """Bring the sections already written to a new scale."""
        if scale == self._scale:
            return
        section = self._shape[1] * self._shape[2]
        for index in range(self._written):
            place = _HEADER_BYTES + index * section * self._number.itemsize
            self._file.seek(place)
            old = np.frombuffer(self._file.read(section * self._number.itemsize), dtype=self._number)
            self._file.seek(place)
            self._file.write((old.astype(np.float32) * np.float32(self._scale / scale)).astype(self._number).data)
        self._file.seek(0, os.SEEK_END)
        ratio = self._scale / scale
        self._low, self._high, self._sum = self._low * ratio, self._high * ratio, self._sum * ratio
        self._sum_squares *= ratio * ratio
        self._scale = scale

    def _header(self) -> bytes:
        record = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
        nz, ny, nx = self._shape
        sections = nz if self._is_volume else 1  # a stack is nz images of one section each
        for name, value in (("nx", nx), ("ny", ny), ("nz", nz), ("mx", nx), ("my", ny), ("mz", sections)):
            record[name] = value
        record["mode"] = {"i1": 0, "i2": 1, "f2": 12, "f4": 2}[self._number.str[1:]]
        x, y, z = self._voxel_size
        record["cella"] = (nx * x, ny * y, sections * z)
        record["cellb"] = (90.0, 90.0, 90.0)
        record["mapc"], record["mapr"], record["maps"] = 1, 2, 3
        record["ispg"] = _SPACE_GROUP_VOLUME if self._is_volume else 0
        record["nversion"] = 20141
        record["origin"] = self._origin
        record["map"], record["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        mean = self._sum / math.prod(self._shape)
        variance = max(self._sum_squares / math.prod(self._shape) - mean * mean, 0.0)
        record["dmin"], record["dmax"], record["dmean"] = self._low, self._high, mean
        record["rms"] = math.sqrt(variance)
        labels = [b"Eucentric", *self._labels]
        if self._bytes is not None:
            labels.append(f"{_SCALE_LABEL}{self._bytes.scale!r} + {self._bytes.offset!r}".encode())
        elif self._scale != 1.0:
            labels.append(f"{_SCALE_LABEL}{self._scale!r}".encode())
        if self._clipped:
            labels.append(f"{_CLIPPED_LABEL}{self._clipped}".encode())
        record["nlabl"] = len(labels)
        for index, text in enumerate(labels):
            record["label"][index] = text.ljust(80)
        return record.tobytes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self._written != self._shape[0]:
                    raise ShapeError(f"`{self._path}` was closed after {self._written} of {self._shape[0]} sections.")
                self._file.seek(0)
                self._file.write(self._header())
            self._file.close()
        except (OSError, ShapeError) as closing:
            with contextlib.suppress(OSError):
                self._file.close()
            self._context.__exit__(type(closing), closing, closing.__traceback__)
            raise
        self._context.__exit__(kind, error, trace)


def write_mrc(
    path: PathLike,
    array: NDArray[Any],
    voxel_size_angstrom: float | Sequence[float],
    dtype: MrcType = "float32",
    *,
    labels: Sequence[str] = (),
    is_volume: bool = True,
    limits: Limits | None = None,
    origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
) -> None:
    """Write an image (y, x), stack or volume (z, y, x) as a whole; parameters as `MrcSlabWriter`.

    For `int8` without `limits` these are the smallest and largest value: nothing is clipped.

    Raises
    ------
    ShapeError : not two or three dimensions
    InputError : a voxel size that is not positive, limits that do not fit, or a place that may not be written to
    ProcessingError : values that are not numbers
    BackendError : the disk is full
    """
    whole = np.asarray(array)
    if whole.ndim not in (2, 3) or whole.size == 0:
        raise ShapeError(f"An array of shape {whole.shape} cannot be an MRC file; expected (y, x) or (z, y, x).")
    whole = whole[None] if whole.ndim == 2 else whole
    shape = (whole.shape[0], whole.shape[1], whole.shape[2])
    sections = max(1, 2**24 // (shape[1] * shape[2]))
    if dtype == "int8" and limits is None:
        limits = covering_limits(whole, path)
    with MrcSlabWriter(
        path, shape, voxel_size_angstrom, dtype, labels=labels, is_volume=is_volume, limits=limits,
        origin_angstrom=origin_angstrom,
    ) as writer:  # fmt: skip
        for start in range(0, shape[0], sections):
            writer.write(whole[start : start + sections])
