r"""What the microscope passes on of a specimen at any height, and the gain that takes it out again.

An image of what lies at a height h, along the beam, holds :math:`-\sin(\chi + \pi\lambda k^2\,\mathrm{hand}\,h)\,E(k)` of its
detail. The envelope E fades detail without a sign: damage by radiation [1]_, and whatever falls like
:math:`\exp(-B k^2 / 4)`. Images stay dark where protein is, so the sign here is that of :math:`+\sin\chi`: positive near
zero frequency.

References
----------
.. [1] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError
from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.grid import frequency_vectors
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.ctf import phase_aberration_2d

CtfCorrection = Literal["flip", "wiener", "multiply"]


def b_factor_envelope(frequency_squared: Float[Tensor, "*grid"], b_factor_angstrom2: float) -> Float[Tensor, "*grid"]:
    """Amplitude left of detail at squared frequencies (1/A^2): ``exp(-B k^2 / 4)``; a negative B raises it."""
    return torch.exp((-0.25 * b_factor_angstrom2) * frequency_squared)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContrastTransfer:
    """Transfer of one image at any height, on the samples of its rfft."""

    phase: Float[Tensor, "fy fx"]
    """Chi in radians at the height that the CTF was fitted for."""
    per_angstrom: Float[Tensor, "fy fx"]
    """Radians that one A of defocus adds."""
    envelope: Float[Tensor, "fy fx"] | None
    """None where nothing fades."""

    def at(self, defocus_change_angstrom: float = 0.0) -> Float[Tensor, "fy fx"]:
        """Transfer with so much defocus more, envelope included; positive near zero frequency."""
        gain = torch.sin(torch.add(self.phase, self.per_angstrom, alpha=defocus_change_angstrom))
        return gain if self.envelope is None else gain.mul_(self.envelope)


def contrast_transfer(
    shape: Sequence[int],
    spacing: float,
    fit: CtfFit,
    optics: Optics,
    *,
    exposure: float | None = None,
    b_factor_angstrom2: float = 0.0,
    signal_scale: float = 1.0,
    magnification: float = 1.0,
    turned_deg: float = 0.0,
    device: torch.device | str = "cpu",
) -> ContrastTransfer:
    """The transfer of an image, float32.

    Parameters
    ----------
    shape : (y, x) of the image
    spacing : A per pixel, in the plane of the recorded image
    fit : CTF at the height of the specimen centre
    exposure : e/A^2 at the middle of the image; None for no damage
    b_factor_angstrom2 : A^2, of the envelope
    signal_scale : amplitude of the specimen in the image, over that in the others: part of the envelope
    magnification : how much larger the image shows the specimen: damage and B factor are those of the specimen's detail
    turned_deg : rotation of the image against the recorded one, x towards y; the astigmatism turns with it

    Raises
    ------
    InputError : a negative exposure, a voltage without a known damage, or a B factor that is not finite
    """
    if not math.isfinite(b_factor_angstrom2):
        raise InputError(f"The B factor is {b_factor_angstrom2} A^2; expected a number such as 0 or 100.")
    fy, fx = frequency_vectors(shape, spacing, device=device, dtype=torch.float32)
    squared = fy.square() + fx.square()
    phase = phase_aberration_2d(
        fy,
        fx,
        fit.defocus_u_angstrom,
        fit.defocus_v_angstrom,
        fit.astigmatism_angle_deg + turned_deg,
        optics,
        fit.phase_shift_deg,
    )
    per_angstrom = (math.pi * optics.wavelength_angstrom) * squared
    envelope = None
    if b_factor_angstrom2:
        envelope = b_factor_envelope(squared, magnification**2 * b_factor_angstrom2)
    if exposure is not None:
        damage = exposure_weights(squared.sqrt().mul_(magnification), exposure, voltage_kv=optics.voltage_kv)
        envelope = damage if envelope is None else envelope.mul_(damage)
    if signal_scale != 1.0:
        envelope = torch.full_like(squared, signal_scale) if envelope is None else envelope.mul_(signal_scale)
    return ContrastTransfer(phase=phase, per_angstrom=per_angstrom, envelope=envelope)


def correction_gain(
    transfer: Float[Tensor, "*grid"],
    mode: CtfCorrection,
    *,
    envelope: Float[Tensor, "*grid"] | None = None,
    noise_to_signal: Float[Tensor, "*grid"] | float = 1.0,
) -> Float[Tensor, "*grid"]:
    r"""What an image's spectrum is multiplied with to correct a transfer T of both signs.

    ``flip`` turns the phases alone, :math:`\mathrm{sign}(T)`; where an envelope is given, it fades detail that is lost.
    ``multiply`` gives :math:`T`, and ``wiener`` :math:`T / (T^2 + N/S)`, the least squared error.

    Parameters
    ----------
    transfer : as :meth:`ContrastTransfer.at` gives it, envelope included
    envelope : of the same transfer, for ``flip``
    noise_to_signal : power of the noise over that of the specimen, for ``wiener``
    """
    if mode == "flip":
        sign = torch.sign(transfer)
        return sign if envelope is None else sign.mul_(envelope)
    if mode == "multiply":
        return transfer
    return transfer / (transfer.square() + noise_to_signal)
