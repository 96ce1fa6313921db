"""Template matching as a stage: picks of every tomogram, and what the report shows of them."""

import csv
import io
import time
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particles import read_particles, write_particles
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.picking.candidates import Candidates, KindCount
from eucentric.picking.pick_pictures import pictures_of_picks, score_views, template_slices
from eucentric.picking.stage_params import PickParams
from eucentric.pipeline.pick_templates import picked_particles, read_templates, write_score_volumes
from eucentric.pipeline.records import read_record
from eucentric.pipeline.search_tomogram import Searched, TomogramJob, search_tomogram
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.store import ItemStore

PARTICLES = "particles"
CANDIDATES, PICTURES = "candidates", "pictures"
_HELD = 10  # float32 volumes held at once: the tomogram, its transforms, scores of patterns
_CUBIC_MICROMETRE = 1e12  # A^3


class PickTemplates(ItemStage):
    """Find particles in tomograms by their structure."""

    name, params, version, after = "pick", PickParams, 2, "reconstruct"

    @classmethod
    def folder(cls, params: PickParams) -> str:
        """`pick/<name>`."""
        return f"{cls.name}/{params.folder_name}"

    @classmethod
    def waits_for(cls, params: PickParams) -> str | None:
        """A template."""
        if params.templates:
            return None
        return (
            "No template is chosen, so nothing can be picked. Give one with `eucentric pick PROJECT --template FILE`, or write "
            'templates = ["FILE"] under [pick] in eucentric.toml.'
        )

    def peak_bytes(self, series: TiltSeries, params: PickParams) -> int:
        """The tomogram and its transforms several times."""
        del params
        voxels = 0 if series.tomogram is None else int(np.prod(series.tomogram.shape_zyx))
        return 2**30 + 4 * _HELD * voxels

    def reads(self, series: str, params: PickParams, root: Path) -> tuple[Path, ...]:
        """Templates and their masks that are files, and the mask of the tomogram."""
        files = [root / path for path in params.templates if not path.startswith("sphere:")]
        files += [root / path for path in params.template_masks]
        mask = _mask(series, params, root)
        return (*files, *([] if mask is None else [mask]))

    def run(self, series: TiltSeries, params: PickParams, store: ItemStore, device: torch.device) -> Outcome:
        """Search the tomogram; write its picks, all candidates and small pictures."""
        if series.tomogram is None:
            raise InputError(f"{series.name} has no tomogram to pick from. Run `eucentric reconstruct` first.")
        started = time.monotonic()
        files = [path if path.startswith("sphere:") else str(store.root / path) for path in params.templates]
        searched = search_tomogram(
            TomogramJob.of_series(series, store.root),
            partial(
                read_templates,
                files,
                symmetries=params.symmetries,
                pixel_size=params.template_pixel_size_angstrom,
                masks=[str(store.root / path) for path in params.template_masks],
                resolution_angstrom=params.resolution_angstrom,
            ),
            params,
            device=device,
            tilts=params.tilts_deg,
            pixel_size=series.tomogram.voxel_size_angstrom,
            mask=_mask(series.name, params, store.root),
            seed=store.seed,
            on_step=lambda part: store.progress(part, "matching"),
        )
        seconds = time.monotonic() - started
        particles = picked_particles(series.name, searched.result, searched.templates)
        if series.tilts:
            particles = particles.with_column("rlnTomoTiltSeriesPixelSize", series.pixel_size_angstrom)
        write_particles(store.output(PARTICLES, f"{series.name}.star"), particles, "relion5")
        candidates = Candidates.build(searched.result, searched.templates)
        store.write_arrays(CANDIDATES, **candidates.arrays())
        store.write_arrays(PICTURES, **_pictures(searched, candidates))
        if params.score_volumes:
            write_score_volumes(store.output("scores", "x").parent, series.name, searched)
        caveats = searched.caveats
        if not len(particles):
            caveats += (f"Nothing was found in {series.name}: no candidate passes the cut-offs.",)
        return Outcome(series=series, metrics=_metrics(searched, seconds), caveats=caveats)

    def gather(self, folder: Path, names: Sequence[str]) -> None:
        """Write `particles.star` of all tomograms, and `counts.csv`."""
        if not names:
            (folder / "particles.star").unlink(missing_ok=True)
            (folder / "counts.csv").unlink(missing_ok=True)
            return
        lists = [read_particles(folder / PARTICLES / f"{name}.star", format_name="relion5") for name in names]
        write_particles(folder / "particles.star", ParticleSet.concatenate(lists), "relion5")
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        columns = [f.name for f in fields(KindCount)]
        table.writerow(("tomogram", *columns, "searched_volume_um3"))
        for name in names:
            record = read_record(folder, name)
            searched = None if record is None else record.metrics.get("searched_volume_um3")
            with np.load(folder / CANDIDATES / f"{name}.npz") as kept:
                found = Candidates.from_arrays({key: kept[key] for key in kept.files})
            for row in () if found is None else found.counts():
                table.writerow((name, *(getattr(row, column) for column in columns), searched))
        write_text_atomic(folder / "counts.csv", text.getvalue())


def _mask(series: str, params: PickParams, root: Path) -> Path | None:
    if params.mask is None:
        return None
    place = root / params.mask
    return place / f"{series}.mrc" if place.is_dir() else place


def _pictures(searched: Searched, candidates: Candidates) -> dict[str, Any]:
    """Grey values: layers of the tomogram, views of the scores, slices through picks."""
    result, templates = searched.result, searched.templates
    arrays = pictures_of_picks(searched.volume, searched.voxel_size_angstrom, searched.region, candidates)
    arrays["score_voxel_angstrom"] = np.array(result.score_voxel_angstrom)
    for number, template in enumerate(templates):
        top, side, ends = score_views(result.score_volumes[number])
        arrays |= {
            f"score_top_{number}": top,
            f"score_side_{number}": side,
            f"score_ends_{number}": ends,
            f"template_slices_{number}": template_slices(template),
        }
    return arrays


def _metrics(searched: Searched, seconds: float) -> dict[str, float]:
    result = searched.result
    picks, searched_um3 = float(result.kept.sum()), float(searched.region.sum()) * searched.voxel_size_angstrom**3
    searched_um3 /= _CUBIC_MICROMETRE
    scores = result.scores[result.kept]
    return {
        "picks": picks,
        "candidates": float(len(result.scores)),
        "decoys": float(len(result.decoy_scores)),
        "searched_volume_um3": searched_um3,
        "pick_density_per_um3": picks / searched_um3,
        "median_score_sd": float(np.median(scores)) if len(scores) else float("nan"),
        "coarse_voxel_angstrom": float(result.score_voxel_angstrom.min()),
        "rotations_times_voxels_per_second": result.rotation_voxels / max(seconds, 1e-9),
    }
