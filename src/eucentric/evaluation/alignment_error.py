"""How far an estimated tilt geometry puts points from where they are, after what no image can tell is fitted away."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation as SciPyRotation

from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.io.truth import TiltTruth
from eucentric.typing import FloatArray

_POINTS = 800
_FIELD = 0.7
_HUNDRED = 100.0  # the displacement's coefficients are counted in 100 A, so that all unknowns are of one size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignmentError:
    """Distances between true and estimated image positions, in A."""

    rms_angstrom: float
    percentile_95_angstrom: float
    per_tilt_angstrom: FloatArray
    """(tilt,) rms."""
    rotation: FloatArray
    """(3, 3) that carries true specimen coordinates to those of the estimate."""
    bend_angstrom: FloatArray
    """(6, 3): displacement by 1, u, v, u^2, uv, v^2 after the rotation, u and v in half fields of the fit."""
    half_field_angstrom: float

    def to_estimate(self, points: FloatArray) -> FloatArray:
        """True specimen points (n, 3) in the coordinates of the estimate."""
        u, v = points[:, 0] / self.half_field_angstrom, points[:, 1] / self.half_field_angstrom
        return np.asarray(points @ self.rotation.T + _terms(u, v) @ self.bend_angstrom)

    def turn_at(self, points: FloatArray) -> FloatArray:
        """(n, 3, 3) rotations that the specimen makes at true points: those of the bend's slopes with the fitted one.

        The bend has slopes of its own, so that `rotation` alone is not determined.
        """
        u, v = points[:, 0] / self.half_field_angstrom, points[:, 1] / self.half_field_angstrom
        zero, one = np.zeros_like(u), np.ones_like(u)
        by_u = np.stack([zero, one, zero, 2.0 * u, v, zero], axis=1) @ self.bend_angstrom
        by_v = np.stack([zero, zero, one, zero, u, 2.0 * v], axis=1) @ self.bend_angstrom
        slopes = np.stack([by_u, by_v, np.zeros_like(by_u)], axis=2) / self.half_field_angstrom
        left, _, right = np.linalg.svd(self.rotation + slopes)
        return np.asarray(left @ right)


def alignment_error(
    truth: TiltTruth, tilts: list[int], estimate: TiltGeometry, warp: ImageWarp | None = None
) -> AlignmentError:
    """Error of an estimated geometry, with its local deformation where there is one.

    Random points fill the central 70% of the field and the thickness. One rotation of the specimen and one static
    displacement of it that is quadratic in x and y (a rigid shift included) are free, since no tilt series shows them.

    Parameters
    ----------
    truth : of the whole series
    tilts : positions in the truth's ascending list of the tilts of `estimate`
    estimate : one geometry a kept tilt
    warp : of the same tilts
    """
    generator = np.random.default_rng(0)
    half = 0.5 * _FIELD * max(truth.image_shape) * truth.pixel_size_angstrom
    points = generator.uniform(-1.0, 1.0, (_POINTS, 3)) * (half, half, 0.5 * truth.thickness_angstrom)
    true = truth.camera_positions(points, deformed=True)[tilts][..., :2]
    basis = _terms(points[:, 0] / half, points[:, 1] / half)
    matrices = estimate.image_matrices
    shifts = estimate.shifts_angstrom[:, None]

    def predicted(unknowns: FloatArray) -> FloatArray:
        turned = points @ SciPyRotation.from_rotvec(unknowns[:3]).as_matrix().T
        moved = turned + basis @ (_HUNDRED * unknowns[3:].reshape(6, 3))
        rigid = torch.from_numpy(np.einsum("tij,pj->tpi", matrices, moved) + shifts)
        if warp is not None:
            rigid = torch.stack([places + warp.at(t, places) for t, places in enumerate(rigid)])
        return rigid.numpy()

    def residuals(unknowns: FloatArray) -> FloatArray:
        return (predicted(unknowns) - true).ravel()

    fit = least_squares(residuals, np.zeros(21), max_nfev=50)
    distance = np.linalg.norm(predicted(fit.x) - true, axis=-1)
    return AlignmentError(
        rms_angstrom=float(np.sqrt((distance**2).mean())),
        percentile_95_angstrom=float(np.quantile(distance, 0.95)),
        per_tilt_angstrom=np.sqrt((distance**2).mean(1)),
        rotation=np.asarray(SciPyRotation.from_rotvec(fit.x[:3]).as_matrix()),
        bend_angstrom=_HUNDRED * fit.x[3:].reshape(6, 3),
        half_field_angstrom=half,
    )


def _terms(u: FloatArray, v: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)
