r"""Images in the weak-phase projection approximation: each slab of depth with the CTF of its own height.

Contrast :math:`c = 2\,\mathrm{CTF} E \ast \sigma V_z`, with the coherence envelope E of the same height.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.fourier import frequency_grid
from eucentric.models.optics import Optics
from eucentric.optics.atoms import interaction_parameter
from eucentric.optics.ctf import ctf_2d
from eucentric.simulation.acquisition import Acquisition
from eucentric.simulation.body import Body
from eucentric.simulation.coherence import coherence_envelope
from eucentric.simulation.ice import BeamPath, fluctuations, water_spectrum
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.slabs import camera_places, slab_transforms

_PHASE_STEP = 0.57  # radians from slab to slab


def weak_phase_spectra(
    bodies: Sequence[Body],
    path: BeamPath,
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    shape: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Complex[Tensor, "y half_x"], Complex[Tensor, "y half_x"]]:
    """Transforms of the contrast of what fades with dose, before it has, and of what lasts."""
    pixel, step = params.pixel_size_angstrom, depth_step(params)
    lowest, highest = path.heights
    count = max(2, math.ceil((highest - lowest) / step) + 1)
    places = [camera_places(body, acquisition, params, tilt) for body in bodies]
    fading = torch.zeros(shape[0], shape[1] // 2 + 1, dtype=torch.complex64)
    lasting = torch.zeros_like(fading)
    frequency = frequency_grid(shape, pixel)
    dose = float(acquisition.doses(params)[tilt])
    water = water_spectrum(frequency, dose) if params.ice_spectrum == "water" else None
    slabs = slab_transforms(bodies, places, shape, pixel, lowest=lowest, step=step, count=count)
    for depth, transforms in slabs:
        transfer = depth_transfer(acquisition, params, tilt, depth, shape, frequency)
        for fades, transform in transforms.items():
            total = fading if fades else lasting
            total += transfer * transform
        noise = fluctuations(path, depth, step, params, generator)
        if noise is not None:
            spectrum = torch.fft.rfft2(noise)
            lasting += transfer * (spectrum if water is None else spectrum * water)
    strength = 2.0 * interaction_parameter(params.voltage_kv) * torch.exp(-0.25 * params.b_factor * frequency**2)
    return fading * strength, lasting * strength


def depth_step(params: SimulationParams) -> float:
    r"""A between the slabs: what is asked for, or less where pixels are fine.

    Linear interpolation of a wave of phase :math:`\phi` from slab to slab loses :math:`\phi^2/8` of it between them: at
    most 4% at three quarters of the Nyquist frequency.
    """
    wavelength = Optics(voltage_kv=params.voltage_kv).wavelength_angstrom
    frequency = 0.375 / params.pixel_size_angstrom
    return min(params.depth_step_angstrom, _PHASE_STEP / (math.pi * wavelength * frequency**2))


def depth_transfer(
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    depth: float,
    shape: tuple[int, int],
    frequency: Float[Tensor, "y half_x"],
) -> Float[Tensor, "y half_x"]:
    """CTF times coherence envelope at a height in A. A phase plate shifts what is scattered, not the mean."""
    optics = Optics(
        voltage_kv=params.voltage_kv,
        spherical_aberration_mm=params.spherical_aberration_mm,
        amplitude_contrast=params.amplitude_contrast,
    )
    u, v = (
        float(defocus[tilt]) + params.hand * depth
        for defocus in (acquisition.defocus_u_angstrom, acquisition.defocus_v_angstrom)
    )
    transfer = ctf_2d(
        shape,
        params.pixel_size_angstrom,
        u,
        v,
        params.astigmatism_angle_deg,
        optics,
        float(acquisition.phase_shift_deg[tilt]),
    )
    transfer[0, 0] = -params.amplitude_contrast
    return transfer * coherence_envelope(frequency, params, 0.5 * (u + v))
