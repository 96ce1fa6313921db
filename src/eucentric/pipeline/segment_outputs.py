"""Where a segmentation lies in a project, and the reading of one for the report."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import ShapeError
from eucentric.io.mrc import read_mrc
from eucentric.report.segmentation_sections import Segmentation

LABELS, SCORES, POINTS, MESHES, MEASURES = "labels", "scores", "points", "meshes", "measures"
"""Folders in that of the stage."""


def read_segmentation(root: Path, folder: str, name: str, settings: Mapping[str, Any]) -> Segmentation:
    """Labels of a series, the tomogram that they were found in, and their measures.

    Parameters
    ----------
    folder : of the stage in the project
    settings : with which it was made

    Raises
    ------
    ShapeError : labels that do not fit the tomogram any more
    """
    source = root / str(settings.get("tomograms", "reconstruct")) / "tomograms" / f"{name}.mrc"
    volume = read_mrc(source)[0]
    labels, header = read_mrc(root / folder / LABELS / f"{name}.mrc")
    if volume.shape != labels.shape:
        raise ShapeError(
            f"`{source}` has shape {volume.shape} and its labels {labels.shape}. Run `eucentric segment` again."
        )
    return Segmentation(
        volume=volume,
        labels=labels,
        voxel_size_angstrom=header.pixel_size_angstrom or 1.0,
        measures=read_measures(root / folder / MEASURES / f"{name}.csv"),
    )


def read_measures(path: Path) -> dict[str, list[float]]:
    """Columns of numbers of a table with a header line; nothing where there is no file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows:
        return {}
    return {name: [_number(row[n]) for row in rows[1:]] for n, name in enumerate(rows[0])}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float(np.nan)
