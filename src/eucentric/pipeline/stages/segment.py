"""Membranes as a stage: labels, scores, meshes, oriented points and measures of every tomogram."""

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import torch

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.label_files import mask_file
from eucentric.pipeline.restore_stage import half_files, model_files, model_path
from eucentric.pipeline.segment_files import SegmentSource, segment_file
from eucentric.pipeline.segment_outputs import MEASURES, POINTS
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore
from eucentric.segmentation.stage_params import SegmentParams

_HELD = 14
"""float32 volumes held at once by the votes: tensors of six, filters, transforms."""


class SegmentMembranes(ItemStage):
    """Find the membranes of tomograms. Runs when it is asked for."""

    name, params, version, after = "segment", SegmentParams, 1, "reconstruct"

    @classmethod
    def joins_runs(cls, params: SegmentParams) -> bool:
        """Where the plan says so."""
        return params.with_run

    def reads(self, series: str, params: SegmentParams, root: Path) -> tuple[Path, ...]:
        """The model and the mask where they are files, and the tomogram where another stage made it."""
        files = model_files(params.model, root) if params.method == "network" else ()
        mask = _protected(params, root)
        other = () if params.tomograms == "reconstruct" else (_tomogram(series, params, root),)
        return (*files, *other, *([] if mask is None else [mask_file(mask, series)]))

    def peak_bytes(self, series: TiltSeries, params: SegmentParams) -> int:
        """The tomogram several times."""
        del params
        voxels = 0 if series.tomogram is None else int(np.prod(series.tomogram.shape_zyx))
        return 2**30 + 4 * _HELD * voxels

    def run(self, series: TiltSeries, params: SegmentParams, store: ItemStore, device: torch.device) -> Outcome:
        """Segment the tomogram; the series itself stays as it is."""
        tomogram = series.tomogram
        if tomogram is None:
            raise InputError(f"{series.name} has no tomogram to segment. Run `eucentric reconstruct` first.")
        path = store.resolve(tomogram.path)
        if params.tomograms != "reconstruct":
            path = _tomogram(series.name, params, store.root)
        if not path.is_file():
            raise InputError(
                f"`{path}` does not exist. Make it, as by `eucentric {Path(params.tomograms).name}`, or choose other --tomograms."
            )
        half1, half2 = half_files(tomogram, store)
        made = segment_file(
            SegmentSource(
                tomogram=TomogramFile(name=series.name, path=path, specimen=series.specimen),
                voxel_size_angstrom=tomogram.voxel_size_angstrom,
                half1=half1 if params.tomograms == "reconstruct" else None,
                half2=half2 if params.tomograms == "reconstruct" else None,
                protect=_protected(params, store.root),
            ),
            store.output,
            params,
            model_path(params.model, store.root),
            device=device,
            seed=store.seed,
            on_progress=lambda part: store.progress(part, params.method),
        )
        return Outcome(series=series, metrics=made.figures, caveats=made.caveats)

    def gather(self, folder: Path, names: Sequence[str]) -> None:
        """Write `measures.csv` and `points.star` of all tomograms."""
        table, points = folder / "measures.csv", folder / "points.star"
        if not names:
            table.unlink(missing_ok=True)
            points.unlink(missing_ok=True)
            return
        text, header = StringIO(), False
        rows = csv.writer(text, lineterminator="\n")
        for name in names:
            with (folder / MEASURES / f"{name}.csv").open(newline="", encoding="utf-8") as file:
                own = list(csv.reader(file))
            if len(own) > 1 and not header:
                rows.writerow(("tomogram", *own[0]))
                header = True
            rows.writerows((name, *row) for row in own[1:])
        write_text_atomic(table, text.getvalue() if header else "tomogram,label\n")
        lists = [
            read_particles(path, format_name="relion5")
            for name in names
            if (path := folder / POINTS / f"{name}.star").is_file()
        ]
        if lists:
            write_particles(points, ParticleSet.concatenate(lists), "relion5")
        else:
            points.unlink(missing_ok=True)


def _tomogram(series: str, params: SegmentParams, root: Path) -> Path:
    return root / params.tomograms / "tomograms" / f"{series}.mrc"


def _protected(params: SegmentParams, root: Path) -> Path | None:
    if params.protect is None:
        return None
    return root / params.protect
