"""A set of tracks made ready, and one fit of a model to it."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from eucentric.alignment.bundle_deformation import (
    Deformation,
    as_image_warp,
    exponential_course,
    mean_moves,
    monomials,
    spline_courses,
)
from eucentric.alignment.bundle_model import BundleModel, BundlePriors, lay_out
from eucentric.alignment.bundle_projection import TrackProblem, whitening_of
from eucentric.fitting.robust_bundle import BundleSolution, BundleStructure
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.tracks import Indices, Tracks
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackSet:
    """Tracks with all that does not depend on the model."""

    tracks: Tracks
    start: TiltGeometry
    doses: FloatArray
    """(tilt,)."""
    priors: BundlePriors
    half_field_angstrom: float
    names: Indices
    """(point,)."""
    rows: Indices
    """(observation,), place of its point in `names`."""
    whitening: FloatArray
    """(observation, 2, 2), before `reliability`."""
    reliability: FloatArray
    """(observation,), 1, or less for points that are known to move."""

    @classmethod
    def build(
        cls,
        tracks: Tracks,
        start: TiltGeometry,
        doses: FloatArray,
        priors: BundlePriors,
        *,
        half_field: float,
        floor_angstrom: float,
    ) -> Self:
        """`floor_angstrom`: no position is taken as better known than this."""
        names, rows = np.unique(tracks.points, return_inverse=True)
        return cls(
            tracks=tracks,
            start=start,
            doses=doses,
            priors=priors,
            half_field_angstrom=half_field,
            names=names,
            rows=rows.astype(np.int64),
            whitening=whitening_of(tracks.covariance, floor_angstrom),
            reliability=np.ones(len(tracks)),
        )

    def of_points(self, places: Indices) -> Self:
        """Only some of the points, by place in `names`."""
        kept = np.isin(self.rows, places)
        tracks = self.tracks.take(kept)
        names, rows = np.unique(tracks.points, return_inverse=True)
        return replace(
            self,
            tracks=tracks,
            names=names,
            rows=rows.astype(np.int64),
            whitening=self.whitening[kept],
            reliability=self.reliability[kept],
        )

    def problem(self, model: BundleModel) -> TrackProblem:
        """What is to be solved for a model."""
        points = self.start_points()
        deformation = Deformation(
            order=model.deformation_order,
            half_field_angstrom=self.half_field_angstrom,
            courses=self._courses(model),
            means=monomials(points / self.half_field_angstrom, model.deformation_order).mean(0),
            origin_angstrom=np.zeros(3),
        )
        layout = lay_out(model, self.start.y_tilt_deg, deformation, self.priors)
        structure = BundleStructure(
            groups=self.tracks.tilts,
            points=self.rows,
            spread=layout.spread,
            prior_sigma=layout.sigma,
            prior_mean=np.zeros(len(layout.sigma)),
            kinds=layout.kinds,
            point_precision=1.0 / (2.0 * self.half_field_angstrom) ** 2,
            point_mean=points,
        )
        return TrackProblem(
            tracks=self.tracks,
            point_rows=self.rows,
            whitening=np.sqrt(self.reliability)[:, None, None] * self.whitening,
            start=self.start,
            structure=structure,
            deformation=deformation,
        )

    def start_points(self) -> FloatArray:
        """(point, 3): where the start geometry puts the points, by least squares with a wide prior."""
        matrices = self.whitening @ self.start.image_matrices[self.tracks.tilts]
        away = self.tracks.positions_angstrom - self.start.shifts_angstrom[self.tracks.tilts]
        seen = np.einsum("oij,oj->oi", self.whitening, away)
        own = np.zeros((len(self.names), 3, 3))
        right = np.zeros((len(self.names), 3))
        np.add.at(own, self.rows, matrices.transpose(0, 2, 1) @ matrices)
        np.add.at(right, self.rows, np.einsum("oij,oi->oj", matrices, seen))
        own += np.eye(3) / (2.0 * self.half_field_angstrom) ** 2
        return np.asarray(np.linalg.solve(own, right[..., None])[..., 0])

    def _courses(self, model: BundleModel) -> FloatArray:
        if not model.deformation_order:
            return np.zeros((len(self.start), 0))
        if model.deformation_course == "exponential":
            return exponential_course(self.doses, model.deformation_dose)
        return spline_courses(self.doses, model.deformation_nodes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """A model, its problem and the solution."""

    model: BundleModel
    problem: TrackProblem
    solution: BundleSolution

    def answer(self, image_shape: tuple[int, int], pixel_size: float, grid: tuple[int, int]) -> "Answer":
        """Geometry, points and fields, brought to the place of the start.

        A translation of the specimen is free: it is the one that brings the shifts nearest to the start, by least
        distances over the tilts that are seen. Shifts hold what the deformation moves all points by, so that the geometry serves
        alone too; tilts without observations keep the shift of the start.
        """
        problem, common = self.problem, self.solution.common
        geometry, points = problem.geometry(common), self.solution.points
        seen = np.bincount(problem.tracks.tilts, self.solution.weights, len(geometry)) > 0
        half = 0.5 * pixel_size * np.array(image_shape[::-1], dtype=np.float64)
        coefficients = problem.coefficients(common)
        means = mean_moves(problem.deformation, coefficients, geometry, points, half)
        shifts = geometry.shifts_angstrom + np.where(seen[:, None], means, 0.0)
        matrices = geometry.image_matrices
        move = _least_distances(matrices[seen], (problem.start.shifts_angstrom - shifts)[seen])
        moved = shifts + np.where(seen[:, None], matrices @ move, 0.0)
        geometry = geometry.replace(shifts_angstrom=moved)
        points = points - move
        warp = None
        if self.model.deformation_order:
            deformation = replace(problem.deformation, origin_angstrom=-move)
            warp = as_image_warp(
                deformation,
                coefficients,
                geometry,
                points,
                means,
                image_shape=image_shape,
                pixel_size=pixel_size,
                grid=grid,
            )
        return Answer(geometry=geometry, points=points, warp=warp)

    def local_sigma(self) -> FloatArray:
        """(tilt, 6): standard deviations of shifts (A), axis, tilt, x-tilt (degrees) and magnification.

        Shifts are counted after the best translation of the specimen: where it lies, no series tells.
        """
        spread = self.problem.structure.spread[:, :6]
        tilts, _, n = spread.shape
        # a translation of the specimen changes the shifts of all tilts by what the images show of it
        free = np.linalg.pinv(spread[:, :2].reshape(2 * tilts, n))
        slide = free @ self.problem.geometry(self.solution.common).image_matrices.reshape(2 * tilts, 3)
        seen = np.repeat(np.bincount(self.problem.tracks.tilts, self.solution.weights, tilts) > 0, 2)
        chosen = spread[:, :2].reshape(2 * tilts, n)[seen]
        held = np.eye(n) - slide @ np.linalg.pinv(chosen @ slide) @ chosen
        covariance = held @ self.solution.covariance @ held.T
        variance = np.einsum("tkn,nm,tkm->tk", spread, covariance, spread, optimize=True)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a fit says, in the coordinates of the start."""

    geometry: TiltGeometry
    points: FloatArray
    """(point, 3), A."""
    warp: ImageWarp | None


def _least_distances(matrices: FloatArray, targets: FloatArray) -> FloatArray:
    """(3,): d of least sum of distances between (tilt, 2, 3) matrices times d and (tilt, 2) targets; the smallest such d."""
    weight = np.ones(len(matrices))
    move: FloatArray = np.zeros(3)
    for _ in range(20):
        root = np.sqrt(weight)
        left = (root[:, None, None] * matrices).reshape(-1, 3)
        move = np.asarray(np.linalg.lstsq(left, (root[:, None] * targets).reshape(-1), rcond=1e-6)[0], np.float64)
        length = np.linalg.norm(targets - matrices @ move, axis=1)
        weight = 1.0 / np.maximum(length, 1e-3 + 0.1 * float(np.median(length)) if len(length) else 1.0)
    return np.asarray(move)
