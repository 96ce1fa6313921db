"""Resolution: Fourier shell correlation of half maps with what a mask adds taken off, and against a known map."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.results import HalfMapCorrelation
from eucentric.compute.seeds import seeded_generator
from eucentric.errors import ShapeError
from eucentric.fourier.shells import fourier_shell_correlation, shell_index
from eucentric.typing import FloatArray

HALF_MAPS = 0.143
TRUE_MAP = 0.5
_RANDOM_FROM = 0.8
_DRAWS = 3
"""Sets of random phases of which the mean is taken."""


def crossing_angstrom(frequency: FloatArray, correlation: FloatArray, threshold: float) -> float:
    """Resolution in A where a curve first falls below a threshold, between shells by a straight line.

    The first shell is passed over; infinite where the curve is below from the start, the last shell's where it never falls.
    """
    below = np.flatnonzero(correlation[1:] < threshold) + 1
    if not len(below):
        return float(1.0 / frequency[-1])
    i = int(below[0])
    if i == 1:
        return math.inf
    high, low = correlation[i - 1], correlation[i]
    part = (high - threshold) / max(high - low, 1e-12)
    return float(1.0 / (frequency[i - 1] + part * (frequency[i] - frequency[i - 1])))


def correlate_halves(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    voxel_size: float,
    mask: Float[Tensor, "n n n"],
    *,
    seed: int = 0,
) -> HalfMapCorrelation:
    """Agreement of half maps inside a mask, corrected for the mask by randomised phases [1]_.

    Beyond the shell where the masked correlation falls below 0.8 the phases of both halves are made random, and the mask
    applied again: what then correlates, the mask did.

    Parameters
    ----------
    half1, half2 : of independent halves of the particles
    voxel_size : A
    mask : 0 to 1, soft
    seed : of the phases

    Raises
    ------
    ShapeError : maps and mask of different shapes

    References
    ----------
    .. [1] Chen et al., Ultramicroscopy 135:24 (2013), doi:10.1016/j.ultramic.2013.06.004
    """
    if not half1.shape == half2.shape == mask.shape:
        raise ShapeError(
            f"The halves have {tuple(half1.shape)} and {tuple(half2.shape)} voxels, and the mask {tuple(mask.shape)}; "
            "expected the same."
        )
    frequency, plain = fourier_shell_correlation(half1, half2, voxel_size)
    _, masked = fourier_shell_correlation(half1 * mask, half2 * mask, voxel_size)
    below = torch.nonzero(masked[1:] < _RANDOM_FROM).reshape(-1)
    first = int(below[0]) + 1 if len(below) else len(masked)
    random = torch.zeros_like(masked)
    if first < len(masked):
        generator = seeded_generator(seed, half1.device)
        for _ in range(_DRAWS):
            pair = [_randomised(half, first, generator) * mask for half in (half1, half2)]
            random += fourier_shell_correlation(pair[0], pair[1], voxel_size)[1] / _DRAWS
    corrected = masked.clone()
    # the shell at the border leaks into its neighbours
    tail = slice(first + 2, None)
    corrected[tail] = (masked[tail] - random[tail]) / (1.0 - random[tail]).clamp_min(1e-6)
    curves = [c.cpu().double().numpy() for c in (frequency, plain, masked, random, corrected)]
    return HalfMapCorrelation(
        frequency=curves[0],
        unmasked=curves[1],
        masked=curves[2],
        randomised=curves[3],
        corrected=curves[4],
        randomised_from=float(curves[0][first]) if first < len(masked) else math.inf,
        resolution_angstrom=crossing_angstrom(curves[0], curves[4], HALF_MAPS),
    )


def resolution_against_truth(
    average: Float[Tensor, "n n n"],
    truth: Float[Tensor, "n n n"],
    voxel_size: float,
    mask: Float[Tensor, "n n n"] | None = None,
) -> tuple[float, FloatArray, FloatArray]:
    """Resolution in A at 0.5 against a known map at the same place, and the curve: frequency (1/A) and correlation."""
    held = 1.0 if mask is None else mask
    frequency, curve = fourier_shell_correlation(average * held, truth * held, voxel_size)
    f, c = frequency.cpu().double().numpy(), curve.cpu().double().numpy()
    return crossing_angstrom(f, c, TRUE_MAP), f, c


def _randomised(volume: Tensor, first: int, generator: torch.Generator) -> Tensor:
    """The volume with random phases from shell `first` on; amplitudes stay."""
    shape = tuple(volume.shape)
    spectrum = torch.fft.rfftn(volume)
    # phases of a real volume's noise have the symmetry that a real volume needs
    noise = torch.fft.rfftn(torch.randn(shape, generator=generator, device=volume.device, dtype=volume.dtype))
    turned = spectrum.abs() * noise / noise.abs().clamp_min(1e-20)
    beyond = shell_index(shape, shape[0] // 2, device=volume.device) >= first
    out: Tensor = torch.fft.irfftn(torch.where(beyond, turned, spectrum), s=shape)
    return out
