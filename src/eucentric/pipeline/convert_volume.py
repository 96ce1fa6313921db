"""Volumes from one format to another, slab by slab where both formats allow it: voxel size, origin and scale of the numbers kept."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from eucentric.compute import free_bytes
from eucentric.errors import BackendError, InputError, ProcessingError
from eucentric.io.mrc import MrcSlabWriter, MrcType
from eucentric.io.ome_zarr_writer import OmeZarrSlabWriter
from eucentric.io.stored_values import Limits, StoredType
from eucentric.io.volumes import (
    OpenVolume,
    VolumeInfo,
    check_target,
    is_stack_name,
    open_volume,
    write_volume,
)
from eucentric.typing import PathLike

INT8_DEVIATIONS = 4.0
_CHUNKS = (64, 32, 16, 8)
_ZARR_BUFFER_BYTES = 200 * 2**20
_LEVELS = 1.34  # of a pyramid, beside its finest level


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedVolume:
    """What came of a volume."""

    source: VolumeInfo
    target: Path
    dtype: str
    """Of the numbers on disk."""
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed, and on what the target cannot hold."""


@dataclass(slots=True)
class _Spread:
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    squares: float = 0.0
    count: int = 0
    whole: bool = True

    def add(self, slab: NDArray[Any]) -> None:
        for plane in slab:
            values = plane.astype(np.float32) if plane.dtype.itemsize == 2 and plane.dtype.kind == "f" else plane
            low, high = float(values.min()), float(values.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ProcessingError(
                    "The volume holds values that are not numbers (NaN or infinite); it was not converted. "
                    "Write it anew with the program that made it."
                )
            self.low, self.high = min(self.low, low), max(self.high, high)
            line = values.astype(np.float64).ravel()
            self.total += float(line.sum())
            self.squares += float(np.dot(line, line))
            self.count += line.size
            self.whole = self.whole and (values.dtype.kind in "iu" or bool((np.rint(values) == values).all()))

    def limits(self) -> Limits:
        """Those of int8 where none are given: 4 standard deviations about the mean, and no farther than the values go."""
        mean = self.total / self.count
        width = INT8_DEVIATIONS * math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        low, high = max(self.low, mean - width), min(self.high, mean + width)
        if low < high:
            return low, high
        around = max(abs(low), 1.0)
        return low - around, low + around


def convert_volume(
    source: PathLike,
    target: PathLike,
    *,
    dtype: str | None = None,
    voxel_size_angstrom: float | None = None,
    limits: Limits | None = None,
) -> ConvertedVolume:
    """Write a volume in the format that the target's ending names.

    MRC, EM and OME-Zarr are read slab by slab, MRC and OME-Zarr written so; the others pass through memory.

    Parameters
    ----------
    dtype : of the numbers on disk; where not given the source's own, or the smallest that holds its values exactly
    voxel_size_angstrom : in place of the source's
    limits : true values that int8 stores as -127 and 127; 4 standard deviations about the mean where not given

    Raises
    ------
    InputError : no such file, the same file twice, no voxel size, or a type or format that cannot be written
    FormatError : a source that is no volume, or damaged
    ProcessingError : values that are not numbers, or that the type cannot hold
    BackendError : too large for memory, or the disk is full
    """
    place, end = Path(source), Path(target)
    kind = check_target(end, dtype)
    if end.exists() and place.exists() and end.samefile(place):
        raise InputError(f"`{end}` is the source itself. Give the converted volume another name.")
    volume = open_volume(place)
    info = volume.info
    sizes = info.voxel_size_angstrom if voxel_size_angstrom is None else (voxel_size_angstrom,) * 3
    if sizes is None:
        raise InputError(f"`{place}` does not tell its voxel size. Give it with --pixel-size.")
    notes = list(info.notes)
    if kind not in ("mrc", "zarr") or (kind == "zarr" and info.is_labels):
        notes += _through_memory(volume, end, sizes)
        return ConvertedVolume(source=info, target=end, dtype=str(info.dtype), notes=tuple(notes))
    stored, reach = _stored_type(volume, kind, dtype, limits)
    if kind == "mrc":
        writer: MrcSlabWriter | OmeZarrSlabWriter = MrcSlabWriter(
            end, info.shape, sizes, stored, labels=_labels(info), is_volume=info.is_volume and not is_stack_name(end),
            limits=reach, origin_angstrom=info.origin_angstrom,
        )  # fmt: skip
    else:
        number = cast(StoredType, stored)
        writer = OmeZarrSlabWriter(
            end, info.shape, sizes, number, labels=_labels(info), limits=reach, chunk=_chunk(info.shape, number),
            origin_angstrom=info.origin_angstrom,
        )  # fmt: skip
    with writer:
        for slab in _values(volume, stored, reach):
            writer.write(slab)
    return ConvertedVolume(source=info, target=end, dtype=stored, notes=tuple(notes))


def _labels(info: VolumeInfo) -> tuple[str, ...]:
    return tuple(text for text in info.labels if text != "Eucentric")


def _values(volume: OpenVolume, stored: str, limits: Limits | None) -> Iterator[NDArray[Any]]:
    """True values; bytes as they are where they stay so, which loses nothing."""
    info = volume.info
    if stored == "int8" and limits == (-127.0, 127.0) and (info.scale, info.offset) == (1.0, 0.0):
        yield from volume.slabs()
        return
    yield from volume.true_slabs()


def _stored_type(
    volume: OpenVolume, kind: str, dtype: str | None, limits: Limits | None
) -> tuple[MrcType, Limits | None]:
    """The type of the numbers on disk, and the limits of int8."""
    info = volume.info
    if dtype is not None and dtype != "int8":
        if limits is not None:
            raise InputError(f"Limits were given with {dtype}, which needs none; they belong to int8.")
        return cast(MrcType, dtype), None  # `check_target` knows it
    if dtype == "int8" and limits is not None:
        return "int8", limits
    own = _own_limits(volume)
    if own is not None:
        return "int8", own
    if dtype == "int8":
        spread = _Spread()
        for slab in volume.true_slabs():
            spread.add(slab)
        fits = spread.whole and spread.low >= -127.0 and spread.high <= 127.0
        return "int8", (-127.0, 127.0) if fits else spread.limits()
    if info.dtype == np.float16:
        return "float16", None
    whole = info.dtype.kind in "iu" and (info.scale, info.offset) == (1.0, 0.0)
    if kind == "mrc" and whole and _range_fits(volume, -32768, 32767):
        return "int16", None
    return "float32", None


def _own_limits(volume: OpenVolume) -> Limits | None:
    """Of signed bytes, those that give the same bytes again; None where there are others, or the byte -128."""
    info = volume.info
    if info.dtype != np.int8 or not _range_fits(volume, -127, 127):
        return None
    return info.offset - 127.0 * info.scale, info.offset + 127.0 * info.scale


def _range_fits(volume: OpenVolume, low: int, high: int) -> bool:
    known = np.iinfo(volume.info.dtype)
    if low <= known.min and known.max <= high:
        return True
    return all(low <= int(slab.min()) and int(slab.max()) <= high for slab in volume.slabs())


def _chunk(shape: tuple[int, int, int], number: str) -> int:
    """Side of the chunks of OME-Zarr: as many planes wait in memory."""
    plane = shape[1] * shape[2] * np.dtype(number).itemsize * _LEVELS
    return next((c for c in _CHUNKS if c * plane <= _ZARR_BUFFER_BYTES), _CHUNKS[-1])


def _through_memory(volume: OpenVolume, target: Path, sizes: Sequence[float]) -> tuple[str, ...]:
    info = volume.info
    need, free = 2 * math.prod(info.shape) * max(4, info.dtype.itemsize), free_bytes("cpu")
    if need > free:
        raise BackendError(
            f"`{info.path}` needs {need / 2**30:.1f} GiB to become `{target.name}`, and {free / 2**30:.1f} GiB are free. "
            "Convert it to .mrc or .zarr, which are written piece by piece."
        )
    try:
        array = np.concatenate(list(volume.true_slabs()))
        return write_volume(
            target, array, sizes, origin_angstrom=info.origin_angstrom, labels=_labels(info), is_volume=info.is_volume,
            is_labels=info.is_labels,
        )  # fmt: skip
    except MemoryError as error:
        raise BackendError(f"`{info.path}` does not fit into memory. Convert it to .mrc or .zarr.") from error
