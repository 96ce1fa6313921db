"""Grey pictures of what is asked for: small ones of tomograms, slices through a particle. y points up."""

from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from eucentric.models.tomogram_frames import TomogramFrame
from eucentric.typing import FloatArray
from eucentric.viewer.volumes import Volume

Plane = Literal["xy", "xz", "yz"]
_THUMBNAIL_PIXELS = 240
_THUMBNAIL_PLANES = 5
_SLICE_ANGSTROM = 40.0
"""Thickness of a slice through a particle: thinner than what is picked, thick enough to see it above the noise."""


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
