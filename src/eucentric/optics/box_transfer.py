r"""What a tilt series and its weighted back-projection make of a small box, without images: a transfer and a noise level.

By the central-slice theorem the box's transform is known on one plane for each tilt, as thick as the inverse of the box's
side. With K_t(k) the share of tilt t at k, its CTF and envelopes h_t, and a weight w_t that the reconstruction gives the image,

.. math:: T = \frac{\sum_t K_t w_t h_t}{\max(1, \sum_t K_t)}, \qquad
          S^2 = \frac{\sum_t K_t^2 w_t^2 \nu_t}{\max(1, \sum_t K_t)^2}, \qquad \nu_t = \frac{1}{\mathrm{dose}_t\,e^{-d_t}},

the shot noise of a contrast image of so many electrons for each square Angstrom, d_t the depth over the mean free path. A box
of the tomogram is then :math:`F^{-1}(T V) + F^{-1}(S W)` with white noise W.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier import exposure_weights
from eucentric.geometry import TiltGeometry
from eucentric.models.optics import Optics
from eucentric.optics.atoms import interaction_parameter
from eucentric.optics.ctf import ctf_1d, without_zeros
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.typing import FloatArray

Correction = Literal["none", "flip", "wiener"]
_WIENER_FLOOR = 0.1  # of the sum of squared CTFs at its mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxTransfer:
    """Transfer and noise of one tilt series on the samples of an rfftn of a cube; zero frequency at index 0."""

    signal: Float[Tensor, "z y half_x"]
    """Contrast for each V of potential above the ice, negative where matter is dark."""
    noise: Float[Tensor, "z y half_x"]
    """Standard deviation to give to the transform of white noise of unit variance a voxel."""
    coverage: Float[Tensor, "z y half_x"]
    """0 where no tilt measured (the missing wedge), 1 on the planes of the tilts."""
    whole: Float[Tensor, "z y half_x"]
    """As `signal`, had every direction been measured and the CTF kept its first peak beyond it: the mean of the tilts."""

    @classmethod
    def build(
        cls,
        geometry: TiltGeometry,
        *,
        side: int,
        voxel_size: float,
        optics: Optics,
        defocus_angstrom: FloatArray,
        doses: FloatArray,
        pre_exposures: FloatArray,
        depths: FloatArray,
        b_factor: float = 80.0,
        phase_shift_deg: float = 0.0,
        signal: TiltStrength | None = None,
        correction: Correction = "flip",
        dose_weighting: bool = True,
        part: float = 1.0,
    ) -> Self:
        """Transfer of a series.

        Parameters
        ----------
        side, voxel_size : of the cube, voxels and A
        defocus_angstrom, doses, pre_exposures, depths : (tilt,) A at the box's height, e/A^2 of the image and before it, and
            path of the beam through the ice over the mean free path
        b_factor : A^2, of the envelope of lens and camera
        signal : how strongly each image shows the specimen; None where all do alike
        correction : of the CTF, as the reconstruction makes it
        dose_weighting : whether the reconstruction fades what radiation had destroyed, and counts images by their signal
        part : of the electrons: 1/2 for a half volume
        """
        freq = torch.fft.fftfreq(side, voxel_size)
        half = torch.fft.rfftfreq(side, voxel_size)
        kz, ky, kx = freq[:, None, None], freq[None, :, None], half[None, None, :]
        squared = kz**2 + ky**2 + kx**2
        radius = squared.sqrt()
        length = side * voxel_size
        shape = (side, side, side // 2 + 1)
        total, shown, variance = (torch.zeros(shape) for _ in range(3))
        whole = torch.zeros(16 * side)
        # curves along the radius, read at the nearest of many samples
        fine = torch.linspace(0.0, float(radius.max()), 16 * side)
        place = (radius * ((len(fine) - 1) / float(radius.max()))).round().long()
        envelope = torch.exp(-0.25 * b_factor * fine**2)
        for t in range(len(geometry)):
            direction = geometry.matrices[t, 2]
            distance = float(direction[0]) * kx + float(direction[1]) * ky + float(direction[2]) * kz
            share = (1.0 - distance.abs() * length).clamp_min(0.0)
            left = exposure_weights(fine, float(pre_exposures[t] + 0.5 * doses[t]), voltage_kv=optics.voltage_kv)
            if signal is not None:
                left = left * signal.envelope(fine, t)
            transfer = ctf_1d(fine, float(defocus_angstrom[t]), optics, phase_shift_deg)
            seen = transfer * envelope * left
            weight = left if dose_weighting else torch.ones_like(fine)
            if correction == "flip":
                weight = -weight * torch.sign(transfer)
            elif correction == "wiener":
                weight = -weight * transfer * envelope
            electrons = part * float(doses[t]) * math.exp(-float(depths[t]))
            whole -= weight.abs() * without_zeros(transfer) * envelope * left / len(geometry)
            total += share
            shown += share * (weight * seen)[place]
            variance += (share * weight[place]) ** 2 / electrons
        norm = total.clamp_min(1.0)
        if correction == "wiener":  # the sum of squared CTFs, which the signal holds already
            strongest = float(shown.abs().sum() / (total > 0).sum())
            norm = shown.abs() + _WIENER_FLOOR * strongest
            whole = whole / (whole.abs() + _WIENER_FLOOR * strongest)
        strength = 2.0 * interaction_parameter(optics.voltage_kv)
        return cls(
            signal=strength * shown / norm,
            noise=variance.sqrt() / norm / (voxel_size**2 * math.sqrt(side)),
            coverage=total.clamp_max(1.0),
            whole=strength * whole[place],
        )
