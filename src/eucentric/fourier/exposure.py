"""How radiation damage fades detail."""

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError

_KV = (100.0, 200.0, 300.0)
_SCALE = (0.532, 0.8, 1.0)


def critical_exposure(frequency: Float[Tensor, "*grid"], *, voltage_kv: float = 300.0) -> Float[Tensor, "*grid"]:
    r"""Exposure in e/A^2 after which 1/e of the power is left at each spatial frequency (1/A) [1]_.

    :math:`N_c(k) = s\,(0.24499\,k^{-1.6649} + 2.8141)` with s = 1 at 300 kV, 0.8 at 200 kV, 0.532 at 100 kV, linear
    between and along the last line below, held at 1 above. Infinite at zero frequency.

    References
    ----------
    .. [1] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980; s at 200 and 100 kV as in cisTEM
    """
    if not 80.0 <= voltage_kv <= 1300.0:
        raise InputError(f"Dose weighting is not known for {voltage_kv:g} kV; expected 80 to 1300 kV.")
    scale = 1.0
    for k0, k1, s0, s1 in zip(_KV, _KV[1:], _SCALE, _SCALE[1:], strict=False):
        if voltage_kv <= k1:
            scale = s0 + (s1 - s0) * (voltage_kv - k0) / (k1 - k0)
            break
    safe = torch.where(frequency > 0, frequency, torch.ones_like(frequency))
    critical = scale * (0.24499 * safe.pow(-1.6649) + 2.8141)
    return torch.where(frequency > 0, critical, torch.full_like(frequency, torch.inf))


def exposure_weights(
    frequency: Float[Tensor, "*grid"], exposure: float, *, voltage_kv: float = 300.0
) -> Float[Tensor, "*grid"]:
    r"""Amplitude left at each spatial frequency after an accumulated exposure.

    :math:`\exp(-N / 2 N_c(k))`, see :func:`critical_exposure`. Zero frequency keeps 1.

    Parameters
    ----------
    frequency : (*grid), 1/A, >= 0
    exposure : e/A^2 accumulated when the image was taken, >= 0

    Returns
    -------
    (*grid) in [0, 1], dtype and device of `frequency`

    Raises
    ------
    InputError : negative exposure, or a voltage out of range
    """
    if exposure < 0:
        raise InputError(f"The exposure is {exposure:g} e/A^2; expected zero or more.")
    return torch.exp(-exposure / (2.0 * critical_exposure(frequency, voltage_kv=voltage_kv)))
