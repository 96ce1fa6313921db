"""Defects of cameras as other programs list them, read as a map (y, x), y up, of a frame's size.

Three kinds are told apart by their content:

- *MotionCor, AreTomo, RELION*: a text of rectangles, `x y width height` a line, counted from 0. y runs as the rows of MRC
  files do, so from below.
- *SerialEM, IMOD*: a text of keywords (`CameraSizeX`, `UsableArea`, `BadColumns`, `BadRows`, `PartialBadColumn`,
  `PartialBadRow`, `BadPixels`). There y runs from the top; IMOD turns it over for its own files, and so does this module. Both
  ends of a range belong to it. The list is taken in the orientation that it is in, which is the frames' (`RotationAndFlip`
  says what had been applied to it).
- *maps*: MRC, TIFF or DigitalMicrograph images, nonzero where a pixel is defective. Rows as in movies of the same type: those of TIFF
  and DM files are turned over.
"""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.dm import read_dm
from eucentric.io.movies import DM_ENDINGS, MRC_ENDINGS, TIFF_ENDINGS, has_ending
from eucentric.io.mrc import read_mrc
from eucentric.io.tiff import read_tiff
from eucentric.typing import PathLike

_KEYWORDS = {
    "CameraSizeX": 1, "CameraSizeY": 1, "RotationAndFlip": 1, "WasScaled": 1, "K2Type": 1, "FalconType": 1, "NumToAvgSuperRes": 1,
    "UsableArea": 4, "PartialBadColumn": 4, "PartialBadRow": 4, "BadPixels": 2, "BadColumns": 1, "BadRows": 1,
}  # fmt: skip
"""The keywords, each with the fewest numbers that follow."""


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """Inclusive first, exclusive last; y from the top or from below as in its file."""

    left: int
    first: int
    right: int
    last: int


def read_defects(path: PathLike, shape: tuple[int, int], *, scale: int | None = None) -> NDArray[np.bool_]:
    """A map of defective pixels, for frames of a given shape.

    A list or map made for pixels twice or four times as large (the camera's own, where the frames are super-resolution) is enlarged,
    and one for smaller pixels is reduced: a pixel is defective where a part of it is.

    Parameters
    ----------
    path : see above
    shape : (y, x) of the frames
    scale : for rectangles, whose file does not say for what size of frame they are: frame pixels along one of the list's
        pixels, 1, 2 or 4; 1 where not given. Other kinds tell it by their own size, and need none.

    Returns
    -------
    (y, x) of `shape`, True where defective, y up

    Raises
    ------
    InputError : no such file, or a scale that does not fit
    ShapeError : made for another camera: the sizes differ by no factor of 2 or 4
    FormatError : a line or a file that is none of the kinds above; the message names the line
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    if has_ending(place, (*TIFF_ENDINGS, *MRC_ENDINGS, *DM_ENDINGS)):
        return _fitted(_read_map(place), shape, scale, place)
    text = place.read_text(encoding="latin-1")
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), 1)]
    lines = [(i, words) for i, words in lines if words and not words[0].startswith("#")]
    if any(words[0] in _KEYWORDS for _, words in lines):
        return _fitted(_serialem_map(lines, place), shape, scale, place)
    return _rectangle_map(lines, shape, 1 if scale is None else scale, place)


def write_defects(path: PathLike, defects: NDArray[np.bool_]) -> None:
    """Write a map (y, x), y up, as rectangles `x y width height`, for MotionCor, AreTomo and RELION.

    Columns that are defective throughout are one rectangle each; what is left is written row by row.

    Raises
    ------
    ShapeError : not an image
    InputError, BackendError : as `eucentric.io.atomic.write_text_atomic`
    """
    mask = np.array(defects, dtype=bool)
    if mask.ndim != 2:
        raise ShapeError(f"A map of defects of shape {mask.shape} was given; expected (y, x).")
    rectangles = [(x, 0, 1, mask.shape[0]) for x in np.flatnonzero(mask.all(0))]
    mask[:, mask.all(0)] = False
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    for (y, first), (_, last) in zip(np.argwhere(edges == 1), np.argwhere(edges == -1), strict=True):
        rectangles.append((first, y, last - first, 1))
    write_text_atomic(path, "".join(f"{x} {y} {w} {h}\n" for x, y, w, h in rectangles))


def _read_map(place: Path) -> NDArray[np.bool_]:
    if has_ending(place, TIFF_ENDINGS):
        images = read_tiff(place)
    else:
        images = (read_mrc(place) if has_ending(place, MRC_ENDINGS) else read_dm(place))[0]
    if len(images) != 1:
        raise ShapeError(f"The map of defects `{place}` holds {len(images)} images; expected one.")
    return np.asarray(images[0], dtype=np.bool_)


def _fitted(mask: NDArray[np.bool_], shape: tuple[int, int], scale: int | None, place: Path) -> NDArray[np.bool_]:
    for times in (1, 2, 4):
        if (mask.shape[0] * times, mask.shape[1] * times) == tuple(shape):
            if scale not in (None, times):
                raise InputError(
                    f"`{place}` is for frames {times} times smaller, and a scale of {scale} was given. Leave it out."
                )
            return np.repeat(np.repeat(mask, times, 0), times, 1)
        if (shape[0] * times, shape[1] * times) == mask.shape and scale is None:
            parts = mask.reshape(shape[0], times, shape[1], times)
            return np.asarray(parts.any((1, 3)), dtype=np.bool_)
    raise ShapeError(
        f"The defects of `{place}` are for {mask.shape[1]} x {mask.shape[0]} pixels and the frames are {shape[1]} x {shape[0]}; "
        "expected the same, or 2 or 4 times as many or as few. Give the defects of this camera."
    )


def _numbers(words: list[str], line: int, place: Path) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError as error:
        raise FormatError(
            f"Line {line} of `{place}` is `{' '.join(words)[:60]}`; expected whole numbers: a rectangle `x y width height`, or a "
            "keyword of SerialEM with its numbers."
        ) from error


def _paint(mask: NDArray[np.bool_], area: _Rectangle, scale: int = 1) -> None:
    height, width = mask.shape
    first, last = max(0, area.first * scale), min(height, area.last * scale)
    left, right = max(0, area.left * scale), min(width, area.right * scale)
    if first < last and left < right:
        mask[first:last, left:right] = True


def _rectangle_map(
    lines: list[tuple[int, list[str]]], shape: tuple[int, int], scale: int, place: Path
) -> NDArray[np.bool_]:
    if scale not in (1, 2, 4):
        raise InputError(f"Defects scaled by {scale} were asked for; expected 1, 2 or 4.")
    mask = np.zeros(shape, dtype=bool)
    outside = 0
    for number, words in lines:
        values = _numbers(words, number, place)
        if len(values) != 4 or values[2] < 0 or values[3] < 0:
            raise FormatError(
                f"Line {number} of `{place}` is `{' '.join(words)[:60]}`; expected four numbers: x y width height of a rectangle."
            )
        x, y, w, h = values
        outside += (x + w) * scale > shape[1] or (y + h) * scale > shape[0] or x < 0 or y < 0
        _paint(mask, _Rectangle(x, y, x + w, y + h), scale)
    if outside and 2 * outside > len(lines):
        raise ShapeError(
            f"{outside} of {len(lines)} rectangles of `{place}` lie outside of frames of {shape[1]} x {shape[0]} pixels; the list is "
            "of another camera or of super-resolution. Give the defects of these frames."
        )
    return mask


def _serialem_map(lines: list[tuple[int, list[str]]], place: Path) -> NDArray[np.bool_]:
    """The map at the size of the list itself, y up."""
    found: dict[str, list[list[int]]] = {}
    for number, words in lines:
        if words[0] not in _KEYWORDS:
            continue  # later versions of SerialEM may add some
        values = _numbers(words[1:], number, place)
        if len(values) < _KEYWORDS[words[0]] or (words[0] == "BadPixels" and len(values) % 2):
            raise FormatError(
                f"Line {number} of `{place}` is `{' '.join(words)[:60]}`; expected {_KEYWORDS[words[0]]} numbers or more after "
                f"{words[0]}."
            )
        found.setdefault(words[0], []).append(values)
    if "CameraSizeX" not in found or "CameraSizeY" not in found:
        raise FormatError(
            f"`{place}` lists defects without CameraSizeX and CameraSizeY; expected both. Save it again in SerialEM."
        )
    width, height = found["CameraSizeX"][0][0], found["CameraSizeY"][0][0]
    if not (1 <= width <= 65536 and 1 <= height <= 65536 and width * height <= 2**27):
        raise FormatError(f"`{place}` says that the camera has {width} x {height} pixels; expected a camera's size.")
    # a list scaled up to super-resolution gives single pixels by their first one
    scaled = found.get("WasScaled", [[0]])[0][0]
    size = 1 if scaled <= 0 else 2 if scaled == 1 else 4
    mask = np.zeros((height, width), dtype=bool)
    top, left, bottom, right = found.get("UsableArea", [[0, 0, 0, 0]])[0][:4]
    bottom, right = bottom or height - 1, right or width - 1
    mask[:top], mask[bottom + 1 :], mask[:, :left], mask[:, right + 1 :] = True, True, True, True
    for x in chain(*found.get("BadColumns", [])):
        _paint(mask, _Rectangle(x, 0, x + 1, height))
    for y in chain(*found.get("BadRows", [])):
        _paint(mask, _Rectangle(0, y, width, y + 1))
    for x, wide, first, last, *_ in found.get("PartialBadColumn", []):
        _paint(mask, _Rectangle(x, first, x + wide, last + 1))
    for y, high, first, last, *_ in found.get("PartialBadRow", []):
        _paint(mask, _Rectangle(first, y, last + 1, y + high))
    pixels = list(chain(*found.get("BadPixels", [])))
    for x, y in zip(pixels[0::2], pixels[1::2], strict=True):
        _paint(mask, _Rectangle(x, y, x + size, y + size))
    return mask[::-1].copy()
