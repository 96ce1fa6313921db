"""Filaments in files: tomograms in; labels, points along each filament, drawn models and a table out."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError
from eucentric.io.csv_tables import write_csv_table
from eucentric.io.imod_particles import write_model_contours
from eucentric.io.particles import write_particles
from eucentric.models import ParticleSet, TomogramFrame
from eucentric.picking.centre_lines import centre_line
from eucentric.picking.trace_filaments import TracedFilament, trace_filaments
from eucentric.picking.trace_params import TraceParams
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.filament_files import filament_particles
from eucentric.pipeline.label_files import write_labels
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.threshold_files import SegmentedFiles, TomogramChoice, each_tomogram, protected_places
from eucentric.segmentation.filaments import LinkLimits, link_pieces, mean_curvature, paint_tubes
from eucentric.typing import FloatArray

_UNKNOWN_POLARITY = {"rlnAnglePsiFlipRatio": 0.5}
"""As RELION marks an axis that may point either way."""
_CHORD = 4.0  # diameters, of the chords that tell the curvature
_COLUMNS = (
    "tomogram",
    "label",
    "length_angstrom",
    "mean_curvature_per_um",
    "score",
    "sigma_angstrom",
    "pieces",
    "bridged_angstrom",
    *(f"{end}_{axis}_angstrom" for end in ("first", "last") for axis in "xyz"),
    "polarity",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkedFilament:
    """A filament of one piece or of several."""

    line: TracedFilament
    pieces: int
    bridged_angstrom: float
    """Length of the gaps between them."""


def label_filament_files(
    choice: TomogramChoice,
    output: Path,
    params: TraceParams,
    links: LinkLimits | None,
    *,
    name: str = "filament",
    protect: Path | None = None,
    max_score: float = math.inf,
    overwrite: bool = False,
) -> SegmentedFiles:
    """Trace filaments in every tomogram, join their pieces, and paint them.

    Parameters
    ----------
    output : folder to be made: `labels/NAME.mrc`, `models/NAME.mod`, `points.star` and `filaments.csv`
    links : which pieces are joined; none where None
    name : of the objects in the models
    protect : volume above 0 where nothing is traced, or a folder with `NAME.mrc` for each tomogram
    max_score : median score of a piece, at most: edges of carbon and thicker filaments score far more than thin ones

    Raises
    ------
    InputError : no tomogram, files that would be replaced unasked; of the only tomogram also what `trace_filaments` raises
    """
    files = choice.files()
    table, points = output / "filaments.csv", output / "points.star"
    labels = {one.name: output / "labels" / f"{one.name}.mrc" for one in files}
    models = {one.name: output / "models" / f"{one.name}.mod" for one in files}
    refuse_to_replace([table, points, *labels.values(), *models.values()], [one.path for one in files], overwrite)
    for folder in (output / "labels", output / "models"):
        folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Any, ...]] = []
    parts: list[ParticleSet] = []

    def work(one: TomogramFile) -> dict[str, Any]:
        volume, voxel = choice.read(one)
        z, y, x = volume.shape
        if protect is not None:
            volume = _without(volume, protected_places(protect, one, volume))
        pieces = [line for line in trace_filaments(volume, voxel, params) if float(np.median(line.scores)) <= max_score]
        found = link_filaments(pieces, params, links)
        lines = [closely_sampled(linked.line.points_angstrom, voxel) for linked in found]
        write_labels(labels[one.name], paint_tubes(lines, (z, y, x), voxel, params.diameter_angstrom), voxel)
        frame = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))
        write_model_contours(models[one.name], {name: [linked.line.points_angstrom for linked in found]}, frame)
        for number, linked in enumerate(found, 1):
            part = filament_particles(one.name, linked.line, number)
            for column, value in _UNKNOWN_POLARITY.items():
                part = part.with_column(column, value)
            parts.append(part)
            rows.append((one.name, number, *_row(linked, lines[number - 1], params.diameter_angstrom)))
        total = sum(linked.line.length_angstrom for linked in found)
        return {
            "labels": str(labels[one.name]),
            "model": str(models[one.name]),
            "filaments": len(found),
            "length_angstrom": total,
            "joined": sum(linked.pieces - 1 for linked in found),
        }

    told = each_tomogram(files, work, many=len(files) > 1)
    write_csv_table(table, _COLUMNS, rows)
    write_particles(points, ParticleSet.concatenate(parts), "relion5")
    return SegmentedFiles(table=table, tomograms=told)


def _without(volume: Tensor, protected: Tensor) -> Tensor:
    """The ground in place of what is not looked at."""
    if bool(protected.all()):
        raise InputError("The mask of protected places is true everywhere: nothing is left to be traced. Check it.")
    return torch.where(protected, volume[~protected].median(), volume)


def link_filaments(lines: list[TracedFilament], params: TraceParams, links: LinkLimits | None) -> list[LinkedFilament]:
    """Pieces that follow each other as one filament each, the best first."""
    if links is None:
        return [LinkedFilament(line=line, pieces=1, bridged_angstrom=0.0) for line in lines]
    chains = link_pieces([line.points_angstrom for line in lines], params.diameter_angstrom, links)
    made = [_joined([lines[n] for n, _ in chain], [back for _, back in chain], params) for chain in chains]
    return sorted(made, key=lambda linked: -float(np.median(linked.line.scores)))


def _joined(pieces: list[TracedFilament], backwards: list[bool], params: TraceParams) -> LinkedFilament:
    if len(pieces) == 1:
        return LinkedFilament(line=pieces[0], pieces=1, bridged_angstrom=0.0)
    points = [p.points_angstrom[::-1] if back else p.points_angstrom for p, back in zip(pieces, backwards, strict=True)]
    scores = [p.scores[::-1] if back else p.scores for p, back in zip(pieces, backwards, strict=True)]
    gaps = [float(np.linalg.norm(b[0] - a[-1])) for a, b in pairwise(points)]
    whole = centre_line(np.concatenate(points))
    spacing = params.spacing_angstrom or params.diameter_angstrom / 2.0
    count = max(2, 1 + round(whole.length_angstrom / spacing))
    track = np.linspace(0.0, whole.length_angstrom, count)
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(np.concatenate(points), axis=0), axis=1))])
    lengths = np.array([len(p.points_angstrom) for p in pieces])
    line = TracedFilament(
        points_angstrom=whole.at(track)[0],
        scores=np.interp(track, chord * whole.length_angstrom / chord[-1], np.concatenate(scores)),
        residual_angstrom=float(np.sqrt(np.average([p.residual_angstrom**2 for p in pieces], weights=lengths))),
        sigma_angstrom=float(np.sqrt(np.average([p.sigma_angstrom**2 for p in pieces], weights=lengths))),
    )
    return LinkedFilament(line=line, pieces=len(pieces), bridged_angstrom=sum(gaps))


def closely_sampled(points_angstrom: FloatArray, voxel_size: float) -> FloatArray:
    """(point, 3) on the spline through points, half a voxel apart."""
    line = centre_line(points_angstrom)
    count = max(2, 1 + math.ceil(2.0 * line.length_angstrom / voxel_size))
    return line.at(np.linspace(0.0, line.length_angstrom, count))[0]


def _row(linked: LinkedFilament, line: FloatArray, diameter: float) -> tuple[Any, ...]:
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    ends = [f"{value:.2f}" for value in (*line[0], *line[-1])]
    return (
        f"{length:.1f}",
        f"{1e4 * mean_curvature(line, _CHORD * diameter):.4f}",
        f"{float(np.median(linked.line.scores)):.2f}",
        f"{linked.line.sigma_angstrom:.2f}",
        linked.pieces,
        f"{linked.bridged_angstrom:.1f}",
        *ends,
        "unknown",
    )
