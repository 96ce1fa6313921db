"""What was left over: tilts that are no use and still in, tables that do not fit each other, results of other settings."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline import records
from eucentric.pipeline.doctor.cases import STAGES, Cases, SeriesCase
from eucentric.pipeline.doctor.commands import command, run_command
from eucentric.pipeline.doctor.findings import Fault, Passed, Remedy, Result, listed
from eucentric.pipeline.doctor.measure import Measured
from eucentric.pipeline.status import project_status

_MOST_COMMANDS = 6


def check_tilts(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    """Tilts whose images are of no use: dark, empty, saturated, copies of others, or not to be read."""
    if measured is None:
        return
    series = measured.sketch.series
    used = case.aligned or (case.stages.get("motion") if "align" in case.records else None)
    still = None if used is None else {t.acquisition for t in used.tilts}
    bad = [(series.tilts[i], why) for i, why in sorted(measured.bad.items())]
    included = [(t, why) for t, why in bad if still is None or t.acquisition in still]
    if not included:
        left = f"; {len(bad)} that are were left out already" if bad else ""
        text = f"None of the {len(series.tilts)} images in use is dark, empty, saturated or a copy{left}."
        yield Passed(check="tilts", series=case.name, text=text)
        return
    reasons = "; ".join(f"{t.nominal_tilt_deg:.1f} degrees is {_short(why)}" for t, why in included[:_MOST_COMMANDS])
    aligned = still is not None
    yield Fault(
        check="tilts",
        severity="warning",
        confidence="certain" if all(_is_plain(why) for _, why in included) else "likely",
        title=f"{len(included)} image{'s' * (len(included) != 1)} of no use {'are' if len(included) != 1 else 'is'} still included: "
        + listed([t.nominal_tilt_deg for t, _ in included])
        + " degrees.",
        compared=f"{reasons}. Compared with what the other {len(series.tilts) - len(bad)} images lead to expect.",
        consequence="They blur the alignment and put streaks into the tomogram."
        if aligned
        else "They would blur the alignment and put streaks into the tomogram. `eucentric align` leaves them out by itself; "
        "other programs "
        "may not.",
        remedies=tuple(_exclude(case, tilt, why) for tilt, why in included[:_MOST_COMMANDS]),
        series=case.name,
    )


def _is_plain(why: str) -> bool:
    return why.startswith(("dark", "empty", "unreadable", "broken", "copy"))


def _short(why: str) -> str:
    return why.rstrip(".").replace("\n", " ")[:200]


def _exclude(case: SeriesCase, tilt: Tilt, why: str) -> Remedy:
    made = command(
        "eucentric",
        "exclude",
        case.shown,
        case.name,
        f"{tilt.nominal_tilt_deg:.2f}",
        "--reason",
        why.partition(":")[0],
    )
    return Remedy(command=made, when="" if case.project else "once it is imported")


def check_tables(case: SeriesCase, cases: Cases) -> Iterator[Result]:
    """Tilts that are left out in one table, and used in another."""
    plan = cases.plan
    entries = () if plan is None else records.exclusions_of(plan.exclusions, case.name)
    tables = dict(case.stages) if case.series is None else {"import": case.series, **case.stages}
    wrong = False
    for stage, series in tables.items():
        both = _both(series)
        if both:
            wrong = True
            yield _in_both(case, stage, both)
    done = [stage for stage in STAGES if stage in case.stages]
    back = {stage: found for stage in done if (found := _left_in(case.stages[stage], entries))}
    if plan is not None:  # a stage that treats each tilt alone keeps what it made of those left out later
        back = {s: f for s, f in back.items() if not getattr(plan.stage(s), "tilts_are_independent", False)}
    if back:
        wrong = True
        yield _excluded_since(case, back)
    for earlier, later in itertools.pairwise(done):
        known = {t.acquisition for t in case.stages[earlier].tilts}
        new = [t.nominal_tilt_deg for t in case.stages[later].tilts if t.acquisition not in known]
        if new:
            wrong = True
            yield _only_later(case, earlier, later, new)
    if tables and not wrong and len(tables) > 1:
        text = f"The tables of {listed(list(tables))} agree on which tilts are used."
        yield Passed(check="excluded-tilts", series=case.name, text=text)


def _both(series: TiltSeries) -> list[float]:
    gone = {e.tilt.acquisition for e in series.excluded}
    return [t.nominal_tilt_deg for t in series.tilts if t.acquisition in gone]


def _in_both(case: SeriesCase, stage: str, tilts: list[float]) -> Fault:
    redo = () if case.project is None or stage == "import" else (_redo(case, stage),)
    return Fault(
        check="excluded-tilts",
        severity="error",
        confidence="certain",
        title=f"The tables of `{stage}` list tilts both as used and as left out.",
        compared=f"{listed(tilts)} degrees stand in `{stage}/tilt_series/{case.name}.star` and in `{case.name}_excluded.star`.",
        consequence="The tilts are used although they were left out; the tables were most likely edited by hand.",
        remedies=redo,
        series=case.name,
    )


def _left_in(series: TiltSeries, entries: Sequence[dict[str, Any]]) -> list[float]:
    """Angles of tilts that are used although they are left out by now."""
    kept = {t.acquisition for t in records.without_excluded(series, entries).tilts}
    return [t.nominal_tilt_deg for t in series.tilts if t.acquisition not in kept]


def _excluded_since(case: SeriesCase, back: dict[str, list[float]]) -> Fault:
    tilts = sorted({t for found in back.values() for t in found})
    return Fault(
        check="excluded-tilts",
        severity="error",
        confidence="certain",
        title=f"Results of {listed(list(back))} hold tilts that were left out since.",
        compared=f"`eucentric.toml` leaves out {listed(tilts)} degrees; the tables of these stages use them.",
        consequence="The bad images are still in these results, and in all that was made of them.",
        remedies=(Remedy(command=run_command(case.shown)),),
        series=case.name,
    )


def _only_later(case: SeriesCase, earlier: str, stage: str, tilts: list[float]) -> Fault:
    return Fault(
        check="excluded-tilts",
        severity="error",
        confidence="certain",
        title=f"`{stage}` uses tilts that `{earlier}` before it has not.",
        compared=f"{listed(tilts)} degrees stand in the tables of `{stage}`, and not in those of `{earlier}`.",
        consequence=f"The results of `{stage}` are of an older state of the project.",
        remedies=(Remedy(command=run_command(case.shown, "--until", stage)), _redo(case, stage)),
        series=case.name,
    )


def _redo(case: SeriesCase, stage: str) -> Remedy:
    made = command("eucentric", stage, case.shown, "--only", case.name, "--overwrite")
    return Remedy(when="to make its results anew whatever they say", command=made)


def check_stages(cases: Cases) -> Iterator[Result]:
    """Results of settings or inputs that are no longer those of the project, and stages that failed."""
    if cases.project is None:
        return
    found = project_status(cases.project)
    outdated: dict[str, list[str]] = {}
    for one in found.series:
        late = tuple(stage for stage, state in one.states.items() if state == "outdated")
        if late:
            outdated.setdefault(", ".join(late), []).append(one.name)
    changes = "; ".join(
        f"{c.stage} {c.setting} was {c.old}, and is {c.new} now" for c in found.changes if c.old != c.new
    )
    for stages, names in outdated.items():
        yield Fault(
            check="outdated",
            severity="warning",
            confidence="certain",
            title=f"Results of {stages} are not of the settings and inputs of today.",
            compared=f"Of {listed(names)}."
            + (f" {changes}." if changes else " Files, tables or excluded tilts before them changed."),
            consequence="What is on disk does not show what the settings say.",
            remedies=(Remedy(command=run_command(cases.shown)),),
        )
    failed = [(one.name, stage) for one in found.series for stage, state in one.states.items() if state == "failed"]
    for name, stage in failed:
        record = records.read_record(cases.project / stage, name)
        words = "" if record is None or not record.message else f" It said: {record.message[:300]}"
        yield Fault(
            check="failed",
            severity="error",
            confidence="certain",
            title=f"`{stage}` failed.",
            compared=f"Its record says so.{words}",
            consequence="The series has no further results.",
            remedies=(Remedy(when="once the cause is mended", command=run_command(cases.shown, "--only", name)),),
            series=name,
        )
    if not outdated and not failed:
        yield Passed(check="outdated", text="All results are of the settings and inputs of today.")
