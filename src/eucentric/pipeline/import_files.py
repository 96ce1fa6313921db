"""Files and file names: what the user's folders and patterns hold, and what a movie's name tells of its tilt."""

import datetime as dt
import glob
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from eucentric.errors import FormatError, InputError

Found = TypeVar("Found")
_TILT = r"(?P<tilt>[-+]?\d{1,2}(?:\.\d+)?)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BUILT_IN = (
    # Tomography 5 / EPU: Position_1_001[0.00]_fractions, Position_1_2_001_-3.00_20230101_101010_EER
    rf"(?P<series>.+?)_(?P<order>\d{{3}})\[{_TILT}\](?:_.*)?",
    # SerialEM, PACEtomo, Leginon exports: TS_01_003_6.0, TS_01_003_6.0_Jan01_10.00.00, 23jan01a_00012tomo_003_-6.0
    rf"(?P<series>.+?)_(?P<order>\d{{2,5}})_{_TILT}(?:_.*)?",
    # SerialEM without an order: tomo200528_107_-51.0_May31_00.24.27
    rf"(?P<series>.+?)_{_TILT}_(?P<date>[A-Z][a-z]{{2}}\d{{1,2}}_\d{{2}}\.\d{{2}}\.\d{{2}})",
)
_WORDS = {
    "series": r"(?P<series>.+?)",
    "order": r"(?P<order>\d+)",
    "tilt": r"(?P<tilt>[-+]?\d+(?:\.\d+)?)",
    "any": r".*?",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMovie:
    """What a file name says."""

    path: Path
    series: str
    tilt_deg: float
    order: int | None = None
    date_time: dt.datetime | None = None


def expand_paths(places: Iterable[str | Path], endings: Sequence[str], what: str) -> list[Path]:
    """Files meant by folders, wildcards and names, each once, sorted within each entry.

    Parameters
    ----------
    places : a folder stands for the files in it that have one of `endings`; a wildcard for what it matches
    endings : with their dot, in small letters
    what : what is looked for, for the message

    Raises
    ------
    InputError : an entry that matches nothing
    """
    found: dict[Path, None] = {}
    for place in places:
        text = str(Path(place).expanduser())
        if Path(text).is_dir():
            matches = sorted(p for p in Path(text).iterdir() if p.is_file() and p.name.lower().endswith(tuple(endings)))
        elif Path(text).is_file():
            matches = [Path(text)]
        else:
            # pathlib takes no absolute pattern before Python 3.13.
            matches = sorted(p for m in glob.glob(text, recursive=True) if (p := Path(m)).is_file())  # noqa: PTH207
        if not matches:
            raise InputError(
                f"`{place}` holds no {what}. Expected a folder, a file or a quoted pattern with files ending in "
                f"{', '.join(endings)}."
            )
        found.update((match.resolve(), None) for match in matches)
    return list(found)


def bare_name(path: str | Path) -> str:
    """A file name without its ending, nor `.frames`, `.mrc` or the like before it."""
    name = Path(path).name
    pattern = r"\.(mdoc|mrc|mrcs|st|tiff?|eer|frames|dm[34]|em|xml|map|rec|ali|gz|bz2)$"
    while (shorter := re.sub(pattern, "", name, flags=re.IGNORECASE)) != name and shorter:
        name = shorter
    return name


def series_name(path: str | Path) -> str:
    """A name for a series that names files too: what STAR files or shells cannot take is replaced by `_`."""
    return re.sub(r"[^\w.+-]", "_", bare_name(path)).lstrip("._") or "series"


def _name_date(text: str) -> dt.datetime:
    month, day, hour, minute, second = re.fullmatch(r"(...)(\d+)_(\d+)\.(\d+)\.(\d+)", text).groups()  # type: ignore[union-attr]
    # The name holds no year; a leap year allows every day, and only the order matters.
    return dt.datetime(2000, _MONTHS.index(month.lower()) + 1, int(day), int(hour), int(minute), int(second))


def _compiled(pattern: str) -> re.Pattern[str]:
    words = re.findall(r"\{(\w+)\}", pattern)
    unknown = [w for w in words if w not in _WORDS]
    if (
        unknown
        or "tilt" not in words
        or "series" not in words
        or len(set(words) - {"any"}) != len([w for w in words if w != "any"])
    ):
        raise InputError(
            f"The pattern `{pattern}` cannot be used: expected {{series}} and {{tilt}} once each, perhaps "
            f"{{order}}, and "
            "{any} for what does not matter, such as `{series}_{order}_{tilt}`."
        )
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile("".join(_WORDS[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)))


def _parse_all(paths: Sequence[Path], pattern: re.Pattern[str]) -> list[NamedMovie]:
    movies = []
    for path in paths:
        found = pattern.fullmatch(bare_name(path))
        if found is None:
            continue
        groups = found.groupdict()
        try:
            moment = _name_date(groups["date"]) if groups.get("date") else None
        except ValueError:
            continue
        movies.append(
            NamedMovie(
                path=path,
                series=series_name(groups["series"]),
                tilt_deg=float(groups["tilt"]),
                order=int(groups["order"]) if groups.get("order") else None,
                date_time=moment,
            )
        )
    return movies


def _sensible(movies: Sequence[NamedMovie]) -> list[NamedMovie]:
    """Those of series in which every order number stands once: elsewhere the number is a part of the name."""
    grouped: dict[str, list[NamedMovie]] = defaultdict(list)
    for movie in movies:
        grouped[movie.series].append(movie)
    kept = []
    for group in grouped.values():
        orders = [m.order for m in group if m.order is not None]
        if len(set(orders)) == len(orders) and all(abs(m.tilt_deg) <= 90.0 for m in group):
            kept += group
    return kept


def parse_movie_names(paths: Sequence[Path], pattern: str | None = None) -> list[NamedMovie]:
    """Series, order and angle of movies from their names; those that tell nothing are left out.

    Parameters
    ----------
    paths : files
    pattern : such as `{series}_{order}_{tilt}`, matched against names without ending; `{any}` stands for anything. None
        tries the names that SerialEM, PACEtomo, Tomography 5 / EPU and Leginon give, and takes what fits most files

    Raises
    ------
    InputError : an unusable pattern
    """
    if pattern is not None:
        return _parse_all(paths, _compiled(bare_name(pattern) if "." in pattern.rpartition("}")[2] else pattern))
    attempts = [_sensible(_parse_all(paths, re.compile(p))) for p in _BUILT_IN]
    return max(attempts, key=len)


def read_own(name: str, paths: Sequence[Path], series_count: int, read: Callable[[Path], Found]) -> Found | None:
    """What one of several places says of a series; None where none of them is its own.

    Parameters
    ----------
    name : of the series
    paths : files, each of the series that its name begins with (a STAR table of all), and folders
    series_count : of all series: a single file for a single series needs no name
    read : raises InputError where a place holds nothing of the series

    Raises
    ------
    InputError, FormatError : its own place cannot be read, or does not fit
    """
    alone = len(paths) == 1 and series_count == 1
    for path in paths:
        whole = path.is_dir() or path.suffix.lower() == ".star"
        own = path.stem == name or path.stem.startswith((f"{name}_", f"{name}."))
        if not (whole or alone or own):
            continue
        try:
            return read(path)
        except FormatError:
            raise
        except InputError:
            if alone or own:
                raise
            # else it is of other series
    return None
