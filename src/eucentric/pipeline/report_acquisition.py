"""How tilt series were taken, on the pages of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eucentric.acquisition.advise import advise_session
from eucentric.pipeline.judge_acquisition import (
    FOCUSING_WORDS,
    TRACKING_WORDS,
    JudgedSeries,
    figures_of_series,
    judge_all,
)
from eucentric.pipeline.series_history import SeriesHistory
from eucentric.report.acquisition_sections import TITLE, acquisition_section, acquisition_table, session_note
from eucentric.report.content import ProjectPage, Section, SeriesPage
from eucentric.report.params import ReportParams


def judge_histories(histories: Sequence[SeriesHistory]) -> dict[str, JudgedSeries]:
    """Of series that were aligned and are not left out, by name."""
    aligned = [
        h.series
        for h in histories
        if h.left_out is None
        and h.series is not None
        and h.series.tilts
        and all(t.pose is not None for t in h.series.tilts)
    ]
    return {one.name: one for one in judge_all(aligned)}


def with_acquisition(page: SeriesPage, how: JudgedSeries, params: ReportParams) -> SeriesPage:
    """The page of a series with its section, the last one."""
    if how.judged is None:
        section = Section(title=TITLE, reading="How the series was taken cannot be told.", caveats=(how.problem,))
    else:
        measured = how.judged.measured
        told = ((measured.tracking, TRACKING_WORDS), (measured.focusing, FOCUSING_WORDS))
        sentences = [
            (kind in ("corrected", "none"), f"{words[kind][0].upper()}{words[kind][1:]}.") for kind, words in told
        ]
        section = acquisition_section(
            how.judged,
            figures_of_series(how.judged, how.prediction),
            how.advice,
            [text for known, text in sentences if known],
            [text for known, text in sentences if not known],
            params,
        )
    return replace(page, sections=(*page.sections, section))


def with_session(page: ProjectPage, taken: Mapping[str, JudgedSeries]) -> ProjectPage:
    """The page of the project with advice for the session, and the figures of all series."""
    judged = {name: one for name, one in taken.items() if one.judged is not None}
    figures = {
        name: figures_of_series(one.judged, one.prediction) for name, one in judged.items() if one.judged is not None
    }
    table = acquisition_table(figures)
    return replace(
        page,
        acquisition=advise_session([one.advice for one in judged.values()]),
        acquisition_note=session_note(len(judged), len(taken) - len(judged)),
        tables=page.tables if table is None else (*page.tables, table),
    )
