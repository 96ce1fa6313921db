"""The digital twin of a session: a simulated specimen goes through the project's own plan, and the truth says what came of it."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.compute.device import resolve_device
from eucentric.errors import EucentricError, InputError, ProcessingError
from eucentric.evaluation.pick_errors import PickScore
from eucentric.io.atomic import write_text_atomic
from eucentric.io.tilt_series import relative_path
from eucentric.io.truth import read_truth
from eucentric.picking.stage_params import PickParams
from eucentric.pipeline.importing import plan_import, write_import
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.progress import RunProgress
from eucentric.pipeline.runner import run_project
from eucentric.pipeline.scoring import score_project
from eucentric.pipeline.simulate_project import SimulatedFiles
from eucentric.pipeline.simulated_specimen import SpecimenMade
from eucentric.pipeline.twin_average import ExpectedAverage, average_twin, averages_of_project
from eucentric.pipeline.twin_plan import CarriedPlan, carried_plan, default_plan, write_twin_plan
from eucentric.pipeline.twin_scores import OwnFigure, own_figures, score_picking

PROJECT, RESULT = "project", "expected.json"
_NOTABLE = 0.25  # a difference below this part of the twin's figure is within what seeds and settings change
_SIGMAS = 2.0
_MOST_TEMPLATES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A figure of the twin."""

    words: str
    unit: str
    values: tuple[float, ...]
    """Of each simulated series; NaN where it has none."""

    @property
    def mean(self) -> float:
        known = self._known
        return float(np.mean(known)) if known else float("nan")

    @property
    def sd(self) -> float:
        """Scatter from series to series; NaN of a single one."""
        known = self._known
        return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")

    @property
    def _known(self) -> list[float]:
        return [value for value in self.values if math.isfinite(value)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A figure that a project reports of itself, beside that of its twin."""

    words: str
    unit: str
    project: float
    twin: Expected
    verdict: str
    """`worse`, `better`, `alike`, or `differs` where neither side is the better one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinResult:
    """What a twin says."""

    folder: Path
    series: tuple[str, ...]
    """Of the twin."""
    like: str
    """What it is like, in words."""
    told: tuple[str, ...]
    """What it was made of, and what is not known."""
    expected: tuple[Expected, ...]
    """Errors against the truth."""
    picking: Mapping[str, Mapping[str, Expected]]
    """By species: precision, recall and F1."""
    averages: tuple[ExpectedAverage, ...]
    """Those of the project, repeated."""
    compared: tuple[Compared, ...]
    """With the project itself, where there is one."""
    failures: tuple[str, ...]
    seconds: float
    settings: Mapping[str, Any]
    """Of the simulator."""

    @property
    def worse(self) -> tuple[str, ...]:
        """In what the project is worse than its twin."""
        return tuple(one.words for one in self.compared if one.verdict == "worse")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinOf:
    """What a twin is of."""

    words: str
    told: tuple[str, ...]
    settings: Mapping[str, Any]
    """Of the simulator."""
    root: Path | None = None
    """The project, where there is one."""
    series: str = ""
    """Of the project."""


def run_twin(
    folder: Path,
    written: Sequence[SimulatedFiles],
    of: TwinOf,
    carried: CarriedPlan,
    *,
    species: Sequence[str],
    device: str = "auto",
    workers: int | None = None,
    started: float | None = None,
    progress: RunProgress | None = None,
) -> TwinResult:
    """Import simulated series, run a plan on them, score them, and write ``expected.json``.

    Parameters
    ----------
    folder : that the series were written to; the twin's project is made in it
    written : the series
    of : what the twin is of
    carried : settings and stages, from `carried_plan` or `default_plan`
    species : names of the simulated species in the order of their numbers in the truth
    device, workers : as `run_project`
    started : `time.monotonic()` when the simulation began

    Raises
    ------
    InputError, FormatError : settings that do not fit
    ProcessingError : no series came through
    """
    began = time.monotonic() if started is None else started
    twin = folder / PROJECT
    found = plan_import([str(folder / "frames")], [str(folder)], gain=written[0].gain)
    with ProjectLock(twin, "import"):
        write_twin_plan(twin, carried, written[0].gain)
        write_import(twin, found)
    summary = run_project(twin, until=carried.until, device=device, workers=workers, progress=progress)
    failures = tuple(f"{f.series}, {f.stage}: {f.message}" for f in summary.failures)
    names = tuple(one.name for one in written)
    try:
        rows = score_project(twin, [one.truth for one in written])
    except InputError as error:
        raise ProcessingError(f"No series of the twin came through, so nothing can be said. {failures[:1]}") from error
    expected = _joined(names, [(r.series, r.metric, r.unit, r.value) for r in rows])
    picking = _picking(twin, written, carried, species)
    reported = {name: own_figures(twin, name, carried.pick) for name in names}
    compared: tuple[Compared, ...] = ()
    averages: list[ExpectedAverage] = []
    if of.root is not None:
        own = own_figures(of.root, of.series, _as_in(of.root, twin, carried.pick))
        compared = tuple(compare_figures(own, names, reported))
        for one in averages_of_project(of.root, carried.pick):
            try:
                averages.append(average_twin(twin, one, carried.pick, resolve_device(device)))
            except (EucentricError, FileNotFoundError) as error:
                failures += (f"average of {one.kind}: {error}",)
    result = TwinResult(
        folder=folder,
        series=names,
        like=of.words,
        told=(*of.told, *carried.told),
        expected=tuple(expected),
        picking=picking,
        averages=tuple(averages),
        compared=compared,
        failures=failures,
        seconds=time.monotonic() - began,
        settings=of.settings,
    )
    write_text_atomic(folder / RESULT, json.dumps(as_values(result), indent=1, ensure_ascii=False) + "\n")
    return result


def twin_of(
    folder: Path, made: SpecimenMade, written: Sequence[SimulatedFiles]
) -> tuple[TwinOf, CarriedPlan, list[str]]:
    """What a simulation is a twin of, the plan to run on it, and the names of its species; errors as `carried_plan`.

    Of a project it is the project's plan. Of a session that has not begun it is the default one, and what is picked are the
    structures that were given, else the (at most two) largest species.
    """
    simulated = written[0].references
    kinds = list(read_truth(written[0].truth).settings.get("species", []))
    settings = made.params.model_dump(mode="json")
    if made.root is not None:
        words = f"{made.series} of {made.root.name}"
        of = TwinOf(words=words, told=made.told, settings=settings, root=made.root, series=made.series)
        return of, carried_plan(made.root, made.series, folder / PROJECT), kinds
    files = made.files or tuple(sorted(simulated, key=lambda path: -path.stat().st_size)[:_MOST_TEMPLATES])
    pick = {"templates": [relative_path(path, folder / PROJECT) for path in files], "name": "particles"}
    told = (*made.told, "Processed with the default settings; picked: " + ", ".join(path.stem for path in files) + ".")
    of = TwinOf(words="a plan", told=told, settings=settings)
    return of, default_plan(PickParams.model_validate(pick).model_dump()), kinds


def compare_figures(
    own: Sequence[OwnFigure], names: Sequence[str], reported: Mapping[str, Sequence[OwnFigure]]
) -> list[Compared]:
    """A project's own figures beside those of its twin's series.

    A difference counts where it is larger than a quarter of the twin's figure and than twice the scatter from series to series, for
    numbers of picks also than twice that of chance.
    """
    found = []
    for figure in own:
        values = tuple(
            next((f.value for f in reported[name] if f.words == figure.words), float("nan")) for name in names
        )
        twin = Expected(words=figure.words, unit=figure.unit, values=values)
        if not math.isfinite(twin.mean):
            continue
        least = max(_NOTABLE * abs(twin.mean), _SIGMAS * (0.0 if math.isnan(twin.sd) else twin.sd))
        if figure.counted:
            least = max(least, _SIGMAS * math.sqrt(max(figure.value, 0.0) + max(twin.mean, 0.0)))
        above = figure.value - twin.mean
        verdict = "alike"
        if abs(above) > least:
            verdict = (
                "differs" if not figure.better else "worse" if (above > 0) == (figure.better == "low") else "better"
            )
        found.append(Compared(words=figure.words, unit=figure.unit, project=figure.value, twin=twin, verdict=verdict))
    return found


def as_values(result: TwinResult) -> dict[str, Any]:
    """A result for machines; what is not finite becomes null."""
    return {
        "like": result.like,
        "series": list(result.series),
        "told": list(result.told),
        "expected": {one.words: _value(one) for one in result.expected},
        "picking": {kind: {words: _value(one) for words, one in rows.items()} for kind, rows in result.picking.items()},
        "averages": [
            {
                "name": one.project.name,
                "species": one.project.kind,
                "particles": one.particles,
                "resolution_angstrom": _finite(one.resolution_angstrom),
                "project_particles": one.project.particles,
                "project_resolution_angstrom": _finite(one.project.resolution_angstrom),
            }
            for one in result.averages
        ],
        "compared": [
            {
                "figure": one.words,
                "unit": one.unit,
                "project": _finite(one.project),
                "twin": _value(one.twin),
                "verdict": one.verdict,
            }
            for one in result.compared
        ],
        "worse_than_its_twin_in": list(result.worse),
        "failures": list(result.failures),
        "seconds": round(result.seconds, 1),
        "settings": dict(result.settings),
    }


def _value(one: Expected) -> dict[str, Any]:
    return {
        "mean": _finite(one.mean),
        "sd": _finite(one.sd),
        "unit": one.unit,
        "values": [_finite(value) for value in one.values],
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _joined(names: Sequence[str], rows: Sequence[tuple[str, str, str, float]]) -> list[Expected]:
    """Rows of (series, metric, unit, value) by metric, in order."""
    metrics = dict.fromkeys((metric, unit) for _, metric, unit, _ in rows)
    known = {(series, metric): value for series, metric, _, value in rows}
    return [
        Expected(words=metric, unit=unit, values=tuple(known.get((name, metric), float("nan")) for name in names))
        for metric, unit in metrics
    ]


def _picking(
    twin: Path, written: Sequence[SimulatedFiles], carried: CarriedPlan, species: Sequence[str]
) -> dict[str, dict[str, Expected]]:
    if not carried.pick:
        return {}
    scores: dict[str, list[PickScore]] = {}
    for one in written:
        try:
            scores[one.name] = score_picking(twin, one.truth, one.name, carried.pick, dict(enumerate(species)))
        except (EucentricError, FileNotFoundError):
            scores[one.name] = []  # the failure is in the summary of the run
    kinds = dict.fromkeys(row.kind for rows in scores.values() for row in rows)
    found: dict[str, dict[str, Expected]] = {}
    for kind in kinds:
        found[kind] = {}
        for words, attribute, unit in (
            ("F1", "f1", ""),
            ("precision", "precision", ""),
            ("recall", "recall", ""),
            ("particles", "truths", ""),
            ("picks", "picks", ""),
            ("error of place, rms", "position_rms_angstrom", "A"),
            ("error of orientation, median", "median_angle_deg", "degrees"),
        ):
            values = [
                next((float(getattr(row, attribute)) for row in scores[one.name] if row.kind == kind), float("nan"))
                for one in written
            ]
            found[kind][words] = Expected(words=words, unit=unit, values=tuple(values))
    return found


def _as_in(root: Path, twin: Path, pick: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of picking with files named from another project."""
    if not pick:
        return {}
    files = [
        f if f.startswith("sphere:") or Path(f).is_absolute() else relative_path(twin / f, root)
        for f in pick["templates"]
    ]
    return {**pick, "templates": files}
