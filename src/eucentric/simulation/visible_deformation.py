r"""How strongly a specimen bends with dose, from the local deformation that an alignment found.

The simulated specimen moves by :math:`a\,g_t \sum_k c_k b_k(u, v)` with normal coefficients (`Acquisition.deformation_at`). Images
do not show all of it: a part that stays the same over the series is taken for the specimen's shape, and a part that is the same
all over an image for a shift of it. Both are taken away from what was found and from each simulated term alike; what is left of the
terms has a mean square that is proportional to :math:`a^2`, and that of what was found gives a.
"""

import numpy as np

from eucentric.errors import ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.typing import FloatArray

_SETTLING_DOSE, _SCALE = 30.0, 1.5  # as `eucentric.simulation.acquisition`
_STATIC = 6  # terms of a shape: 1, u, v, u^2, v^2, uv


def deformation_amplitude(
    displacement_angstrom: FloatArray,
    places_angstrom: FloatArray,
    geometry: TiltGeometry,
    exposure: FloatArray,
    field_angstrom: tuple[float, float],
) -> float:
    """The simulator's `deformation_angstrom` that shows as strongly as a measured deformation of the images does.

    Parameters
    ----------
    displacement_angstrom : (tilt, point, 2), x and y, of what lies in the middle of the ice
    places_angstrom : (point, 2), image positions from the centre
    geometry : one a tilt
    exposure : (tilt,), e/A^2 at the middle of each image
    field_angstrom : x, y, of an image

    Returns
    -------
    A, not negative. What the alignment missed, or took for deformation by mistake, is in it.

    Raises
    ------
    ShapeError : arrays that do not belong together
    """
    tilts, points = len(geometry), len(places_angstrom)
    if displacement_angstrom.shape != (tilts, points, 2) or exposure.shape != (tilts,):
        raise ShapeError(
            f"Displacements of shape {displacement_angstrom.shape} and {exposure.shape} exposures were given for {tilts} tilts and "
            f"{points} places; expected ({tilts}, {points}, 2) and ({tilts},)."
        )
    half = 0.5 * max(field_angstrom)
    matrices, shifts = geometry.image_matrices, geometry.shifts_angstrom
    shapes = np.empty((3 * _STATIC, tilts, points, 2))
    for tilt, matrix in enumerate(matrices):
        flat = np.linalg.solve(matrix[:, :2], (places_angstrom - shifts[tilt]).T) / half
        u, v = np.clip(flat, -2.0, 2.0)  # far outside at the steepest tilts
        basis = np.stack([np.ones_like(u), u, v, u * u, v * v, u * v])
        shapes[:, tilt] = np.einsum("kp,ic->ckpi", basis, matrix).reshape(3 * _STATIC, points, 2)
    grown = (1.0 - np.exp(-exposure / _SETTLING_DOSE)) / _SCALE
    moving = (shapes * grown[:, None, None]).reshape(3, _STATIC, tilts, points, 2)[:, 1:]
    moving = moving.reshape(-1, tilts, points, 2)

    def shown(fields: FloatArray) -> FloatArray:
        """(field, everything) without what no series shows."""
        flat = (fields - fields.mean(axis=2, keepdims=True)).reshape(len(fields), -1)
        hidden = (shapes - shapes.mean(axis=2, keepdims=True)).reshape(len(shapes), -1)
        weights = np.linalg.lstsq(hidden.T, flat.T, rcond=None)[0]
        return np.asarray(flat - weights.T @ hidden)

    expected = float((shown(moving) ** 2).mean(axis=1).sum())  # coefficients are normal, of variance one
    found = float((shown(displacement_angstrom[None]) ** 2).mean())
    return float(np.sqrt(found / expected)) if expected > 0 else 0.0
