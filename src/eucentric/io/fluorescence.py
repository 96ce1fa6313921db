"""Light-microscope images: TIFF with channels and sections, as OME, ImageJ and plain writers make them."""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from eucentric.errors import FormatError
from eucentric.io.particle_columns import need_file
from eucentric.io.tiff import refuse_missing_strips
from eucentric.typing import PathLike

_UNITS_ANGSTROM = {
    "pm": 0.01, "å": 1.0, "angstrom": 1.0, "nm": 10.0, "µm": 1e4, "um": 1e4, "micron": 1e4, "microns": 1e4, "mm": 1e7,
}  # fmt: skip
_NAME = re.compile(r"[^A-Za-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LightImage:
    """An image or stack of several channels."""

    values: NDArray[np.float32]
    """(channel, z, y, x), y up."""
    channels: tuple[str, ...]
    """Names that files can have."""
    pixel_size_angstrom: float | None
    """None where the file does not tell."""
    step_angstrom: float | None
    """Between sections; None where there is one, or the file does not tell."""


def read_light_image(path: PathLike) -> LightImage:
    """A TIFF image; of several times the first, of several images the first.

    Raises
    ------
    InputError : no such file
    FormatError : no TIFF, a colour photograph, or axes that are not known
    """
    place = need_file(path)
    try:
        with tifffile.TiffFile(place) as tif:
            series = tif.series[0]
            refuse_missing_strips(tif.pages.first, place)
            values = _as_channels(np.asarray(series.asarray()), series.axes, place)
            about = tiff_calibration(tif, values.shape[0])
    except (
        tifffile.TiffFileError, ValueError, KeyError, IndexError, OSError, TypeError, RuntimeError, ArithmeticError, AttributeError,
        MemoryError, struct.error, zlib.error, AssertionError,
    ) as error:  # fmt: skip
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"`{place}` is not a TIFF image that can be read: {type(error).__name__}: {error}. "
            "Save it as TIFF from the microscope's program."
        ) from error
    if not np.isfinite(values).all():
        raise FormatError(f"`{place}` holds values that are not numbers.")
    names, pixel, step = about
    return LightImage(values=values, channels=names, pixel_size_angstrom=pixel, step_angstrom=step)


def _as_channels(array: NDArray[Any], axes: str, place: Path) -> NDArray[np.float32]:
    """(channel, z, y, x) of any order of axes; rows are stored top first."""
    if "S" in axes and array.shape[axes.index("S")] in (3, 4):
        raise FormatError(
            f"`{place}` is a colour picture. Export the channels as grey values (OME-TIFF or a stack), so that intensities "
            "are kept."
        )
    for name in [a for a in axes if a not in "CZYX"]:
        if name in "IQ" and "Z" not in axes:  # a plain stack of pages
            axes = axes.replace(name, "Z")
            continue
        array = np.take(array, 0, axis=axes.index(name))
        axes = axes.replace(name, "", 1)
    if "Y" not in axes or "X" not in axes:
        raise FormatError(f"`{place}` has axes {axes}; expected at least y and x.")
    for name in "CZ":
        if name not in axes:
            array, axes = array[None], name + axes
    order = [axes.index(name) for name in "CZYX"]
    return np.ascontiguousarray(np.transpose(array, order)[:, :, ::-1].astype(np.float32))


def tiff_calibration(tif: tifffile.TiffFile, count: int) -> tuple[tuple[str, ...], float | None, float | None]:
    """Channels, pixel size and step. The resolution of plain TIFF is that of a printer: only OME's and ImageJ's are believed."""
    names: list[str] = []
    pixel = step = None
    if tif.is_ome and tif.ome_metadata:
        names, pixel, step = _ome(tif.ome_metadata)
    elif tif.is_imagej and tif.imagej_metadata:
        values: dict[str, Any] = tif.imagej_metadata
        unit = _UNITS_ANGSTROM.get(_unit_name(str(values.get("unit", ""))))
        tag = tif.pages.first.tags.get("XResolution")
        if unit is not None and tag is not None and all(tag.value):
            pixel = unit * float(tag.value[1]) / float(tag.value[0])
            step = unit * float(values["spacing"]) if values.get("spacing") else None
        labels = values.get("Labels") or []
        names = [str(one) for one in labels] if len(labels) == count else []
    return _channel_names(names, count), pixel, step


def _ome(text: str) -> tuple[list[str], float | None, float | None]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return [], None, None
    pixels = next((e for e in root.iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return [], None, None

    def length(axis: str) -> float | None:
        unit = _UNITS_ANGSTROM.get(_unit_name(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        value = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        return unit * value if unit is not None and value > 0 else None

    names = [e.get("Name") or "" for e in pixels if e.tag.endswith("}Channel")]
    return names, length("X"), length("Z")


def _unit_name(text: str) -> str:
    return text.replace("\\u00B5", "µ").replace("μ", "µ").strip().lower()


def _channel_names(names: list[str], count: int) -> tuple[str, ...]:
    plain = [_NAME.sub("-", name).strip("-") for name in names]
    if len(plain) != count or len(set(plain)) != count or not all(plain):
        return tuple(f"channel{i + 1}" for i in range(count))
    return tuple(plain)
