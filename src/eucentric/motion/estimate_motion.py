r"""Global shifts of the frames of a movie by maximum likelihood.

Every frame is the same unknown scene, displaced, plus white noise. With the scene's power S(k) per frame and the noise
N(k) the log-likelihood of the displacements is, up to a constant,

.. math:: L(s) = \sum_k \frac{S}{N (N + n S)} \Big|\sum_i F_i(k)\, e^{2\pi i k\cdot s_i}\Big|^2

which weights every frequency by what it can tell, uses all pairs of frames at once, and gives the uncertainty by its
curvature. S and N are measured from the frames themselves, and refined with the shifts.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.motion.params import MotionParams
from eucentric.motion.results import MotionResult

_ROUNDS = 4
_SHELLS = 48


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Spectra:
    """Half-plane Fourier samples inside the band, flattened."""

    values: Tensor  # (frame, k) complex128
    kx: Tensor
    ky: Tensor
    double: Tensor  # how many samples of the full plane each one stands for
    shell: Tensor
    shape: tuple[int, int]
    pixel_size: float
    index: Tensor  # where they sit in the rfft of `shape`


def estimate_motion(frames: Float[Tensor, "frame y x"], pixel_size: float, params: MotionParams) -> MotionResult:
    """Displacement of every frame.

    Parameters
    ----------
    frames : gain-corrected, free of hot pixels (fixed patterns would pull all shifts to zero)
    pixel_size : A

    Raises
    ------
    ShapeError : not a stack of images, or images too small
    InputError : values that are not finite
    """
    if frames.ndim != 3 or min(frames.shape[-2:]) < 32:
        raise ShapeError(f"The movie has shape {tuple(frames.shape)}; expected frames of at least 32 x 32 pixels.")
    if not bool(torch.isfinite(frames).all()):
        raise InputError("The movie holds values that are not numbers (NaN or infinity). Copy it again.")
    count = len(frames)
    band = _band_spectra(frames, pixel_size, params)
    shells = torch.arange(_SHELLS, dtype=torch.float64, device=frames.device)
    frequency = (shells + 0.5) / _SHELLS / params.low_pass_angstrom
    if count == 1:
        zero = torch.zeros(1, 2, dtype=torch.float64, device=frames.device)
        nothing = torch.zeros(_SHELLS, dtype=torch.float64, device=frames.device)
        return MotionResult(
            shifts_angstrom=zero,
            sigma_angstrom=torch.zeros_like(zero[:, 0]),
            frequency=frequency,
            frame_correlation=nothing,
        )
    shifts = torch.zeros(count, 2, dtype=torch.float64, device=frames.device)
    # a first look with a plain envelope; then the measured spectra
    weight = torch.exp(-0.25 * 300.0 * (band.kx**2 + band.ky**2))
    weight = weight / (count * band.values.abs().square().mean(0).clamp(min=1e-30))
    for round_ in range(_ROUNDS):
        if round_ < 2:
            shifts = _search(band, weight, shifts, params.max_shift_angstrom)
        signal, noise = _measure_spectra(band, shifts)
        weight = (signal / (noise * (noise + count * signal)))[band.shell]
        shifts, covariance = _newton(band, weight, shifts, params.jerk_angstrom)
    signal, noise = _measure_spectra(band, shifts)
    sigma = torch.sqrt(0.5 * torch.diagonal(covariance).reshape(2, count).sum(0).clamp(min=0.0))
    return MotionResult(
        shifts_angstrom=shifts - shifts.mean(0),
        sigma_angstrom=sigma,
        frequency=frequency,
        frame_correlation=signal / (signal + noise),
    )


def _band_spectra(frames: Tensor, pixel_size: float, params: MotionParams) -> _Spectra:
    images = frames.to(torch.float32)
    images = images - images.mean((-2, -1), keepdim=True)
    images = taper_edges(images, max(4, min(images.shape[-2:]) // 16))
    coarse = max(pixel_size, params.low_pass_angstrom / 2.2)
    height, width = rescaled_shape(images.shape[-2:], pixel_size, coarse)
    shape = (height, width)
    if shape[0] <= images.shape[-2] and shape[1] <= images.shape[-1] and coarse > pixel_size:
        spacing = pixel_size * images.shape[-1] / shape[1]
        images = torch.stack([fourier_crop(image, shape) for image in images])
    else:
        shape, spacing = (images.shape[-2], images.shape[-1]), pixel_size
    spectra = torch.fft.rfft2(images)
    radius = frequency_grid(shape, spacing, device=images.device)
    weight = band_pass(radius, low_pass_angstrom=params.low_pass_angstrom, high_pass_angstrom=params.high_pass_angstrom)
    # the zero-frequency row and column carry what is left of detector stripes
    index = (weight > 0.5).reshape(-1).nonzero().flatten()
    fy, fx = frequency_vectors(shape, spacing, device=images.device, dtype=torch.float64)
    kx = fx.expand(radius.shape).reshape(-1)[index]
    ky = fy.expand(radius.shape).reshape(-1)[index]
    cut = 1.0 / params.low_pass_angstrom
    shell = (torch.sqrt(kx**2 + ky**2) / cut * _SHELLS).long().clamp(max=_SHELLS - 1)
    double = torch.where(kx == 0, 1.0, 2.0).double()
    values = spectra.reshape(len(frames), -1)[:, index].to(torch.complex128) / math.sqrt(shape[0] * shape[1])
    return _Spectra(
        values=values, kx=kx, ky=ky, double=double, shell=shell, shape=shape, pixel_size=spacing, index=index
    )


def _aligned(band: _Spectra, shifts: Tensor) -> Tensor:
    """Spectra with the shifts undone."""
    angle = 2 * math.pi * (shifts[:, :1] * band.kx + shifts[:, 1:] * band.ky)
    return band.values * torch.polar(torch.ones_like(angle), angle)


def _shell_mean(band: _Spectra, quantity: Tensor) -> Tensor:
    total = torch.zeros(_SHELLS, dtype=torch.float64, device=quantity.device).index_add_(
        0, band.shell, quantity * band.double
    )
    norm = torch.zeros_like(total).index_add_(0, band.shell, band.double)
    return total / norm.clamp(min=1.0)


def _measure_spectra(band: _Spectra, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Power of the scene in one frame, and of the noise, in shells."""
    count = len(shifts)
    aligned = _aligned(band, shifts)
    own = aligned.abs().square().mean(0)
    coherent = aligned.sum(0).abs().square()
    cross = (coherent - count * own) / (count * (count - 1))
    total, signal = _shell_mean(band, own), _shell_mean(band, cross)
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, device=signal.device)
    padded = torch.cat([signal[:1], signal, signal[-1:]])
    smooth = (padded.unfold(0, 3, 1) * kernel).sum(-1)
    total = total.clamp(min=1e-12)
    # a shell is never trusted to be pure noise, nor pure signal
    signal = torch.minimum(torch.maximum(smooth, 1e-4 * total), 0.98 * total)
    return signal, total - signal


def _search(band: _Spectra, weight: Tensor, shifts: Tensor, reach: float) -> Tensor:
    """Each frame against the sum of the others, by the peak of the weighted correlation."""
    shape = band.shape
    half = (shape[0], shape[1] // 2 + 1)
    aligned = _aligned(band, shifts)
    total = aligned.sum(0)
    out = shifts.clone()
    y = torch.fft.fftfreq(shape[0], d=1.0 / shape[0], device=weight.device).reshape(-1, 1) * band.pixel_size
    x = torch.fft.fftfreq(shape[1], d=1.0 / shape[1], device=weight.device).reshape(1, -1) * band.pixel_size
    allowed = (x**2 + y**2) <= reach**2
    for i in range(len(shifts)):
        plane = torch.zeros(half[0] * half[1], dtype=torch.complex128, device=weight.device)
        # content of frame i displaced by d relative to the others puts the peak at d
        plane[band.index] = weight * aligned[i] * (total - aligned[i]).conj()
        corr = torch.fft.irfft2(plane.reshape(half), s=shape)
        peak = int(torch.where(allowed, corr, torch.full_like(corr, -torch.inf)).argmax())
        row, column = divmod(peak, shape[1])
        out[i, 0] += x[0, column]
        out[i, 1] += y[row, 0]
    return out - out.mean(0)


def _newton(band: _Spectra, weight: Tensor, shifts: Tensor, jerk: float) -> tuple[Tensor, Tensor]:
    """Newton steps on the log-likelihood with a prior on smooth motion and zero mean; returns shifts and covariance."""
    count = len(shifts)
    w = 0.5 * weight * band.double  # a sample and its mirror are one observation
    prior = _prior_precision(count, jerk).to(shifts)
    for _ in range(8):
        aligned = _aligned(band, shifts)
        total = aligned.sum(0)
        gradient, hessian = _derivatives(band, w, aligned, total)
        flat = torch.cat([shifts[:, 0], shifts[:, 1]])
        gradient = gradient - prior @ flat
        # Gauss-Newton keeps only the part of the curvature that is surely positive
        precision = hessian + prior
        step = torch.linalg.lstsq(precision, gradient).solution
        limit = 0.5 * band.pixel_size
        step = step * min(1.0, limit / max(float(step.abs().max()), 1e-12))
        shifts = shifts + step.reshape(2, count).T
        shifts = shifts - shifts.mean(0)
        if float(step.abs().max()) < 1e-3 * band.pixel_size:
            break
    # only differences between frames are known: the covariance of the mean-free shifts
    free = torch.eye(count, dtype=torch.float64, device=shifts.device) - 1.0 / count
    free = _for_both_axes(free)
    return shifts, free @ torch.linalg.pinv(precision, hermitian=True) @ free


def _derivatives(band: _Spectra, w: Tensor, aligned: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of L and minus its Hessian over (all x shifts, all y shifts), mean-free directions positive."""
    count = len(aligned)
    k = (2 * math.pi * band.kx, 2 * math.pi * band.ky)
    gradient = torch.cat([2.0 * (w * kc * (aligned.conj() * total).imag).sum(1) for kc in k])
    hessian = torch.zeros(2 * count, 2 * count, dtype=torch.float64, device=w.device)
    for a in range(2):
        for b in range(2):
            weighted = aligned * (w * k[a] * k[b])
            cross = (weighted @ aligned.conj().T).real
            block = -2.0 * cross
            block = block - torch.diag(torch.diagonal(block))
            block = block + torch.diag(-block.sum(1))
            hessian[a * count : (a + 1) * count, b * count : (b + 1) * count] = block
    # directions in which the pairs disagree may curve the wrong way far from the maximum: keep the positive part
    values, vectors = torch.linalg.eigh(0.5 * (hessian + hessian.T))
    return gradient, (vectors * values.clamp(min=0.0)) @ vectors.T


def _prior_precision(count: int, jerk: float) -> Tensor:
    """Precision matrix over (x, y) of second differences of standard deviation `jerk`, the mean held at zero."""
    second = torch.zeros(max(0, count - 2), count, dtype=torch.float64)
    for i in range(count - 2):
        second[i, i], second[i, i + 1], second[i, i + 2] = 1.0, -2.0, 1.0
    one = second.T @ second / jerk**2 + 1e-9 * torch.eye(count, dtype=torch.float64)
    return _for_both_axes(one)


def _for_both_axes(block: Tensor) -> Tensor:
    """The same matrix for the x and for the y shifts, nothing between them."""
    return torch.kron(torch.eye(2, dtype=block.dtype, device=block.device), block)
