"""The slab in which the specimen lies, and a geometry in which it lies flat in the middle of the volume."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eucentric.errors import InputError, ShapeError
from eucentric.geometry.rotations import rotation_x, rotation_y
from eucentric.geometry.tilt import TiltGeometry, angles_of_matrices
from eucentric.models.tilt_series import CtfFit
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenSlab:
    """A slab with two parallel faces: its middle plane holds (0, 0, z), its normal is ``Ry(y_tilt) Rx(x_tilt) z``."""

    found: bool
    """False where nothing stands out, or no face lies within the searched depth: then the numbers mean nothing."""
    x_tilt_deg: float
    y_tilt_deg: float
    z_angstrom: float
    """Height of the middle plane above the specimen centre, along z."""
    thickness_angstrom: float
    """Between the faces, along the normal."""
    x_tilt_sigma_deg: float
    y_tilt_sigma_deg: float
    z_sigma_angstrom: float
    thickness_sigma_angstrom: float
    score: float
    """Log-likelihood of the slab above that of no slab, for each independent piece of evidence counted once."""
    contrast: float
    """How many times as often something stands out inside the slab as outside."""

    @property
    def rotation(self) -> FloatArray:
        """(3, 3), from the frame in which the slab lies flat to that of the specimen."""
        return rotation_y(self.y_tilt_deg) @ rotation_x(self.x_tilt_deg)

    @property
    def centre_angstrom(self) -> FloatArray:
        """(3,) the middle of the slab, straight above the specimen centre."""
        return np.array([0.0, 0.0, self.z_angstrom])


def level_geometry(geometry: TiltGeometry, slab: SpecimenSlab) -> TiltGeometry:
    """The same images in a frame in which the slab lies flat, its middle at the specimen centre.

    A point p of the new frame is ``slab.rotation p + slab.centre_angstrom`` of the old one; every camera position but the height
    stays as it was, and the height changes by that of the new centre (:func:`level_fits`). With tilts about y alone,
    the slab's two tilts are added to y_tilt and x_tilt and the axis stays.

    Raises
    ------
    InputError : the slab was not found
    """
    _check_found(slab)
    new = geometry.matrices @ slab.rotation
    shifts = geometry.project(slab.centre_angstrom)[:, :2]
    z_rot, y_tilt, x_tilt = angles_of_matrices(
        new, near_deg=geometry.y_tilt_deg + slab.y_tilt_deg, x_tilt_deg=geometry.x_tilt_deg
    )
    return geometry.replace(y_tilt_deg=y_tilt, z_rot_deg=z_rot, x_tilt_deg=x_tilt, shifts_angstrom=shifts)


def level_fits(
    fits: Sequence[CtfFit], geometry: TiltGeometry, slab: SpecimenSlab, *, hand: float
) -> tuple[CtfFit, ...]:
    """The CTF at the height of the new specimen centre, for :func:`level_geometry`.

    Parameters
    ----------
    fits : of every tilt, at the height of the old specimen centre
    geometry : before levelling
    hand : defocus of a point = defocus + hand * height

    Raises
    ------
    ShapeError : fits and geometry of different length
    InputError : the slab was not found
    """
    _check_found(slab)
    if len(fits) != len(geometry):
        raise ShapeError(f"{len(fits)} CTF fits and {len(geometry)} tilts were given; expected one each.")
    rise = hand * geometry.project(slab.centre_angstrom)[:, 2]
    return tuple(
        replace(
            fit,
            defocus_u_angstrom=fit.defocus_u_angstrom + float(change),
            defocus_v_angstrom=fit.defocus_v_angstrom + float(change),
        )
        for fit, change in zip(fits, rise, strict=True)
    )


def _check_found(slab: SpecimenSlab) -> None:
    if not slab.found:
        raise InputError("No specimen plane was found, so there is nothing to level. Leave the geometry as it is.")
