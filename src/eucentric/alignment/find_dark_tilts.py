"""Tilts that show a grid bar, ice, or nothing."""

import math

import numpy as np
import torch.nn.functional as functional
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import ShapeError

_TILES = 8
_ROUNDS = 20


def find_dark_tilts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    doses: ArrayLike | None = None,
    dark_fraction: float,
    dark_area: float,
) -> dict[int, str]:
    """Positions of tilts of which too much is dark, with the reason in words.

    The intensity expected at each tilt follows Lambert's law, ``ln I = a - b / cos(tilt)``, fitted robustly to the medians of the
    images, so that a blocked image is judged by its neighbours and a thick specimen is not taken for a blocked one.

    Parameters
    ----------
    images : (tilt, y, x), not normalised
    doses : (tilt,), e/A^2 of each image; equal where None
    dark_fraction : a tile is dark below this part of the expected intensity
    dark_area : a tilt is rejected when more than this part of its tiles is dark
    """
    angles = np.asarray(tilt_angles_deg, dtype=np.float64)
    count = len(images)
    dose = np.ones(count) if doses is None else np.asarray(doses, dtype=np.float64)
    if angles.shape != (count,) or dose.shape != (count,):
        raise ShapeError(
            f"{count} images, {angles.size} angles and {dose.size} doses were given; expected one of each."
        )
    dose = np.where(dose > 0, dose, 1.0)
    tiles = functional.adaptive_avg_pool2d(images[:, None].float(), _TILES).reshape(count, -1).double().cpu().numpy()
    tiles = tiles / dose[:, None]
    if count < 3 or float(tiles.mean()) <= 0 or float(np.quantile(tiles, 0.1)) < -0.1 * float(tiles.mean()):
        return {}  # a normalised stack: its mean tells nothing about intensity
    expected = _expected_intensity(np.median(tiles, axis=1), angles, dark_fraction)
    dark = (tiles < dark_fraction * expected[:, None]).mean(1)
    level = tiles.mean(1) / expected
    return {
        i: f"dark: {dark[i]:.0%} of the image is below {dark_fraction:.0%} of the expected intensity, "
        f"its mean is {level[i]:.0%} of it"
        for i in range(count)
        if dark[i] > dark_area
    }


def _expected_intensity(medians: np.ndarray, angles: np.ndarray, dark_fraction: float) -> np.ndarray:
    """Lambert's law by least absolute deviations, first through the low tilts, then through all that are not dark."""
    path = 1.0 / np.cos(np.deg2rad(np.clip(angles, -80, 80)))
    floor = max(float(medians.max()) * 1e-4, 1e-12)
    log = np.log(np.maximum(medians, floor))
    model = _absolute_fit(path, log, path <= np.median(path))
    for _ in range(5):
        model = _absolute_fit(path, log, log > model + np.log(dark_fraction))
    return np.asarray(np.exp(model))


def _absolute_fit(path: np.ndarray, log: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The line ``a - b path`` with b >= 0 that is nearest to most of the chosen points, at all points."""
    weights = used.astype(np.float64)
    a, b = float(np.median(log[used])) if used.any() else float(np.median(log)), 0.0
    for _ in range(_ROUNDS if used.sum() > 2 else 0):
        design = np.stack([np.ones_like(path), -path], axis=1) * weights[:, None]
        a, b = np.linalg.lstsq(design, log * weights, rcond=None)[0]
        if b < 0 or not math.isfinite(b):
            a, b = float(np.average(log, weights=weights**2)), 0.0
        weights = used / np.sqrt(np.maximum(np.abs(log - (a - b * path)), 0.02))
    return np.asarray(a - b * path)
