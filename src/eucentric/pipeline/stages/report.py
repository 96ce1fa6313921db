"""The report: a page for the project and one for each tilt series, failed ones too."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from eucentric import __version__
from eucentric.errors import EucentricError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.average_report import average_folders, average_mark, read_average
from eucentric.pipeline.kept_picks import kept_folders, kept_mark, kept_records
from eucentric.pipeline.records import Record, row_path, software_versions, variant_folders
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage
from eucentric.reconstruction.params import ReconstructParams
from eucentric.report.alignment_sections import alignment_section, excluded_section
from eucentric.report.averaging_sections import average_page
from eucentric.report.content import (
    AverageRow,
    MetricTable,
    ProjectPage,
    Section,
    SeriesPage,
    SeriesRow,
    format_number,
    metric_label,
)
from eucentric.report.ctf_sections import ctf_section
from eucentric.report.methods import methods
from eucentric.report.pages import render_project, render_series
from eucentric.report.params import ReportParams
from eucentric.report.picking_sections import picking_section
from eucentric.report.sections import (
    SliceImages,
    motion_section,
    tomogram_section,
    with_record,
)

if TYPE_CHECKING:
    import torch

    from eucentric.pipeline.executors import Executor
    from eucentric.pipeline.store import StageStore

_STAGES = ("motion", "align", "ctf", "reconstruct")
_TITLES = {"motion": "Motion", "align": "Alignment", "ctf": "Contrast transfer", "reconstruct": "Reconstruction"}
_PICK = "pick"
_IMPORT = "import"
_FAILED_PICKS = "Nothing could be searched."
_NO_METRICS = "The stage's own figures; the page has no plots for it."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _History:
    """What is known of one tilt series."""

    name: str
    records: dict[str, Record]
    """Of the stages it came through, in order, and of the one it failed in."""
    series: TiltSeries | None
    """As the furthest stage left it."""

    @property
    def failure(self) -> Record | None:
        return next((record for record in self.records.values() if not record.is_done), None)

    @property
    def furthest(self) -> str:
        return next(reversed(self.records), _IMPORT)


class WriteReport(CollectiveStage):
    """Write the pages of the report."""

    name, params, version, after = "report", ReportParams, 1, "reconstruct"
    runs_without_items = True
    shows_variants_of = ("reconstruct", _PICK)

    @classmethod
    def also_reads(cls, root: Path) -> tuple[tuple[str, int, int], ...]:
        """Marks of the averages, and of picks that no template found."""
        averages = (average_mark(folder) for folder in average_folders(root))
        return (*averages, *(kept_mark(folder) for folder in kept_folders(root)))

    def run(
        self, items: list[TiltSeries], params: ReportParams, store: StageStore, executor: Executor, device: torch.device
    ) -> CollectiveOutcome:
        """Write `report/index.html` and a page for each tilt series.

        A part whose file cannot be read is left out, and the page says so.
        """
        del executor, device
        histories = _histories(items, store)
        files = page_names([h.name for h in histories])
        problems: list[str] = []
        for index, history in enumerate(histories):
            store.progress(index / len(histories), history.name)
            page, notes = _series_page(history, store, params)
            write_text_atomic(store.output(files[history.name]), render_series(page))
            problems.extend(f"{history.name}: {note}" for note in notes)
        averages = _average_pages(store, params, files)
        page_of_all = replace(_project_page(histories, files, params), averages=averages)
        write_text_atomic(store.output("index.html"), render_project(page_of_all))
        failed = sum(h.failure is not None for h in histories)
        metrics = {"series": float(len(histories)), "failed": float(failed)}
        if averages:
            metrics["averages"] = float(len(averages))
        return CollectiveOutcome(metrics=metrics, caveats=tuple(problems))


def _average_pages(store: StageStore, params: ReportParams, taken: Mapping[str, str]) -> tuple[AverageRow, ...]:
    """Write a page for each average of the project."""
    folders = average_folders(store.root)
    names = page_names([*taken, *(f"average-{folder.name}" for folder in folders)])
    rows = []
    for folder in folders:
        page = average_page(read_average(folder), params)
        file = names[f"average-{folder.name}"]
        write_text_atomic(store.output(file), render_series(page))
        rows.append(AverageRow(name=folder.name, page=file, facts=page.facts))
    return tuple(rows)


def page_names(names: Sequence[str]) -> dict[str, str]:
    """File names of the pages of tilt series: letters, digits, `_`, `-` and `.` only, no two the same."""
    files: dict[str, str] = {}
    taken = {"index"}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".")[:100] or "series"
        # Some disks take capitals and small letters for the same.
        if plain != name or plain.lower() in taken:
            plain = f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        taken.add(plain.lower())
        files[name] = f"{plain}.html"
    return files


def _histories(items: Sequence[TiltSeries], store: StageStore) -> list[_History]:
    stages = {stage: store.records(stage) for stage in _STAGES}
    picks = {folder: store.records(folder) for folder in variant_folders(store.root, _PICK)}
    picks |= {f"{_PICK}/{folder.name}": kept_records(folder) for folder in kept_folders(store.root)}
    table = store.root / _IMPORT / "tilt_series.star"
    names = tilt_series_names(table) if table.is_file() else [n for found in stages.values() for n in found]
    given = {series.name: series for series in items}
    histories = []
    for name in dict.fromkeys([*names, *given]):
        passed: dict[str, Record] = {}
        for stage, found in stages.items():
            if name in found:
                passed[stage] = found[name]
                if not found[name].is_done:
                    break  # Records of later stages are of an earlier run.
        else:
            passed |= {folder: found[name] for folder, found in picks.items() if name in found}
        histories.append(_History(name=name, records=passed, series=given.get(name) or _furthest(name, passed, store)))
    return histories


def _furthest(name: str, passed: Mapping[str, Record], store: StageStore) -> TiltSeries | None:
    rows = [row_path(store.root / stage, name) for stage, record in passed.items() if record.is_done]
    for path in (*reversed(rows), store.root / _IMPORT / "tilt_series.star"):
        try:
            series: TiltSeries = read_tilt_series(path, name, store.root)
        except (EucentricError, OSError):
            continue  # An earlier table still tells of the tilts.
        return series
    return None


def _series_page(history: _History, store: StageStore, params: ReportParams) -> tuple[SeriesPage, list[str]]:
    notes: list[str] = []
    sections: list[Section] = []
    series = history.series
    done = {stage: record for stage, record in history.records.items() if record.is_done}
    curves = {stage: _curves(store, stage, history.name, notes) if stage in done else {} for stage in _STAGES}
    if "align" in done:
        curves["align"] |= _curves(store, "align", history.name, notes, "pictures")
    pictures = _curves(store, "ctf", history.name, notes, "pictures") if "ctf" in done else {}
    turned = store.records("axis").get(history.name)
    if (
        turned is not None
        and turned.is_done
        and "align" in done
        and (again := _curves(store, "axis", history.name, notes))
    ):
        curves["align"] = again | _curves(store, "axis", history.name, notes, "pictures")
        done["align"] = replace(done["align"], metrics=turned.metrics, caveats=done["align"].caveats + turned.caveats)
    found: dict[str, Section | None] = {}
    if series is not None:
        found["motion"] = motion_section(series, curves["motion"], params)
        found["align"] = alignment_section(series, curves["align"], params)
        found["excluded"] = excluded_section(series, curves["align"], params)
        found["ctf"] = ctf_section(series, curves["ctf"], pictures, params)
        slices = None
        if series.tomogram is not None and "reconstruct" in done:
            slices = _slices(series.tomogram, store, params.slice_planes, notes)
        found["reconstruct"] = tomogram_section(slices, curves["reconstruct"], params)
    for stage in ("motion", "align", "excluded", "ctf", "reconstruct"):
        section, record = found.get(stage), done.get(stage)
        if section is None and record is not None and (record.metrics or record.caveats):
            section = Section(title=_TITLES[stage], reading=_NO_METRICS)
        if section is not None:
            sections.append(section if record is None else with_record(section, record.metrics, record.caveats))
    sections += _variants(history.name, store, params, notes)
    sections += _picks(history, store, params, notes)
    if notes:
        sections.append(
            Section(title="Left out of this page", reading="Files that could not be read.", caveats=tuple(notes))
        )
    failure = history.failure
    page = SeriesPage(
        name=history.name,
        facts=() if series is None else _facts(series),
        failed_stage=None if failure is None else failure.stage,
        message=None if failure is None else failure.message or "no message was kept",
        sections=tuple(sections),
    )
    return page, notes


def _variants(name: str, store: StageStore, params: ReportParams, notes: list[str]) -> list[Section]:
    """A section for every tomogram of the series that stands in a folder of its own, with what was set otherwise."""
    sections = []
    for folder in variant_folders(store.root, "reconstruct"):
        record = store.records(folder).get(name)
        if record is None or not record.is_done:
            continue
        try:
            tomogram = read_tilt_series(row_path(store.root / folder, name), name, store.root).tomogram
        except (EucentricError, OSError) as error:
            notes.append(f"The tomogram in `{folder}` is not shown: {error}")
            continue
        slices = None if tomogram is None else _slices(tomogram, store, params.slice_planes, notes)
        section = tomogram_section(slices, _curves(store, folder, name, notes), params)
        if section is not None:
            chosen = _settings_unlike(record, store.records("reconstruct").get(name))
            title = f"Tomogram in {folder}" + (f" ({chosen})" if chosen else "")
            sections.append(replace(with_record(section, record.metrics, record.caveats), title=title))
    return sections


def _picks(history: _History, store: StageStore, params: ReportParams, notes: list[str]) -> list[Section]:
    """A section for every search of the tomogram."""
    sections = []
    for folder, record in history.records.items():
        if record.stage != _PICK:
            continue
        title = _title(folder)
        if not record.is_done:
            sections.append(Section(title=title, reading=_FAILED_PICKS, caveats=(record.message or "",)))
            continue
        kept = _curves(store, folder, history.name, notes, "candidates")
        pictures = _curves(store, folder, history.name, notes, "pictures")
        section = picking_section(title, kept, pictures, params) or Section(title=title, reading=_NO_METRICS)
        sections.append(with_record(section, record.metrics, record.caveats))
    return sections


def _title(stage: str) -> str:
    """Of a stage, or of a search in a folder of its own."""
    return _TITLES.get(stage) or f"Picks of {stage.partition('/')[2] or stage}"


def _settings_unlike(record: Record, usual: Record | None) -> str:
    """The settings of a record that differ from those of another, in words."""
    other = {} if usual is None else usual.parameters
    words = {None: "none", True: "on", False: "off"}
    return ", ".join(
        f"{metric_label(key)} {words[value] if value is None or isinstance(value, bool) else value}"
        for key, value in record.parameters.items()
        if other.get(key) != value
    )


def _facts(series: TiltSeries) -> tuple[tuple[str, str], ...]:
    angles = [t.nominal_tilt_deg for t in series.tilts]
    facts = [("tilts used", str(len(angles))), ("tilts excluded", str(len(series.excluded)))]
    if angles:
        facts.append(("tilt range", f"{min(angles):.1f}° to {max(angles):.1f}°"))
        facts.append(("total dose", f"{format_number(float(series.doses.sum()))} e/Å²"))
    facts.append(("pixel size", f"{format_number(series.pixel_size_angstrom)} Å"))
    if series.optics is not None:
        facts.append(("voltage", f"{format_number(series.optics.voltage_kv)} kV"))
    if series.tomogram is not None:
        z, y, x = series.tomogram.shape_zyx
        voxel = format_number(series.tomogram.voxel_size_angstrom)
        facts.append(("tomogram", f"{x} × {y} × {z} voxels (x, y, z) of {voxel} Å"))
    return tuple(facts)


def _curves(
    store: StageStore, stage: str, name: str, notes: list[str], folder: str = "curves"
) -> dict[str, NDArray[Any]]:
    """What a stage kept to be plotted; nothing where it kept none."""
    path = store.root / stage / folder / f"{name}.npz"
    if not path.is_file():
        return {}
    try:
        # numpy leaves a file of its own opening open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {key: np.asarray(stored[key]) for key in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        notes.append(f"`{stage}/{folder}/{path.name}` cannot be read ({error}). Run the stage again.")
        return {}


def _slices(tomogram: Tomogram, store: StageStore, planes: int, notes: list[str]) -> SliceImages | None:
    path = Path(store.resolve(tomogram.path))
    try:
        array, _ = read_mrc(path, as_stored=True)  # grey values of a picture need no scale
        return central_planes(array, tomogram.voxel_size_angstrom, planes)
    except (EucentricError, OSError) as error:
        notes.append(f"The tomogram is not shown: {error}")
        return None


def central_planes(volume: NDArray[Any], voxel_size_angstrom: float, planes: int) -> SliceImages:
    """Means of the planes around the centre, voxel `n // 2`, of a volume (z, y, x)."""
    middle = []
    for axis in range(3):
        centre, count = volume.shape[axis] // 2, volume.shape[axis]
        start = max(centre - (planes - 1) // 2, 0)
        places: list[slice] = [slice(None)] * 3
        places[axis] = slice(start, min(max(centre + planes // 2, start) + 1, count))
        middle.append(np.asarray(volume[tuple(places)], dtype=np.float64))
    across_y = middle[1] - middle[1].mean(axis=(0, 2), keepdims=True)
    # A Hann window along both axes: edges that do not meet would draw a bright cross over the wedge.
    window = np.hanning(across_y.shape[0] + 2)[1:-1, None, None] * np.hanning(across_y.shape[2] + 2)[1:-1]
    power = (np.abs(np.fft.fft2(across_y * window, axes=(0, 2))) ** 2).mean(axis=1)
    return SliceImages(
        slice_z=middle[0].mean(axis=0),
        slice_y=middle[1].mean(axis=1),
        slice_x=middle[2].mean(axis=2),
        power_zx=cast("NDArray[np.float64]", np.fft.fftshift(power)),
        voxel_size_angstrom=voxel_size_angstrom,
    )


def _project_page(histories: Sequence[_History], files: Mapping[str, str], params: ReportParams) -> ProjectPage:
    rows = []
    for history in histories:
        failure = history.failure
        rows.append(
            SeriesRow(
                name=history.name,
                page=files[history.name],
                stage=history.furthest,
                failed=failure is not None,
                message="" if failure is None else failure.message or "no message was kept",
                tilt_count=None if history.series is None else len(history.series.tilts),
                excluded_count=None if history.series is None else len(history.series.excluded),
                seconds=sum(r.seconds for r in history.records.values()),
                caveat_count=sum(len(r.caveats) for r in history.records.values()),
            )
        )
    ran: dict[str, list[Mapping[str, Any]]] = {}
    for stage in _STAGES:
        used = [_used(h, r) for h in histories if (r := h.records.get(stage)) is not None and r.is_done]
        if used := [settings for settings in used if settings is not None]:
            ran[stage] = used
    picked = {folder: None for h in histories for folder, r in h.records.items() if r.stage == _PICK and r.is_done}
    if picked:
        ran[_PICK] = [h.records[f].parameters for h in histories for f in picked if f in h.records]
    paragraphs, references = methods(ran, __version__)
    tables = [table for stage in (*_STAGES, *picked) if (table := _metric_table(stage, histories)) is not None]
    return ProjectPage(
        title=params.title,
        rows=tuple(rows),
        tables=tuple(tables),
        methods=paragraphs,
        references=references,
        versions=tuple(software_versions().items()),
    )


def _used(history: _History, record: Record) -> Mapping[str, Any] | None:
    """The settings of a stage as they were used for a series; None where there was nothing to do."""
    series = history.series
    if record.stage == "align":
        return _used_to_align(record)
    if record.stage != "reconstruct" or series is None:
        return record.parameters
    if not series.tilts:
        return None
    # records of earlier versions lack what was not there to choose, and may hold what is no longer
    known = {name: value for name, value in record.parameters.items() if name in ReconstructParams.model_fields}
    params = ReconstructParams.model_construct(**{"method": "wbp", "ctf_correction": "none", **known})
    used = dict(params.resolved(has_ctf=series.has_ctf, has_halves=series.has_halves))
    used["has_halves"] = series.has_halves
    used["dose_weighting"] &= series.optics is not None and bool(series.doses.any())
    used["erase_beads"] &= bool(record.metrics.get("bead_diameter_angstrom"))
    return used


def _used_to_align(record: Record) -> Mapping[str, Any]:
    """What `auto` came to, as the figures tell, and whether the specimen was found to bend."""
    tracked = next((m for m in ("beads", "patches") if f"{m}_tracked" in record.metrics), "projection")
    method = record.parameters.get("method", "projection")
    chosen = tracked if method in ("auto", "beads", "patches") else method
    return {**record.parameters, "method": chosen, "deformed": "local_deformation_max_angstrom" in record.metrics}


def _metric_table(stage: str, histories: Sequence[_History]) -> MetricTable | None:
    done = [(h.name, r.metrics) for h in histories if (r := h.records.get(stage)) is not None and r.is_done]
    labels = list(dict.fromkeys(label for _, metrics in done for label in metrics))
    if not labels:
        return None
    return MetricTable(
        stage=_title(stage),
        columns=tuple(metric_label(label) for label in labels),
        rows=tuple(
            (name, tuple(format_number(m[label]) if label in m else "" for label in labels)) for name, m in done
        ),
    )
