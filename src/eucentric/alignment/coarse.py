"""Shifts from the correlation of neighbouring tilts, and a first look for the tilt axis."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.resampling import resample_tilts
from eucentric.signal.correlation import correlation_peak
from eucentric.typing import FloatArray

_ROUNDS = 30
_LOWEST_COSINE = 0.2
"""Beyond 78 degrees images are compared as if at 78: a stretch without end would compare nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairShift:
    """Displacement between two tilts in the frame of the tilt axis."""

    low: int
    """The tilt nearer to zero."""
    high: int
    """The other one, stretched across the axis by cos(low) / cos(high) before it was compared."""
    shift_px: tuple[float, float]
    """(x across, y along the axis): content of `low` against the stretched content of `high`."""
    contrast: float


def neighbour_shifts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    axis_deg: float,
    pixel_size: float,
    *,
    low_pass_angstrom: float,
    high_pass_angstrom: float,
    max_shift_fraction: float,
    distances: tuple[int, ...] = (1, 2),
) -> list[PairShift]:
    """Cosine-stretched correlation of every tilt with its next neighbours.

    Parameters
    ----------
    images : (tilt, y, x) in ascending angle; means are removed here
    distances : how many tilts apart the partners of a pair are
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    shape = (images.shape[1], images.shape[2])
    geometry = TiltGeometry.build(tilts, z_rot_deg=axis_deg)
    centred = images - images.mean((-2, -1), keepdim=True)
    turned = resample_tilts(centred, geometry, pixel_size, out_shape=shape, out_pixel_size=pixel_size)
    frequency = frequency_grid(shape, pixel_size, device=images.device)
    band = band_pass(frequency, low_pass_angstrom=low_pass_angstrom, high_pass_angstrom=high_pass_angstrom)
    taper = max(4, min(shape) // 12)
    cosines = _cosines(tilts)
    plain = [torch.fft.rfft2(taper_edges(image, taper)) for image in turned]
    pairs = []
    for distance in distances:
        for first in range(len(tilts) - distance):
            second = first + distance
            low, high = (first, second) if abs(tilts[first]) <= abs(tilts[second]) else (second, first)
            stretched = _stretch(turned[high], float(cosines[high] / cosines[low]))
            other = torch.fft.rfft2(taper_edges(stretched, taper))
            cross = band * plain[low] * other.conj()
            # half way to phase correlation: strong features do not drown the rest
            size = cross.abs().sqrt()
            cross = cross / size.clamp(min=float(size.max()) * 1e-6 + 1e-30)
            peak = correlation_peak(cross, shape, reach_px=max_shift_fraction * min(shape))
            pairs.append(PairShift(low=low, high=high, shift_px=peak.shift_px, contrast=peak.contrast))
    return pairs


def coarse_shifts(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    axis_deg: float,
    pixel_size: float,
    *,
    low_pass_angstrom: float = 40.0,
    high_pass_angstrom: float = 600.0,
    max_shift_fraction: float = 0.3,
) -> TiltGeometry:
    """Shifts of all tilts at once from the graph of neighbours, the tilt nearest zero held still.

    Every pair gives one linear equation along the axis and one across it, where a displacement counts by ``1 / cos(tilt)``; they
    are solved together by least absolute deviations, so that one wrong pair is outvoted instead of displacing all tilts
    beyond it.
    """
    tilts = np.asarray(tilt_angles_deg, dtype=np.float64)
    pairs = neighbour_shifts(
        images,
        tilts,
        axis_deg,
        pixel_size,
        low_pass_angstrom=low_pass_angstrom,
        high_pass_angstrom=high_pass_angstrom,
        max_shift_fraction=max_shift_fraction,
    )
    cosines = _cosines(tilts)
    still = int(np.abs(tilts).argmin())
    across = _solve(pairs, [(1.0, -cosines[p.low] / cosines[p.high]) for p in pairs], 0, len(tilts), still)
    along = _solve(pairs, [(1.0, -1.0)] * len(pairs), 1, len(tilts), still)
    return in_camera_frame(tilts, axis_deg, np.stack([across, along], axis=1) * pixel_size)


def search_axis_coarsely(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    pixel_size: float,
    *,
    low_pass_angstrom: float,
    high_pass_angstrom: float,
    max_shift_fraction: float,
    step_deg: float = 5.0,
) -> tuple[FloatArray, FloatArray]:
    """Mean contrast of the neighbours' correlation for tilt axes over the half circle.

    An axis and its opposite give the same correlation: the half circle from -90 degrees (included) to 90 is searched.

    Returns
    -------
    axes in degrees; mean contrast at each
    """
    axes = np.arange(-90.0, 90.0, step_deg)
    scores = []
    for axis in axes:
        pairs = neighbour_shifts(
            images,
            tilt_angles_deg,
            float(axis),
            pixel_size,
            low_pass_angstrom=low_pass_angstrom,
            high_pass_angstrom=high_pass_angstrom,
            max_shift_fraction=max_shift_fraction,
            distances=(2,),
        )
        scores.append(float(np.mean([p.contrast for p in pairs])))
    return axes, np.array(scores)


def in_camera_frame(tilts_deg: FloatArray, axis_deg: float, shifts: FloatArray) -> TiltGeometry:
    """Geometry from shifts (tilt, 2) in A across and along the tilt axis."""
    turn = np.deg2rad(axis_deg)
    c, s = np.cos(turn), np.sin(turn)
    camera = shifts @ np.array([[c, s], [-s, c]])
    return TiltGeometry.build(tilts_deg, z_rot_deg=axis_deg, shifts_angstrom=camera)


def in_axis_frame(geometry: TiltGeometry) -> FloatArray:
    """Shifts (tilt, 2) in A across and along the tilt axis; the inverse of :func:`in_camera_frame`."""
    turn = np.deg2rad(geometry.z_rot_deg)
    c, s = np.cos(turn), np.sin(turn)
    x, y = geometry.shifts_angstrom.T
    return np.stack([c * x + s * y, -s * x + c * y], axis=1)


def _cosines(tilts: FloatArray) -> FloatArray:
    return np.maximum(np.cos(np.deg2rad(tilts)), _LOWEST_COSINE)


def _stretch(image: Tensor, ratio: float) -> Tensor:
    """Read an image at ``ratio`` times the distance from the centre along x: what is farther tilted becomes wider."""
    height, width = image.shape
    x = (torch.arange(width, device=image.device, dtype=image.dtype) - width // 2) * ratio + width // 2
    y = torch.arange(height, device=image.device, dtype=image.dtype)
    grid_x = (2 * x + 1) / width - 1
    grid_y = (2 * y + 1) / height - 1
    grid = torch.stack([grid_x.expand(height, width), grid_y[:, None].expand(height, width)], dim=-1)
    return functional.grid_sample(image[None, None], grid[None], mode="bicubic", align_corners=False)[0, 0]


def _solve(
    pairs: list[PairShift], factors: list[tuple[float, float]], component: int, count: int, still: int
) -> FloatArray:
    design = np.zeros((len(pairs) + 1, count))
    target = np.zeros(len(pairs) + 1)
    for row, (pair, (low, high)) in enumerate(zip(pairs, factors, strict=True)):
        design[row, pair.low], design[row, pair.high] = low, high
        target[row] = pair.shift_px[component]
    design[-1, still] = 1.0
    weights = np.ones(len(target))
    solution = np.zeros(count)
    for _ in range(_ROUNDS):
        scale = np.append(weights[:-1], 100.0)
        solution = np.linalg.lstsq(design * scale[:, None], target * scale, rcond=None)[0]
        weights = 1.0 / np.sqrt(np.maximum(np.abs(design @ solution - target), 0.2))
    return solution
