"""Nonlinear anisotropic diffusion: smoothing that follows edges and threads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.structure_tensor import TENSOR_HALO, smooth_gradient, structure_tensor
from eucentric.signal.symmetric_tensors import PAIRS, eigenvectors_of, extreme_eigenvalues
from eucentric.signal.tiles import filter_volume, quantile, trimmed

STEP = 0.1
"""Of time; explicit steps are stable to 1/6 in three dimensions."""
DIFFUSION_HALO = TENSOR_HALO + 1
_ALPHA = 0.001  # what is left of the diffusion across threads
_EDGE = 3.31488  # makes the flow across an edge greatest at a gradient of kappa
_NOISE_BELOW = 0.999  # part of the noise that is below both thresholds, so that it is smoothed away


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionThresholds:
    """What is more than noise, of one step."""

    kappa: float
    """Gradient per voxel beyond which an edge stops the flow across it."""
    coherence: float
    """Difference of the extreme eigenvalues of the structure tensor beyond which the flow follows a thread."""


def diffusion_thresholds(noise: Float[Tensor, "z y x"], strength: float) -> DiffusionThresholds:
    """Thresholds from a block of noise alone, times `strength` in units of the gradient."""
    slope = smooth_gradient(noise)
    kappa = quantile(slope.square().sum(0), _NOISE_BELOW) ** 0.5
    tensor, _ = structure_tensor(slope)
    largest, smallest = extreme_eigenvalues(tensor)
    coherence = quantile(largest - smallest, _NOISE_BELOW)
    return DiffusionThresholds(kappa=strength * kappa, coherence=strength * strength * coherence)


def diffuse_volume(
    volume: Float[Tensor, "z y x"],
    noise: Float[Tensor, "z y x"],
    *,
    iterations: int = 20,
    strength: float = 1.0,
    tile: tuple[int, int, int] | None = None,
    on_step: Callable[[float], None] | None = None,
) -> Float[Tensor, "z y x"]:
    r"""Explicit steps of :math:`\partial_t u = \nabla \cdot (D \nabla u)` with D from the volume of each step, after [1]_.

    Where the structure tensor tells a thread from noise (coherence enhancing), D lets flow along the thread alone, by
    :math:`\alpha + (1 - \alpha) \exp(-c^2 / (\mu_1 - \mu_3)^2)`. Elsewhere (edge enhancing) flow is free but along the gradient,
    where it is :math:`1 - \exp(-3.31488 (\kappa / |\nabla u|)^8)`. Both thresholds are those of the noise that is left: the
    block of noise is smoothed alongside as a flat background would be.

    Parameters
    ----------
    volume : finite
    noise : a block of its noise alone
    iterations : of :data:`STEP` each
    strength : times the gradient of the noise
    on_step : told the part that is done

    References
    ----------
    .. [1] Frangakis & Hegerl, J. Struct. Biol. 135:239 (2001), doi:10.1006/jsbi.2001.4406
    """
    for number in range(iterations):
        thresholds = diffusion_thresholds(noise, strength)
        volume = filter_volume(volume, partial(diffusion_step, thresholds=thresholds), DIFFUSION_HALO, tile)
        noise = filter_volume(noise, _plain_step, 1)
        if on_step is not None:
            on_step((number + 1) / iterations)
    return volume


def _plain_step(block: Tensor) -> Tensor:
    inner = trimmed(block, 1)
    around = -6.0 * inner
    for axis in range(3):
        line = block
        for other in range(3):
            if other != axis:
                line = line.narrow(other, 1, line.shape[other] - 2)
        around = around + line.narrow(axis, 0, inner.shape[axis]) + line.narrow(axis, 2, inner.shape[axis])
    return inner + STEP * around


def diffusion_step(block: Float[Tensor, "z y x"], thresholds: DiffusionThresholds) -> Float[Tensor, "z y x"]:
    """One step; the block loses :data:`DIFFUSION_HALO` voxels on every side."""
    tensor, slope = structure_tensor(smooth_gradient(block))
    diffusion = _diffusion_tensor(tensor, slope, thresholds)
    near = trimmed(block, TENSOR_HALO)
    return trimmed(near, 1) + STEP * _divergence(diffusion, near)


def _diffusion_tensor(tensor: Tensor, slope: Tensor, thresholds: DiffusionThresholds) -> Tensor:
    """(6, z, y, x) D."""
    steepness = slope.square().sum(0).clamp(min=torch.finfo(slope.dtype).tiny)
    across = 1.0 - torch.exp(-_EDGE * (thresholds.kappa**2 / steepness).clamp(max=10.0) ** 4)
    stopped = (across - 1.0) / steepness
    out = torch.stack([stopped * slope[i] * slope[j] + (1.0 if i == j else 0.0) for i, j in PAIRS])
    largest, smallest = extreme_eigenvalues(tensor)
    thread = (largest - smallest) > thresholds.coherence
    if bool(thread.any()):
        chosen, lowest = tensor[:, thread], smallest[thread]
        along = eigenvectors_of(chosen, lowest)
        apart = largest[thread] - lowest
        gain = (1.0 - _ALPHA) * torch.exp(-((thresholds.coherence / apart) ** 2))
        out[:, thread] = torch.stack([gain * along[i] * along[j] + (_ALPHA if i == j else 0.0) for i, j in PAIRS])
    return out


def _divergence(d: Tensor, u: Tensor) -> Tensor:
    """Of D grad u inside of a rim of one voxel: half-way differences along axes, central ones for mixed terms."""
    size = [n - 2 for n in u.shape]

    def at(array: Tensor, *moves: tuple[int, int]) -> Tensor:
        start = [1, 1, 1]
        for axis, by in moves:
            start[axis] += by
        return array[start[0] : start[0] + size[0], start[1] : start[1] + size[1], start[2] : start[2] + size[2]]

    out = torch.zeros_like(at(u))
    for number, (i, j) in enumerate(PAIRS):
        part = d[number]
        if i == j:
            for by in (1, -1):
                out += 0.5 * (at(part, (i, by)) + at(part)) * (at(u, (i, by)) - at(u))
            continue
        for first, second in ((i, j), (j, i)):  # d/d first of D d/d second
            for by in (1, -1):
                rise = at(u, (first, by), (second, 1)) - at(u, (first, by), (second, -1))
                out += 0.25 * by * at(part, (first, by)) * rise
    return out
