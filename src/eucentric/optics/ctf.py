r"""The contrast transfer function: :math:`-\sin\chi`, negative near zero frequency, underfocus positive [1]_.

:math:`\chi = \pi\lambda k^2 (D - \tfrac12 \lambda^2 k^2 C_s) + \varphi + \arcsin(w)`, with
:math:`D(\phi) = \tfrac12 (D_u + D_v) + \tfrac12 (D_u - D_v) \cos 2(\phi - \phi_0)`.

References
----------
.. [1] Rohou & Grigorieff, J. Struct. Biol. 192:216 (2015), doi:10.1016/j.jsb.2015.08.008
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier.grid import frequency_vectors
from eucentric.models.optics import Optics


def phase_aberration(
    frequency_squared: Float[Tensor, "*grid"],
    defocus: Float[Tensor, "*grid"] | float,
    optics: Optics,
    phase_shift_deg: float = 0.0,
) -> Float[Tensor, "*grid"]:
    """Chi in radians at squared frequencies (1/A^2) for a defocus in A that may differ from sample to sample."""
    wavelength = optics.wavelength_angstrom
    spherical = optics.spherical_aberration_mm * 1e7
    constant = math.radians(phase_shift_deg) + math.asin(optics.amplitude_contrast)
    return (
        math.pi * wavelength * frequency_squared * (defocus - 0.5 * wavelength**2 * spherical * frequency_squared)
        + constant
    )


def phase_aberration_2d(
    fy: Float[Tensor, "y 1"],
    fx: Float[Tensor, "1 half_x"],
    defocus_u: float,
    defocus_v: float,
    astigmatism_angle_deg: float,
    optics: Optics,
    phase_shift_deg: float = 0.0,
) -> Float[Tensor, "y half_x"]:
    """Chi in radians at frequencies (1/A) of an image with astigmatism; angles and defocus as in :func:`ctf_2d`."""
    chi = phase_aberration(fy**2 + fx**2, 0.5 * (defocus_u + defocus_v), optics, phase_shift_deg)
    half = 0.5 * (defocus_u - defocus_v)
    if half:
        angle = math.radians(2.0 * astigmatism_angle_deg)
        # cos 2(phi - phi0) times k^2, without trigonometry of every sample
        stretched = (fx**2 - fy**2) * math.cos(angle) + 2.0 * fx * fy * math.sin(angle)
        chi = chi + (math.pi * optics.wavelength_angstrom * half) * stretched
    return chi


def ctf_1d(
    frequency: Float[Tensor, "*grid"],
    defocus: Float[Tensor, "*grid"] | float,
    optics: Optics,
    phase_shift_deg: float = 0.0,
) -> Float[Tensor, "*grid"]:
    """CTF without astigmatism at frequencies in 1/A; `defocus` in A broadcasts against them."""
    return -torch.sin(phase_aberration(frequency**2, defocus, optics, phase_shift_deg))


def without_zeros(transfer: Float[Tensor, " radius"]) -> Float[Tensor, " radius"]:
    """The size of a CTF from zero frequency on, up to its first peak, and that peak's beyond."""
    strong = transfer.abs()
    falling = (strong[1:] < strong[:-1]).nonzero()
    first = int(falling[0]) if len(falling) else len(strong) - 1
    return torch.where(torch.arange(len(strong), device=strong.device) <= first, strong, strong[first])


def ctf_2d(
    shape: Sequence[int],
    spacing: float,
    defocus_u: float,
    defocus_v: float,
    astigmatism_angle_deg: float,
    optics: Optics,
    phase_shift_deg: float = 0.0,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "y half_x"]:
    """CTF on the samples of an rfft of an image.

    Parameters
    ----------
    shape : (y, x) of the image
    spacing : A per pixel
    defocus_u, defocus_v : A, underfocus positive; u along the astigmatism angle
    astigmatism_angle_deg : from x towards y
    """
    fy, fx = frequency_vectors(shape, spacing, device=device, dtype=torch.float64)
    chi = phase_aberration_2d(fy, fx, defocus_u, defocus_v, astigmatism_angle_deg, optics, phase_shift_deg)
    return -torch.sin(chi).to(dtype)
