"""Xmipp's metadata (`.xmd`): tables of text, one or several blocks a file, much as STAR [1]_.

References
----------
.. [1] I2PC/xmippCore, `core/metadata_vec.cpp` (XMIPP_STAR_1)
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import need_file
from eucentric.typing import FloatArray, PathLike

_FIRST = "# XMIPP_STAR_1"
_LARGEST = 1 << 31
Table = dict[str, list[str]]


def is_xmd(path: PathLike) -> bool:
    """Whether a file begins as Xmipp's metadata do; never raises."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(_FIRST)).decode("latin-1") == _FIRST
    except OSError:
        return False


def read_xmd(path: PathLike) -> dict[str, Table]:
    """Every block as columns of text, by label without underscore; a block without a loop is a table of one row.

    Raises
    ------
    InputError : no such file
    FormatError : not Xmipp's metadata, or a row with too many or too few values
    """
    place = need_file(path)
    if not is_xmd(place) or place.stat().st_size > _LARGEST:
        raise FormatError(f"`{place}` is no metadata of Xmipp: expected `{_FIRST} *` as its first line.")
    blocks: dict[str, Table] = {}
    table: Table = {}
    loop = False
    for number, raw in enumerate(place.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("data_"):
            table = blocks.setdefault(line[5:], {})
            loop = False
        elif line == "loop_":
            loop = True
        elif line.startswith("_") and not (loop and table and next(iter(table.values()))):
            name, _, value = line[1:].partition(" ")
            table[name] = [] if loop else [value.strip().strip("'\"")]
        else:
            _add_row(table, line, place, number)
    if not any(blocks.values()):
        raise FormatError(f"`{place}` holds no table.")
    return blocks


def _add_row(table: Table, line: str, place: Path, number: int) -> None:
    try:
        words = shlex.split(line) if "'" in line or '"' in line else line.split()
    except ValueError:
        words = line.split()
    if len(words) != len(table):
        raise FormatError(f"Line {number} of `{place}` has {len(words)} values; expected {len(table)}, one a label.")
    for column, word in zip(table.values(), words, strict=True):
        column.append(word)


def xmd_numbers(table: Table, label: str, place: PathLike) -> FloatArray | None:
    """(row,) of a column, None where there is none; FormatError where a value is no finite number."""
    if label not in table:
        return None
    values = []
    for row, text in enumerate(table[label], 1):
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise FormatError(f"Row {row} of `{place}` has `{text[:40]}` for {label}; expected a number.")
        values.append(value)
    return np.array(values, dtype=np.float64)


def write_xmd(path: PathLike, table: Mapping[str, Sequence[object]], block: str = "noname") -> None:
    """Write one table."""
    lines = [f"{_FIRST} * ", "# ", f"data_{block}", "loop_", *(f" _{name}" for name in table)]
    for row in zip(*table.values(), strict=True):
        lines.append(" " + " ".join(f"{v:.6f}" if isinstance(v, float) else _word(str(v)) for v in row))
    write_text_atomic(path, "".join(line + "\n" for line in lines))


def _word(text: str) -> str:
    return f"'{text}'" if not text or any(c.isspace() for c in text) else text
