"""The gold beads of a tilt series: one size, found in every image, joined across tilts where the geometry is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.signal.beads import (
    BeadDetections,
    above,
    decoy_scores,
    match_beads,
    measure_profile,
    no_beads,
    trusted_score,
)
from eucentric.typing import FloatArray

Indices = NDArray[np.int64]

_PROFILE_TILTS = 7  # images that set the common size; more change the mean bead little
_RECURRING = 0.3  # share of the tilts in which beads, or one bead, must be found
_FEWEST = 3  # tilts in which one bead must be found: two always agree on a point
_WEAK = 0.6  # score that a bead needs in a tilt where its place is known
_NEAR = 0.3  # of the radius: how far from there it may lie
_PAIR_STEPS = (3, 7)  # tilts apart: pairs far enough to fix a depth, near enough to share the field of view


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BeadSeries:
    """The beads of a tilt series; every tuple has one entry for each tilt."""

    positions_px: tuple[FloatArray, ...]
    """(bead, 2), x and y; of predicted beads too, some of them just outside the image."""
    scores: tuple[FloatArray, ...]
    """(bead,); NaN for beads that were only predicted."""
    labels: tuple[Indices, ...]
    """(bead,): row of `points_angstrom`; -1 for a bead that was joined to none of them."""
    points_angstrom: FloatArray
    """(point, 3) in the specimen; empty without a geometry."""
    residuals_px: FloatArray
    """(point,): root mean square distance between the detections of a bead and the projections of its point."""
    radius_px: float
    halo_px: float


def detect_beads_in_series(
    images: Float[Tensor, "tilt y x"],
    *,
    pixel_size: float,
    diameter_angstrom: float | None = None,
    geometry: TiltGeometry | None = None,
    threshold: float = 0.75,
) -> BeadSeries:
    """Find the gold beads of a tilt series.

    Size and mean bead come from a few tilts over the whole range and are common to all; so is the least score, from
    the inverted images. Fewer than three tilts in ten with a bead mean that there are none. With a geometry,
    detections are joined to points of the specimen by the triangulations that most tilts agree with; each point is then
    looked for again wherever it should be seen, and predicted (projection plus the residual of the neighbouring
    tilts) where it is not recognised. Detections that belong to no point stay if they look as good as those that do.

    Parameters
    ----------
    images : (tilt, y, x), ascending tilt angle
    pixel_size : A
    diameter_angstrom : none searches 40 to 300 A
    geometry : of the same tilts; errors up to the radius of a bead are tolerated
    threshold : least correlation with the mean bead, see :func:`detect_beads`

    Raises
    ------
    ShapeError : images and geometry of different length
    InputError : as :func:`detect_beads`
    """
    if geometry is not None and len(geometry) != len(images):
        raise ShapeError(f"There are {len(images)} images, but the geometry has {len(geometry)} tilts.")
    count = len(images)
    chosen = np.unique(
        np.linspace(0.1 * (count - 1), 0.9 * (count - 1), min(count, _PROFILE_TILTS)).round().astype(int)
    )
    profile = measure_profile(images[chosen.tolist()], pixel_size=pixel_size, diameter_angstrom=diameter_angstrom)
    if profile is None:
        return _series([no_beads()] * count, 0.0, 0.0)
    found = [match_beads(image, profile, threshold=threshold) for image in images]
    decoys = [
        decoy_scores(image, profile, one.positions_px, threshold=threshold)
        for image, one in zip(images, found, strict=True)
    ]
    least = trusted_score(np.concatenate([one.scores for one in found]), np.concatenate(decoys))
    found = [above(one, least) for one in found]
    if sum(len(one.scores) > 0 for one in found) < _RECURRING * count:
        return _series([no_beads()] * count, 0.0, 0.0)
    if geometry is None:
        return _series(found, profile.radius_px, profile.halo_px)
    shape = (images.shape[-2], images.shape[-1])
    linker = _Linker(geometry, pixel_size, shape, tolerance=profile.radius_px)
    points, owners = linker.link([one.positions_px for one in found])
    if len(points) == 0:
        return _series([no_beads()] * count, 0.0, 0.0)

    positions, scores, labels = [], [], []
    common = np.concatenate([one.scores[owner >= 0] for one, owner in zip(found, owners, strict=True)])
    residual = linker.residuals([one.positions_px for one in found], owners, points)
    expected = linker.project(points) + _filled(residual)
    for tilt, (one, owner) in enumerate(zip(found, owners, strict=True)):
        keep = (owner >= 0) | (one.scores >= np.quantile(common, 0.05))
        places, marks, names = [one.positions_px[keep]], [one.scores[keep]], [owner[keep]]
        missed = np.setdiff1d(np.arange(len(points)), owner)
        missed = missed[linker.visible(expected[tilt, missed], profile.halo_px)]
        for point in missed:
            place, score = expected[tilt, point], math.nan
            again = match_beads(images[tilt], profile, threshold=_WEAK, near_px=place[None])
            taken = np.concatenate(places)
            close = len(again.scores) > 0 and _distance(place, again.positions_px) < _NEAR * profile.radius_px
            if close and _distance(again.positions_px[0], taken) > profile.radius_px:
                place, score = again.positions_px[0], float(again.scores[0])
            places.append(place[None])
            marks.append(np.array([score]))
            names.append(np.array([point]))
        positions.append(np.concatenate(places))
        scores.append(np.concatenate(marks))
        labels.append(np.concatenate(names))
    return BeadSeries(
        positions_px=tuple(positions),
        scores=tuple(scores),
        labels=tuple(labels),
        points_angstrom=points,
        residuals_px=np.sqrt(np.nanmean((residual**2).sum(axis=-1), axis=0)),
        radius_px=profile.radius_px,
        halo_px=profile.halo_px,
    )


def _series(found: Sequence[BeadDetections], radius: float, halo: float) -> BeadSeries:
    return BeadSeries(
        positions_px=tuple(one.positions_px for one in found),
        scores=tuple(one.scores for one in found),
        labels=tuple(np.full(len(one.scores), -1, dtype=np.int64) for one in found),
        points_angstrom=np.zeros((0, 3)),
        residuals_px=np.zeros(0),
        radius_px=radius,
        halo_px=halo,
    )


def _distance(place: FloatArray, others: FloatArray) -> float:
    return float(np.hypot(*(others - place).T).min()) if len(others) else math.inf


def _filled(residual: FloatArray) -> FloatArray:
    """(tilt, point, 2) without gaps: linear between tilts, constant beyond the first and last."""
    out = residual.copy()
    tilts = np.arange(len(residual))
    for point in range(residual.shape[1]):
        seen = np.isfinite(residual[:, point, 0])
        for axis in range(2):
            out[:, point, axis] = np.interp(tilts, tilts[seen], residual[seen, point, axis])
    return out


@dataclass(frozen=True, slots=True)
class _Linker:
    geometry: TiltGeometry
    pixel_size: float
    shape: tuple[int, int]
    tolerance: float
    """Pixels."""

    def project(self, points: FloatArray) -> FloatArray:
        """(tilt, point, 2) pixels of specimen points (A)."""
        centre = np.array([self.shape[1] // 2, self.shape[0] // 2])
        return np.asarray(self.geometry.project(points)[..., :2] / self.pixel_size + centre)

    def visible(self, places: FloatArray, margin: float) -> FloatArray:
        """Which places (n, 2) lie in the image or within `margin` pixels of it."""
        size = np.array([self.shape[1], self.shape[0]])
        return np.asarray(((places > -margin) & (places < size - 1 + margin)).all(axis=-1))

    def triangulate(self, tilts: Indices, places: FloatArray) -> FloatArray:
        """Points (..., 3), A, nearest in least squares to the rays of places (..., view, 2) in tilts (..., view)."""
        centre = np.array([self.shape[1] // 2, self.shape[0] // 2])
        rays = self.geometry.image_matrices[tilts]
        target = (places - centre) * self.pixel_size - self.geometry.shifts_angstrom[tilts]
        normal = np.einsum("...vij,...vik->...jk", rays, rays)
        side = np.einsum("...vij,...vi->...j", rays, target)
        normal = normal + 1e-6 * np.eye(3)  # a single direction leaves the depth open: keep it finite
        return np.asarray(np.linalg.solve(normal, side[..., None])[..., 0])

    def residuals(self, places: Sequence[FloatArray], owners: Sequence[Indices], points: FloatArray) -> FloatArray:
        """(tilt, point, 2): detection minus projection, NaN where a point was not detected."""
        projected = self.project(points)
        out = np.full_like(projected, np.nan)
        for tilt, (place, owner) in enumerate(zip(places, owners, strict=True)):
            own = owner >= 0
            out[tilt, owner[own]] = place[own] - projected[tilt, owner[own]]
        return out

    def link(self, places: Sequence[FloatArray]) -> tuple[FloatArray, list[Indices]]:
        """Points (n, 3) and for each tilt the point that each detection belongs to, -1 for none."""
        owners = [np.full(len(place), -1, dtype=np.int64) for place in places]
        candidates = self._pairs(places)
        points: list[FloatArray] = []
        while len(candidates):
            near = self._nearest(candidates, places, owners)
            support = (near[0] <= self.tolerance).sum(axis=0)
            best = int(support.argmax())
            if support[best] < _FEWEST:
                break
            point = candidates[best]
            for _ in range(3):
                distance, index = self._nearest(point[None], places, owners)
                tilts = np.flatnonzero(distance[:, 0] <= self.tolerance)
                if len(tilts) < 2:
                    break
                point = self.triangulate(tilts, np.array([places[int(t)][index[t, 0]] for t in tilts]))
            distance, index = self._nearest(point[None], places, owners)
            tilts = np.flatnonzero(distance[:, 0] <= self.tolerance)
            expected = int(self.visible(self.project(point[None])[:, 0], 0.0).sum())
            enough = len(tilts) >= max(_FEWEST, _RECURRING * expected)
            apart = np.abs(candidates - point).max(axis=1) > self.tolerance * self.pixel_size
            apart[best] = False
            candidates = candidates[apart]
            if enough:
                for t in tilts:
                    owners[int(t)][index[t, 0]] = len(points)
                points.append(point)
        return np.array(points).reshape(-1, 3), owners

    def _pairs(self, places: Sequence[FloatArray]) -> FloatArray:
        """Points (n, 3) of all pairs of detections whose rays meet."""
        out = [np.zeros((0, 3))]
        for step in _PAIR_STEPS:
            for first in range(len(places) - step):
                one, two = places[first], places[first + step]
                if len(one) == 0 or len(two) == 0:
                    continue
                both = np.stack(np.broadcast_arrays(one[:, None], two[None]), axis=-2).reshape(-1, 2, 2)
                tilts = np.array([first, first + step])
                points = self.triangulate(np.broadcast_to(tilts, (len(both), 2)), both)
                miss = np.hypot(*(self.project(points)[tilts].transpose(1, 0, 2) - both).transpose(2, 0, 1)).max(axis=1)
                out.append(points[miss <= self.tolerance])
        return np.concatenate(out)

    def _nearest(
        self, points: FloatArray, places: Sequence[FloatArray], owners: Sequence[Indices]
    ) -> tuple[FloatArray, Indices]:
        """Distance (tilt, point) in pixels to the nearest free detection, and its index."""
        projected = self.project(points)
        distance = np.full(projected.shape[:2], np.inf)
        index = np.zeros(projected.shape[:2], dtype=np.int64)
        for tilt, (place, owner) in enumerate(zip(places, owners, strict=True)):
            free = np.flatnonzero(owner < 0)
            if len(free):
                apart = np.hypot(*(projected[tilt][:, None] - place[free][None]).transpose(2, 0, 1))
                nearest = apart.argmin(axis=1)
                distance[tilt], index[tilt] = apart[np.arange(len(apart)), nearest], free[nearest]
        return distance, index
