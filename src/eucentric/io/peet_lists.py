"""Motive lists (`.csv`) and parameter files (`.prm`) of PEET.

A motive list has a row a particle and 20 columns: 1 correlation (CCC), 4 the number of the point in the model from 1, 6 the
adjusted correlation that newer versions sort by, 11-13 shift in voxels, 17 EulerZ(1), 18 EulerZ(3), 19 EulerX(2), 20 class. A
particle lies at point + shift, and ``Rz(EulerZ(3)) Rx(EulerX(2)) Rz(EulerZ(1))`` takes reference to tomogram [1]_ [2]_. Commas or
semicolons part them; a header names them. A parameter file has MATLAB's `name = value` lines, with lists of files in braces [3]_.

References
----------
.. [1] alignSubset's manual page, as PEET installs it (columns); header lines of PEET 1.9 to 1.18
.. [2] TEMPy's PEET tools, `PEETMotiveList.py` (angles_to_rot_matrix, translate_pcles): independent of this reader
.. [3] PEET's manual page, https://bio3d.colorado.edu/ftp/PEET/man/html/man1/PEET.1.html
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.particle_columns import known_scores, matrices_from_tom, need_file, tom_angles
from eucentric.typing import FloatArray, PathLike

_HEADER = (
    "CCC,reserved,reserved,pIndex,wedgeWT,adjCCC,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,oldClass,"
    "EulerZ(1),EulerZ(3),EulerX(2),class"
)
_COLUMNS = 20
_ENTRY = re.compile(r"^\s*([A-Za-z]\w*)\s*=\s*(.*)$")
_LISTED_AS = re.compile(r"_?(init)?motl.*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotiveList:
    """The rows of a motive list, in their order."""

    points: NDArray[np.int64]
    """(row,) which point of the model it is, from 0."""
    scores: FloatArray
    """(row,), NaN where the list has none."""
    shifts_px: FloatArray
    """(row, 3)"""
    rotations: FloatArray
    """(row, 3, 3), reference to tomogram."""
    classes: NDArray[np.int64]
    """(row,), 0 where none."""


def read_motive_csv(path: PathLike, point_count: int) -> MotiveList:
    """A motive list of a model with so many points.

    Raises
    ------
    InputError : no such file
    FormatError : not such a list, or one of another model
    """
    place = need_file(path)
    rows = []
    for number, line in enumerate(place.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.replace(";", ",").split(",")
        if not line.strip() or words[0].strip().upper() == "CCC":
            continue
        try:
            rows.append([float(word) for word in words[:_COLUMNS]])
        except ValueError as error:
            raise FormatError(f"`{place}` is not a motive list of PEET: line {number} is `{line[:60]}`.") from error
        if len(rows[-1]) < _COLUMNS:
            raise FormatError(
                f"`{place}` has {len(rows[-1])} numbers in line {number}; a motive list of PEET has {_COLUMNS}."
            )
    table = np.array(rows, dtype=np.float64).reshape(-1, _COLUMNS)
    used = table[:, [0, 3, 10, 11, 12, 16, 17, 18, 19]]
    if not np.isfinite(used).all() or np.abs(used).max(initial=0.0) > 1e9:
        raise FormatError(f"`{place}` has shifts, angles or classes that are no finite numbers.")
    return MotiveList(
        points=_points(table[:, 3], point_count, place),
        scores=known_scores(table[:, 0]),
        shifts_px=table[:, 10:13],
        rotations=matrices_from_tom(table[:, 16], table[:, 17], table[:, 18]),
        classes=np.rint(table[:, 19]).astype(np.int64),
    )


def _points(numbers: FloatArray, count: int, place: Path) -> NDArray[np.int64]:
    """Points by their numbers, or in their order where the numbers are none and there are as many."""
    index = np.rint(numbers).astype(np.int64) - 1
    whole = bool(np.array_equal(index + 1, numbers)) and len(np.unique(index)) == len(index)
    if whole and (not len(index) or (index.min() >= 0 and index.max() < count)):
        return index
    if len(numbers) == count:
        return np.arange(count)
    raise FormatError(
        f"`{place}` has {len(numbers)} rows with numbers of points up to {numbers.max():g}; its model has {count} points. "
        "Check that they belong together."
    )


def write_motive_csv(path: PathLike, rotations: FloatArray, scores: FloatArray, classes: Sequence[int]) -> None:
    """Write a list of all points of a model in their order, without shifts; errors as `write_text_atomic`."""
    rows = np.zeros((len(rotations), _COLUMNS))
    rows[:, 0] = rows[:, 5] = np.nan_to_num(scores)
    rows[:, 3] = np.arange(1, len(rows) + 1)
    rows[:, 16], rows[:, 17], rows[:, 18] = tom_angles(rotations)
    rows[:, 19] = classes
    lines = [_HEADER, *(",".join(f"{v:.8g}" for v in row) for row in rows)]
    write_text_atomic(path, "\n".join(lines) + "\n")


def read_prm(path: PathLike) -> dict[str, str]:
    """The entries of a parameter file as they are written, lists over several lines in one.

    Raises
    ------
    InputError : no such file
    FormatError : braces that do not close, or no entry at all
    """
    place = need_file(path)
    entries: dict[str, str] = {}
    name = ""
    depth = 0
    for line in place.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if not text or text[0] in "#%":
            continue
        found = _ENTRY.match(text) if depth <= 0 else None
        if found is not None:
            name, text = found.groups()
            entries[name] = text
        elif name:
            entries[name] += " " + text
        depth = entries.get(name, "").count("{") - entries.get(name, "").count("}")
    if depth > 0:
        raise FormatError(f"`{place}` ends inside the braces of {name}. Copy it again.")
    if not entries:
        raise FormatError(f"`{place}` is not a parameter file of PEET: it has no line NAME = VALUE.")
    return entries


def prm_texts(value: str) -> list[str]:
    """The quoted texts of an entry such as ``{'a.mrc', 'b.mrc'}``."""
    return re.findall(r"'([^']*)'", value)


def is_there(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def model_of(motive_list: PathLike) -> Path:
    """The model that a motive list is of: named like it, or told by a parameter file beside it.

    Raises
    ------
    InputError : none is found
    """
    place = need_file(motive_list)
    stems = dict.fromkeys((place.stem, _LISTED_AS.sub("", place.stem)))
    beside = next((m for m in (place.with_name(f"{s}.mod") for s in stems if s) if is_there(m)), None)
    if beside is not None:
        return beside
    for parameters in sorted(place.parent.glob("*.prm")):
        for model, lists in prm_models(parameters):
            if is_there(model) and any(is_there(p) and p.samefile(place) for p in lists):
                return model
    raise InputError(
        f"`{place}` is a motive list; the points of its particles are in a model (.mod), which is not beside it. Put it there with "
        "the same name, or give the model or the .prm."
    )


def prm_models(parameters: Path) -> list[tuple[Path, list[Path]]]:
    """Models of a parameter file, each with the motive lists it may have: the last iteration's first, then the initial one."""
    entries = read_prm(parameters)
    folder = parameters.parent
    initial = prm_texts(entries.get("initMOTL", ""))
    output = "".join(prm_texts(entries.get("fnOutput", ""))[:1]) or parameters.stem
    out = []
    for number, model in enumerate(prm_texts(entries.get("fnModParticle", "")), 1):
        results = sorted(_iterations(folder, f"{output}_MOTL_Tom{number}_Iter"), reverse=True)
        lists = [path for _, path in results]
        if number <= len(initial):
            lists.append(folder / initial[number - 1])
        out.append((folder / model, lists))
    return out


def _iterations(folder: Path, start: str) -> list[tuple[int, Path]]:
    ends = re.compile(re.escape(start) + r"(\d{1,6})\.csv")
    matches = ((ends.fullmatch(p.name), p) for p in folder.iterdir())
    return [(int(m[1]), p) for m, p in matches if m is not None]
