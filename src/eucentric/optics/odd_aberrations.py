r"""Phases of images that are not the same at k and -k: coma from a tilted beam, and trefoil.

The transform of an image holds that of the specimen times :math:`T \exp(i\psi)` with

:math:`\psi = -2\pi C_s \lambda^2 k^2 (k \cdot \beta) + t_x \mathrm{Re}(k_x + i k_y)^3 + t_y \mathrm{Im}(k_x + i k_y)^3`,

the beam tilt :math:`\beta` in radians. Its sign is that of RELION's `rlnBeamTiltX` and `rlnBeamTiltY`, whose phase correction
`-2 pi Cs lambda^2 k^2 (k . beta)` is divided out of particles; :math:`t_x, t_y` are the sixth and third of its `rlnOddZernike`.
"""

import math

from jaxtyping import Float
from torch import Tensor

from eucentric.models.optics import Optics


def has_odd_aberrations(optics: Optics) -> bool:
    """Whether any phase of an image changes its sign from k to -k."""
    return any(optics.beam_tilt_mrad) or any(optics.trefoil_rad_angstrom3)


def odd_aberration_2d(
    fy: Float[Tensor, "y 1"], fx: Float[Tensor, "1 half_x"], optics: Optics
) -> Float[Tensor, "y half_x"]:
    """Psi in radians at frequencies (1/A) of an image."""
    squared = fy.square() + fx.square()
    coma = -2e-3 * math.pi * optics.spherical_aberration_mm * 1e7 * optics.wavelength_angstrom**2
    along_x, along_y = (coma * tilt for tilt in optics.beam_tilt_mrad)
    real, imaginary = optics.trefoil_rad_angstrom3
    return (
        squared * (along_x * fx + along_y * fy)
        + real * fx * (fx.square() - 3.0 * fy.square())
        + imaginary * fy * (3.0 * fx.square() - fy.square())
    )
