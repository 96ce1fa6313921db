"""Which frames of one continuous movie belong to which tilt: tables, and what SerialEM writes of frame tilt series.

A *frame table* is text, one tilt a line, in the order taken: tilt angle (degrees), first frame, last frame, and perhaps
the dose of these frames together (e/A^2), between blanks, commas or semicolons. Frames count from 1, the last one is
included. A line may hold the angle alone, if all do: then the frames are to be found in the movie. Empty lines, lines
that begin with `#` and a heading are passed over. In Python, and in the project's own tables, frames count from 0 and the
end is the frame after the last.

SerialEM describes a tilt series within one exposure by the mdoc of its movie: one `[FrameSet]` section, then one
`[ZValue]` section a tilt, with `TiltAngle`, `ExposureDose`, `PriorRecordDose` and `FrameTSStartEndFrames`. The latter are
the times at which the beam was opened and shut at the tilt, in frame times from the first opening, rounded [1]_: they
count all frames of the exposure, those too that were not saved because the beam was off (`NumSubFrames` counts the saved
ones). The camera's plug-in lists the saved ones in a text file `<movie>_saved.txt`, a frame number a line.

References
----------
.. [1] SerialEM's source: `WriteFrameSeriesAngles`, and the mdoc of frame stacks in its camera controller;
       https://bio3d.colorado.edu/SerialEM. IMOD's `alignframes -saved -mdoc` reads the same files.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, InputError
from eucentric.io.mdoc import Mdoc
from eucentric.typing import PathLike

_KEY = "FrameTSStartEndFrames"
_SLACK = 2
"""Frames by which a saved one may lie outside of the rounded times of its tilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRange:
    """The frames of one tilt."""

    tilt_deg: float
    frames: tuple[int, int] | None = None
    """First frame, from 0, and the one after the last; None where not said."""
    dose: float | None = None
    """e/A^2 of all these frames."""
    prior_dose: float | None = None
    """e/A^2 before them."""


def read_frame_table(path: PathLike) -> tuple[FrameRange, ...]:
    """Read a frame table.

    Returns
    -------
    tuple of FrameRange : in the order of lines; `frames` counted from 0, or None in all where the table holds angles only

    Raises
    ------
    InputError : no such file
    FormatError : a line that is not of such numbers, a tilt without frames, frames out of order or given twice, or no
        line at all; the message names the line
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"The frame table `{place}` does not exist, or is not a file. Check the name and the folder.")
    found: list[tuple[int, FrameRange]] = []
    for number, raw in enumerate(place.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = [w for w in re.split(r"[\s,;]+", raw.partition("#")[0].strip()) if w]
        if not words:
            continue
        values = _numbers(words)
        if values is None and not found and not any(_numbers([w]) for w in words):
            continue  # a heading
        if values is None or len(values) not in (1, 3, 4):
            raise FormatError(
                f"Line {number} of `{place}` is `{raw.strip()[:60]}`; expected tilt angle, first frame, last frame and "
                "perhaps the dose, or the angle alone. Correct the line."
            )
        found.append((number, _table_row(values, f"Line {number} of `{place}`")))
    if not found:
        raise FormatError(f"`{place}` holds no line with a tilt angle and its frames.")
    if len({row.frames is None for _, row in found}) > 1:
        raise FormatError(
            f"`{place}` gives frames for some tilts and none for others; expected them for all or for none."
        )
    for (_, one), (number, two) in pairwise(sorted(found, key=lambda f: f[1].frames or (0, 0))):
        if one.frames is not None and two.frames is not None and two.frames[0] < one.frames[1]:
            raise FormatError(
                f"Line {number} of `{place}` gives frames {two.frames[0] + 1} to {two.frames[1]} to the tilt at "
                f"{two.tilt_deg:g} degrees; frames up to {one.frames[1]} belong to the one at {one.tilt_deg:g}. "
                "Frames count from 1, the last is included."
            )
    return tuple(row for _, row in found)


def _numbers(words: Sequence[str]) -> list[float] | None:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    return values if all(math.isfinite(v) for v in values) else None


def _table_row(values: Sequence[float], where: str) -> FrameRange:
    if abs(values[0]) > 90.0:
        raise FormatError(f"{where} gives a tilt of {values[0]:g} degrees; expected -90 to 90 in its first column.")
    if len(values) == 1:
        return FrameRange(tilt_deg=values[0])
    first, last = values[1:3]
    if first != int(first) or last != int(last) or first < 1:
        raise FormatError(f"{where} gives the frames {first:g} to {last:g}; expected whole numbers, counted from 1.")
    if last < first:
        raise FormatError(f"{where} gives the tilt at {values[0]:g} degrees no frames: {first:g} to {last:g}.")
    if len(values) == 4 and values[3] < 0:
        raise FormatError(f"{where} gives a dose of {values[3]:g} e/A2; expected zero or more.")
    return FrameRange(
        tilt_deg=values[0], frames=(int(first) - 1, int(last)), dose=values[3] if len(values) == 4 else None
    )


def write_frame_table(path: PathLike, ranges: Sequence[FrameRange]) -> None:
    """Write a frame table.

    Raises
    ------
    InputError : frames are not known for all; or as `eucentric.io.atomic.atomic_path`
    """
    from eucentric.io.atomic import write_text_atomic

    lines = ["# tilt angle, first frame, last frame (from 1), dose"]
    for row in ranges:
        if row.frames is None:
            raise InputError(
                f"The frames of the tilt at {row.tilt_deg:g} degrees are not known; expected those of all."
            )
        dose = "" if row.dose is None else f" {row.dose:.6g}"
        lines.append(f"{row.tilt_deg:.3f} {row.frames[0] + 1} {row.frames[1]}{dose}")
    write_text_atomic(path, "\n".join(lines) + "\n")


def is_frame_series(mdoc: Mdoc) -> bool:
    """Whether an mdoc describes several tilts within one movie."""
    if any(_KEY in s.extra for s in mdoc.sections):
        return True
    tilts = [s for s in mdoc.sections if s.kind == "ZValue" and s.tilt_angle_deg is not None]
    named = {s.movie_name for s in mdoc.sections if s.movie_name is not None}
    sets = [s for s in mdoc.sections if s.kind == "FrameSet"]
    without = sum(s.movie_name is None for s in tilts)
    return len(tilts) > 1 and len(named) == 1 and (len(sets) == 1 or without == 0)


def mdoc_frame_series(mdoc: Mdoc, place: PathLike) -> tuple[FrameRange, ...]:
    """Tilts of a frame tilt series, in the order taken.

    Parameters
    ----------
    mdoc : of which :func:`is_frame_series` holds
    place : its file, for messages

    Returns
    -------
    tuple of FrameRange : `frames` count all frames of the exposure from the first opening of the beam, see above

    Raises
    ------
    FormatError : two numbers were expected, or a tilt ends before it begins
    """
    ranges = []
    for section in mdoc.sections:
        if section.kind != "ZValue" or section.tilt_angle_deg is None:
            continue
        text = section.extra.get(_KEY)
        frames = None
        if text is not None:
            words = _numbers(text.split())
            if words is None or len(words) != 2 or not 0 <= words[0] < words[1]:
                raise FormatError(
                    f"Section {section.label} of `{place}` says `{_KEY} = {text[:40]}`; expected the frames at which the "
                    "tilt begins and ends."
                )
            frames = (int(words[0]), int(words[1]))
        dose = section.exposure_dose or None
        ranges.append(
            FrameRange(tilt_deg=section.tilt_angle_deg, frames=frames, dose=dose, prior_dose=section.prior_record_dose)
        )
    if any(r.frames is None for r in ranges):
        ranges = [replace(r, frames=None) for r in ranges]
    return tuple(ranges)


def read_saved_frames(path: PathLike) -> NDArray[np.int64]:
    """Numbers, within the exposure, of the frames that SerialEM saved: a line each.

    Raises
    ------
    InputError : no such file
    FormatError : a line that is no whole number, or numbers that do not rise
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file.")
    numbers = []
    for number, line in enumerate(place.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        if not re.fullmatch(r"\s*\d{1,15}\s*", line):
            raise FormatError(f"Line {number} of `{place}` is `{line.strip()[:40]}`; expected the number of a frame.")
        numbers.append(int(line))
    if not numbers or any(b <= a for a, b in pairwise(numbers)):
        raise FormatError(
            f"`{place}` does not hold rising numbers of frames. Expected one a line, as SerialEM lists them."
        )
    return np.array(numbers, dtype=np.int64)


def place_in_movie(ranges: Sequence[FrameRange], saved: NDArray[np.int64]) -> tuple[FrameRange, ...]:
    """Frames of a movie of which only some of the exposure's frames were saved.

    Parameters
    ----------
    ranges : as from :func:`mdoc_frame_series`, with frames
    saved : numbers of the saved frames within the exposure, rising; the first belongs to the first tilt

    Returns
    -------
    tuple of FrameRange : the same tilts, `frames` counted in the movie; None for a tilt of which none was saved
    """
    time = saved - saved[0]
    begins = np.array([r.frames[0] for r in ranges if r.frames is not None])
    ends = np.array([r.frames[1] for r in ranges if r.frames is not None])
    # how far each frame lies outside of each tilt; 0 within
    outside = np.maximum(0, np.maximum(begins[None] - time[:, None], time[:, None] - ends[None] + 1))
    nearest = outside.argmin(1)
    owner = np.where(outside.min(1) <= _SLACK, nearest, -1)
    out = []
    for i, one in enumerate(ranges):
        own = np.flatnonzero(owner == i)
        out.append(replace(one, frames=(int(own[0]), int(own[-1]) + 1) if len(own) else None))
    return tuple(out)
