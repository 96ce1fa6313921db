"""Order and dose of every tilt series among mdoc files, as `eucentric acquisition order` shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.acquisition.order_records import Fault, RecoveredOrder
from eucentric.acquisition.recover_order import as_part, recover_order
from eucentric.acquisition.split_series import SeriesSplit, split_series
from eucentric.errors import InputError
from eucentric.io.frame_tables import is_frame_series
from eucentric.io.mdoc import Mdoc, MdocSection, merge_mdocs, read_mdoc
from eucentric.pipeline.image_facts import mdoc_facts, name_facts
from eucentric.pipeline.import_files import bare_name, expand_paths, series_name

_SURE_OF_SPLIT = 0.9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesOrder:
    """What was found for one tilt series, or why there is none."""

    name: str
    files: tuple[str, ...]
    sections: tuple[MdocSection, ...] = ()
    """Images, in the order of the file."""
    recovered: RecoveredOrder | None = None
    split: SeriesSplit | None = None
    """How the file was, or may have to be, divided into series; None where it holds one."""
    problem: str = ""
    """Why the file holds no tilt series."""
    is_montage: bool = False
    """That it was never meant to hold one."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.recovered
        values: dict[str, Any] = {"name": self.name, "files": list(self.files), "problem": self.problem or None}
        if found is None:
            return values
        dose = found.dose
        values |= {
            "split": None
            if self.split is None
            else {
                "series": len(self.split.groups),
                "by": self.split.how,
                "confidence": round(self.split.confidence, 3),
                "done": is_sure(self.split),
            },
            "status": found.status,
            "order": None if found.order is None else list(found.order),
            "angles_deg": [s.tilt_angle_deg for s in self.sections],
            "order_source": found.source,
            "confidence": found.confidence,
            "scheme": None if found.scheme is None else found.scheme.model_dump(),
            "scheme_confidence": found.scheme_confidence,
            "words": found.words,
            "evidence": [{"source": e.source, "says": e.says, "agrees": e.agrees} for e in found.evidence],
            "alternatives": [{"words": a.words, "probability": a.probability} for a in found.alternatives[:20]],
            "alternative_count": len(found.alternatives),
            "parts": [{"images": list(p.images), "words": p.words} for p in found.parts],
            "replaced": list(found.replaced),
            "missing_deg": list(found.missing_deg),
            "faults": [{"kind": f.kind, "text": f.text} for f in found.faults],
            "dose": {
                "source": dose.source,
                "before_source": dose.before_source,
                "confidence": dose.confidence,
                "per_image": [None if np.isnan(d) else float(d) for d in dose.doses],
                "before": [None if np.isnan(d) else round(float(d), 5) for d in dose.before],
                "at_least": dose.at_least,
            },
        }
        return values


def recover_orders(places: Sequence[str | Path]) -> list[SeriesOrder]:
    """Order, dose and scheme of every series.

    Parameters
    ----------
    places : mdoc files, folders of them, wildcards. Mdocs of single images are joined by the names of their movies

    Raises
    ------
    InputError : a place that holds no mdoc file
    """
    paths = expand_paths(places, (".mdoc",), "mdoc file")
    found: list[SeriesOrder] = []
    singles: list[tuple[Path, Mdoc]] = []
    covered: set[str] = set()
    for path in paths:
        name = series_name(path)
        try:
            mdoc = read_mdoc(path)
        except InputError as error:
            found.append(SeriesOrder(name=name, files=(str(path),), problem=str(error)))
            continue
        if len(mdoc.sections) == 1 and mdoc.sections[0].tilt_angle_deg is not None:
            singles.append((path, mdoc))
            continue
        covered |= {s.movie_name for s in mdoc.sections if s.movie_name}
        found += _of_file(name, (path,), mdoc)
    return found + _of_singles([(p, m) for p, m in singles if m.sections[0].movie_name not in covered])


def _of_file(name: str, paths: tuple[Path, ...], mdoc: Mdoc) -> list[SeriesOrder]:
    files = tuple(str(p) for p in paths)
    if mdoc.extra.get("Montage", "0").strip() not in ("", "0") or any(s.kind == "MontSection" for s in mdoc.sections):
        return [SeriesOrder(name=name, files=files, problem="It describes a montage, no tilt series.", is_montage=True)]
    cut = cut_off_words(mdoc)
    sections = [s for s in mdoc.sections if s.tilt_angle_deg is not None]
    if is_frame_series(mdoc):  # its first section is that of the whole movie
        sections = [s for s in sections if s.kind == "ZValue"]
    if not sections:
        return [SeriesOrder(name=name, files=files, problem=f"It holds no tilt angles (TiltAngle). {cut}".strip())]
    ends = (Fault(kind="cut off", text=cut),) if cut else ()
    split, groups = split_sections(sections)
    if len(groups) > 1 and not is_sure(split):
        recovered = recover_order(mdoc_facts(sections), mdoc.scheme)
        recovered = replace(recovered, faults=(*ends, _doubted_split(split), *recovered.faults))
        return [SeriesOrder(name=name, files=files, sections=tuple(sections), recovered=recovered, split=split)]
    made = []
    for group, label in zip(groups, split.names or ("",), strict=True):
        recovered = recover_order(mdoc_facts(group), mdoc.scheme)
        is_part = len(groups) > 1
        if is_part:
            recovered = as_part(recovered, split.confidence)
        mixed = (_told_split(split),) if is_part else ()
        recovered = replace(recovered, faults=(*ends, *mixed, *recovered.faults))
        whole = f"{name}_{label}" if label and not label.startswith(name) else (label or name)
        made.append(
            SeriesOrder(
                name=whole, files=files, sections=tuple(group), recovered=recovered, split=split if is_part else None
            )
        )
    return made


def is_sure(split: SeriesSplit) -> bool:
    """Whether a file is divided by a split unasked."""
    return split.confidence >= _SURE_OF_SPLIT


def cut_off_words(mdoc: Mdoc) -> str:
    """That a file is cut off, and what becomes of the image of its last section; empty where it is whole."""
    if not mdoc.cut_off:
        return ""
    angle = mdoc.sections[-1].tilt_angle_deg
    image = (
        "Its image has no angle and is left out"
        if angle is None
        else f"Its image at {angle:.1f} degrees is used with what is left"
    )
    return f"{mdoc.cut_off} {image}. Copy the file again."


def split_sections(sections: Sequence[MdocSection]) -> tuple[SeriesSplit, list[list[MdocSection]]]:
    """Images of one file by series; see :func:`eucentric.acquisition.split_series.split_series`."""
    split = split_series(mdoc_facts(sections))
    return split, [[sections[i] for i in group] for group in split.groups]


def _told_split(split: SeriesSplit) -> Fault:
    sure = f"{100 * split.confidence:.0f}% sure"
    text = f"The file holds {len(split.groups)} series mixed; they were told apart by {split.how} ({sure})."
    return Fault(kind="interleaved", text=text)


def _doubted_split(split: SeriesSplit) -> Fault:
    sure = f"{100 * split.confidence:.0f}% sure"
    text = f"It may hold {len(split.groups)} series mixed, by {split.how} ({sure}), and is taken as one. If it does, part its mdoc."
    return Fault(kind="interleaved", text=text)


def _of_singles(singles: Sequence[tuple[Path, Mdoc]]) -> list[SeriesOrder]:
    """Series of mdocs that describe one image each."""
    names = name_facts([m.sections[0].movie_name or bare_name(p) for p, m in singles])
    grouped: dict[str, list[tuple[Path, Mdoc]]] = {}
    for one, name in zip(singles, names, strict=True):
        grouped.setdefault(name.root or series_name(one[0]), []).append(one)
    found = []
    for root, group in grouped.items():
        found += _of_file(root, tuple(p for p, _ in group), merge_mdocs([m for _, m in group]))
    return found
