"""OME-Zarr 0.5: a volume and its pyramid of coarser copies, in a folder that viewers read piece by piece.

Arrays are (z, y, x) as in the MRC files. Level 0 has its first voxel at the origin, 0 as a rule; a voxel of a coarser level is the
mean of 2 x 2 x 2, so its centre lies half a voxel further, which the level's translation says. Reference: OME-NGFF
specification 0.5, https://ngff.openmicroscopy.org/0.5/; Moore et al., Histochem. Cell Biol. 160:223 (2023),
doi:10.1007/s00418-023-02209-1. The scale of stored numbers is kept as CF conventions have it (`scale_factor`, `add_offset`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.findings import Finding
from eucentric.io.stored_values import true_values
from eucentric.typing import PathLike

AXES = ("z", "y", "x")
OWN_ATTRIBUTE = "eucentric"
ZARR_DAMAGE = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    RuntimeError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
)
"""What the library raises on damaged metadata and chunks."""
_ANGSTROM = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4, "picometer": 0.01, "millimeter": 1e7, "meter": 1e10}


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeZarrHeader:
    """What the metadata say of one level."""

    shape: tuple[int, int, int]
    """(z, y, x) of the array."""
    voxel_size_angstrom: tuple[float, float, float] | None
    """(x, y, z); None where the axes have no unit of length."""
    first_voxel_angstrom: tuple[float, float, float] | None
    """Where the centre of voxel 0 lies, (x, y, z); None as above."""
    level: int
    level_shapes: tuple[tuple[int, int, int], ...]
    dtype: np.dtype[Any]
    """As stored."""
    scale: float
    """True value = stored value * scale + offset; already applied to the array."""
    offset: float
    clipped: int
    """Voxels of level 0 that lay outside the limits of int8."""
    labels: tuple[str, ...]
    version: str


def _open_image(path: PathLike) -> tuple[zarr.Group, Mapping[str, Any], Mapping[str, Any]]:
    """The group, what describes its first image, and all its attributes."""
    place = Path(path)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Check the name and the folder.")
    if not place.is_dir():
        raise InputError(f"`{place}` is a file; expected the folder of an OME-Zarr image.")
    try:
        group = zarr.open_group(place, mode="r")
        attributes: Mapping[str, Any] = group.attrs.asdict()
        ome = attributes.get("ome", attributes)  # up to version 0.4 the metadata lay bare
        image = ome["multiscales"][0]
        return group, {"version": ome.get("version", image.get("version", "")), **image}, attributes
    except PermissionError as error:
        raise InputError(f"`{place}` cannot be read: permission denied. Ask its owner for the right to.") from error
    except ZARR_DAMAGE as error:
        raise FormatError(
            f"`{place}` is not an OME-Zarr image: {type(error).__name__} {error}. "
            "Give the folder that holds the multiscales metadata, not one of its levels."
        ) from error


def _place_of_level(
    image: Mapping[str, Any], level: int
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Voxel size and first voxel (x, y, z) in A, None without a unit of length; ValueError where they make no sense."""
    axes = image["axes"]
    if [axis["name"] for axis in axes] != list(AXES):
        raise ValueError(f"its axes are {', '.join(axis['name'] for axis in axes)}; expected z, y, x")
    scale, first = np.ones(3), np.zeros(3)
    steps = [*image["datasets"][level]["coordinateTransformations"], *image.get("coordinateTransformations", [])]
    for step in steps:
        if step["type"] == "scale":
            values = np.array(step["scale"], dtype=np.float64)
            scale, first = scale * values, first * values
        elif step["type"] == "translation":
            first = first + np.array(step["translation"], dtype=np.float64)
        elif step["type"] != "identity":
            raise ValueError(f"it has a transformation of type {step['type']}; expected scale and translation")
    if scale.shape != (3,) or first.shape != (3,) or not (scale > 0).all():
        raise ValueError(f"its voxel size is {scale.tolist()}; expected three positive numbers")
    units = [_ANGSTROM.get(axis.get("unit", "")) for axis in axes]
    if None in units:
        return None
    in_angstrom = np.array(units, dtype=np.float64)
    z, y, x = (scale * in_angstrom).tolist()
    first_z, first_y, first_x = (first * in_angstrom).tolist()
    return (x, y, z), (first_x, first_y, first_z)


def _level(path: PathLike, level: int) -> tuple[zarr.Array[Any], OmeZarrHeader]:
    group, image, attributes = _open_image(path)
    try:
        arrays = [_array(group, dataset["path"]) for dataset in image["datasets"]]
        if not 0 <= level < len(arrays):
            raise InputError(f"Level {level} of `{path}` was asked for; it has the levels 0 to {len(arrays) - 1}.")
        place = _place_of_level(image, level)
        shapes = tuple((a.shape[0], a.shape[1], a.shape[2]) for a in arrays)
        own = attributes.get(OWN_ATTRIBUTE, {})
        array = arrays[level]
        header = OmeZarrHeader(
            shape=shapes[level],
            voxel_size_angstrom=None if place is None else place[0],
            first_voxel_angstrom=None if place is None else place[1],
            level=level,
            level_shapes=shapes,
            dtype=array.dtype,
            scale=float(str(array.attrs.get("scale_factor", 1.0))),
            offset=float(str(array.attrs.get("add_offset", 0.0))),
            clipped=int(own.get("clipped", 0)),
            labels=tuple(own.get("labels", ())),
            version=str(image["version"]),
        )
    except InputError:
        raise
    except ZARR_DAMAGE as error:
        raise FormatError(
            f"The metadata of `{path}` cannot be used: {error}. Write it again with the program that made it."
        ) from error
    try:
        missing = _missing_files(array) if OWN_ATTRIBUTE in attributes else 0
    except ZARR_DAMAGE as error:
        raise FormatError(f"`{path}` is damaged: {error}. Copy it again from where it was made.") from error
    if missing:
        raise FormatError(
            f"`{path}` lacks {missing} of its files for level {level}. Copy it again from where it was made."
        )
    return array, header


def _missing_files(array: zarr.Array[Any]) -> int:
    """Other programs leave out chunks that hold zeros alone; the writer here leaves out none."""
    files = array.shards or array.chunks
    expected = math.prod(-(-n // f) for n, f in zip(array.shape, files, strict=True))
    per_file = math.prod(f // c for f, c in zip(files, array.chunks, strict=True))
    return expected - array.nchunks_initialized // per_file


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array) or array.ndim != 3:
        raise ValueError(f"`{name}` is not an array of three dimensions")
    return array


class OpenLevel:
    """One level of an image, read in parts.

    Parameters
    ----------
    path, level : as `read_ome_zarr`, with its errors
    """

    def __init__(self, path: PathLike, level: int = 0) -> None:
        self._path, self._level = path, level
        self._array, self.header = _level(path, level)
        self.chunk_depth = int(self._array.chunks[0])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Sections `start` to `stop` (without it) as stored; FormatError where they are damaged."""
        try:
            return np.asarray(self._array[start:stop])
        except ZARR_DAMAGE as error:
            raise FormatError(f"Level {self._level} of `{self._path}` is damaged: {error}. Copy it again.") from error


def read_ome_zarr_header(path: PathLike, level: int = 0) -> OmeZarrHeader:
    """The metadata of one level; errors as `read_ome_zarr`."""
    return _level(path, level)[1]


def read_ome_zarr(path: PathLike, level: int = 0, *, as_stored: bool = False) -> tuple[NDArray[Any], OmeZarrHeader]:
    """Voxels and metadata of one level of an OME-Zarr image (0.4 or 0.5) with the axes z, y, x.

    Parameters
    ----------
    path : the folder
    level : 0 is the finest
    as_stored : leave scale and offset to the caller

    Returns
    -------
    array : (z, y, x) in memory, in the stored number type; float32 true values where it carries a scale
    header : the metadata

    Raises
    ------
    InputError : no such folder or level
    FormatError : not an OME-Zarr image, other axes, or damaged
    """
    stored, header = _level(path, level)
    try:
        array = np.asarray(stored[...])
    except ZARR_DAMAGE as error:
        raise FormatError(f"Level {level} of `{path}` is damaged: {error}. Copy it again.") from error
    if not as_stored and (header.scale, header.offset) != (1.0, 0.0):
        array = true_values(array, header.scale, header.offset)
    return array, header


def validate_ome_zarr(path: PathLike) -> list[Finding]:
    """Everything odd about an image, all levels read; what cannot be read gives one `error`."""
    try:
        header = read_ome_zarr_header(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    findings = []
    if header.version not in ("0.4", "0.5"):
        findings.append(f"is of version `{header.version}`; 0.4 and 0.5 are known")
    if header.voxel_size_angstrom is None:
        findings.append("holds no unit of length")
    for finer, coarser in zip(header.level_shapes, header.level_shapes[1:], strict=False):
        if any(c > f for f, c in zip(finer, coarser, strict=True)):
            findings.append(f"has a level of shape {coarser} after one of {finer}; expected ever coarser ones")
    found = [Finding(severity="warning", text=f"`{path}` {text}.") for text in findings]
    for level in range(len(header.level_shapes)):
        found.extend(_findings_of_level(path, level))
    return found


def _findings_of_level(path: PathLike, level: int) -> list[Finding]:
    found = []
    try:
        array, _ = _level(path, level)
        names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else AXES
        if tuple(names or ()) != AXES:
            found.append(
                Finding(severity="warning", text=f"Level {level} of `{path}` does not name its dimensions z, y, x.")
            )
        depth = (array.shards or array.chunks)[0]
        broken = 0
        for start in range(0, array.shape[0], depth):
            broken += int(np.count_nonzero(~np.isfinite(np.asarray(array[start : start + depth]))))
    except FormatError as error:
        return [Finding(severity="error", text=str(error))]
    except ZARR_DAMAGE as error:
        return [Finding(severity="error", text=f"Level {level} of `{path}` is damaged: {error}. Copy it again.")]
    if broken:
        text = f"Level {level} of `{path}` holds {broken:,} values that are not numbers."
        found.append(Finding(severity="error", text=text))
    return found
