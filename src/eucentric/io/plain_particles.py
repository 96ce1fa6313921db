"""Particles as plain numbers, `x y z` and where known three angles, a row a particle; a file is of one tomogram.

Bare numbers say neither where they are counted from nor in what. The first line of our files does::

    # x y z rot tilt psi score class; origin: centre; unit: A; euler: relion; tomogram: TS_01; voxel: 8; size: 120 100 50

and of others it must be told (`PlainWords`). Angles are named after the program that has them, in degrees:

======== ===================== ====================================================================
relion   rot tilt psi          ``Rz(-psi) Ry(-tilt) Rz(-rot)`` takes reference to tomogram
zxz      phi theta psi         ``Rz(psi) Rx(theta) Rz(phi)``, of TOM, AV3, STOPGAP and PyTom
dynamo   tdrot tilt narot      ``Rz(-tdrot) Rx(-tilt) Rz(-narot)``
======== ===================== ====================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation, rotation_x, rotation_z
from eucentric.io.atomic import atomic_path
from eucentric.io.number_text import number_cells, rows_of_cells
from eucentric.io.particle_columns import (
    class_names,
    class_numbers,
    matrices_from_tom,
    need_file,
    need_finite,
    tom_angles,
    zxz_angles,
)
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import FloatArray, PathLike

ANGLES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "relion": ("rot", "tilt", "psi"),
    "zxz": ("phi", "theta", "psi"),
    "dynamo": ("tdrot", "tilt", "narot"),
}
_CHOICES: Mapping[str, tuple[str | int, ...]] = {
    "origin": ("corner", "centre"),
    "unit": ("voxel", "angstrom"),
    "euler": tuple(ANGLES),
    "first_voxel": (0, 1),
}
_SAME = {"center": "centre", "a": "angstrom", "å": "angstrom", "voxels": "voxel", "pixel": "voxel", "px": "voxel"}
_DECIMALS, _FIRST_LINES = 6, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainWords:
    """How plain numbers are meant; what is None is not known."""

    origin: str | None = None
    """`corner`: from the centre of the first voxel; `centre`: from voxel ``n // 2``, the specimen centre."""
    unit: str | None = None
    """`voxel` or `angstrom`."""
    euler: str | None = None
    """`relion`, `zxz`, `dynamo`, or `none` where there are only x, y and z."""
    first_voxel: int | None = None
    """The number of the first voxel, 0 or 1; only for voxels from the corner, and 0 where not given."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if isinstance(value, str):
                value = _SAME.get(value.lower(), value.lower())
                object.__setattr__(self, name, value)
            if value is not None and value not in choices:
                option = name.replace("_", "-")
                raise InputError(f"--{option} {value} is not known. Expected {' or '.join(map(str, choices))}.")

    @property
    def told(self) -> bool:
        """Whether anything is."""
        return any(getattr(self, one.name) is not None for one in fields(self))

    def over(self, other: "PlainWords") -> "PlainWords":
        """These words, and where they say nothing the other ones."""
        return PlainWords(
            **{o.name: getattr(other if getattr(self, o.name) is None else self, o.name) for o in fields(self)}
        )


CENTRED = PlainWords(origin="centre", unit="angstrom", euler="relion")
"""As lists are written where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    columns: tuple[str, ...] = ()
    words: PlainWords = PlainWords()
    tomogram: str | None = None
    frame: TomogramFrame | None = None


def read_plain_particles(
    path: PathLike, frames: TomogramFrames, words: PlainWords | None = None, *, tomogram: str | None = None
) -> ParticleSet:
    """Particles of a text of numbers, separated by blanks or commas.

    Parameters
    ----------
    path : the text; of one tomogram, named in its first line or like the file
    frames : grids of tomograms; not needed for A from the centre, nor where the first line has the grid
    words : how the numbers are meant; they go before what the first line says

    Raises
    ------
    InputError : no such file, an unknown tomogram, or numbers of which nobody says how they are meant
    FormatError : a text that is no table of numbers, or with another number of columns than the words say
    """
    place = need_file(path)
    try:
        text = place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"`{place}` is not text: {error.reason} at byte {error.start}.") from error
    header = _header(text, place)
    meant = (words or PlainWords()).over(header.words)
    need_words(meant, place)
    table = _table(text, place)
    columns = _columns(header, meant, table.shape[1] if table.size else 0, place)
    if table.size == 0:
        return ParticleSet.empty()
    values = dict(zip(columns, table.T, strict=True))
    name = tomogram or header.tomogram or tomogram_name(place.stem)
    index = need_finite(np.stack([values[a] for a in "xyz"], axis=1), "coordinates", place)
    if header.frame is not None and name not in frames.by_name and frames.default is None:
        frames = replace(frames, by_name={**frames.by_name, name: header.frame})
    angles = [values[a] for a in ANGLES[meant.euler or "none"]]
    return ParticleSet.build(
        name,
        _positions(index, meant, name, frames),
        rotations=_matrices(need_finite(np.stack(angles, axis=1), "angles", place), str(meant.euler))
        if angles
        else None,
        scores=values.get("score", np.nan),
        kinds=class_names(np.nan_to_num(values["class"])) if "class" in values else "",
    )


def says_how_it_is_meant(path: PathLike) -> bool:
    """Whether the first lines of a text say how its numbers are meant."""
    with need_file(path).open(encoding="utf-8", errors="replace") as file:
        return any(
            line.startswith("#") and "origin:" in line for line, _ in zip(file, range(_FIRST_LINES), strict=False)
        )


def _header(text: str, place: Path) -> _Header:
    """What a first line of ours says; nothing where there is none."""
    lines = [line.lstrip("#").strip() for line in text.splitlines()[:_FIRST_LINES] if line.startswith("#")]
    line = next((line for line in lines if "origin:" in line), None)
    if line is None:
        return _Header()
    first, *rest = (part.strip() for part in line.split(";"))
    said = {key.strip().lower(): value.strip() for key, _, value in (part.partition(":") for part in rest)}
    try:
        number = said.get("first voxel")
        words = PlainWords(
            origin=said.get("origin"),
            unit=said.get("unit"),
            euler=said.get("euler"),
            first_voxel=None if number is None else int(number),
        )
        frame = None
        if "voxel" in said and "size" in said:
            x, y, z = (int(n) for n in said["size"].split())
            frame = TomogramFrame(voxel_size_angstrom=float(said["voxel"]), size_xyz=(x, y, z))
    except (ValueError, InputError) as error:
        raise FormatError(f"The first line of `{place}` cannot be understood: {error}") from error
    return _Header(
        columns=tuple(first.replace(",", " ").split()), words=words, tomogram=said.get("tomogram") or None, frame=frame
    )


def need_words(words: PlainWords, place: Path) -> None:
    """InputError where numbers are not understood, with what is to be told."""
    missing = [
        f"--{name} {'|'.join(map(str, _CHOICES[name]))}"
        for name in ("origin", "unit", "euler")
        if getattr(words, name) is None
    ]
    if missing:
        raise InputError(
            f"`{place}` holds plain numbers and does not say how they are meant. Give {', '.join(missing)}, with "
            "--first-voxel 1 where voxels are counted from 1. Or give it a first line such as "
            "`# x y z; origin: corner; unit: voxel; euler: none`."
        )


def _table(text: str, place: Path) -> FloatArray:
    rows = [
        (number, line.replace(",", " ").split())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if rows and not _is_number(rows[0][1][0]):
        rows = rows[1:]  # names of columns
    width = len(rows[0][1]) if rows else 0
    wrong = next(((number, row) for number, row in rows if len(row) != width), None)
    if wrong is not None:
        raise FormatError(
            f"`{place}` has {len(wrong[1])} numbers in line {wrong[0]}, and {width} in line {rows[0][0]}. Mend this line."
        )
    try:
        return np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), width)
    except ValueError:
        number, value = next((n, v) for n, row in rows for v in row if not _is_number(v))
        raise FormatError(f"`{place}` has `{value[:40]}` in line {number}; expected a number.") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(header: _Header, words: PlainWords, width: int, place: Path) -> tuple[str, ...]:
    """Names of the columns."""
    expected = ("x", "y", "z", *ANGLES[words.euler or "none"])
    if not width:
        return expected
    if header.columns and len(header.columns) == width and set(expected) <= set(header.columns):
        return header.columns
    if width != len(expected):
        raise FormatError(
            f"`{place}` has {width} columns; expected {' '.join(expected)} (--euler {words.euler}). "
            "Leave other columns out, or name them all in a first line as our own lists have it."
        )
    return expected


def _positions(index: FloatArray, words: PlainWords, name: str, frames: TomogramFrames) -> FloatArray:
    if words.origin == "centre" and words.unit == "angstrom":
        return index
    frame = frames.of(name)
    if words.origin == "centre":
        return np.asarray(index * frame.voxel_size_angstrom)
    if words.unit == "angstrom":
        return frame.to_angstrom(index / frame.voxel_size_angstrom)
    return frame.to_angstrom(index - (words.first_voxel or 0))


def _matrices(angles: FloatArray, euler: str) -> FloatArray:
    a, b, c = angles.T
    if euler == "relion":
        return np.asarray(Rotation.from_relion(a, b, c).matrices)
    if euler == "zxz":
        return matrices_from_tom(a, c, b)
    return np.asarray(rotation_z(-a) @ rotation_x(-b) @ rotation_z(-c))


def _angles_of(matrices: FloatArray, euler: str) -> Sequence[FloatArray]:
    if euler == "none":
        return ()
    if euler == "relion":
        return tuple(Rotation(matrices).as_relion())
    if euler == "zxz":
        phi, psi, theta = tom_angles(matrices)
        return phi, theta, psi
    narot, tilt, tdrot = zxz_angles(matrices).T
    return -tdrot, -tilt, -narot


def write_plain_particles(
    path: PathLike, particles: ParticleSet, frames: TomogramFrames, words: PlainWords | None = None
) -> None:
    """Write the particles of one tomogram, with a first line that says how the numbers are meant.

    Parameters
    ----------
    frames : grids of tomograms; not needed for A from the centre
    words : centre, A and RELION's angles where they say nothing

    Raises
    ------
    InputError : particles of several tomograms, or a tomogram of unknown size
    """
    if len(particles.tomogram_names) > 1:
        raise InputError("A text of plain numbers holds one tomogram. Give a folder to write a file for each.")
    meant = (words or PlainWords()).over(CENTRED)
    name = particles.tomogram_names[0] if len(particles) else ""
    known = name in frames.by_name or frames.default is not None
    frame = (
        frames.of(name) if len(particles) and (known or (meant.origin, meant.unit) != ("centre", "angstrom")) else None
    )
    names = ["x", "y", "z", *ANGLES[meant.euler or "none"]]
    columns = [
        *_index(particles.positions_angstrom, meant, frame).T,
        *_angles_of(particles.rotations, str(meant.euler)),
    ]
    columns = [np.round(column, _DECIMALS) + 0.0 for column in columns]
    if not np.isnan(particles.scores).all():
        names.append("score")
        columns.append(particles.scores)
    if (particles.kinds != "").any():
        names.append("class")
        columns.append(class_numbers(particles.kinds))
    unit = "A" if meant.unit == "angstrom" else meant.unit
    said = [" ".join(names), f"origin: {meant.origin}", f"unit: {unit}", f"euler: {meant.euler}"]
    if meant.origin == "corner" and meant.unit == "voxel":
        said.append(f"first voxel: {meant.first_voxel or 0}")
    if name:
        said.append(f"tomogram: {name}")
    if frame is not None:
        said += [f"voxel: {frame.voxel_size_angstrom!r}", "size: " + " ".join(map(str, frame.size_xyz))]
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        out.write(f"# {'; '.join(said)}\n".encode())
        if len(particles):
            out.write(rows_of_cells([number_cells(np.ascontiguousarray(column)) for column in columns]))


def _index(positions: FloatArray, words: PlainWords, frame: TomogramFrame | None) -> FloatArray:
    if frame is None or (words.origin == "centre" and words.unit == "angstrom"):
        return positions
    if words.origin == "centre":
        return np.asarray(positions / frame.voxel_size_angstrom)
    if words.unit == "angstrom":
        return np.asarray(frame.to_index(positions) * frame.voxel_size_angstrom)
    return np.asarray(frame.to_index(positions) + (words.first_voxel or 0))
