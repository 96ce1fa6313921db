"""IMOD's plain tables: tilt angles (`.tlt`, `.rawtlt`, `.xtilt`) and linear transforms (`.xf`)."""

from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import FloatArray, PathLike


def _rows(path: PathLike) -> list[tuple[int, list[float]]]:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    rows = []
    for number, line in enumerate(place.read_text(encoding="latin-1").splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise FormatError(f"Line {number} of `{place}` is `{line.strip()[:60]}`; expected numbers.") from error
        if not np.all(np.isfinite(values)):
            raise FormatError(f"Line {number} of `{place}` is `{line.strip()[:60]}`; expected finite numbers.")
        rows.append((number, values))
    if not rows:
        raise FormatError(f"`{place}` is empty; expected one line for each view.")
    return rows


def read_angles(path: PathLike) -> FloatArray:
    """Angles in degrees, (view,), of a `.tlt`, `.rawtlt` or `.xtilt` file. Further columns are ignored, as IMOD does.

    Raises
    ------
    InputError : no such file
    FormatError : a line without a number (the message names it), or an empty file
    """
    return np.array([values[0] for _, values in _rows(path)], dtype=np.float64)


def read_angle_table(path: PathLike) -> FloatArray:
    """All columns of an angle file, (view, column): angle, then perhaps acquisition order and dose.

    Errors as `read_angles`, and FormatError for rows of unequal length.
    """
    rows = _rows(path)
    width = len(rows[0][1])
    for number, values in rows:
        if len(values) != width:
            raise FormatError(f"Line {number} of `{path}` has {len(values)} columns; the first has {width}.")
    return np.array([values for _, values in rows], dtype=np.float64)


def write_angles(path: PathLike, angles_deg: FloatArray) -> None:
    """Write one angle a line, with two decimals as IMOD's own programs do.

    Raises
    ------
    ShapeError : not one-dimensional
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if angles.ndim != 1:
        raise ShapeError(f"Angles of shape {angles.shape} were given; expected one for each view.")
    write_text_atomic(path, "".join(f"{angle:7.2f}\n" for angle in angles))


def read_transforms(path: PathLike) -> tuple[FloatArray, FloatArray]:
    """An `.xf` file: x' = A x + d in pixels about the image centre, from the raw to the aligned image.

    Returns
    -------
    matrices : (view, 2, 2), [[A11, A12], [A21, A22]]
    shifts_px : (view, 2), x and y

    Raises
    ------
    InputError : no such file
    FormatError : a line without six numbers (the message names it)
    """
    rows = _rows(path)
    for number, values in rows:
        if len(values) != 6:
            raise FormatError(f"Line {number} of `{path}` has {len(values)} numbers; expected A11 A12 A21 A22 DX DY.")
    table = np.array([values for _, values in rows], dtype=np.float64)
    return table[:, :4].reshape(-1, 2, 2), table[:, 4:]


def write_transforms(path: PathLike, matrices: FloatArray, shifts_px: FloatArray) -> None:
    """Write an `.xf` file in IMOD's columns (7 and 3 decimals); arrays as `read_transforms` returns.

    Raises
    ------
    ShapeError : not (view, 2, 2) and (view, 2)
    """
    linear, shifts = np.asarray(matrices, dtype=np.float64), np.asarray(shifts_px, dtype=np.float64)
    if linear.ndim != 3 or linear.shape[1:] != (2, 2) or shifts.shape != (len(linear), 2):
        raise ShapeError(
            f"Transforms of shape {linear.shape} and {shifts.shape} were given; expected (n, 2, 2) and (n, 2)."
        )
    lines = [
        "".join(f"{a:12.7f}" for a in matrix.ravel()) + "".join(f"{d:12.3f}" for d in shift)
        for matrix, shift in zip(linear, shifts, strict=True)
    ]
    write_text_atomic(path, "".join(line + "\n" for line in lines))
