"""Our geometry in IMOD's terms."""

import numpy as np

from eucentric.geometry.tilt import TiltGeometry
from eucentric.typing import FloatArray


def imod_transforms(
    geometry: TiltGeometry, pixel_size: float, image_shape: tuple[int, int], aligned_shape: tuple[int, int] | None
) -> tuple[FloatArray, FloatArray]:
    """Transforms x' = A x + d that take images to aligned ones with the tilt axis on y; the inverse of `from_imod`.

    Parameters
    ----------
    pixel_size : A of the images
    image_shape, aligned_shape : (y, x) of the images before and after. Our centre, pixel ``n // 2``, is where the specimen
        centre goes; without `aligned_shape` it goes to the middle, where `tilt` has its axis

    Returns
    -------
    matrices : (tilt, 2, 2)
    shifts_px : (tilt, 2), x and y, about the middles (n - 1) / 2 of both, as `write_transforms` takes them
    """
    turn = np.deg2rad(geometry.z_rot_deg)
    cosine, sine = np.cos(turn), np.sin(turn)
    matrices = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], -2)
    matrices /= geometry.magnification[:, None, None]
    before, after = (
        np.array([n // 2 - 0.5 * (n - 1) for n in shape[::-1]]) for shape in (image_shape, aligned_shape or (1, 1))
    )
    centre = before + geometry.shifts_angstrom / pixel_size
    return matrices, after - np.einsum("tij,tj->ti", matrices, centre)
