"""HDF files of EMAN2: images and volumes, (z, y, x) as stored.

Image k is the data set ``/MDF/images/k/image``; its header is the attributes ``EMAN.*`` of the group around it, and
``imageid_max`` of ``/MDF/images`` is the highest k. Numbers are float32, or whole numbers of 8 or 16 bits which stand for
``minimum + stored / (2^bits - 1) * (maximum - minimum)`` (stored_rendermin, stored_rendermax, stored_renderbits). A Transform is a
compound of twelve floats, row by row; texts are of fixed length, which is the only kind that EMAN2 reads
(EMAN2's sources, `libEM/hdfio2.cpp`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import atomic_path
from eucentric.io.findings import Finding
from eucentric.typing import FloatArray, PathLike

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_IMAGES = "MDF/images"
_PREFIX = "EMAN."
_BEST_DEFLATE = 1100  # no deflated block is smaller than its content by more
_LARGEST_TEXT = 1 << 20
_MATRIX = np.dtype([(f"{r}{c}", "<f4") for r in range(3) for c in range(4)])
_STANDARD = tuple(
    getattr(h5py.h5t, name)
    for name in (
        *(f"STD_{sign}{bits}{order}" for sign in "IU" for bits in (8, 16, 32, 64) for order in ("LE", "BE")),
        *(f"IEEE_F{bits}{order}" for bits in (32, 64) for order in ("LE", "BE")),
    )
)
_BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
    IndexError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HdfHeader:
    """What an HDF file says about one of its images."""

    shape: tuple[int, int, int]
    """(z, y, x)"""
    count: int
    """Images in the file."""
    voxel_size_angstrom: tuple[float, float, float] | None
    """(x, y, z); None where the header holds no pixel size."""
    bits: int
    """Of the whole numbers that the values were reduced to; 0 where they were not."""
    attributes: Mapping[str, Any]
    """EMAN2's header without `EMAN.`: numbers, texts, arrays, and (3, 4) arrays for Transforms."""


def read_hdf(path: PathLike, index: int = 0) -> tuple[NDArray[Any], HdfHeader]:
    """Values (z, y, x) of one image, reduced ones scaled back to float32, and its header.

    Raises
    ------
    InputError : no such file, or no such image in it
    FormatError : not an HDF file of EMAN2, a damaged one, or one shorter than it says
    """
    place = _need_hdf(path)
    try:
        with h5py.File(place, "r") as file:
            group, count = _group(file, place, index)
            data = _data(group, place)
            header = _header(group, data, count)
            stored = np.asarray(data[()])
    except (InputError, FormatError):
        raise
    except _BROKEN as error:
        raise _damaged(place, error) from error
    return _true_values(stored.reshape(header.shape), header), header


def read_hdf_header(path: PathLike, index: int = 0) -> HdfHeader:
    """The header of one image; errors as `read_hdf`."""
    return read_hdf_headers(path, (index,))[0]


def read_hdf_headers(path: PathLike, indices: tuple[int, ...] | None = None) -> list[HdfHeader]:
    """The headers of some images, or of all; errors as `read_hdf`."""
    place = _need_hdf(path)
    try:
        with h5py.File(place, "r") as file:
            chosen = range(_group(file, place, 0)[1]) if indices is None else indices
            out = []
            for index in chosen:
                group, count = _group(file, place, index)
                out.append(_header(group, _data(group, place), count))
            return out
    except (InputError, FormatError):
        raise
    except _BROKEN as error:
        raise _damaged(place, error) from error


def _need_hdf(path: PathLike) -> Path:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    with place.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise FormatError(
                f"`{place}` is not an HDF5 file: it does not begin as one. Expected one that EMAN2 wrote."
            )
    return place


def _damaged(place: Path, error: Exception) -> FormatError:
    return FormatError(
        f"`{place}` is damaged, or cut short: {str(error).strip()[:120] or 'it cannot be read'}. Copy it again."
    )


def _child(parent: h5py.Group, name: str) -> Any:
    """A member stored in the same file; None where there is none (links to elsewhere are not followed)."""
    link = parent.get(name, getlink=True)
    return parent[name] if isinstance(link, h5py.HardLink) else None


def _group(file: h5py.File, place: Path, index: int) -> tuple[h5py.Group, int]:
    """The group of an image, and how many images there are."""
    mdf = _child(file, "MDF")
    images = _child(mdf, "images") if isinstance(mdf, h5py.Group) else None
    if not isinstance(images, h5py.Group):
        raise FormatError(f"`{place}` is an HDF5 file, but not one of EMAN2: it has no group /{_IMAGES}.")
    count = len(images)
    group = _child(images, str(index)) if index >= 0 else None
    if not isinstance(group, h5py.Group):
        raise InputError(f"`{place}` has no image {index}; it holds {count}, counted from 0.")
    return group, count


def _is_standard(kind: Any) -> bool:
    """Whether numbers are of one of the usual types: converting a damaged description of them can break the HDF library."""
    return any(kind.equal(one) for one in _STANDARD)


def _is_transform(kind: Any) -> bool:
    return bool(
        kind.get_size() == _MATRIX.itemsize
        and kind.get_nmembers() == len(_MATRIX.names or ())
        and all(kind.get_member_offset(i) == 4 * i and _is_standard(kind.get_member_type(i)) for i in range(12))
        and all(kind.get_member_type(i).get_size() == 4 for i in range(12))
    )


def _data(group: h5py.Group, place: Path) -> h5py.Dataset:
    """The values of an image, after what they claim was compared with the length of the file."""
    data = _child(group, "image")
    if not isinstance(data, h5py.Dataset):
        raise FormatError(f"`{place}` has no values for one of its images.")
    if not _is_standard(data.id.get_type()):
        raise FormatError(f"`{place}` holds values of a type that is not known; expected numbers in 2D or 3D.")
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8 or not 1 <= data.ndim <= 3 or 0 in data.shape:
        raise FormatError(
            f"`{place}` holds values of type {data.dtype} and shape {data.shape}; expected numbers in 2D or 3D."
        )
    if data.is_virtual or data.external:
        raise FormatError(f"`{place}` keeps its values in other files. Copy them into one with EMAN2 first.")
    claimed = math.prod(data.shape) * data.dtype.itemsize
    there = min(data.id.get_storage_size(), place.stat().st_size)
    if claimed > there * (1 if data.chunks is None else _BEST_DEFLATE):
        raise FormatError(
            f"`{place}` is cut short, or damaged: an image of {' x '.join(map(str, data.shape[::-1]))} voxels takes {claimed:,} "
            f"bytes, and {there:,} are there. Copy it again."
        )
    return data


def _header(group: h5py.Group, data: h5py.Dataset, count: int) -> HdfHeader:
    attributes = {}
    for name in group.attrs:
        if name.startswith(_PREFIX):
            try:
                attributes[name[len(_PREFIX) :]] = _attribute(group, name)
            except FormatError:
                raise
            except _BROKEN:  # an entry of an unknown kind says nothing
                continue
    sizes = tuple(_number(attributes.get(f"apix_{a}"), 0.0) for a in "xyz")
    z, y, x = (1,) * (3 - data.ndim) + tuple(data.shape)
    bits = int(_number(attributes.get("stored_renderbits"), 0.0))
    return HdfHeader(
        shape=(z, y, x),
        count=count,
        voxel_size_angstrom=(sizes[0], sizes[1], sizes[2]) if min(sizes) > 0 else None,
        bits=bits if 0 < bits <= 16 and data.dtype.kind in "iu" else 0,
        attributes=attributes,
    )


def _attribute(group: h5py.Group, name: str) -> Any:
    identity = group.attrs.get_id(name)
    if identity.get_storage_size() > _LARGEST_TEXT:
        raise ValueError("too large")
    kind = identity.get_type()
    if kind.get_class() == h5py.h5t.COMPOUND and not _is_transform(kind):
        raise FormatError(
            f"The entry {name} of an HDF file's header is no Transform of EMAN2, or is damaged. Copy the file again."
        )
    if kind.get_class() not in (h5py.h5t.STRING, h5py.h5t.COMPOUND) and not _is_standard(kind):
        raise ValueError("of another type")
    value = group.attrs[name]
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).split(b"\0")[0].decode("latin-1")
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.names is not None:  # a Transform
        flat = np.array([float(array.reshape(-1)[0][field]) for field in array.dtype.names])
        return flat.reshape(3, 4) if flat.size == 12 else flat
    if array.dtype.kind == "S":
        return bytes(array.reshape(-1)[0]).decode("latin-1")
    if array.size != 1:
        return array
    if array.dtype == np.int8:  # truth is kept as a letter
        return bool(array.reshape(-1)[0] == ord("T"))
    return array.reshape(-1)[0].item()


def _number(value: Any, otherwise: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return otherwise
    return number if math.isfinite(number) else otherwise


def _true_values(stored: NDArray[Any], header: HdfHeader) -> NDArray[Any]:
    low = _number(header.attributes.get("stored_rendermin"), 0.0)
    high = _number(header.attributes.get("stored_rendermax"), 0.0)
    if not header.bits or high == low:
        return stored
    step = (high - low) / (2**header.bits - 1)
    return np.asarray(stored.astype(np.float32) * np.float32(step) + np.float32(low))


def write_hdf(
    path: PathLike,
    array: NDArray[Any],
    *,
    voxel_size_angstrom: float,
    bits: int | None = None,
    as_images: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write a volume (z, y, x) or an image (y, x).

    Parameters
    ----------
    bits : 2 to 16: values become whole numbers between the least and the largest, compressed, as EMAN2's `--compressbits`
        does; None for float32
    as_images : every section becomes an image of its own, as EMAN2 keeps tilt series
    attributes : further header entries: numbers, texts, arrays, (3, 4) arrays for Transforms

    Raises
    ------
    ShapeError : not two or three dimensions, or empty
    InputError : another number of bits, a voxel size that is not positive, values that are not finite with `bits`; and as
        `atomic_path`
    BackendError : the disk is full
    """
    whole = np.asarray(array, dtype=np.float32)
    if whole.ndim not in (2, 3) or whole.size == 0:
        raise ShapeError(f"An array of shape {whole.shape} cannot be an HDF image; expected (y, x) or (z, y, x).")
    if bits is not None and not 2 <= bits <= 16:
        raise InputError(f"Values cannot be kept in {bits} bits; expected 2 to 16.")
    if not (math.isfinite(voxel_size_angstrom) and voxel_size_angstrom > 0):
        raise InputError(f"The voxel size is {voxel_size_angstrom:g} A; expected a positive number.")
    if bits is not None and not np.isfinite(whole).all():
        raise InputError("Values that are NaN or infinite cannot be reduced to whole numbers. Leave out `bits`.")
    parts = list(whole) if as_images and whole.ndim == 3 else [whole]
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_group(_IMAGES)
        images.attrs["imageid_max"] = np.array([len(parts) - 1], dtype=np.int32)
        for index, part in enumerate(parts):
            _write_image(images.create_group(str(index)), part, voxel_size_angstrom, bits, attributes or {})


def _write_image(
    group: h5py.Group, part: NDArray[np.float32], size: float, bits: int | None, attributes: Mapping[str, Any]
) -> None:
    image = part[0] if part.ndim == 3 and len(part) == 1 else part
    z, y, x = (1,) * (3 - image.ndim) + image.shape
    entries: dict[str, Any] = {"nx": x, "ny": y, "nz": z, "is_complex": 0}
    entries |= {f"apix_{a}": float(size) for a in "xyz"} | {f"origin_{a}": 0.0 for a in "xyz"}
    if bits is None:
        group.create_dataset("image", data=image)
    else:
        low, high = float(image.min()), float(image.max())
        high = high if high > low else low + 1.0
        stored = np.rint((image.astype(np.float64) - low) / (high - low) * (2**bits - 1))
        rows = min(8, y)
        group.create_dataset(
            "image",
            data=stored.astype(np.uint8 if bits <= 8 else np.uint16),
            chunks=(rows, x) if image.ndim == 2 else (1, rows, x),
            compression="gzip",
            compression_opts=1,
        )
        entries |= {"stored_rendermin": low, "stored_rendermax": high, "stored_renderbits": bits, "stored_truncated": 0}
    for name, value in {**entries, **attributes}.items():
        _write_attribute(group, _PREFIX + name, value)


def _write_attribute(group: h5py.Group, name: str, value: Any) -> None:
    """As EMAN2 does: truth as T or F, arrays of one entry for numbers, closed texts of fixed length."""
    if isinstance(value, str):
        text = value.encode("latin-1", "replace")
        group.attrs.create(name, np.array(text), dtype=np.dtype(f"S{len(text) + 1}"))
        return
    if isinstance(value, bool | np.bool_):
        group.attrs.create(name, np.array([ord("T") if value else ord("F")], dtype=np.int8))
        return
    array: FloatArray | NDArray[Any] = np.asarray(value)
    if array.shape == (3, 4):
        group.attrs.create(name, np.array([tuple(array.ravel().tolist())], dtype=_MATRIX))
        return
    group.attrs.create(name, array.reshape(-1).astype(np.int32 if array.dtype.kind in "iu" else np.float32))


def validate_hdf(path: PathLike) -> list[Finding]:
    """Everything wrong with a file; empty where nothing is."""
    findings: list[Finding] = []
    try:
        headers = read_hdf_headers(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    for index, header in enumerate(headers):
        try:
            array, _ = read_hdf(path, index)
        except (FormatError, InputError) as error:
            findings.append(Finding(severity="error", text=str(error)))
            continue
        if broken := int(np.count_nonzero(~np.isfinite(array))):
            findings.append(
                Finding(
                    severity="error", text=f"Image {index} of `{path}` holds {broken:,} values that are not numbers."
                )
            )
        named = [_number(header.attributes.get(f"n{a}"), n) for a, n in zip("zyx", header.shape, strict=True)]
        if tuple(named) != header.shape:
            findings.append(
                Finding(
                    severity="warning",
                    text=f"Image {index} of `{path}` is {header.shape[::-1]} voxels; its header says {tuple(named[::-1])}.",
                )
            )
    if headers and headers[0].voxel_size_angstrom is None:
        findings.append(Finding(severity="warning", text=f"`{path}` does not tell its voxel size (apix_x)."))
    return findings
