"""Which tilt series were taken with one setting of one microscope."""

import re
from collections.abc import Hashable, Sequence

from eucentric.models.tilt_series import TiltSeries

_COUNTED = re.compile(r"opticsGroup\d+")


def given_group(name: str | None) -> str | None:
    """The name of an optics group that somebody gave; None for those that tables count, `opticsGroup1` and so on."""
    return None if name is None or _COUNTED.fullmatch(name) else name


def group_names(settings: Sequence[Hashable], given: Sequence[str | None]) -> tuple[str, ...]:
    """A name for each of several things: those of one setting and one given name share it, others do not.

    Parameters
    ----------
    settings : whatever differs between groups
    given : names as :func:`given_group` leaves them
    """
    pairs = list(zip(settings, given, strict=True))
    names: dict[tuple[Hashable, str | None], str] = {}
    for pair in dict.fromkeys(pairs):
        stem = pair[1] or "opticsGroup"
        # a name that was given to several settings is counted too
        wished = (stem, *(f"{stem}_{n}" for n in range(2, len(pairs) + 2)))
        counted = (f"{stem}{n}" for n in range(1, len(pairs) + 1))
        used = set(names.values()) | ({n for n in given if n is not None} - {stem})
        names[pair] = next(n for n in (wished if pair[1] else counted) if n not in used)
    return tuple(names[pair] for pair in pairs)


def groups_of_optics(series: Sequence[TiltSeries]) -> tuple[str, ...]:
    """Name of the optics group of each series: voltage, aberrations, pixel size and the name that was given are the same in one."""
    return group_names([(s.optics, s.pixel_size_angstrom) for s in series], [s.optics_group for s in series])
