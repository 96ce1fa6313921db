"""STAR tables by column, for long lists: numbers and texts are made from the bytes of the file when they are asked for.

A block whose rows hold quotes, or a # within a row, is left to the plain reader of `eucentric.io.star`, which gives the same.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError
from eucentric.models.particles import Texts
from eucentric.typing import FloatArray

NOTHING = frozenset({"", "None", "<NA>", "none", "nan", "NaN"})
"""What stands for a missing value in a loop."""
_BLANK, _NEWLINE, _COMMENT, _UNDERSCORE = 32, 10, ord("#"), ord("_")
_CHUNK_BYTES, _CHUNK_ROWS = 1 << 23, 1 << 16


class StarColumns:
    """A table of a STAR file, column by column."""

    def __init__(self, labels: tuple[str, ...], rows: int) -> None:
        self.labels = labels
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def numbers(self, label: str) -> FloatArray:
        """(row,) values; NaN where missing.

        Raises
        ------
        FormatError : a value that is not a number, with its line or row
        """
        raise NotImplementedError

    def texts(self, label: str) -> Texts:
        """(row,) values; empty where missing."""
        raise NotImplementedError

    def integers(self, label: str) -> NDArray[np.int64] | None:
        """(row,) values where all are whole numbers written without point; else None."""
        raise NotImplementedError

    def numbers_or_none(self, label: str) -> FloatArray | None:
        """(row,) values where every one is a number or missing; else None."""
        try:
            return self.numbers(label)
        except FormatError:
            return None


class ListColumns(StarColumns):
    """Columns that were read as lists of texts."""

    def __init__(self, table: dict[str, list[str | None]], place: Path) -> None:
        super().__init__(tuple(table), max((len(column) for column in table.values()), default=0))
        self._table = table
        self._place = place

    def numbers(self, label: str) -> FloatArray:
        out = np.empty(len(self))
        for row, value in enumerate(self._table[label]):
            out[row] = _number(value, label, f"row {row + 1}", self._place)
        return out

    def texts(self, label: str) -> Texts:
        return np.array([value or "" for value in self._table[label]], dtype=np.str_)

    def integers(self, label: str) -> NDArray[np.int64] | None:
        values = self._table[label]
        if any(value is None or "_" in value for value in values):
            return None
        try:
            return np.array([int(value or "") for value in values], dtype=np.int64)
        except (ValueError, OverflowError):
            return None


class TokenColumns(StarColumns):
    """Columns of a loop: where each value starts in the bytes of the file, and how long it is."""

    def __init__(
        self,
        labels: tuple[str, ...],
        content: bytes,
        starts: NDArray[np.int64],
        lengths: NDArray[np.int32],
        lines: NDArray[np.int64],
        place: Path,
    ) -> None:
        super().__init__(labels, len(starts))
        self._bytes = np.frombuffer(content, dtype=np.uint8)
        self._starts, self._lengths, self._lines, self._place = starts, lengths, lines, place

    def _cells(self, label: str) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Rows and their (row, byte) values, padded with zeros."""
        column = self.labels.index(label)
        for first in range(0, len(self), _CHUNK_ROWS):
            rows = slice(first, min(first + _CHUNK_ROWS, len(self)))
            start, length = self._starts[rows, column], self._lengths[rows, column]
            width, first_byte = int(length.max()), int(start.min())
            region = self._bytes[first_byte : int(start.max()) + width]
            short = int(start.max()) + width - len(self._bytes)
            if short > 0:
                region = np.append(region, np.zeros(short, dtype=np.uint8))
            cells = np.lib.stride_tricks.sliding_window_view(region, width)[start - first_byte]
            if (length != width).any():
                cells *= np.arange(width) < length[:, None]
            yield rows, cells

    def numbers(self, label: str) -> FloatArray:
        out = np.empty(len(self))
        for rows, cells in self._cells(label):
            values = cells.view(f"S{cells.shape[1]}")[:, 0]
            try:
                if (cells == _UNDERSCORE).any():
                    raise ValueError
                out[rows] = values.astype(np.float64)
            except ValueError:
                for i, value in enumerate(values.tolist()):
                    text = value.decode("utf-8", "replace")
                    where = f"line {self._lines[rows.start + i]}"
                    out[rows.start + i] = _number(None if text in NOTHING else text, label, where, self._place)
        return out

    def texts(self, label: str) -> Texts:
        column = self.labels.index(label)
        width = int(self._lengths[:, column].max()) if len(self) else 1
        out = np.zeros(len(self), dtype=f"<U{width}")
        wide = out.view(np.uint32).reshape(len(self), width)
        for rows, cells in self._cells(label):
            if (cells < 128).all():
                wide[rows, : cells.shape[1]] = cells
            else:
                out[rows] = [value.decode() for value in cells.view(f"S{cells.shape[1]}")[:, 0].tolist()]
        shortest = int(self._lengths[:, column].min()) if len(self) else 0
        if shortest <= max(map(len, NOTHING)):
            few = np.flatnonzero(self._lengths[:, column] <= max(map(len, NOTHING)))
            few = few[np.isin(out[few], list(NOTHING))]
            out[few] = ""
        return out

    def integers(self, label: str) -> NDArray[np.int64] | None:
        out = np.empty(len(self), dtype=np.int64)
        for rows, cells in self._cells(label):
            digits = ((cells >= 48) & (cells <= 57)) | (cells == 0)
            digits[:, 0] |= (cells[:, 0] == 43) | (cells[:, 0] == 45)
            if not digits.all() or cells.shape[1] > 18:
                return None
            try:
                out[rows] = cells.view(f"S{cells.shape[1]}")[:, 0].astype(np.int64)
            except ValueError:
                return None
        return out


def _number(value: str | None, label: str, where: str, place: Path) -> float:
    if value is None:
        return float("nan")
    try:
        if "_" in value:
            raise ValueError
        return float(value)
    except ValueError:
        raise FormatError(
            f"`{place}` has `{value[:40]}` under {label} in {where}; expected a number. Mend this row, or leave it out."
        ) from None


def parse_star(content: bytes, place: Path) -> dict[str, StarColumns] | None:
    """Every block of a STAR file; None where the plain reader must do it.

    Raises
    ------
    FormatError : a row with too many or too few values, a line that is no value, or text that is not UTF-8
    """
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")
        if b"\r" in content:
            return None
    if not content.isascii():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise FormatError(
                f"`{place}` is not a STAR file that can be read: {error.reason} at byte {error.start}."
            ) from error
    blocks: dict[str, StarColumns] = {}
    at, line = 0, 0
    name: str | None = None
    while at < len(content):
        end = _line_end(content, at)
        line += 1
        text = content[at:end].strip()
        if name is None:
            if text.startswith(b"data_"):
                name = text[5:].decode()
        elif text.startswith(b"loop_"):
            body = end + 1
            block_end = _next_block(content, body)
            labels, first, line_of_first = _labels(content, body, block_end, line)
            table = _loop(content, first, block_end, labels, line_of_first, place)
            if table is None:
                return None
            blocks[name], name = table, None
            line += content.count(b"\n", body, block_end)
            end = block_end - 1
        elif text.startswith(b"_"):
            block_end = _next_block(content, at, b"data")
            blocks[name], name = _simple(content[at:block_end].decode(), place), None
            line += max(0, content.count(b"\n", at, block_end) - 1)
            end = block_end - 1
        at = end + 1
    return blocks


def _line_end(content: bytes, at: int) -> int:
    end = content.find(b"\n", at)
    return len(content) if end < 0 else end


def _next_block(content: bytes, at: int, word: bytes = b"data_") -> int:
    """Where the line of the next block begins, or the end."""
    found = content.find(word, at)
    while found >= 0:
        begin = content.rfind(b"\n", 0, found) + 1
        if not content[begin:found].strip():
            return begin
        found = content.find(word, found + 1)
    return len(content)


def _labels(content: bytes, at: int, stop: int, line: int) -> tuple[tuple[str, ...], int, int]:
    """Labels of a loop, where its rows begin, and the number of the line before them."""
    labels: list[str] = []
    while at < stop:
        end = min(_line_end(content, at), stop)
        text = content[at:end].strip()
        if text.startswith(b"_"):
            labels.append(text.split()[0][1:].decode())
        elif labels or (text and not text.startswith(b"#")):
            break
        line += 1
        at = end + 1
    return tuple(labels), at, line


def _simple(text: str, place: Path) -> StarColumns:
    table: dict[str, list[str | None]] = {}
    for line in (one.strip() for one in text.splitlines()):
        if line.startswith("_"):
            try:
                label, value = shlex.split(line)
            except ValueError:
                raise FormatError(
                    f"`{place}` is not a STAR file that can be read: `{line[:80]}` is not a label and a value."
                ) from None
            table[label[1:]] = [None if value in NOTHING - {"nan", "NaN"} else value]
    return ListColumns(table, place)


def _loop(
    content: bytes, first: int, stop: int, labels: tuple[str, ...], line: int, place: Path
) -> TokenColumns | None:
    """The rows of a loop; None where they hold quotes or comments behind values."""
    if any(content.find(quote, first, stop) >= 0 for quote in (b'"', b"'")):
        return None
    starts: list[NDArray[np.int64]] = []
    lengths: list[NDArray[np.int32]] = []
    lines: list[NDArray[np.int64]] = []
    while first < stop:
        end = stop if stop - first <= _CHUNK_BYTES else content.rfind(b"\n", first, first + _CHUNK_BYTES) + 1
        if end <= first:
            end = min(_line_end(content, first) + 1, stop)
        found = _tokens(content, first, end, len(labels), line, place)
        if found is None:
            return None
        for kept, part in zip((starts, lengths, lines), found, strict=True):
            kept.append(part)  # type: ignore[attr-defined]
        line += content.count(b"\n", first, end)
        first = end
    if not starts:
        empty = np.zeros((0, len(labels)), dtype=np.int64)
        return TokenColumns(labels, content, empty, empty.astype(np.int32), empty[:, :0].ravel(), place)
    return TokenColumns(labels, content, np.concatenate(starts), np.concatenate(lengths), np.concatenate(lines), place)


def _tokens(
    content: bytes, first: int, stop: int, columns: int, line: int, place: Path
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]] | None:
    """(row, column) starts and lengths of the values of some lines, and the number of each row's line."""
    part = np.frombuffer(content, dtype=np.uint8, count=stop - first, offset=first)
    edges = np.flatnonzero(np.diff((part > _BLANK).view(np.int8), prepend=np.int8(0), append=np.int8(0)))
    starts, ends = edges[::2], edges[1::2]
    breaks = np.append(np.flatnonzero(part == _NEWLINE), len(part))
    bounds = np.searchsorted(starts, breaks)
    begin = np.concatenate([[0], bounds[:-1]])
    counts = bounds - begin
    filled = counts > 0
    if content.find(b"#", first, stop) >= 0:
        comments = np.zeros(len(counts), dtype=bool)
        comments[filled] = part[starts[begin[filled]]] == _COMMENT
        marks = np.flatnonzero(part == _COMMENT)
        if not comments[np.searchsorted(breaks, marks)].all():
            return None
        keep = np.repeat(~comments, counts)
        starts, ends = starts[keep], ends[keep]
        filled &= ~comments
    number = np.flatnonzero(filled)
    wrong = np.flatnonzero(counts[number] != columns)
    if len(wrong):
        row = number[wrong[0]]
        raise FormatError(
            f"`{place}` is not a STAR file that can be read: line {line + row + 1} has {counts[row]} values; expected "
            f"{columns}, one for each label. Mend this row, or copy the file again if it is cut short."
        )
    shape = (len(number), columns)
    lengths = (ends - starts).astype(np.int32).reshape(shape)
    return (starts + first).reshape(shape), lengths, number + line + 1
