"""IMOD models (`.mod`, `.fid`): contours of points, as IMOD's binary format version 1.2 keeps them (big-endian chunks).

In a model x and y run from 0 at the outer edge of the first pixel to n at that of the last, so pixel i (counted from 0)
is at i + 0.5; z counts sections from 0.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import atomic_path
from eucentric.typing import FloatArray, PathLike

_MAGIC = b"IMODV1.2"
_HEADER = struct.Struct(">128s4iI4i6f3i2ifi i3f")
_OBJECT = struct.Struct(">64s16IiIii3fi8B2i")
_CONTOUR = struct.Struct(">iIii")
_MESH = struct.Struct(">iiIhh")
_MODEL_FLAGS = 0xF400  # z from -0.5, clip planes, bytes in materials, origin known, tilt angles right
_OPEN, _SCATTERED = 8, 512
_CIRCLE, _NO_SYMBOL, _CIRCLE_SIZE = 0, 1, 7
_COLOURS = ((0.0, 1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImodModel:
    """Contours of an IMOD model; coordinates as stored (see the module)."""

    objects: tuple[tuple[FloatArray, ...], ...]
    """Of each object its contours, (point, 3): x, y, z."""
    image_size: tuple[int, int, int]
    """x, y, z of the image it was drawn on; 0 where not recorded."""
    names: tuple[str, ...] = ()
    """Of the objects."""
    pixel_size_angstrom: float | None = None
    """Of the image it was last drawn on: a model's coordinates are pixels of that."""
    contour_names: tuple[tuple[str, ...], ...] = field(default=())
    """Labels of the contours of each object; empty texts where there are none."""
    closed: tuple[tuple[bool, ...], ...] = ()
    """Of the contours of each object, whether they go around something; False for open lines and scattered points."""


class _Chunks:
    """The bytes of a model, read from front to back."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data, self._at, self._path = data, 0, path

    def take(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if count < 0 or len(part) != count:
            raise FormatError(f"`{self._path}` ends in the middle of its contours. Copy it again; it is cut short.")
        self._at += count
        return part

    def unpack(self, layout: struct.Struct) -> tuple[object, ...]:
        return layout.unpack(self.take(layout.size))

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("latin-1").strip()


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def read_imod_model(path: PathLike) -> ImodModel:
    """Points of a model; meshes, colours and views are passed over.

    Raises
    ------
    InputError : no such file
    FormatError : not a binary IMOD model, or cut short
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    data = _Chunks(place.read_bytes(), place)
    if data.left < len(_MAGIC) or data.take(len(_MAGIC)) != _MAGIC:
        raise FormatError(f"`{place}` is not a binary IMOD model: it does not begin with {_MAGIC.decode()}.")
    header = data.unpack(_HEADER)
    size = (_whole(header[1]), _whole(header[2]), _whole(header[3]))
    objects: list[list[FloatArray]] = []
    labels: list[list[str]] = []
    names: list[str] = []
    rings: list[bool] = []
    closed: list[list[bool]] = []
    pixel_size: float | None = None
    while data.left >= 4:
        kind = data.take(4)
        if kind == b"IEOF":
            break
        if kind == b"OBJT":
            values = data.unpack(_OBJECT)
            names.append(_text(values[0] if isinstance(values[0], bytes) else b""))
            rings.append(not _whole(values[18]) & (_OPEN | _SCATTERED))
            closed.append([])
            objects.append([])
            labels.append([])
        elif kind == b"CONT":
            count, flags = (_whole(v) for v in data.unpack(_CONTOUR)[:2])
            with np.errstate(invalid="ignore"):  # some NaN are told on casting
                points = np.frombuffer(data.take(12 * count), dtype=">f4").reshape(-1, 3).astype(np.float64)
            if not objects:
                raise FormatError(f"`{place}` has a contour before its first object; it is damaged.")
            if not np.isfinite(points).all():
                raise FormatError(f"`{place}` has a point that is not a number; it is damaged. Copy it again.")
            objects[-1].append(points)
            labels[-1].append("")
            closed[-1].append(rings[-1] and not flags & _OPEN)
        elif kind == b"MESH":
            vertices, indices = data.unpack(_MESH)[:2]
            data.take(12 * _whole(vertices) + 4 * _whole(indices))
        else:
            body = data.take(struct.unpack(">i", data.take(4))[0])
            if kind == b"MINX" and len(body) >= 72:
                scale = struct.unpack(">18f", body[:72])[9]
                pixel_size = float(scale) if np.isfinite(scale) and 0.0 < scale < 1e6 and scale != 1.0 else None
            elif kind == b"LABL" and labels and labels[-1]:
                labels[-1][-1] = _text(body[8:] if len(body) > 8 else body)
    return ImodModel(
        objects=tuple(tuple(contours) for contours in objects),
        image_size=size,
        names=tuple(names),
        pixel_size_angstrom=pixel_size,
        contour_names=tuple(tuple(texts) for texts in labels),
        closed=tuple(tuple(rows) for rows in closed),
    )


def write_imod_model(
    path: PathLike,
    objects: Sequence[Sequence[FloatArray]],
    image_size: tuple[int, int, int],
    pixel_size_angstrom: float,
    names: Sequence[str] = (),
    *,
    closed: bool = False,
) -> None:
    """Write a model of open contours, drawn as circles, or of closed ones.

    Parameters
    ----------
    objects : of each object its contours, (point, 3): x, y, z as a model has them (see the module)
    image_size : x, y, z of the image that it belongs to
    names : of the objects; left out where empty
    closed : contours go around something, and are drawn as lines

    Raises
    ------
    ShapeError : a contour that is not (point, 3)
    InputError : a coordinate that is NaN or infinity; the place cannot be written to
    BackendError : the disk is full
    """
    parts = [_MAGIC, _header(image_size, len(objects), pixel_size_angstrom)]
    for index, contours in enumerate(objects):
        name = names[index] if index < len(names) else ""
        colour = _COLOURS[index % len(_COLOURS)]
        style = (_NO_SYMBOL if closed else _CIRCLE, _CIRCLE_SIZE, 1, 1, 0, 0, 0, 0)
        flags = 0 if closed else _OPEN
        parts += [
            b"OBJT",
            _OBJECT.pack(
                name.encode("latin-1", "replace")[:63], *(0,) * 16, len(contours), flags, 0, 1, *colour, 0, *style, 0, 0
            ),
        ]
        for contour in contours:
            points = np.asarray(contour, dtype=np.float64)
            if points.ndim != 2 or points.shape[1] != 3:
                raise ShapeError(f"A contour of shape {points.shape} was given; expected (point, 3): x, y, z.")
            if not np.isfinite(points).all():
                raise InputError("A contour holds NaN or infinity. Leave that point out.")
            parts += [b"CONT", _CONTOUR.pack(len(points), 0, 0, 0), points.astype(">f4").tobytes()]
    scale = (pixel_size_angstrom,) * 3
    parts += [b"MINX", struct.pack(">i18f", 72, *scale, *(0.0,) * 6, *scale, *(0.0,) * 6), b"IEOF"]
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join(parts))


def _header(image_size: tuple[int, int, int], objects: int, pixel_size_angstrom: float) -> bytes:
    nanometres, power = pixel_size_angstrom / 10.0, -9
    return _HEADER.pack(
        b"IMOD-NewModel", *image_size, objects, _MODEL_FLAGS, 1, 1, 0, 255, *(0.0,) * 3, *(1.0,) * 3, 0, 0, 0,
        3, 128, nanometres, power, 0, *(0.0,) * 3,
    )  # fmt: skip
