r"""Images with multiple scattering: the wave passes slices of frozen matter one after the other.

.. math:: \psi \leftarrow F^{-1}[F(\psi\, e^{i \sigma V_n (\sqrt{1 - w^2} + i w)})\, e^{-i\pi\lambda k^2 d}],

with the potential V of slice n projected along the beam, the interaction parameter :math:`\sigma`, the amplitude contrast w
and the distance d to the next slice. The objective lens multiplies the wave's transform by :math:`e^{i\chi}` and the coherence
envelopes; the image is :math:`|\psi|^2`. For thin specimens this is the weak-phase image. The wave lies on a grid one and a half
times as fine as the image and is cut off at the image's Nyquist frequency, two thirds of its own: nothing is aliased, and what
is scattered further is lost to the aperture.

One wave is made for each tilt. Damage is that of the middle of its exposure, frames differ by motion and counting, and water
stands still during the exposure. Electrons lost in the ice are taken from the image by each pixel's path.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.compute import good_size
from eucentric.fourier import frequency_grid
from eucentric.models.optics import Optics
from eucentric.optics.atoms import interaction_parameter
from eucentric.optics.ctf import phase_aberration_2d
from eucentric.simulation.acquisition import Acquisition
from eucentric.simulation.body import Body
from eucentric.simulation.coherence import coherence_envelope
from eucentric.simulation.damage import damage_weights
from eucentric.simulation.finer_grid import kept_rows
from eucentric.simulation.ice import BeamPath, fluctuations, tapered, water_spectrum
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.slabs import camera_places, slab_transforms

_FINER = 1.5


def multislice_spectra(
    bodies: Sequence[Body],
    path: BeamPath,
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    shape: tuple[int, int],
    generator: torch.Generator,
) -> tuple[None, Complex[Tensor, "y half_x"]]:
    """Transform of intensity less one of a tilt; the None stands for what would fade from frame to frame."""
    lens = _Lens(acquisition, params, tilt, shape)
    wave, height = _exit_wave(bodies, path, acquisition, params, tilt, lens, generator)
    spectrum = torch.fft.fft2(wave) * lens.transfer(height)
    intensity = torch.fft.ifft2(spectrum).abs().square() - 1.0
    half = torch.fft.rfft2(intensity)
    ratio = (shape[0] * shape[1]) / (lens.fine[0] * lens.fine[1])
    return None, ratio * half[kept_rows(shape[0], lens.fine[0]), : shape[1] // 2 + 1]


class _Lens:
    """Frequencies of the wave, what lies inside the band, propagation and aberration."""

    def __init__(self, acquisition: Acquisition, params: SimulationParams, tilt: int, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.fine = (good_size(math.ceil(_FINER * shape[0])), good_size(math.ceil(_FINER * shape[1])))
        self._params = params
        self._defocus = (float(acquisition.defocus_u_angstrom[tilt]), float(acquisition.defocus_v_angstrom[tilt]))
        self._phase = math.radians(float(acquisition.phase_shift_deg[tilt]))
        # the field is the image's: its frequencies are spaced alike on both grids
        step = [1.0 / (n * params.pixel_size_angstrom) for n in shape]
        self.fy = (torch.fft.fftfreq(self.fine[0], dtype=torch.float64) * self.fine[0] * step[0])[:, None]
        self.fx = torch.fft.fftfreq(self.fine[1], dtype=torch.float64) * self.fine[1] * step[1]
        self.inside = (self.fy**2 + self.fx**2) < (0.5 / params.pixel_size_angstrom) ** 2

    def propagator(self, distance: float) -> Complex[Tensor, "y x"]:
        """Free flight over a distance in A, with the cut at the edge of the band."""
        wavelength = Optics(voltage_kv=self._params.voltage_kv).wavelength_angstrom
        # the phase is a sum over y and x, so that its exponential is a product
        y, x = (torch.exp(-1j * math.pi * wavelength * distance * f**2) for f in (self.fy, self.fx))
        flight: Tensor = (y * x).to(torch.complex64) * self.inside
        return flight

    def transfer(self, height: float) -> Complex[Tensor, "y x"]:
        """Aberrations and envelopes for a wave at a height in A."""
        params = self._params
        optics = Optics(
            voltage_kv=params.voltage_kv,
            spherical_aberration_mm=params.spherical_aberration_mm,
            amplitude_contrast=0.0,  # it is in the wave
        )
        u, v = (defocus + params.hand * height for defocus in self._defocus)
        chi = phase_aberration_2d(self.fy, self.fx, u, v, params.astigmatism_angle_deg, optics) + self._phase
        chi[0, 0] = 0.0
        frequency = (self.fy**2 + self.fx**2).sqrt().float()
        envelope = coherence_envelope(frequency, params, 0.5 * (u + v)) * self.inside
        chi = chi.remainder(2.0 * math.pi).float()
        return torch.polar(envelope, chi)

    def on_wave(self, transform: Complex[Tensor, "y half_x"]) -> Float[Tensor, "fine_y fine_x"]:
        """Values on the wave's grid from a transform on the image's, cut to the band."""
        rows, half = self.shape[0], (self.shape[1] + 1) // 2
        whole = torch.zeros(self.fine[0], self.fine[1] // 2 + 1, dtype=torch.complex64)
        low = (rows + 1) // 2
        whole[:low, :half] = transform[:low, :half]
        whole[-(rows - low) :, :half] = transform[low:, :half]
        whole *= self.inside[:, : whole.shape[1]]
        scale = (self.fine[0] * self.fine[1]) / (self.shape[0] * self.shape[1])
        values: Tensor = torch.fft.irfft2(whole, s=self.fine) * scale
        return values


def _exit_wave(
    bodies: Sequence[Body],
    path: BeamPath,
    acquisition: Acquisition,
    params: SimulationParams,
    tilt: int,
    lens: _Lens,
    generator: torch.Generator,
) -> tuple[Complex[Tensor, "y x"], float]:
    """The wave at the height of the last slice, and that height in A."""
    shape, pixel = lens.shape, params.pixel_size_angstrom
    lowest, highest = path.heights
    step = params.slice_angstrom
    count = max(2, math.ceil((highest - lowest) / step) + 1)
    # the middle of the slices is the middle of the specimen
    lowest = 0.5 * (lowest + highest - (count - 1) * step)
    frequency = frequency_grid(shape, pixel)
    blur = torch.exp(-0.25 * params.b_factor * frequency**2)
    dose = float(acquisition.doses(params)[tilt])
    damage = damage_weights(frequency, float(acquisition.doses_before(params)[tilt]) + 0.5 * dose, params) * blur
    water = blur * water_spectrum(frequency, dose) if params.ice_spectrum == "water" else blur
    places = [camera_places(body, acquisition, params, tilt) for body in bodies]
    interaction = interaction_parameter(params.voltage_kv)
    absorbed = params.amplitude_contrast
    phase = math.sqrt(1.0 - absorbed**2)
    flight = lens.propagator(step)

    wave = torch.ones(lens.fine, dtype=torch.complex64)
    waiting = 0  # slices of empty space not yet passed
    height = lowest
    # with hand -1 what is higher has less underfocus: it lies upstream
    slabs = slab_transforms(
        bodies, places, shape, pixel, lowest=lowest, step=step, count=count, downwards=params.hand < 0
    )
    for index, (depth, transforms) in enumerate(slabs):
        height = depth
        noise = fluctuations(path, depth, step, params, generator)
        total = None if noise is None else torch.fft.rfft2(noise) * water
        for fades, transform in transforms.items():
            part = transform * (damage if fades else blur)
            total = part if total is None else total + part
        if total is not None:
            if waiting:
                far = flight if waiting == 1 else lens.propagator(waiting * step)
                wave = torch.fft.ifft2(torch.fft.fft2(wave) * far)
                waiting = 0
            potential = lens.on_wave(total) * interaction
            wave *= torch.polar(torch.exp(-absorbed * potential), phase * potential)
        waiting += index < count - 1
    if waiting:
        wave = torch.fft.ifft2(torch.fft.fft2(wave) * lens.propagator(waiting * step))
    if not path.even:
        advance = torch.fft.rfft2(tapered(path.phase(interaction), _margin(params, shape)))
        wave = wave * torch.polar(torch.ones(lens.fine), lens.on_wave(advance))
    return wave, height


def _margin(params: SimulationParams, shape: tuple[int, int]) -> int:
    """Pixels of the padding on the narrower side."""
    columns, rows = params.image_size_px
    return max(1, min((shape[0] - rows) // 2, (shape[1] - columns) // 2))
