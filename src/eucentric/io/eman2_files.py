"""What EMAN2's files share: JSON, lists (`.lst`), Transforms, and the name of a tomogram in the name of a file.

A Transform is a (3, 4) matrix that moves points: x' = R x + t; in JSON it is ``{"__class__": "Transform", "matrix": [12 numbers]}``,
the numbers as a list or as a text of one. Its Euler angles az, alt, phi stand for ``Rz(-phi) Rx(-alt) Rz(-az)``, and xtilt,
ytilt, ztilt of the kind `xyz` for ``Rz(-ztilt) Ry(-ytilt) Rx(-xtilt)`` [1]_. A list has lines of the same length after three lines
of header: number of the image, its file, JSON; tabs between them [2]_.

References
----------
.. [1] EMAN2's sources, `libEM/transform.cpp` (set_rotation) and `transform.h` (transform)
.. [2] EMAN2's sources, `libpyEM/EMAN2.py` (LSXFile, base_name) and `EMAN2jsondb.py` (obj_to_json)
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from eucentric.errors import FormatError
from eucentric.geometry import rotation_x, rotation_z
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import nearest_rotations, need_file
from eucentric.typing import FloatArray, PathLike

_NUMBERS = (TypeError, ValueError, OverflowError)
_PROPER = 1e-3
_COMMENT = (
    "# This file is in fast LST format. All lines after the next line have exactly the number of characters shown on the next "
    "line. This MUST be preserved if editing."
)


def eman2_name(path: PathLike) -> str:
    """The name that EMAN2 gives to all files of one tomogram: no folder, no ending, nothing from `__` on."""
    stem = PurePosixPath(str(path).replace("\\", "/")).stem
    return stem.split("__")[0].replace("_ptcls", "").replace("_info", "") or stem


def read_eman2_json(path: PathLike) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises
    ------
    InputError : no such file
    FormatError : not JSON, or no object
    """
    place = need_file(path)
    try:
        value = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"`{place}` is not JSON that can be read: {str(error)[:120]}. Copy it again.") from error
    if not isinstance(value, dict):
        raise FormatError(f"`{place}` holds no named entries; expected a JSON object as EMAN2 writes them.")
    return value


def write_eman2_json(path: PathLike, entries: Mapping[str, Any]) -> None:
    """Write a JSON object as EMAN2 does; errors as `write_text_atomic`."""
    write_text_atomic(path, json.dumps(dict(entries), indent=0, sort_keys=True) + "\n")


def number_rows(value: Any, columns: int, what: str, place: PathLike) -> FloatArray:
    """(n, columns) finite numbers of a JSON entry; FormatError where it is anything else."""
    try:
        table = np.array(value, dtype=np.float64)
    except _NUMBERS:
        table = np.full((1,), np.nan)
    if table.size == 0:
        return np.zeros((0, columns))
    if columns == 1 and table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.shape[1] != columns or not np.isfinite(table).all():
        raise FormatError(f"`{what}` of `{place}` is no list of finite numbers, {columns} in each row.")
    return table


def one_number(value: Any) -> float | None:
    """A finite number of a JSON entry, or None."""
    try:
        number = float(value)
    except _NUMBERS:
        return None
    return number if math.isfinite(number) else None


def transform_matrix(value: Any, place: PathLike) -> FloatArray:
    """(3, 4) of a Transform in JSON or in a header: rotation without scale, and translation.

    Raises
    ------
    FormatError : not twelve numbers, or a mirror or a shear
    """
    inner = value.get("matrix") if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and inner is None and {"az", "alt", "phi"} <= set(value):
        return _from_angles(value, place)
    try:
        if isinstance(inner, str):
            inner = json.loads(inner.strip().replace("(", "[").replace(")", "]"))
        matrix = np.array(inner, dtype=np.float64).reshape(3, 4)
    except (*_NUMBERS, RecursionError) as error:
        raise FormatError(f"`{place}` has a Transform that is not twelve numbers: {str(value)[:80]}.") from error
    linear = matrix[:, :3]
    with np.errstate(all="ignore"):
        scale = np.cbrt(np.linalg.det(linear)) if np.isfinite(matrix).all() else 0.0
        proper = 1e-6 < scale < 1e6 and np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() < _PROPER
    if not proper:
        raise FormatError(
            f"`{place}` has a Transform that is no rotation (mirrored, stretched or empty): {str(matrix.tolist())[:80]}."
        )
    return np.hstack([nearest_rotations(linear[None] / scale)[0], matrix[:, 3:]])


def _from_angles(value: Mapping[str, Any], place: PathLike) -> FloatArray:
    numbers = [one_number(value.get(name, 0.0)) for name in ("az", "alt", "phi", "tx", "ty", "tz")]
    if None in numbers:
        raise FormatError(f"`{place}` has a Transform with angles that are not numbers: {str(value)[:80]}.")
    az, alt, phi, *shift = (n or 0.0 for n in numbers)
    return np.hstack([eman2_matrix(az, alt, phi), np.array(shift)[:, None]])


def eman2_matrix(az_deg: float, alt_deg: float, phi_deg: float) -> FloatArray:
    """(3, 3) of EMAN2's Euler angles."""
    return np.asarray(rotation_z(-phi_deg) @ rotation_x(-alt_deg) @ rotation_z(-az_deg))


def transform_entry(matrix: FloatArray) -> dict[str, Any]:
    """The JSON entry of a (3, 4) matrix."""
    return {"__class__": "Transform", "matrix": [float(f"{v:.9g}") for v in np.asarray(matrix).ravel()]}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """A line of an `.lst` file."""

    index: int
    """Of the image in its file, from 0."""
    file: str
    entries: Mapping[str, Any]


def read_lst(path: PathLike) -> list[ListedImage]:
    """The lines of a list, of the fast kind (`#LSX`) or the old one (`#LST`).

    Raises
    ------
    InputError : no such file
    FormatError : not such a list; the message names the line
    """
    place = need_file(path)
    lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() not in ("#LSX", "#LST"):
        raise FormatError(f"`{place}` is not a list of EMAN2: it does not begin with #LSX.")
    found = []
    for number, line in enumerate(lines[1:], 2):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.strip().split("\t")
        try:
            entries = json.loads(words[2]) if len(words) > 2 and words[2].strip().startswith("{") else {}
            found.append(ListedImage(index=int(words[0]), file=words[1], entries=entries))
        except (ValueError, IndexError, RecursionError) as error:
            raise FormatError(
                f"Line {number} of `{place}` is `{line.strip()[:80]}`; expected a number, a file and JSON with tabs between them."
            ) from error
    return found


def write_lst(path: PathLike, images: Sequence[ListedImage]) -> None:
    """Write a fast list; errors as `write_text_atomic`."""
    lines = [
        f"{i.index}\t{i.file}\t{json.dumps(dict(i.entries), sort_keys=True, separators=(',', ':'))}" for i in images
    ]
    length = max((len(line.encode()) for line in lines), default=19) + 1
    body = "".join(line + " " * (length - 1 - len(line.encode())) + "\n" for line in lines)
    write_text_atomic(path, f"#LSX\n{_COMMENT}\n# {length}\n{body}")
