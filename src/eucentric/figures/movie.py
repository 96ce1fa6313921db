"""Images of a tilt series, or layers of a tomogram, for a slider."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eucentric.errors import ShapeError

_QUALITIES = (60, 40, 25, 15, 8)
_SMALLEST_PX = 64
_SAMPLED = 4  # frames that tell the size of all


def stack_frames(
    stack: NDArray[Any], *, size_px: int = 256, percentile: float = 1.0, most_bytes: int = 250_000, shared: bool = False
) -> list[bytes]:
    """Images of a stack as WebP, all of one size.

    Parameters
    ----------
    stack : (image, y, x), y up; NaN where an image holds nothing
    size_px : of the longer side; images that are smaller stay as they are
    percentile : this many percent of the pixels are darker than black, and as many brighter than white
    most_bytes : of all together; images are compressed, then made smaller, until they are no larger, but none below 64 pixels
    shared : grey values mean the same in all images

    Raises
    ------
    ShapeError : not (image, y, x)
    """
    if stack.ndim != 3 or min(stack.shape) < 1:
        raise ShapeError(f"A stack of shape {stack.shape} was given; expected (image, y, x).")
    while True:
        small = [_shrunk(image, size_px) for image in stack]
        window = _window(np.stack(small), percentile) if shared else None
        images = [_grey(image, window or _window(image, percentile)) for image in small]
        frames: list[bytes] = []
        for quality in _QUALITIES:
            sample = [len(_still(image, quality)) for image in images[:: max(1, len(images) // _SAMPLED)]]
            if np.mean(sample) * len(images) > most_bytes and quality != _QUALITIES[-1]:
                continue
            frames = [_still(image, quality) for image in images]
            if sum(map(len, frames)) <= most_bytes:
                return frames
        size_px = int(0.7 * max(small[0].shape))
        if size_px < _SMALLEST_PX:
            return frames


def _still(image: Image.Image, quality: int) -> bytes:
    target = BytesIO()
    image.save(target, format="WEBP", quality=quality, method=2)
    return target.getvalue()


def _shrunk(image: NDArray[Any], size_px: int) -> NDArray[np.float32]:
    """Means over boxes, the first row at the top as pictures have it; what is not known has the median."""
    values = np.asarray(image, dtype=np.float32)[::-1]
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    picture = Image.fromarray(np.ascontiguousarray(np.where(known, values, middle)))
    shrink = max(values.shape) / size_px
    if shrink > 1.0:
        height, width = (max(1, round(n / shrink)) for n in values.shape)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float32)


def _window(values: NDArray[np.float32], percentile: float) -> tuple[float, float]:
    low, high = np.percentile(values, (percentile, 100.0 - percentile))
    return float(low), float(high)


def _grey(values: NDArray[np.float32], window: tuple[float, float]) -> Image.Image:
    low, high = window
    grey = np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
    return Image.fromarray(np.round(255.0 * grey).astype(np.uint8))
