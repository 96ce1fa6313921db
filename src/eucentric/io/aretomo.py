"""Alignments of AreTomo 2 and 3 (`.aln`).

A row puts the specimen centre at ``R(ROT) q + (TX, TY)`` pixels from the middle of the raw image, q being a place in the
aligned image: ROT is rlnTomoZRot, TX and TY are the shift, TILT is rlnTomoYTilt. Pixel k spans k to k + 1 there, so the
middle of n pixels is pixel (n - 1) / 2 (AreTomo3, `GCorrPatchShift.cu`). TILT holds AlphaOffset already.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.typing import FloatArray, PathLike

_COLUMNS = 10
_KERNEL = 100.0  # of the weights exp(-100 (dx^2 + dy^2)), dx and dy in parts of the image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AretomoPatches:
    """Local shifts: patch p of view t is expected at `positions_px` and found `shifts_px` further on."""

    positions_px: FloatArray
    """(view, patch, 2), x and y from the middle of the image, before the shift of the whole view."""
    shifts_px: FloatArray
    """(view, patch, 2)"""
    good: NDArray[np.bool_]
    """(view, patch)"""

    def at(self, view: int, positions_px: FloatArray, image_size: tuple[int, int]) -> FloatArray:
        """Local shifts (place, 2) in pixels at places (place, 2), weighted as AreTomo does; 0 where no patch is good."""
        use = self.good[view]
        if not use.any():
            return np.zeros_like(positions_px)
        away = (positions_px[:, None] - self.positions_px[view][use]) / np.asarray(image_size, dtype=np.float64)
        exponent = -_KERNEL * (away**2).sum(axis=2)
        weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        out: FloatArray = weights @ self.shifts_px[view][use] / weights.sum(axis=1, keepdims=True)
        return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AretomoAlignment:
    """One `.aln` file; rows in the order listed."""

    image_size: tuple[int, int]
    """(x, y) of the raw images."""
    section_count: int
    """Images in the raw stack."""
    sections: NDArray[np.int64]
    """(view,), position in the raw stack, from 0."""
    sections_are_sure: bool
    """False where nothing tells whether the file counts from 0 or 1."""
    axis_deg: FloatArray
    shifts_px: FloatArray
    """(view, 2), x and y."""
    tilts_deg: FloatArray
    magnification: FloatArray
    dark_sections: tuple[int | None, ...] = ()
    """Position of each dark image in the raw stack, from 0; None where the file does not tell."""
    dark_tilts_deg: tuple[float, ...] = ()
    alpha_offset_deg: float = 0.0
    """What `tilts_deg` and `dark_tilts_deg` hold above the angles of the stage."""
    thickness_px: int | None = None
    patches: AretomoPatches | None = None


def _number_list(text: str, path: Path, line: int, kind: str, count: int) -> list[float]:
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise FormatError(f"Line {line} of `{path}` is `{text.strip()[:60]}`; expected {kind}.") from error
    if len(values) < count or not np.isfinite(values).all():
        raise FormatError(f"Line {line} of `{path}` is `{text.strip()[:60]}`; expected {count} numbers: {kind}.")
    return values


@dataclass(kw_only=True)
class _Lines:
    """What the lines of a file hold, by kind."""

    size: list[float] | None = None
    dark: list[list[float]]
    alpha: float | None = None
    thickness: float | None = None
    patch_count: int = 0
    rows: list[list[float]]
    local: list[list[float]]


def _parse(path: Path) -> _Lines:
    found = _Lines(dark=[], rows=[], local=[])
    is_local = False
    for number, raw in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        line = raw.strip()
        if not line:
            continue
        if not line.startswith("#"):
            if is_local:
                kind = "tilt, patch, x, y, dx, dy and whether it is good"
                found.local.append(_number_list(line, path, number, kind, 7))
            else:
                kind = "SEC ROT GMAG TX TY SMEAN SFIT SCALE BASE TILT"
                found.rows.append(_number_list(line, path, number, kind, _COLUMNS))
            continue
        name, _, value = line[1:].partition("=")
        match name.strip():
            case "RawSize":
                found.size = _number_list(value, path, number, "width, height and number of images", 3)
            case "DarkFrame":
                found.dark.append(_number_list(value, path, number, "index, section and angle", 3))
            case "AlphaOffset":
                found.alpha = _number_list(value, path, number, "an angle", 1)[0]
            case "Thickness":
                found.thickness = _number_list(value, path, number, "pixels", 1)[0]
            case "NumPatches":
                found.patch_count = int(_number_list(value, path, number, "a number of patches", 1)[0])
            case "Local Alignment":
                is_local = True
    return found


def _first_section(found: _Lines, count: int) -> tuple[int, bool]:
    """What the file calls the first section, and whether that is sure: AreTomo2 counts from 0, AreTomo3 from 1."""
    sections = [int(row[0]) for row in found.rows]
    dark = [int(row[1]) for row in found.dark]
    if len(set(dark)) == len(dark):  # some versions write 0 for all of them
        sections += dark
    if count in sections:
        return 1, True
    if 0 in sections:
        return 0, True
    return (1 if found.alpha is not None else 0), False


def _patches(found: _Lines, path: Path) -> AretomoPatches | None:
    if not found.local:
        return None
    table = np.array([row[:7] for row in found.local], dtype=np.float64)
    view, patch = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    views, patches = len(found.rows), max(found.patch_count, int(patch.max()) + 1)
    if view.min() < 0 or view.max() >= views or patch.min() < 0:
        raise FormatError(f"`{path}` has local shifts of view {view.max()}, but {views} aligned views (from 0).")
    positions, shifts = np.zeros((views, patches, 2)), np.zeros((views, patches, 2))
    good = np.zeros((views, patches), dtype=np.bool_)
    positions[view, patch], shifts[view, patch] = table[:, 2:4], table[:, 4:6]
    good[view, patch] = table[:, 6] > 0.9
    return AretomoPatches(positions_px=positions, shifts_px=shifts, good=good)


def read_aretomo(path: PathLike) -> AretomoAlignment:
    """An AreTomo alignment.

    Raises
    ------
    InputError : no such file
    FormatError : no size of the stack, no aligned view, a line that is not as expected (the message names it), or
        sections outside the stack
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    found = _parse(place)
    if found.size is None or not found.rows:
        what = "RawSize in its header" if found.size is None else "line of an aligned view"
        raise FormatError(f"`{place}` has no {what}; expected an alignment of AreTomo 2 or 3.")
    width, height, count = (int(n) for n in found.size[:3])
    first, sure = _first_section(found, count)
    table = np.array([row[:_COLUMNS] for row in found.rows], dtype=np.float64)
    sections = table[:, 0].astype(np.int64) - first
    if sections.min() < 0 or sections.max() >= count or len(set(sections.tolist())) < len(sections):
        raise FormatError(
            f"`{place}` aligns sections {int(table[:, 0].min())} to {int(table[:, 0].max())} of a stack of {count} images, "
            "or one of them twice."
        )
    dark = [int(row[1]) - first for row in found.dark]
    dark_known = (
        len(set(dark)) == len(dark) and not set(dark) & set(sections.tolist()) and all(0 <= d < count for d in dark)
    )
    return AretomoAlignment(
        image_size=(width, height),
        section_count=count,
        sections=sections,
        sections_are_sure=sure,
        axis_deg=table[:, 1].copy(),
        magnification=table[:, 2].copy(),
        shifts_px=table[:, 3:5].copy(),
        tilts_deg=table[:, 9].copy(),
        dark_sections=tuple(dark) if dark_known else (None,) * len(dark),
        dark_tilts_deg=tuple(row[2] for row in found.dark),
        alpha_offset_deg=found.alpha or 0.0,
        thickness_px=int(found.thickness) if found.thickness and found.thickness > 0 else None,
        patches=_patches(found, place),
    )
