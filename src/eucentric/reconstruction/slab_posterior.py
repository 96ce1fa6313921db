"""The slab between two parallel faces that holds a set of points, and all the slabs that might as well."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from eucentric.geometry.rotations import rotation_x, rotation_y
from eucentric.typing import FloatArray

STEEPEST = 30.0  # degrees: lamellae are milled at 8 to 25
_ROUNDS = 5  # each on a grid about the last one's answer
_REACH = 3.5  # standard deviations that a grid spans to either side
_ANGLES = 13  # on a side of the grid of inclinations
_EDGES = 20  # places of each face
_OUTSIDE = np.geomspace(1e-4, 0.3, 8)  # density of points outside over that inside, each as likely as the next
_FEWEST = 12  # points: three times the unknowns
_BIN = 8.0  # A
_WINDOW = 200.0  # A: the middle of the slab is where a layer so thick holds most points
_LIKELY = 25.0  # log-likelihoods so far below the best add nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlabPosterior:
    """Means over all slabs; the slab's normal is ``Ry(y_tilt) Rx(x_tilt) z``."""

    mean: FloatArray
    """(4,): x_tilt, y_tilt (degrees), height of the middle along z above the origin, distance of the faces (A)."""
    covariance: FloatArray
    """(4, 4)."""
    score: float
    """Log-likelihood of the best slab above that of an even spread over all space."""
    contrast: float
    """How many times as dense the points lie inside as outside, at the best slab."""

    @property
    def sigma(self) -> FloatArray:
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grid:
    """Where slabs are tried: inclinations (degrees), lower and upper faces (A along the normal from the pivot)."""

    x_tilts: FloatArray
    y_tilts: FloatArray
    lower: FloatArray
    upper: FloatArray
    softness: float


def slab_posterior(
    points: FloatArray,
    space: FloatArray,
    *,
    sigma_angstrom: float,
    y_tilt_deg: tuple[float, float] | None = None,
    alike: float = 1.0,
) -> SlabPosterior | None:
    r"""All slabs that points could fill evenly, weighed by their likelihood.

    Points are spread evenly between the faces, with a density less by the factor e beyond. With :math:`d_i` the place of
    a point along the normal, blurred by its uncertainty s, and V(L, U) the part of the space between the faces, blurred alike,

    .. math:: \ln P = \sum_i \ln[\Phi((d_i - L)/s)\,\Phi((U - d_i)/s) + e] - N \ln[V(L, U) + e V]

    which is summed over a grid of inclinations, faces and e, again and again about its mean, ever finer. The extremes of
    an even spread tell its faces to about T / N, far better than its mean and variance do.

    Parameters
    ----------
    points : (point, 3), x, y, z in A
    space : (sample, 3), A: an even sample of where points could have been found
    sigma_angstrom : one standard deviation of a point's height
    y_tilt_deg : mean and standard deviation of what is known of it from elsewhere
    alike : points that tell the same as one of them

    Returns
    -------
    None where there are too few points
    """
    if len(points) < _FEWEST:
        return None
    pivot = np.array([*points[:, :2].mean(0), 0.0])
    lever = float(points[:, :2].std(0).mean())
    low, high = float(space[:, 2].min()), float(space[:, 2].max())
    depth = high - low
    first_y = (0.0, STEEPEST / _REACH) if y_tilt_deg is None else y_tilt_deg
    centre = np.array([0.0, first_y[0], low, high])
    reach = np.array([STEEPEST, _REACH * first_y[1], 0.0, 0.0])
    found: SlabPosterior | None = None
    for number in range(_ROUNDS):
        angles = [np.linspace(c - r, c + r, _ANGLES) for c, r in zip(centre[:2], reach[:2], strict=True)]
        angles = [np.unique(np.clip(a, -STEEPEST, STEEPEST)) for a in angles]
        faces = (
            [np.linspace(low, high, 2 * _EDGES)] * 2
            if number == 0
            else [np.linspace(c - r, c + r, _EDGES) for c, r in zip(centre[2:], reach[2:], strict=True)]
        )
        steps = [max(float(a[1] - a[0]) if len(a) > 1 else 0.0, 0.0) for a in (*angles, *faces)]
        softness = max(sigma_angstrom, 0.5 * max(steps[2:]), 0.5 * lever * float(np.deg2rad(max(steps[:2]))))
        grid = _Grid(x_tilts=angles[0], y_tilts=angles[1], lower=faces[0], upper=faces[1], softness=softness)
        looked = _look(points - pivot, space - pivot, grid, y_tilt_deg, alike, depth)
        if looked is None:
            return None
        mean, covariance, score, contrast = looked
        found = _upright(mean, covariance, pivot, score, contrast)
        centre = mean
        reach = np.maximum(_REACH * np.sqrt(np.maximum(np.diag(covariance), 0.0)), 1.5 * np.array(steps))
    return found


def _look(
    points: FloatArray,
    space: FloatArray,
    grid: _Grid,
    prior: tuple[float, float] | None,
    alike: float,
    depth: float,
) -> tuple[FloatArray, FloatArray, float, float] | None:
    """Mean and covariance of x_tilt, y_tilt, lower and upper face over a grid; score and contrast of its best."""
    x, y = (a.ravel() for a in np.meshgrid(grid.x_tilts, grid.y_tilts, indexing="ij"))
    normals = (rotation_y(y) @ rotation_x(x))[..., 2]
    reach = 0.75 * depth + float(np.abs(points[:, :2]).max())
    edges = np.arange(-reach, reach + _BIN, _BIN)
    counts, volume = (_histogram(p @ normals.T, edges) for p in (points, space))
    below = np.concatenate([np.zeros((len(x), 1)), np.cumsum(volume, 1)], axis=1) / len(space)
    centres = 0.5 * (edges[1:] + edges[:-1])
    middle = _middle(counts, volume, centres)
    under = counts * (centres[None] < middle[:, None])
    over = counts - under
    low, high = (face.ravel() for face in np.meshgrid(grid.lower, grid.upper, indexing="ij"))
    half, between = 0.5 * _blurred(high - low, grid.softness), 0.5 * (low + high)
    part = np.stack([np.interp(between + half, edges, row) - np.interp(between - half, edges, row) for row in below])
    inside = part.reshape(len(x), len(grid.lower), len(grid.upper))
    allowed = (
        (grid.lower[None, :, None] < middle[:, None, None])
        & (grid.upper[None, None, :] > middle[:, None, None])
        & (inside > 0)
    )
    if not allowed.any():
        return None
    chance = np.full((len(_OUTSIDE), *inside.shape), -np.inf)
    for k, outside in enumerate(_OUTSIDE):
        from_low = under @ np.log(ndtr((centres[:, None] - grid.lower) / grid.softness) + outside)
        from_high = over @ np.log(ndtr((grid.upper - centres[:, None]) / grid.softness) + outside)
        spread = len(points) * np.log(np.maximum(inside, 0.0) + outside)
        chance[k] = np.where(allowed, from_low[:, :, None] + from_high[:, None, :] - spread, -np.inf)
    chance /= alike
    score = float(chance.max())
    contrast = 1.0 + 1.0 / float(_OUTSIDE[np.unravel_index(int(chance.argmax()), chance.shape)[0]])
    if prior is not None:
        chance -= 0.5 * (((y - prior[0]) / max(prior[1], 1e-6)) ** 2)[None, :, None, None]
    best = float(chance.max())
    which = np.argwhere(chance > best - _LIKELY)
    weight = np.exp(chance[tuple(which.T)] - best)
    values = np.stack([x[which[:, 1]], y[which[:, 1]], grid.lower[which[:, 2]], grid.upper[which[:, 3]]], axis=1)
    mean = np.average(values, axis=0, weights=weight)
    covariance = np.cov(values.T, aweights=weight, ddof=0) if len(values) > 1 else np.zeros((4, 4))
    return mean, covariance, score, contrast


def _blurred(thickness: FloatArray, softness: float) -> FloatArray:
    """Integral over the window of a slab with blurred faces, which stays above zero for the thinnest."""
    ratio = np.maximum(thickness, 0.0) / (np.sqrt(2.0) * softness)
    return np.asarray(np.sqrt(2.0) * softness * (ratio * ndtr(ratio) + np.exp(-0.5 * ratio**2) / np.sqrt(2.0 * np.pi)))


def _histogram(distances: FloatArray, edges: FloatArray) -> FloatArray:
    """(plane, bin) from distances (point, plane)."""
    bins = len(edges) - 1
    place = np.clip(((distances - edges[0]) / _BIN).astype(np.int64), 0, bins - 1)
    planes = distances.shape[1]
    flat = np.bincount((place + bins * np.arange(planes)).ravel(), minlength=bins * planes)
    return np.asarray(flat.reshape(planes, bins), dtype=np.float64)


def _middle(counts: FloatArray, volume: FloatArray, centres: FloatArray) -> FloatArray:
    """(plane,): where a layer holds most points above an even spread."""
    width = round(_WINDOW / _BIN)
    excess = counts / counts.sum(1, keepdims=True) - volume / volume.sum(1, keepdims=True)
    running = np.cumsum(np.pad(excess, ((0, 0), (width // 2 + 1, width - width // 2 - 1))), axis=1)
    layers = running[:, width:] - running[:, :-width]
    return np.asarray(centres[np.minimum(layers.argmax(1), len(centres) - 1)])


def _upright(
    mean: FloatArray, covariance: FloatArray, pivot: FloatArray, score: float, contrast: float
) -> SlabPosterior:
    """From faces along the normal about the pivot to height above the origin and thickness."""

    def convert(values: FloatArray) -> FloatArray:
        normal = (rotation_y(float(values[1])) @ rotation_x(float(values[0])))[:, 2]
        middle = 0.5 * (values[2] + values[3]) + float(normal @ pivot)
        return np.array([values[0], values[1], middle / normal[2], values[3] - values[2]])

    steps = np.array([0.05, 0.05, 1.0, 1.0])
    jacobian = np.stack(
        [(convert(mean + s) - convert(mean - s)) / (2 * s[i]) for i, s in enumerate(np.diag(steps))], axis=1
    )
    return SlabPosterior(
        mean=convert(mean), covariance=jacobian @ covariance @ jacobian.T, score=score, contrast=contrast
    )
