"""The page of the project: what its tilt series have in common, and which are unlike the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from eucentric import __version__
from eucentric.figures.distributions import distribution
from eucentric.pipeline.records import Record, software_versions
from eucentric.pipeline.series_history import FIT_RESOLUTION, MADE, PICK, RESTORED, STAGES, SeriesHistory, stage_title
from eucentric.reconstruction.params import ReconstructParams
from eucentric.report.content import (
    MetricTable,
    Picture,
    ProjectPage,
    SeriesRow,
    format_number,
    metric_label,
    picture,
)
from eucentric.report.methods import methods
from eucentric.report.outliers import LARGE_Z, LEAST_SERIES, Outlier, find_outliers
from eucentric.report.params import ReportParams
from eucentric.report.references import bibtex

QUALITY = (
    ("motion", "total_motion_median_angstrom"),
    ("align", "score_mean"),
    ("align", "residual_rms_angstrom"),
    ("align", "thickness_angstrom"),
    ("ctf", "defocus_median_angstrom"),
    ("ctf", FIT_RESOLUTION),
    ("reconstruct", "halves_fsc_0143_angstrom"),
)
"""In the table of all series; the others stand in the tables of their stages."""
_DISTRIBUTIONS = (
    (
        "align",
        "thickness_angstrom",
        "Thickness",
        "Of the specimen, as the alignment found it; the thinner, the more is seen.",
    ),
    (
        "ctf",
        FIT_RESOLUTION,
        "CTF fit resolution",
        "The median over the tilts of each series. Further to the left is better.",
    ),
    (
        "reconstruct",
        "halves_fsc_0143_angstrom",
        "Resolution of the tomograms",
        "Where the correlation of half tomograms falls below 0.143. Further to the left is better.",
    ),
)
_LARGEST_Z = 99.0


def project_page(
    histories: Sequence[SeriesHistory],
    files: Mapping[str, str],
    thumbnails: Mapping[str, Picture],
    outliers: Mapping[str, tuple[str, ...]],
    params: ReportParams,
    averaging: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> ProjectPage:
    """What the page of the project shows, averages and files beside it aside.

    Parameters
    ----------
    histories : of all series
    files : names of their pages
    thumbnails : of those that have a tomogram
    outliers : from `outliers_in_words`
    averaging : settings of first maps, averages and classes, for the methods
    """
    stages = _stages(histories)
    columns = [(stage, name) for stage, name in QUALITY if any(name in h.metrics(stage) for h in histories)]
    paragraphs, references = methods({**_settings(histories), **(averaging or {})}, __version__)
    tables = [table for folder in stages if (table := _metric_table(folder, histories)) is not None]
    return ProjectPage(
        title=params.title,
        rows=tuple(
            _row(h, files[h.name], columns, thumbnails.get(h.name), outliers.get(h.name, ())) for h in histories
        ),
        quality_columns=tuple(metric_label(name) for _, name in columns),
        outlier_note=_outlier_note(sum(h.left_out is None for h in histories), bool(outliers)),
        pictures=tuple(_distributions([h for h in histories if h.left_out is None], params.dots_per_inch)),
        tables=tuple(tables),
        methods=paragraphs,
        references=references,
        bibtex=bibtex(references, __version__),
        versions=tuple(software_versions().items()),
    )


def project_metrics(histories: Iterable[SeriesHistory]) -> dict[str, dict[str, dict[str, float | None]]]:
    """All metrics, by series, stage and name."""
    return {
        h.name: {s: found for s, r in h.records.items() if r.is_done and (found := h.metrics(s))} for h in histories
    }


def outliers_in_words(histories: Sequence[SeriesHistory]) -> dict[str, tuple[str, ...]]:
    """In what each series differs from the others; series that differ in nothing, or are left out, are absent."""
    used = [h for h in histories if h.left_out is None]
    figures = {
        name: {f"{stage}\n{metric}": value for stage, some in stages.items() for metric, value in some.items()}
        for name, stages in project_metrics(used).items()
    }
    made_by = {folder: record.stage for h in used for folder, record in h.records.items()}
    return {name: tuple(_words(o, made_by) for o in found) for name, found in find_outliers(figures).items()}


def _words(outlier: Outlier, made_by: Mapping[str, str]) -> str:
    folder, metric = outlier.metric.split("\n")
    title = stage_title(folder, made_by[folder])
    size = "more than 99" if abs(outlier.z) > _LARGEST_Z else f"{abs(outlier.z):.1f}"
    return (
        f"{title}: {metric_label(metric)} is {format_number(outlier.value)}, {size} robust standard deviations "
        f"{'above' if outlier.z > 0 else 'below'} the median of {format_number(outlier.median)}."
    )


def _outlier_note(count: int, some: bool) -> str:
    if count == 0:
        return ""
    if count < LEAST_SERIES:
        return f"Not judged: with fewer than {LEAST_SERIES} tilt series no median can be trusted."
    if not some:
        return f"No figure of any series lies more than {LARGE_Z} robust standard deviations from the median of all."
    return (
        f"Figures more than {LARGE_Z} robust standard deviations (1.4826 times the median absolute deviation) from the median "
        "of all series. Far from the others need not be bad: look at the page of the series."
    )


def _row(
    history: SeriesHistory,
    file: str,
    columns: Sequence[tuple[str, str]],
    thumbnail: Picture | None,
    outliers: tuple[str, ...],
) -> SeriesRow:
    failure, series = history.failure, history.series
    found = [history.metrics(stage) for stage, _ in columns]
    return SeriesRow(
        name=history.name,
        page=file,
        stage=history.furthest,
        failed=failure is not None,
        message=history.left_out or ("" if failure is None else failure.message or "no message was kept"),
        left_out=history.left_out,
        tilt_count=None if series is None else len(series.tilts),
        excluded_count=None if series is None else len(series.excluded),
        seconds=sum(r.seconds for r in history.records.values()),
        caveat_count=sum(len(r.caveats) for r in history.records.values()),
        quality=tuple(format_number(some[m]) if m in some else "" for some, (_, m) in zip(found, columns, strict=True)),
        outliers=outliers,
        thumbnail=thumbnail,
    )


def _stages(histories: Iterable[SeriesHistory]) -> tuple[str, ...]:
    """Stages, then folders of what was made of tomograms and of searches that are done."""
    kinds = (*MADE, PICK)
    done = dict.fromkeys(f for h in histories for f, r in h.records.items() if r.stage in kinds and r.is_done)
    return (*STAGES, *done)


def _settings(histories: Sequence[SeriesHistory]) -> dict[str, list[Mapping[str, Any]]]:
    """Of the stages that ran, as they were used for each series."""
    ran: dict[str, list[Mapping[str, Any]]] = {}
    for stage in STAGES:
        used = [_used(h, r) for h in histories if (r := h.records.get(stage)) is not None and r.is_done]
        if used := [settings for settings in used if settings is not None]:
            ran[stage] = used
    for stage in (*MADE, PICK):
        done = [r for h in histories for r in h.records.values() if r.stage == stage and r.is_done]
        if done:
            ran[stage] = [_used_to_restore(record) if stage in RESTORED else record.parameters for record in done]
    return ran


def _used_to_restore(record: Record) -> Mapping[str, Any]:
    """Whether there were half volumes, as the figures tell."""
    return {**record.parameters, "has_halves": "raw_agreement_angstrom" in record.metrics}


def _distributions(histories: Sequence[SeriesHistory], dots_per_inch: int) -> Iterable[Picture]:
    """Of what two series at least know."""
    for stage, name, title, words in _DISTRIBUTIONS:
        found = (h.metrics(stage).get(name) for h in histories)
        values = np.array([v for v in found if v is not None and np.isfinite(v)])
        if len(values) > 1:
            yield picture(title, distribution(values, metric_label(name)), dots_per_inch, words)


def _used(history: SeriesHistory, record: Record) -> Mapping[str, Any] | None:
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


def _metric_table(folder: str, histories: Sequence[SeriesHistory]) -> MetricTable | None:
    done = [(h.name, h.metrics(folder)) for h in histories if (r := h.records.get(folder)) is not None and r.is_done]
    labels = list(dict.fromkeys(label for _, metrics in done for label in metrics))
    if not labels:
        return None
    return MetricTable(
        stage=stage_title(folder, next(h.records[folder].stage for h in histories if folder in h.records)),
        columns=tuple(metric_label(label) for label in labels),
        rows=tuple(
            (name, tuple(format_number(m[label]) if label in m else "" for label in labels)) for name, m in done
        ),
    )
