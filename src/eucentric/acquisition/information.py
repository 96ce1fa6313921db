r"""What a tilt scheme will show, at each spatial frequency.

An image of dose d taken after N e/A^2 holds, of detail at frequency k, as much as :math:`D(k)` undamaged electrons of an
untilted, infinitely thin specimen would:

.. math:: D(k) = \cos\theta\; e^{-t / (\Lambda \cos\theta)} \int_N^{N+d} e^{-n / N_c(k)} dn

with the damage of Grant and Grigorieff [1]_, the electrons that an energy filter lets through a thickness t, and Hagen's
weight :math:`\cos\theta` for what else is lost at high tilt [2]_. The ratio of signal to noise of one image, whose noise is that
of counting, is :math:`2\sigma^2 P(k)\,\mathrm{DQE}(k)\,e^{-B k^2/2}\,D(k) / A` for a particle of power P over its area A, half of
the contrast being lost to the zeros of the transfer function.

In an average of M particles of diameter s in random directions, central slices fill each shell evenly:
:math:`\mathrm{SSNR}(k) = M \sum \mathrm{SNR}(k) / (2 k s)` [3]_. In one tomogram each direction has its own images only.

References
----------
.. [1] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980
.. [2] Hagen, Wan & Briggs, J. Struct. Biol. 197:191 (2017), doi:10.1016/j.jsb.2016.06.007
.. [3] Rosenthal & Henderson, J. Mol. Biol. 333:721 (2003), doi:10.1016/j.jmb.2003.07.013
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from eucentric.acquisition.plan_params import ExpectationParams, compact_diameter
from eucentric.acquisition.schedule import Schedule
from eucentric.fourier.exposure import critical_exposure
from eucentric.optics.atoms import interaction_parameter, protein_power
from eucentric.typing import FloatArray

_HALF_MAP_FSC = 0.143
_FIND_BAND = (1 / 50.0, 1 / 20.0)  # 1/A: where particles are found and images aligned
_MEMBRANE_BAND = (1 / 50.0, 1 / 15.0)  # leaflets lie 40 A apart
_CELL_BAND = (1 / 60.0, 1 / 25.0)
_BAND_SAMPLES = 8
_LEAFLET_VOLTS = 1.5  # of head groups above ice
_LEAFLET_SIGMA = 5.0  # A, half width of a leaflet's head groups
_PATCH = 200.0  # A; side of a piece of membrane that is seen as flat


def effective_doses(schedule: Schedule, frequency: FloatArray, params: ExpectationParams) -> FloatArray:
    """(tilt, frequency), e/A^2 of undamaged electrons through a thin untilted specimen that show as much.

    Parameters
    ----------
    schedule : images
    frequency : (frequency,), 1/A, above 0
    params : of thickness, filter and voltage
    """
    critical = critical_exposure(torch.from_numpy(np.asarray(frequency)), voltage_kv=params.voltage_kv).numpy()
    before = schedule.pre_exposures[:, None] / critical
    after = (schedule.pre_exposures + schedule.doses)[:, None] / critical
    seen = critical * (np.exp(-before) - np.exp(-after))
    return np.asarray(seen * _passed(schedule, params)[:, None])


def _passed(schedule: Schedule, params: ExpectationParams) -> FloatArray:
    """(tilt,), part of an image's electrons that count: through the filter, and by Hagen's cosine."""
    cosine = np.cos(np.deg2rad(schedule.inclinations_deg))
    if schedule.second_axis:
        cosine = cosine * math.cos(math.radians(params.pretilt_deg))
    return np.asarray(cosine * np.exp(-params.thickness / (params.inelastic_path_angstrom * cosine)))


def _per_dose(frequency: FloatArray, power: FloatArray, area: float, params: ExpectationParams) -> FloatArray:
    """(frequency,), ratio of signal to noise of an image for each e/A^2 of effective dose."""
    nyquist = 0.5 / params.pixel_angstrom
    fall = (params.dqe_at_zero - params.dqe_at_nyquist) * np.square(np.minimum(frequency / nyquist, 1.0))
    dqe = np.where(frequency <= nyquist, params.dqe_at_zero - fall, 0.0)
    phase = interaction_parameter(params.voltage_kv)
    fading = np.exp(-0.5 * params.b_factor_angstrom2 * np.square(frequency))
    return np.asarray(2.0 * phase**2 * power * dqe * fading / area)


def particle_signal(frequency: FloatArray, params: ExpectationParams) -> FloatArray:
    """(frequency,), spectral SNR that one e/A^2 of effective dose adds to an average for each particle."""
    size = params.diameter_angstrom
    power = protein_power(frequency, 1e3 * params.particle_kda, size)
    single = _per_dose(frequency, power, 0.25 * math.pi * size**2, params)
    return np.asarray(single * params.symmetry_order / np.maximum(2.0 * frequency * size, 1.0))


def expected_fsc(
    schedules: Sequence[Schedule], frequency: FloatArray, particles: int, params: ExpectationParams
) -> FloatArray:
    """(frequency,), correlation between half maps of so many particles in all."""
    dose = np.sum([effective_doses(s, frequency, params).sum(0) for s in schedules], axis=0)
    ratio = 0.5 * particles * particle_signal(frequency, params) * dose
    return np.asarray(ratio / (1.0 + ratio))


def particles_needed(schedules: Sequence[Schedule], resolution_angstrom: float, params: ExpectationParams) -> float:
    """Particles with which half maps agree to 0.143 at a resolution (A); infinite where nothing is left there."""
    frequency = np.array([1.0 / resolution_angstrom])
    dose = sum(float(effective_doses(s, frequency, params).sum()) for s in schedules)
    each = 0.5 * dose * float(particle_signal(frequency, params)[0])
    return _HALF_MAP_FSC / (1.0 - _HALF_MAP_FSC) / each if each > 0 else math.inf


def expected_resolution(schedules: Sequence[Schedule], particles: int, params: ExpectationParams) -> float:
    """A, where half maps of so many particles agree to 0.143 for the last time; no finer than two pixels."""
    frequency = np.linspace(1 / 60.0, 0.5 / params.pixel_angstrom, 400)
    above = np.flatnonzero(expected_fsc(schedules, frequency, particles, params) >= _HALF_MAP_FSC)
    return float(1.0 / frequency[above[-1]]) if len(above) else math.inf


def averaging_dose(schedules: Sequence[Schedule], params: ExpectationParams) -> float:
    """e/A^2 of effective dose at the resolution wanted: particles needed are inverse to it."""
    frequency = np.array([1.0 / params.resolution_angstrom])
    return sum(float(effective_doses(s, frequency, params).sum()) for s in schedules)


def finding_information(schedules: Sequence[Schedule], params: ExpectationParams) -> float:
    """Information of a tomogram at 20 to 50 A, see :func:`tomogram_information`: of the particles to be averaged."""
    return tomogram_information(schedules, _FIND_BAND, params)


def goal_information(schedules: Sequence[Schedule], params: ExpectationParams) -> float:
    """What a scheme is judged by: effective dose at the resolution of an average, or information of a tomogram."""
    if params.goal == "averaging":
        return averaging_dose(schedules, params)
    return tomogram_information(schedules, _MEMBRANE_BAND if params.goal == "membranes" else _CELL_BAND, params)


def tomogram_information(schedules: Sequence[Schedule], band: tuple[float, float], params: ExpectationParams) -> float:
    """Bits for each Fourier coefficient, mean over all directions across the tilt axis and over a band (1/A).

    A coefficient in the range of angles of one image has ``log2(1 + SNR)``, as far as the slice, as thick as one over the
    size of what is seen, fills that range; those in the missing wedge have none. Two axes add up.
    """
    frequency = np.linspace(*band, _BAND_SAMPLES)
    power, area, size = _seen(frequency, params)
    per_dose = _per_dose(frequency, power, area, params)
    total = 0.0
    for schedule in schedules:
        ratio = per_dose * effective_doses(schedule, frequency, params)
        spacing = np.deg2rad(schedule.spacings_deg)[:, None]
        filled = np.minimum(spacing, 1.0 / (frequency * size))
        # where slices lie closer than they are thick, each coefficient gets several images
        total += float((filled / math.pi * np.log2(1.0 + ratio / (frequency * size * filled))).sum(0).mean())
    return total


def _seen(frequency: FloatArray, params: ExpectationParams) -> tuple[FloatArray, float, float]:
    """Power (V A^3)^2 of what a tomogram is to show, the area (A^2) that it lies in, and its size (A)."""
    if params.goal == "averaging":
        size = params.diameter_angstrom
        return protein_power(frequency, 1e3 * params.particle_kda, size), 0.25 * math.pi * size**2, size
    if params.goal == "membranes":  # a flat patch, whose power lies in the direction of its normal
        leaflets = 2.0 * math.sqrt(2.0 * math.pi) * _LEAFLET_SIGMA * _LEAFLET_VOLTS
        profile = leaflets * np.exp(-2.0 * np.square(math.pi * _LEAFLET_SIGMA * frequency))
        return np.square(profile * _PATCH**2), _PATCH**2, _PATCH
    mass = 1e3 * params.crowder_kda
    size = params.thickness
    number = params.mass_density_da_per_angstrom3 / mass * size  # for each A^2
    return number * protein_power(frequency, mass, compact_diameter(mass)), 1.0, size


def crowther_angstrom(step_deg: float, size_angstrom: float) -> float:
    """A, finest detail to which slices a step apart fill the transform of an object of a size (Crowther 1970)."""
    return size_angstrom * math.radians(step_deg)


def missing_fraction(schedules: Sequence[Schedule]) -> float:
    """Part of all directions in space that no image holds: the missing wedge, or pyramid of two axes."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20000, 3))
    seen = np.zeros(len(directions), dtype=bool)
    for schedule in schedules:
        across = directions[:, 1] if schedule.second_axis else directions[:, 0]
        angle = np.rad2deg(np.arctan2(directions[:, 2], across))
        angle = (angle + 90.0) % 180.0 - 90.0  # of the slice through a direction
        low, high = -schedule.angles_deg.max(), -schedule.angles_deg.min()
        seen |= (angle >= low) & (angle <= high)
    return float(1.0 - seen.mean())


def elongation(schedule: Schedule) -> float:
    """How much longer than wide a round thing looks along the beam (Radermacher & Hoppe 1980), for symmetric ranges."""
    angle = math.radians(0.5 * float(np.ptp(schedule.angles_deg)))
    product = math.sin(angle) * math.cos(angle)
    return math.sqrt((angle + product) / (angle - product)) if angle > product else math.inf
