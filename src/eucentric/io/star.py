"""STAR tables of any content, exactly: numbers with all their digits, missing ones as `nan`, missing texts as `None`.

A text holding quotes cannot be told apart by STAR readers, so straight quotes become typographic ones.
"""

import linecache
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from starfile.functions import read as read_starfile

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import atomic_path
from eucentric.io.findings import Finding
from eucentric.io.number_text import Cells, array_cells, number_cells, rows_of_cells, text_cells
from eucentric.io.star_columns import ListColumns, StarColumns, parse_star
from eucentric.typing import PathLike

Column: TypeAlias = list[Any] | NDArray[Any]
Table: TypeAlias = Mapping[str, Column]
"""Columns of one length, by label without its underscore: numbers, texts or None."""

_NOTHING = {"", "None", "<NA>", "none"}
_ROWS, _FEW_ROWS = 1 << 16, 2000
_QUOTES = str.maketrans({'"': "”", "'": "’", "\t": " ", "\n": " ", "\r": " "})


def read_star_columns(path: PathLike) -> dict[str, StarColumns]:
    """Every block of a STAR file by column, for long lists; errors as :func:`read_star_text`."""
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    blocks = parse_star(place.read_bytes(), place)
    if blocks is None:
        blocks = {name: ListColumns(table, place) for name, table in _read_plain(place).items()}
    if not blocks:
        raise FormatError(f"`{place}` is not a STAR file: it has no `data_` block with a table.")
    return blocks


def read_star_text(path: PathLike) -> dict[str, dict[str, list[str | None]]]:
    """Every block of a STAR file as columns of text; a block without a loop is a table of one row.

    Returns
    -------
    blocks : block name without `data_` -> label without underscore -> values; None where a value is missing

    Raises
    ------
    InputError : no such file
    FormatError : not a STAR file, or a row with too many or too few values
    """
    return {
        name: {label: [value or None for value in table.texts(label).tolist()] for label in table}
        for name, table in read_star_columns(path).items()
    }


def _read_plain(place: Path) -> dict[str, dict[str, list[str | None]]]:
    """By the starfile package, which knows quotes and comments behind values."""
    try:
        text = place.read_text(encoding="utf-8")
        # As text, every digit and a series named 001 are kept; who knows the columns makes numbers of them.
        labels = sorted({line.split()[0][1:] for line in text.splitlines() if line.startswith("_")})
        blocks = read_starfile(place, always_dict=True, parse_as_string=labels)
    except (ValueError, IndexError, KeyError, TypeError, pd.errors.ParserError) as error:
        raise FormatError(
            f"`{place}` is not a STAR file that can be read: {str(error)[:200]}. "
            "Expected `data_` blocks with one value for each label in every row."
        ) from error
    finally:
        linecache.clearcache()  # where starfile leaves old contents behind when it fails
    return {str(name): _columns(block) for name, block in blocks.items() if block is not None}


def _columns(block: Any) -> dict[str, list[str | None]]:
    if isinstance(block, pd.DataFrame):
        return {str(label): [_text(value) for value in block[label]] for label in block.columns}
    return {str(label): [_text(value)] for label, value in block.items()}


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return None
    text = str(value)
    return None if text in _NOTHING else text


def read_star(path: PathLike) -> dict[str, pd.DataFrame]:
    """Every block of a STAR file as a table; columns whose values are all numbers become numbers.

    A text column of digits (a series called `001`) becomes numbers too: use `read_star_text` where that matters, which
    has the same errors.
    """
    found = {}
    for name, table in read_star_columns(path).items():
        columns = {label: _values(table, label) for label in table}
        if len({len(column) for column in columns.values()}) > 1:
            raise FormatError(f"`{path}`: the columns of the table `{name}` have unequal lengths. Copy it again.")
        found[name] = pd.DataFrame(columns)
    return found


def _values(table: StarColumns, label: str) -> Any:
    whole = table.integers(label)
    if whole is not None:
        return whole
    try:
        return table.numbers(label)
    except FormatError:
        return [value or None for value in table.texts(label).tolist()]


def _written(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    raise InputError(f"A STAR table cannot hold {value!r}; expected a number or a text.")


def _quoted(value: str) -> str:
    clean = value.translate(_QUOTES).strip()
    return f'"{clean}"' if any(c in clean for c in " #") or not clean or clean.startswith(("_", "data_")) else clean


def _column_texts(column: Column) -> list[str]:
    """The values of some rows as they are written."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "U":
        return [_quoted(value) if value else "None" for value in column.tolist()]
    return [_written(value) for value in (column.tolist() if isinstance(column, np.ndarray) else column)]


def _column_cells(column: Column) -> Cells:
    """The same for many rows."""
    if not isinstance(column, np.ndarray) and (found := set(map(type, column))) in ({float}, {int}, {str}):
        small = found != {int} or max(map(abs, column)) < 2**62
        column = np.array(column) if small and "" not in column else column
    if isinstance(column, np.ndarray) and column.dtype.kind in "iuf":
        return number_cells(column)
    cells = array_cells(column) if isinstance(column, np.ndarray) and column.dtype.kind == "U" else None
    return text_cells(_column_texts(column)) if cells is None else cells


def write_star(path: PathLike, blocks: Mapping[str, Table]) -> None:
    """Write blocks of columns as loops, whole or not at all.

    Parameters
    ----------
    path : file to be made or replaced
    blocks : block name without `data_` -> label without underscore -> values of one length; of an array of texts the empty
        ones are missing

    Raises
    ------
    InputError : columns of unequal length, or values that are neither numbers nor texts
    BackendError : the disk is full
    """
    for name, table in blocks.items():
        if len({len(column) for column in table.values()}) > 1:
            raise InputError(f"The columns of the STAR block `{name}` have unequal lengths.")
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        for name, table in blocks.items():
            labels = "".join(f"_{label} #{index}\n" for index, label in enumerate(table, 1))
            out.write(f"\ndata_{name}\n\nloop_\n{labels}".encode())
            _write_rows(out, list(table.values()))
            out.write(b"\n")
        out.write(b"\n")


def _write_rows(out: BinaryIO, columns: list[Column]) -> None:
    """Rows in parts, so that a long list takes little memory."""
    count = len(columns[0]) if columns else 0
    if count <= _FEW_ROWS:
        texts = [_column_texts(column) for column in columns]
        widths = [max(map(len, column), default=0) for column in texts]
        for row in zip(*texts, strict=True):
            line = " ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            out.write(f"{line}\n".encode())
        return
    for first in range(0, count, _ROWS):
        out.write(rows_of_cells([_column_cells(column[first : first + _ROWS]) for column in columns]))


def validate_star(path: PathLike) -> list[Finding]:
    """A file that cannot be read gives one `error`; a table without rows a `warning`."""
    try:
        tables = read_star_text(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    empty = [name for name, table in tables.items() if not any(table.values())]
    return [Finding(severity="warning", text=f"`{path}`: the table `{name}` has no row.") for name in empty]
