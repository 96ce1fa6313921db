"""Volumes of the project as a pyramid of chunks, each made when it is asked for. Nothing is written.

A coarser level holds means of 2 x 2 x 2 voxels of the one before (a last one without neighbour stays), of labels the largest.
OME-Zarr images have such levels on disk, which are read. All levels lie in one frame: A from the specimen centre, voxel
``n // 2`` of level 0; the first voxel of a level lies where the mean of its voxels does.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from eucentric.errors import FormatError
from eucentric.io.mrc import read_mrc
from eucentric.io.ome_zarr import read_ome_zarr_header

CHUNK = 64
"""Voxels along each side: 1 MiB of float32."""
CACHE_BYTES = 256 * 2**20
_PERCENTILES = (0.3, 99.7)
_SAMPLED_PLANES = 9
_SAMPLED_SIDE = 256
_AS_THEY_ARE = ("int8", "uint8", "int16", "uint16", "float32")
"""Number types that the browser takes; others go as float32."""

Kind = Literal["image", "labels"]
Place = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One array of the pyramid."""

    shape_zyx: tuple[int, int, int]
    voxel_zyx_angstrom: tuple[float, float, float]
    first_zyx_angstrom: tuple[float, float, float]
    """Centre of voxel 0."""

    @property
    def chunk_counts(self) -> tuple[int, int, int]:
        z, y, x = (-(-n // CHUNK) for n in self.shape_zyx)
        return z, y, x


class ChunkCache:
    """Chunks of all volumes, those used last, up to a number of bytes. Threads may share it."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self.most_bytes = most_bytes
        self.bytes = 0
        self._chunks: OrderedDict[tuple[object, Place], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, Place], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The chunk of that key, made where it is not held."""
        with self._lock:
            held = self._chunks.get(key)
            if held is not None:
                self._chunks.move_to_end(key)
                return held
        made = make()
        with self._lock:
            if key not in self._chunks:
                self._chunks[key] = made
                self.bytes += made.nbytes
            while self.bytes > self.most_bytes and len(self._chunks) > 1:
                _, old = self._chunks.popitem(last=False)
                self.bytes -= old.nbytes
        return made


def halved(block: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """(z, y, x) every two voxels along each side as one: their mean, of labels the largest; a last odd one stays."""
    for axis in range(3):
        even = block.shape[axis] // 2 * 2
        first, second, last = ([slice(None)] * 3 for _ in range(3))
        first[axis], second[axis], last[axis] = slice(0, even, 2), slice(1, even, 2), slice(even, None)
        a, b = block[tuple(first)], block[tuple(second)]
        pairs = np.maximum(a, b) if kind == "labels" else (a + b) * np.float32(0.5)
        block = pairs if even == block.shape[axis] else np.concatenate([pairs, block[tuple(last)]], axis)
    return block


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """A volume that can be asked for chunks."""

    levels: tuple[Level, ...]
    kind: Kind
    dtype: np.dtype[Any]
    """Of the chunks."""
    arrays: tuple[Any, ...]
    """Of the levels on disk, as stored; the others are made."""
    scale: float = 1.0
    offset: float = 0.0
    cache: ChunkCache = field(repr=False)
    key: object
    """Tells this volume in the cache."""

    def chunk(self, level: int, z: int, y: int, x: int) -> NDArray[Any]:
        """(CHUNK, CHUNK, CHUNK), zeros past the volume's end; IndexError where there is no such chunk."""
        if not (0 <= level < len(self.levels)):
            raise IndexError(level)
        if not all(0 <= i < n for i, n in zip((z, y, x), self.levels[level].chunk_counts, strict=True)):
            raise IndexError((z, y, x))
        inner = self._chunk(level, z, y, x)
        if inner.dtype != self.dtype:
            info = np.iinfo(self.dtype)
            inner = np.clip(np.rint(inner), info.min, info.max).astype(self.dtype)
        if inner.shape == (CHUNK, CHUNK, CHUNK):
            return inner
        whole = np.zeros((CHUNK, CHUNK, CHUNK), self.dtype)
        whole[: inner.shape[0], : inner.shape[1], : inner.shape[2]] = inner
        return whole

    def _chunk(self, level: int, z: int, y: int, x: int) -> NDArray[Any]:
        """Less its padding."""
        return self.cache.get((self.key, (level, z, y, x)), lambda: self._make(level, z, y, x))

    def _make(self, level: int, z: int, y: int, x: int) -> NDArray[Any]:
        low = [CHUNK * i for i in (z, y, x)]
        high = [min(a + CHUNK, n) for a, n in zip(low, self.levels[level].shape_zyx, strict=True)]
        if level < len(self.arrays):
            where = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            return self._values(self.arrays[level][where])
        finer = self.levels[level - 1].shape_zyx
        start = [2 * a for a in low]
        stop = [min(2 * b, n) for b, n in zip(high, finer, strict=True)]
        return halved(self._region(level - 1, start, stop), self.kind)

    def _region(self, level: int, start: list[int], stop: list[int]) -> NDArray[Any]:
        """A box of a level that begins with whole chunks."""
        first = [a // CHUNK for a in start]
        last = [-(-b // CHUNK) for b in stop]
        rows = [
            np.concatenate(
                [
                    np.concatenate([self._chunk(level, z, y, x) for x in range(first[2], last[2])], axis=2)
                    for y in range(first[1], last[1])
                ],
                axis=1,
            )
            for z in range(first[0], last[0])
        ]
        return np.concatenate(rows, axis=0)

    def _values(self, stored: Any) -> NDArray[Any]:
        """True numbers: float32, or labels as whole numbers."""
        values = np.asarray(stored)
        if self.kind == "labels":
            if values.dtype.kind == "f":
                values = np.rint(np.nan_to_num(values.astype(np.float64)))
            return np.asarray(np.clip(values, 0, np.iinfo(self.dtype).max), self.dtype)
        values = values.astype(np.float32)
        return values if (self.scale, self.offset) == (1.0, 0.0) else values * self.scale + np.float32(self.offset)

    def plane(self, axis: int, index: int) -> NDArray[np.float32]:
        """Level 0 across z, y or x (axis 0, 1, 2), true values."""
        where: list[Any] = [slice(None)] * 3
        where[axis] = index
        return np.asarray(self._values(self.arrays[0][tuple(where)]), np.float32)

    def box(self, low_zyx: tuple[int, int, int], high_zyx: tuple[int, int, int]) -> NDArray[np.float32]:
        """A part of level 0, true values; the part of it that lies in the volume."""
        where = tuple(
            slice(max(a, 0), max(min(b, n), 0))
            for a, b, n in zip(low_zyx, high_zyx, self.levels[0].shape_zyx, strict=True)
        )
        return np.asarray(self._values(self.arrays[0][where]), np.float32)

    def limits(self) -> tuple[float, float]:
        """Values between which nearly all voxels lie: black and white of a picture. From some planes, sampled."""
        depth, rows, columns = self.levels[0].shape_zyx
        planes = np.unique(np.linspace(0.15 * depth, 0.85 * (depth - 1), _SAMPLED_PLANES).astype(int))
        step_y, step_x = -(-rows // _SAMPLED_SIDE), -(-columns // _SAMPLED_SIDE)
        sampled = np.concatenate([self.plane(0, int(z))[::step_y, ::step_x].ravel() for z in planes])
        sampled = sampled[np.isfinite(sampled)]
        filled = sampled[sampled != 0.0]
        if 2 * filled.size < sampled.size:  # mostly empty, such as maps that were put back: what there is counts
            sampled = np.append(filled, 0.0)
        if not sampled.size:
            return 0.0, 1.0
        low, high = (float(v) for v in np.percentile(sampled, _PERCENTILES))
        return (low, high) if high > low else (low, low + 1.0)


def level_list(shape: tuple[int, int, int], voxel_angstrom: float) -> tuple[Level, ...]:
    """Halved, rounded up, until all fits one chunk."""
    levels, size, factor = [], shape, 1
    centre = [-(n // 2) * voxel_angstrom for n in shape]
    while True:
        step = voxel_angstrom * factor
        first = [c + 0.5 * (factor - 1) * voxel_angstrom for c in centre]
        levels.append(
            Level(shape_zyx=size, voxel_zyx_angstrom=(step,) * 3, first_zyx_angstrom=(first[0], first[1], first[2]))
        )
        if max(size) <= CHUNK:
            return tuple(levels)
        size, factor = ((size[0] + 1) // 2, (size[1] + 1) // 2, (size[2] + 1) // 2), 2 * factor


def open_volume(path: Path, kind: Kind, cache: ChunkCache) -> Volume:
    """A volume of the project: MRC of any mode, or OME-Zarr.

    Raises
    ------
    InputError : no such file
    FormatError : no volume, or one without voxel size
    """
    if path.is_dir():
        return _open_zarr(path, kind, cache)
    array, header = read_mrc(path, as_stored=True)
    if header.pixel_size_angstrom is None:
        raise FormatError(f"`{path.name}` does not tell its voxel size. Set it in its header.")
    stat = path.stat()
    return Volume(
        levels=level_list(header.shape, header.pixel_size_angstrom),
        kind=kind,
        dtype=_sent_as(array.dtype, kind, (header.scale, header.offset)),
        arrays=(array,),
        scale=header.scale,
        offset=header.offset,
        cache=cache,
        key=(str(path), stat.st_size, stat.st_mtime_ns, kind),
    )


def _open_zarr(path: Path, kind: Kind, cache: ChunkCache) -> Volume:
    header = read_ome_zarr_header(path)
    if header.voxel_size_angstrom is None:
        raise FormatError(f"`{path.name}` does not tell its voxel size. Write it with a unit of length.")
    group = zarr.open_group(path, mode="r")
    attributes: Any = group.attrs.asdict()
    image = attributes.get("ome", attributes)["multiscales"][0]
    found: list[Any] = [group[d["path"]] for d in image["datasets"]]
    levels = level_list(header.shape, header.voxel_size_angstrom[0])
    same = 0
    for array, level in zip(found, levels, strict=False):  # levels on disk that are halved as ours are
        if tuple(array.shape) != level.shape_zyx:
            break
        same += 1
    stat = path.stat()
    return Volume(
        levels=levels,
        kind=kind,
        dtype=_sent_as(header.dtype, kind, (header.scale, header.offset)),
        arrays=tuple(found[:same]),
        scale=header.scale,
        offset=header.offset,
        cache=cache,
        key=(str(path), stat.st_size, stat.st_mtime_ns, kind),
    )


def _sent_as(stored: np.dtype[Any], kind: Kind, scaling: tuple[float, float]) -> np.dtype[Any]:
    if kind == "labels":
        return np.dtype("uint32")
    name = stored.newbyteorder("=").name
    return np.dtype(name) if name in _AS_THEY_ARE and scaling == (1.0, 0.0) else np.dtype("float32")
