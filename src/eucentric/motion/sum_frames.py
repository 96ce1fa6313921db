"""Frames to one image, with a single interpolation."""

import math

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.grid import frequency_grid
from eucentric.fourier.shift import shift_phases


def sum_frames(
    frames: Float[Tensor, "frame y x"], shifts_angstrom: Float[Tensor, "frame 2"], pixel_size: float
) -> Float[Tensor, "y x"]:
    """Sum of frames moved back by their shifts (x, y in A), by phase ramps on mirrored borders. Not dose weighted."""
    return _sum(frames, shifts_angstrom, pixel_size, None)


def dose_weighted_sum(
    frames: Float[Tensor, "frame y x"],
    shifts_angstrom: Float[Tensor, "frame 2"],
    pixel_size: float,
    *,
    dose: float,
    pre_exposure: float,
    voltage_kv: float,
) -> Float[Tensor, "y x"]:
    """The same sum with every frame weighted for the dose at its middle, normalised so that white noise stays white."""
    count = len(frames)
    exposures = [pre_exposure + dose * (i + 0.5) / count for i in range(count)]
    return _sum(frames, shifts_angstrom, pixel_size, (exposures, voltage_kv))


def _sum(frames: Tensor, shifts: Tensor, pixel_size: float, weighting: tuple[list[float], float] | None) -> Tensor:
    height, width = frames.shape[-2:]
    reach = math.ceil(float(shifts.abs().max()) / pixel_size) + 8 if len(frames) else 8
    reach = min(reach, height - 1, width - 1)
    shape = (height + 2 * reach, width + 2 * reach)
    total: Tensor | None = None
    norm: Tensor | None = None
    grid = frequency_grid(shape, pixel_size, device=frames.device) if weighting else None
    for i, (frame, shift) in enumerate(zip(frames, shifts, strict=True)):
        padded = functional.pad(frame[None, None], [reach] * 4, mode="reflect")[0, 0]
        moved = torch.fft.rfft2(padded) * shift_phases(shape, -shift.to(frames.dtype) / pixel_size)
        if weighting is not None and grid is not None:
            weight = exposure_weights(grid, weighting[0][i], voltage_kv=weighting[1])
            moved = moved * weight
            norm = weight**2 if norm is None else norm + weight**2
        total = moved if total is None else total + moved
    assert total is not None
    if norm is not None:
        total = total / torch.sqrt(norm / len(frames))
    image: Tensor = torch.fft.irfft2(total, s=shape)[reach : reach + height, reach : reach + width]
    return image.contiguous()
