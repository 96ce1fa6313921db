"""All checks on a project, on files, or on the machine alone."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from eucentric.io.findings import Finding
from eucentric.pipeline.doctor.cases import Cases, SeriesCase, gather
from eucentric.pipeline.doctor.dose import check_dose
from eucentric.pipeline.doctor.findings import Checkup, Fault, NotChecked, Result
from eucentric.pipeline.doctor.geometry_from_images import check_geometry
from eucentric.pipeline.doctor.hand import check_hand, check_hands_together, hand_seen
from eucentric.pipeline.doctor.leftovers import check_stages, check_tables, check_tilts
from eucentric.pipeline.doctor.machine import check_machine
from eucentric.pipeline.doctor.measure import Measured, measure_series
from eucentric.pipeline.doctor.metadata import check_metadata
from eucentric.pipeline.doctor.pixel_size import check_gradients, check_pixel_size

_MOVIES, _FEWEST_MOVIES = 28, 14
"""Movies whose frames are aligned, of all series and of each: time against certainty."""
_OWN_WORDS = ("The dose of", "No file tells the direction of the tilt axis", "No file tells the voltage")
"""Of findings of the import that have checks of their own, or are as usual."""


def examine(
    places: Sequence[Path],
    *,
    gain: Path | None = None,
    only: Sequence[str] = (),
    measure: int = 3,
    machine: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Checkup:
    """Look for everything that is wrong.

    Parameters
    ----------
    places : a project, perhaps with its mdocs; or files; nothing for the machine alone
    gain : reference of the camera, for movies without a project
    only : names of tilt series, wildcards allowed; all of them where empty
    measure : tilt series whose images are looked at; the others are judged by tables and records
    machine : whether the machine is looked at too
    tell : called with what is being done

    Raises
    ------
    InputError : nothing that could be examined
    """
    cases = gather(places, gain)
    checkup = Checkup()
    chosen = _selected(cases, only)
    measured = _measure(chosen, measure, checkup, tell)
    for case, found in zip(chosen, measured, strict=True):
        tell(f"comparing the metadata of {case.name}")
        checkup.add(_of_series(case, found, cases))
    checkup.add(check_hands_together(chosen, [hand_seen(c, m) for c, m in zip(chosen, measured, strict=True)]))
    checkup.add(check_gradients(chosen, measured))
    checkup.add(_noticed(cases.noticed))
    tell("looking at the project and the machine")
    checkup.add(check_stages(cases))
    if machine:
        checkup.add(check_machine(cases))
    return checkup


def _selected(cases: Cases, only: Sequence[str]) -> list[SeriesCase]:
    from eucentric.pipeline.steps import selected

    names = set(selected([c.name for c in cases.cases], list(only)))
    return [c for c in cases.cases if c.name in names]


def _measure(
    cases: Sequence[SeriesCase], most: int, checkup: Checkup, tell: Callable[[str], None]
) -> list[Measured | None]:
    """Of some series, spread over all."""
    able = [i for i, c in enumerate(cases) if c.series is not None and c.series.tilts and not _table_without_images(c)]
    step = max(1, len(able) // most) if most > 0 else 1
    chosen = set(able[::step][:most]) if most > 0 else set()
    out: list[Measured | None] = []
    for i, case in enumerate(cases):
        if i not in chosen:
            out.append(None)
            continue
        try:
            out.append(measure_series(case, tell, ring_movies=max(_FEWEST_MOVIES, _MOVIES // len(chosen))))
        except Exception as error:  # noqa: BLE001 - images that break a measurement are a finding, and stop no other check
            out.append(None)
            checkup.add([NotChecked(check="images", series=case.name, text=f"Its images were not looked at: {error}")])
    left = [cases[i].name for i in able if i not in chosen]
    if left:
        text = f"The images of {len(left)} more series were not looked at (--measure {len(able)} looks at all)."
        checkup.add([NotChecked(check="images", text=text)])
    return out


def _table_without_images(case: SeriesCase) -> bool:
    """A table of another program may name images that are not here."""
    if not case.from_table or case.series is None:
        return False
    first = next((t.image or t.movie for t in case.series.tilts), None)
    return first is None or not (case.root / first.rpartition("@")[2]).is_file()


def _of_series(case: SeriesCase, found: Measured | None, cases: Cases) -> Iterable[Result]:
    set_hand: float | None = None
    if cases.plan is not None and (hand := cases.plan.params("ctf").hand) != "auto":
        set_hand = float(hand)
    seen = hand_seen(case, found)
    expected = set_hand if set_hand is not None or case.series is None else case.series.hand
    yield from check_metadata(case, None if seen is None else seen.hand == expected)
    yield from check_geometry(case, found)
    yield from check_hand(case, found, set_hand)
    yield from check_pixel_size(case, found)
    yield from check_dose(case, found)
    yield from check_tilts(case, found)
    yield from check_tables(case, cases)


def _noticed(findings: Sequence[Finding]) -> Iterable[Fault]:
    """What the import noticed of files that were given."""
    for one in findings:
        if one.severity == "note" or one.text.startswith(_OWN_WORDS):
            continue
        lost = "left out" in one.text or "not used" in one.text
        long = len(one.text) > 200
        yield Fault(
            check="import",
            severity="error" if one.severity == "error" else "warning" if lost else "note",
            confidence="certain",
            title=one.text.split(": ")[0].rstrip(".") + "." if long else one.text,
            compared=one.text if long else "The import of these files notices it.",
            consequence="The series cannot be imported as it is."
            if one.severity == "error"
            else "These images are missing from the tomogram."
            if lost
            else "The import goes on with what it chose.",
            series=one.series,
        )
