"""Order and doses of the images of a draft: as the files tell, as the user says, or as far as they can be recovered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eucentric.acquisition.fit_scheme import is_trivial
from eucentric.acquisition.order_evidence import differ_enough
from eucentric.acquisition.order_records import ImageFacts
from eucentric.acquisition.recover_dose import count_falls, falling_count, join_counts
from eucentric.acquisition.recover_order import recover_order
from eucentric.acquisition.split_series import angle_groups, find_restarts
from eucentric.pipeline.image_facts import moment_s, name_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eucentric.acquisition.order_records import Fault, RecoveredOrder
    from eucentric.pipeline.import_drafts import Draft, DraftTilt, ImportOptions

_SHOWN = 3
_SURE = 0.9


def acquisition_order(draft: Draft, options: ImportOptions) -> list[int]:
    """Rank of every tilt in time: by the user's scheme, by date, by number, by the dose before it, or recovered.

    Raises
    ------
    InputError : a scheme that does not have the angles
    """
    told = _told_keys(draft)
    if options.scheme is not None:
        order = options.scheme.order_of([t.angle_deg for t in draft.tilts])
        draft.say("note", f"The order of the images is that of the scheme given (`{options.scheme.text}`).")
        if told is not None and _sorted(told) != order:
            draft.say("warning", "The files tell another order than the scheme given, which is used.")
        return _ranks(order)
    if told is not None:
        ranks = _ranks(_checked(draft, _sorted(told)))
        _tell_restarts(draft, ranks)
        return ranks
    return _recovered(draft, options)


def _told_keys(draft: Draft) -> list[tuple[float, ...]] | None:
    """What sorts the tilts in time, where the files tell it of all."""
    tilts = draft.tilts
    moments = [t.date_time.timestamp() for t in tilts if t.date_time is not None]
    dated = len(moments) == len(tilts)
    if dated and differ_enough(moments):
        return [(m, t.prior_dose or 0.0, t.position) for m, t in zip(moments, tilts, strict=True)]
    # Dates that are all the same were written by a copy, which may have numbered the images by angle as well.
    copied = dated and is_trivial([t.angle_deg for t in sorted(tilts, key=lambda t: t.order or 0)])
    if all(t.order is not None for t in tilts) and not copied:
        return [(float(t.order or 0), t.position) for t in tilts]
    if len({t.prior_dose for t in tilts}) == len(tilts) and all(t.prior_dose is not None for t in tilts):
        why = "Many images have the same date" if dated else "Not every image has a date"
        draft.say("note", f"{why}, so they were put in order by the dose before each (PriorRecordDose).")
        return [(t.prior_dose or 0.0, t.position) for t in tilts]
    return None


def _checked(draft: Draft, order: list[int]) -> list[int]:
    """The order told, or another where all that the files say makes it far likelier; what contradicts is told."""
    found = recover_order(_facts(draft.tilts), draft.title)
    if found.order is None:
        return order
    likelier = list(found.order) != order
    if likelier and found.confidence < _SURE:
        draft.say("warning", f"What the files tell of the order of the images contradicts itself.{_could_be(found)}")
        return order
    _tell(draft, [f for f in found.faults if f.kind in ("conflict", "title")])
    if likelier:
        sure = f"{100 * found.confidence:.0f}% sure"
        draft.say("warning", f"The images were put in the order of {found.source} ({sure}): {found.words}.")
    return list(found.order)


def _sorted(keys: Sequence[tuple[float, ...]]) -> list[int]:
    return sorted(range(len(keys)), key=lambda i: keys[i])


def _ranks(order: Sequence[int]) -> list[int]:
    ranks = [0] * len(order)
    for rank, index in enumerate(order):
        ranks[index] = rank
    return ranks


def _facts(tilts: Sequence[DraftTilt]) -> list[ImageFacts]:
    names = name_facts([t.label if t.movie is not None or "@" not in t.label else None for t in tilts])
    return [
        ImageFacts(
            angle_deg=t.angle_deg,
            label=t.label,
            time_s=moment_s(t.date_time),
            name_time_s=name.time_s,
            number=t.order if t.order is not None else name.number,
            dose=t.dose,
            prior_dose=t.prior_dose,
        )
        for t, name in zip(tilts, names, strict=True)
    ]


def _recovered(draft: Draft, options: ImportOptions) -> list[int]:
    """By what remains: some dates, names, the order of the file, the title; what was assumed is told."""
    found = recover_order(_facts(draft.tilts), draft.title)
    matters = any(t.dose or options.dose_per_tilt for t in draft.tilts)
    if found.order is None or found.status == "unknown":
        if matters:
            draft.say(
                "warning",
                "Neither dates nor doses tell the order in which the images were taken; they are taken to be "
                f"listed in it. If they are not, the accumulated doses are wrong.{_could_be(found)}",
            )
        return list(range(len(draft.tilts)))
    if matters:
        verb = "is" if found.status == "told" else "was guessed to be"
        also = _could_be(found) if found.status == "guess" else ""
        draft.say(
            "warning",
            f"Neither dates nor doses before tell the order of all images; it {verb} {found.words} ({found.source}, "
            f"{100 * found.confidence:.0f}% sure).{also}",
        )
    ranks = _ranks(found.order)
    _tell(draft, [f for f in found.faults if f.kind == "restart"])
    return ranks


def _could_be(found: RecoveredOrder) -> str:
    if not found.alternatives:
        return " Say which scheme it was with --scheme."
    some = "; ".join(a.words for a in found.alternatives[:_SHOWN])
    more = len(found.alternatives) - _SHOWN
    also = f" and {more} more" if more > 0 else ""
    return (
        f" It could also be: {some}{also}. Say which with --scheme, such as --scheme 'dose-symmetric start=0 group=2'."
    )


def _tell(draft: Draft, faults: Sequence[Fault]) -> None:
    for fault in faults:
        draft.say("warning", fault.text)


def _tell_restarts(draft: Draft, ranks: Sequence[int]) -> None:
    order = np.argsort(ranks)
    for place in _restarts(draft, ranks):
        last, first = (draft.tilts[int(order[p])] for p in (place - 1, place))
        draft.say(
            "warning",
            f"The series was begun again after {place} images, from {last.angle_deg:.1f} back to {first.angle_deg:.1f} degrees. "
            "Of angles taken twice the later image is used, and the dose of the first counts.",
        )


def _restarts(draft: Draft, ranks: Sequence[int]) -> list[int]:
    visits = angle_groups([t.angle_deg for t in draft.tilts])
    return find_restarts([visits[int(i)] for i in np.argsort(ranks)])


def counted_doses(draft: Draft, ranks: Sequence[int], doses: Sequence[float]) -> list[float]:
    """Dose before every tilt by the count of the microscope, which may begin anew; summed where it falls otherwise.

    Parameters
    ----------
    draft : every tilt has its `prior_dose`
    ranks, doses : place in time, and e/A^2 of every tilt
    """
    recorded = np.array([t.prior_dose or 0.0 for t in draft.tilts])
    order = np.argsort(ranks)
    counted, given = recorded[order], np.asarray(doses)[order]
    restarts = _restarts(draft, ranks)
    joined = np.empty_like(recorded)
    falls = count_falls(counted, restarts)
    if falls:
        draft.say("warning", falling_count(falls, summed=True))
        joined[order] = np.cumsum(given) - given
        return [float(v) for v in joined]
    faults: list[Fault] = []
    joined[order] = join_counts(counted, given, restarts, faults)
    _tell(draft, faults)
    return [float(v) for v in joined]
