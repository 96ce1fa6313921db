"""What a tilt series' page says of the membranes in its tomogram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.segmentation import label_views, labels_over_slices
from eucentric.report.content import Section, format_number, picture
from eucentric.report.params import ReportParams

_READING = (
    "Each connected membrane has a number and a colour. Good: labels follow both leaflets all around, one colour to a membrane, "
    "and end where nothing is seen; bad: sheets on gold, carbon or between particles, several colours on one membrane, or holes "
    "where the slices show it. Membranes across the beam lie in the missing wedge: what closes them there is the method's guess."
)
_ROWS = 12
_COLUMNS = (
    ("label", "membrane", 1.0),
    ("area_angstrom2", "area (nm²)", 0.01),
    ("closed", "closed", 1.0),
    ("enclosed_volume_angstrom3", "volume (nm³)", 0.001),
    ("ball_radius_angstrom", "radius of its ball (nm)", 0.1),
    ("ball_misfit_angstrom", "misfit of the ball (nm)", 0.1),
    ("thickness_angstrom", "thickness (Å)", 1.0),
)
_PICTURE_BYTES = 70_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segmentation:
    """A tomogram and its labels, both (z, y, x) of one shape."""

    volume: NDArray[Any]
    labels: NDArray[Any]
    voxel_size_angstrom: float
    measures: Mapping[str, Sequence[float]]
    """Columns of the table of measures, a row a membrane."""


def segmentation_section(
    title: str, settings: Mapping[str, Any], shown: Segmentation | None, params: ReportParams
) -> Section:
    """Slices with labels, the membranes in space, and the measures of the largest.

    Parameters
    ----------
    settings : with which it was made
    shown : None where a file of it cannot be read
    """
    pictures = []
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    if shown is not None:
        over = labels_over_slices(
            shown.volume, shown.labels, shown.voxel_size_angstrom, percentile=params.contrast_percentile
        )
        words = (
            f"The slices with most membrane, looking along z above and along y below; from the tomogram in `{settings['tomograms']}`."
            if "tomograms" in settings
            else "The slices with most membrane, looking along z above and along y below."
        )
        pictures.append(picture("Labels", over, params.dots_per_inch, words, most_bytes=_PICTURE_BYTES))
        if np.any(shown.labels):
            views = label_views(shown.labels, shown.voxel_size_angstrom)
            words = "The same colours in space, seen along the beam and from the side."
            pictures.append(
                picture("Membranes in space", views, params.dots_per_inch, words, most_bytes=_PICTURE_BYTES)
            )
        columns, rows = _table(shown.measures)
    return Section(title=title, reading=_READING, pictures=tuple(pictures), columns=columns, rows=rows)


def _table(measures: Mapping[str, Sequence[float]]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    known = [(name, words, scale) for name, words, scale in _COLUMNS if name in measures]
    count = min(_ROWS, len(next(iter(measures.values()), ())))
    if not known or not count:
        return (), ()
    rows = [tuple(_entry(name, float(measures[name][n]) * scale) for name, _, scale in known) for n in range(count)]
    return tuple(words for _, words, _ in known), tuple(rows)


def _entry(name: str, value: float) -> str:
    if name == "closed":
        return "yes" if value else "no"
    if name == "label":
        return f"{value:.0f}"
    return format_number(value) if np.isfinite(value) else ""
