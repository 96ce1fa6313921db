"""Columns of numbers and texts as rows of bytes of one width, for tables of many rows; every number comes back exactly."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Cells: TypeAlias = NDArray[np.uint8]
"""(row, byte), padded with spaces."""

_SPACE, _ZERO, _POINT, _MINUS = 32, 48, 46, 45
_EXACT = float(2**53)
_DECIMALS = (0, 3, 6, 9)


def number_cells(column: NDArray[Any]) -> Cells:
    """Right-aligned numbers: those of few decimals digit by digit, others as Python writes them; both read back the same."""
    if column.dtype.kind in "iu":
        return _decimal(column.astype(np.int64), 0)
    values = column.astype(np.float64)
    if np.isfinite(values).all():
        for decimals in _DECIMALS if np.abs(values).max(initial=0.0) < _EXACT else ():
            scaled = np.rint(values * 10.0**decimals)
            # the quotient of two exact numbers is the double nearest to the decimal: what a reader makes of it
            if (np.abs(scaled) < _EXACT).all() and (scaled / 10.0**decimals == values).all():
                return _decimal(scaled.astype(np.int64), max(decimals, 1))
    return text_cells(list(map(repr, values.tolist())))


def _decimal(whole: NDArray[np.int64], decimals: int) -> Cells:
    """Of whole numbers of ``10 ** -decimals``; of 0 decimals without point, and 1 for whole numbers with `.0`."""
    if decimals == 1:
        return np.concatenate(
            [_decimal(whole, 0), np.broadcast_to(np.array([_POINT, _ZERO], np.uint8), (len(whole), 2))], axis=1
        )
    rest = np.abs(whole)
    before = len(str(int(rest.max() // 10**decimals)))
    width = 1 + before + (decimals + 1 if decimals else 0)
    out = np.full((len(whole), width), _SPACE, dtype=np.uint8)
    for place in range(width - 1, 0, -1):
        if decimals and place == before + 1:
            out[:, place] = _POINT
            continue
        rest, digit = np.divmod(rest, 10)
        out[:, place] = digit + _ZERO
    digits = out[:, 1 : before + 1]
    leading = np.cumsum(digits[:, :-1] != _ZERO, axis=1) == 0
    digits[:, :-1][leading] = _SPACE
    sign = np.flatnonzero(whole < 0)
    skipped = np.concatenate([leading, np.zeros((len(whole), 1), bool)], axis=1).sum(axis=1)
    out[sign, skipped[sign]] = _MINUS
    return out


def text_cells(texts: Sequence[str]) -> Cells:
    """Right-aligned texts."""
    encoded = [text.encode() for text in texts]
    width = max(map(len, encoded), default=0)
    joined = b"".join([text.rjust(width) for text in encoded])
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(encoded), width)


def array_cells(column: NDArray[np.str_]) -> Cells | None:
    """Left-aligned texts of an array; None where one is empty, has a letter beyond ASCII or would need quotes."""
    letters = np.ascontiguousarray(column).view(np.uint32).reshape(len(column), -1)
    if letters.size == 0 or (letters >= 128).any() or (letters[:, 0] == 0).any():
        return None
    cells = letters.astype(np.uint8)
    odd = (cells < 36) & (cells != 33) & (cells != 0) | (cells == 39)
    if odd.any() or (cells[:, 0] == ord("_")).any() or np.char.startswith(column, "data_").any():
        return None
    cells[cells == 0] = _SPACE
    return cells


def rows_of_cells(columns: Sequence[Cells]) -> bytes:
    """Lines with a space between columns."""
    gap = np.full((len(columns[0]), 1), _SPACE, dtype=np.uint8)
    parts = [part for column in columns for part in (column, gap)]
    table = np.concatenate(parts, axis=1)
    table[:, -1] = ord("\n")
    return table.tobytes()
