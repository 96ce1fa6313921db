"""Direction of the tilt axis and of the specimen from how parts of neighbouring images move against each other.

Whatever the heights in a specimen, a tilt moves its parts across the tilt axis only: along the axis two images differ by one shift.
(The Fourier transforms of all images share the line of the axis; this is the same, said of places.) The direction along which
parts do not move against each other is the axis. Across it parts move in proportion to their height, and a height that
grows across the field is a tilted specimen.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor

from eucentric.alignment.pair_correlation import (
    CoarseImages,
    FrequencyBins,
    SpecimenPlane,
    blur_across,
    neighbour_pairs,
    read_pairs,
    root_mean_square,
)
from eucentric.fourier.shift import shift_phases
from eucentric.signal.correlation import climb_to_peaks
from eucentric.typing import FloatArray

_TILES = 4
_LEAST_FILLED = 0.5
_LEAST_PARTS = 12
_BATCH = 8
_STEP_DEG = 0.05
_ROUNDS = 20
_CHANCE = 0.05
_GROUPS = 10
FLAT_DEG = 15.0
"""Specimens lie flatter than this by two thirds; where images tell little, little slope is taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisSearch:
    """Directions of the tilt axis over the half circle; an axis and its opposite explain the same."""

    axes_deg: FloatArray
    """From -90 (included) to 90."""
    scores: FloatArray
    """Part of the movement between neighbours that is across each axis: 1 for all."""
    best_deg: float
    sigma_deg: float
    """From the scatter between groups of pairs; infinite where too little could be followed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlopeFit:
    """How the specimen, or what dominates its images, lies at a stage angle of zero."""

    plane: SpecimenPlane
    sigma_deg: FloatArray
    """(2,) standard deviations of pre-tilt and x-tilt."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Parts:
    pair: np.ndarray
    place: FloatArray
    """(part, 2) A from the centre of the image of the low tilt, in the frame of the axis."""
    displacement: FloatArray
    quality: FloatArray
    corner: np.ndarray
    """(part,) which place of the image."""


def search_axis(images: CoarseImages, shifts: FloatArray, *, reach: float, step_deg: float = 0.25) -> AxisSearch:
    """The direction along which parts of neighbouring images do not move against each other.

    No direction is assumed to begin with: images are compared without stretching.

    Parameters
    ----------
    shifts : (tilt, 2) A, x and y on the camera, as :func:`align_neighbours` finds them when all tilts are taken as zero
    reach : A, largest displacement of a part: what the stretch between neighbours makes of the edge of the image
    """
    flat = np.zeros(len(images))
    plane = SpecimenPlane(axis_deg=0.0)
    pairs = neighbour_pairs(flat, plane, (1, 2))
    parts = _follow(images, flat, plane, pairs, shifts, reach, 0.0)
    axes = np.arange(-90.0, 90.0, step_deg)
    if (parts.quality > 0).sum() < _LEAST_PARTS:
        return AxisSearch(axes_deg=axes, scores=np.zeros(len(axes)), best_deg=0.0, sigma_deg=math.inf)
    middle = np.zeros((len(pairs[0]), 2))
    for p in np.unique(parts.pair):
        middle[p] = np.median(parts.displacement[parts.pair == p], axis=0)
    moved = parts.displacement - middle[parts.pair]
    # the image's y axis turned by the angle is the tilt axis
    along = np.stack([-np.sin(np.deg2rad(axes)), np.cos(np.deg2rad(axes))])
    explained = parts.quality[:, None] / (1.0 + (moved @ along / (0.25 * images.low_pass)) ** 2)
    groups = np.stack([explained[parts.pair % _GROUPS == g].sum(0) for g in range(_GROUPS)])
    total = groups.sum(0)
    best = _summit(axes, total)
    # each group of pairs left out in turn
    apart = np.array([_half_turn(_summit(axes, total - group) - best) for group in groups])
    sigma = math.sqrt((_GROUPS - 1) / _GROUPS * float(((apart - apart.mean()) ** 2).sum()))
    return AxisSearch(axes_deg=axes, scores=total / parts.quality.sum(), best_deg=best, sigma_deg=max(sigma, step_deg))


def fit_slope(
    images: CoarseImages,
    tilts_deg: FloatArray,
    plane: SpecimenPlane,
    shifts: FloatArray,
    *,
    reach: float,
    depth: float,
    expected_deg: tuple[float, float] = (0.0, 0.0),
    expected_sigma_deg: tuple[float, float] = (FLAT_DEG, FLAT_DEG),
    distances: tuple[int, ...] = (1, 2),
) -> SlopeFit:
    """Pre-tilt and x-tilt of the specimen from the movement of its parts across the axis.

    Parameters
    ----------
    plane : what is assumed so far
    shifts : (tilt, 2) A in the frame of the axis
    reach : A, largest displacement of a part beyond what plane and shifts say
    depth : A, rms height of the specimen; see :func:`refine_displacements`
    expected_deg, expected_sigma_deg : pre-tilt and x-tilt known otherwise
    """
    pairs = neighbour_pairs(tilts_deg, plane, distances)
    parts = _follow(images, tilts_deg, plane, pairs, shifts, reach, depth)
    if (parts.quality > 0).sum() < _LEAST_PARTS:
        return SlopeFit(plane=plane, sigma_deg=np.array(expected_sigma_deg))
    design = np.stack([_moved(tilts_deg, plane, pairs, parts, k) for k in range(2)], axis=-1)
    present = np.array([plane.pre_tilt_deg, plane.x_tilt_deg]) - expected_deg
    change, covariance = _robust(design, parts, len(pairs[0]), present, 1.0 / np.square(expected_sigma_deg))
    fitted = plane.replace(
        pre_tilt_deg=float(plane.pre_tilt_deg + change[0]), x_tilt_deg=float(plane.x_tilt_deg + change[1])
    )
    return SlopeFit(plane=fitted, sigma_deg=np.sqrt(np.diag(covariance)))


def _half_turn(degrees: float) -> float:
    return (degrees + 90.0) % 180.0 - 90.0


def _summit(axes: FloatArray, scores: FloatArray) -> float:
    """The best direction, between samples by a parabola; the ends of the half circle meet."""
    top = int(scores.argmax())
    left, middle, right = scores[top - 1], scores[top], scores[(top + 1) % len(axes)]
    bend = left - 2 * middle + right
    return float(axes[top] + (0.5 * (axes[1] - axes[0]) * (left - right) / bend if bend < 0 else 0.0))


def _follow(
    images: CoarseImages,
    tilts: FloatArray,
    plane: SpecimenPlane,
    pairs: tuple[np.ndarray, np.ndarray],
    shifts: FloatArray,
    reach: float,
    depth: float,
) -> _Parts:
    """Displacements of overlapping square parts of every pair."""
    shape, pixel = images.shape, images.pixel_size
    side = min(min(shape), max(32, 2 * round(min(shape) / _TILES)))
    device = images.images.device
    follower = _Follower(images, side, reach)
    starts = [np.unique(np.linspace(0, n - side, max(2, round(2.0 * n / side) - 1)).round().astype(int)) for n in shape]
    corners = [(int(a), int(b)) for a in starts[0] for b in starts[1]]
    blur = plane.parallax(tilts, pairs) * depth / pixel
    cuts: list[tuple[Tensor, Tensor, np.ndarray]] = []
    for start in range(0, len(pairs[0]), _BATCH):
        read = read_pairs(images, tilts, plane, pairs, shifts, slice(start, start + _BATCH))
        one, two, window = (
            torch.stack([v[:, a : a + side, b : b + side] for a, b in corners], dim=1).flatten(0, 1) for v in read
        )
        cross, full = follower.cross_spectra(one, two, window)
        smear = blur_across((side, side), blur[start + full // len(corners)], device)
        cuts.append((cross, smear, start * len(corners) + full))
        follower.learn(cross, smear)
    found = [follower.peaks(cross, smear) for cross, smear, _ in cuts]
    number = np.concatenate([n for _, _, n in cuts])
    corner = number % len(corners)
    place = (np.array(corners)[corner][:, ::-1] + side // 2 - np.array([shape[1] // 2, shape[0] // 2])) * pixel
    contrast = np.concatenate([c for _, c in found])
    chances = max(1.0, math.pi * (2.0 * reach / images.low_pass) ** 2)
    surprise = np.clip(-log_ndtr(-contrast) - math.log(chances / _CHANCE), 0.0, None)
    return _Parts(
        pair=number // len(corners),
        place=place.reshape(-1, 2),
        displacement=np.concatenate([s for s, _ in found]) * pixel,
        quality=surprise / (1.0 + surprise),
        corner=corner,
    )


class _Follower:
    """Correlation of small parts: with weights for strong frequencies at first, then with those that all parts together ask for."""

    def __init__(self, images: CoarseImages, side: int, reach: float) -> None:
        device = images.images.device
        self._side = side
        self._bins = FrequencyBins((side, side), images)
        hann = torch.hann_window(side, periodic=False, device=device)
        self._window = hann[:, None] * hann
        self._grid = torch.fft.fftfreq(side, 1.0 / side, device=device)
        self._near = self._grid[:, None] ** 2 + self._grid**2 <= max(2.0, reach / images.pixel_size) ** 2
        self._coherence: list[Tensor] = []

    def cross_spectra(self, one: Tensor, two: Tensor, window: Tensor) -> tuple[Tensor, np.ndarray]:
        """Whitened cross spectra of the parts that both images show, and which parts those are."""
        weight = window * self._window
        area = weight.sum((-2, -1), keepdim=True)
        full = (area.flatten() > _LEAST_FILLED * self._window.sum()).nonzero().flatten()
        weight, area = weight[full], area[full]
        spectra = [
            torch.fft.rfft2((v[full] - (v[full] * weight).sum((-2, -1), keepdim=True) / area) * weight)
            for v in (one, two)
        ]
        return spectra[0] * spectra[1].conj(), full.cpu().numpy()

    def _summits(self, cross: Tensor, smear: Tensor) -> tuple[Tensor, Tensor]:
        weighted = cross * smear
        surface = torch.fft.irfft2(weighted, s=self._near.shape)
        best = torch.where(self._near, surface, torch.full_like(surface, -torch.inf)).flatten(1).argmax(1)
        begin = torch.stack([self._grid[best % self._side], self._grid[best // self._side]], dim=-1)
        peaks = climb_to_peaks(weighted, (self._side, self._side), begin)
        return peaks.shift_px, peaks.value / root_mean_square(surface).clamp(min=1e-30)

    def learn(self, cross: Tensor, smear: Tensor) -> None:
        """Coherence of some parts where strong frequencies put their peaks."""
        if not len(cross):
            return
        shift, _ = self._summits(cross, smear)
        aligned = cross * shift_phases((self._side, self._side), -shift.to(smear.dtype))
        level = self._bins.mean(cross.abs())
        # the mean size of a product of two independent complex numbers of unit power is pi / 4
        self._coherence.append((self._bins.mean(aligned.real) / level.clamp(min=1e-20)) * (math.pi / 4))

    def peaks(self, cross: Tensor, smear: Tensor) -> tuple[FloatArray, FloatArray]:
        """Displacements in pixels (n, 2) and contrasts (n,), with the weights learnt."""
        if not len(cross):
            return np.zeros((0, 2)), np.zeros(0)
        weights = self._bins.pooled(torch.cat(self._coherence))
        level = self._bins.mean(cross.abs()).mean(0, keepdim=True).clamp(min=1e-20)
        shift, contrast = self._summits(cross * self._bins.spread(weights / level), smear)
        return shift.cpu().numpy(), contrast.cpu().numpy()


def _moved(
    tilts: FloatArray, plane: SpecimenPlane, pairs: tuple[np.ndarray, np.ndarray], parts: _Parts, which: int
) -> FloatArray:
    """(part, 2) A by which parts move for one degree of pre-tilt or x-tilt."""
    low, high = pairs

    def back(amount: float) -> FloatArray:
        maps = plane.replace(
            pre_tilt_deg=plane.pre_tilt_deg + amount * (which == 0), x_tilt_deg=plane.x_tilt_deg + amount * (which == 1)
        ).maps(tilts)
        return np.asarray(maps[low] @ np.linalg.inv(maps[high]))

    slope = (back(_STEP_DEG) - back(-_STEP_DEG)) / (2 * _STEP_DEG)
    maps = plane.maps(tilts)
    each = slope @ maps[high] @ np.linalg.inv(maps[low])
    return np.asarray((each[parts.pair] @ parts.place[..., None])[..., 0])


def _robust(
    design: FloatArray, parts: _Parts, count: int, present: FloatArray, prior: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Changes in degrees and the covariance; one shift a pair is free. Cauchy's loss.

    `present` is what is assumed beyond what is expected, with weights `prior` per squared degree.
    """
    weights = parts.quality.copy()
    answer = np.zeros(design.shape[-1])
    for turn in range(_ROUNDS):
        answer, distance = _solved(design, parts, count, (present, prior), weights, answer)
        width = 0.85 * float(np.median(distance[parts.quality > 0])) * max(1.0, 8.0 * 0.6**turn)
        weights = parts.quality / (1.0 + (distance / max(width, 1e-6)) ** 2)
    # heights differ from place to place and are the same in all pairs, so that places, not parts, are independent: every
    # place is left out in turn; places overlap by half either way
    places = np.unique(parts.corner)
    apart = np.stack(
        [
            _solved(design, parts, count, (present, prior), np.where(parts.corner == c, 0.0, weights), answer)[0]
            - answer
            for c in places
        ]
    )
    return answer, 4.0 * (len(places) - 1) / len(places) * apart.T @ apart


def _solved(
    design: FloatArray,
    parts: _Parts,
    count: int,
    expected: tuple[FloatArray, FloatArray],
    weights: FloatArray,
    last: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """One weighted least-squares answer, and the distance left for each part."""
    total = np.bincount(parts.pair, weights, count).clip(1e-12)
    rows = np.concatenate([_centred(design[:, i], parts.pair, weights, total) for i in range(2)])
    target = np.concatenate(list(_centred(parts.displacement, parts.pair, weights, total).T))
    both = np.concatenate([weights, weights])
    left = target - rows @ last
    variance = max(float((both * left**2).sum() / both.sum().clip(1e-12)), 1e-12)
    # parts overlap by half either way: a quarter of them is independent
    normal = rows.T @ (both[:, None] * rows) / (4.0 * variance) + np.diag(expected[1])
    answer = np.linalg.solve(normal, rows.T @ (both * target) / (4.0 * variance) - expected[0] * expected[1])
    return answer, np.linalg.norm((target - rows @ answer).reshape(2, -1), axis=0)


def _centred(values: FloatArray, pair: np.ndarray, weights: FloatArray, total: FloatArray) -> FloatArray:
    """Values (part, k) less their weighted mean in each pair."""
    mean = np.stack([np.bincount(pair, weights * v, len(total)) / total for v in values.T], axis=-1)
    return np.asarray(values - mean[pair])
