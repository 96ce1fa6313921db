"""STAR tables of any content, exactly: numbers with all their digits, missing ones as `nan`, missing texts as `None`.

A text holding quotes cannot be told apart by STAR readers, so straight quotes become typographic ones.
"""

import linecache
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from starfile.functions import read as read_starfile

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.findings import Finding
from eucentric.typing import PathLike

Table: TypeAlias = Mapping[str, list[Any]]
"""Columns of one length, by label without its underscore: numbers, texts or None."""

_NOTHING = {"", "None", "<NA>", "none"}
_QUOTES = str.maketrans({'"': "”", "'": "’", "\t": " ", "\n": " ", "\r": " "})


def _labels(text: str) -> list[str]:
    return sorted({line.split()[0][1:] for line in text.splitlines() if line.startswith("_")})


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
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        text = place.read_text(encoding="utf-8")
        # As text, every digit and a series named 001 are kept; who knows the columns makes numbers of them.
        blocks = read_starfile(place, always_dict=True, parse_as_string=_labels(text))
    except (ValueError, IndexError, KeyError, TypeError, pd.errors.ParserError) as error:
        raise FormatError(
            f"`{place}` is not a STAR file that can be read: {str(error)[:200]}. "
            "Expected `data_` blocks with one value for each label in every row."
        ) from error
    finally:
        linecache.clearcache()  # where starfile leaves old contents behind when it fails
    tables = {str(name): _columns(block) for name, block in blocks.items() if block is not None}
    if not tables:
        raise FormatError(f"`{place}` is not a STAR file: it has no `data_` block with a table.")
    return tables


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
    return {
        name: pd.DataFrame({label: _numbers(values) for label, values in table.items()})
        for name, table in read_star_text(path).items()
    }


def _numbers(values: list[str | None]) -> list[Any]:
    for kind in (int, float):
        try:
            return [float("nan") if v is None else kind(v) for v in values]
        except ValueError:
            continue
    return list(values)


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


def write_star(path: PathLike, blocks: Mapping[str, Table]) -> None:
    """Write blocks of columns as loops, whole or not at all.

    Parameters
    ----------
    path : file to be made or replaced
    blocks : block name without `data_` -> label without underscore -> values of one length

    Raises
    ------
    InputError : columns of unequal length, or values that are neither numbers nor texts
    BackendError : the disk is full
    """
    lines: list[str] = []
    for name, table in blocks.items():
        if len({len(column) for column in table.values()}) > 1:
            raise InputError(f"The columns of the STAR block `{name}` have unequal lengths.")
        lines += ["", f"data_{name}", "", "loop_"]
        lines += [f"_{label} #{index}" for index, label in enumerate(table, 1)]
        texts = [[_written(value) for value in column] for column in table.values()]
        widths = [max((len(t) for t in column), default=0) for column in texts]
        for row in zip(*texts, strict=True):
            lines.append(" ".join(t.rjust(w) for t, w in zip(row, widths, strict=True)))
        lines.append("")
    write_text_atomic(path, "\n".join(lines) + "\n")


def validate_star(path: PathLike) -> list[Finding]:
    """A file that cannot be read gives one `error`; a table without rows a `warning`."""
    try:
        tables = read_star_text(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    empty = [name for name, table in tables.items() if not any(table.values())]
    return [Finding(severity="warning", text=f"`{path}`: the table `{name}` has no row.") for name in empty]
