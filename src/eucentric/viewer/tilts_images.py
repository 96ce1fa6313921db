"""Tilt images: as the alignment puts them, the tilt axis upright and the same point of the specimen in the middle of each; and what
lies about a particle in each, as recorded.
"""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from eucentric.errors import InputError
from eucentric.geometry.volume_warp import Deformation
from eucentric.io.movies import read_movie
from eucentric.io.mrc import read_mrc
from eucentric.io.warps import read_deformation
from eucentric.models.particle_projection import project_particles
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.typing import FloatArray
from eucentric.viewer.pictures import shrunk
from eucentric.viewer.security import inside_path

MOST_PIXELS = 640
_CUT_OUT_PIXELS = 96
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


def places_in_tilts(root: Path, series: TiltSeries, place_angstrom: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(tilt, 2) pixels x, y of a place in the images of its series, and whether each lies in its image.

    Raises
    ------
    InputError : a series that is not aligned, or a warp outside of the project
    """
    bent = Deformation()
    if series.warp is not None:
        bent = read_deformation(inside_path(root, root / series.warp), series)
    seen = project_particles(place_angstrom[None], series, bent.image, volume=bent.volume)
    return seen.pixels[:, 0], seen.visible[:, 0]


def tilt_cut_out(root: Path, tilt: Tilt, pixel_xy: FloatArray, half_px: float) -> NDArray[np.float32]:
    """A square about a pixel of a tilt's image as it was recorded, shrunk where it is large; NaN outside of the image.

    Raises
    ------
    InputError : no image, or one outside of the project
    """
    image = read_tilt_image(root, tilt)
    half = max(round(half_px), 4)
    x, y = (int(v) for v in np.rint(pixel_xy))
    rows, columns = image.shape
    whole = np.full((2 * half + 1, 2 * half + 1), np.nan, np.float32)
    y0, y1, x0, x1 = max(y - half, 0), min(y + half + 1, rows), max(x - half, 0), min(x + half + 1, columns)
    if y1 > y0 and x1 > x0:
        whole[y0 - y + half : y1 - y + half, x0 - x + half : x1 - x + half] = image[y0:y1, x0:x1]
    return shrunk(whole, _CUT_OUT_PIXELS)


def tilt_limits(image: NDArray[np.float32]) -> tuple[float, float]:
    """Black and white of a tilt image, or of a part of one."""
    known = image[np.isfinite(image)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, _PERCENTILES)
    return float(low), float(high)


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
    low, high = tilt_limits(image)
    grey = np.clip((image - low) / max(high - low, 1e-30), 0.0, 1.0)
    pixels = np.rint(255.0 * np.where(np.isfinite(grey), grey, 0.5)).astype(np.uint8)
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels[::-1]), level=_QUALITY))
