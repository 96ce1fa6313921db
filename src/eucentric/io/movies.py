"""Movies and gain references of cameras: (frame, y, x), y up.

TIFF and DigitalMicrograph files store the top row first and are turned over on reading; MRC is taken as stored. A gain
reference follows the rule of its own type, so that it fits the movie pixel by pixel. `.gain` files are TIFF.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.io.dm import read_dm
from eucentric.io.mrc import read_mrc, read_mrc_header
from eucentric.io.tiff import read_tiff, read_tiff_layout, write_tiff
from eucentric.typing import ImageArray, PathLike

TIFF_ENDINGS = (".tif", ".tiff")
MRC_ENDINGS = (".mrc", ".mrcs", ".st", ".map", ".rec", ".ali", ".mrc.gz", ".mrc.bz2")
DM_ENDINGS = (".dm3", ".dm4")
MOVIE_ENDINGS = (*TIFF_ENDINGS, ".mrc", ".mrcs", ".st")


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieHeader:
    """What is known of a movie before its pixels are decoded."""

    frame_count: int
    shape: tuple[int, int]
    """(y, x) of a frame."""
    dtype: np.dtype[Any]
    pixel_size_angstrom: float | None
    """From an MRC header; None for TIFF, whose resolution tags no camera program fills reliably."""


def has_ending(path: PathLike, endings: tuple[str, ...]) -> bool:
    """Whether a file name ends, in any case of letters, with one of `endings`."""
    return Path(path).name.lower().endswith(endings)


def _unknown(path: PathLike, kinds: str) -> FormatError:
    return FormatError(f"`{path}` is of a kind that is not read here; expected {kinds}. Convert it first.")


def movie_header(path: PathLike) -> MovieHeader:
    """Frame count, shape and type of a TIFF or MRC movie, without decoding a pixel.

    Raises
    ------
    InputError : no such file
    FormatError : another format, or a file that ends early: the message says after which frame
    """
    if has_ending(path, TIFF_ENDINGS):
        layout = read_tiff_layout(path)
        return MovieHeader(
            frame_count=layout.page_count, shape=layout.shape, dtype=layout.dtype, pixel_size_angstrom=None
        )
    if has_ending(path, MRC_ENDINGS):
        header = read_mrc_header(path)
        kinds = {0: "u1" if header.unsigned_bytes else "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", 101: "u1"}
        return MovieHeader(
            frame_count=header.shape[0],
            shape=header.shape[1:],
            dtype=np.dtype(kinds[header.mode] if (header.scale, header.offset) == (1.0, 0.0) else "f4"),
            pixel_size_angstrom=header.pixel_size_angstrom,
        )
    raise _unknown(path, "a TIFF or MRC movie")


def read_movie(path: PathLike) -> tuple[NDArray[Any], MovieHeader]:
    """Frames and header of a TIFF or MRC movie.

    Returns
    -------
    frames : (frame, y, x) in the file's number type, y up; for MRC a read-only memory map where possible
    header : as `movie_header`

    Raises
    ------
    InputError : no such file
    FormatError : another format, or a damaged file
    """
    if has_ending(path, TIFF_ENDINGS):
        frames = read_tiff(path)
        header = MovieHeader(
            frame_count=len(frames), shape=frames.shape[1:], dtype=frames.dtype, pixel_size_angstrom=None
        )
        return frames, header
    if has_ending(path, MRC_ENDINGS):
        return read_mrc(path)[0], movie_header(path)
    raise _unknown(path, "a TIFF or MRC movie")


def write_tiff_movie(
    path: PathLike, frames: NDArray[Any], *, compression: str | None = "zlib", bigtiff: bool = False
) -> None:
    """Write a movie as cameras do: top row first, compressed (`zlib` or `lzw`).

    Parameters
    ----------
    path : `.tif` or `.tiff`
    frames : (frame, y, x), y up
    compression, bigtiff : as `eucentric.io.tiff.write_tiff`
    """
    write_tiff(path, frames, compression=compression, bigtiff=bigtiff)


def read_gain(path: PathLike) -> ImageArray:
    """A gain reference (y, x), y up; the frames are to be multiplied by it.

    Parameters
    ----------
    path : MRC, TIFF, `.gain` (TIFF) or DigitalMicrograph (`.dm3`, `.dm4`)

    Raises
    ------
    InputError : no such file
    ShapeError : more than one image
    FormatError : another format, a damaged file, or values that are not numbers
    """
    if has_ending(path, (*TIFF_ENDINGS, ".gain")):
        images = read_tiff(path)
    elif has_ending(path, MRC_ENDINGS):
        images = read_mrc(path)[0]
    elif has_ending(path, DM_ENDINGS):
        images = read_dm(path)[0]
    else:
        raise _unknown(path, "a gain reference as MRC, TIFF, .gain, .dm3 or .dm4")
    if len(images) != 1:
        raise ShapeError(f"The gain reference `{path}` holds {len(images)} images; expected one.")
    gain = np.ascontiguousarray(images[0], dtype=np.float32)
    broken = int(np.count_nonzero(~np.isfinite(gain)))
    if broken:
        raise FormatError(f"The gain reference `{path}` holds {broken:,} values that are not numbers.")
    return gain
