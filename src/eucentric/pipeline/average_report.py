"""The averages of a project, read for the report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.averaging.half_sets import SUBSET
from eucentric.errors import EucentricError, FormatError
from eucentric.io import labels
from eucentric.io.curves import read_curves
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles
from eucentric.io.star import read_star
from eucentric.pipeline.average_files import caveats_of
from eucentric.pipeline.classify_files import SUMMARY as _CLASSES
from eucentric.pipeline.half_maps import RECORD, read_about
from eucentric.pipeline.initial_model_files import RECORD as _FIRST
from eucentric.pipeline.map_measures import CURVES, LOCAL
from eucentric.report.averaging_sections import AverageFiles, column, known_rounds
from eucentric.typing import FloatArray

FOLDER = "average"
_ITERATIONS = "iterations.json"


def average_folders(root: Path) -> list[Path]:
    """Folders of finished averages in a project."""
    return sorted(p.parent for p in (root / FOLDER).glob(f"*/{RECORD}"))


def average_mark(folder: Path) -> tuple[str, int, int]:
    """What tells whether an average changed: its record is written last."""
    stat = (folder / RECORD).stat()
    return folder.name, stat.st_size, stat.st_mtime_ns


def averaging_settings(root: Path) -> dict[str, list[Mapping[str, Any]]]:
    """What was set for first maps, averages and classes of a project, for the methods text; nothing of what was not done."""
    averages: list[Mapping[str, Any]] = [
        read_about(folder) | {"iterated": len(known_rounds(read_object(folder / _ITERATIONS))) > 1}
        for folder in average_folders(root)
    ]
    ran: dict[str, list[Mapping[str, Any]]] = {
        "initial model": [read_object(path) for path in sorted(root.glob(f"*/*/{_FIRST}"))],
        "average": averages,
        "classify": [read_object(path) for path in sorted(root.glob(f"*/*/{_CLASSES}"))],
    }
    return {name: found for name, found in ran.items() if found}


def read_average(folder: Path) -> AverageFiles:
    """What there is of an average; what cannot be read is left out and told of."""
    notes: list[str] = []
    volume, voxel = _volume(folder / "map.mrc", notes)
    mask, _ = _volume(folder / "mask.mrc", notes)
    local, _ = _volume(folder / LOCAL, notes) if (folder / LOCAL).is_file() else (None, 0.0)
    same = [v if v is None or volume is None or v.shape == volume.shape else None for v in (mask, local)]
    series, scores, halves, tilts = _particles(folder / "particles.star", notes)
    iterated = read_object(folder / _ITERATIONS)
    caveats = [str(c) for c in iterated.get("caveats", ()) if isinstance(c, str)]
    about = read_about(folder)
    told = set(caveats_of(about))
    return AverageFiles(
        name=folder.name,
        about=about,
        fsc=read_fsc(folder / "fsc.star", notes),
        curves=_curves(folder / CURVES, notes),
        volume=volume,
        mask=same[0],
        local_resolution=same[1],
        voxel_size_angstrom=voxel,
        series=series,
        scores=scores,
        halves=halves,
        tilts_used=tilts,
        rounds=known_rounds(iterated),
        caveats=(*(c for c in caveats if c not in told), *notes),
    )


def _volume(path: Path, notes: list[str]) -> tuple[FloatArray | None, float]:
    try:
        data, header = read_mrc(path)
    except (EucentricError, OSError) as error:
        notes.append(f"`{path.name}` is not shown: {error}")
        return None, 1.0
    sizes = header.voxel_size_angstrom
    return np.asarray(data, dtype=np.float32), 1.0 if sizes is None else float(sizes[0])


def _particles(path: Path, notes: list[str]) -> tuple[list[str], FloatArray, FloatArray, FloatArray]:
    try:
        found = read_particles(path)
    except (EucentricError, OSError) as error:
        notes.append(f"The particles are not shown: {error}")
        return [], np.zeros(0), np.zeros(0), np.zeros(0)
    count = len(found)
    halves = column(found.columns, SUBSET, count, 1.0)
    tilts = column(found.columns, labels.TILTS_USED, count, 0.0)
    return [str(n) for n in found.tomograms], found.scores, halves, tilts


def read_fsc(path: Path, notes: list[str]) -> Mapping[str, FloatArray]:
    """Columns of a table of correlations; nothing, and a note, where they cannot be read."""
    try:
        table = read_star(path)["fsc"]
        return {str(name): np.asarray(table[name], dtype=np.float64) for name in table.columns}
    except (EucentricError, OSError, KeyError, ValueError) as error:
        notes.append(f"The curves of `{path.name}` are not shown: {error}")
        return {}


def _curves(path: Path, notes: list[str]) -> Mapping[str, NDArray[Any]]:
    try:
        return read_curves(path)
    except FormatError as error:
        notes.append(f"{error} Average again.")
        return {}


def read_object(path: Path) -> Mapping[str, Any]:
    """What a file of JSON holds; nothing where it is not there, damaged, or something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
