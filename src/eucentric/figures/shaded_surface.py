"""Surfaces of volumes, lit from beside the eye."""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from eucentric.typing import FloatArray

_LIGHT = np.array([0.35, 0.45, 0.82])  # x, y and towards the eye


def shaded_surface(volume: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Brightness where a ray from the end of the first axis meets the level, NaN where none does; and the places met.

    Parameters
    ----------
    volume : (deep, row, column)

    Returns
    -------
    (row, column), 0 to 1, and (3, row, column) deep, row and column of the places
    """
    deep = volume.shape[0]
    inside = volume > level
    first = deep - 1 - inside[::-1].argmax(axis=0)
    hit = inside.any(axis=0)
    rows, columns = np.indices(hit.shape)
    here = volume[first, rows, columns]
    before = volume[np.minimum(first + 1, deep - 1), rows, columns]
    part = np.clip((here - level) / np.maximum(here - before, 1e-12), 0.0, 1.0)
    places = np.stack([first + part, rows.astype(np.float64), columns.astype(np.float64)])
    smooth = gaussian_filter(volume, 1.0)
    slopes = np.stack([map_coordinates(np.asarray(np.gradient(smooth, axis=a)), places, order=1) for a in range(3)])
    normal = -slopes / np.maximum(np.sqrt((slopes**2).sum(axis=0)), 1e-12)
    light = np.clip(normal[2] * _LIGHT[0] + normal[1] * _LIGHT[1] + normal[0] * _LIGHT[2], 0.0, 1.0)
    # what lies deeper is darker
    depth = 0.65 + 0.35 * (places[0] - places[0][hit].min()) / max(np.ptp(places[0][hit]), 1.0) if hit.any() else 1.0
    return np.where(hit, (0.25 + 0.75 * light) * depth, np.nan), places
