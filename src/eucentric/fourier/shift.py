"""Shifts by phase ramps: exact for band-limited, periodic images."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.fourier.grid import frequency_vectors


def shift_phases(shape: tuple[int, int], shift_px: Float[Tensor, "*batch 2"]) -> Complex[Tensor, "*batch y half_x"]:
    """Factors that move the content of an image of `shape` (y, x) by `shift_px` (x, y) in pixels.

    The Nyquist row and column take the cosine of their phase, so that a real image stays real and a shift back undoes a
    shift wherever there is no power at Nyquist.
    """
    real = shift_px.dtype
    fy, fx = frequency_vectors(shape, 1.0, device=shift_px.device, dtype=real)
    angle_x = 2 * math.pi * fx.reshape(-1) * shift_px[..., 0:1]
    angle_y = 2 * math.pi * fy.reshape(-1) * shift_px[..., 1:2]
    phase_x = torch.polar(torch.ones_like(angle_x), -angle_x)
    phase_y = torch.polar(torch.ones_like(angle_y), -angle_y)
    if shape[1] % 2 == 0:
        phase_x = torch.cat([phase_x[..., :-1], torch.cos(angle_x[..., -1:]).to(phase_x.dtype)], dim=-1)
    if shape[0] % 2 == 0:
        mid = shape[0] // 2
        nyquist = torch.cos(angle_y[..., mid : mid + 1]).to(phase_y.dtype)
        phase_y = torch.cat([phase_y[..., :mid], nyquist, phase_y[..., mid + 1 :]], dim=-1)
    return phase_y[..., :, None] * phase_x[..., None, :]


def fourier_shift(
    image: Float[Tensor, "*batch y x"], shift_px: Float[Tensor, "*batch 2"]
) -> Float[Tensor, "*batch y x"]:
    """Move the content of images by (x, y) pixels; what leaves at one edge enters at the other."""
    shape = (image.shape[-2], image.shape[-1])
    phases = shift_phases(shape, shift_px.to(image.dtype))
    moved: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * phases, s=shape)
    return moved
