"""Tables of the defocus in focus images, taken beside the specimen on the tilt axis.

A *focus table* is text, one focus image a line: acquisition, position, defocus, between blanks, commas or semicolons. A
heading may name the columns, in any order: `acquisition` (the tilt image taken at that time, counted from 1; 3.5 lies
between the third and the fourth) or `tilt` (degrees of that tilt image), `position` (A along the tilt axis from the middle
of the tilt images, either way but the same in all lines), `defocus` (A, underfocus positive). Empty lines and lines that
begin with `#` are passed over. In a STAR table the columns are `eucAcquisitionIndex` (from 0) or
`rlnTomoNominalStageTiltAngle`, `eucFocusPositionAngst`, and `rlnDefocusU` with or without `rlnDefocusV`.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.star import read_star_text
from eucentric.typing import PathLike

_COLUMNS = ("acquisition", "tilt", "position", "defocus")
_DEFAULT = ("acquisition", "position", "defocus")


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusImage:
    """The defocus of one focus image."""

    defocus_angstrom: float
    """Underfocus positive."""
    position_angstrom: float
    """Along the tilt axis, from the middle of the tilt images."""
    acquisition: float | None = None
    """Which tilt image was taken at that time, from 0; in between for one taken between two."""
    tilt_deg: float | None = None
    """Angle of that tilt image, where no acquisition is known."""


def read_focus_table(path: PathLike) -> tuple[FocusImage, ...]:
    """Focus images of a table, text or STAR.

    Raises
    ------
    InputError : no such file
    FormatError : a line that is not of such numbers, a missing column, or no line at all; the message names it
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"The focus table `{place}` does not exist, or is not a file. Check the name and the folder.")
    return _read_star(place) if place.suffix.lower() == ".star" else _read_text(place)


def _read_text(place: Path) -> tuple[FocusImage, ...]:
    columns: tuple[str, ...] = ()
    found = []
    for number, raw in enumerate(place.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = [w for w in re.split(r"[\s,;]+", raw.partition("#")[0].strip()) if w]
        if not words:
            continue
        if not columns:
            columns = tuple(w.lower() for w in words) if words[0].lower() in _COLUMNS else _DEFAULT
            _check_columns(columns, place)
            if columns != _DEFAULT or words[0].lower() in _COLUMNS:
                continue
        try:
            values = [float(w) for w in words]
        except ValueError:
            values = []
        if len(values) != len(columns) or not all(math.isfinite(v) for v in values):
            raise FormatError(
                f"Line {number} of `{place}` is `{raw.strip()[:60]}`; expected {', '.join(columns)}. Correct the line."
            )
        row = dict(zip(columns, values, strict=True))
        found.append(
            FocusImage(
                defocus_angstrom=row["defocus"],
                position_angstrom=row["position"],
                acquisition=row["acquisition"] - 1.0 if "acquisition" in row else None,
                tilt_deg=row.get("tilt"),
            )
        )
    return _some(found, place)


def _check_columns(columns: tuple[str, ...], place: Path) -> None:
    unknown = [c for c in columns if c not in _COLUMNS]
    if unknown or len(set(columns)) < len(columns) or not {"position", "defocus"} <= set(columns) or len(columns) < 3:
        raise FormatError(
            f"The heading of `{place}` is `{' '.join(columns)}`; expected position, defocus, and acquisition or tilt."
        )


def _read_star(place: Path) -> tuple[FocusImage, ...]:
    tables = read_star_text(place)
    table = next((t for t in tables.values() if labels.FOCUS_POSITION in t and "rlnDefocusU" in t), None)
    if table is None or not {labels.ACQUISITION, "rlnTomoNominalStageTiltAngle"} & table.keys():
        raise FormatError(
            f"`{place}` has no table with {labels.FOCUS_POSITION}, rlnDefocusU, and {labels.ACQUISITION} or "
            "rlnTomoNominalStageTiltAngle, as a table of focus images needs."
        )

    def number(label: str, row: int) -> float | None:
        text = table[label][row] if label in table else None
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FormatError(f"Row {row + 1} of `{place}` says `{text[:60]}` for `{label}`; expected a number.")
        return value

    found = []
    for row in range(len(table["rlnDefocusU"])):
        u, position = number("rlnDefocusU", row), number(labels.FOCUS_POSITION, row)
        v = number("rlnDefocusV", row)
        acquisition, tilt = number(labels.ACQUISITION, row), number("rlnTomoNominalStageTiltAngle", row)
        if u is None or position is None or (acquisition is None and tilt is None):
            raise FormatError(f"Row {row + 1} of `{place}` lacks a value; expected when, where and the defocus.")
        found.append(
            FocusImage(
                defocus_angstrom=u if v is None else 0.5 * (u + v),
                position_angstrom=position,
                acquisition=acquisition,
                tilt_deg=tilt,
            )
        )
    return _some(found, place)


def _some(found: list[FocusImage], place: Path) -> tuple[FocusImage, ...]:
    if not found:
        raise FormatError(f"`{place}` holds no line with a focus image: acquisition, position and defocus.")
    return tuple(found)
