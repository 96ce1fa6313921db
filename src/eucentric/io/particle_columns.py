"""What readers and writers of particle lists share: numbers of classes and tomograms, and Euler angles of TOM and its heirs."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.errors import FormatError, InputError
from eucentric.geometry import rotation_x, rotation_z
from eucentric.io.atomic import write_text_atomic
from eucentric.models.particles import Texts
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.typing import FloatArray, PathLike

_MOST_CLASSES = 1e15
_DIGITS = 15  # of a number of a tomogram: more are no number of anything


def need_file(path: PathLike) -> Path:
    """The path of a file that is there; InputError where it is not."""
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    return place


def matrices_from_tom(phi_deg: ArrayLike, psi_deg: ArrayLike, theta_deg: ArrayLike) -> FloatArray:
    """(n, 3, 3) rotations of TOM, AV3, STOPGAP and PyTom: ``Rz(psi) Rx(theta) Rz(phi)``, reference to tomogram."""
    return np.asarray(rotation_z(psi_deg) @ rotation_x(theta_deg) @ rotation_z(phi_deg))


def tom_angles(matrices: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """phi, psi, theta in degrees of :func:`matrices_from_tom`; theta in [0, 180], psi 0 where theta is 0 or 180."""
    angles = zxz_angles(matrices)
    return angles[:, 0], angles[:, 2], angles[:, 1]


def zxz_angles(matrices: FloatArray) -> FloatArray:
    """(n, 3): a, b, c in degrees with ``Rz(c) Rx(b) Rz(a)`` equal to the matrices; c is 0 at the poles."""
    m = matrices
    if not len(m):
        return np.zeros((0, 3))
    side = np.hypot(m[:, 2, 0], m[:, 2, 1])
    b = np.arctan2(side, m[:, 2, 2])
    pole = side < 1e-7
    a = np.where(pole, np.arctan2(-m[:, 0, 1], m[:, 0, 0]), np.arctan2(m[:, 2, 0], m[:, 2, 1]))
    c = np.where(pole, 0.0, np.arctan2(m[:, 0, 2], -m[:, 1, 2]))
    return np.asarray(np.rad2deg(np.stack([a, b, c], axis=1)))


def nearest_rotations(matrices: FloatArray) -> FloatArray:
    """Rotations nearest to matrices that were rounded in a file; FormatError where one is mirrored, flat or not of numbers."""
    if not len(matrices):
        return np.zeros((0, 3, 3))
    try:
        with np.errstate(all="ignore"):
            return np.asarray(_ScipyRotation.from_matrix(matrices).as_matrix(), dtype=np.float64)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise FormatError(f"A matrix of a particle is no rotation: {str(error)[:120]}. Correct the file.") from error


def class_numbers(kinds: Texts) -> NDArray[np.int64]:
    """Numbers for programs that number classes: the kinds where they are numbers, else their alphabetic order; 0 for none."""
    found, codes = grouped(kinds)
    names = sorted(set(found) - {""})
    numbered = all(name.isdecimal() for name in names)
    lookup = {name: int(name) if numbered else place for place, name in enumerate(names, 1)} | {"": 0}
    return np.array([lookup[name] for name in found], dtype=np.int64)[codes]


def class_names(numbers: ArrayLike) -> Texts:
    """Kinds of numbered classes; empty for 0."""
    values = np.asarray(numbers, dtype=np.float64)
    if not (np.abs(values) < _MOST_CLASSES).all():
        raise FormatError("The class of a particle is no number that a class can have. Correct the file.")
    codes, found = pd.factorize(values, use_na_sentinel=False)
    return np.array([str(round(n)) if round(n) else "" for n in found.tolist()], dtype=np.str_)[codes]


def known_scores(column: ArrayLike) -> FloatArray:
    """Scores of programs that write 0 where there is none: NaN if all are 0."""
    scores = np.array(column, dtype=np.float64)
    return scores if scores.any() else np.full(scores.shape, np.nan)


def grouped(names: Texts) -> tuple[list[str], NDArray[np.int64]]:
    """Different names in the order of the first of each, and (n,) which of them each is; fast for long lists."""
    codes, found = pd.factorize(np.asarray(names).astype(object))
    return [str(name) for name in found], codes.astype(np.int64)


def need_finite(values: FloatArray, what: str, place: object) -> FloatArray:
    """The values, where all are finite.

    Raises
    ------
    FormatError : NaN or infinite ones, with the first row that has one
    """
    good = np.atleast_1d(np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if not good.all():
        bad = np.flatnonzero(~good)
        raise FormatError(
            f"{len(bad)} of {len(good)} rows of `{place}` have {what} that are NaN, infinite or missing; the first is row "
            f"{bad[0] + 1}. Leave these rows out, or mend them."
        )
    return values


def names_file(path: PathLike) -> Path:
    """Where the names of a list's numbered tomograms are kept: `list_tomograms.doc` beside `list.tbl`."""
    place = Path(path)
    return place.with_name(f"{place.stem}_tomograms.doc")


def read_tomogram_numbers(path: PathLike) -> dict[int, str]:
    """Names of numbered tomograms, from two columns as in Dynamo's `.doc` files: number, file or name.

    Raises
    ------
    InputError : no such file
    FormatError : a line that is not a number and a name
    """
    place = need_file(path)
    names: dict[int, str] = {}
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"`{place}` is not a text of numbers and names: {error}.") from error
    for line in lines:
        parts = line.split(None, 1)
        if not parts:
            continue
        if len(parts) != 2 or not parts[0].isdecimal() or len(parts[0]) > _DIGITS:
            raise FormatError(
                f"`{place}` has the line `{line.strip()[:80]}`; expected a number and the name of a tomogram."
            )
        names[int(parts[0])] = tomogram_name(parts[1])
    return names


def write_tomogram_numbers(path: PathLike, names: Mapping[int, str]) -> None:
    """The inverse of :func:`read_tomogram_numbers`."""
    write_text_atomic(path, "".join(f"{number}\t{name}\n" for number, name in sorted(names.items())))


def numbered_names(path: PathLike, given: Mapping[int, str]) -> dict[int, str]:
    """The names given, or else those of the file beside a list, where there is one."""
    if given or not names_file(path).is_file():
        return dict(given)
    return read_tomogram_numbers(names_file(path))


def number_table(path: Path, delimiter: str | None, columns: int) -> FloatArray:
    """(row, column) of a text file of numbers without header; FormatError where it is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file
            table = np.loadtxt(path, ndmin=2, delimiter=delimiter)
    except ValueError as error:
        why = str(error).split(";")[0].rstrip(".")  # behind it stand words for programmers
        raise FormatError(
            f"`{path}` is not a table of numbers: {why}. Expected as many numbers in every row."
        ) from error
    if table.size and table.shape[1] < columns:
        raise FormatError(f"`{path}` has {table.shape[1]} columns; expected {columns} or more.")
    return np.asarray(table.reshape(-1, max(columns, table.shape[-1])), dtype=np.float64)
