"""Tilts that show a grid bar, ice, or nothing."""

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as functional
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.typing import FloatArray

_TILES = 8
_ROUNDS = 20
_STEEPEST_DEG = 82.0
_PRE_TILTS_DEG = np.arange(-30.0, 31.0, 2.0)
_CLEARLY_BETTER = 0.7
"""A pre-tilt must leave less than this part of the misfit without one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntensityFit:
    """Intensity of every image against Lambert's law through the others."""

    level: FloatArray
    """(tilt,) mean over what is expected: 1 for a good image."""
    dark_area: FloatArray
    """(tilt,) part of the image below the limit."""
    path_lengths: float
    """Thickness in mean free paths of the electrons that the detector misses: b in ``ln I = a - b / cos(tilt + pre-tilt)``."""
    pre_tilt_deg: float
    """Slope of the specimen about the axis; zero where the images do not need one."""

    def dark_tilts(self, dark_fraction: float, dark_area: float) -> dict[int, str]:
        """Positions of the images of which more than `dark_area` is dark, with the reason in words."""
        return {
            i: f"dark: {self.dark_area[i]:.0%} of the image is below {dark_fraction:.0%} of the expected intensity, "
            f"its mean is {self.level[i]:.0%} of it"
            for i in range(len(self.level))
            if self.dark_area[i] > dark_area
        }


def find_dark_tilts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    doses: ArrayLike | None = None,
    dark_fraction: float,
    dark_area: float,
) -> dict[int, str]:
    """Positions of tilts of which too much is dark, with the reason in words.

    Parameters
    ----------
    images : (tilt, y, x), not normalised
    doses : (tilt,), e/A^2 of each image; equal where None
    dark_fraction : a tile is dark below this part of the expected intensity
    dark_area : a tilt is rejected when more than this part of its tiles is dark
    """
    fit = fit_intensity(images, tilt_angles_deg, doses=doses, dark_fraction=dark_fraction)
    if fit is None:
        return {}
    return fit.dark_tilts(dark_fraction, dark_area)


def fit_intensity(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    *,
    doses: ArrayLike | None = None,
    dark_fraction: float,
) -> IntensityFit | None:
    """Lambert's law ``ln I = a - b / cos(tilt + pre-tilt)``, fitted robustly to the medians of the images.

    A blocked image is judged by the others, and a thick or sloping specimen is not taken for a blocked one. None for a
    normalised stack, whose levels tell nothing.

    Parameters
    ----------
    images, tilt_angles_deg, doses, dark_fraction : as in :func:`find_dark_tilts`
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
        return None
    medians = np.median(tiles, axis=1)
    flat = _lambert(medians, angles, dark_fraction)
    best, chosen = flat, 0.0
    if count >= 7:
        for pre in _PRE_TILTS_DEG:
            tried = _lambert(medians, angles + pre, dark_fraction)
            if tried.misfit < best.misfit:
                best, chosen = tried, float(pre)
        if best.misfit > _CLEARLY_BETTER * flat.misfit:
            best, chosen = flat, 0.0
    expected = np.exp(best.model)
    return IntensityFit(
        level=tiles.mean(1) / expected,
        dark_area=(tiles < dark_fraction * expected[:, None]).mean(1),
        path_lengths=best.slope,
        pre_tilt_deg=chosen,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    model: FloatArray
    """(tilt,) logarithm of the expected intensity."""
    slope: float
    misfit: float
    """Mean over all tilts of the absolute difference of logarithms, each cut at what counts as dark."""


def _lambert(medians: FloatArray, angles: FloatArray, dark_fraction: float) -> _Line:
    """By least absolute deviations, first through the low tilts, then through all that are not dark."""
    path = 1.0 / np.cos(np.deg2rad(np.clip(angles, -_STEEPEST_DEG, _STEEPEST_DEG)))
    floor = max(float(medians.max()) * 1e-4, 1e-12)
    log = np.log(np.maximum(medians, floor))
    model, slope = _absolute_fit(path, log, path <= np.median(path))
    for _ in range(5):
        model, slope = _absolute_fit(path, log, log > model + math.log(dark_fraction))
    misfit = float(np.minimum(np.abs(log - model), -math.log(dark_fraction)).mean())
    return _Line(model, slope, misfit)


def _absolute_fit(path: FloatArray, log: FloatArray, used: np.ndarray) -> tuple[FloatArray, float]:
    """The line ``a - b path`` with b >= 0 that is nearest to most of the chosen points, at all points; and b."""
    weights = used.astype(np.float64)
    a, b = float(np.median(log[used])) if used.any() else float(np.median(log)), 0.0
    for _ in range(_ROUNDS if used.sum() > 2 else 0):
        design = np.stack([np.ones_like(path), -path], axis=1) * weights[:, None]
        a, b = (float(v) for v in np.linalg.lstsq(design, log * weights, rcond=None)[0])
        if b < 0 or not math.isfinite(b):
            a, b = float(np.average(log, weights=weights**2)), 0.0
        weights = used / np.sqrt(np.maximum(np.abs(log - (a - b * path)), 0.02))
    return np.asarray(a - b * path), b
