"""Input that cannot be used is refused in words before any work."""

import math

import numpy as np
import torch
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.typing import FloatArray


def check_series(
    images: Tensor,
    geometry: TiltGeometry,
    pixel_size: float,
    hand: float,
    nominal_defocus_angstrom: FloatArray | None,
    order: FloatArray,
) -> None:
    """Refuse a series whose parts do not fit together, or whose pixels are no numbers."""
    if images.ndim != 3 or len(images) != len(geometry) or len(images) == 0:
        raise ShapeError(
            f"The images have shape {tuple(images.shape)} and the geometry has {len(geometry)} tilts; expected "
            "(tilt, y, x) with as many tilts."
        )
    if nominal_defocus_angstrom is not None and np.shape(nominal_defocus_angstrom) != (len(images),):
        raise ShapeError(
            f"The nominal defocus has shape {np.shape(nominal_defocus_angstrom)}; expected one number for each "
            f"of {len(images)} tilts."
        )
    if order.shape != (len(images),) or not bool(np.isfinite(order).all()):
        raise ShapeError(
            f"The order of acquisition has shape {order.shape}; expected one number for each of {len(images)} tilts."
        )
    if hand not in (1.0, -1.0):
        raise InputError(f"The hand is {hand:g}; expected 1 or -1.")
    check_pixels(images, pixel_size, "tilt")


def check_pixels(images: Tensor, pixel_size: float, word: str) -> None:
    """Refuse pixels that are no numbers, and a pixel size that is none.

    Parameters
    ----------
    images : (image, y, x)
    word : what each is an image of, such as "tilt"; empty where there is but one
    """
    if not (math.isfinite(pixel_size) and pixel_size > 0):
        raise InputError(f"The pixel size is {pixel_size:g} A; expected a positive number.")
    for index, image in enumerate(images):
        if not bool(torch.isfinite(image.sum(dtype=torch.float64))):
            which = f"The image of {word} {index + 1}" if word else "The image"
            raise InputError(
                f"{which} holds values that are not finite (NaN or infinity). Replace them, or exclude the image."
            )


def nominal_median(nominal_defocus_angstrom: FloatArray | None) -> float | None:
    """Median of what is known of the nominal defocus."""
    if nominal_defocus_angstrom is None:
        return None
    known = np.asarray(nominal_defocus_angstrom, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    return float(np.median(known)) if len(known) else None
