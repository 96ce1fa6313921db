r"""What trainings make small: squared differences, and one minus the Fourier shell correlation.

Both are least, in the mean over independent noise of the target, where they are least for the noiseless target: squared
differences at the mean of what the target can be [1]_, the correlation likewise up to a factor a shell. The first tells the network
how strong things are, and is ruled by coarse detail, which is strongest; the second weighs all shells alike.

References
----------
.. [1] Lehtinen et al., ICML 2018, arXiv:1803.04189
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

_FAINT = 0.02  # of the variance of noise: what a target is taken to hold at least
_TINY = 1e-12


def squared_loss(found: Float[Tensor, "batch z y x"], target: Float[Tensor, "batch z y x"]) -> Tensor:
    """Mean squared difference over the target's variance, each volume counted alike."""
    power = target.square().mean((1, 2, 3)) + _FAINT
    return ((found - target).square().mean((1, 2, 3)) / power).mean()


def spectral_losses(
    found: Float[Tensor, "batch z y x"],
    target: Float[Tensor, "batch z y x"],
    *weights: Float[Tensor, "batch z y half_x"],
) -> list[Tensor]:
    """For each weighting of Fourier space, one minus the correlation in shells, its mean over shells up to Nyquist.

    Parameters
    ----------
    weights : 0 to 1 on the samples of an rfftn
    """
    shape = (found.shape[1], found.shape[2], found.shape[3])
    shells, count = _shells(shape)
    shells = shells.to(found.device)
    one = torch.fft.rfftn(found.float(), dim=(1, 2, 3))
    two = torch.fft.rfftn(target.float(), dim=(1, 2, 3))
    cross = (one * two.conj()).real
    powers = one.abs().square(), two.abs().square()
    return [_loss(cross, powers, weight, shells, count) for weight in weights]


def _loss(cross: Tensor, powers: tuple[Tensor, Tensor], weight: Tensor, shells: Tensor, count: int) -> Tensor:
    squared = weight.square()

    def summed(values: Tensor) -> Tensor:
        rows = values.new_zeros(len(values), count + 1)
        return rows.index_add(1, shells, (values * squared).flatten(1))[:, 1:count]

    first, second = summed(powers[0]), summed(powers[1])
    floor = 1e-6 * second.detach().amax(1, keepdim=True) + _TINY
    return 1.0 - (summed(cross) / ((first + floor) * (second + floor)).sqrt()).mean()


@lru_cache(maxsize=8)
def _shells(shape: tuple[int, int, int]) -> tuple[Tensor, int]:
    """Number of each sample's shell, and how many there are; those beyond Nyquist share the last, which is left out."""
    fine = max(shape)
    z, y = torch.fft.fftfreq(shape[0]), torch.fft.fftfreq(shape[1])
    x = torch.fft.rfftfreq(shape[2])
    radius = ((z[:, None, None] ** 2 + y[:, None] ** 2 + x**2).sqrt() * fine).round().long()
    return radius.clamp_max(fine // 2).reshape(-1), fine // 2
