r"""From a specimen to the movies of its tilt series, in the weak-phase projection approximation.

Every point of the specimen is projected along the beam into slabs of depth, each slab filtered by the CTF of its own
height: contrast :math:`c = 2\,\mathrm{CTF} \ast \sigma V_z`, expected counts
:math:`N = d\,p^2\,e^{-t/(\Lambda\cos\theta)}(1 + c)` with dose d, pixel size p, ice thickness t and inelastic path
:math:`\Lambda`. Protein is dark at underfocus. Detail of the particles fades with dose [1]_; gold and water stay.
Where c falls below -1/2 (gold) it saturates smoothly, so that counts stay positive.

References
----------
.. [1] Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute import good_size, seeded_generator
from eucentric.errors import InputError
from eucentric.fourier import exposure_weights, frequency_grid, shift_phases
from eucentric.geometry import centre_index, rotation_z
from eucentric.models.optics import Optics
from eucentric.optics.atoms import ICE_VOLTS, interaction_parameter
from eucentric.optics.ctf import ctf_2d
from eucentric.simulation.acquisition import Acquisition, plan_acquisition
from eucentric.simulation.bodies import specimen_bodies
from eucentric.simulation.body import Body
from eucentric.simulation.detector import Detector
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.spreading import spread_points
from eucentric.typing import FloatArray

_OVERSAMPLING = 2
_SLAB_BYTES = 2**28
_WATER_NUMBER = 0.0311  # molecules in A^3 of vitreous ice of 0.93 g/cm^3
_WATER_STRUCTURE = 0.063  # structure factor of water at zero frequency, from its compressibility
_BLOCKED_TRANSMISSION = 0.04


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedSeries:
    """Everything true of one simulated tilt series, and the means to record it tilt by tilt."""

    params: SimulationParams
    specimen: Specimen
    acquisition: Acquisition
    detector: Detector
    bodies: tuple[Body, ...]
    seeds: NDArray[np.int64]
    """(tilt,), one seed for the randomness of each image."""

    @classmethod
    def build(
        cls,
        params: SimulationParams,
        species: Sequence[Species] | None = None,
        *,
        series: int = 0,
        detector: Detector | None = None,
    ) -> Self:
        """Draw specimen and course of a series.

        Parameters
        ----------
        params : settings; `params.seed` and `series` fix all that is random
        species : kinds of particles, in the order of `params.particles_per_species`; None for the built-in ones of
            `params.macromolecules_kda`
        series : number of the series in its data set
        detector : the camera, where several series share one

        Raises
        ------
        InputError, ProcessingError : the specimen cannot be packed
        """
        kinds = [procedural_macromolecule(m) for m in params.macromolecules_kda] if species is None else list(species)
        streams = np.random.SeedSequence([params.seed, series]).spawn(4)
        rngs = [np.random.default_rng(s) for s in streams]
        specimen = Specimen.build(params, kinds, rngs[0])
        acquisition = plan_acquisition(params, rngs[1])
        camera = np.random.default_rng([params.seed, 90210])  # the same for every series of a data set
        return cls(
            params=params,
            specimen=specimen,
            acquisition=acquisition,
            detector=Detector.build(params, camera) if detector is None else detector,
            bodies=specimen_bodies(specimen, params.pixel_size_angstrom, rngs[2]),
            seeds=rngs[3].integers(0, 2**62, size=len(acquisition.geometry)),
        )

    def expected_frames(self, tilt: int) -> Float[Tensor, "frame y x"]:
        """Electrons expected in each pixel of the frames of a tilt (0 is the lowest), before the camera."""
        generator = seeded_generator(int(self.seeds[tilt]))
        return form_frames(self.bodies, self.acquisition, self.params, tilt, generator)

    def movie(self, tilt: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Recorded counts (frame, y, x) of a tilt, rows upwards."""
        generator = seeded_generator(int(self.seeds[tilt]) + 1)
        return self.detector.record(self.expected_frames(tilt), self.params.data_type, generator)


def transmission(params: SimulationParams, acquisition: Acquisition, tilt: int) -> float:
    """Part of the electrons that pass the ice and the energy filter: ``exp(-thickness / (path cos(angle)))``."""
    cosine = abs(float(acquisition.geometry.matrices[tilt, 2, 2]))
    return math.exp(-params.thickness_angstrom / (params.inelastic_path_angstrom * cosine))


def form_frames(
    bodies: Sequence[Body], acquisition: Acquisition, params: SimulationParams, tilt: int, generator: torch.Generator
) -> Float[Tensor, "frame y x"]:
    """Electrons expected in each pixel of every frame of one tilt.

    Parameters
    ----------
    bodies : the specimen
    acquisition : geometry, defocus, motion and deformation
    tilt : 0 is the lowest angle
    generator : for the water, which is another in every exposure

    Returns
    -------
    (frame, y, x) float32, y up

    Raises
    ------
    InputError : the specimen lies along the beam, so that the ice has no end
    """
    matrix = acquisition.geometry.matrices[tilt]
    if abs(matrix[2, 2]) < 0.05:
        raise InputError(f"Tilt {tilt} looks along the ice; expected an angle below 87 degrees.")
    columns, rows = params.image_size_px
    shape = _padded_shape(params)
    fading, lasting = _filtered_projection(bodies, acquisition, params, tilt, shape, generator)

    pixel = params.pixel_size_angstrom
    frequency = frequency_grid(shape, pixel)
    nyquist = 0.5 / pixel
    envelope = torch.exp(-0.25 * params.b_factor * frequency**2)
    envelope = envelope * torch.exp(math.log(params.mtf_at_nyquist) * (frequency / nyquist) ** 2)
    strength = 2.0 * interaction_parameter(params.voltage_kv) * envelope
    shifts = torch.from_numpy(acquisition.motion_angstrom[tilt] / pixel).float()
    fluence = params.dose_per_tilt / params.frames * pixel**2 * transmission(params, acquisition, tilt)
    y0, x0 = (centre_index(p) - centre_index(n) for p, n in zip(shape, (rows, columns), strict=True))
    mask = _bar(params, acquisition, tilt, generator) if tilt in params.blocked_tilts else None

    frames = torch.empty(params.frames, rows, columns)
    for number in range(params.frames):
        exposure = params.dose_per_tilt * (float(acquisition.order[tilt]) + (number + 0.5) / params.frames)
        weights = exposure_weights(frequency, exposure, voltage_kv=params.voltage_kv)
        spectrum = (fading * weights + lasting) * strength * shift_phases(shape, shifts[number])
        contrast = torch.fft.irfft2(spectrum, s=shape)[y0 : y0 + rows, x0 : x0 + columns]
        frames[number] = fluence * saturated(contrast)
    return frames if mask is None else frames * mask


def saturated(contrast: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """``1 + contrast`` where that is at least 1/2; below, an exponential that joins it smoothly and stays positive."""
    return torch.where(contrast < -0.5, 0.5 * torch.exp(2.0 * (contrast.clamp_max(-0.5) + 0.5)), 1.0 + contrast)


def _padded_shape(params: SimulationParams) -> tuple[int, int]:
    """(y, x) with a margin for what defocus spreads into the image from outside, and for the motion."""
    optics_wavelength = Optics(voltage_kv=params.voltage_kv).wavelength_angstrom
    reach = abs(params.defocus_angstrom) * optics_wavelength * 0.5 / params.pixel_size_angstrom
    motion = 2.0 * (params.drift_angstrom + params.doming_angstrom)
    margin = math.ceil((min(reach, 400.0) + motion) / params.pixel_size_angstrom) + 4
    columns, rows = params.image_size_px
    return good_size(rows + 2 * margin), good_size(columns + 2 * margin)


def _filtered_projection(
    bodies: Sequence[Body],
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    shape: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Complex[Tensor, "y half_x"], Complex[Tensor, "y half_x"]]:
    """Transforms (V A) of the projected potential times the CTF of each depth: what fades with dose, what lasts."""
    pixel, step = params.pixel_size_angstrom, params.depth_step_angstrom
    fine = (_OVERSAMPLING * shape[0], _OVERSAMPLING * shape[1])
    matrix, shift = acquisition.geometry.matrices[tilt], acquisition.geometry.shifts_angstrom[tilt]
    height = _ice_height(matrix, shift, shape, pixel)
    half_path = 0.5 * params.thickness_angstrom / abs(float(matrix[2, 2]))
    lowest, highest = float(height.min()) - half_path, float(height.max()) + half_path
    count = max(2, math.ceil((highest - lowest) / step) + 1)
    places = [_camera_places(body, acquisition, params, tilt) for body in bodies]

    # samples hold weights, not densities: a pixel's area makes V A^3 into V A
    spline = _spline_transform(shape) * pixel**2
    fading = torch.zeros(shape[0], shape[1] // 2 + 1, dtype=torch.complex64)
    lasting = torch.zeros_like(fading)
    held = max(1, min(count, _SLAB_BYTES // (8 * fine[0] * fine[1])))
    for first in range(0, count, held):
        here = min(held, count - first)
        slabs = {fades: np.zeros((here, *fine), dtype=np.float32) for fades in {body.fades for body in bodies}}
        for body, (matrices, centres) in zip(bodies, places, strict=True):
            spread_points(
                slabs[body.fades],
                body.points_angstrom,
                body.weights,
                matrices,
                centres,
                spacing=pixel / _OVERSAMPLING,
                depth_start=lowest,
                depth_step=step,
                first_slab=first,
                slab_count=count,
            )
        for number in range(here):
            depth = lowest + (first + number) * step
            ctf = _ctf(acquisition, params, tilt, depth, shape)
            for fades, grids in slabs.items():
                if grids[number].any():
                    total = fading if fades else lasting
                    total += ctf * _image_transform(torch.from_numpy(grids[number]), spline, shape)
            water = _water(height, depth, half_path, params, generator)
            if water is not None:
                lasting += ctf * torch.fft.rfft2(water)
    return fading, lasting


def _camera_places(
    body: Body, acquisition: Acquisition, params: SimulationParams, tilt: int
) -> tuple[FloatArray, FloatArray]:
    """Orientations (place, 3, 3) and positions (place, 3) of a body in the camera's frame, deformation included."""
    moved = body.centres_angstrom + acquisition.deformation_at(body.centres_angstrom, params)[tilt]
    matrix = acquisition.geometry.matrices[tilt]
    return matrix @ body.rotations, acquisition.geometry[tilt].project(moved)[0]


def _ctf(
    acquisition: Acquisition, params: SimulationParams, tilt: int, depth: float, shape: tuple[int, int]
) -> Float[Tensor, "y half_x"]:
    optics = Optics(
        voltage_kv=params.voltage_kv,
        spherical_aberration_mm=params.spherical_aberration_mm,
        amplitude_contrast=params.amplitude_contrast,
    )
    more = params.hand * depth
    return ctf_2d(
        shape,
        params.pixel_size_angstrom,
        float(acquisition.defocus_u_angstrom[tilt]) + more,
        float(acquisition.defocus_v_angstrom[tilt]) + more,
        params.astigmatism_angle_deg,
        optics,
    )


def _image_transform(
    fine: Float[Tensor, "fine_y fine_x"], spline: Float[Tensor, "y half_x"], shape: tuple[int, int]
) -> Complex[Tensor, "y half_x"]:
    """Transform of what was spread, at the frequencies of the image's own pixels, the spreading spline divided out."""
    half = torch.fft.rfft(fine)[:, : shape[1] // 2 + 1]
    full = torch.fft.fft(half, dim=0)
    rows = torch.arange(shape[0])
    rows[(shape[0] + 1) // 2 :] += fine.shape[0] - shape[0]
    transform: Tensor = full[rows] / spline
    return transform


def _spline_transform(shape: tuple[int, int]) -> Float[Tensor, "y half_x"]:
    y = torch.sinc(torch.fft.fftfreq(shape[0]) / _OVERSAMPLING) ** 4
    x = torch.sinc(torch.fft.rfftfreq(shape[1]) / _OVERSAMPLING) ** 4
    transform: Tensor = y[:, None] * x
    return transform


def _ice_height(
    matrix: FloatArray, shift: FloatArray, shape: tuple[int, int], pixel_size: float
) -> Float[Tensor, "y x"]:
    """Height in A of the middle of the ice over each pixel of the padded image."""
    normal = matrix[:, 2]
    y, x = (
        (torch.arange(n, dtype=torch.float32) - centre_index(n)) * pixel_size - float(s)
        for n, s in zip(shape, shift[::-1], strict=True)
    )
    height: Tensor = -(float(normal[0]) * x + float(normal[1]) * y[:, None]) / float(normal[2])
    return height


def _water(
    height: Float[Tensor, "y x"],
    depth: float,
    half_path: float,
    params: SimulationParams,
    generator: torch.Generator,
) -> Float[Tensor, "y x"] | None:
    """Projected fluctuations (V A) of the ice within half a step of a depth; None where there is no ice."""
    half_step = 0.5 * params.depth_step_angstrom
    upper = (height + half_path).clamp(depth - half_step, depth + half_step)
    lower = (height - half_path).clamp(depth - half_step, depth + half_step)
    path = upper - lower
    if params.ice_noise == 0 or not bool((path > 0).any()):
        return None
    variance = ICE_VOLTS**2 / _WATER_NUMBER * _WATER_STRUCTURE * path / params.pixel_size_angstrom**2
    noise = torch.randn(height.shape, generator=generator)
    fluctuations: Tensor = params.ice_noise * variance.sqrt() * noise
    return fluctuations


def _bar(
    params: SimulationParams, acquisition: Acquisition, tilt: int, generator: torch.Generator
) -> Float[Tensor, "y x"]:
    """A grid bar along the tilt axis that hides most of the image."""
    columns, rows = params.image_size_px
    along = rotation_z(acquisition.geometry.z_rot_deg[tilt])[:2, 0]
    y = torch.arange(rows, dtype=torch.float32)[:, None] - centre_index(rows)
    x = torch.arange(columns, dtype=torch.float32) - centre_index(columns)
    across = (float(along[0]) * x + float(along[1]) * y) / (0.5 * min(rows, columns))
    edge = 0.55 + 0.3 * float(torch.rand((), generator=generator))
    return _BLOCKED_TRANSMISSION + (1.0 - _BLOCKED_TRANSMISSION) * torch.sigmoid((across - edge) / 0.02)
