"""What is known of each tilt series, from the records of its stages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eucentric.errors import EucentricError
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline import records
from eucentric.pipeline.kept_picks import kept_folders, kept_records
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import Record, excluded_series, row_path, variant_folders

if TYPE_CHECKING:
    from eucentric.pipeline.store import StageStore

STAGES = ("motion", "align", "ctf", "reconstruct")
STAGE_TITLES = {"motion": "Motion", "align": "Alignment", "ctf": "Contrast transfer", "reconstruct": "Reconstruction"}
RESTORED = {"denoise": "Denoised", "fill-wedge": "Wedge filled"}
"""Stages that make other tomograms of the reconstructed ones, and what these are."""
SEGMENT = "segment"
MADE = {**RESTORED, SEGMENT: "Membranes"}
"""Stages that make something of tomograms, run when they are asked for, and what it is called."""
PICK = "pick"
IMPORT = "import"
FIT_RESOLUTION = "fit_resolution_median_angstrom"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesHistory:
    """What is known of one tilt series."""

    name: str
    records: dict[str, Record]
    """Of the stages it came through, in order, and of the one it failed in."""
    series: TiltSeries | None
    """As the furthest stage left it, with its raw tomogram."""
    left_out: str | None = None
    """Why a person left it out."""

    @property
    def failure(self) -> Record | None:
        return next((record for record in self.records.values() if not record.is_done), None)

    @property
    def furthest(self) -> str:
        return next(reversed(self.records), IMPORT)

    def metrics(self, stage: str) -> dict[str, float | None]:
        """Of a stage that is done, with the fit resolution that most tilts of the contrast transfer reach."""
        record = self.records.get(stage)
        if record is None or not record.is_done:
            return {}
        found = dict(record.metrics)
        if stage == "ctf" and self.series is not None:
            fits = [t.ctf.max_resolution_angstrom for t in self.series.tilts if t.ctf is not None]
            if known := [f for f in fits if np.isfinite(f)]:
                found[FIT_RESOLUTION] = float(np.median(known))
        return found


def stage_title(folder: str, stage: str = PICK) -> str:
    """Of the results of a stage in a folder, its own or one that was asked for."""
    if stage in MADE:
        return MADE[stage] if folder == stage else f"{MADE[stage]} in {folder}"
    return STAGE_TITLES.get(folder) or f"Picks of {folder.partition('/')[2] or folder}"


def made_folders(root: Path) -> list[str]:
    """Folders of what was made of tomograms: of each stage its own first, then those that were asked for."""
    return [folder for stage in MADE for folder in (stage, *variant_folders(root, stage))]


def made_mark(root: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a stage's own folder of what was made of tomograms does; nothing where there is none."""
    return tuple(
        (f"{stage}: {name}: {record.fingerprint} {record.ended}", 0, 0)
        for stage in MADE
        for name, record in records.read_records(root / stage).items()
    )


def source_table(root: Path, folder: str, name: str) -> Path:
    """The table that a series in a folder of restored tomograms was read from."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        source = json.loads((root / folder / "run.json").read_text(encoding="utf-8"))["source"]
        if source.endswith(".star"):
            return root / str(source)
    return row_path(root / "reconstruct", name)  # the first run of a project notes it at its end


def series_histories(items: Sequence[TiltSeries], store: StageStore) -> list[SeriesHistory]:
    """Of all series of the project, those that failed too.

    Parameters
    ----------
    items : series that came through all stages
    store : of the report
    """
    stages = {stage: store.records(stage) for stage in STAGES}
    made = {folder: store.records(folder) for folder in made_folders(store.root)}
    picks = {folder: store.records(folder) for folder in variant_folders(store.root, PICK)}
    picks |= {f"{PICK}/{folder.name}": kept_records(folder) for folder in kept_folders(store.root)}
    table = store.root / IMPORT / "tilt_series.star"
    names = tilt_series_names(table) if table.is_file() else [n for found in stages.values() for n in found]
    given = {series.name: series for series in items}
    left_out = excluded_series(read_exclusions(store.root))
    histories = []
    for name in dict.fromkeys([*names, *given]):
        passed: dict[str, Record] = {}
        for stage, found in stages.items():
            if name in found:
                passed[stage] = found[name]
                if not found[name].is_done:
                    break  # Records of later stages are of an earlier run.
        else:
            passed |= {folder: found[name] for folder, found in (made | picks).items() if name in found}
        histories.append(
            SeriesHistory(
                name=name,
                records=passed,
                series=given.get(name) or _furthest(name, passed, store),
                left_out=left_out.get(name),
            )
        )
    return histories


def _furthest(name: str, passed: Mapping[str, Record], store: StageStore) -> TiltSeries | None:
    rows = [row_path(store.root / s, name) for s, record in passed.items() if s in STAGES and record.is_done]
    for path in (*reversed(rows), store.root / IMPORT / "tilt_series.star"):
        try:
            series: TiltSeries = read_tilt_series(path, name, store.root)
        except (EucentricError, OSError):
            continue  # An earlier table still tells of the tilts.
        return series
    return None
