"""What metadata files and movie names say of the time and place of images."""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eucentric.acquisition.order_records import ImageFacts
from eucentric.io.mdoc import MdocSection
from eucentric.pipeline.import_files import bare_name, parse_movie_names

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_STAMP = re.compile(r"_([A-Z][a-z]{2})(\d{1,2})_(\d{2})\.(\d{2})\.(\d{2})(?=$|[._])")
_NUMBERED = re.compile(r"(?P<root>.+?)_(?P<number>\d{2,5})_[-+]?\d{1,2}(?:\.\d+)?(?:_.*)?")
_ENDS_IN_NUMBER = re.compile(r"(?P<root>.*?)[_-]?(?P<number>\d+)")
_EPOCH = dt.datetime(2000, 1, 1)  # a leap year, for names hold no year
_HALF_YEAR_S = 183 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """What the name of a movie says."""

    root: str | None = None
    number: int | None = None
    time_s: float | None = None


def name_facts(names: Sequence[str | None]) -> list[NameFacts]:
    """Root, number and time stamp in the names of the movies of a file; nothing where a name has no known form."""
    known = [Path(n) for n in names if n]
    parsed = {m.path.name: m for m in parse_movie_names(known)} if len(known) == len(names) else {}
    times = _times(names)
    found = []
    for name, time in zip(names, times, strict=True):
        if name is None:
            found.append(NameFacts())
            continue
        movie = parsed.get(Path(name).name)
        if movie is not None:
            found.append(NameFacts(root=movie.series, number=movie.order, time_s=time))
            continue
        stem = bare_name(_STAMP.sub("", name))
        match = _NUMBERED.fullmatch(stem) or _ENDS_IN_NUMBER.fullmatch(stem)
        root, number = (None, None) if match is None else (match["root"], int(match["number"]))
        found.append(NameFacts(root=root, number=number, time_s=time))
    return found


def _times(names: Sequence[str | None]) -> list[float | None]:
    times: list[float | None] = []
    for name in names:
        found = None if name is None else _STAMP.search(name)
        moment = None
        try:
            if found is not None:
                month = _MONTHS.index(found[1].lower()) + 1
                day, hour, minute, second = (int(g) for g in found.groups()[1:])
                moment = dt.datetime(2000, month, day, hour, minute, second)
        except ValueError:
            pass
        times.append(None if moment is None else (moment - _EPOCH).total_seconds())
    stamps = [t for t in times if t is not None]
    if stamps and max(stamps) - min(stamps) > _HALF_YEAR_S:  # over new year
        year = 366 * 86400.0
        times = [t + year if t is not None and t < _HALF_YEAR_S else t for t in times]
    return times


def mdoc_facts(sections: Sequence[MdocSection]) -> list[ImageFacts]:
    """What an mdoc says of its images.

    Parameters
    ----------
    sections : each with an angle
    """
    names = name_facts([s.movie_name for s in sections])
    return [_section_facts(section, name) for section, name in zip(sections, names, strict=True)]


def _section_facts(section: MdocSection, name: NameFacts) -> ImageFacts:
    frames = sum(dose * count for dose, count in section.frame_doses)
    binning = _number(section.extra.get("Binning"))
    pixel = section.pixel_spacing_angstrom
    return ImageFacts(
        angle_deg=section.tilt_angle_deg or 0.0,
        label=section.movie_name or f"section {section.label}",
        time_s=moment_s(section.date_time),
        name_time_s=name.time_s,
        number=name.number,
        section=section.z_value if section.kind == "ZValue" else None,
        dose=section.exposure_dose,
        frame_dose=frames or None,
        prior_dose=section.prior_record_dose,
        exposure_s=section.exposure_time_s,
        dose_rate=_number(section.extra.get("DoseRate")),
        pixel_angstrom=pixel / binning if pixel and binning else None,
        stage_um=_pair(section.extra.get("StagePosition")),
        shift_um=section.image_shift_um,
        navigator_label=section.extra.get("NavigatorLabel"),
        root=name.root,
    )


def moment_s(moment: dt.datetime | None) -> float | None:
    """Seconds since 2000 as the clock on the wall shows them."""
    return None if moment is None else (moment - _EPOCH).total_seconds()


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _pair(text: str | None) -> tuple[float, float] | None:
    try:
        x, y = (float(word) for word in (text or "").split())
    except ValueError:
        return None
    return x, y
