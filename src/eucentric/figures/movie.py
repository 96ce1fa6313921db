"""A tilt series as a moving picture."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eucentric.errors import ShapeError
from eucentric.typing import FloatArray

_QUALITIES = (60, 40, 25, 15, 8)
_LABEL_PX = 15
_SMALLEST_PX = 64
_SAMPLED = 4  # frames that tell the size of all


def stack_movie(
    stack: NDArray[Any],
    tilts_deg: FloatArray | None = None,
    *,
    size_px: int = 256,
    milliseconds: int = 90,
    percentile: float = 1.0,
    most_bytes: int = 1_500_000,
) -> bytes:
    """Images of a stack one after the other, there and back, as an animated WebP that every browser plays.

    Parameters
    ----------
    stack : (tilt, y, x), y up; NaN where an image holds nothing
    tilts_deg : (tilt,), written into each frame
    size_px : of the longer side of the frames; stacks that are smaller stay as they are
    milliseconds : that each frame is shown
    percentile : this many percent of a frame's pixels are darker than black, and as many brighter than white
    most_bytes : frames are compressed, then made smaller, until the movie is no larger than this; none gets below 64 pixels

    Raises
    ------
    ShapeError : not (tilt, y, x), or as many angles
    """
    if stack.ndim != 3 or min(stack.shape) < 1 or (tilts_deg is not None and len(tilts_deg) != len(stack)):
        raise ShapeError(f"A stack of shape {stack.shape} was given; expected (tilt, y, x) and an angle for each tilt.")
    while True:
        frames = [_frame(image, size_px, percentile) for image in stack]
        if tilts_deg is not None:
            for frame, angle in zip(frames, tilts_deg, strict=True):
                _label(frame, f"{angle:+.1f}°")
        movie = _small_movie(frames, milliseconds, most_bytes)
        size_px = int(0.7 * max(frames[0].size))
        if len(movie) <= most_bytes or size_px < _SMALLEST_PX:
            return movie


def _small_movie(frames: list[Image.Image], milliseconds: int, most_bytes: int) -> bytes:
    """Frames there and back, at the best quality that is small enough, or the worst."""
    both_ways = [*frames, *frames[-2:0:-1]]
    sample = frames[:: max(1, len(frames) // _SAMPLED)]
    movie = b""
    for quality in _QUALITIES:
        guess = len(_encoded(sample, quality, milliseconds)) * len(both_ways) / len(sample)
        if guess > most_bytes and quality != _QUALITIES[-1]:
            continue
        movie = _encoded(both_ways, quality, milliseconds)
        if len(movie) <= most_bytes:
            break
    return movie


def _frame(image: NDArray[Any], size_px: int, percentile: float) -> Image.Image:
    values = np.asarray(image, dtype=np.float32)[::-1]  # pictures have their first row at the top
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    picture = Image.fromarray(np.ascontiguousarray(np.where(known, values, middle)))
    shrink = max(values.shape) / size_px
    if shrink > 1.0:
        height, width = (max(1, round(n / shrink)) for n in values.shape)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    small = np.asarray(picture, dtype=np.float32)
    low, high = (float(v) for v in np.percentile(small, (percentile, 100.0 - percentile)))
    grey = np.clip((small - low) / max(high - low, 1e-12), 0.0, 1.0)
    return Image.fromarray(np.round(255.0 * grey).astype(np.uint8)).convert("RGB")


def _label(frame: Image.Image, text: str) -> None:
    font = ImageFont.load_default(size=_LABEL_PX)
    ImageDraw.Draw(frame).text((6, 4), text, fill="white", font=font, stroke_width=2, stroke_fill="black")


def _encoded(frames: list[Image.Image], quality: int, milliseconds: int) -> bytes:
    target = BytesIO()
    frames[0].save(
        target,
        format="WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
        quality=quality,
        method=2,
    )
    return target.getvalue()
