r"""From a specimen to the movies of its tilt series.

The contrast c of a tilt comes from `weak_phase` or `multislice`. Expected counts are
:math:`N = d\,p^2\,q\,e^{-L/\Lambda}(1 + c)` with dose d, pixel size p, the part q of the electrons that the camera
counts, the beam's path L in the ice above each pixel and the inelastic path :math:`\Lambda`. Protein is dark at underfocus.
Detail of the particles fades with dose [1]_; gold and water stay. Where a weak-phase c falls below -1/2 (gold) it saturates
smoothly, so that counts stay positive.

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
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute import good_size, seeded_generator
from eucentric.errors import InputError
from eucentric.fourier import frequency_grid, shift_phases
from eucentric.geometry import centre_index, rotation_z
from eucentric.models.optics import Optics
from eucentric.simulation.acquisition import Acquisition, plan_acquisition
from eucentric.simulation.bodies import specimen_bodies
from eucentric.simulation.body import Body
from eucentric.simulation.build_specimen import builtin_species
from eucentric.simulation.damage import damage_weights
from eucentric.simulation.detector import Detector, ModulationTransfer, frequency_response
from eucentric.simulation.film import Film
from eucentric.simulation.ice import beam_path
from eucentric.simulation.multislice import multislice_spectra
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.scene import Scene
from eucentric.simulation.species import Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.weak_phase import weak_phase_spectra

_BLOCKED_TRANSMISSION = 0.04


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedSeries:
    """Everything true of one simulated tilt series, and the means to record it tilt by tilt."""

    params: SimulationParams
    specimen: Specimen
    acquisition: Acquisition
    detector: Detector
    bodies: tuple[Body, ...]
    film: Film
    seeds: NDArray[np.int64]
    """(tilt,), one seed for the randomness of each image."""

    @classmethod
    def build(
        cls,
        params: SimulationParams,
        species: Sequence[Species] | None = None,
        *,
        series: int = 0,
        scene: Scene | None = None,
        detector: Detector | None = None,
        film: Film | None = None,
        mtf: ModulationTransfer | None = None,
    ) -> Self:
        """Draw specimen and course of a series.

        Parameters
        ----------
        params : settings; `params.seed` and `series` fix all that is random
        species : kinds of particles, in the order of `params.particles_per_species`; None for the built-in ones of
            `params.macromolecules_kda`; with a scene, one for each of its species, None where all of them are built in
        series : number of the series in its data set
        scene : what lies in the film, and the film; None for what `params` says
        detector : the camera, where several series share one
        film : the ice; None for that of the scene, or a flat one of `params.thickness_angstrom`
        mtf : of the camera where none is given; None for a normal curve to `params.mtf_at_nyquist`

        Raises
        ------
        InputError, ProcessingError : the specimen cannot be packed
        """
        if species is not None:
            kinds = list(species)
        elif scene is not None:
            kinds = [builtin_species(entry) for entry in scene.species]
        else:
            kinds = [procedural_macromolecule(mass) for mass in params.macromolecules_kda]
        streams = np.random.SeedSequence([params.seed, series]).spawn(4)
        rngs = [np.random.default_rng(s) for s in streams]
        specimen = Specimen.build(params, kinds, rngs[0], scene)
        acquisition = plan_acquisition(params, rngs[1])
        camera = np.random.default_rng([params.seed, 90210])  # the same for every series of a data set
        return cls(
            params=params,
            specimen=specimen,
            acquisition=acquisition,
            detector=Detector.build(params, camera, mtf) if detector is None else detector,
            bodies=specimen_bodies(specimen, params.pixel_size_angstrom, rngs[2]),
            film=specimen.film if film is None else film,
            seeds=rngs[3].integers(0, 2**62, size=len(acquisition.geometry)),
        )

    def expected_frames(self, tilt: int) -> Float[Tensor, "frame y x"]:
        """Electrons expected in each pixel of the frames of a tilt (0 is the lowest), before the camera."""
        generator = seeded_generator(int(self.seeds[tilt]))
        return form_frames(
            self.bodies, self.acquisition, self.params, tilt, generator, film=self.film, mtf=self.detector.mtf
        )

    def movie(self, tilt: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Recorded counts (frame, y, x) of a tilt, rows upwards."""
        generator = seeded_generator(int(self.seeds[tilt]) + 1)
        return self.detector.record(self.expected_frames(tilt), self.params.data_type, generator)

    def electron_events(self, tilt: int) -> list[NDArray[np.int64]]:
        """Electrons (n, 2) that each readout of a tilt counts: y upwards and x in quarters of a pixel.

        For cameras that write single electrons; `params.readouts_per_frame` readouts make a frame.
        """
        generator = seeded_generator(int(self.seeds[tilt]) + 1)
        return self.detector.count_events(self.expected_frames(tilt), generator)


def form_frames(
    bodies: Sequence[Body],
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    generator: torch.Generator,
    *,
    film: Film | None = None,
    mtf: ModulationTransfer | None = None,
) -> Float[Tensor, "frame y x"]:
    """Electrons expected in each pixel of every frame of one tilt.

    Parameters
    ----------
    bodies : the specimen
    acquisition : geometry, defocus, motion and deformation
    tilt : 0 is the lowest angle
    generator : for the water, which is another in every exposure
    film : the ice; None for a flat one of `params.thickness_angstrom`
    mtf : of the camera; None for a normal curve to `params.mtf_at_nyquist`

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
    if tilt in params.dead_tilts:
        return torch.zeros(params.frames, rows, columns)
    pixel, shape = params.pixel_size_angstrom, padded_shape(params)
    ice = Film(thickness_angstrom=params.thickness_angstrom) if film is None else film
    path = beam_path(ice, acquisition.geometry, tilt, shape, pixel)
    frequency = frequency_grid(shape, pixel)
    camera = frequency_response(frequency * pixel, params, mtf)
    shifts = torch.from_numpy(acquisition.motion_angstrom[tilt] / pixel).float()
    window = _window(shape, (rows, columns))
    multiple = params.formation == "multislice"
    former = multislice_spectra if multiple else weak_phase_spectra
    fading, lasting = former(bodies, path, acquisition, params, tilt, shape, generator)
    dose, before = acquisition.doses(params)[tilt], acquisition.doses_before(params)[tilt]
    fluence = params.dqe_at_zero * dose / params.frames * pixel**2
    passed: Tensor | float = math.exp(-ice.thickness_angstrom / (params.inelastic_path_angstrom * abs(matrix[2, 2])))
    if not path.even:
        passed = path.transmission(params.inelastic_path_angstrom)[window]
    mask = _bar(params, acquisition, tilt, generator) if tilt in params.blocked_tilts else None

    frames = torch.empty(params.frames, rows, columns)
    for number in range(params.frames):
        exposure = float(before + dose * (number + 0.5) / params.frames)
        spectrum = lasting if fading is None else fading * damage_weights(frequency, exposure, params) + lasting
        image = torch.fft.irfft2(spectrum * camera * shift_phases(shape, shifts[number]), s=shape)
        if acquisition.local_motion is not None:
            image = acquisition.local_motion.displaced(image, tilt, number, pixel)
        image = image[window]
        frames[number] = fluence * passed * ((1.0 + image).clamp_min(0.0) if multiple else saturated(image))
    return frames if mask is None else frames * mask


def _window(padded: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, ...]:
    """The part of a padded image whose centre is the same."""
    starts = [centre_index(p) - centre_index(n) for p, n in zip(padded, shape, strict=True)]
    return tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))


def saturated(contrast: Float[Tensor, "*image"]) -> Float[Tensor, "*image"]:
    """``1 + contrast`` where that is at least 1/2; below, an exponential that joins it smoothly and stays positive."""
    return torch.where(contrast < -0.5, 0.5 * torch.exp(2.0 * (contrast.clamp_max(-0.5) + 0.5)), 1.0 + contrast)


def padded_shape(params: SimulationParams) -> tuple[int, int]:
    """(y, x) with a margin for what defocus spreads into the image from outside, and for the motion."""
    optics_wavelength = Optics(voltage_kv=params.voltage_kv).wavelength_angstrom
    reach = abs(params.defocus_angstrom) * optics_wavelength * 0.5 / params.pixel_size_angstrom
    motion = 2.0 * (params.drift_angstrom + params.doming_angstrom + params.local_motion_angstrom)
    margin = math.ceil((min(reach, 400.0) + motion) / params.pixel_size_angstrom) + 4
    columns, rows = params.image_size_px
    return good_size(rows + 2 * margin), good_size(columns + 2 * margin)


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
