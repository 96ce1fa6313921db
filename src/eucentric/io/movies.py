"""Movies and gain references of cameras: (frame, y, x), y up.

TIFF, EER and DigitalMicrograph files store the top row first and are turned over on reading; MRC is taken as stored. A
gain reference follows the rule of its own type, so that it fits the movie pixel by pixel. `.gain` files are TIFF.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.io.dm import read_dm
from eucentric.io.eer import EerFrames, EerMetadata, EerRendering
from eucentric.io.mrc import read_mrc
from eucentric.io.mrc_frames import MrcFrames
from eucentric.io.tiff import TiffFrames, read_tiff, write_tiff
from eucentric.typing import ImageArray, PathLike

TIFF_ENDINGS = (".tif", ".tiff")
EER_ENDINGS = (".eer",)
_PACKINGS = ("", ".gz", ".bz2")
_MRC_MOVIE_ENDINGS = tuple(ending + packing for packing in _PACKINGS for ending in (".mrc", ".mrcs", ".st"))
MRC_ENDINGS = (
    *_MRC_MOVIE_ENDINGS,
    *(ending + packing for packing in _PACKINGS for ending in (".map", ".rec", ".ali")),
)
DM_ENDINGS = (".dm3", ".dm4")
MOVIE_ENDINGS = (*TIFF_ENDINGS, *_MRC_MOVIE_ENDINGS, *EER_ENDINGS)
_KINDS = "a TIFF, MRC or EER movie"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieHeader:
    """What is known of a movie before its pixels are decoded."""

    frame_count: int
    """Of an EER movie: fractions."""
    shape: tuple[int, int]
    """(y, x) of a frame; of an EER movie on the grid it is counted on."""
    dtype: np.dtype[Any]
    pixel_size_angstrom: float | None
    """Of `shape`, from an MRC or EER header; None for TIFF, whose resolution tags no camera program fills reliably."""
    dose_per_frame: float | None = None
    """e/A2 of a frame, where an EER file says it or it was given."""
    sensor_frame_count: int | None = None
    """Of an EER movie: frames of the sensor that have data."""
    eer: EerMetadata | None = None
    notes: tuple[str, ...] = ()
    """What of the file is not in the movie, to be told to the user."""


def has_ending(path: PathLike, endings: tuple[str, ...]) -> bool:
    """Whether a file name ends, in any case of letters, with one of `endings`."""
    return Path(path).name.lower().endswith(endings)


def _unknown(path: PathLike, kinds: str) -> FormatError:
    return FormatError(f"`{path}` is of a kind that is not read here; expected {kinds}. Convert it first.")


class _Frames(Protocol):
    def read(self, start: int, stop: int) -> NDArray[Any]: ...

    def close(self) -> None: ...


class Movie:
    """An open movie; made by `open_movie`. Holds no more frames than are asked for."""

    def __init__(self, path: Path, frames: _Frames, header: MovieHeader) -> None:
        self._path, self._frames = path, frames
        self.header = header

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Frames `start` to `stop` (without it), counted from 0.

        Returns
        -------
        (frame, y, x) in the number type of the header, y up; an array of its own

        Raises
        ------
        ShapeError : frames that the movie does not have
        FormatError : a frame that is damaged or missing; the message says which
        InputError : the file is gone
        """
        if not 0 <= start < stop <= self.header.frame_count:
            raise ShapeError(
                f"Frames {start} to {stop} of `{self._path}` were asked for, which has {self.header.frame_count}."
            )
        return self._frames.read(start, stop)

    def blocks(self, count: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """All frames, `count` at a time, each block read while the one before is worked on: two are held at a time.

        Yields
        ------
        start, frames : number of the first frame of the block, and what `read` gives

        Raises
        ------
        ShapeError : `count` below 1
        FormatError, InputError : as `read`
        """
        if count < 1:
            raise ShapeError(f"`{self._path}` was to be read in blocks of {count} frames; expected at least 1.")
        total = self.header.frame_count
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.read, 0, min(count, total))
            for start in range(0, total, count):
                frames = coming.result()
                after = start + count
                if after < total:
                    coming = ahead.submit(self.read, after, min(after + count, total))
                yield start, frames
                del frames


def open_movie(path: PathLike, *, eer: EerRendering | None = None, threads: int = 2) -> Movie:
    """Open a TIFF, MRC or EER movie, to read it in parts.

    Parameters
    ----------
    path : `.tif`, `.tiff`; `.mrc`, `.mrcs`, `.st`, also packed as `.gz` or `.bz2`; `.eer`
    eer : how the electrons of an EER movie are summed to frames; other movies have theirs
    threads : TIFF or EER frames decoded at a time

    Returns
    -------
    Movie : to be used with `with`

    Raises
    ------
    InputError : no such file, or an EER rendering that does not suit it
    FormatError : another format, or a file that ends early: the message says after which frame. A packed MRC file tells
        that only when the missing frame is read

    Examples
    --------
    >>> with open_movie("tilt.eer", eer=EerRendering(dose_per_fraction=0.5)) as movie:  # doctest: +SKIP
    ...     for start, frames in movie.blocks(2):
    ...         total += frames.sum(axis=0)
    """
    place = Path(path)
    if has_ending(place, TIFF_ENDINGS):
        tiff = TiffFrames(place, threads=threads)
        layout = tiff.layout
        header = MovieHeader(
            frame_count=layout.page_count, shape=layout.shape, dtype=layout.dtype, pixel_size_angstrom=None
        )
        return Movie(place, tiff, header)
    if has_ending(place, MRC_ENDINGS):
        mrc = MrcFrames(place)
        header = MovieHeader(
            frame_count=mrc.frame_count, shape=mrc.shape, dtype=mrc.dtype, pixel_size_angstrom=mrc.pixel_size_angstrom
        )
        return Movie(place, mrc, header)
    if has_ending(place, EER_ENDINGS):
        events = EerFrames(place, eer, threads=threads)
        header = MovieHeader(
            frame_count=events.frame_count,
            shape=events.shape,
            dtype=events.dtype,
            pixel_size_angstrom=events.pixel_size_angstrom,
            dose_per_frame=events.dose_per_frame,
            sensor_frame_count=events.sensor_frame_count,
            eer=events.metadata,
            notes=events.notes,
        )
        return Movie(place, events, header)
    raise _unknown(path, _KINDS)


def movie_header(path: PathLike, *, eer: EerRendering | None = None) -> MovieHeader:
    """Frame count, shape and type of a movie, without decoding a pixel. Parameters and errors as `open_movie`."""
    with open_movie(path, eer=eer) as movie:
        return movie.header


def read_movie(path: PathLike, *, eer: EerRendering | None = None) -> tuple[NDArray[Any], MovieHeader]:
    """All frames and the header of a movie; parameters and errors as `open_movie` and `Movie.read`.

    Returns
    -------
    frames : (frame, y, x), y up
    header : as `movie_header`
    """
    with open_movie(path, eer=eer) as movie:
        return movie.read(0, movie.header.frame_count), movie.header


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
    """A gain reference (y, x), y up, as stored.

    Frames are to be multiplied by it. The exception is a reference for EER movies that is no `.gain` file: RELION divides
    by such a one. In references for EER, 0 marks a defect [1]_.

    Parameters
    ----------
    path : MRC, TIFF, `.gain` (TIFF) or DigitalMicrograph (`.dm3`, `.dm4`)

    Raises
    ------
    InputError : no such file
    ShapeError : more than one image
    FormatError : another format, a damaged file, or values that are not numbers

    References
    ----------
    .. [1] RELION: Movie Compression, https://relion.readthedocs.io/en/latest/Reference/MovieCompression.html, and its
       `EERRenderer::loadEERGain`
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
