"""Scipion's sets (`.sqlite`): objects and their attributes as tables. Read without executing anything, written as Scipion does.

A set is a database with tables `Properties` (key, value), `Classes` (label_property, column_name, class_name) and `Objects`
(id, enabled, ... c01, c02, ...); `Classes` tells which column holds which attribute. Items that are sets themselves have
`<prefix>_Classes` and `<prefix>_Objects` in the same file [1]_.

References
----------
.. [1] scipion-em/scipion-pyworkflow, `pyworkflow/mapper/sqlite.py` (FlatMapper)
"""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.atomic import atomic_path
from eucentric.io.particle_columns import need_file
from eucentric.typing import FloatArray, PathLike

_MAGIC = b"SQLite format 3\0"
_MAX_ROWS = 5_000_000
_MAX_TEXT = 10_000  # characters of a matrix
_MAX_CELL = 10_000_000  # bytes
_MAX_SECONDS = 300.0  # for a database that would never end
_TYPES = {"Integer": "INTEGER", "Boolean": "INTEGER", "Float": "REAL"}
Value = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScipionItem:
    """One row of a table of objects."""

    ident: int
    enabled: bool
    values: Mapping[str, Value]
    """By attribute, such as `_tiltAngle` or `_acquisition._voltage`."""

    def number(self, name: str) -> float | None:
        """A finite number, or None."""
        value = self.values.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def text(self, name: str) -> str:
        """A text, empty where there is none."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def matrix(self, name: str) -> FloatArray | None:
        """A square matrix, or None where the attribute is missing or holds none."""
        text = self.text(name)
        if not text or len(text) > _MAX_TEXT:
            return None
        try:
            found = np.array(json.loads(text), dtype=np.float64)
        except (ValueError, TypeError, RecursionError):
            return None
        if found.ndim != 2 or found.shape[0] != found.shape[1] or not np.isfinite(found).all():
            return None
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ScipionSet:
    """A set and the items of each of its items."""

    kind: str
    """Its class, such as `SetOfTiltSeries`."""
    properties: Mapping[str, str]
    items: tuple[ScipionItem, ...]
    within: Mapping[str, tuple[ScipionItem, ...]] = field(default_factory=dict)
    """By prefix of their tables."""


@contextmanager
def _opened(place: Path) -> Iterator[sqlite3.Connection]:
    """A database that cannot be written to; errors of SQLite become FormatError."""
    address = f"file:{quote(str(place.resolve()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_CELL)
            stop = time.monotonic() + _MAX_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > stop, 100_000)
            yield connection
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as error:
        raise FormatError(f"`{place}` is not a database that can be read ({error}). Copy it again.") from error


def scipion_set_kind(path: PathLike) -> str:
    """The class of a set, such as `SetOfTiltSeries`; empty where the file is no set."""
    place = Path(path)
    if not place.is_file():
        return ""
    with place.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return ""
    with _opened(place) as connection:
        tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"Properties", "Classes", "Objects"} <= tables:
            return ""
        return _properties(connection).get("self", "Set")


def _properties(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute("SELECT key, value FROM Properties LIMIT 1000").fetchall()
    return {str(key): str(value) for key, value in rows if value is not None}


def read_scipion_set(path: PathLike) -> ScipionSet:
    """A set with all its items.

    Raises
    ------
    InputError : no such file
    FormatError : no set of Scipion, or damaged
    """
    place = need_file(path)
    kind = scipion_set_kind(place)
    if not kind:
        raise FormatError(f"`{place}` is not a set of Scipion: expected a .sqlite with tables Properties and Objects.")
    with _opened(place) as connection:
        tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        prefixes = [t.removesuffix("_Objects") for t in tables if t.endswith("_Objects")]
        return ScipionSet(
            kind=kind,
            properties=_properties(connection),
            items=_items(connection, place, "", tables),
            within={p: _items(connection, place, f"{p}_", tables) for p in prefixes},
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _items(connection: sqlite3.Connection, place: Path, prefix: str, tables: Sequence[str]) -> tuple[ScipionItem, ...]:
    classes, objects = f"{prefix}Classes", f"{prefix}Objects"
    if classes not in tables:
        raise FormatError(f"`{place}` has a table {objects} but none called {classes}; it is damaged.")
    rows = connection.execute(f"SELECT label_property, column_name FROM {_quoted(classes)} LIMIT 1000").fetchall()
    held = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({_quoted(objects)})")]
    columns = {str(column): str(name) for name, column in rows if str(column) in held}
    if not {"id", "enabled"} <= set(held):
        raise FormatError(f"`{place}` has a table {objects} without id and enabled; it is no set of Scipion.")
    picked = ["id", "enabled", *columns]
    query = f"SELECT {', '.join(map(_quoted, picked))} FROM {_quoted(objects)} ORDER BY id LIMIT {_MAX_ROWS + 1}"
    found: list[ScipionItem] = []
    for row in connection.execute(query):
        values = dict(zip(columns.values(), row[2:], strict=True))
        ident = row[0] if isinstance(row[0], int) else len(found) + 1
        found.append(ScipionItem(ident=ident, enabled=bool(row[1]), values=values))
        if len(found) > _MAX_ROWS:
            raise FormatError(f"`{place}` has more than {_MAX_ROWS} items; it is no set of tilt series or particles.")
    return tuple(found)


Column = tuple[str, str]
"""Attribute and its class in Scipion."""
Row = tuple[int, bool, Sequence[Value]]
"""Id, enabled, values."""


def write_scipion_set(
    path: PathLike,
    properties: Mapping[str, Value],
    item_class: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    within: Mapping[str, tuple[str, Sequence[Column], Sequence[Row]]] | None = None,
) -> None:
    """Write a set with the tables that Scipion makes.

    Parameters
    ----------
    properties : of the set; `self` is its class
    columns, rows : of its items
    within : prefix -> class, columns and rows of the items of an item
    """
    with atomic_path(path) as temporary, closing(sqlite3.connect(temporary)) as connection:
        connection.execute("CREATE TABLE Properties (key TEXT UNIQUE, value TEXT DEFAULT NULL)")
        texts = [(key, None if value is None else str(value)) for key, value in properties.items()]
        connection.executemany("INSERT INTO Properties VALUES (?, ?)", texts)
        _write_table(connection, "", item_class, columns, rows)
        for prefix, (kind, inner_columns, inner_rows) in (within or {}).items():
            _write_table(connection, f"{prefix}_", kind, inner_columns, inner_rows)
        connection.commit()


def _write_table(
    connection: sqlite3.Connection, prefix: str, item_class: str, columns: Sequence[Column], rows: Sequence[Row]
) -> None:
    classes, objects = _quoted(f"{prefix}Classes"), _quoted(f"{prefix}Objects")
    connection.execute(
        f"CREATE TABLE {classes} (id INTEGER PRIMARY KEY AUTOINCREMENT, label_property TEXT UNIQUE, "
        "column_name TEXT UNIQUE, class_name TEXT DEFAULT NULL)"
    )
    names = [("self", "c00", item_class)] + [(n, f"c{i:02d}", kind) for i, (n, kind) in enumerate(columns, 1)]
    insert = f"INSERT INTO {classes} (label_property, column_name, class_name) VALUES (?, ?, ?)"
    connection.executemany(insert, names)
    declared = "".join(f", c{i:02d} {_TYPES.get(kind, 'TEXT')} DEFAULT NULL" for i, (_, kind) in enumerate(columns, 1))
    connection.execute(
        f"CREATE TABLE {objects} (id INTEGER PRIMARY KEY, enabled INTEGER DEFAULT 1, label TEXT DEFAULT NULL, "
        f"comment TEXT DEFAULT NULL, creation DATE{declared})"
    )
    marks = ", ".join("?" * (5 + len(columns)))
    plain = [(ident, int(enabled), "", "", None, *values) for ident, enabled, values in rows]
    connection.executemany(f"INSERT INTO {objects} VALUES ({marks})", plain)
