"""EER movies (electron event representation, Falcon 4 and 4i): each electron by its place, frame by frame of the sensor.

An EER file is a BigTIFF file. A frame is one stream of bits, the lowest bit of a byte first: the number of empty sensor
pixels before the next electron (8 bits in compression 65000, 7 in 65001, told by a tag in 65002), then its quarter of
the pixel, 2 bits in x and 2 in y (or 1 and 1: its half), the highest of each inverted. A count of all ones says that as
many pixels are empty and no electron follows; such a code has no sub-pixel bits, but in files of the first cameras
(65000) it has.

Rows are stored top first, as in TIFF, and are turned over on reading, as IMOD does. RELION, MotionCor3 and Warp leave
them as they are and turn over neither the `.gain` file, so that their images are mirrored in y against these; frames and
gain fit each other either way.

References: Guo et al., IUCrJ 7:860 (2020), doi:10.1107/S205225252000929X; the format description of Thermo Fisher's
EerReaderLib.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.tiff import PageChain, ends_early, existing_size, read_page_chain, run_threaded
from eucentric.typing import PathLike

_WIDTH, _LENGTH, _COMPRESSION, _OFFSETS, _BYTE_COUNTS = 256, 257, 259, 273, 279
_METADATA, _SKIP_BITS, _HORIZONTAL_BITS, _VERTICAL_BITS = 65001, 65007, 65008, 65009
_FIXED, _SEVEN, _VARIABLE = 65000, 65001, 65002
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_METRES = {"m": 1e10, "nm": 10.0, "A": 1.0, "Å": 1.0}
_FRACTIONS = 10
_MOST_PER_FRACTION = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class EerRendering:
    """How frames of the sensor, some hundreds a second, become the frames of a movie ("fractions").

    Give one of `frames_per_fraction`, `fractions` and `dose_per_fraction`; without any, 10 fractions are made, 0.3 e/A2
    each at 3 e/A2 a tilt. Frames that fill no fraction are left out at the end, as RELION does.

    Raises
    ------
    InputError : more than one of the three, or a value that makes no sense
    """

    frames_per_fraction: int | None = None
    fractions: int | None = None
    """Of a movie with fewer sensor frames, every one becomes a fraction."""
    dose_per_fraction: float | None = None
    """e/A2; the nearest whole number of sensor frames, at least one, is taken."""
    dose: float | None = None
    """e/A2 of the whole movie. Goes before what the file says, which it must where the file says nothing."""
    upsampling: int = 1
    """1 counts electrons in the pixels of the sensor, 2 in halves and 4 in quarters of them."""

    def __post_init__(self) -> None:
        chosen = (self.frames_per_fraction, self.fractions, self.dose_per_fraction)
        if sum(value is not None for value in chosen) > 1:
            raise InputError(
                "Sensor frames a fraction, number of fractions and dose a fraction exclude each other. Give one."
            )
        for name, value in zip(("frames a fraction", "fractions", "e/A2 a fraction"), chosen, strict=True):
            if value is not None and not value > 0:
                raise InputError(f"EER frames are to be summed to {value:g} {name}; expected a positive number.")
        if self.dose is not None and not self.dose > 0:
            raise InputError(f"The dose of an EER movie is given as {self.dose:g} e/A2; expected a positive number.")
        if self.upsampling not in (1, 2, 4):
            raise InputError(f"The upsampling of EER frames is given as {self.upsampling}; expected 1, 2 or 4.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EerMetadata:
    """What an EER file says of its exposure; None where it says nothing."""

    exposure_s: float | None = None
    dose_per_pixel: float | None = None
    """Mean number of electrons in a sensor pixel in the whole exposure."""
    frame_count: int | None = None
    """Sensor frames that were recorded."""
    pixel_size_angstrom: float | None = None
    """Of a sensor pixel, at the specimen."""
    gain_name: str | None = None
    """File name of the gain reference."""
    camera: str | None = None

    @property
    def dose(self) -> float | None:
        """e/A2 of the whole exposure."""
        if self.dose_per_pixel is None or self.pixel_size_angstrom is None:
            return None
        return self.dose_per_pixel / self.pixel_size_angstrom**2


@dataclass(frozen=True, slots=True)
class _SensorFrame:
    shape: tuple[int, int]
    compression: int
    bits: tuple[int, int, int]
    """Of a run, of the place in x, of the place in y."""
    strips: tuple[tuple[int, int], ...]
    """Offset and length."""


def _directory(raw: bytes, chain: PageChain) -> dict[int, tuple[int, int, bytes]]:
    """Type, count and value field by tag."""
    layout = chain.order + ("HHQ8s" if chain.big else "HHI4s")
    return {tag: (kind, count, value) for tag, kind, count, value in struct.iter_unpack(layout, raw)}


class _Reader:
    """Values of page headers."""

    def __init__(self, file: Any, chain: PageChain, size: int) -> None:
        self._file, self._chain, self._size = file, chain, size

    def directory(self, offset: int) -> dict[int, tuple[int, int, bytes]]:
        self._file.seek(offset)
        count = struct.unpack(self._chain.count_format, self._file.read(8 if self._chain.big else 2))[0]
        return _directory(self._file.read(count * self._chain.entry_bytes), self._chain)

    def raw(self, entry: tuple[int, int, bytes]) -> bytes:
        kind, count, value = entry
        length = count * _VALUE_BYTES.get(kind, 1)
        if length <= len(value):
            return value[:length]
        place = struct.unpack(self._chain.order + ("Q" if self._chain.big else "I"), value)[0]
        if place + length > self._size:
            return b""
        self._file.seek(place)
        return bytes(self._file.read(length))

    def integers(self, directory: dict[int, tuple[int, int, bytes]], tag: int) -> tuple[int, ...]:
        entry = directory.get(tag)
        if entry is None or entry[0] not in _INTEGERS:
            return ()
        raw = self.raw(entry)
        width = _VALUE_BYTES[entry[0]]
        return struct.unpack(f"{self._chain.order}{len(raw) // width}{_INTEGERS[entry[0]]}", raw)

    def integer(self, directory: dict[int, tuple[int, int, bytes]], tag: int, otherwise: int = 0) -> int:
        return (*self.integers(directory, tag), otherwise)[0]

    def frame(self, directory: dict[int, tuple[int, int, bytes]]) -> _SensorFrame:
        compression = self.integer(directory, _COMPRESSION)
        bits = {_FIXED: (8, 2, 2), _SEVEN: (7, 2, 2)}.get(compression)
        if bits is None:
            tags = ((_SKIP_BITS, 7), (_HORIZONTAL_BITS, 2), (_VERTICAL_BITS, 2))
            skip, horizontal, vertical = (self.integer(directory, tag, usual) for tag, usual in tags)
            bits = (skip, horizontal, vertical)
        places, lengths = self.integers(directory, _OFFSETS), self.integers(directory, _BYTE_COUNTS)
        return _SensorFrame(
            shape=(self.integer(directory, _LENGTH), self.integer(directory, _WIDTH)),
            compression=compression,
            bits=bits,
            strips=tuple(zip(places, lengths, strict=False)) if len(places) == len(lengths) else (),
        )


def _number(items: dict[str, tuple[str, str]], name: str) -> float | None:
    try:
        value = float(items[name.lower()][0])
    except (KeyError, ValueError):
        return None
    return value if 0 < value < float("inf") else None


def read_eer_metadata(text: bytes) -> EerMetadata:
    """The acquisition metadata of an EER file; empty where they are not the expected XML.

    Names and units are those of the format description, but `sensorPixelSize` and the gain reference, which newer
    cameras add.
    """
    try:
        root = ElementTree.fromstring(text.strip(b"\0 \r\n\t").decode("utf-8", "replace"))
    except (ElementTree.ParseError, ValueError):
        return EerMetadata()
    items = {
        item.get("name", "").lower(): ((item.text or "").strip(), item.get("unit", "")) for item in root.iter("item")
    }
    pixel = _number(items, "sensorPixelSize.width")
    if pixel is not None:
        angstrom = pixel * _METRES.get(items["sensorpixelsize.width"][1] or "m", 0.0)
        pixel = float(f"{angstrom:.6g}") if 0.05 < angstrom < 1000 else None
    count = _number(items, "numberOfFrames")
    gain = next((value for name, (value, _) in items.items() if "gainreference" in name and value), None)
    camera = next((items[name][0] for name in ("commercialname", "cameraname") if items.get(name, ("",))[0]), None)
    return EerMetadata(
        exposure_s=_number(items, "exposureTime"),
        dose_per_pixel=_number(items, "totalDose"),
        frame_count=None if count is None else round(count),
        pixel_size_angstrom=pixel,
        gain_name=None if gain is None else gain.replace("\\", "/").rpartition("/")[2],
        camera=camera,
    )


def _sensor_frames(path: Path, size: int) -> tuple[list[_SensorFrame], EerMetadata, int]:
    """Frames with data, what is said of the exposure, and how many empty frames stand at the end."""
    chain = read_page_chain(path, size)
    if not chain.offsets:
        raise ends_early(path, size, 0, None, (chain.cut_at or 8) + 1)
    frames: list[_SensorFrame] = []
    metadata = EerMetadata()
    kinds: set[int] = set()
    with path.open("rb") as file:
        reader = _Reader(file, chain, size)
        for index, offset in enumerate(chain.offsets):
            directory = reader.directory(offset)
            if index == 0 and _METADATA in directory:
                metadata = read_eer_metadata(reader.raw(directory[_METADATA]))
            compression = reader.integer(directory, _COMPRESSION)
            kinds.add(compression)
            if compression in (_FIXED, _SEVEN, _VARIABLE):  # others are summed images, to be skipped
                frames.append(reader.frame(directory))
    total = metadata.frame_count
    for index, frame in enumerate(frames):
        end = max((place + length for place, length in frame.strips), default=0)
        if end > size:
            raise ends_early(path, size, index, total, end)
    if chain.cut_at is not None:
        raise ends_early(path, size, len(frames), total, chain.cut_at + 1)
    if not frames:
        raise FormatError(
            f"`{path}` holds no electron events, but images of TIFF compression {sorted(kinds)[0]}. "
            "If it is a TIFF movie, give it the ending .tif."
        )
    filled = len(frames)
    while filled and not sum(length for _, length in frames[filled - 1].strips):
        filled -= 1
    return frames[:filled], metadata, len(frames) - filled


def _check_frames(path: Path, frames: list[_SensorFrame]) -> None:
    if not frames:
        raise FormatError(f"`{path}` holds only empty sensor frames. Copy it again.")
    first = frames[0]
    for index, frame in enumerate(frames):
        if frame.shape != first.shape or frame.bits != first.bits:
            raise FormatError(
                f"Sensor frame {index + 1} of `{path}` is {frame.shape} coded with {frame.bits} bits, the first "
                f"{first.shape} with {first.bits}; expected frames of one kind."
            )
        if not sum(length for _, length in frame.strips):
            raise FormatError(f"Sensor frame {index + 1} of {len(frames)} of `{path}` holds no data. Copy it again.")
    if min(first.shape) < 1 or first.bits[1:] not in ((1, 1), (2, 2)) or not 7 <= first.bits[0] <= 12:
        raise FormatError(
            f"`{path}` holds frames of {first.shape} pixels coded with {first.bits} bits; expected 7 to 12 bits for "
            "empty pixels and 1 or 2 each for the place of an electron in x and y."
        )


class EerFrames:
    """The fractions of an EER movie, counted as they are asked for.

    Parameters
    ----------
    path : `.eer` file
    rendering : how fractions are made
    threads : fractions counted at a time

    Raises
    ------
    InputError : no such file; fewer frames than a fraction takes; a dose a fraction where no dose is known; finer pixels
        than recorded
    FormatError : not an EER file, one that ends early (the message says after which sensor frame), or frames of
        different kinds
    """

    def __init__(self, path: PathLike, rendering: EerRendering | None = None, *, threads: int = 2) -> None:
        self._path = Path(path)
        self._threads = threads
        rendering = EerRendering() if rendering is None else rendering
        frames, self.metadata, empty = _sensor_frames(self._path, existing_size(self._path))
        _check_frames(self._path, frames)
        self._frames = frames
        first = frames[0]
        if rendering.upsampling > 1 << first.bits[1]:
            raise InputError(
                f"`{self._path}` tells the place of an electron to {0.5 ** first.bits[1]:g} of a pixel; an upsampling of "
                f"{rendering.upsampling} was asked for. Take {1 << first.bits[1]} or less."
            )
        self._level = rendering.upsampling.bit_length() - 1
        self.sensor_frame_count = len(frames)
        self._dose = self.metadata.dose if rendering.dose is None else rendering.dose
        self._each = self._frames_per_fraction(rendering)
        self.frame_count = len(frames) // self._each
        self.shape = (first.shape[0] << self._level, first.shape[1] << self._level)
        # A sensor pixel sees at most one electron a frame.
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if self._each <= 255 else np.uint16)
        pixel = self.metadata.pixel_size_angstrom
        self.pixel_size_angstrom = None if pixel is None else pixel / rendering.upsampling
        self.notes = self._left_out(empty)

    def _frames_per_fraction(self, rendering: EerRendering) -> int:
        count = self.sensor_frame_count
        each = rendering.frames_per_fraction
        if rendering.dose_per_fraction is not None:
            if self._dose is None:
                raise InputError(
                    f"`{self._path}` does not say its dose, so that fractions of {rendering.dose_per_fraction:g} e/A2 "
                    "cannot be made. Give the dose of the movie, or the number of fractions."
                )
            each = max(1, round(rendering.dose_per_fraction * self._recorded / self._dose))
        elif each is None:
            each = max(1, count // (rendering.fractions or _FRACTIONS))
        if each > count:
            raise InputError(
                f"`{self._path}` has {count} sensor frames; a fraction was to be made of {each}. "
                "Take fewer frames a fraction."
            )
        if each > _MOST_PER_FRACTION:
            raise InputError(f"A fraction of `{self._path}` would sum {each:,} sensor frames. Make more fractions.")
        return each

    @property
    def _recorded(self) -> int:
        """Sensor frames among which the dose was spread."""
        return max(self.metadata.frame_count or 0, self.sensor_frame_count)

    def _left_out(self, empty: int) -> tuple[str, ...]:
        notes = []
        over = self.sensor_frame_count - self.frame_count * self._each
        if over:
            notes.append(
                f"the last {over} of {self.sensor_frame_count} sensor frames fill no fraction and are left out"
            )
        if empty:
            notes.append(f"the last {empty} sensor frames are empty and are left out")
        missing = self._recorded - self.sensor_frame_count - empty
        if missing > 0:
            notes.append(f"{self._recorded} sensor frames were recorded; {missing} of them are not in the file")
        return tuple(notes)

    @property
    def dose_per_frame(self) -> float | None:
        """e/A2 of a fraction."""
        return None if self._dose is None else self._dose * self._each / self._recorded

    def _count(self, file: Any, index: int, counts: NDArray[Any]) -> None:
        """Add the electrons of a sensor frame to `counts`, rows as in the file."""
        import imagecodecs

        frame = self._frames[index]
        parts = []
        for place, length in frame.strips:
            file.seek(place)
            parts.append(file.read(length))
        stream = b"".join(parts)
        if frame.compression == _FIXED and add_fixed_codes(stream, frame.shape, self._level, counts):
            return
        stream += bytes(-len(stream) % 8)  # the decoder reads whole words
        try:
            imagecodecs.eer_decode(stream, counts.shape, *frame.bits, superres=self._level, out=counts)
        except (RuntimeError, ValueError) as error:
            raise FormatError(
                f"Sensor frame {index + 1} of {self.sensor_frame_count} of `{self._path}` cannot be decoded: {error}. "
                "Copy it again, or leave this tilt out with `eucentric exclude`."
            ) from error

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Fractions `start` to `stop` (without it), (frame, y, x), y up: numbers of electrons, uint8 or uint16.

        Raises
        ------
        FormatError : a damaged sensor frame, by its number
        InputError : the file is gone
        """
        fractions = np.zeros((stop - start, *self.shape), dtype=self.dtype)

        def count(which: int) -> None:
            first = (start + which) * self._each
            with self._path.open("rb") as file:
                for index in range(first, first + self._each):
                    self._count(file, index, fractions[which])
            _turn_over(fractions[which])

        try:
            run_threaded(count, stop - start, self._threads)
        except OSError as error:
            raise InputError(f"`{self._path}` cannot be read any more: {error.strerror}.") from error
        return fractions

    def close(self) -> None:
        """Nothing is held open."""


def _turn_over(image: NDArray[Any]) -> None:
    """Reverse the rows in place."""
    half = len(image) // 2
    top = image[:half].copy()
    image[:half] = image[len(image) - half :][::-1]
    image[len(image) - half :] = top[::-1]


def add_fixed_codes(stream: bytes, shape: tuple[int, int], level: int, counts: NDArray[Any]) -> bool:
    """Add the electrons of a frame whose codes all have 12 bits: 8 for empty pixels, 2 for x and 2 for y.

    Parameters
    ----------
    stream : codes, lowest bits first
    shape : (y, x) of the sensor
    level : upsampling as a power of two, 0 to 2
    counts : (y, x) of the sensor, each way doubled `level` times; added to

    Returns
    -------
    True; or False, with nothing added, where the runs do not end with the last pixel: then the codes are of another kind
    """
    triplets = np.frombuffer(stream + bytes(-len(stream) % 3), dtype=np.uint8).reshape(-1, 3).astype(np.uint16)
    codes = np.empty(2 * len(triplets), dtype=np.uint16)
    codes[0::2] = triplets[:, 0] | (triplets[:, 1] & 15) << 8
    codes[1::2] = triplets[:, 1] >> 4 | triplets[:, 2] << 4
    runs = (codes & 255).astype(np.int64)
    is_electron = runs < 255
    # Pixels passed before each code, then the pixel that its run leads to.
    passed = np.concatenate([[0], np.cumsum(runs + is_electron)[:-1]]) + runs
    rows, columns = shape
    ends = np.flatnonzero(passed >= rows * columns)
    if not len(ends) or passed[ends[0]] != rows * columns:
        return False
    used = np.flatnonzero(is_electron[: ends[0]])
    sub = codes[used] >> 8
    y, x = np.divmod(passed[used], columns)
    y = (y << level) | ((sub >> 2 ^ 2) >> (2 - level))
    x = (x << level) | ((sub & 3 ^ 2) >> (2 - level))
    counts.reshape(-1)[y * (columns << level) + x] += 1  # no place occurs twice in a frame
    return True
