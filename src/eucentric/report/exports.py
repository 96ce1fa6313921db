"""The numbers of pages as JSON and CSV."""

import csv
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from io import BytesIO, StringIO
from itertools import chain, count
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from eucentric.report.content import Picture, SeriesPage

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""By series, stage and name."""
Figures = Sequence[tuple[str, Picture]]
"""With the titles of their sections."""


def metrics_json(metrics: Metrics) -> str:
    """Metrics as they are named in records, their units in the names; null where not known."""
    plain = {
        series: {stage: {name: _known(value) for name, value in some.items()} for stage, some in stages.items()}
        for series, stages in metrics.items()
    }
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def metrics_csv(metrics: Metrics) -> str:
    """A row for each series, stage and metric."""
    rows = (
        (series, stage, name, "" if _known(value) is None else f"{value:.10g}")
        for series, stages in metrics.items()
        for stage, some in stages.items()
        for name, value in some.items()
    )
    return _csv(("series", "stage", "metric", "value"), rows)


def figures_of(page: SeriesPage) -> Figures:
    """The figures of a page that have numbers, with the sections that they stand in."""
    return [(section.title, picture) for section in page.sections for picture in section.pictures if picture.plotted]


def figures_zip(name: str, figures: Figures) -> bytes:
    """An archive of `figures.json` with all, and of a CSV for each figure that has curves. The same figures give the same bytes.

    The CSV has a row for each point of each curve; images, where they are small, are in the JSON alone.
    """
    texts = {"figures.json": _figures_json(name, figures)}
    for section, picture in figures:
        if rows := list(_points(picture)):
            columns = ("axes", "curve", *(_VALUES if any(len(row) > _PLAIN for row in rows) else _VALUES[:2]))
            texts[_file_name(section, picture.title, texts)] = _csv(columns, rows)
    target = BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for file, text in texts.items():
            archive.writestr(ZipInfo(file), text.encode(), ZIP_DEFLATED, compresslevel=9)
    return target.getvalue()


_VALUES = ("x", "y", "dx", "dy")
_PLAIN = 4


def _figures_json(name: str, figures: Figures) -> str:
    told = [{"section": section, **_figure(picture)} for section, picture in figures]
    return json.dumps({"name": name, "figures": told}, ensure_ascii=False, allow_nan=False) + "\n"


def _file_name(section: str, title: str, taken: Container[str]) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", f"{section} {title}".lower()).strip("_")[:80] or "figure"
    names = (f"{plain}{number}.csv" for number in chain([""], (f"_{n}" for n in count(2))))
    return next(name for name in names if name not in taken)


def _points(picture: Picture) -> Iterator[tuple[str, ...]]:
    for number, axes in enumerate(picture.plotted, start=1):
        place = axes["title"] or f"{axes['y']} against {axes['x']}" if axes["x"] or axes["title"] else str(number)
        for curve_number, curve in enumerate(axes["curves"], start=1):
            label = curve["name"] or f"{curve['kind']} {curve_number}"
            for values in zip(*(curve[key] for key in _VALUES if key in curve), strict=True):
                yield (place, label, *("" if v is None else f"{v:.6g}" for v in values))


def _figure(picture: Picture) -> dict[str, Any]:
    return {"title": picture.title, "caption": picture.caption, "axes": list(picture.plotted)}


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    target = StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return target.getvalue()


def _harmless(cell: str) -> str:
    """Text that a spreadsheet does not take for a formula; numbers stay."""
    if not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
