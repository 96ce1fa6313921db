"""Tables as text with commas, a header line first."""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

from eucentric.io.atomic import write_text_atomic
from eucentric.typing import PathLike


def write_csv_table(path: PathLike, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows below the names of their columns; errors as `write_text_atomic`."""
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_text_atomic(path, text.getvalue())
