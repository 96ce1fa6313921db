"""Centres of known beads to a hundredth of their radius, beads beside each other fitted together, with covariances."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.signal.beads import BeadProfile, CoarseView, ProfileCurve, sample_for
from eucentric.typing import FloatArray

_REACH = 1.8  # of the radius: the disc and its first fringe; farther out noise of the ice is all that is added
_SWEEPS = 5
_WANDER = 1.0  # of the radius: a fit that goes farther has found something else
_FLOOR = 0.003  # of the radius: gold is no perfect ball, and images have distortions of their own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadCentres:
    """One row for each place that was given; NaN where no bead could be centred."""

    positions_px: FloatArray
    """(bead, 2), x and y."""
    covariance_px2: FloatArray
    """(bead, 2, 2)."""
    scores: FloatArray
    """(bead,), correlation with the mean bead after its neighbours were taken away."""
    seen: FloatArray
    """(bead,), part of the disc that neither the image's edge nor another disc hides."""


@dataclass(slots=True, eq=False)
class _Bead:
    """State of one fit in pixels of the coarse image."""

    x: float
    y: float
    depth: float = 0.0
    score: float = 0.0
    left: float = 0.0
    """Variance that the fit leaves."""
    curvature: FloatArray | None = None
    """(2, 2) of the squared residual over the centre; None where the fit failed."""


def centre_beads(
    image: Float[Tensor, "y x"], profile: BeadProfile, places_px: FloatArray, *, threshold: float = 0.6
) -> BeadCentres:
    """Centre every bead of an image by least squares, in turns, each after the others were subtracted.

    Model of a bead: a plane of background + depth x mean profile. The profile is round, so that its errors displace no
    centre. The covariance is the error that this very estimator makes on the image's own background: the gradient of
    the bead is correlated with the image away from all beads, and the spread of that, divided by the curvature of
    the fit, is what ice, protein and shot noise do, whatever their spectrum. A fit that leaves more than the background is
    worse by that factor.

    Parameters
    ----------
    image : (y, x), as recorded (beads dark), no CTF correction
    profile : the mean bead
    places_px : (bead, 2), x and y of all beads of the image, right to half a radius; those just outside too
    threshold : least correlation with the mean bead

    Raises
    ------
    ShapeError : places that are not (bead, 2)
    """
    places = np.asarray(places_px, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2:
        raise ShapeError(f"Places of beads are (bead, 2), x and y; got an array of shape {places.shape}.")
    view = sample_for(image, profile.radius_px)
    pixels = view.image.cpu().numpy().astype(np.float64)
    curve = ProfileCurve.of(profile, view)
    starts = view.coarse(places)
    beads = [_Bead(float(x), float(y)) for x, y in starts]
    rest = pixels.copy()
    for _ in range(_SWEEPS):
        for bead, start in zip(beads, starts, strict=True):
            _refit(bead, start, rest, curve, view.radius)
    noise = _gradient_noise(view, pixels, rest, curve, beads)
    positions, covariance = np.full((len(beads), 2), np.nan), np.full((len(beads), 2, 2), np.nan)
    seen = _seen(beads, pixels.shape, view.radius)
    step = np.array([view.step_x, view.step_y])
    for row, bead in enumerate(beads):
        if bead.curvature is None or bead.score < threshold:
            continue
        inverse = np.linalg.inv(bead.curvature)
        spread = noise.gradient * bead.depth**2 * max(1.0, bead.left / noise.variance)
        found = spread * inverse @ inverse + (_FLOOR * view.radius) ** 2 * np.eye(2)
        covariance[row] = found * np.outer(step, step)
        positions[row] = view.original(np.array(bead.x), np.array(bead.y))
    scores = np.where(np.isfinite(positions[:, 0]), [bead.score for bead in beads], np.nan)
    return BeadCentres(positions_px=positions, covariance_px2=covariance, scores=scores, seen=seen)


def _refit(bead: _Bead, start: FloatArray, rest: FloatArray, curve: ProfileCurve, radius: float) -> None:
    """One Gauss-Newton step of a bead; `rest` is the image less all beads, and is kept so."""
    _add(rest, curve, bead, 1.0)
    rows, columns = _window(rest.shape, bead, _REACH * radius)
    dx, dy = columns - bead.x, rows - bead.y
    r = np.hypot(dx, dy)
    used = r <= _REACH * radius
    if used.sum() < 12:
        bead.curvature, bead.depth = None, 0.0
        return
    values = rest[rows[used], columns[used]]
    dx, dy, r = dx[used] / radius, dy[used] / radius, r[used]
    shape, slope = curve.at(r)
    plane = np.stack([np.ones_like(shape), dx, dy, shape], axis=1)
    terms, *_ = np.linalg.lstsq(plane, values, rcond=None)
    depth, left = float(terms[3]), values - plane @ terms
    unit = np.maximum(r / radius, 1e-6)
    gradient = np.stack([-slope * dx / unit, -slope * dy / unit], axis=1)
    gradient -= plane @ np.linalg.lstsq(plane, gradient, rcond=None)[0]
    bead.left = float(left @ left) / (len(left) - 6)
    flat = values - plane[:, :3] @ terms[:3]
    bead.score = -float(np.sign(depth)) * math.sqrt(max(0.0, 1.0 - float(left @ left) / max(float(flat @ flat), 1e-30)))
    if depth >= 0:
        bead.curvature, bead.depth = None, 0.0
        return
    bead.curvature = depth**2 * gradient.T @ gradient
    move = np.linalg.lstsq(depth * gradient, left, rcond=None)[0]
    move *= min(1.0, 0.3 * radius / max(float(np.hypot(*move)), 1e-12))
    bead.x, bead.y, bead.depth = bead.x + float(move[0]), bead.y + float(move[1]), depth
    if math.hypot(bead.x - start[0], bead.y - start[1]) > _WANDER * radius:
        bead.x, bead.y, bead.depth, bead.curvature = float(start[0]), float(start[1]), 0.0, None
        return
    _add(rest, curve, bead, -1.0)


def _add(image: FloatArray, curve: ProfileCurve, bead: _Bead, sign: float) -> None:
    """Put a bead back into the image (sign 1) or take it out (-1)."""
    if bead.depth == 0.0:
        return
    rows, columns = _window(image.shape, bead, curve.reach)
    r = np.hypot(columns - bead.x, rows - bead.y)
    image[rows, columns] += sign * bead.depth * curve.at(r)[0]


def _window(shape: tuple[int, ...], bead: _Bead, reach: float) -> tuple[FloatArray, FloatArray]:
    low_y, low_x = max(0, math.floor(bead.y - reach)), max(0, math.floor(bead.x - reach))
    rows, columns = np.mgrid[
        low_y : max(low_y, min(shape[0], math.ceil(bead.y + reach) + 1)),
        low_x : max(low_x, min(shape[1], math.ceil(bead.x + reach) + 1)),
    ].reshape(2, -1)
    return rows, columns


@dataclass(frozen=True, slots=True)
class _Noise:
    gradient: float
    """Variance of the correlation of the profile's gradient (depth 1) with the background."""
    variance: float
    """Of the background in the same windows, after the same plane."""


def _gradient_noise(
    view: CoarseView, pixels: FloatArray, rest: FloatArray, curve: ProfileCurve, beads: list[_Bead]
) -> _Noise:
    """What the background of this image does to the estimator, away from beads."""
    radius, shape = view.radius, pixels.shape
    reach = math.ceil(_REACH * radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    r = np.hypot(x, y)
    inside = r <= _REACH * radius
    slope = curve.at(r)[1]
    kernel = np.where(inside, -slope * x / np.maximum(r, 1e-6), 0.0)
    kernel -= np.where(inside, x, 0.0) * (kernel * x).sum() / (x**2 * inside).sum()
    free = np.ones(shape, dtype=bool)
    for bead in beads:
        rows, columns = _window(shape, bead, reach + curve.reach)
        free[rows, columns] &= np.hypot(columns - bead.x, rows - bead.y) > reach + 1.3 * radius
    edge = np.zeros(shape, dtype=bool)
    edge[reach:-reach, reach:-reach] = True
    if (free & edge).sum() < 50:
        free = np.ones(shape, dtype=bool)  # an image full of beads: what they leave is its noise
    free &= edge
    if not free.any():
        free = np.ones(shape, dtype=bool)
    image = torch.from_numpy(rest - np.median(rest))

    def near(weights: FloatArray, field: Tensor) -> FloatArray:
        full = torch.fft.irfft2(
            torch.fft.rfft2(field) * torch.fft.rfft2(_placed(weights, shape)).conj(), s=(shape[0], shape[1])
        )
        return np.asarray(full.numpy())

    count = inside.sum()
    mean = near(inside / count, image)
    square = near(inside / count, image**2) - mean**2
    for axis in (x, y):
        ramp = np.where(inside, axis, 0.0)
        square = square - near(ramp, image) ** 2 / ((ramp**2).sum() * count)
    along_x, along_y = near(kernel, image)[free], near(kernel.T, image)[free]
    both = np.concatenate([along_x, along_y])
    return _Noise(gradient=_robust_variance(both), variance=max(float(np.median(square[free])), 1e-30))


def _placed(kernel: FloatArray, shape: tuple[int, ...]) -> Tensor:
    """A kernel with its middle at the corner of an empty image."""
    out = np.zeros(shape)
    n = kernel.shape[0] // 2
    rows, columns = np.mgrid[-n : n + 1, -n : n + 1]
    np.add.at(out, (rows % shape[0], columns % shape[1]), kernel)
    return torch.from_numpy(out)


def _robust_variance(values: FloatArray) -> float:
    middle = np.median(values)
    return max(float(1.4826 * np.median(np.abs(values - middle))) ** 2, 1e-30)


def _seen(beads: list[_Bead], shape: tuple[int, ...], radius: float) -> FloatArray:
    """Part of each disc that is inside the image and outside all other discs."""
    y, x = np.mgrid[-1:1:21j, -1:1:21j] * radius
    disc = np.hypot(x, y) <= radius
    x, y = x[disc], y[disc]
    out = np.zeros(len(beads))
    for row, bead in enumerate(beads):
        px, py = bead.x + x, bead.y + y
        clear = (px >= -0.5) & (px <= shape[1] - 0.5) & (py >= -0.5) & (py <= shape[0] - 0.5)
        for other in beads:
            if other is not bead and math.hypot(other.x - bead.x, other.y - bead.y) < 2 * radius:
                clear &= np.hypot(px - other.x, py - other.y) > radius
        out[row] = clear.mean()
    return out
