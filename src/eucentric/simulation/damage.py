r"""What radiation leaves of protein and lipid: their detail fades [1]_, and part of their mass may be lost.

Mass loss multiplies all that is above the ice by :math:`1 - m (1 - e^{-N/N_m})` after N e/A^2.

References
----------
.. [1] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980
"""

import math

from jaxtyping import Float
from torch import Tensor

from eucentric.fourier import exposure_weights
from eucentric.simulation.params import SimulationParams


def damage_weights(
    frequency: Float[Tensor, "*grid"], exposure: float, params: SimulationParams
) -> Float[Tensor, "*grid"]:
    """Amplitude left at frequencies in 1/A after `exposure` e/A^2; 1 at zero frequency without mass loss."""
    kept = 1.0 - params.mass_loss * (1.0 - math.exp(-exposure / params.mass_loss_dose))
    weights: Tensor = kept * exposure_weights(frequency, exposure, voltage_kv=params.voltage_kv)
    return weights
