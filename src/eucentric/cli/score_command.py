"""`eucentric score`."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eucentric.cli.options import SEVERAL, AsJson, Debug, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.scoring import ScoreRow

_TRUTH_FILES = "*_truth.json"
_PIPE_WIDTH = 200  # characters; where nobody sees lines wrapped, a row stays on one line


def find_truth_files(places: Sequence[Path]) -> list[Path]:
    """The truth files that are named, or that lie in folders that are named.

    Raises
    ------
    InputError : a place that does not exist, or a folder without truth files
    """
    files: list[Path] = []
    for place in places:
        found = sorted(place.glob(_TRUTH_FILES)) if place.is_dir() else [place]
        if not found:
            raise InputError(
                f"`{place}`, given as --truth, holds no file `{_TRUTH_FILES}`; expected one for each tilt series. "
                "Name the folder that `eucentric simulate` wrote."
            )
        if not found[0].is_file():
            raise InputError(f"`{place}`, given as --truth, does not exist. Name a truth file or a folder of them.")
        files += found
    return list(dict.fromkeys(files))


def show_scores(rows: "Sequence[ScoreRow]") -> None:
    """Print scores as a table."""
    table = Table("series", "metric", box=None)
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("note")
    for row in rows:
        table.add_row(*(Text(t) for t in (row.series, row.metric, f"{row.value:.4g}", row.unit, row.note)))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def scores_as_json(rows: "Sequence[ScoreRow]") -> list[dict[str, Any]]:
    """Scores for machines; a value that is not finite becomes null."""
    return [
        {
            "series": row.series,
            "metric": row.metric,
            "value": float(row.value) if math.isfinite(row.value) else None,
            "unit": row.unit,
            "note": row.note,
        }
        for row in rows
    ]


def score(
    project: Path,
    /,
    *,
    truth: Annotated[list[Path], SEVERAL],
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Compare the results of each stage with the truth of simulated movies.

    Parameters
    ----------
    project
        folder made by `eucentric import`
    truth
        truth files, or folders of them, as `eucentric simulate` writes them
    """
    # here, so that --help does not load torch
    from eucentric.pipeline.scoring import score_project
    from eucentric.pipeline.steps import find_project

    del debug  # read by the program itself
    rows = score_project(find_project(project), find_truth_files(truth))
    show_scores(rows)
    if as_json:
        show_json({"exit_code": 0, "scores": scores_as_json(rows)})
    return 0
