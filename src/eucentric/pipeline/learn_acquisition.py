"""`eucentric acquisition learn` on disk: series judged, figures and advice written, the goniometer model brought on."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eucentric.acquisition.advise import advise_session
from eucentric.acquisition.goniometer import GoniometerModel, learn_goniometer, unfit
from eucentric.acquisition.results import PredictionErrors
from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import make_folder, write_text_atomic
from eucentric.io.csv_tables import write_csv_table
from eucentric.io.goniometer_files import read_goniometer, write_goniometer
from eucentric.pipeline.judge_acquisition import (
    FIGURES,
    JudgedSeries,
    as_record,
    figures_of_series,
    judge_all,
    predicted_against_measured,
    read_aligned,
    stage_track,
)
from eucentric.pipeline.lock import ProjectLock

FOLDER = "acquisition"
_TABLE, _ADVICE = "series.csv", "advice.txt"
_PREDICTION = (
    "prediction_error_across_angstrom",
    "prediction_error_along_angstrom",
    "prediction_error_height_angstrom",
    "prediction_series",
)
_LEARNED = "learned"
"""In a goniometer file, beside the model: fingerprints of the series in it, with their names."""
_NAMED = 4
_Known = tuple[GoniometerModel | None, dict[str, str]]
"""A goniometer model, and names of the series in it by fingerprint."""
_DISAGREES = "does not agree with the others"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoniometerNews:
    """What became of the goniometer model.

    A series is named by its name, and by its project too where another of the run has the same name.
    """

    path: Path
    added: tuple[str, ...]
    known: tuple[str, ...]
    """Learned before, so not again."""
    passed_over: Mapping[str, str]
    """Why, by name."""
    model: GoniometerModel | None

    @property
    def sentence(self) -> str:
        parts = []
        if self.added:
            parts.append(f"{len(self.added)} series added to `{self.path}`")
        if self.known:
            parts.append(f"{len(self.known)} in it already")
        if self.passed_over:
            why: dict[str, list[str]] = {}
            for name, words in self.passed_over.items():
                why.setdefault(words, []).append(name)
            some = "; ".join(f"{_named(names)}: {words}" for words, names in why.items())
            parts.append(f"{len(self.passed_over)} passed over ({some})")
        count = 0 if self.model is None else self.model.series_count
        told = f"Goniometer: {'; '.join(parts) or 'no series'}. It knows {count} series."
        if count and not self.added and _DISAGREES in self.passed_over.values():
            told += " If the stage was repaired or exchanged since, begin a new file."
        return told


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnedProject:
    """What was found in one project."""

    root: Path
    series: tuple[JudgedSeries, ...]
    session: tuple[str, ...]
    """Advice for the session."""
    files: tuple[Path, ...]


def learn_from_projects(
    roots: Sequence[Path], goniometer: Path | None = None, only: Sequence[str] = ()
) -> tuple[list[LearnedProject], GoniometerNews | None]:
    """Judge all aligned series of projects, write `PROJECT/acquisition/`, and add to a goniometer model.

    Parameters
    ----------
    roots : projects
    goniometer : JSON file of the model; made where it does not exist. None: no model
    only : names of series, wildcards allowed; all where empty

    Raises
    ------
    InputError : no project, nothing aligned, or no series of such a name
    FormatError : the goniometer file is of another kind
    """
    if not roots:
        raise InputError("No project was given. Name one or more: `eucentric acquisition learn PROJECT`.")
    before = _read_model(goniometer)
    learned = [_learn_one(root, only, before) for root in roots]
    if goniometer is None:
        return learned, None
    return learned, _bring_on(goniometer, before, _named_apart(learned))


def _named_apart(projects: Sequence[LearnedProject]) -> list[tuple[str, JudgedSeries]]:
    """Every series with its name, and that of its project where series of two projects share one."""
    folders = {project.root.resolve(): project.root for project in projects}
    short = Counter(root.name for root in folders)
    names = Counter(name for root in folders for name in _names_in(projects, root))
    found = []
    for project in projects:
        root = project.root.resolve()
        place = root.name if short[root.name] == 1 else str(folders[root])
        found += [(f"{one.name} of {place}" if names[one.name] > 1 else one.name, one) for one in project.series]
    return found


def _names_in(projects: Sequence[LearnedProject], root: Path) -> set[str]:
    return {one.name for project in projects if project.root.resolve() == root for one in project.series}


def _learn_one(root: Path, only: Sequence[str], before: _Known) -> LearnedProject:
    from eucentric.pipeline.steps import selected

    series, problems = read_aligned(root)
    names = set(selected([*(s.name for s in series), *problems], list(only)))
    with ProjectLock(root, "acquisition learn"):
        folder = make_folder(root / FOLDER)
        every = judge_all(series)  # image shifts are found from all
        every += [JudgedSeries(name=name, problem=why) for name, why in problems.items()]
        every.sort(key=lambda one: one.name)
        # the tables keep series that were learned from earlier
        told = [one for one in every if one.name in names or _record_file(folder, one.name).is_file()]
        told = [_predicted(one, before, folder, is_new=one.name in names) for one in told]
        judged = [one for one in told if one.name in names]
        _write(folder, told, _session(told))
    files = (*(_record_file(folder, one.name) for one in judged), folder / _TABLE, folder / _ADVICE)
    return LearnedProject(root=root, series=tuple(judged), session=_session(judged), files=files)


def _session(judged: Sequence[JudgedSeries]) -> tuple[str, ...]:
    return advise_session([one.advice for one in judged if one.judged is not None])


def _record_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _predicted(one: JudgedSeries, before: _Known, folder: Path, *, is_new: bool) -> JudgedSeries:
    """With the goniometer model as it was before it learned from the series: now, or as was found then."""
    model, learned = before
    if one.judged is None:
        return one
    if is_new and model is not None and one.fingerprint not in learned:
        return replace(one, prediction=predicted_against_measured(one.judged.measured, model))
    if is_new and model is None:
        return one
    return replace(one, prediction=_found_then(_record_file(folder, one.name), one.fingerprint) or one.prediction)


def _found_then(path: Path, fingerprint: str) -> PredictionErrors | None:
    """What an earlier run wrote of the same recording; None where there is nothing, or it cannot be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["fingerprint"] != fingerprint:
            return None
        across, along, height, known = (record["figures"][name]["value"] for name in _PREDICTION)
        return PredictionErrors(
            across=float(across),
            along=float(along),
            height=math.nan if height is None else float(height),
            series_known=int(known),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, judged: Sequence[JudgedSeries], session: Sequence[str]) -> None:
    for one in judged:
        text = json.dumps(as_record(one), indent=1, ensure_ascii=False, allow_nan=False)
        write_text_atomic(_record_file(folder, one.name), text + "\n")
    columns = ["series", "tracking", "focusing"]
    for name in FIGURES:
        columns += [name, f"{name}_sigma"]
    rows = [_csv_row(one) for one in judged if one.judged is not None]
    write_csv_table(folder / _TABLE, columns, rows)
    write_text_atomic(folder / _ADVICE, "\n".join(advice_lines(judged, session)) + "\n")


def _csv_row(one: JudgedSeries) -> list[Any]:
    judged = one.judged
    if judged is None:
        return []
    row: list[Any] = [one.name, judged.measured.tracking, judged.measured.focusing]
    for figure in figures_of_series(judged, one.prediction).values():
        row += [f"{v:.6g}" if math.isfinite(v) else "" for v in (figure.value, figure.sigma)]
    return row


def advice_lines(judged: Sequence[JudgedSeries], session: Sequence[str]) -> list[str]:
    """Advice for the session, then for each series."""
    lines = ["For the session:", *(f"  {words}" for words in session)] if session else []
    if not session:
        lines = ["For the session: nothing that half of the series share."]
    for one in judged:
        if one.judged is None:
            lines.append(f"{one.name}: not judged. {one.problem}")
        elif not one.advice:
            lines.append(f"{one.name}: nothing to change.")
        else:
            lines += [f"{one.name}:", *(f"  {advice.text}" for advice in one.advice)]
    return lines


def _read_model(path: Path | None) -> _Known:
    if path is None or not path.exists():
        return None, {}
    values = read_goniometer(path)
    learned = values.get(_LEARNED, {})
    if not isinstance(learned, dict):
        raise FormatError(f"`{path}` does not list the series it was learned from. Learn it again.")
    return GoniometerModel.from_dict(values), {str(k): str(v) for k, v in learned.items()}


def _bring_on(path: Path, before: _Known, judged: Sequence[tuple[str, JudgedSeries]]) -> GoniometerNews:
    """The model with series that are new to it, each given with what to call it."""
    model, learned = before
    fresh: dict[str, tuple[str, JudgedSeries]] = {}
    known: list[str] = []
    over: dict[str, str] = {}
    for name, one in judged:
        if one.judged is None:
            over[name] = "not judged"
        elif one.fingerprint in learned or one.fingerprint in fresh:
            known.append(name)
        elif one.judged.measured.tracking not in ("corrected", "none"):
            over[name] = "what the microscope did to follow the specimen is not known"
        elif reason := unfit(one.judged.measured.track):
            over[name] = reason
        else:
            fresh[one.fingerprint] = name, one
    added: dict[str, str] = {}
    if fresh:
        model, odd = _learn_fresh(fresh, model)
        over |= dict.fromkeys((name for key, (name, _) in fresh.items() if key in odd), _DISAGREES)
        added = {key: name for key, (name, _) in fresh.items() if key not in odd}
        learned = learned | added
        write_goniometer(path, {**model.to_dict(), _LEARNED: learned})
    return GoniometerNews(path=path, added=tuple(added.values()), known=tuple(known), passed_over=over, model=model)


def _learn_fresh(
    fresh: Mapping[str, tuple[str, JudgedSeries]], before: GoniometerModel | None
) -> tuple[GoniometerModel, set[str]]:
    """The model with fresh series, and fingerprints of those that it left out.

    Parameters
    ----------
    fresh : by fingerprint: what to call a series, and the series
    """
    names = {key: name for key, (name, _) in fresh.items()}
    tracks = [
        replace(stage_track(one.judged.measured), name=key) for key, (_, one) in fresh.items() if one.judged is not None
    ]
    model = learn_goniometer(tracks, before)
    odd = set(model.left_out) & names.keys()
    # an earlier run may have left a series out by its name alone
    agreed = {called for key, (name, one) in fresh.items() if key not in odd for called in (name, one.name)}
    every = dict.fromkeys(name for key in model.left_out if (name := names.get(key, key)) not in agreed)
    return replace(model, left_out=tuple(every)), odd
