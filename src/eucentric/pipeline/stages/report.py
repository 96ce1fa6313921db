"""The report: a page for the project and one for each tilt series, failed ones too."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import EucentricError, FormatError, ShapeError
from eucentric.io.atomic import write_bytes_atomic, write_text_atomic
from eucentric.io.curves import read_curves
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.pipeline.average_report import average_folders, average_mark, averaging_settings, read_average
from eucentric.pipeline.kept_picks import kept_folders, kept_mark
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import Record, excluded_series, row_path, variant_folders
from eucentric.pipeline.refine_report import (
    read_refinement,
    refine_folders,
    refine_mark,
    refined_averages,
    refinement_settings,
)
from eucentric.pipeline.report_acquisition import judge_histories, with_acquisition, with_session
from eucentric.pipeline.report_project import outliers_in_words, project_metrics, project_page
from eucentric.pipeline.restore_stage import TRUST
from eucentric.pipeline.segment_outputs import read_segmentation
from eucentric.pipeline.series_history import (
    MADE,
    PICK,
    RESTORED,
    SEGMENT,
    STAGE_TITLES,
    STAGES,
    SeriesHistory,
    made_mark,
    series_histories,
    source_table,
    stage_title,
)
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage
from eucentric.pipeline.stages import STAGES as EVERY_STAGE
from eucentric.pipeline.stages import load_settings
from eucentric.report.alignment_sections import alignment_section, excluded_section
from eucentric.report.averaging_sections import average_page
from eucentric.report.content import Picture, ProjectPage, ResultRow, Section, SeriesPage, format_number, metric_label
from eucentric.report.ctf_sections import ctf_section
from eucentric.report.exports import Figures, figures_of, figures_zip, metrics_csv, metrics_json
from eucentric.report.pages import render_project, render_series
from eucentric.report.params import ReportParams
from eucentric.report.picking_sections import picking_section
from eucentric.report.refined_series_sections import refined_series_page
from eucentric.report.refinement_sections import refinement_page
from eucentric.report.restoration_sections import RestoredVolumes, restoration_section
from eucentric.report.sections import SliceImages, motion_section, thumbnail, tomogram_section, with_record
from eucentric.report.segmentation_sections import segmentation_section
from eucentric.typing import FloatArray

if TYPE_CHECKING:
    import torch

    from eucentric.pipeline.executors import Executor
    from eucentric.pipeline.store import StageStore

_DATA = "data"
_FAILED_PICKS = "Nothing could be searched."
_FAILED_RESTORATION = "Nothing could be made of the tomogram."
_FAILED_SEGMENTATION = "Nothing could be segmented."
_NO_METRICS = "The stage's own figures; the page has no plots for it."


class WriteReport(CollectiveStage):
    """Write the pages of the report."""

    name, params, version, after = "report", ReportParams, 4, "reconstruct"
    runs_without_items = True
    shows_variants_of = ("reconstruct", *MADE, PICK)

    @classmethod
    def also_reads(cls, root: Path) -> tuple[tuple[str, int, int], ...]:
        """Marks of averages, of refinements, of what was made of tomograms, of picks without a template, and of series left out."""
        averages = (average_mark(folder) for folder in average_folders(root))
        refined = (refine_mark(folder) for folder in refine_folders(root))
        left_out = ((f"{name}: {why}", 0, 0) for name, why in excluded_series(read_exclusions(root)).items())
        kept = (kept_mark(folder) for folder in kept_folders(root))
        return (*averages, *refined, *made_mark(root), *kept, *left_out)

    def run(
        self, items: list[TiltSeries], params: ReportParams, store: StageStore, executor: Executor, device: torch.device
    ) -> CollectiveOutcome:
        """Write `report/index.html` and a page for each tilt series.

        A part whose file cannot be read is left out, and the page says so.
        """
        del executor, device
        histories = series_histories(items, store)
        files = page_names([h.name for h in histories])
        outliers = outliers_in_words(histories)
        taken = judge_histories(histories)
        thumbnails: dict[str, Picture] = {}
        problems: list[str] = []
        for index, history in enumerate(histories):
            store.progress(index / len(histories), history.name)
            page, notes, small = _series_page(history, store, params)
            if (how := taken.get(history.name)) is not None:
                page = with_acquisition(page, how, params)
            _write_page(store, files[history.name], replace(page, outliers=outliers.get(history.name, ())))
            problems.extend(f"{history.name}: {note}" for note in notes)
            if small is not None:
                thumbnails[history.name] = small
        averages, names = _average_pages(store, params, files)
        refinements = _refinement_pages(store, params, names)
        settings = averaging_settings(store.root) | refinement_settings(store.root)
        page_of_all = replace(
            with_session(project_page(histories, files, thumbnails, outliers, params, settings), taken),
            averages=averages,
            refinements=refinements,
        )
        _write_project(store, page_of_all, histories)
        failed = sum(h.failure is not None for h in histories)
        metrics = {"series": float(len(histories)), "failed": float(failed)}
        if averages:
            metrics["averages"] = float(len(averages))
        if refinements:
            metrics["refinements"] = float(len(refinements))
        return CollectiveOutcome(metrics=metrics, caveats=tuple(problems))


def _write_page(store: StageStore, file: str, page: SeriesPage) -> None:
    """The page, and the numbers of its figures beside it."""
    data = _write_figures(store, file.removesuffix(".html"), page.name, figures_of(page))
    write_text_atomic(store.output(file), render_series(replace(page, files=(*page.files, *data))))


def _write_figures(store: StageStore, stem: str, name: str, figures: Figures) -> tuple[tuple[str, str], ...]:
    """The archive of the figures' numbers, as a page names it; nothing where there are none."""
    if not figures:
        return ()
    write_bytes_atomic(store.output(_DATA, f"{stem}.zip"), figures_zip(name, figures))
    return ((f"{_DATA}/{stem}.zip", "Numbers behind the figures (CSV and JSON)"),)


def _write_project(store: StageStore, page: ProjectPage, histories: Sequence[SeriesHistory]) -> None:
    """The page, its metrics, the numbers of its figures and the references beside it."""
    found = project_metrics(histories)
    write_text_atomic(store.output("metrics.csv"), metrics_csv(found))
    write_text_atomic(store.output("metrics.json"), metrics_json(found))
    write_text_atomic(store.output("methods.bib"), page.bibtex)
    # no page of a series is called index
    figures = _write_figures(store, "index", page.title, [(page.title, picture) for picture in page.pictures])
    files = (("metrics.csv", "All metrics (CSV)"), ("metrics.json", "All metrics (JSON)"), *figures)
    write_text_atomic(store.output("index.html"), render_project(replace(page, files=files)))


def _average_pages(
    store: StageStore, params: ReportParams, taken: Mapping[str, str]
) -> tuple[tuple[ResultRow, ...], Mapping[str, str]]:
    """Write a page for each average of the project, and for each that a refinement made; with names of pages so far.

    Parameters
    ----------
    taken : names of pages by what they show
    """
    folders = {f"average-{folder.name}": (folder.name, folder) for folder in average_folders(store.root)}
    for refinement in refine_folders(store.root):
        for folder in refined_averages(refinement):
            label = f"{folder.name}, refined in {refinement.name}"
            folders[f"average-{refinement.name}-refined-{folder.name}"] = (label, folder)
    names = page_names([*taken, *folders])
    rows = []
    for key, (label, folder) in folders.items():
        page = replace(average_page(read_average(folder), params), name=f"Average {label}")
        _write_page(store, names[key], page)
        rows.append(ResultRow(name=label, page=names[key], facts=page.facts))
    return tuple(rows), names


def _refinement_pages(store: StageStore, params: ReportParams, taken: Mapping[str, str]) -> tuple[ResultRow, ...]:
    """Write a page for each refinement of the project, and one for each tilt series in it."""
    rows = []
    for folder in refine_folders(store.root):
        found = read_refinement(folder, store.root)
        whole = f"refine-{folder.name}"
        keys = {series.name: f"{whole}-series-{series.name}" for series in found.series}
        taken = page_names([*taken, whole, *keys.values()])
        page = refinement_page(found, params)
        for series in found.series:
            back = ((taken[whole], page.name),)
            one = refined_series_page(folder.name, series, params)
            _write_page(store, taken[keys[series.name]], replace(one, files=back))
        links = tuple((taken[key], name) for name, key in keys.items())
        _write_page(store, taken[whole], replace(page, files=links))
        rows.append(ResultRow(name=folder.name, page=taken[whole], facts=page.facts))
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


def _series_page(
    history: SeriesHistory, store: StageStore, params: ReportParams
) -> tuple[SeriesPage, list[str], Picture | None]:
    """The page, what could not be read, and the tomogram as a small picture."""
    notes: list[str] = []
    sections: list[Section] = []
    series = history.series
    done = {stage: record for stage, record in history.records.items() if record.is_done}
    curves = {stage: _curves(store, stage, history.name, notes) if stage in done else {} for stage in STAGES}
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
    small: Picture | None = None
    if series is not None:
        found["motion"] = motion_section(series, curves["motion"], params)
        found["align"] = alignment_section(series, curves["align"], params)
        found["excluded"] = excluded_section(series, curves["align"], params)
        found["ctf"] = ctf_section(series, curves["ctf"], pictures, params)
        slices = None
        if series.tomogram is not None and "reconstruct" in done:
            slices = _slices(series.tomogram, store, params, notes)
            small = None if slices is None else thumbnail(slices, history.name)
        found["reconstruct"] = tomogram_section(slices, curves["reconstruct"], params)
    for stage in ("motion", "align", "excluded", "ctf", "reconstruct"):
        section, record = found.get(stage), done.get(stage)
        if section is None and record is not None and (record.metrics or record.caveats):
            section = Section(title=STAGE_TITLES[stage], reading=_NO_METRICS)
        if section is not None:
            sections.append(section if record is None else with_record(section, record.metrics, record.caveats))
    sections += _variants(history.name, store, params, notes)
    sections += _restored(history, store, params, notes)
    sections += _segmented(history, store, params, notes)
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
        left_out=history.left_out,
        sections=tuple(sections),
    )
    return page, notes, small


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
        slices = None if tomogram is None else _slices(tomogram, store, params, notes)
        section = tomogram_section(slices, _curves(store, folder, name, notes), params)
        if section is not None:
            chosen = _settings_unlike(record, store.records("reconstruct").get(name))
            title = f"Tomogram in {folder}" + (f" ({chosen})" if chosen else "")
            sections.append(replace(with_record(section, record.metrics, record.caveats), title=title))
    return sections


def _restored(history: SeriesHistory, store: StageStore, params: ReportParams, notes: list[str]) -> list[Section]:
    """A section for every tomogram with less noise or with its wedge filled."""
    sections = []
    for folder, record in history.records.items():
        if record.stage not in RESTORED:
            continue
        title = stage_title(folder, record.stage)
        if not record.is_done:
            sections.append(Section(title=title, reading=_FAILED_RESTORATION, caveats=(record.message or "",)))
            continue
        kept = _curves(store, folder, history.name, notes, TRUST)
        volumes = _restored_volumes(folder, history.name, store, notes)
        if folder != record.stage and (chosen := _settings_unlike(record, history.records.get(record.stage))):
            title += f" ({chosen})"
        section = restoration_section(title, record.stage, record.parameters, kept, volumes, params)
        sections.append(with_record(section, record.metrics, record.caveats))
    return sections


def _segmented(history: SeriesHistory, store: StageStore, params: ReportParams, notes: list[str]) -> list[Section]:
    """A section for every segmentation of the tomogram."""
    sections = []
    for folder, record in history.records.items():
        if record.stage != SEGMENT:
            continue
        title = stage_title(folder, record.stage)
        if not record.is_done:
            sections.append(Section(title=title, reading=_FAILED_SEGMENTATION, caveats=(record.message or "",)))
            continue
        try:
            shown = read_segmentation(store.root, folder, history.name, record.parameters)
        except (EucentricError, OSError) as error:
            notes.append(f"The labels in `{folder}` are not shown: {error}")
            shown = None
        section = segmentation_section(title, record.parameters, shown, params)
        sections.append(with_record(section, record.metrics, record.caveats))
    return sections


def _restored_volumes(folder: str, name: str, store: StageStore, notes: list[str]) -> RestoredVolumes | None:
    """The restored tomogram beside the one it was made of."""
    try:
        before = read_tilt_series(source_table(store.root, folder, name), name, store.root).tomogram
        after = read_tilt_series(row_path(store.root / folder, name), name, store.root).tomogram
        if before is None or after is None:
            return None
        path = store.resolve(after.path)
        beside = path.with_name(f"{path.stem}_sigma{path.suffix}")
        raw, restored = read_mrc(store.resolve(before.path))[0], read_mrc(path)[0]
        sigma = read_mrc(beside)[0] if beside.is_file() else None
        if raw.shape != restored.shape or (sigma is not None and sigma.shape != raw.shape):
            raise ShapeError(f"`{before.path}` and what was made of it differ in size. Run the stage again.")
        return RestoredVolumes(raw=raw, restored=restored, sigma=sigma, voxel_size_angstrom=after.voxel_size_angstrom)
    except (EucentricError, OSError) as error:
        notes.append(f"The tomogram in `{folder}` is not shown: {error}")
        return None


def _picks(history: SeriesHistory, store: StageStore, params: ReportParams, notes: list[str]) -> list[Section]:
    """A section for every search of the tomogram."""
    sections = []
    for folder, record in history.records.items():
        if record.stage != PICK:
            continue
        title = stage_title(folder)
        if not record.is_done:
            sections.append(Section(title=title, reading=_FAILED_PICKS, caveats=(record.message or "",)))
            continue
        kept = _curves(store, folder, history.name, notes, "candidates")
        pictures = _curves(store, folder, history.name, notes, "pictures")
        section = picking_section(title, kept, pictures, params) or Section(title=title, reading=_NO_METRICS)
        sections.append(with_record(section, record.metrics, record.caveats))
    return sections


def _settings_unlike(record: Record, usual: Record | None) -> str:
    """The settings of a record that differ from those of another, or from the defaults of its stage, in words."""
    other = _defaults_of(record.stage) if usual is None else usual.parameters
    words = {None: "none", True: "on", False: "off"}
    return ", ".join(
        f"{metric_label(key)} {words[value] if value is None or isinstance(value, bool) else value}"
        for key, value in record.parameters.items()
        if other.get(key) != value
    )


def _defaults_of(stage: str) -> Mapping[str, Any]:
    entry = next((entry for entry in EVERY_STAGE if entry.name == stage), None)
    return {} if entry is None else load_settings(entry)().model_dump(mode="json")


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
    try:
        return read_curves(store.root / stage / folder / f"{name}.npz")
    except FormatError as error:
        notes.append(f"{error} Run the stage again.")
        return {}


def _slices(tomogram: Tomogram, store: StageStore, params: ReportParams, notes: list[str]) -> SliceImages | None:
    path = Path(store.resolve(tomogram.path))
    try:
        array, _ = read_mrc(path, as_stored=True)  # grey values of a picture need no scale
        return central_planes(array, tomogram.voxel_size_angstrom, params.slice_planes, params.layer_count)
    except (EucentricError, OSError) as error:
        notes.append(f"The tomogram is not shown: {error}")
        return None


def central_planes(volume: NDArray[Any], voxel_size_angstrom: float, planes: int, layers: int = 1) -> SliceImages:
    """Means of the planes around the centre, voxel `n // 2`, of a volume (z, y, x), and layers spread over its height."""
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
    stack, heights = _layers(volume, planes, min(layers, volume.shape[0]))
    return SliceImages(
        slice_z=middle[0].mean(axis=0),
        slice_y=middle[1].mean(axis=1),
        slice_x=middle[2].mean(axis=2),
        power_zx=cast("NDArray[np.float64]", np.fft.fftshift(power)),
        voxel_size_angstrom=voxel_size_angstrom,
        layers=stack,
        heights_angstrom=heights * voxel_size_angstrom,
    )


def _layers(volume: NDArray[Any], planes: int, count: int) -> tuple[FloatArray, FloatArray]:
    """(layer, y, x) means of planes, and the heights of their middles over voxel `n // 2`, in voxels."""
    depth = volume.shape[0]
    images, heights = [], []
    for middle in (np.arange(count) + 0.5) * depth / count - 0.5:
        start = max(round(float(middle) - (planes - 1) / 2), 0)
        stop = max(min(start + planes, depth), start + 1)
        images.append(np.asarray(volume[start:stop], dtype=np.float32).mean(axis=0))
        heights.append((start + stop - 1) / 2 - depth // 2)
    return np.stack(images), np.array(heights)
