"""Alignments of AreTomo 2 and 3 (`.aln`).

A row puts the specimen centre at ``R(ROT) q + (TX, TY)`` pixels from the middle of the raw image, q being a place in the
aligned image: ROT is rlnTomoZRot, TX and TY are the shift, TILT is rlnTomoYTilt. Pixel k spans k to k + 1 there, so the
middle of n pixels is pixel (n - 1) / 2 (AreTomo3, `GCorrPatchShift.cu`). TILT holds AlphaOffset already.

SEC is the section of the raw stack. AreTomo2 counts it from 0 (`CAlignParam::Create` fills 0, 1, 2...; the file in AreTomo2's
issue 11 begins at 7 behind darks 0 to 6), AreTomo3 from 1: its `CLoadAlignFile::mToOneBased` turns older files into that, which
it knows by a 0 among the sections or by a dark image whose index (from 0) is its section. RELION-5 (`align_tiltseries_runner.cpp`)
takes SEC for an index from 0. So a file with section 0 counts from 0, one with a section of the number of images from 1; where
both were dark, their sections tell, and else AlphaOffset does, which AreTomo2 does not write.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.typing import FloatArray, PathLike

_MOST_PATCHES = 10_000
_MOST = 1e12  # larger numbers are damage
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
    if len(values) < count or not all(abs(value) < _MOST for value in values):
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
    if count in sections:
        return 1, True
    if 0 in sections:
        return 0, True
    every = sorted(sections + dark)
    if len(every) != count:
        return (1 if found.alpha is not None else 0), False
    if every == list(range(1, count + 1)):
        return 1, True
    # some versions of AreTomo3 write 0 for the section of any dark image
    if every == list(range(count)) and not (found.alpha is not None and found.dark[0][0] > 0):
        return 0, True
    return (1 if found.alpha is not None else 0), False


def _patches(found: _Lines, path: Path) -> AretomoPatches | None:
    if not found.local:
        return None
    table = np.array([row[:7] for row in found.local], dtype=np.float64)
    view, patch = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    views, patches = len(found.rows), max(found.patch_count, int(patch.max()) + 1)
    if patches > _MOST_PATCHES:
        raise FormatError(f"`{path}` has {patches} patches; expected some hundreds at most.")
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
    if min(width, height, count) < 1:
        raise FormatError(f"`{place}` has a RawSize of {width} x {height} x {count}; expected positive numbers.")
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


def write_aretomo(path: PathLike, alignment: AretomoAlignment, dark_index: tuple[int, ...] = ()) -> None:
    """Write as AreTomo3 does: sections from 1, darks with their index by ascending angle (from 0) and their section.

    Angles get four decimals where AreTomo3 has two.

    Parameters
    ----------
    dark_index : of each dark image among all by ascending angle, from 0

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    x, y = alignment.image_size
    patches = alignment.patches
    lines = [
        "# AreTomo Alignment / Priims bprmMn",
        f"# RawSize = {x} {y} {alignment.section_count}",
        f"# NumPatches = {0 if patches is None else patches.good.shape[1]}",
    ]
    for index, section, tilt in zip(dark_index, alignment.dark_sections, alignment.dark_tilts_deg, strict=True):
        lines.append(f"# DarkFrame =  {index:4d} {index + 1 if section is None else section + 1:4d} {tilt:8.2f}")
    lines += [f"# AlphaOffset = {alignment.alpha_offset_deg:8.2f}", "# BetaOffset =     0.00"]
    lines.append(f"# Thickness = {alignment.thickness_px or 0}")
    lines.append("# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT")
    for i, section in enumerate(alignment.sections.tolist()):
        tx, ty = alignment.shifts_px[i]
        lines.append(
            f"{section + 1:5d}  {alignment.axis_deg[i]:9.4f}  {1.0:9.5f}  {tx:9.3f}  {ty:9.3f}  {1.0:7.2f}  {1.0:7.2f}  {1.0:7.2f}  "
            f"{0.0:7.2f}  {alignment.tilts_deg[i]:10.4f}"
        )
    if patches is not None:
        lines.append("# Local Alignment")
        for t in range(len(patches.good)):
            for p, good in enumerate(patches.good[t]):
                (px, py), (dx, dy) = patches.positions_px[t, p], patches.shifts_px[t, p]
                lines.append(f"{t:4d} {p:3d} {px:8.2f}  {py:8.2f}  {dx:8.2f}  {dy:8.2f}  {float(good):4.1f}")
    write_text_atomic(path, "\n".join(lines) + "\n")


def patches_of(
    displacement_px: FloatArray,
    places_px: FloatArray,
    view_shifts_px: FloatArray,
    image_size: tuple[int, int],
    count: tuple[int, int],
) -> AretomoPatches:
    """Patches on an even grid whose weighted shifts come nearest to a displacement field.

    Parameters
    ----------
    displacement_px : (view, place, 2)
    places_px : (place, 2), x and y from the middle of the image
    view_shifts_px : (view, 2), of the whole images
    image_size : (x, y)
    count : patches along (x, y)
    """
    axes = [(np.arange(n) + 0.5) / n * size - size / 2 for n, size in zip(count, image_size, strict=True)]
    centres = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2).round(2)
    away = (places_px[:, None] - centres) / np.asarray(image_size, dtype=np.float64)
    weights = np.exp(-_KERNEL * (away**2).sum(axis=2))
    weights /= weights.sum(axis=1, keepdims=True)
    views, places = displacement_px.shape[:2]
    found = np.linalg.lstsq(weights, np.moveaxis(displacement_px, 0, 1).reshape(places, -1), rcond=1e-3)[0]
    return AretomoPatches(
        positions_px=centres - view_shifts_px[:, None],
        shifts_px=np.moveaxis(found.reshape(len(centres), views, 2), 0, 1),
        good=np.ones((views, len(centres)), dtype=np.bool_),
    )
