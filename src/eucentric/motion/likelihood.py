r"""The likelihood of displacements, and its derivatives, for whole frames and for patches alike.

Frame i holds a_i times the scene, displaced, and noise of power a_i N, where a_i is its part of the dose. With the scene's
power S the log-likelihood of the displacements is, up to a constant,

.. math:: L(s) = \sum_k \frac{S}{N (N + A S)} \Big|\sum_i F_i(k)\, e^{2\pi i k\cdot s_i}\Big|^2, \quad A = \sum_i a_i
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.motion.band_spectra import SHELLS, BandSpectra, summed_power

_FINE, _WIDE = 1, 3


def measure_spectra(
    band: BandSpectra, aligned: Tensor, own: Tensor, doses: Float[Tensor, " frame"], *, cautious: bool = True
) -> tuple[Float[Tensor, " shell"], Float[Tensor, " shell"]]:
    """Power of the scene, and of the noise, for a frame of dose 1, in shells.

    Parameters
    ----------
    aligned : (frame, ky, kx), or (patch, frame, ky, kx), displacements undone
    own : (ky, kx), or (patch, ky, kx), power summed over the frames
    cautious : take off what chance may have added to the scene's power; needless once the displacements are sure
    """
    a = doses.to(torch.float64)
    total = aligned.sum(-3)
    coherent = total.real.square() + total.imag.square()
    every = own
    pairs = float(a.sum() ** 2 - (a**2).sum())
    if aligned.ndim == 4:
        coherent, every = coherent.mean(0), every.mean(0)
    signal = shell_mean(band, coherent - every) / max(pairs, 1e-12)
    mean = shell_mean(band, every).clamp(min=1e-30) / float(a.sum())
    ratio = float((a**2).sum() / a.sum())
    patches = len(aligned) if aligned.ndim == 4 else 1
    samples = shell_count(band) * patches
    spread = mean * float(a.sum()) / (max(pairs, 1e-12) * samples.clamp(min=0.5)).sqrt()
    signal = _believed(signal, spread) if cautious else _smooth(signal, spread, _FINE)[0]
    # a shell is never trusted to be pure noise, nor pure signal
    signal = torch.minimum(torch.maximum(signal * ratio, 1e-4 * mean), 0.98 * mean) / ratio
    return signal, mean - ratio * signal


def _believed(signal: Float[Tensor, " shell"], spread: Float[Tensor, " shell"]) -> Float[Tensor, " shell"]:
    """Power of the scene with what chance may have added taken off: wide means first, then what shells differ from them."""
    wide, wide_spread = _smooth(signal, spread, _WIDE)
    fine, fine_spread = _smooth(signal, spread, _FINE)
    level = wide * (1.0 - (wide_spread / wide.clamp(min=1e-30)) ** 2).clamp(min=0.0)
    apart = fine - wide
    kept = (1.0 - (fine_spread / apart.abs().clamp(min=1e-30)) ** 2).clamp(min=0.0)
    return level.clamp(min=0.0) + kept * apart


def _smooth(signal: Tensor, spread: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Mean over neighbouring shells, and its standard deviation."""
    place = torch.arange(len(signal), device=signal.device)
    kernel = (1.0 - (place[:, None] - place).abs().double() / (half + 1.0)).clamp(min=0.0)
    kernel = kernel / kernel.sum(1, keepdim=True)
    return kernel @ signal, torch.sqrt(kernel**2 @ spread**2)


def shell_count(band: BandSpectra) -> Float[Tensor, " shell"]:
    """How many independent complex samples each shell holds."""
    total = torch.zeros(SHELLS, dtype=torch.float64, device=band.weight.device)
    return total.index_add_(0, band.shell.reshape(-1), band.weight.reshape(-1).double())


def shell_mean(band: BandSpectra, quantity: Float[Tensor, "ky kx"]) -> Float[Tensor, " shell"]:
    """Mean over the samples of each shell inside the band, float64."""
    shell, weight = band.shell.reshape(-1), band.weight.reshape(-1).double()
    total = torch.zeros(SHELLS, dtype=torch.float64, device=quantity.device)
    norm = torch.zeros_like(total)
    total.index_add_(0, shell, quantity.reshape(-1).double() * weight)
    norm.index_add_(0, shell, weight)
    return total / norm.clamp(min=1e-12)


def sample_weights(band: BandSpectra, signal: Tensor, noise: Tensor, dose: float) -> Float[Tensor, "ky kx"]:
    """What ``|sum of aligned frames|^2`` is multiplied by in the log-likelihood, at every sample."""
    return (signal / (noise * (noise + dose * signal))).to(band.weight.dtype)[band.shell] * band.weight


def log_probability(
    band: BandSpectra, aligned: Tensor, doses: Float[Tensor, " frame"], signal: Tensor, noise: Tensor
) -> float:
    """Of frames with these displacements undone and these powers: what L leaves out counts where powers differ."""
    total, frames, dose = aligned.sum(0), len(doses), float(doses.sum())
    own = band.own if float(doses.std()) == 0 else summed_power(aligned / doses.to(band.ky).sqrt()[:, None, None])
    fit = sample_weights(band, signal, noise, dose) * (total.real.square() + total.imag.square())
    rest = (own / noise.to(own)[band.shell]) * band.weight
    level = -(frames * noise.log() + torch.log1p(dose * signal / noise)) * shell_count(band)
    return float((fit - rest).double().sum() + level.sum())


def profile_log_probability(band: BandSpectra, aligned: Tensor, doses: Float[Tensor, " frame"]) -> float:
    r"""Of frames with these displacements undone, with the powers of scene and noise that make it largest, shell by shell.

    With n frames, :math:`-\sum N ((n - 1) \log \sigma_w^2 + \log \sigma_t^2)` with the power of frames about their common scene
    and that of the scene and its noise. No smoothing: displacements are compared, and each must have its own best powers.
    """
    a = doses.to(torch.float64)
    count = len(a)
    own = band.own if float(a.std()) == 0 else summed_power(aligned / a.to(band.ky).sqrt()[:, None, None])
    total = aligned.sum(0)
    together = shell_mean(band, (total.real.square() + total.imag.square()) / float(a.sum()))
    apart = ((shell_mean(band, own) - together) / (count - 1)).clamp(min=1e-30)
    both = torch.maximum(together, apart)  # a scene has no negative power
    return float(-(shell_count(band) * ((count - 1) * apart.log() + both.log())).sum())


def gradient(
    aligned: Tensor, weight: Float[Tensor, "ky kx"], ky: Tensor, kx: Tensor
) -> Float[Tensor, "*patch frame 2"]:
    """Gradient of L (x, y; 1/A) at the displacements that have been undone in `aligned` (..., frame, ky, kx)."""
    lead, count = aligned.shape[:-3], aligned.shape[-3]
    total = aligned.sum(-3)
    # Im(conj(F_i) T), for both axes
    turned = torch.stack([total.imag, -total.real], dim=-1) * weight[..., None]
    sides = [(turned * (4 * math.pi * k)).reshape(*lead, -1) for k in (kx[:, None], ky[:, None, None])]
    flat = torch.view_as_real(aligned).reshape(*lead, count, -1)
    value: Tensor = (flat @ torch.stack(sides, dim=-1)).double()
    return value


def information(
    aligned: Tensor, own: Tensor, weight: Float[Tensor, "ky kx"], ky: Tensor, kx: Tensor, doses: Float[Tensor, " frame"]
) -> Float[Tensor, "*patch 2 2"]:
    """What a pair of frames of dose 1 tells of their distance along x and y, 1/A^2; the mean over all pairs.

    The curvature of L is this times :func:`pair_laplacian`, in the mean: single pairs of short frames are noise, and a
    curvature that holds noise claims what is not known.
    """
    total = aligned.sum(-3)
    pairs = total.real.square() + total.imag.square() - own
    share = pairs * weight * (8 * math.pi**2 / float(doses.sum() ** 2 - (doses**2).sum()))
    along_x = share * kx
    xx, xy = (along_x * kx).double().sum((-2, -1)), (along_x * ky[:, None]).double().sum((-2, -1))
    yy = (share * (ky**2)[:, None]).double().sum((-2, -1))
    return torch.stack([torch.stack([xx, xy], dim=-1), torch.stack([xy, yy], dim=-1)], dim=-2)


def pair_laplacian(doses: Float[Tensor, " frame"]) -> Float[Tensor, "frame frame"]:
    """Sum over pairs of ``dose_i dose_j (s_i - s_j)^2`` as a matrix."""
    a = doses.double()
    return torch.diag(a * a.sum()) - torch.outer(a, a)


def floored(matrix: Float[Tensor, "*patch 2 2"], floor: float) -> Float[Tensor, "*patch 2 2"]:
    """The matrix with eigenvalues of at least `floor`."""
    values, vectors = torch.linalg.eigh(matrix)
    kept: Tensor = (vectors * values.clamp(min=floor)[..., None, :]) @ vectors.transpose(-1, -2)
    return kept
