"""SerialEM navigator files (`.nav`): points, polygons and maps on the stage, as text or as XML [1]_.

Nothing is lost: an item keeps every entry in order, known here or not, and sections that are no items (tilt series
parameters, states) are kept too. Positions are in um, as the file and the microscope say them.

`MapScaleMat` leads from stage (um) to pixels of the map as SerialEM *shows* it, y downwards from the top left corner;
rows of the file run upwards. Both are here in one place, `MapFrame`, whose y points up.

References
----------
.. [1] SerialEM help, "File Formats", section "Navigator Files"; keys and their order as its source writes them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.autodoc import autodoc_encoding, autodoc_lines, autodoc_text
from eucentric.typing import FloatArray, PathLike

Kind = Literal["point", "polygon", "map", "other"]
Form = Literal["text", "xml"]
_KINDS: dict[int, Kind] = {0: "point", 1: "polygon", 2: "map"}  # 3 and 4 are imported and anchor maps
_TYPES = {"point": 0, "polygon": 1}
_VERSIONS = ("2", "2.0", "2.00")
_GLOBALS = "PreData"
_FIRST_ID = 10_000
_MOST = 1e12  # of any number in an entry: more is damage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapFrame:
    """Where the pixels of a map lie on the stage. Pixel (0, 0) is the outer corner of the first pixel of the file; y points up."""

    stage_um: FloatArray
    """(2,), of the centre of the image."""
    pixels_per_um: FloatArray
    """(2, 2): pixels (x, y) from stage (x, y)."""
    size: tuple[float, float]
    """(width, height) in pixels."""

    def to_pixels(self, stage_um: FloatArray) -> FloatArray:
        """(..., 2) pixels of (..., 2) stage positions."""
        offset = np.asarray(stage_um, dtype=np.float64) - self.stage_um
        return np.asarray(offset @ self.pixels_per_um.T + 0.5 * np.array(self.size))

    def to_stage(self, pixels: FloatArray) -> FloatArray:
        """(..., 2) stage positions in um of (..., 2) pixels."""
        offset = np.asarray(pixels, dtype=np.float64) - 0.5 * np.array(self.size)
        return np.asarray(offset @ np.linalg.inv(self.pixels_per_um).T + self.stage_um)

    @property
    def corners_um(self) -> FloatArray:
        """(4, 2), on the stage: lower left, lower right, upper right, upper left of the image."""
        width, height = self.size
        return self.to_stage(np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NavigatorItem:
    """A point, polygon or map. Entries are as in the file; what they mean is read when asked for."""

    label: str
    entries: Mapping[str, str]
    """In the order of the file."""
    line: int = 0
    source: str = "the navigator"

    @property
    def kind(self) -> Kind:
        """By `Type`; maps that were imported or are anchors count as maps."""
        number = self._whole("Type")
        return "map" if number in (3, 4) else _KINDS.get(-1 if number is None else number, "other")

    @property
    def stage_um(self) -> FloatArray:
        """(3,): x, y, z."""
        return self.numbers("StageXYZ", 3)

    @property
    def points_um(self) -> FloatArray:
        """(n, 2): outline of a polygon or map, or the point itself."""
        count = self._whole("NumPts")
        columns = [self.numbers(key, count) for key in ("PtsX", "PtsY")]
        if len(columns[0]) != len(columns[1]):
            raise FormatError(f"{self._where()} has {len(columns[0])} PtsX and {len(columns[1])} PtsY.")
        return np.column_stack(columns)

    @property
    def registration(self) -> int | None:
        """`Regis`: items of different registrations cannot be compared."""
        return self._whole("Regis")

    @property
    def note(self) -> str:
        return self.entries.get("Note", "")

    @property
    def color(self) -> int | None:
        """0 red, 1 green, 2 blue, 3 yellow, 4 magenta."""
        return self._whole("Color")

    @property
    def is_to_acquire(self) -> bool:
        return bool(self._whole("Acquire"))

    @property
    def group_id(self) -> int | None:
        return self._whole("GroupID")

    @property
    def drawn_on(self) -> int | None:
        """`MapID` of the map on which the item was drawn."""
        return self._whole("DrawnID")

    @property
    def map_id(self) -> int | None:
        """Number that no other item has; not maps alone have one."""
        return self._whole("MapID")

    @property
    def map_file(self) -> str | None:
        return self.entries.get("MapFile")

    @property
    def map_section(self) -> int:
        return self._whole("MapSection") or 0

    @property
    def is_montage(self) -> bool:
        return bool(self._whole("MapMontage"))

    @property
    def map_tilt_deg(self) -> float | None:
        """Tilt of the stage when the map was taken; None where the file does not tell."""
        return float(self.numbers("MapTiltAngle", 1)[0]) if "MapTiltAngle" in self.entries else None

    def map_frame(self) -> MapFrame:
        """Where the pixels of a map lie.

        Raises
        ------
        FormatError : no map, or one without a matrix that can be inverted
        """
        matrix = self.numbers("MapScaleMat", 4).reshape(2, 2) * np.array([[1.0], [-1.0]])  # y down in the file
        width, height = self.numbers("MapWidthHeight", 2)
        if not abs(np.linalg.det(matrix)) > 0 or min(width, height) <= 0:
            raise FormatError(f"{self._where()} has a MapScaleMat or MapWidthHeight that is no map's.")
        return MapFrame(stage_um=self.stage_um[:2], pixels_per_um=matrix, size=(float(width), float(height)))

    def numbers(self, key: str, count: int | None = None) -> FloatArray:
        """(n,), of an entry.

        Raises
        ------
        FormatError : no such entry, other than numbers in it, or another count
        """
        if key not in self.entries:
            raise FormatError(f"{self._where()} has no `{key}`. Save the navigator again in SerialEM.")
        try:
            values = np.array([float(word) for word in self.entries[key].split()])
        except ValueError:
            values = np.array([np.nan])
        if not (np.abs(values) < _MOST).all() or (count is not None and len(values) != count):
            expected = "numbers" if count is None else f"{count} number{'s' * (count != 1)}"
            raise FormatError(f"{self._where()} says `{key} = {self.entries[key][:60]}`; expected {expected}.")
        return values

    def with_entries(self, **changes: str | None) -> "NavigatorItem":
        """A copy with entries set, in their place or at the end, or taken out (None)."""
        entries = {**self.entries, **changes}
        return replace(self, entries={key: text for key, text in entries.items() if text is not None})

    def _whole(self, key: str) -> int | None:
        if key not in self.entries:
            return None
        value = float(self.numbers(key, 1)[0])
        if value != int(value):
            raise FormatError(f"{self._where()} says `{key} = {self.entries[key][:60]}`; expected a whole number.")
        return int(value)

    def _where(self) -> str:
        return f"Item `{self.label}` of {self.source}" + (f" (line {self.line})" if self.line else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NavigatorSection:
    """A section that is no item: settings of tilt series, montages or files, or a state."""

    kind: str
    label: str
    entries: Mapping[str, str]
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Navigator:
    """A navigator file."""

    items: tuple[NavigatorItem, ...]
    header: Mapping[str, str] = field(default_factory=lambda: {"AdocVersion": "2.00"})
    others: tuple[NavigatorSection, ...] = ()
    """SerialEM writes these after the items; here they are kept there."""
    form: Form = "text"
    newline: str = "\n"
    encoding: str = "utf-8"
    """Of the text form; XML is written in UTF-8."""

    def item(self, label: str) -> NavigatorItem:
        """The item of a label.

        Raises
        ------
        InputError : none, or several
        """
        found = [item for item in self.items if item.label == label]
        if len(found) == 1:
            return found[0]
        have = ", ".join(item.label for item in self.items[:12]) + (", ..." if len(self.items) > 12 else "")
        count = "no item" if not found else f"{len(found)} items"
        raise InputError(
            f"The navigator has {count} of the label `{label}`; it has {have}. Give a label that one item has."
        )

    def map_of(self, label: str) -> NavigatorItem:
        """The map of a label, looked for among the maps alone.

        Raises
        ------
        InputError : no such map
        """
        maps = [item for item in self.items if item.kind == "map"]
        found = [item for item in maps if item.label == label]
        if len(found) == 1:
            return found[0]
        have = ", ".join(item.label for item in maps[:12]) or "none"
        count = "no map" if not found else f"{len(found)} maps"
        raise InputError(
            f"The navigator has {count} of the label `{label}`; its maps: {have}. Give --map one of these."
        )

    def free_ids(self, count: int) -> list[int]:
        """Numbers that no item carries as its map, group, polygon or position."""
        keys = ("MapID", "GroupID", "PolyID", "DrawnID", "SamePosId", "RealignedID")
        taken = {text for item in self.items for key in keys if (text := item.entries.get(key))}
        found: list[int] = []
        number = _FIRST_ID
        while len(found) < count:
            if str(number) not in taken:
                found.append(number)
            number += 1
        return found


def new_item(
    label: str,
    kind: Literal["point", "polygon"],
    points_um: FloatArray,
    stage_z_um: float,
    *,
    registration: int,
    map_id: int,
    color: int = 0,
    note: str = "",
    acquire: bool = False,
    group_id: int | None = None,
    drawn_on: int | None = None,
) -> NavigatorItem:
    """A point or polygon, its entries in the order in which SerialEM writes them; outlines are closed.

    Parameters
    ----------
    points_um : (n, 2), of a point (1, 2); the position of a polygon is the middle of its outline
    """
    points = np.atleast_2d(np.asarray(points_um, dtype=np.float64))
    centre = points.mean(axis=0)
    if kind == "polygon" and not np.array_equal(points[0], points[-1]):
        points = np.vstack([points, points[:1]])
    entries = {
        "Color": str(color),
        "StageXYZ": _text([*centre, stage_z_um]),
        "NumPts": str(len(points)),
        "Regis": str(registration),
        "Type": str(_TYPES[kind]),
        **({"Note": note} if note else {}),
        **({"GroupID": str(group_id)} if group_id else {}),
        **({"DrawnID": str(drawn_on)} if drawn_on else {}),
        **({"Acquire": "1"} if acquire else {}),
        "MapID": str(map_id),
        "PtsX": _text(points[:, 0]),
        "PtsY": _text(points[:, 1]),
    }
    return NavigatorItem(label=label, entries=entries)


def read_navigator(path: PathLike) -> Navigator:
    """Read a navigator file, text or XML.

    Raises
    ------
    InputError : no such file
    FormatError : of the old form with tabs, of another version, without items, with a damaged line or an entry twice
    """
    place = Path(path)
    text = autodoc_text(place, "a navigator file")
    first = text.lstrip()[:12]
    if first.startswith("<"):
        header, sections = _read_xml(place)
        form: Form = "xml"
    elif first.startswith(("Version", "Label")):
        raise FormatError(
            f"`{place}` is a navigator of the old form with tabs, from before SerialEM 3.6. "
            "Open it in a newer SerialEM and save it again."
        )
    else:
        header, sections = _read_text(text, place)
        form = "text"
    version = header.get("AdocVersion")
    if version not in _VERSIONS:
        said = f"says `AdocVersion = {version[:20]}`" if version is not None else "has no AdocVersion"
        raise FormatError(f"`{place}` {said}; expected a navigator file of version 2.00. Save it again in SerialEM.")
    items = tuple(
        NavigatorItem(label=s.label, entries=s.entries, line=s.line, source=f"`{place.name}`")
        for s in sections
        if s.kind == "Item"
    )
    if not items:
        raise FormatError(f"`{place}` is a navigator without items. Expected maps, points or polygons; save it again.")
    others = tuple(section for section in sections if section.kind != "Item")
    raw = place.read_bytes()
    newline = "\r\n" if b"\r\n" in raw[:400] else "\n"
    return Navigator(
        items=items, header=header, others=others, form=form, newline=newline, encoding=autodoc_encoding(raw)
    )


def write_navigator(path: PathLike, navigator: Navigator) -> None:
    """Write in the form and encoding in which it was read; `LastSavedAs` is set to the path where the file had one.

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    header = dict(navigator.header)
    if "LastSavedAs" in header:
        header["LastSavedAs"] = str(path)
    sections = [("Item", item.label, item.entries) for item in navigator.items]
    sections += [(other.kind, other.label, other.entries) for other in navigator.others]
    lines = _xml_lines(header, sections) if navigator.form == "xml" else _text_lines(header, sections)
    encoding = "utf-8" if navigator.form == "xml" else navigator.encoding
    # only the path may hold letters that the file's encoding lacks
    write_bytes_atomic(path, "".join(line + navigator.newline for line in lines).encode(encoding, errors="replace"))


def _read_text(text: str, place: Path) -> tuple[dict[str, str], list[NavigatorSection]]:
    header: dict[str, str] = {}
    sections: list[NavigatorSection] = []
    entries = header
    for line in autodoc_lines(text, place):
        if line.is_section:
            entries = {}
            sections.append(NavigatorSection(kind=line.key, label=line.value, entries=entries, line=line.number))
        else:
            _keep(entries, line.key, line.value, f"Line {line.number} of `{place}`")
    return header, sections


def _read_xml(place: Path) -> tuple[dict[str, str], list[NavigatorSection]]:
    try:
        root = ElementTree.fromstring(place.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"`{place}` is not XML: {error}. Save the navigator again in SerialEM.") from error
    if root.tag != "navigator":
        raise FormatError(f"`{place}` is XML of a `{root.tag[:40]}`; expected SerialEM's `navigator`.")
    header: dict[str, str] = {}
    sections: list[NavigatorSection] = []
    for child in root:
        label = child.get("name")
        if label is None and child.tag != _GLOBALS:
            raise FormatError(f"A `{child.tag[:40]}` of `{place}` has no name. Save the navigator again in SerialEM.")
        entries = header if child.tag == _GLOBALS else {}
        for entry in child:
            _keep(entries, entry.tag, (entry.text or "").strip(), f"`{child.tag[:40]}` {label} of `{place}`")
        if child.tag != _GLOBALS:
            sections.append(NavigatorSection(kind=child.tag, label=label or "", entries=entries))
    return header, sections


def _keep(entries: dict[str, str], key: str, value: str, where: str) -> None:
    if key in entries:
        raise FormatError(f"{where} says `{key}` a second time. Delete one of the lines.")
    entries[key] = value


def _text_lines(header: Mapping[str, str], sections: Iterable[tuple[str, str, Mapping[str, str]]]) -> list[str]:
    lines = [f"{key} = {value}" for key, value in header.items()]
    for kind, label, entries in sections:
        lines += ["", f"[{kind} = {label}]", *(f"{key} = {value}" for key, value in entries.items())]
    return [*lines, ""]


def _xml_lines(header: Mapping[str, str], sections: Iterable[tuple[str, str, Mapping[str, str]]]) -> list[str]:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<navigator>", f"  <{_GLOBALS}>"]
    lines += [f"    <{key}>{escape(value)}</{key}>" for key, value in header.items()]
    lines.append(f"  </{_GLOBALS}>")
    for kind, label, entries in sections:
        lines.append(f"  <{kind} name={quoteattr(label)}>")
        lines += [f"    <{key}>{escape(value)}</{key}>" for key, value in entries.items()]
        lines.append(f"  </{kind}>")
    return [*lines, "</navigator>"]


def _text(values: Iterable[float]) -> str:
    return " ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in values)
