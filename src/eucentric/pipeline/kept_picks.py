"""What picking without templates leaves for the report, in the project's `pick/<name>`: candidates, pictures and a record."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric import __version__
from eucentric.errors import InputError
from eucentric.io.atomic import atomic_path, make_folder, write_text_atomic
from eucentric.picking.candidates import Candidates
from eucentric.picking.pick_pictures import pictures_of_picks
from eucentric.pipeline.records import Record
from eucentric.report.picking_sections import METHOD, WEIGHT

FOLDER = "pick"
_RECORD = "run.json"


def folder_to_keep(target: Path, output: Path) -> Path | None:
    """The folder of picks of a project, from which its report is made; None of a table elsewhere.

    Raises
    ------
    InputError : it holds picks of templates
    """
    folder = output.resolve().parent
    if not target.is_dir() or folder.parent != target.resolve() / FOLDER:
        return None
    if (folder / "records").is_dir():
        raise InputError(f"`{output.parent}` holds picks that templates found. Give another --name.")
    return output.parent


def keep_pictures(
    folder: Path,
    tomogram: str,
    method: str,
    found: Candidates,
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    region: Tensor,
    *,
    false_weight: float = 1.0,
) -> None:
    """Write all candidates of a tomogram, and small pictures of it and of them.

    Parameters
    ----------
    method : a name that the report knows
    region : (z, y, x) bool, where it was looked
    false_weight : how many chances each of the false candidates stands for
    """
    about = {METHOD: np.array(method), WEIGHT: np.array(false_weight)}
    _write(folder / "candidates" / f"{tomogram}.npz", {**found.arrays(), **about})
    _write(folder / "pictures" / f"{tomogram}.npz", pictures_of_picks(volume, voxel_size, region, found))


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def write_picks_record(output: Path, method: str, values: Mapping[str, Any]) -> None:
    """Write `run.json` beside a table of picks, after all else.

    Parameters
    ----------
    values : for the report with `tomograms`, of each its figures, `caveats`, and settings under `parameters`
    """
    about = {"version": __version__, METHOD: method, **values}
    write_text_atomic(output.with_name(_RECORD), json.dumps(about, indent=1) + "\n")


def kept_folders(root: Path) -> list[Path]:
    """Folders of a project with such picks."""
    found = sorted(p.parent for p in (root / FOLDER).glob(f"*/{_RECORD}"))
    return [p for p in found if (p / "candidates").is_dir() and not (p / "records").is_dir()]


def kept_mark(folder: Path) -> tuple[str, int, int]:
    """What tells whether picks changed: their record is written last."""
    stat = (folder / _RECORD).stat()
    return f"{FOLDER}/{folder.name}", stat.st_size, stat.st_mtime_ns


def kept_records(folder: Path) -> dict[str, Record]:
    """Of each tomogram, as a stage would have recorded it; nothing where the file cannot be read."""
    try:
        about = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        return {name: _record(name, about) for name in about["tomograms"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _record(name: str, about: Mapping[str, Any]) -> Record:
    figures = about["tomograms"][name]
    metrics: dict[str, float | None] = {
        k: float(v) for k, v in figures.items() if isinstance(v, int | float) and k != "seconds"
    }
    if isinstance(figures["picks"], dict):
        metrics = {"picks": float(sum(figures["picks"].values())), **metrics}
    return Record(
        stage=FOLDER,
        series=name,
        outcome="done",
        fingerprint="",
        upstream="",
        stage_version=0,
        parameters={METHOD: about[METHOD], **about["parameters"]},
        project={},
        seed=0,
        metrics=metrics,
        caveats=tuple(str(c) for c in about["caveats"] if f" {name}:" in f" {c}"),
        seconds=float(figures["seconds"]),
    )
