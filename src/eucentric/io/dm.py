"""DigitalMicrograph images and stacks (`.dm3`, `.dm4`): (section, y, x), y up.

The file's rows, stored top first, are reversed.
"""

import contextlib
import importlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.typing import PathLike

_ANGSTROM = {"m": 1e10, "mm": 1e7, "µm": 1e4, "μm": 1e4, "um": 1e4, "nm": 10.0, "å": 1.0, "a": 1.0, "pm": 0.01}


@dataclass(frozen=True, slots=True, kw_only=True)
class DmHeader:
    """Calibrations of a DigitalMicrograph file."""

    shape: tuple[int, int, int]
    pixel_size_angstrom: float | None
    """None where the file is not calibrated in a unit of length."""
    section_values: tuple[float, ...] | None
    """What the sections are calibrated to, such as their tilt angles; None for a single image or no calibration."""
    section_unit: str
    """Unit of `section_values`, such as `deg`."""
    voltage_kv: float | None
    scanning: bool
    """Whether the microscope was scanning (STEM): then no contrast transfer function applies."""


def _calibrated_length(scale: float, unit: str) -> float | None:
    factor = _ANGSTROM.get(unit.strip().lower())
    length = None if factor is None else abs(scale) * factor
    return length if length is not None and math.isfinite(length) and length > 0 else None


def _voltage(microscope: Mapping[str, Any]) -> float | None:
    volts = microscope.get("Voltage")
    return float(volts) / 1e3 if isinstance(volts, int | float) and volts > 0 else None


def _library() -> Any:
    """The reader of nionswift-io, which takes a second to import and is rarely needed."""
    return importlib.import_module("nionswift_plugin.DM_IO.dm3_image_utils")


def read_dm(path: PathLike) -> tuple[NDArray[Any], DmHeader]:
    """Image or stack of a `.dm3` or `.dm4` file.

    Returns
    -------
    array : (section, y, x), y up, in the file's number type; one section for a single image
    header : pixel size, and the calibration of the sections

    Raises
    ------
    InputError : no such file
    FormatError : damaged, or not an image or stack of grey images
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        # on damage the library prints what it met
        with place.open("rb") as file, contextlib.redirect_stdout(io.StringIO()):
            image = _library().load_image(file)
        data = np.asarray(image.data)
    except Exception as error:  # which is what the library itself raises
        raise FormatError(
            f"`{place}` ({place.stat().st_size:,} bytes) is not a readable DigitalMicrograph file, or is damaged. "
            "Copy it again, or export it as MRC."
        ) from error
    if data.ndim not in (2, 3) or data.dtype.kind not in "iuf":
        raise FormatError(f"`{place}` holds {data.ndim}-dimensional {data.dtype} data; expected an image or a stack.")
    calibrations = list(image.dimensional_calibrations)
    x = calibrations[-1]
    pixel_size = _calibrated_length(float(x.scale), str(x.units or ""))
    sections = calibrations[0] if data.ndim == 3 else None
    values = None
    if sections is not None and sections.units:
        values = tuple(float(sections.offset + i * sections.scale) for i in range(data.shape[0]))
    stack = data[None] if data.ndim == 2 else data
    microscope = (image.metadata or {}).get("Microscope Info", {})
    header = DmHeader(
        shape=(stack.shape[0], stack.shape[1], stack.shape[2]),
        pixel_size_angstrom=pixel_size,
        section_values=values,
        section_unit=str(sections.units or "") if sections is not None else "",
        voltage_kv=_voltage(microscope),
        scanning=str(microscope.get("Operation Mode", "")).upper() == "SCANNING",
    )
    return np.ascontiguousarray(stack[:, ::-1]), header
