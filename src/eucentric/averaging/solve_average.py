"""From sums over images to a map."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.fourier.shells import radial_average, shell_index

_FLOOR = 1e-3
"""Added to weights, as part of the shell's mean: where next to nothing was measured, next to nothing is shown."""
_FADE = 0.01
"""Added to weights of maps without filter, as part of the best shell's mean: noise rises no more than fivefold above that of this
shell, which a mask would else spread over all others."""


def shell_means(values: Float[Tensor, "n n half_n"]) -> Float[Tensor, " shell"]:
    """Mean of each shell up to Nyquist."""
    n = values.shape[0]
    return radial_average(values, (n, n, n), n // 2)


def spread_shells(curve: Float[Tensor, " shell"], n: int) -> Float[Tensor, "n n half_n"]:
    """A value for each sample of an rfftn from those of its shell; zero beyond Nyquist."""
    index = shell_index((n, n, n), n // 2, device=curve.device)
    return torch.cat([curve, curve.new_zeros(1)])[index]


def solve_average(
    data: Complex[Tensor, "n n half_n"],
    weight: Float[Tensor, "n n half_n"],
    *,
    correlation: Float[Tensor, " shell"] | None = None,
) -> Float[Tensor, "n n n"]:
    r"""Map of the least squared error from finished sums.

    .. math:: V = \frac{B}{W + \bar W (1 - C) / C}

    with the mean weight of the shell, and C the correlation of this map with the truth, squared, which is the Fourier shell
    correlation of two maps as good as this one: the signal's power over the noise's is then C / (1 - C).

    Parameters
    ----------
    data, weight : of :meth:`FourierSums.finished`
    correlation : C by shell; None leaves the map as it is measured, faded where weights are a hundredth of the best

    Returns
    -------
    (n, n, n), the particle's centre at voxel ``n // 2``
    """
    n = data.shape[0]
    mean = shell_means(weight)
    if correlation is None:
        penalty = _FLOOR * mean + _FADE * mean.max()
        passed = torch.ones_like(mean)
    else:
        held = correlation.clamp(1e-4, 1.0 - 1e-6).to(mean)
        penalty = mean * ((1.0 - held) / held)
        passed = (correlation.to(mean) > 0).to(mean)
    bottom = weight + spread_shells(penalty, n)
    inside = spread_shells(passed, n) > 0
    spectrum = torch.where(
        inside & (bottom > 0), data / bottom.clamp_min(torch.finfo(bottom.dtype).tiny), torch.zeros_like(data)
    )
    volume: Tensor = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=(n, n, n)))
    return volume
