"""The contrast transfer that a project took over from other programs or from focus images, as a table of one series.

Two blocks: `ctf_source` says whose estimates they are and where in the image they hold; `ctf` has a row for each tilt that
was estimated. Values are in our conventions: A, degrees, underfocus positive, U > V.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eucentric.errors import FormatError, InputError
from eucentric.io import labels
from eucentric.io.star import read_star_text, write_star
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import PathLike

Place = Literal["image", "specimen"]
_SOURCE, _TABLE = "ctf_source", "ctf"
_COLUMNS = {
    "rlnDefocusU": "defocus_u_angstrom",
    "rlnDefocusV": "defocus_v_angstrom",
    "rlnDefocusAngle": "astigmatism_angle_deg",
    "rlnPhaseShift": "phase_shift_deg",
    "rlnCtfFigureOfMerit": "score",
    "rlnCtfMaxResolution": "max_resolution_angstrom",
}
_ABSENT = {"rlnPhaseShift": 0.0}  # what a missing column stands for; else nothing is known
_NEEDED = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenCtf:
    """Estimates of a tilt series that were not made here."""

    source: str
    """Program and file, for messages and reports."""
    place: Place
    """Whether the defocus is that of the middle of the image or of the specimen centre."""
    fits: Mapping[int, CtfFit]
    """By order of acquisition; tilts may be missing."""
    thickness_angstrom: float | None = None


def write_given_ctf(path: PathLike, given: GivenCtf) -> None:
    """Write the table.

    Raises
    ------
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    rows = sorted(given.fits.items())
    source: dict[str, list[Any]] = {labels.CTF_SOURCE: [given.source], labels.CTF_PLACE: [given.place]}
    if given.thickness_angstrom is not None:
        source[labels.THICKNESS] = [given.thickness_angstrom]
    table: dict[str, list[Any]] = {labels.ACQUISITION: [a for a, _ in rows]}
    for label, name in _COLUMNS.items():
        values = [float(getattr(fit, name)) for _, fit in rows]
        if label in _NEEDED or any(math.isfinite(v) and v != _ABSENT.get(label) for v in values):
            table[label] = values
    write_star(path, {_SOURCE: source, _TABLE: table})


def read_given_ctf(path: PathLike) -> GivenCtf:
    """What :func:`write_given_ctf` left.

    Raises
    ------
    InputError : no such file
    FormatError : another kind of table, no row, a value that is no number, or a tilt twice
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist. Import the estimates again with --ctf.")
    blocks = read_star_text(place)
    source, table = blocks.get(_SOURCE, {}), blocks.get(_TABLE, {})
    missing = [name for name in (labels.ACQUISITION, *_NEEDED) if not table.get(name)]
    where = (source.get(labels.CTF_PLACE) or [None])[0]
    if missing or where not in ("image", "specimen"):
        lacking = ", ".join(missing) or labels.CTF_PLACE
        raise FormatError(f"`{place}` lacks {lacking}; expected a table as `eucentric import --ctf` writes it.")
    fits: dict[int, CtfFit] = {}
    for row, acquisition in enumerate(table[labels.ACQUISITION]):
        values = {
            name: _number(table[label][row], label, row, place, optional=label not in _NEEDED)
            for label, name in _COLUMNS.items()
            if label in table
        }
        number = int(_number(acquisition, labels.ACQUISITION, row, place))
        if number in fits:
            raise FormatError(f"`{place}` lists the image {number} twice. Keep one of its rows.")
        fits[number] = CtfFit(**values)
    thickness = (source.get(labels.THICKNESS) or [None])[0]
    return GivenCtf(
        source=(source.get(labels.CTF_SOURCE) or [None])[0] or place.name,
        place="specimen" if where == "specimen" else "image",
        fits=fits,
        thickness_angstrom=None if thickness is None else _number(thickness, labels.THICKNESS, 0, place),
    )


def _number(text: str | None, label: str, row: int, place: Path, *, optional: bool = False) -> float:
    if text is None and optional:
        return math.nan
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) or optional):
        raise FormatError(f"Row {row + 1} of `{place}` says `{text}` for {label}; expected a number.")
    return value
