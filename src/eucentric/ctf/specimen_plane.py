"""Where the specimen is under each tile, and so how far its defocus lies from that of the specimen centre."""

import numpy as np
from numpy.typing import ArrayLike

from eucentric.geometry import TiltGeometry, rotation_x, rotation_y
from eucentric.typing import FloatArray

_STEEPEST = 0.1  # cosine of 84 degrees: a plane seen more edge-on than this has no height under a tile


def plane_normal(inclination_x_deg: float = 0.0, inclination_y_deg: float = 0.0) -> FloatArray:
    """(3,) normal of the specimen plane: ``Ry(inclination_y) Rx(inclination_x) z``, in specimen coordinates."""
    return np.asarray((rotation_y(inclination_y_deg) @ rotation_x(inclination_x_deg))[:, 2], dtype=np.float64)


def plane_slopes(geometry: TiltGeometry, normal: ArrayLike = (0.0, 0.0, 1.0)) -> FloatArray:
    """(tilt, 2) rise of the specimen plane towards +z of the camera per A along the camera's x and y.

    With n' = R n in the camera frame, points of the plane obey n' . (x - shift) = 0, so dz/dx = -n'_x / n'_z. NaN for a
    tilt that sees the plane edge-on.
    """
    camera = geometry.matrices @ np.asarray(normal, dtype=np.float64)
    steep = np.abs(camera[:, 2:]) < _STEEPEST
    return np.asarray(np.where(steep, np.nan, -camera[:, :2] / np.where(steep, 1.0, camera[:, 2:])))


def plane_heights(
    positions_angstrom: ArrayLike, geometry: TiltGeometry, normal: ArrayLike = (0.0, 0.0, 1.0)
) -> FloatArray:
    """(tilt, point) camera z in A of the plane through the specimen centre, at camera positions (point, 2) in A."""
    from_centre = np.asarray(positions_angstrom, dtype=np.float64) - geometry.shifts_angstrom[:, None, :]
    return np.asarray(np.einsum("tpc,tc->tp", from_centre, plane_slopes(geometry, normal)))
