"""A volume in which bilayers, whatever of them the contrast transfer has left, are single bright crests."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.seeds import seeded_generator
from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.simulation.structures import BILAYER_ANGSTROM

# potential above the ice across a leaflet (V A), where its middle lies (A), and its whole width (A): heads, CH2, half of CH3;
# volumes and widths of fluid DOPC [1]_
_LAYERS = ((18.5, 18.5, 4.0), (19.2, 7.8, 11.6), (-1.35, 0.0, 3.0))
_FINEST = 3.7  # voxels between the heads: coarser ones blur the leaflets, finer ones take time
_CLIP_SD = 6.0
_CLIPPINGS = 5


def bilayer_transform(
    frequency: Float[Tensor, "*grid"], thickness_angstrom: float = BILAYER_ANGSTROM
) -> Float[Tensor, "*grid"]:
    """Fourier transform of a bilayer's potential above the ice along its normal, 1 at zero frequency [1]_.

    It is negative about the inverse of the thickness, where the two leaflets are told apart.

    Parameters
    ----------
    frequency : 1/A
    thickness_angstrom : between the heads; others than 37 A stretch the profile

    References
    ----------
    .. [1] Nagle & Tristram-Nagle, Biochim. Biophys. Acta 1469:159 (2000), doi:10.1016/S0304-4157(00)00016-2
    """
    k = frequency * (thickness_angstrom / BILAYER_ANGSTROM)
    out = torch.zeros_like(k)
    for a, place, width in _LAYERS:
        out += a * torch.cos(2.0 * math.pi * place * k) * torch.sinc(width * k)
    return out / sum(a for a, _, _ in _LAYERS)


def working_shape(shape: tuple[int, int, int], voxel_size: float, thickness_angstrom: float) -> tuple[int, int, int]:
    """Sizes (z, y, x) on voxels just fine enough for the two leaflets; those given where they are coarser."""
    voxel = thickness_angstrom / _FINEST
    if voxel_size >= voxel:
        return shape
    z, y, x = (min(n, m) for n, m in zip(shape, rescaled_shape(shape, voxel_size, voxel), strict=True))
    return (z, y, x)


def coarse_and_clipped(
    volume: Float[Tensor, "z y x"], shape: tuple[int, int, int], *, bright: bool
) -> Float[Tensor, "z y x"]:
    """Matter bright on a coarser grid, in standard deviations; what exceeds six, such as gold, is cut off.

    Raises
    ------
    InputError : a volume of one value, or values that are not finite
    """
    dense = volume.float() if bright else -volume.float()
    dense = dense - dense.mean()
    if not bool(torch.isfinite(dense).all()):
        raise InputError("The tomogram holds values that are not numbers. Mend or cut it first.")
    for _ in range(_CLIPPINGS):
        spread = float(dense.std())
        if not spread > 0:
            raise InputError("The tomogram has no contrast: all of its voxels have one value.")
        dense = (dense / spread).clamp(-_CLIP_SD, _CLIP_SD)
    return fourier_crop(dense, shape)


def filter_bilayers(
    dense: Float[Tensor, "z y x"], voxel_size: tuple[float, float, float], thickness_angstrom: float
) -> Float[Tensor, "z y x"]:
    r"""Correlation with the profile of a bilayer, whichever way it faces.

    A sheet holds power only on the line of Fourier space along its normal. A filter that depends on frequency alone therefore
    acts on every sheet as it would on its profile. That of the bilayer, times
    :math:`\exp(-2\pi^2 s^2 k^2)` with s half of the thickness, turns what the leaflets and the gap between them left at either sign
    into one crest: a defocused and phase-flipped bilayer shows little but its two leaflets.

    Parameters
    ----------
    dense : matter bright
    voxel_size : A along z, y and x
    thickness_angstrom : between the heads
    """
    shape = tuple(dense.shape)
    margin = math.ceil(3.0 * thickness_angstrom / min(voxel_size))
    padded = [good_size(n + margin) for n in shape]
    # stretches of zeros beyond the faces keep opposite faces apart
    spectrum = torch.fft.rfftn(dense, s=padded)
    axes = [torch.fft.fftfreq(n, v) for n, v in zip(padded[:2], voxel_size, strict=False)]
    axes.append(torch.fft.rfftfreq(padded[2], voxel_size[2]))
    for i, fz in enumerate(axes[0]):
        k = torch.sqrt(fz**2 + axes[1][:, None] ** 2 + axes[2] ** 2).to(dense)
        damping = torch.exp(-2.0 * (math.pi * 0.5 * thickness_angstrom * k) ** 2)
        spectrum[i] *= bilayer_transform(k, thickness_angstrom) * damping
    out: Tensor = torch.fft.irfftn(spectrum, s=padded)
    return out[tuple(slice(n) for n in shape)].contiguous()


def with_random_phases(volume: Float[Tensor, "z y x"], seed: int) -> Float[Tensor, "z y x"]:
    """Noise with the very power spectrum of a volume, its missing wedge included."""
    generator = seeded_generator(seed, volume.device)
    spectrum = torch.fft.rfftn(torch.randn(volume.shape, generator=generator, device=volume.device))
    spectrum *= torch.fft.rfftn(volume).abs() / spectrum.abs().clamp(min=1e-20)
    out: Tensor = torch.fft.irfftn(spectrum, s=tuple(volume.shape))
    return out
