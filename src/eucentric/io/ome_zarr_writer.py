"""Writing of OME-Zarr 0.5 slab by slab; what the files are like is said in `ome_zarr`."""

import contextlib
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from eucentric.errors import InputError, ShapeError
from eucentric.io.atomic import make_folder, writing_error
from eucentric.io.ome_zarr import AXES, OWN_ATTRIBUTE
from eucentric.io.stored_values import (
    FLOAT16_MAX,
    Limits,
    StoredType,
    byte_scale,
    checked_origin,
    checked_voxel_size,
    covering_limits,
    finite_range,
    half_scale,
    sums,
)
from eucentric.typing import PathLike

_SHARD_CHUNKS = 4
_PIECE_VOXELS = 2**23


def _is_own_kind(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup")) or not any(folder.iterdir())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_path`, for a folder; one that is there is put aside, and removed when the new one has its name."""
    make_folder(path.parent)
    if path.is_dir() and not _is_own_kind(path):
        raise InputError(f"`{path}` is a folder with other files in it; choose another name for the Zarr image.")
    partial = f".{path.stem}.{secrets.token_hex(4)}.partial"
    temporary, old = path.with_name(f"{partial}{path.suffix}"), path.with_name(f"{partial}.old{path.suffix}")
    try:
        temporary.mkdir()
        yield temporary
        for file in (*temporary.rglob("*"), temporary):
            _sync(file)
        if path.is_dir():
            path.replace(old)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        known = None if error.filename is None else Path(os.fsdecode(error.filename))
        elsewhere = known is not None and not any(known.is_relative_to(p) for p in (temporary, path))
        meant = None if elsewhere else writing_error(error, path)
        if meant is None:
            raise
        raise meant from error
    finally:
        if old.is_dir() and not path.exists():
            old.replace(path)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pair_means(block: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Means of neighbours along an axis; a last one without neighbour stays."""
    count = block.shape[axis]
    pairs = count // 2
    first, second, last = [slice(None)] * 3, [slice(None)] * 3, [slice(None)] * 3
    first[axis], second[axis], last[axis] = slice(0, 2 * pairs, 2), slice(1, None, 2), slice(2 * pairs, None)
    means = (block[tuple(first)] + block[tuple(second)]) * np.float32(0.5)
    return means if count % 2 == 0 else np.concatenate([means, block[tuple(last)]], axis)


class _Level:
    """One array of the pyramid: collects planes to whole chunks, hands their means to the next level."""

    def __init__(self, array: Any, depth: int) -> None:
        self.array = array
        self.coarser: _Level | None = None
        self._buffer: NDArray[Any] = np.empty((min(depth, array.shape[0]), *array.shape[1:]), array.dtype)
        self._filled = self._stored = 0
        self._unpaired: NDArray[np.float32] | None = None

    def add(self, planes: NDArray[Any], true_planes: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Store planes; returns the true means for the next level, None while a plane waits for its neighbour."""
        start = 0
        while start < len(planes):
            count = min(len(planes) - start, len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + count] = planes[start : start + count]
            self._filled += count
            start += count
            if self._filled == len(self._buffer):
                self._flush()
        if self.coarser is None:
            return None
        if self._unpaired is not None:
            true_planes = np.concatenate([self._unpaired, true_planes])
        paired = len(true_planes) // 2 * 2
        self._unpaired = true_planes[paired:].copy() if paired < len(true_planes) else None
        return _means(true_planes[:paired]) if paired else None

    def finish(self) -> NDArray[np.float32] | None:
        """Store what waits; returns the mean of a plane without neighbour."""
        self._flush()
        return None if self._unpaired is None else _means(self._unpaired)

    def _flush(self) -> None:
        if self._filled:
            self.array[self._stored : self._stored + self._filled] = self._buffer[: self._filled]
            self._stored += self._filled
            self._filled = 0

    def multiply(self, ratio: float) -> None:
        """Bring what was stored to a new scale."""
        for start in range(0, self._stored, len(self._buffer)):
            place = slice(start, min(start + len(self._buffer), self._stored))
            self.array[place] = (self.array[place].astype(np.float32) * np.float32(ratio)).astype(self.array.dtype)
        waiting = self._buffer[: self._filled]
        waiting[:] = waiting.astype(np.float32) * np.float32(ratio)


def _means(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    return _pair_means(_pair_means(_pair_means(planes, 0), 1), 2)


def level_shapes(shape: tuple[int, int, int], chunk: int) -> list[tuple[int, int, int]]:
    """Halved, rounded up, until the largest side fits one chunk."""
    shapes = [shape]
    while max(shapes[-1]) > chunk:
        z, y, x = shapes[-1]
        shapes.append(((z + 1) // 2, (y + 1) // 2, (x + 1) // 2))
    return shapes


class OmeZarrSlabWriter:
    """Writes a volume and its pyramid slab by slab in order; the folder appears under its name when it is complete.

    In memory are `chunk` planes of level 0 in the stored number type, a third more for the coarser levels, and the
    slab given. Several chunks share a file (4 x 4 along y and x), so that a large volume does not become a hundred
    thousand files.

    Parameters
    ----------
    path : folder to be made, by custom `.zarr` or `.ome.zarr`; an older Zarr image of that name is replaced
    shape : (z, y, x)
    voxel_size_angstrom : one number, or (x, y, z)
    dtype : `float32`, `float16` (values beyond its range are stored divided by a power of two) or `int8`; means of
        coarser levels are taken of the true values before they are rounded
    labels : lines kept with the image
    limits : only and always for `int8`: the true values stored as -127 and 127; values outside are clipped and counted
    chunk : side of the cubes that a viewer loads one by one, voxels
    origin_angstrom : (x, y, z) of the first voxel

    Raises
    ------
    InputError : a voxel size that is not positive, another number type, limits that do not fit it, a chunk below 2
    ShapeError : a size below 1

    Examples
    --------
    >>> with OmeZarrSlabWriter("map.zarr", (64, 32, 32), 4.0) as writer:  # doctest: +SKIP
    ...     for slab in slabs:
    ...         writer.write(slab)
    """

    def __init__(
        self,
        path: PathLike,
        shape: tuple[int, int, int],
        voxel_size_angstrom: float | Sequence[float],
        dtype: StoredType = "float32",
        *,
        labels: Sequence[str] = (),
        limits: Limits | None = None,
        chunk: int = 64,
        origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        if min(shape) < 1:
            raise ShapeError(
                f"A volume of shape {tuple(shape)} was asked for; expected three positive sizes (z, y, x)."
            )
        if chunk < 2:
            raise InputError(f"Chunks of {chunk} voxels were asked for; expected 2 or more, by custom 64 or 128.")
        self._bytes = byte_scale(dtype, limits)
        self._path = Path(path)
        self._shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self._voxel_size = checked_voxel_size(voxel_size_angstrom)
        self._number = np.dtype(dtype)
        self._labels = list(labels)
        self._origin = checked_origin(origin_angstrom)
        self._chunk = chunk
        self._written = 0
        self._clipped = 0
        self._scale = 1.0
        self._largest = 0.0
        self._sum = self._sum_squares = 0.0
        self._low, self._high = math.inf, -math.inf

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(atomic_folder(self._path))
            self._group = zarr.open_group(temporary, mode="w", zarr_format=3)
            self._levels = [self._make_level(i, s) for i, s in enumerate(level_shapes(self._shape, self._chunk))]
            self._context = stack.pop_all()
        for level, coarser in zip(self._levels, self._levels[1:], strict=False):
            level.coarser = coarser
        return self

    def _make_level(self, index: int, shape: tuple[int, int, int]) -> _Level:
        chunks = tuple(min(self._chunk, n) for n in shape)
        across = [c * min(_SHARD_CHUNKS, -(-n // c)) for n, c in zip(shape[1:], chunks[1:], strict=True)]
        array = self._group.create_array(
            str(index),
            shape=shape,
            dtype=self._number,
            chunks=chunks,
            shards=(chunks[0], *across),
            # Noise hardly shrinks: more effort costs time and saves a few percent. The checksum finds damaged bytes.
            compressors=[
                BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=self._number.itemsize),
                Crc32cCodec(),
            ],
            fill_value=0,
            dimension_names=AXES,
            # Every chunk is there, so that a lost file is not taken for zeros.
            config={"write_empty_chunks": True},
        )
        return _Level(array, chunks[0])

    def write(self, slab: NDArray[Any]) -> None:
        """Append planes: (z, y, x), or (y, x) for one.

        Raises
        ------
        ShapeError : the planes have another size, or are more than the volume was to hold
        ProcessingError : values that are not numbers
        """
        block = np.asarray(slab)
        block = block[None] if block.ndim == 2 else block
        if block.ndim != 3 or block.shape[1:] != self._shape[1:] or self._written + len(block) > self._shape[0]:
            raise ShapeError(
                f"Planes of shape {np.shape(slab)} were given after {self._written} of a volume of shape {self._shape}."
            )
        step = max(2, _PIECE_VOXELS // (block.shape[1] * block.shape[2]) // 2 * 2)
        for start in range(0, len(block), step):
            self._write_piece(np.asarray(block[start : start + step], dtype=np.float32))

    def _write_piece(self, block: NDArray[np.float32]) -> None:
        low, high = finite_range(block, self._path)
        self._low, self._high = min(self._low, low), max(self._high, high)
        total, squares = sums(block)
        self._sum, self._sum_squares = self._sum + total, self._sum_squares + squares
        if self._number == np.float16:
            self._rescale(max(abs(low), abs(high)))
        self._written += len(block)
        self._add(0, block)

    def _add(self, index: int, block: NDArray[np.float32] | None) -> None:
        while block is not None:
            block = self._levels[index].add(self._encode(block, count_clipped=index == 0), block)
            index += 1

    def _encode(self, block: NDArray[np.float32], *, count_clipped: bool) -> NDArray[Any]:
        if self._bytes is not None:
            stored, clipped = self._bytes.encode(block)
            self._clipped += clipped if count_clipped else 0
            return stored
        return (block / np.float32(self._scale) if self._scale != 1.0 else block).astype(self._number, copy=False)

    def _rescale(self, largest: float) -> None:
        """Choose the scale of float16 from the first planes that hold anything; raise it where later ones outgrow it."""
        chosen = self._largest > 0.0
        self._largest = max(self._largest, largest)
        if self._largest == 0.0 or (chosen and self._largest / self._scale <= FLOAT16_MAX):
            return
        scale = half_scale(self._largest)
        if chosen and scale != self._scale:
            for level in self._levels:
                level.multiply(self._scale / scale)
        self._scale = scale

    def _metadata(self) -> dict[str, Any]:
        voxel_zyx = self._voxel_size[::-1]
        datasets = []
        for index, level in enumerate(self._levels):
            # A side of one voxel is not halved.
            factors = [2.0 ** min(index, math.ceil(math.log2(n))) for n in self._shape]
            scale = [v * f for v, f in zip(voxel_zyx, factors, strict=True)]
            translation = [
                o + v * (f - 1.0) / 2.0 for o, v, f in zip(self._origin[::-1], voxel_zyx, factors, strict=True)
            ]
            steps = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
            datasets.append({"path": level.array.basename, "coordinateTransformations": steps})
        axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in AXES]
        image = {
            "name": self._path.name.removesuffix(".zarr").removesuffix(".ome"),
            "axes": axes,
            "datasets": datasets,
            "type": "mean",
            "metadata": {"description": "means of 2 x 2 x 2 voxels; at an odd end, of those that are there"},
        }
        mean = self._sum / math.prod(self._shape)
        variance = max(self._sum_squares / math.prod(self._shape) - mean * mean, 0.0)
        own = {
            "labels": self._labels,
            "clipped": self._clipped,
            "minimum": self._low,
            "maximum": self._high,
            "mean": mean,
            "deviation": math.sqrt(variance),
        }
        return {"ome": {"version": "0.5", "multiscales": [image]}, OWN_ATTRIBUTE: own}

    def _finish(self) -> None:
        if self._written != self._shape[0]:
            raise ShapeError(f"`{self._path}` was closed after {self._written} of {self._shape[0]} planes.")
        for index, level in enumerate(self._levels):
            self._add(index + 1, level.finish())
            if self._bytes is not None:
                level.array.update_attributes({"scale_factor": self._bytes.scale, "add_offset": self._bytes.offset})
            elif self._scale != 1.0:
                level.array.update_attributes({"scale_factor": self._scale, "add_offset": 0.0})
        self._group.update_attributes(self._metadata())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as closing:
            self._context.__exit__(type(closing), closing, closing.__traceback__)
            raise
        self._context.__exit__(kind, error, trace)


def write_ome_zarr(
    path: PathLike,
    array: NDArray[Any],
    voxel_size_angstrom: float | Sequence[float],
    dtype: StoredType = "float32",
    *,
    labels: Sequence[str] = (),
    limits: Limits | None = None,
    chunk: int = 64,
    origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
) -> None:
    """Write a volume (z, y, x) as a whole; parameters as `OmeZarrSlabWriter`.

    For `int8` without `limits` these are the smallest and largest value: nothing is clipped.

    Raises
    ------
    ShapeError : not three dimensions
    InputError : a voxel size, limits or chunk that cannot be, or a place that may not be written to
    ProcessingError : values that are not numbers
    BackendError : the disk is full
    """
    if array.ndim != 3 or array.size == 0:
        raise ShapeError(f"An array of shape {array.shape} cannot be an OME-Zarr volume; expected (z, y, x).")
    if dtype == "int8" and limits is None:
        limits = covering_limits(array, path)
    shape = (array.shape[0], array.shape[1], array.shape[2])
    with OmeZarrSlabWriter(
        path,
        shape,
        voxel_size_angstrom,
        dtype,
        labels=labels,
        limits=limits,
        chunk=chunk,
        origin_angstrom=origin_angstrom,
    ) as writer:
        writer.write(array)
