"""IMOD's text files: tilt angles (`.tlt`, `.rawtlt`, `.xtilt`), linear transforms (`.xf`) and `tilt.com`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import FloatArray, PathLike

_MOST_VIEWS = 100_000  # of a series: a larger number is a damaged file
_MOST_PIXELS = 1e7

_MOST = 1e9  # larger numbers of degrees and pixels are damage


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


def write_angles(path: PathLike, angles_deg: FloatArray, *, decimals: int = 2) -> None:
    """Write one angle a line, with two decimals as IMOD's own programs do where not told otherwise.

    Raises
    ------
    ShapeError : not one-dimensional
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if angles.ndim != 1:
        raise ShapeError(f"Angles of shape {angles.shape} were given; expected one for each view.")
    write_text_atomic(path, "".join(f"{angle:{5 + decimals}.{decimals}f}\n" for angle in angles))


def read_transforms(path: PathLike) -> tuple[FloatArray, FloatArray]:
    """An `.xf` file: x' = A x + d in pixels about the middle of the image, from the raw to the aligned image.

    The middle of n pixels is (n - 1) / 2, counted from 0: half a pixel beside our centre where n is even.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class TiltCommand:
    """What `tilt.com` adds to the alignment of an IMOD data set. Lengths in pixels of the unbinned stack."""

    angle_offset_deg: float = 0.0
    """OFFSET, added to every angle."""
    axis_offset_px: float = 0.0
    """Second value of OFFSET: where the tilt axis lies beside the middle of the aligned images."""
    x_axis_tilt_deg: float = 0.0
    """XAXISTILT: the reconstruction is turned by this about x; the specimen's x-tilt is minus this."""
    shift_x_px: float = 0.0
    shift_z_px: float = 0.0
    """SHIFT, x and z."""
    excluded: tuple[int, ...] = ()
    """EXCLUDELIST and EXCLUDELIST2, views from 0."""
    binning: int = 1
    """IMAGEBINNED"""
    full_image: tuple[int, int] | None = None
    """FULLIMAGE, x and y."""
    thickness_px: int | None = None
    """THICKNESS of the reconstruction, not of the specimen."""
    tilt_file: str | None = None
    x_tilt_file: str | None = None
    local_file: str | None = None
    """LOCALFILE, with the local alignment."""
    local_scale: float | None = None
    """LOCALSCALE"""
    has_z_factors: bool = False

    @property
    def has_local(self) -> bool:
        """Whether a local alignment is in a file of its own."""
        return self.local_file is not None


def _view_list(text: str, path: Path) -> list[int]:
    """Views of a list such as `1-3,7`, counted from 1 there and from 0 here."""
    views: list[int] = []
    for part in text.replace(",", " ").split():
        ends = part.split("-")
        try:
            first, last = int(ends[0]), int(ends[-1])
        except ValueError as error:
            raise FormatError(f"`{path}` lists views as `{text[:60]}`; expected numbers such as 1-3,7.") from error
        if not 1 <= first <= last <= _MOST_VIEWS or len(ends) > 2:
            raise FormatError(f"`{path}` lists views as `{text[:60]}`; expected numbers from 1 such as 1-3,7.")
        views += range(first - 1, last)
    return views


def read_tilt_command(path: PathLike) -> TiltCommand:
    """The entries of a `tilt.com` that change the geometry; others are passed over.

    Raises
    ------
    InputError : no such file
    FormatError : not a command file of `tilt`, or a value that is no number
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    entries: dict[str, str] = {}
    excluded: list[int] = []
    is_tilt = False
    for raw in place.read_text(encoding="latin-1").splitlines():
        line = raw.strip()
        if line.startswith("$"):
            is_tilt = is_tilt or line[1:].split()[:1] == ["tilt"]
            continue
        name, value = [*line.split(None, 1), "", ""][:2]
        if not name or name.startswith("#"):
            continue
        if name.upper().startswith("EXCLUDE"):
            excluded += _view_list(value, place)
        entries[name.upper()] = value.strip()
    if not is_tilt:
        raise FormatError(f"`{place}` does not run `tilt`; expected IMOD's tilt.com.")

    def numbers(name: str, count: int) -> list[float]:
        words = entries.get(name, "").replace(",", " ").split()[:count]
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise FormatError(f"`{place}` has `{entries[name][:60]}` for {name}; expected numbers.") from error
        if not all(abs(value) < _MOST for value in values):
            raise FormatError(f"`{place}` has `{entries[name][:60]}` for {name}; expected numbers of a usual size.")
        return values + [0.0] * (count - len(values))

    offset, shift, full = numbers("OFFSET", 2), numbers("SHIFT", 2), numbers("FULLIMAGE", 2)
    return TiltCommand(
        angle_offset_deg=offset[0],
        axis_offset_px=offset[1],
        x_axis_tilt_deg=numbers("XAXISTILT", 1)[0],
        shift_x_px=shift[0],
        shift_z_px=shift[1],
        excluded=tuple(sorted(set(excluded))),
        binning=max(1, int(numbers("IMAGEBINNED", 1)[0])),
        full_image=(int(full[0]), int(full[1])) if min(full) > 0 else None,
        thickness_px=int(numbers("THICKNESS", 1)[0]) or None,
        tilt_file=entries.get("TILTFILE"),
        x_tilt_file=entries.get("XTILTFILE"),
        local_file=entries.get("LOCALFILE"),
        local_scale=numbers("LOCALSCALE", 1)[0] or None,
        has_z_factors="ZFACTORFILE" in entries,
    )
