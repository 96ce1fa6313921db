"""Predicted positions of specimen points in the images, and how they change with every unknown."""

from dataclasses import dataclass

import numpy as np

from eucentric.alignment.bundle_deformation import Deformation
from eucentric.fitting.robust_bundle import BundleStructure, Linearised
from eucentric.geometry.rotations import rotation_x, rotation_y, rotation_z
from eucentric.geometry.tilt import TiltGeometry
from eucentric.models.tracks import Tracks
from eucentric.typing import FloatArray

SHIFT_X, SHIFT_Y, AXIS, TILT, X_TILT, LOG_MAGNIFICATION = range(6)
"""Local unknowns of a tilt, about the start: A, A, degrees, degrees, degrees, 1; the deformation's follow (A)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackProblem:
    """Tracks against a geometry: what `eucentric.fitting.solve_bundle` fits.

    The specimen point X is seen in tilt t at ``m Rxy(X + d_t(X)) + s``; d is the deformation of the specimen.
    """

    tracks: Tracks
    point_rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    """(observation,), place of each observation's point among the points."""
    whitening: FloatArray
    """(observation, 2, 2), W with W^T W the inverse covariance."""
    start: TiltGeometry
    structure: BundleStructure
    deformation: Deformation

    def local_unknowns(self, common: FloatArray) -> FloatArray:
        """(tilt, local): unknowns of each tilt."""
        return np.asarray(self.structure.spread @ common)

    def geometry(self, common: FloatArray) -> TiltGeometry:
        """The geometry that goes with common unknowns."""
        local = self.local_unknowns(common)
        return TiltGeometry.build(
            self.start.y_tilt_deg + local[:, TILT],
            z_rot_deg=self.start.z_rot_deg + local[:, AXIS],
            x_tilt_deg=self.start.x_tilt_deg + local[:, X_TILT],
            shifts_angstrom=self.start.shifts_angstrom + local[:, [SHIFT_X, SHIFT_Y]],
            magnification=self.start.magnification * np.exp(local[:, LOG_MAGNIFICATION]),
        )

    def coefficients(self, common: FloatArray) -> FloatArray:
        """(tilt, 3, term): the deformation's coefficients in A."""
        return self.local_unknowns(common)[:, 6:].reshape(len(self.start), 3, self.deformation.terms)

    def predicted(self, common: FloatArray, points: FloatArray) -> FloatArray:
        """(observation, 2), A."""
        geometry = self.geometry(common)
        tilt = self.tracks.tilts
        moved = self._moved(self.coefficients(common), points)
        return np.asarray(
            np.einsum("oij,oj->oi", geometry.image_matrices[tilt], moved) + geometry.shifts_angstrom[tilt]
        )

    def residuals(self, common: FloatArray, points: FloatArray) -> FloatArray:
        """(observation, 2), measured less predicted, whitened."""
        raw = self.tracks.positions_angstrom - self.predicted(common, points)
        return np.asarray(np.einsum("oij,oj->oi", self.whitening, raw))

    def linearise(self, common: FloatArray, points: FloatArray) -> Linearised:
        """Residuals and derivatives, whitened."""
        geometry, tilt = self.geometry(common), self.tracks.tilts
        coefficients = self.coefficients(common)
        matrices = geometry.image_matrices
        moved = self._moved(coefficients, points)
        image = np.einsum("oij,oj->oi", matrices[tilt], moved)
        raw = self.tracks.positions_angstrom - image - geometry.shifts_angstrom[tilt]

        by_group = np.zeros((len(tilt), 2, 6 + self.deformation.local_unknowns))
        by_group[:, 0, SHIFT_X] = by_group[:, 1, SHIFT_Y] = 1.0
        degree = np.pi / 180.0
        by_group[:, :, AXIS] = degree * np.stack([-image[:, 1], image[:, 0]], axis=1)
        by_group[:, :, TILT] = degree * self._by_tilt(geometry, moved)
        by_group[:, :, X_TILT] = degree * self._by_x_tilt(geometry, moved)
        by_group[:, :, LOG_MAGNIFICATION] = image
        by_point = matrices[tilt]
        if self.deformation.terms:
            at = points[self.point_rows]
            basis, slopes = self.deformation.basis(at), self.deformation.basis_slopes(at)
            by_group[:, :, 6:] = np.einsum("oij,ok->oijk", matrices[tilt], basis).reshape(len(tilt), 2, -1)
            bend = np.einsum("ojk,okd->ojd", coefficients[tilt], slopes)
            by_point = by_point + np.concatenate(
                [np.einsum("oij,ojd->oid", matrices[tilt], bend), np.zeros((len(tilt), 2, 1))], axis=2
            )
        return Linearised(
            residuals=np.einsum("oij,oj->oi", self.whitening, raw),
            by_group=self.whitening @ by_group,
            by_point=self.whitening @ by_point,
        )

    def _moved(self, coefficients: FloatArray, points: FloatArray) -> FloatArray:
        """(observation, 3): where the deformation has taken each observation's point."""
        at = points[self.point_rows]
        if not self.deformation.terms:
            return at
        return np.asarray(at + np.einsum("ojk,ok->oj", coefficients[self.tracks.tilts], self.deformation.basis(at)))

    def _by_tilt(self, geometry: TiltGeometry, moved: FloatArray) -> FloatArray:
        # d/dt of the rows x and y of Rz Ry Rx p is Rz (z_camera, 0)
        tilt = self.tracks.tilts
        depth = np.einsum("oj,oj->o", geometry.matrices[tilt, 2], moved)
        turn = rotation_z(geometry.z_rot_deg)[tilt, :2, 0]
        return np.asarray((geometry.magnification[tilt] * depth)[:, None] * turn)

    def _by_x_tilt(self, geometry: TiltGeometry, moved: FloatArray) -> FloatArray:
        tilt = self.tracks.tilts
        turned = np.einsum("oij,oj->oi", rotation_x(geometry.x_tilt_deg)[tilt], moved)
        across = np.stack([np.zeros(len(tilt)), -turned[:, 2], turned[:, 1]], axis=1)
        outer = (rotation_z(geometry.z_rot_deg) @ rotation_y(geometry.y_tilt_deg))[tilt, :2]
        return np.asarray(geometry.magnification[tilt][:, None] * np.einsum("oij,oj->oi", outer, across))


def whitening_of(covariance: FloatArray, floor_angstrom: float) -> FloatArray:
    """(observation, 2, 2) W with W^T W the inverse of each covariance, no axis better known than `floor_angstrom`."""
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.transpose(0, 2, 1)))
    size = 1.0 / np.sqrt(np.maximum(value, floor_angstrom**2))
    return np.asarray(size[:, :, None] * vector.transpose(0, 2, 1))
