"""Tilt images as the alignment puts them: the tilt axis upright, the same point of the specimen in the middle of each."""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from eucentric.errors import InputError
from eucentric.io.movies import read_movie
from eucentric.io.mrc import read_mrc
from eucentric.models.tilt_series import Tilt, TiltPose
from eucentric.viewer.pictures import shrunk
from eucentric.viewer.security import inside_path

MOST_PIXELS = 640
_PERCENTILES = (0.5, 99.5)
_QUALITY = 88


def read_tilt_image(root: Path, tilt: Tilt) -> NDArray[np.float32]:
    """(y, x) the image of a tilt.

    Raises
    ------
    InputError : no image, or one outside of the project
    """
    if tilt.image is None:
        raise InputError(f"The tilt at {tilt.nominal_tilt_deg:.1f} degrees has no image yet.")
    number, at, rest = tilt.image.partition("@")
    numbered = bool(at) and number.isdigit()
    path = inside_path(root, root / (rest if numbered else tilt.image))
    stack = read_movie(path)[0] if path.suffix.lower() in (".tif", ".tiff") else read_mrc(path)[0]
    section = int(number) - 1 if numbered else 0
    if section >= len(stack):
        raise InputError(f"`{path.name}` does not hold the image of the tilt at {tilt.nominal_tilt_deg:.1f} degrees.")
    return np.asarray(stack[section], dtype=np.float32)


def aligned_image(
    image: NDArray[np.float32], pose: TiltPose | None, pixel_angstrom: float, most: int = MOST_PIXELS
) -> NDArray[np.float32]:
    """(y, x) an image turned and shifted by its pose, at most so many pixels wide and high; NaN where it shows nothing.

    A point of the specimen at p (A, in the frame of the tilt axis) is seen at Rz(z_rot) p + shift from the image's centre,
    pixel ``n // 2``; the picture has p = 0 at its own pixel ``n // 2`` and its columns along the tilt axis.
    """
    factor = -(-max(image.shape) // most)
    small = shrunk(image, most)
    pixel = pixel_angstrom * factor
    rows, columns = small.shape
    if pose is None:
        return small
    angle = np.radians(pose.z_rot_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = abs(sin) > abs(cos)
    shape = (columns, rows) if turned else (rows, columns)
    # of (y, x): x_image = cos x - sin y + shift, y_image = sin x + cos y + shift
    matrix = np.array([[cos, sin], [-sin, cos]]) * pose.magnification
    shift = np.array([pose.y_shift_angstrom, pose.x_shift_angstrom]) * pose.magnification / pixel
    # block means: the centre of the full image lies at n // 2 of it, between pixels of the small one
    centre = (np.array(image.shape) // 2 - 0.5 * (factor - 1)) / factor
    middle = np.array([n // 2 for n in shape])
    offset = centre + shift - matrix @ middle
    filled = affine_transform(small, matrix, offset=offset, output_shape=shape, order=1, cval=np.nan)
    return np.asarray(filled, np.float32)


def tilt_picture(image: NDArray[np.float32]) -> bytes:
    """A JPEG with rows going up; nothing is middle grey."""
    known = image[np.isfinite(image)]
    low, high = (float(v) for v in np.percentile(known, _PERCENTILES)) if known.size else (0.0, 1.0)
    grey = np.clip((image - low) / max(high - low, 1e-30), 0.0, 1.0)
    pixels = np.rint(255.0 * np.where(np.isfinite(grey), grey, 0.5)).astype(np.uint8)
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[::-1]), level=_QUALITY))
