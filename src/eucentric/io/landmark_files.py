"""Pairs of landmarks: a table of comma-separated values with a line of names, or a STAR table."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError
from eucentric.io import labels
from eucentric.io.particle_columns import need_file
from eucentric.io.star import read_star_text, write_star
from eucentric.typing import FloatArray, PathLike

_SIDES = ("fluorescence", "target")
_EXAMPLE = "name,fluorescence_x,fluorescence_y,target_x,target_y"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandmarkPairs:
    """Places of the same things in two images, as the file has them."""

    names: tuple[str, ...]
    moving: FloatArray
    """(landmark, 2 or 3) in the image that is registered: x, y and z where the file has it."""
    fixed: FloatArray
    """(landmark, 2 or 3) in the target."""


def read_landmarks(path: PathLike) -> LandmarkPairs:
    """Landmarks of a file.

    Columns are `fluorescence_x`, `fluorescence_y`, `target_x`, `target_y`, and with z `fluorescence_z`, `target_z`; of a STAR table
    `eucFluorescenceX` and so on. `name` (`eucLandmark`) may be missing.

    Raises
    ------
    InputError : no such file
    FormatError : columns or numbers are missing
    """
    place = need_file(path)
    table = _star(place) if place.suffix.lower() == ".star" else _csv(place)
    count = len(next(iter(table.values()), []))
    if not count:
        raise FormatError(f"`{place}` holds no landmark; expected a line for each below `{_EXAMPLE}`.")
    sides = [_side(table, side, place) for side in _SIDES]
    names = [n or "" for n in table.get("name", [])] or [""] * count
    named = tuple(name.strip() or f"L{i + 1}" for i, name in enumerate(names))
    if len(set(named)) != count:
        twice = sorted({n for n in named if named.count(n) > 1})
        raise FormatError(
            f"`{place}` has several landmarks called {', '.join(twice[:5])}. Give each a name of its own."
        )
    return LandmarkPairs(names=named, moving=sides[0], fixed=sides[1])


def read_points(path: PathLike) -> FloatArray:
    """(n, 2) or (n, 3), points of a CSV table with columns x, y and perhaps z; errors as :func:`read_landmarks`."""
    place = need_file(path)
    return _side({f"point_{name}": values for name, values in _csv(place).items()}, "point", place)


def _side(table: dict[str, list[str | None]], side: str, place: Path) -> FloatArray:
    missing = [f"{side}_{axis}" for axis in "xy" if f"{side}_{axis}" not in table]
    if missing:
        shown = [name.removeprefix("point_") for name in missing]
        raise FormatError(
            f"`{place}` has no column {' and no '.join(shown)}. Its first line must be such as `{_EXAMPLE}`."
        )
    axes = [axis for axis in "xyz" if f"{side}_{axis}" in table]
    return np.array([[_number(t, place, i) for i, t in enumerate(table[f"{side}_{a}"])] for a in axes]).T


def _number(text: str | None, place: Path, row: int) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f"`{place}`, landmark {row + 1}: `{text or ''}` is not a number.")
    return value


def _csv(place: Path) -> dict[str, list[str | None]]:
    text = place.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise FormatError(f"`{place}` is empty; expected a table that begins with such as `{_EXAMPLE}`.")
    separator = max(",;\t", key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise FormatError(f"`{place}` is not a table that can be read: {error}. Copy it again.") from error
    head = [name.strip().strip('"').lower() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(head):
            raise FormatError(f"`{place}`, landmark {number}: {len(row)} values below {len(head)} names of columns.")
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(head)}


def _star(place: Path) -> dict[str, list[str | None]]:
    known = {name: own for own, name in labels.LANDMARKS.items()}
    for table in read_star_text(place).values():
        if any(name in table for name in known):
            return {known[name]: values for name, values in table.items() if name in known}
    raise FormatError(f"`{place}` has no table of landmarks; expected columns such as {', '.join(list(known)[1:5])}.")


def write_landmarks(
    path: PathLike, pairs: LandmarkPairs, used: list[bool], errors: FloatArray, left_out: FloatArray
) -> None:
    """Write landmarks with what became of them, in the units in which they were given; errors in A.

    Parameters
    ----------
    used : of each, False of those that were found wrong
    errors : (landmark,) length of the error
    left_out : (landmark,) the same when each is left out
    """
    table: dict[str, list[object]] = {labels.LANDMARKS["name"]: list(pairs.names)}
    for side, points in zip(_SIDES, (pairs.moving, pairs.fixed), strict=True):
        for axis, values in zip("xyz", points.T, strict=False):
            table[labels.LANDMARKS[f"{side}_{axis}"]] = values.tolist()
    table[labels.LANDMARK_ERROR] = errors.tolist()
    table[labels.LANDMARK_LEFT_OUT] = left_out.tolist()
    table[labels.LANDMARK_USED] = [int(one) for one in used]
    write_star(path, {"landmarks": table})
