"""SerialEM metadata (`.mdoc`), also as Tomography 5 and PACEtomo write it.

The parser is our own: an error must name its line, and the `mdocfile` library fails on the unbracketed title lines of
frame-set files, turns paths into Windows paths and reports each field that it does not know. Nothing is lost: a field
without a name here is kept as text in `extra`.

`RotationAngle` is the rotation of the specimen's y axis on the camera; the tilt axis of the title line is
`RotationAngle - 90` in SerialEM's files.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.autodoc import AutodocLine, autodoc_lines, autodoc_text
from eucentric.io.findings import Finding
from eucentric.typing import PathLike

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FEWEST_WHOLE = 2
"""Sections that show what one holds, so that a last one that breaks off is known."""
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})[a-z]*-(\d{2}|\d{4})\s+(\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MdocSection:
    """One image of an mdoc file."""

    kind: str = "ZValue"
    """`ZValue` for an image of a stack, `FrameSet` for a movie of its own, `MontSection`, or a navigator's `Item`."""
    label: str = "0"
    """What stands after the kind: a number, or an item's name."""
    line: int = 0
    """Line of the file on which the section begins; 0 where it came from no file."""
    tilt_angle_deg: float | None = None
    exposure_dose: float | None = None
    """e/A^2 in this image."""
    prior_record_dose: float | None = None
    """e/A^2 before this image."""
    pixel_spacing_angstrom: float | None = None
    rotation_angle_deg: float | None = None
    defocus_um: float | None = None
    """As the microscope shows it: underfocus negative."""
    target_defocus_um: float | None = None
    image_shift_um: tuple[float, float] | None = None
    sub_frame_path: str | None = None
    """Path of the movie as written, of whatever operating system; see `movie_name`."""
    frame_count: int | None = None
    frame_doses: tuple[tuple[float, int], ...] = ()
    """(dose of a frame in e/A^2, number of such frames), in order."""
    exposure_time_s: float | None = None
    voltage_kv: float | None = None
    date_time: dt.datetime | None = None
    """None where absent or in no known notation (its text is then in `extra`)."""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def z_value(self) -> int | None:
        """Number of the section, where it has one."""
        return int(self.label) if re.fullmatch(r"-?\d+", self.label) else None

    @property
    def movie_name(self) -> str | None:
        """Last component of `sub_frame_path`, whether written with `/` or backslashes."""
        if self.sub_frame_path is None:
            return None
        return re.split(r"[\\/]", self.sub_frame_path.rstrip("\\/"))[-1] or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mdoc:
    """An mdoc file."""

    sections: tuple[MdocSection, ...]
    titles: tuple[str, ...] = ()
    voltage_kv: float | None = None
    pixel_spacing_angstrom: float | None = None
    image_file: str | None = None
    image_size: tuple[int, int] | None = None
    """(x, y)."""
    extra: Mapping[str, str] = field(default_factory=dict)
    lost_at_end: tuple[str, ...] = field(default=(), compare=False)
    """Keys that follow in all other sections where the last one breaks off, for the file is cut off there; else none."""

    @property
    def cut_off(self) -> str:
        """That the file is cut off in its last section, in words; empty where it is whole."""
        if not self.lost_at_end:
            return ""
        last = self.sections[-1]
        first, more = self.lost_at_end[0], len(self.lost_at_end) - 1
        others = f" and {more} more" if more else ""
        return (
            f"The file seems to be cut off in its last section, [{last.kind} = {last.label}] on line {last.line}, which lacks "
            f"{first}{others} that all others have."
        )

    @property
    def tilt_axis_angle_deg(self) -> float | None:
        """From the title line: the anticlockwise turn that brings the y axis onto the tilt axis (rlnTomoZRot)."""
        found = [m for t in self.titles if (m := re.search(r"Tilt axis angle\s*=\s*([-+]?\d*\.?\d+)", t))]
        return float(found[0][1]) if found else None

    @property
    def scheme(self) -> Mapping[str, float]:
        """Words of the title line that tell the order of tilts, with their start angle: `dosym`, `bidir`."""
        found = [re.findall(r"\b(dosym|bidir)\s*=\s*([-+]?\d*\.?\d+)", title) for title in self.titles]
        return {word: float(number) for line in found for word, number in line}


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(word) for word in text.split())


def _pair(text: str) -> tuple[float, float]:
    x, y = _numbers(text)
    return x, y


def _frame_doses(text: str) -> tuple[tuple[float, int], ...]:
    words = text.split()
    if len(words) % 2:
        raise ValueError(text)
    return tuple((_number(dose), int(count)) for dose, count in zip(words[::2], words[1::2], strict=True))


def parse_date_time(text: str) -> dt.datetime | None:
    """A moment as SerialEM (`06-Jun-23  23:19:47`), Tomography 5 (`06-Jun-2023 23:19:47`) or ISO 8601 write it.

    None where it is none of these.
    """
    found = _DATE.fullmatch(text.strip())
    try:
        if found is None:
            return dt.datetime.fromisoformat(text.strip()).replace(tzinfo=None)
        day, month, year, hour, minute, second = found.groups()
        number = int(year)
        full = number if len(year) == 4 else number + (1900 if number >= 70 else 2000)
        return dt.datetime(full, _MONTHS.index(month.lower()) + 1, int(day), int(hour), int(minute), int(second))
    except ValueError:
        return None


def _format_date_time(moment: dt.datetime) -> str:
    return f"{moment.day:02d}-{_MONTHS[moment.month - 1].title()}-{moment.year % 100:02d}  {moment:%H:%M:%S}"


_SECTION_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "TiltAngle": ("tilt_angle_deg", _number),
    "ExposureDose": ("exposure_dose", _number),
    "PriorRecordDose": ("prior_record_dose", _number),
    "PixelSpacing": ("pixel_spacing_angstrom", _number),
    "RotationAngle": ("rotation_angle_deg", _number),
    "Defocus": ("defocus_um", _number),
    "TargetDefocus": ("target_defocus_um", _number),
    "ImageShift": ("image_shift_um", _pair),
    "SubFramePath": ("sub_frame_path", str),
    "NumSubFrames": ("frame_count", int),
    "FrameDosesAndNumber": ("frame_doses", _frame_doses),
    "FrameDosesAndNumbers": ("frame_doses", _frame_doses),
    "ExposureTime": ("exposure_time_s", _number),
    "Voltage": ("voltage_kv", _number),
    "DateTime": ("date_time", parse_date_time),
}
_GLOBAL_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Voltage": ("voltage_kv", _number),
    "PixelSpacing": ("pixel_spacing_angstrom", _number),
    "ImageFile": ("image_file", str),
    "ImageSize": ("image_size", lambda text: tuple(int(word) for word in text.split())),
}


def _store(
    known: dict[str, tuple[str, Callable[[str], Any]]], values: dict[str, Any], line: AutodocLine, place: Path
) -> None:
    key, text = line.key, line.value
    if key not in known:
        values["extra"][key] = text
        return
    name, parse = known[key]
    try:
        value = parse(text)
    except ValueError as error:
        raise FormatError(
            f"Line {line.number} of `{place}` says `{key} = {text[:60]}`; expected a number. {line.remedy}"
        ) from error
    if value is None or value == "":
        values["extra"][key] = text
    else:
        values[name] = value


def read_mdoc(path: PathLike) -> Mdoc:
    """Read an mdoc (or navigator) file of any dialect.

    Of a file that is cut off in its last section (`Mdoc.lost_at_end`) a last line without its end is left out, for its value
    may be cut too.

    Raises
    ------
    InputError : no such file
    FormatError : a line that is not `Key = value` or a value that is not the number it should be (the message names
        the line), or no section at all
    """
    place = Path(path)
    top: dict[str, Any] = {"extra": {}}
    titles: list[str] = []
    sections: list[dict[str, Any]] = []
    lines = list(autodoc_lines(autodoc_text(place), place))
    lost = _lost_at_end(lines)
    if lost and not (lines[-1].is_section or lines[-1].is_ended):
        lost = (lines.pop().key, *lost)
    for line in lines:
        if line.key == "T":
            titles.append(line.value)
        elif line.is_section:
            sections.append({"kind": line.key, "label": line.value, "line": line.number, "extra": {}})
        else:
            values, known = (sections[-1], _SECTION_FIELDS) if sections else (top, _GLOBAL_FIELDS)
            _store(known, values, line, place)
    if not sections:
        raise FormatError(f"`{place}` has no [ZValue = ...] or [FrameSet = ...] section. Expected an mdoc file.")
    return Mdoc(
        sections=tuple(MdocSection(**values) for values in sections), titles=tuple(titles), lost_at_end=lost, **top
    )


def _lost_at_end(lines: Sequence[AutodocLine]) -> tuple[str, ...]:
    """Keys that the last section lacks at its end, and all others of its kind have there."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.key == "T":
            continue
        if line.is_section:
            found.append((line.key, []))
        elif found:
            found[-1][1].append(line.key)
    if not found:
        return ()
    kind, last = found[-1]
    others = [keys for of, keys in found[:-1] if of == kind]
    whole = next((keys for keys in reversed(others) if keys[: len(last)] == last), None)
    if whole is None or len(others) < _FEWEST_WHOLE:
        return ()
    return tuple(key for key in whole[len(last) :] if all(key in keys for keys in others))


def merge_mdocs(mdocs: Iterable[Mdoc]) -> Mdoc:
    """One mdoc from those of single images: sections one after the other, globals of the first that has them."""
    parts = list(mdocs)
    if not parts:
        raise InputError("No mdoc was given to merge; expected at least one.")

    def first(name: str) -> Any:
        return next((value for part in parts if (value := getattr(part, name)) is not None), None)

    return Mdoc(
        sections=tuple(section for part in parts for section in part.sections),
        titles=tuple(dict.fromkeys(title for part in parts for title in part.titles)),
        voltage_kv=first("voltage_kv"),
        pixel_spacing_angstrom=first("pixel_spacing_angstrom"),
        image_file=first("image_file"),
        image_size=first("image_size"),
        extra=dict(parts[0].extra),
    )


def _written(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return _format_date_time(value)
    if isinstance(value, tuple):
        return " ".join(_written(part) for part in value)
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _lines(record: Any, known: dict[str, tuple[str, Callable[[str], Any]]]) -> list[str]:
    keys = {name: key for key, (name, _) in reversed(known.items())}
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    lines = [f"{keys[n]} = {_written(v)}" for n, v in values.items() if n in keys and v is not None and v != ()]
    return lines + [f"{key} = {text}" for key, text in record.extra.items()]


def write_mdoc(path: PathLike, mdoc: Mdoc) -> None:
    """Write in SerialEM's notation, dates with a year of two digits.

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    blocks = ["\n".join(_lines(mdoc, _GLOBAL_FIELDS)), *(f"[T = {title}]" for title in mdoc.titles)]
    for section in mdoc.sections:
        blocks.append("\n".join([f"[{section.kind} = {section.label}]", *_lines(section, _SECTION_FIELDS)]))
    write_text_atomic(path, "\n\n".join(blocks) + "\n")


def validate_mdoc(path: PathLike) -> list[Finding]:
    """Everything that a tilt series would miss in a file; a file that cannot be read gives one `error`."""
    try:
        mdoc = read_mdoc(path)
    except (FormatError, InputError) as error:
        return [Finding(severity="error", text=str(error))]
    findings = []
    if mdoc.cut_off:
        findings.append(Finding(severity="warning", text=f"`{path}`: {mdoc.cut_off} Copy it again."))
    without_angle = [s.line for s in mdoc.sections if s.tilt_angle_deg is None]
    if without_angle:
        text = f"`{path}`: {len(without_angle)} sections have no TiltAngle (the first on line {without_angle[0]})."
        findings.append(Finding(severity="error", text=text))
    if mdoc.voltage_kv is None and all(s.voltage_kv is None for s in mdoc.sections):
        findings.append(Finding(severity="warning", text=f"`{path}` holds no voltage."))
    unknown_dates = [s.line for s in mdoc.sections if "DateTime" in s.extra]
    if unknown_dates:
        text = (
            f"`{path}`: {len(unknown_dates)} dates are in no known notation (the first near line {unknown_dates[0]})."
        )
        findings.append(Finding(severity="warning", text=text))
    return findings
