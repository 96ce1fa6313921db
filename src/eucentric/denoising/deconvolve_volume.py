"""Deconvolution by the contrast transfer and an assumed fall of the signal, as made popular by Warp."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.params import Transfer
from eucentric.denoising.smooth_gaussian import from_padded, padded_transform
from eucentric.errors import InputError
from eucentric.models.optics import Optics
from eucentric.optics.ctf import ctf_1d

_MARGIN = 32  # voxels: rings of the CTF beyond are weak at the usual voxels


def assumed_signal_to_noise(
    frequency: Float[Tensor, "*grid"], *, strength: float, falloff: float, high_pass_angstrom: float
) -> Float[Tensor, "*grid"]:
    r""":math:`10^{3s} \exp(-200 f k)\, (1 - (1 + \cos(\pi \min(1, k L))) / 2)`, k in 1/A, L the high-pass in A."""
    high_pass = 0.5 - 0.5 * torch.cos(math.pi * (frequency * high_pass_angstrom).clamp(max=1.0))
    ratio: Tensor = torch.exp(-200.0 * falloff * frequency) * 10.0 ** (3.0 * strength) * high_pass
    return ratio


def deconvolution_gain(
    frequency: Float[Tensor, "*grid"],
    optics: Optics,
    defocus_angstrom: float,
    *,
    phase_shift_deg: float = 0.0,
    transfer: Transfer = "uncorrected",
    strength: float = 1.0,
    falloff: float = 1.0,
    high_pass_angstrom: float,
) -> Float[Tensor, "*grid"]:
    r"""The Wiener filter :math:`c / (c^2 + 1 / \mathrm{SNR})` [1]_ of a transfer c that keeps protein dark.

    c is minus the CTF of the images (uncorrected), its size (flipped), its square (multiplied) or 1 (corrected).

    Parameters
    ----------
    frequency : 1/A
    defocus_angstrom : of the specimen's middle, underfocus positive

    Raises
    ------
    InputError : `auto`, which only the caller can decide

    References
    ----------
    .. [1] Tegunov & Cramer, Nat. Methods 16:1146 (2019), doi:10.1038/s41592-019-0580-y
    """
    if transfer == "auto":
        raise InputError("What was done about contrast transfer is not known here. Give --transfer.")
    ratio = assumed_signal_to_noise(
        frequency, strength=strength, falloff=falloff, high_pass_angstrom=high_pass_angstrom
    )
    if transfer == "corrected":
        return ratio / (ratio + 1.0)
    c = -ctf_1d(frequency, defocus_angstrom, optics, phase_shift_deg)
    if transfer == "flipped":
        c = c.abs()
    elif transfer == "multiplied":
        c = c * c
    return c * ratio / (c * c * ratio + 1.0)


def deconvolve_volume(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    optics: Optics,
    defocus_angstrom: float,
    *,
    phase_shift_deg: float = 0.0,
    transfer: Transfer = "uncorrected",
    strength: float = 1.0,
    falloff: float = 1.0,
    high_pass_angstrom: float | None = None,
) -> Float[Tensor, "z y x"]:
    """The whole volume times :func:`deconvolution_gain` in Fourier space, mirrored at its faces.

    Parameters
    ----------
    voxel_size : A
    high_pass_angstrom : 100 voxels where None
    """
    frequency, transform = padded_transform(volume, _MARGIN, voxel_size)
    transform *= deconvolution_gain(
        frequency,
        optics,
        defocus_angstrom,
        phase_shift_deg=phase_shift_deg,
        transfer=transfer,
        strength=strength,
        falloff=falloff,
        high_pass_angstrom=100.0 * voxel_size if high_pass_angstrom is None else high_pass_angstrom,
    )
    return from_padded(transform, volume.shape)
