"""EM files of the TOM and AV3 toolboxes: (z, y, x) as stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emfile.write import write as emfile_write
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import atomic_path
from eucentric.io.findings import Finding
from eucentric.typing import PathLike

_write: Callable[..., None] = emfile_write
EM_HEADER_BYTES = 512
_TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
_COMPLEX = (3, 8)
_BIG_ENDIAN_MACHINES = (0, 3, 5)
_PERSONAL_COMPUTER = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class EmHeader:
    """Header of an EM file; it has no reliable pixel size."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    findings: tuple[Finding, ...] = ()
    """What was odd."""


def _sizes(raw: bytes, order: str) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in np.frombuffer(raw[4:16], dtype=order + "i4"))
    return x, y, z


def _parse(raw: bytes, size: int, path: Path) -> EmHeader:
    if len(raw) < EM_HEADER_BYTES:
        raise FormatError(f"`{path}` is {size:,} bytes long; an EM file has a header of {EM_HEADER_BYTES} bytes.")
    machine, code = raw[0], raw[3]
    order = ">" if machine in _BIG_ENDIAN_MACHINES else "<"
    if code in _COMPLEX:
        raise FormatError(
            f"`{path}` holds complex numbers (type {code}): a Fourier transform, not an image. "
            "Give the real-space file it was made from."
        )
    notes = []
    other = "<" if order == ">" else ">"
    if code in _TYPES and not _fits(_sizes(raw, order)) and _fits(_sizes(raw, other)):
        notes.append(f"names a machine ({machine}) of the other order of bytes than its own; it is read by its sizes")
        order = other
    x, y, z = _sizes(raw, order)
    if code not in _TYPES or not _fits((x, y, z)):
        raise FormatError(
            f"`{path}` is not an EM file that can be read: its header gives {x} x {y} x {z} voxels of type {code}; "
            f"expected positive sizes and one of the types {', '.join(map(str, _TYPES))}."
        )
    dtype = np.dtype(order + _TYPES[code])
    expected = EM_HEADER_BYTES + x * y * z * dtype.itemsize
    if size < expected:
        whole = max(size - EM_HEADER_BYTES, 0) // (x * y * dtype.itemsize)
        raise FormatError(
            f"`{path}` ends after section {whole} of {z} (the file is {size:,} bytes; its header says {expected:,}). "
            "Copy it again."
        )
    if size > expected:
        notes.append(f"has {size - expected:,} bytes after its last voxel")
    findings = tuple(Finding(severity="warning", text=f"`{path}` {note}.") for note in notes)
    return EmHeader(shape=(z, y, x), dtype=dtype, findings=findings)


def _fits(sizes: tuple[int, int, int]) -> bool:
    return all(0 < n < 2**24 for n in sizes)


def read_em(path: PathLike) -> tuple[NDArray[Any], EmHeader]:
    """Voxels, as a read-only memory map (z, y, x), and header.

    Raises
    ------
    InputError : no such file
    FormatError : not an EM file, or shorter than its header says
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    with place.open("rb") as file:
        raw = file.read(EM_HEADER_BYTES)
    header = _parse(raw, place.stat().st_size, place)
    return np.memmap(place, dtype=header.dtype, mode="r", offset=EM_HEADER_BYTES, shape=header.shape), header


def write_em(path: PathLike, array: NDArray[Any]) -> None:
    """Write (z, y, x) or (y, x) as float32.

    Raises
    ------
    ShapeError : not two or three dimensions
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    whole = np.asarray(array, dtype="<f4")
    if whole.ndim not in (2, 3) or math.prod(whole.shape) == 0:
        raise ShapeError(f"An array of shape {whole.shape} cannot be an EM file; expected (y, x) or (z, y, x).")
    volume = whole if whole.ndim == 3 else whole[None]
    with atomic_path(path) as temporary:
        _write(temporary, np.ascontiguousarray(volume), header_params={"machine": _PERSONAL_COMPUTER})


def validate_em(path: PathLike) -> list[Finding]:
    """Everything wrong with a file; empty where nothing is."""
    try:
        array, header = read_em(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    broken = sum(int(np.count_nonzero(~np.isfinite(section))) for section in array)
    told = f"`{path}` holds {broken:,} values that are not numbers."
    return [*header.findings, *([Finding(severity="error", text=told)] if broken else [])]
