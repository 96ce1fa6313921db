"""What only the parent process writes: a stage's global table, gathered from the rows of its items, and `run.json`."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eucentric.io import labels as own
from eucentric.io.atomic import make_folder, remove_partial_files, write_text_atomic, writing_error
from eucentric.io.star import read_star_text, write_star
from eucentric.models.optics_group_names import given_group, group_names
from eucentric.pipeline import records
from eucentric.pipeline.store import UNFINISHED

_OPTICS = (
    "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnTomoTiltSeriesPixelSize", "rlnBeamTiltX", "rlnBeamTiltY",
    own.TREFOIL_X, own.TREFOIL_Y,
)  # fmt: skip


def write_global_table(folder: Path, names: Sequence[str], failed: Iterable[str] = ()) -> None:
    """Write `<stage>/tilt_series.star` from the rows of the items that are done.

    Parameters
    ----------
    folder : of the stage
    names : the order of rows; items without a finished record are passed over
    failed : items to pass over whatever their record says
    """
    gone = set(failed)
    rows = []
    for name in names:
        record = records.read_record(folder, name)
        path = records.row_path(folder, name)
        if name not in gone and record is not None and record.is_done and path.is_file():
            table = read_star_text(path)["global"]
            rows.append({label: column[0] for label, column in table.items()})
    target = folder / "tilt_series.star"
    if not rows:
        target.unlink(missing_ok=True)
        return
    settings = [tuple(row.get(label) for label in _OPTICS) for row in rows]
    groups = group_names(settings, [given_group(row.get("rlnOpticsGroupName")) for row in rows])
    for row, group in zip(rows, groups, strict=True):
        row["rlnOpticsGroupName"] = group
    labels = list(dict.fromkeys(label for row in rows for label in row))
    columns = {label: [row.get(label) for row in rows] for label in labels}
    write_star(target, {"global": {label: _filled(values) for label, values in columns.items()}})


def _filled(values: list[str | None]) -> list[Any]:
    """A column of texts; a missing number as `nan`, which readers of numbers take."""
    if None not in values:
        return list(values)
    present = [v for v in values if v is not None]
    return [float("nan") if v is None and present and all(map(_is_number, present)) else v for v in values]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_run_file(folder: Path, values: dict[str, Any]) -> None:
    """Write `<stage>/run.json`: all that is needed to repeat the run."""
    write_text_atomic(folder / "run.json", json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n")


def require_writable(folder: Path) -> None:
    """Make sure, before hours of work, that a stage can write.

    Raises
    ------
    InputError : the folder may not be written to
    BackendError : the disk is full
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        meant = writing_error(error, folder / "tilt_series.star")
        if meant is None:
            raise
        raise meant from error


def sweep(folder: Path) -> None:
    """Remove what a killed process left unfinished in a stage's folder. Only under the project's lock."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for inner in ("records", "tilt_series"):
        if (folder / inner).is_dir():
            remove_partial_files(folder / inner)
    for path in folder.glob(".*.partial*"):
        path.unlink(missing_ok=True)
