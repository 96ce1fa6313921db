"""Grey pictures of what is asked for: small ones of tomograms, slices through a particle, its places in tilt images. y points up."""

from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.io.movies import read_movie
from eucentric.io.mrc import read_mrc
from eucentric.io.warps import read_image_warp
from eucentric.models.particle_projection import project_particles
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.typing import FloatArray
from eucentric.viewer.security import inside_path
from eucentric.viewer.volumes import Volume

Plane = Literal["xy", "xz", "yz"]
_THUMBNAIL_PIXELS = 240
_THUMBNAIL_PLANES = 5
_CUT_OUT_PIXELS = 96
_SLICE_ANGSTROM = 40.0
"""Thickness of a slice through a particle: thinner than what is picked, thick enough to see it above the noise."""
_TILT_PERCENTILES = (0.5, 99.5)


def grey_png(image: NDArray[np.float32], limits: tuple[float, float]) -> bytes:
    """A picture of an array (y, x); what is no number, such as what lies outside, is middle grey."""
    low, high = limits
    grey = np.clip((image.astype(np.float64) - low) / max(high - low, 1e-30), 0.0, 1.0)
    pixels = np.rint(255.0 * np.where(np.isfinite(grey), grey, 0.5)).astype(np.uint8)
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels[::-1])))


def shrunk(image: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Means of square blocks, so that no side is longer; a rest at the end is left out."""
    factor = -(-max(image.shape) // most)
    rows, columns = (max(n // factor, 1) for n in image.shape)
    held = image[: rows * factor, : columns * factor]
    if held.shape != (rows * factor, columns * factor):  # narrower than one block
        return image
    return np.asarray(held.reshape(rows, factor, columns, factor).mean(axis=(1, 3)), np.float32)


def thumbnail(volume: Volume) -> bytes:
    """The middle planes of a volume, small."""
    depth = volume.levels[0].shape_zyx[0]
    middle = range(max(depth // 2 - _THUMBNAIL_PLANES // 2, 0), min(depth // 2 + _THUMBNAIL_PLANES // 2 + 1, depth))
    small = shrunk(np.mean([volume.plane(0, z) for z in middle], axis=0, dtype=np.float32), _THUMBNAIL_PIXELS)
    low, high = (float(v) for v in np.percentile(small[np.isfinite(small)], (0.5, 99.5)))
    return grey_png(small, (low, high))


def frame_of(volume: Volume) -> TomogramFrame:
    """Its grid."""
    level = volume.levels[0]
    z, y, x = level.shape_zyx
    return TomogramFrame(voxel_size_angstrom=level.voxel_zyx_angstrom[0], size_xyz=(x, y, z))


def slice_through(
    volume: Volume, place_angstrom: FloatArray, half_angstrom: float, plane: Plane
) -> NDArray[np.float32]:
    """A square slice (2 h + 1, 2 h + 1) whose middle is the voxel of a place; rows go along the second axis of the plane's name.

    Parameters
    ----------
    place_angstrom : (3,) x, y, z from the specimen centre
    half_angstrom : from the middle to the edge

    Returns
    -------
    means over 40 A, or one plane of larger voxels; NaN outside of the volume
    """
    level = volume.levels[0]
    x, y, z = np.rint(frame_of(volume).to_index(place_angstrom[None])[0]).astype(int).tolist()
    half = max(int(np.ceil(half_angstrom / level.voxel_zyx_angstrom[0])), 4)
    thin = int(0.5 * _SLICE_ANGSTROM / level.voxel_zyx_angstrom[0])
    across = {"xy": 0, "xz": 1, "yz": 2}[plane]
    widths = [thin if axis == across else half for axis in range(3)]
    low = [n - w for n, w in zip((z, y, x), widths, strict=True)]
    high = [n + w + 1 for n, w in zip((z, y, x), widths, strict=True)]
    box = volume.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    size = [2 * w + 1 for axis, w in enumerate(widths) if axis != across]
    whole = np.full(size, np.nan, np.float32)
    if box.size:
        starts = [max(-a, 0) for axis, a in enumerate(low) if axis != across]
        mean = box.mean(axis=across)
        whole[starts[0] : starts[0] + mean.shape[0], starts[1] : starts[1] + mean.shape[1]] = mean
    return whole


def places_in_tilts(root: Path, series: TiltSeries, place_angstrom: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """(tilt, 2) pixels x, y of a place in the images of its series, and whether each lies in its image.

    Raises
    ------
    InputError : a series that is not aligned, or a warp outside of the project
    """
    warp = None
    if series.warp is not None:
        warp = read_image_warp(inside_path(root, root / series.warp), [t.acquisition for t in series.tilts])
    seen = project_particles(place_angstrom[None], series, warp)
    return seen.pixels[:, 0], seen.visible[:, 0]


def tilt_cut_out(root: Path, tilt: Tilt, pixel_xy: FloatArray, half_px: float) -> NDArray[np.float32]:
    """A square about a pixel of a tilt's image, shrunk where it is large.

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
    half = max(round(half_px), 4)
    x, y = (int(v) for v in np.rint(pixel_xy))
    rows, columns = stack.shape[1:]
    whole = np.full((2 * half + 1, 2 * half + 1), np.nan, np.float32)
    y0, y1, x0, x1 = max(y - half, 0), min(y + half + 1, rows), max(x - half, 0), min(x + half + 1, columns)
    if y1 > y0 and x1 > x0:
        whole[y0 - y + half : y1 - y + half, x0 - x + half : x1 - x + half] = stack[section, y0:y1, x0:x1]
    return shrunk(whole, _CUT_OUT_PIXELS)


def tilt_limits(image: NDArray[np.float32]) -> tuple[float, float]:
    """Black and white of a cut-out."""
    known = image[np.isfinite(image)]
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, _TILT_PERCENTILES)
    return float(low), float(high)
