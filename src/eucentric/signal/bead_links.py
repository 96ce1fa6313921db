"""Which detections in which tilts are one bead: triangulation under a known geometry, by the most votes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray

Indices = NDArray[np.int64]

FEWEST_TILTS = 3  # in which one bead must be found: two always agree on a point
RECURRING = 0.3  # share of the tilts that should show it in which it must be found
_PAIR_STEPS = (3, 7)  # tilts apart: pairs far enough to fix a depth, near enough to share the field of view
_REFINEMENTS = 3


@dataclass(frozen=True, slots=True)
class BeadLinker:
    """Joins places (x, y in pixels) in the images of a series to points of the specimen (A)."""

    geometry: TiltGeometry
    pixel_size: float
    shape: tuple[int, int]
    """(y, x) of the images."""
    tolerance: float
    """Pixels between a detection and the projection of its point."""

    def project(self, points: FloatArray) -> FloatArray:
        """(tilt, point, 2) pixels of specimen points (A)."""
        centre = np.array([self.shape[1] // 2, self.shape[0] // 2])
        return np.asarray(self.geometry.project(points)[..., :2] / self.pixel_size + centre)

    def visible(self, places: FloatArray, margin: float) -> FloatArray:
        """Which places (..., 2) lie in the image or within `margin` pixels of it."""
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
        """Points (n, 3) and for each tilt the point that each detection belongs to, -1 for none.

        Every pair of detections a few tilts apart proposes a point; those that most tilts agree with are taken first, moved
        to fit all of theirs, and keep their detections for themselves.
        """
        owners = [np.full(len(place), -1, dtype=np.int64) for place in places]
        candidates = self._pairs(places)
        support = self._support(candidates, places)
        order = np.argsort(-support, kind="stable")
        candidates = candidates[order[support[order] >= FEWEST_TILTS]]
        points: list[FloatArray] = []
        done = np.zeros(len(candidates), dtype=bool)
        for row in range(len(candidates)):
            if done[row]:
                continue
            point, near = candidates[row], self._own(candidates[row], places, owners)
            for _ in range(_REFINEMENTS):
                if len(near) < FEWEST_TILTS:
                    break
                tilts = np.array([tilt for tilt, _ in near])
                point = self.triangulate(tilts, np.array([places[tilt][index] for tilt, index in near]))
                near = self._own(point, places, owners)
            # what proposes this very point again has nothing new to say
            done |= np.abs(candidates - point).max(axis=1) <= self.tolerance * self.pixel_size
            expected = int(self.visible(self.project(point[None])[:, 0], 0.0).sum())
            if len(near) < max(FEWEST_TILTS, RECURRING * expected):
                continue
            for tilt, index in near:
                owners[tilt][index] = len(points)
            points.append(point)
        return np.array(points).reshape(-1, 3), owners

    def _own(self, point: FloatArray, places: Sequence[FloatArray], owners: Sequence[Indices]) -> list[tuple[int, int]]:
        """(tilt, index) of the nearest free detection of each tilt, where that lies within the tolerance."""
        out = []
        for tilt, at in enumerate(self.project(point[None])[:, 0]):
            apart = np.hypot(*(places[tilt] - at).T) if len(places[tilt]) else np.zeros(0)
            apart = np.where(owners[tilt] < 0, apart, math.inf)
            if len(apart) and apart.min() <= self.tolerance:
                out.append((tilt, int(apart.argmin())))
        return out

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
                pair = BeadLinker(self.geometry[[first, first + step]], self.pixel_size, self.shape, self.tolerance)
                miss = np.hypot(*(pair.project(points).transpose(1, 0, 2) - both).transpose(2, 0, 1)).max(axis=1)
                out.append(points[miss <= self.tolerance])
        return np.concatenate(out)

    def _support(self, points: FloatArray, places: Sequence[FloatArray]) -> Indices:
        """(point,): tilts with a detection near its projection."""
        projected = self.project(points)
        out = np.zeros(len(points), dtype=np.int64)
        for tilt, place in enumerate(places):
            if len(place) and len(points):
                out += cKDTree(place).query(projected[tilt])[0] <= self.tolerance
        return out
