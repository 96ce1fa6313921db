"""`eucentric acquisition order`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from eucentric.cli.options import AsJson, Debug, show_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eucentric.acquisition.order_records import RecoveredDose, RecoveredOrder
    from eucentric.pipeline.acquisition_orders import SeriesOrder

_SHOWN = 4


def order(*places: Path, as_json: AsJson = False, debug: Debug = False) -> int:
    """Tell the order in which tilt series were taken, their scheme and their doses, and how sure that is.

    Dates, PriorRecordDose, numbers and times in the names of movies, the order of the file and the title's dosym= or bidir= are
    compared with each other and with the orders that tilt schemes make. Where they do not tell, the schemes that fit
    are listed and none is chosen. Exit code 1 where a file could not be read.

    Parameters
    ----------
    places
        mdoc files, or folders of them; mdocs of single images are joined into series
    """
    del debug  # read by the program itself
    from eucentric.errors import InputError
    from eucentric.pipeline.acquisition_orders import recover_orders

    if not places:
        raise InputError("No file was given. Expected mdoc files, or folders of them.")
    found = recover_orders(places)
    for one in found:
        for line in _lines(one):
            sys.stdout.write(line + "\n")
    code = 1 if any(one.problem and not one.is_montage for one in found) else 0
    if as_json:
        show_json({"exit_code": code, "series": [one.to_dict() for one in found]})
    return code


def _lines(one: SeriesOrder) -> Iterator[str]:
    found = one.recovered
    if found is None:
        yield f"{one.name}: {one.problem}"
        return
    yield f"{one.name}: {len(one.sections)} images"
    unsure = found.scheme is not None and found.scheme_confidence < 0.9
    yield _row("scheme", found.words + (f" ({_percent(found.scheme_confidence)} sure)" if unsure else ""))
    yield _row("order", _order_words(found))
    yield _row("dose", _dose_words(found.dose))
    for part in found.parts:
        yield _row("part", f"{len(part.images)} images: {part.words}")
    for evidence in found.evidence:
        key = {True: "for it", False: "against it", None: "evidence"}[evidence.agrees]
        yield _row(key, f"{evidence.source}: {evidence.says}")
    for other in found.alternatives[:_SHOWN]:
        yield _row("or", f"{other.words} ({_percent(other.probability)})")
    if len(found.alternatives) > _SHOWN:
        yield _row("or", f"one of {len(found.alternatives) - _SHOWN} more schemes that fit the angles")
    for fault in found.faults:
        yield _row(fault.kind, fault.text)
    if found.status != "told" and len(one.sections) > 1:
        yield _row("to mend", "give the scheme to import, such as --scheme 'dose-symmetric start=0 group=2'")


def _row(key: str, text: str) -> str:
    return f"  {key:<12}{text}"


def _percent(probability: float) -> str:
    return f"{100 * probability:.0f}%" if probability < 0.99 else f"{100 * probability:.1f}%"


def _order_words(found: RecoveredOrder) -> str:
    if found.order is not None and len(found.order) == 1:
        return "one image: none to tell"
    if found.order is None or found.status == "unknown":
        return "unknown: the file does not tell"
    told = "told" if found.status == "told" else "guessed"
    return f"{told} by {found.source}, {_percent(found.confidence)} sure"


def _dose_words(dose: RecoveredDose) -> str:
    import numpy as np

    known = dose.doses[np.isfinite(dose.doses)]
    if not len(known):
        words = "unknown"
        if dose.at_least is not None:
            words += f"; the camera counted {dose.at_least:.2f} e/A2 an image behind the specimen, which got more"
        return words
    each = f"{known.min():.4g}" if np.ptp(known) <= 1e-3 * known.max() else f"{known.min():.4g} to {known.max():.4g}"
    words = f"{each} e/A2 an image ({dose.source})"
    if not np.isfinite(dose.before).all():
        return f"{words}; before each image unknown"
    last = dose.before.max()
    return f"{words}; before each {dose.before.min():.4g} to {last:.4g} ({dose.before_source}), {_percent(dose.confidence)} sure"
