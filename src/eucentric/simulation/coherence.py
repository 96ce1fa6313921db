r"""What partial coherence leaves of the contrast at each frequency.

Temporal: :math:`E_t = \exp(-\tfrac12 (\pi\lambda k^2 \Delta)^2)` with the focal spread
:math:`\Delta = C_c \sqrt{(\delta E/E)^2 + (\delta V/V)^2 + (2\,\delta I/I)^2}` (rms). Spatial:
:math:`E_s = \exp(-(\pi\alpha/\lambda)^2 (C_s\lambda^3k^3 - D\lambda k)^2)` for the semi-angle :math:`\alpha` and the
underfocus D [1]_.

References
----------
.. [1] Frank, Optik 38:519 (1973); Reimer & Kohl, Transmission Electron Microscopy, 5th ed., section 6.4 (2008)
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.models.optics import Optics
from eucentric.simulation.params import SimulationParams


def focal_spread(params: SimulationParams) -> float:
    """Delta in A rms."""
    energy = params.energy_spread_ev / (params.voltage_kv * 1e3)
    lens = math.hypot(energy, params.high_tension_ppm * 1e-6, 2.0 * params.lens_current_ppm * 1e-6)
    return params.chromatic_aberration_mm * 1e7 * lens


def temporal_envelope(
    frequency: Float[Tensor, "*grid"], wavelength: float, spread_angstrom: float
) -> Float[Tensor, "*grid"]:
    """Contrast left by a focal spread (A rms) at frequencies in 1/A."""
    return torch.exp(-0.5 * (math.pi * wavelength * spread_angstrom * frequency**2) ** 2)


def spatial_envelope(
    frequency: Float[Tensor, "*grid"], optics: Optics, defocus_angstrom: float, illumination_mrad: float
) -> Float[Tensor, "*grid"]:
    """Contrast left by a cone of illumination at frequencies in 1/A."""
    wavelength = optics.wavelength_angstrom
    spherical = optics.spherical_aberration_mm * 1e7 * wavelength**3
    slope = frequency * (spherical * frequency**2 - defocus_angstrom * wavelength)
    return torch.exp(-((math.pi * illumination_mrad * 1e-3 / wavelength) ** 2) * slope**2)


def coherence_envelope(
    frequency: Float[Tensor, "*grid"], params: SimulationParams, defocus_angstrom: float
) -> Float[Tensor, "*grid"]:
    """Both together, for the mean underfocus of an image or of a depth in it."""
    optics = Optics(voltage_kv=params.voltage_kv, spherical_aberration_mm=params.spherical_aberration_mm)
    spatial = spatial_envelope(frequency, optics, defocus_angstrom, params.illumination_mrad)
    return spatial * temporal_envelope(frequency, optics.wavelength_angstrom, focal_spread(params))
