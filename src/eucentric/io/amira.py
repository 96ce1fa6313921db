"""Amira and Avizo files: volumes and labels on a regular grid, spatial graphs, line sets, landmarks and surfaces.

A file begins `# AmiraMesh 3D ASCII 2.0` or `# AmiraMesh BINARY-LITTLE-ENDIAN 2.1` (`# Avizo ...` alike); `define` lines give the
lengths of its arrays, lines such as `Lattice { byte Labels } @1(HxByteRLE,1234)` what they hold, and `@1` begins the data [1]_.

- `BoundingBox` of a grid of uniform coordinates goes from the centre of the first voxel to that of the last, so the voxel size is
  its length divided by n - 1; along an axis of one voxel it is the size of that [2]_. x runs fastest.
- `HxByteRLE`: a count byte, below 128 one value to be repeated so often, from 128 on count - 128 values as they are.
- `HxZip`: zlib.
- A spatial graph (`HxSpatialGraph`) has `VERTEX`, `EDGE` (two vertices, and how many points) and `POINT`: each edge is a line.
- A line set (`HxLineSet`) has `Vertices` (or `Points`) and `Lines`, numbers of points with -1 behind each line.
- Surfaces (`# HyperSurface ASCII`) have `Vertices` and, of each patch, `Triangles` counted from 1.

Lengths have the unit `Units { Coordinates "nm" }` of the parameters, else A is meant.

References
----------
.. [1] emdb-empiar/ahds, `ahds/grammar.py`
.. [2] natverse/nat, `im3d` and `voxdims` (Amira's convention, the "node centers" of NRRD)
"""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import write_bytes_atomic, write_text_atomic
from eucentric.io.particle_columns import need_file
from eucentric.io.stored_values import checked_voxel_size
from eucentric.typing import FloatArray, PathLike

_TYPES = {
    "byte": "u1", "ubyte": "u1", "sbyte": "i1", "short": "i2", "ushort": "u2", "int": "i4", "int32": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip
_NAMES = {
    "u1": "byte",
    "i1": "sbyte",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
_UNITS = {"m": 1e10, "mm": 1e7, "um": 1e4, "µm": 1e4, "nm": 10.0, "pm": 1e-2, "a": 1.0, "å": 1.0, "angstrom": 1.0}
_HEAD = re.compile(rb"^#\s*(AmiraMesh|Avizo|HyperSurface)\b([^\r\n]*)")
_STREAM = re.compile(rb"(?:^|\r?\n)@(\d+)[ \t]*(?:#[^\r\n]*)?\r?\n")
_DEFINE = re.compile(r"^\s*define\s+(\w+)((?:\s+\d+)+)", re.MULTILINE)
_FIELD = re.compile(
    r"^\s*(\w+)\s*\{\s*(\w+)(?:\[\s*(\d+)\s*\])?\s+([\w\-]+)\s*\}\s*=?\s*(?:\w+\s*\(\s*)?@(\d+)\s*\)?(?:\(\s*(\w+)\s*,\s*(\d+)\s*\))?",
    re.MULTILINE,
)
_MAX_HEADER = 4_000_000
_MAX_BYTES = 1 << 36
_MAX_POINTS = 200_000_000
_RLE_RATIO = 127  # values that a byte of HxByteRLE can stand for, at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AmiraVolume:
    """A volume, or labels."""

    values: NDArray[Any]
    """(z, y, x)."""
    voxel_size_angstrom: tuple[float, float, float]
    """x, y, z."""
    origin_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """x, y, z of the centre of the first voxel."""
    materials: tuple[str, ...] = ()
    """Names of labels, by number; empty where it is no field of labels."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AmiraGraph:
    """Lines and points in space."""

    lines: tuple[FloatArray, ...]
    """Of each edge or line its points, (point, 3): x, y, z in A."""
    points: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(point, 3) in A: vertices of a graph, or landmarks."""
    labels: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further numbers of lines, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """What one `@n` holds."""

    array: str
    kind: str
    components: int
    name: str
    number: int
    packing: str
    packed_bytes: int


class _File:
    """Header and streams of an Amira file."""

    def __init__(self, place: Path) -> None:
        self.place = need_file(place)
        if self.place.stat().st_size > _MAX_BYTES:
            raise FormatError(f"`{place}` is larger than {_MAX_BYTES >> 30} GiB, which is not read.")
        self.data = self.place.read_bytes()
        head = _HEAD.match(self.data[:200])
        if head is None:
            raise FormatError(f"`{place}` is no Amira file: expected a first line such as `# AmiraMesh 3D ASCII 2.0`.")
        words = head[2].decode("latin-1").upper()
        self.surface = head[1] == b"HyperSurface" or "<HXSURFACE>" in words
        self.ascii, self.order = "ASCII" in words, "<" if "LITTLE" in words else ">"
        first = _STREAM.search(self.data, 0, _MAX_HEADER)
        self.header = self.data[: first.start() if first else min(len(self.data), _MAX_HEADER)].decode("latin-1")
        self.sizes = {m[1]: [int(n) for n in m[2].split()] for m in _DEFINE.finditer(self.header)}
        self.streams = [
            _Stream(
                array=m[1],
                kind=m[2].lower(),
                components=int(m[3] or 1),
                name=m[4],
                number=int(m[5]),
                packing=m[6] or "",
                packed_bytes=int(m[7] or 0),
            )
            for m in _FIELD.finditer(self.header)
        ]

    @property
    def scale(self) -> float:
        """A in the unit of its coordinates."""
        unit = re.search(r'Coordinates\s+"([^"]*)"', self.header)
        return _UNITS.get(unit[1].strip().lower(), 1.0) if unit else 1.0

    @property
    def content(self) -> str:
        found = re.search(r'ContentType\s+"([^"]*)"', self.header)
        return found[1] if found else ""

    def stream(self, array: str, *names: str) -> _Stream | None:
        """The stream of an array, by one of its names."""
        return next((s for s in self.streams if s.array == array and (not names or s.name in names)), None)

    def values(self, stream: _Stream) -> NDArray[Any]:
        """(item, component), items as `define` tells."""
        if stream.kind not in _TYPES:
            raise FormatError(f"`{self.place}` holds values of type {stream.kind}; expected {', '.join(_TYPES)}.")
        shape = self.sizes.get(stream.array)
        if shape is None:
            raise FormatError(f"`{self.place}` does not tell how long its array {stream.array} is (define).")
        count = math.prod(shape) * stream.components
        dtype = np.dtype(f"{self.order}{_TYPES[stream.kind]}")
        start = self._start(stream.number)
        if self.ascii:
            return self._text(start, count, dtype).reshape(-1, stream.components)
        raw = self._bytes(stream, start, count * dtype.itemsize)
        return np.frombuffer(raw, dtype=dtype).reshape(-1, stream.components)

    def _start(self, number: int) -> int:
        """Where the data of `@number` begin; the bytes of the ones before it are stepped over."""
        at = max(0, len(self.header.encode("latin-1")) - 1)
        lengths = {s.number: self._length(s) for s in self.streams}
        for _ in range(len(lengths) + 1):
            match = _STREAM.search(self.data, at)
            if match is None:
                break
            if int(match[1]) == number:
                return match.end()
            at = match.end() + lengths.get(int(match[1]), 0)
        raise FormatError(f"`{self.place}` has no data @{number}, which its header promises. Copy it again.")

    def _length(self, stream: _Stream) -> int:
        if self.ascii or stream.kind not in _TYPES:
            return 0
        size = np.dtype(_TYPES[stream.kind]).itemsize * stream.components * math.prod(self.sizes.get(stream.array, [0]))
        return stream.packed_bytes if stream.packing else size

    def _text(self, start: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        if count > len(self.data):
            raise self._short(count)
        end = re.compile(rb"\r?\n@\d+").search(self.data, start)
        words = self.data[start : end.start() if end else len(self.data)].split(None, count)[:count]
        if len(words) < count:
            raise self._short(count)
        try:
            values = np.array(words, dtype=np.float64)
            with np.errstate(all="raise"):
                return values.astype(dtype.newbyteorder("="))
        except (ValueError, FloatingPointError, OverflowError) as error:
            raise FormatError(f"`{self.place}` holds values that are no numbers, or too large: {error}.") from error

    def _bytes(self, stream: _Stream, start: int, size: int) -> bytes:
        if not stream.packing:
            raw = self.data[start : start + size]
        elif stream.packing == "HxByteRLE":
            packed = self.data[start : start + stream.packed_bytes]
            if size > max(1, len(packed)) * _RLE_RATIO:
                raise self._short(size)
            raw = _unpacked(packed, size)
        elif stream.packing == "HxZip":
            raw = self._inflated(self.data[start : start + stream.packed_bytes], size)
        else:
            raise FormatError(f"`{self.place}` is packed with {stream.packing}; expected HxByteRLE or HxZip.")
        if len(raw) != size:
            raise self._short(size)
        return raw

    def _inflated(self, packed: bytes, size: int) -> bytes:
        try:
            return zlib.decompressobj().decompress(packed, max(1, size))
        except zlib.error as error:
            raise FormatError(f"`{self.place}` holds data that cannot be unpacked ({error}). Copy it again.") from error

    def _short(self, size: int) -> FormatError:
        return FormatError(f"`{self.place}` ends before its data do: its header promises {size} values. Copy it again.")


def _unpacked(packed: bytes, size: int) -> bytes:
    """HxByteRLE; shorter than `size` where the data end early."""
    out = bytearray()
    at = 0
    while at < len(packed) and len(out) < size:
        count = packed[at]
        if count > 127:
            out += packed[at + 1 : at + 1 + count - 128]
            at += 1 + count - 128
        else:
            out += packed[at + 1 : at + 2] * count
            at += 2
            if not count:
                break
    return bytes(out[:size])


def _packed(values: bytes) -> bytes:
    """HxByteRLE."""
    array = np.frombuffer(values, dtype=np.uint8)
    out = bytearray()
    edges = np.flatnonzero(np.diff(array)) + 1
    starts = np.concatenate([[0], edges]).tolist()
    ends = np.concatenate([edges, [len(array)]]).tolist()
    for start, end in zip(starts, ends, strict=True):
        left = end - start
        while left > 0:
            take = min(127, left)
            out += bytes((take, int(array[start])))
            left -= take
    return bytes(out)


def is_amira(path: PathLike) -> bool:
    """Whether a file begins as Amira's do; never raises."""
    try:
        with Path(path).open("rb") as file:
            return _HEAD.match(file.read(200)) is not None
    except OSError:
        return False


def read_amira_volume(path: PathLike) -> AmiraVolume:
    """A volume or a field of labels on a grid of uniform coordinates.

    Raises
    ------
    InputError : no such file
    FormatError : another kind of Amira file, packed in another way, or cut short
    """
    file = _File(Path(path))
    lattice = file.sizes.get("Lattice")
    stream = file.stream("Lattice")
    if lattice is None or stream is None or len(lattice) != 3 or min(lattice) < 1:
        raise FormatError(f"`{path}` holds no volume: expected `define Lattice x y z`. {_instead(file)}")
    if re.search(r'CoordType\s+"(?!uniform)', file.header):
        raise FormatError(
            f"`{path}` has coordinates that are not uniform. Resample it in Amira (Resample Transformed Image)."
        )
    if stream.components != 1:
        raise FormatError(f"`{path}` has {stream.components} values a voxel; expected one.")
    x, y, z = lattice
    values = file.values(stream).reshape(z, y, x)
    box = _bounding_box(file)
    full = tuple((box[2 * i + 1] - box[2 * i]) / max(1, n - 1) * file.scale for i, n in enumerate(lattice))
    if min(full) <= 0:
        raise FormatError(f"`{path}` has a BoundingBox without extent; its voxel size cannot be told.")
    return AmiraVolume(
        values=values.astype(values.dtype.newbyteorder("=")),
        voxel_size_angstrom=(full[0], full[1], full[2]),
        origin_angstrom=(box[0] * file.scale, box[2] * file.scale, box[4] * file.scale),
        materials=_materials(file.header) if "Materials" in file.header else (),
    )


def _instead(file: _File) -> str:
    if file.surface:
        return "It is a surface: read it as a mesh."
    if file.sizes:
        return f"It has {', '.join(sorted(file.sizes)[:6])}."
    return ""


def _bounding_box(file: _File) -> list[float]:
    found = re.search(r"BoundingBox\s+((?:[-+.\deE]+[\s,]+){5}[-+.\deE]+)", file.header)
    try:
        box = [float(w) for w in found[1].replace(",", " ").split()] if found else []
    except ValueError:
        box = []
    if len(box) != 6 or not all(math.isfinite(v) and abs(v) < 1e12 for v in box):
        raise FormatError(f"`{file.place}` has no BoundingBox of six numbers, so its voxel size is not known.")
    return box


def _materials(header: str) -> tuple[str, ...]:
    """Names of the groups in `Materials`, in their order, which is that of the labels."""
    start = header.find("{", header.find("Materials"))
    depth, names = 0, list[str]()
    for match in re.finditer(r"([\w\-.]+)\s*\{|\{|\}", header[start:]):
        depth += -1 if match[0] == "}" else 1
        if depth == 2 and match[1]:
            names.append(match[1])
        if depth == 0:
            break
    return tuple(names)


def write_amira_volume(
    path: PathLike,
    values: NDArray[Any],
    voxel_size_angstrom: float | Sequence[float],
    *,
    origin_angstrom: Sequence[float] = (0.0, 0.0, 0.0),
    materials: Sequence[str] = (),
    ascii_text: bool = False,
) -> None:
    """Write a volume, or labels, in A.

    Parameters
    ----------
    values : (z, y, x); labels as bytes are packed (HxByteRLE) unless written as text
    origin_angstrom : x, y, z of the centre of the first voxel
    materials : names of the labels 0, 1, ...; the field is one of labels where there are any

    Raises
    ------
    ShapeError : no volume
    InputError : a type of number that Amira has not, or more labels than names; the place cannot be written to
    """
    if values.ndim != 3 or not values.size:
        raise ShapeError(f"A volume of shape {values.shape} was given; expected (z, y, x).")
    if materials and values.dtype.kind in "iub":
        values = values.astype(np.uint8 if int(values.max()) < 256 else np.uint16)
        if int(values.max()) >= len(materials):
            raise InputError(f"Label {int(values.max())} has no name; {len(materials)} names were given, from 0.")
    code = values.dtype.str[1:]
    if values.dtype == np.float16 or values.dtype == np.bool_:
        values, code = values.astype("f4" if values.dtype == np.float16 else "u1"), "f4" if code == "f2" else "u1"
    if code not in _NAMES:
        raise InputError(f"Amira has no numbers of type {values.dtype}. Give float32, int16 or uint8.")
    z, y, x = values.shape
    size = checked_voxel_size(voxel_size_angstrom)
    first = [float(o) for o in origin_angstrom]
    box = [v for o, s, n in zip(first, size, (x, y, z), strict=True) for v in (o, o + s * max(1, n - 1))]
    packed = b""
    raw = np.ascontiguousarray(values.astype(f"<{code}")).tobytes()
    if materials and code == "u1" and not ascii_text:
        packed = _packed(raw)
    named = "Labels" if materials else "Data"
    how = f"(HxByteRLE,{len(packed)})" if packed else ""
    kind = "3D ASCII 2.0" if ascii_text else "BINARY-LITTLE-ENDIAN 2.1"
    groups = "".join(
        f"        {_word(name)} {{\n            Id {i}\n        }}\n" for i, name in enumerate(materials, 1)
    )
    head = (
        f"# AmiraMesh {kind}\n\n\ndefine Lattice {x} {y} {z}\n\nParameters {{\n"
        + (f"    Materials {{\n{groups}    }}\n" if materials else "")
        + f'    Units {{\n        Coordinates "A"\n    }}\n    Content "{x}x{y}x{z} {_NAMES[code]}, uniform coordinates",\n'
        f"    BoundingBox {' '.join(f'{v:.9g}' for v in box)},\n"
        '    CoordType "uniform"\n}\n\n'
        f"Lattice {{ {_NAMES[code]} {named} }} @1{how}\n\n# Data section follows\n@1\n"
    )
    body = (
        "".join(f"{v:.{17 if code == 'f8' else 9}g} \n" for v in values.ravel().tolist()).encode()
        if ascii_text
        else (packed or raw)
    )
    write_bytes_atomic(path, head.encode("latin-1", "replace") + body + b"\n")


def _word(name: str) -> str:
    return re.sub(r"[^\w\-.]", "_", name, flags=re.ASCII) or "_"


def read_amira_graph(path: PathLike) -> AmiraGraph:
    """A spatial graph, a line set or landmarks, in A.

    Raises
    ------
    InputError : no such file
    FormatError : another kind of Amira file, numbers that do not fit together, or cut short
    """
    file = _File(Path(path))
    if file.content == "HxSpatialGraph" or {"EDGE", "POINT"} <= set(file.sizes):
        return _graph(file)
    if "Lines" in file.sizes and {"Points", "Vertices"} & set(file.sizes):
        return _line_set(file)
    marks = file.stream("Markers", "Coordinates") or file.stream("Markers")
    if marks is not None:
        return AmiraGraph(lines=(), points=_places(file, marks))
    raise FormatError(
        f"`{path}` holds no lines or landmarks (HxSpatialGraph, HxLineSet, LandmarkSet). {_instead(file)}"
    )


def _places(file: _File, stream: _Stream | None) -> FloatArray:
    """(point, 3) in A."""
    if stream is None or stream.components != 3:
        raise FormatError(f"`{file.place}` has no coordinates of three numbers a point; it is damaged.")
    points: FloatArray = file.values(stream).astype(np.float64) * file.scale
    if not np.isfinite(points).all():
        raise FormatError(f"`{file.place}` has points that are not numbers. Export it again.")
    return points


def _counts(file: _File, stream: _Stream | None, what: str) -> NDArray[np.int64]:
    if stream is None:
        raise FormatError(f"`{file.place}` has no {what}; it is damaged.")
    values = file.values(stream)
    if values.dtype.kind not in "iu":
        raise FormatError(f"`{file.place}` has {what} that are not whole numbers.")
    return values.astype(np.int64)


def _graph(file: _File) -> AmiraGraph:
    vertices = _places(file, file.stream("VERTEX", "VertexCoordinates"))
    points = _places(file, file.stream("POINT", "EdgePointCoordinates"))
    counts = _counts(file, file.stream("EDGE", "NumEdgePoints"), "numbers of points of its edges").ravel()
    if (counts < 0).any() or (counts > _MAX_POINTS).any() or counts.sum() != len(points):
        raise FormatError(f"`{file.place}` has {len(points)} points, but its edges want {counts.sum()}; it is damaged.")
    lines = np.split(points, np.cumsum(counts)[:-1]) if len(counts) else []
    labels = {
        s.name: file.values(s).squeeze(1)
        for s in file.streams
        if s.array == "EDGE" and s.components == 1 and s.name != "NumEdgePoints" and s.kind in _TYPES
    }
    return AmiraGraph(lines=tuple(lines), points=vertices, labels=labels)


def _line_set(file: _File) -> AmiraGraph:
    points = _places(file, file.stream("Vertices", "Coordinates") or file.stream("Points", "Coordinates"))
    index = _counts(file, file.stream("Lines", "LineIdx"), "numbers of points of its lines").ravel()
    lines = []
    for part in np.split(index, np.flatnonzero(index < 0)):
        row = part[part >= 0]
        if not len(row):
            continue
        if row.max() >= len(points):
            raise FormatError(f"`{file.place}` has a line through point {row.max()}, but {len(points)} points.")
        lines.append(points[row])
    return AmiraGraph(lines=tuple(lines), points=np.zeros((0, 3)))


def write_amira_graph(
    path: PathLike,
    lines: Sequence[FloatArray],
    *,
    labels: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Write lines as a spatial graph (ASCII, in A): each line is an edge between two vertices of its own.

    Parameters
    ----------
    lines : of each its points, (point, 3), two at least
    labels : further numbers of lines, by name of one word

    Raises
    ------
    ShapeError : a line that is not (point, 3), or numbers for other lines
    InputError : no line, or a coordinate that is NaN or infinity; the place cannot be written to
    """
    arrays = [np.asarray(line, dtype=np.float64) for line in lines]
    if not arrays:
        raise InputError("There is no line to write.")
    for line in arrays:
        if line.ndim != 2 or line.shape[1] != 3 or len(line) < 2:
            raise ShapeError(f"A line of shape {line.shape} was given; expected (point, 3), two points at least.")
        if not np.isfinite(line).all():
            raise InputError("A line holds NaN or infinity. Leave that point out.")
    extra = {_word(name): list(values) for name, values in (labels or {}).items()}
    if any(len(values) != len(arrays) for values in extra.values()):
        raise ShapeError(f"Numbers of lines were given that are not as many as the {len(arrays)} lines.")
    vertices = np.concatenate([line[[0, -1]] for line in arrays])
    edges = np.arange(2 * len(arrays)).reshape(-1, 2)
    points = np.concatenate(arrays)
    blocks = [
        ("VERTEX { float[3] VertexCoordinates }", _rows(vertices)),
        ("EDGE { int[2] EdgeConnectivity }", "".join(f"{a} {b}\n" for a, b in edges.tolist())),
        ("EDGE { int NumEdgePoints }", "".join(f"{len(line)}\n" for line in arrays)),
        ("POINT { float[3] EdgePointCoordinates }", _rows(points)),
        *((f"EDGE {{ float {name} }}", "".join(f"{v:.9g}\n" for v in values)) for name, values in extra.items()),
    ]
    head = (
        f"# AmiraMesh 3D ASCII 2.0\n\n\ndefine VERTEX {len(vertices)}\ndefine EDGE {len(edges)}\n"
        f'define POINT {len(points)}\n\nParameters {{\n    Units {{\n        Coordinates "A"\n    }}\n'
        '    ContentType "HxSpatialGraph"\n}\n\n'
    )
    declared = "".join(f"{what} @{i}\n" for i, (what, _) in enumerate(blocks, 1))
    data = "".join(f"@{i}\n{text}\n" for i, (_, text) in enumerate(blocks, 1))
    write_text_atomic(path, f"{head}{declared}\n# Data section follows\n{data}")


def write_amira_landmarks(path: PathLike, points: FloatArray) -> None:
    """Write points (point, 3) in A as a set of landmarks (`.landmarkAscii`)."""
    places = np.asarray(points, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 3 or not np.isfinite(places).all():
        raise ShapeError(f"Points of shape {places.shape} were given; expected (point, 3), all of them numbers.")
    head = (
        f"# AmiraMesh 3D ASCII 2.0\n\n\ndefine Markers {len(places)}\n\nParameters {{\n    NumSets 1,\n"
        '    Units {\n        Coordinates "A"\n    }\n    ContentType "LandmarkSet"\n}\n\n'
        "Markers { float[3] Coordinates } @1\n\n# Data section follows\n@1\n"
    )
    write_text_atomic(path, head + _rows(places))


def _rows(points: FloatArray) -> str:
    return "".join(f"{x:.9g} {y:.9g} {z:.9g}\n" for x, y, z in points.tolist())


def read_amira_surface(path: PathLike) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vertices (n, 3) in A and triangles (m, 3) of all patches of a surface kept as text.

    Raises
    ------
    InputError : no such file
    FormatError : no surface, a binary one (the message tells what to do), or damaged
    """
    place = need_file(path)
    with place.open("rb") as opened:
        head = _HEAD.match(opened.read(200))
    if head is None or head[1] != b"HyperSurface":
        raise FormatError(f"`{place}` is no surface of Amira: expected `# HyperSurface 0.1 ASCII` as its first line.")
    if b"ASCII" not in head[2].upper():
        raise FormatError(binary_surface_refusal(place))
    words = place.read_text(encoding="latin-1").split()
    vertices = _numbers_after(words, "Vertices", place)
    faces = [f for at, word in enumerate(words) if word == "Triangles" for f in _numbers_at(words, at, place).tolist()]
    triangles = np.array(faces, dtype=np.int64).reshape(-1, 3) - 1
    if not len(triangles) or triangles.min() < 0 or triangles.max() >= len(vertices):
        raise FormatError(f"`{place}` has no triangles, or triangles and vertices that do not fit together.")
    return vertices * _surface_unit(words), triangles


def binary_surface_refusal(path: PathLike) -> str:
    """Why a binary surface of Amira is not read, and the way that works."""
    return (
        f"`{Path(path).name}` is a binary surface of Amira, which is not read. In Amira, save it with File > Save Data As as "
        "`HxSurface ASCII`, STL or PLY, and give that file."
    )


def _surface_unit(words: Sequence[str]) -> float:
    at = next((i for i, word in enumerate(words[:2000]) if word == "Coordinates"), None)
    return _UNITS.get(words[at + 1].strip('",').lower(), 1.0) if at is not None and at + 1 < len(words) else 1.0


def _numbers_after(words: Sequence[str], name: str, place: Path) -> FloatArray:
    at = next((i for i, word in enumerate(words) if word == name), None)
    if at is None:
        raise FormatError(f"`{place}` has no {name}; it is damaged.")
    return _numbers_at(words, at, place)


def _numbers_at(words: Sequence[str], at: int, place: Path) -> FloatArray:
    """(n, 3) numbers behind a word and their count."""
    try:
        count = int(words[at + 1])
        if not 0 <= 3 * count <= len(words) - at - 2:
            raise ValueError(f"{count} rows are promised")
        values = np.array(words[at + 2 : at + 2 + 3 * count], dtype=np.float64).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise FormatError(f"`{place}` has damaged {words[at]}: {error}.") from error
    if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e12:
        raise FormatError(f"`{place}` has {words[at]} that are no numbers.")
    return values
