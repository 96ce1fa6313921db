"""Volumes of any format by their ending: what they hold, slab by slab or as a whole, and writing of them.

Arrays are (z, y, x) with y up, as MRC stores them. Pages of TIFF volumes are sections with row 0 first, as napari, tifffile and the
label files of this project have them; movies and images of cameras are turned over instead, and are read by `eucentric.io.movies`.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import BackendError, FormatError, InputError, ShapeError
from eucentric.io.dm import read_dm
from eucentric.io.em import EM_HEADER_BYTES, read_em, write_em
from eucentric.io.mrc import FOUR_BIT, MrcType, is_compressed, read_mrc, read_mrc_header, write_mrc
from eucentric.io.ome_zarr import OpenLevel
from eucentric.io.ome_zarr_labels import is_label_image, label_names_of_image, write_ome_zarr_labels
from eucentric.io.ome_zarr_writer import write_ome_zarr
from eucentric.io.stored_values import Limits, StoredType, true_values
from eucentric.io.tiff_volumes import read_tiff_volume, write_tiff_volume
from eucentric.typing import PathLike

VolumeFormat: TypeAlias = Literal["mrc", "em", "hdf", "zarr", "tiff", "dm", "amira"]
Size3: TypeAlias = tuple[float, float, float]

VOLUME_ENDINGS: dict[str, VolumeFormat] = {
    ".mrc": "mrc", ".map": "mrc", ".rec": "mrc", ".st": "mrc", ".mrcs": "mrc", ".ali": "mrc", ".preali": "mrc",
    ".em": "em", ".hdf": "hdf", ".h5": "hdf", ".zarr": "zarr", ".tif": "tiff", ".tiff": "tiff", ".dm3": "dm", ".dm4": "dm",
    ".am": "amira",
}  # fmt: skip
READ_ONLY: frozenset[VolumeFormat] = frozenset({"dm"})
_STACKS = (".st", ".mrcs", ".ali", ".preali")
_SLAB_BYTES = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeInfo:
    """What a file says about the volume in it."""

    path: Path
    format: VolumeFormat
    shape: tuple[int, int, int]
    """(z, y, x)."""
    dtype: np.dtype[Any]
    """As stored, in the machine's byte order."""
    voxel_size_angstrom: Size3 | None
    """(x, y, z); None where the file does not tell."""
    origin_angstrom: Size3 = (0.0, 0.0, 0.0)
    """Where the first voxel lies, (x, y, z)."""
    labels: tuple[str, ...] = ()
    is_volume: bool = True
    """False for a stack of images."""
    is_labels: bool = False
    """Whether the file says that its numbers name objects."""
    scale: float = 1.0
    """True value = stored value * scale + offset."""
    offset: float = 0.0
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVolume:
    """A volume whose voxels are read in parts."""

    info: VolumeInfo
    read_stored: Callable[[int, int], NDArray[Any]]
    """Sections from the first to before the second number as stored, (z, y, x), in memory."""
    sections_at_once: int
    """Sections that are read well together."""

    def slabs(self) -> Iterator[NDArray[Any]]:
        """All sections in order, as stored."""
        for start in range(0, self.info.shape[0], self.sections_at_once):
            yield self.read_stored(start, min(start + self.sections_at_once, self.info.shape[0]))

    def true_slabs(self) -> Iterator[NDArray[Any]]:
        """The same, as true values: float32 where the file carries a scale."""
        for slab in self.slabs():
            scaled = (self.info.scale, self.info.offset) != (1.0, 0.0)
            yield true_values(slab, self.info.scale, self.info.offset) if scaled else slab


def volume_format(path: PathLike) -> VolumeFormat:
    """The format that a name stands for; `.gz` and `.bz2` are passed over.

    Raises
    ------
    FormatError : none that is known
    """
    place = Path(path)
    name = place.name.lower()
    for packed in (".gz", ".bz2"):
        name = name.removesuffix(packed)
    ending = Path(name).suffix
    if ending in VOLUME_ENDINGS:
        return VOLUME_ENDINGS[ending]
    if place.is_dir() and any((place / n).is_file() for n in ("zarr.json", ".zattrs", ".zgroup")):
        return "zarr"
    raise FormatError(f"`{place.name}` is no volume that is known. Expected one of {', '.join(VOLUME_ENDINGS)}.")


def is_volume_file(path: PathLike) -> bool:
    """Whether a file or folder that exists is a volume by its name; never raises."""
    place = Path(path)
    try:
        kind = volume_format(place)
        return place.is_dir() if kind == "zarr" else place.is_file()
    except (FormatError, OSError, ValueError):
        return False


def is_stack_name(path: PathLike) -> bool:
    """Whether a name stands for a stack of images, not for a volume."""
    return Path(path).suffix.lower() in _STACKS


def _at_once(shape: tuple[int, int, int]) -> int:
    return max(1, _SLAB_BYTES // (4 * shape[1] * shape[2]))


def _in_memory(array: NDArray[Any], info: VolumeInfo) -> OpenVolume:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return OpenVolume(info=info, read_stored=lambda a, b: native[a:b], sections_at_once=_at_once(info.shape))


def _sections_of_file(
    path: Path, number: np.dtype[Any], offset: int, shape: tuple[int, int, int]
) -> Callable[[int, int], NDArray[Any]]:
    """Sections read from a plain file: a map of it would count as memory of the program."""
    size = shape[1] * shape[2]

    def read(start: int, stop: int) -> NDArray[Any]:
        with path.open("rb") as file:
            file.seek(offset + start * size * number.itemsize)
            values = np.fromfile(file, dtype=number, count=(stop - start) * size)
        if values.size != (stop - start) * size:
            raise FormatError(f"`{path}` became shorter while it was read. Copy it again.")
        return values.reshape(stop - start, *shape[1:]).astype(number.newbyteorder("="), copy=False)

    return read


def _open_mrc(path: Path) -> OpenVolume:
    header = read_mrc_header(path)
    array = read_mrc(path, as_stored=True)[0]
    info = VolumeInfo(
        path=path,
        format="mrc",
        shape=header.shape,
        dtype=array.dtype.newbyteorder("="),
        voxel_size_angstrom=header.voxel_size_angstrom,
        origin_angstrom=header.origin_angstrom,
        labels=header.labels,
        is_volume=header.is_volume,
        scale=header.scale,
        offset=header.offset,
        notes=tuple(finding.text for finding in header.findings),
    )
    if is_compressed(path) or header.mode == FOUR_BIT or header.axes != (1, 2, 3):
        return _in_memory(np.ascontiguousarray(array), info)
    read = _sections_of_file(path, array.dtype, header.data_offset, header.shape)
    return OpenVolume(info=info, read_stored=read, sections_at_once=_at_once(header.shape))


def _open_em(path: Path) -> OpenVolume:
    header = read_em(path)[1]
    info = VolumeInfo(
        path=path,
        format="em",
        shape=header.shape,
        dtype=header.dtype.newbyteorder("="),
        voxel_size_angstrom=None,
        notes=(f"`{path}`: EM files keep no pixel size that can be relied on.", *(f.text for f in header.findings)),
    )
    read = _sections_of_file(path, header.dtype, EM_HEADER_BYTES, header.shape)
    return OpenVolume(info=info, read_stored=read, sections_at_once=_at_once(header.shape))


def _open_zarr(path: Path) -> OpenVolume:
    names = () if is_label_image(path) else label_names_of_image(path)
    level = OpenLevel(path)
    header = level.header
    info = VolumeInfo(
        path=path,
        format="zarr",
        shape=header.shape,
        dtype=header.dtype.newbyteorder("="),
        voxel_size_angstrom=header.voxel_size_angstrom,
        origin_angstrom=header.first_voxel_angstrom or (0.0, 0.0, 0.0),
        labels=header.labels,
        is_labels=is_label_image(path),
        scale=header.scale,
        offset=header.offset,
        notes=(f"`{path}` holds labels too: {', '.join(names)}. They are volumes of their own.",) if names else (),
    )
    at_once = max(1, min(max(level.chunk_depth, 1), 3 * _at_once(header.shape)))
    return OpenVolume(info=info, read_stored=level.read, sections_at_once=at_once)


def _open_tiff(path: Path) -> OpenVolume:
    array, voxel = read_tiff_volume(path)
    info = VolumeInfo(
        path=path, format="tiff", shape=_shape3(array, path), dtype=array.dtype.newbyteorder("="), voxel_size_angstrom=voxel
    )  # fmt: skip
    return _in_memory(array, info)


def _open_dm(path: Path) -> OpenVolume:
    array, header = read_dm(path)
    pixel = header.pixel_size_angstrom
    info = VolumeInfo(
        path=path,
        format="dm",
        shape=header.shape,
        dtype=array.dtype.newbyteorder("="),
        voxel_size_angstrom=None if pixel is None else (pixel, pixel, pixel),
        is_volume=False,
    )
    return _in_memory(array, info)


def _open_hdf(path: Path) -> OpenVolume:
    hdf = _module("hdf", path)
    array, header = hdf.read_hdf(path)
    is_stack = header.count > 1 and header.shape[0] == 1
    notes: tuple[str, ...] = ()
    if is_stack:  # as EMAN2 keeps tilt series
        array = np.concatenate([array, *(_same_shape(hdf, path, i, header.shape) for i in range(1, header.count))])
    elif header.count > 1:
        notes = (f"`{path}` holds {header.count} volumes; the first was read.",)
    places = (header.attributes.get(f"origin_{axis}", 0.0) for axis in "xyz")
    x, y, z = (float(v) if isinstance(v, int | float) and math.isfinite(v) else 0.0 for v in places)
    info = VolumeInfo(
        path=path,
        format="hdf",
        shape=_shape3(array, path),
        dtype=array.dtype.newbyteorder("="),
        voxel_size_angstrom=header.voxel_size_angstrom,
        origin_angstrom=(x, y, z),
        is_volume=not is_stack,
        notes=notes,
    )
    return _in_memory(array, info)


def _same_shape(hdf: Any, path: Path, index: int, shape: tuple[int, int, int]) -> NDArray[Any]:
    array: NDArray[Any] = hdf.read_hdf(path, index)[0]
    if array.shape != shape:
        raise FormatError(
            f"Image {index} of `{path}` is {array.shape}, the first {shape}; expected images of one size."
        )
    return array


def _open_amira(path: Path) -> OpenVolume:
    found = _module("amira", path).read_amira_volume(path)
    values: NDArray[Any] = found.values
    info = VolumeInfo(
        path=path,
        format="amira",
        shape=_shape3(values, path),
        dtype=values.dtype.newbyteorder("="),
        voxel_size_angstrom=found.voxel_size_angstrom,
        origin_angstrom=found.origin_angstrom,
        is_labels=bool(found.materials),
    )
    return _in_memory(values, info)


def _module(name: str, path: Path) -> Any:
    try:
        return importlib.import_module(f"eucentric.io.{name}")
    except ModuleNotFoundError as error:
        raise FormatError(f"`{path}` is of a kind that this installation cannot read or write ({error}).") from error


def _shape3(array: NDArray[Any], path: Path) -> tuple[int, int, int]:
    if array.ndim != 3 or not array.size:
        raise FormatError(f"`{path}` holds an array of shape {array.shape}; expected a volume (z, y, x).")
    return array.shape[0], array.shape[1], array.shape[2]


_OPENERS: dict[VolumeFormat, Callable[[Path], OpenVolume]] = {
    "mrc": _open_mrc, "em": _open_em, "hdf": _open_hdf, "zarr": _open_zarr, "tiff": _open_tiff, "dm": _open_dm,
    "amira": _open_amira,
}  # fmt: skip


def open_volume(path: PathLike) -> OpenVolume:
    """A volume or stack of any format by its ending; voxels are read when they are asked for, where the format allows it.

    Raises
    ------
    InputError : no such file
    FormatError : no volume that is known, or a damaged one
    BackendError : it does not fit into memory
    """
    place = Path(path)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Check the name and the folder.")
    try:
        return _OPENERS[volume_format(place)](place)
    except MemoryError as error:
        raise BackendError(f"`{place}` does not fit into memory.") from error


def read_volume_info(path: PathLike) -> VolumeInfo:
    """What a file says about its volume; errors as `open_volume`."""
    return open_volume(path).info


def read_volume(path: PathLike, *, as_stored: bool = False) -> tuple[NDArray[Any], VolumeInfo]:
    """A volume or stack as a whole, (z, y, x), in the stored number type or, where it carries a scale, float32 true values.

    Parameters
    ----------
    path : see `VOLUME_ENDINGS`; MRC also with `.gz` or `.bz2`
    as_stored : leave the scale and the offset to the caller

    Raises
    ------
    InputError, FormatError, BackendError : as `open_volume`
    """
    source = open_volume(path)
    info = source.info
    try:
        array = source.read_stored(0, info.shape[0])
        if not as_stored and (info.scale, info.offset) != (1.0, 0.0):
            return true_values(array, info.scale, info.offset), replace(info, scale=1.0, offset=0.0)
        return array, info
    except MemoryError as error:
        raise BackendError(f"`{path}` does not fit into memory: {math.prod(info.shape):,} voxels.") from error


def write_volume(
    path: PathLike,
    array: NDArray[Any],
    voxel_size_angstrom: float | Sequence[float],
    dtype: MrcType | None = None,
    *,
    origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    labels: Sequence[str] = (),
    is_volume: bool = True,
    is_labels: bool = False,
    limits: Limits | None = None,
) -> tuple[str, ...]:
    """Write a volume (z, y, x) in the format of its name.

    Parameters
    ----------
    dtype : float32 where not given; float16 and int8 in MRC and OME-Zarr, int16 in MRC
    is_labels : whole numbers that name objects, for OME-Zarr's labels

    Returns
    -------
    losses : a sentence for each thing given that the format cannot hold

    Raises
    ------
    ShapeError : not three dimensions
    InputError : a format that is only read, a voxel size or type that cannot be, or a place that may not be written to
    FormatError : no volume that is known
    BackendError : the disk is full
    """
    place, kind = Path(path), volume_format(path)
    if array.ndim != 3 or not array.size:
        raise ShapeError(f"An array of shape {array.shape} cannot be a volume; expected (z, y, x).")
    check_target(place, dtype)
    sizes = (voxel_size_angstrom,) * 3 if isinstance(voxel_size_angstrom, int | float) else tuple(voxel_size_angstrom)
    number = dtype or "float32"
    if kind == "mrc":
        write_mrc(
            place, array, sizes, number, labels=labels, is_volume=is_volume and not is_stack_name(place), limits=limits,
            origin_angstrom=origin_angstrom,
        )  # fmt: skip
        return ()
    if kind == "zarr":
        if is_labels:
            write_ome_zarr_labels(place, array.astype(_whole_type(array)), float(sizes[0]))
            return losses(kind, sizes, origin_angstrom, (), unequal=True)
        stored: StoredType = number if number != "int16" else "float32"
        write_ome_zarr(place, array, sizes, stored, labels=labels, limits=limits, origin_angstrom=origin_angstrom)
        return ()
    if kind == "em":
        write_em(place, array)
    elif kind == "tiff":
        write_tiff_volume(place, array, (float(sizes[0]), float(sizes[1]), float(sizes[2])))
    elif kind == "hdf":
        origin = {f"origin_{axis}": float(v) for axis, v in zip("xyz", origin_angstrom, strict=True)}
        _module("hdf", place).write_hdf(
            place, array, voxel_size_angstrom=float(sizes[0]), as_images=not is_volume, attributes=origin
        )
    else:
        amira = _module("amira", place)
        values = array.astype(_whole_type(array)) if is_labels else array
        names = [f"label {n}" for n in range(int(values.max()) + 1)] if is_labels else []
        amira.write_amira_volume(place, values, tuple(sizes), origin_angstrom=tuple(origin_angstrom), materials=names)
    return losses(kind, sizes, origin_angstrom, labels)


def check_target(place: Path, dtype: str | None) -> VolumeFormat:
    """The format of a file to be written.

    Raises
    ------
    InputError : one that is only read, or a number type that it does not have
    FormatError : no volume that is known
    """
    kind = volume_format(place)
    if kind in READ_ONLY or is_compressed(place):
        raise InputError(f"`{place.name}` cannot be written; files of this kind are only read. Choose .mrc or .zarr.")
    known = {"mrc": ("float32", "float16", "int8", "int16"), "zarr": ("float32", "float16", "int8")}.get(
        kind, ("float32",)
    )
    if dtype is not None and dtype not in known:
        raise InputError(f"`{place.name}` cannot hold {dtype}; expected {' or '.join(known)}.")
    return kind


def losses(
    kind: VolumeFormat, sizes: Sequence[float], origin: Sequence[float], labels: Sequence[str], *, unequal: bool = False
) -> tuple[str, ...]:
    """Sentences on what a format does not keep of what there is."""
    lost = []
    if kind == "em":
        lost.append(f"EM files keep no voxel size: {sizes[0]:g} A was lost. Give it again where the file is used.")
    if (kind == "hdf" or unequal) and max(sizes) > 1.001 * min(sizes):
        lost.append(f"One voxel size is kept, {sizes[0]:g} A; along y and z it was {sizes[1]:g} and {sizes[2]:g} A.")
    if (kind in ("em", "tiff") or unequal) and any(origin):
        lost.append(f"The origin of {', '.join(f'{v:g}' for v in origin)} A was lost.")
    if (kind in ("em", "tiff", "hdf", "amira") or unequal) and labels:
        lost.append(f"{len(labels)} lines of text in the header were lost.")
    return tuple(lost)


def _whole_type(array: NDArray[Any]) -> np.dtype[Any]:
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high < 2**32) or (array.dtype.kind == "f" and (np.rint(array) != array).any()):
        raise InputError(f"Values from {low:g} to {high:g} are no labels; expected whole numbers from 0.")
    return np.dtype(np.uint8 if high < 256 else np.uint16 if high < 65536 else np.uint32)
