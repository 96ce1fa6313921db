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
    positions_angstrom: ArrayLike,
    geometry: TiltGeometry,
    normal: ArrayLike = (0.0, 0.0, 1.0),
    height_angstrom: float = 0.0,
) -> FloatArray:
    """(tilt, point) camera z in A of the specimen plane, at camera positions (point, 2) in A.

    The plane passes through the specimen point (0, 0, height). NaN where a tilt sees it edge-on.
    """
    direction = np.asarray(normal, dtype=np.float64)
    slopes = plane_slopes(geometry, direction)
    from_centre = np.asarray(positions_angstrom, dtype=np.float64) - geometry.shifts_angstrom[:, None, :]
    # n' . (x - shift - R (0, 0, h)) = 0 with n' = R n, so h adds h n_z / n'_z
    along = path_factors(geometry, direction, signed=True)
    return np.asarray(np.einsum("tpc,tc->tp", from_centre, slopes) + height_angstrom * direction[2] * along[:, None])


def path_factors(geometry: TiltGeometry, normal: ArrayLike = (0.0, 0.0, 1.0), *, signed: bool = False) -> FloatArray:
    """(tilt,) path of the beam through a slab over its thickness, ``1 / |n'_z|``; NaN where it is seen edge-on.

    With `signed`, negative for a slab that is seen from below.
    """
    across = (geometry.matrices @ np.asarray(normal, dtype=np.float64))[:, 2]
    steep = np.abs(across) < _STEEPEST
    factors = np.where(steep, np.nan, 1.0 / np.where(steep, 1.0, across))
    return np.asarray(factors if signed else np.abs(factors))
