r"""What the spectra of recorded images tell of ice, envelope and camera, with a simulated specimen for comparison.

An image of mean :math:`\bar I` has the contrast :math:`I/\bar I - 1`. Averaged over rings of frequency k, its power per area is

.. math:: P(k) = \frac{1}{q\,n} + \left(a^2 W(k) + m^2 M(k)\right) e^{-b k^2 / 2}

with n the electrons that reach a unit of area, of which the camera counts the part q; W the power of the ice and M that of
what lies in it, as the simulator forms them without counting noise; a and m how much stronger ice and matter are than simulated, and
b the B-factor (A^2, of amplitudes :math:`e^{-bk^2/4}`) on top of the simulated one. All four are fitted to the logarithm, each
held near "as simulated" by a normal prior: a spectrum alone tells flat ice from counting noise, and blur from less matter, only
by the shape of Thon rings.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from torch import Tensor

from eucentric.compute import seeded_generator
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import taper_edges
from eucentric.fourier.shells import radial_average
from eucentric.simulation.image_formation import SimulatedSeries, form_frames
from eucentric.typing import FloatArray

SHELLS = 96
"""Rings from zero to the Nyquist frequency."""
_COARSEST = 60.0  # A; coarser detail depends on what the specimen holds, and the camera and the ice hardly show
_FINEST = 0.95  # of the Nyquist frequency: rings beyond hold few samples
_LOG_POWER = 0.1  # one standard deviation of a shell: rings of an image are few, and specimens differ
_PRIORS = (0.15, 0.4, 0.5, 1.0)  # the same of ln q, ln a, ln m and of b in its unit
_B_UNIT = 300.0  # A^2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContrastSpectra:
    """Powers per area (image, shell) in A^2, averaged over rings; `frequency` (shell,) in 1/A is their middle."""

    frequency: FloatArray
    measured: FloatArray
    ice: FloatArray
    """Simulated, without counting noise."""
    matter: FloatArray
    electrons: FloatArray
    """(image,), e/A^2 that pass the specimen."""

    def __post_init__(self) -> None:
        shape = (len(self.electrons), len(self.frequency))
        for name in ("measured", "ice", "matter"):
            if getattr(self, name).shape != shape:
                raise ShapeError(f"The spectra `{name}` have shape {getattr(self, name).shape}; expected {shape}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFit:
    """How images were recorded, compared with how they were simulated."""

    detected: float
    """Part of the electrons that the camera counts; more than 1 where the dose is larger than was said."""
    ice: float
    """Amplitude of the grain of the ice over the simulated one."""
    matter: float
    """Amplitude of what lies in the ice over the simulated one: away from 1 where the specimen holds more, or less."""
    extra_b_factor: float
    """A^2, on top of the simulated one; negative where images are sharper than simulated."""
    misfit: float
    """Rms of the natural logarithm of measured over fitted power, from 60 A to near the Nyquist frequency."""
    coarse_ratio: float
    """Measured over simulated power above the counting noise, between 200 and 60 A, which took no part in the fit."""

    def power(self, spectra: ContrastSpectra) -> FloatArray:
        """(image, shell), A^2, as fitted."""
        return _model(spectra, self.detected, self.ice, self.matter, self.extra_b_factor)


def contrast_spectrum(image: Float[Tensor, "y x"], pixel_size: float) -> FloatArray:
    """(shell,) power per area of an image's contrast in A^2, from zero frequency to Nyquist.

    Raises
    ------
    InputError : an image whose mean is not positive
    """
    mean = float(image.double().mean())
    if not mean > 0:
        raise InputError(f"An image has the mean {mean:g}; expected counts of electrons, above zero.")
    shape = (int(image.shape[-2]), int(image.shape[-1]))
    edge = max(2, min(shape) // 16)
    window = taper_edges(torch.ones_like(image), edge)
    transform = torch.fft.rfft2(taper_edges(image / mean - 1.0, edge))
    power = transform.abs() ** 2 / (window**2).sum() * pixel_size**2
    return np.asarray(radial_average(power, shape, SHELLS).double().numpy())


def shell_frequencies(pixel_size: float) -> FloatArray:
    """(shell,) middle of the rings of `contrast_spectrum`, 1/A."""
    return np.asarray((np.arange(SHELLS) + 0.5) / SHELLS * 0.5 / pixel_size)


def simulated_spectra(series: SimulatedSeries, tilt: int) -> tuple[FloatArray, FloatArray]:
    """(shell,) powers per area in A^2 of the ice alone and of all that lies in it alone, without counting noise or motion."""
    params, still = series.params, series.acquisition
    still = replace(still, motion_angstrom=np.zeros_like(still.motion_angstrom), local_motion=None)
    found = []
    for bodies, noise in (((), params.ice_noise), (series.bodies, 0.0)):
        frames = form_frames(
            bodies,
            still,
            params.replace(ice_noise=noise),
            tilt,
            seeded_generator(int(series.seeds[tilt])),
            film=series.film,
            mtf=series.detector.mtf,
        )
        found.append(contrast_spectrum(frames.sum(0), params.pixel_size_angstrom))
    return found[0], found[1]


def fit_recording(spectra: ContrastSpectra) -> RecordingFit:
    """Fit the part of the electrons that is counted, the grain of the ice and the B-factor to spectra.

    Raises
    ------
    InputError : pixels so coarse that nothing finer than 60 A is left to compare
    """
    frequency = spectra.frequency
    used = (frequency > 1.0 / _COARSEST) & (frequency < _FINEST * frequency[-1])
    if used.sum() < 8:
        raise InputError(
            f"The spectra end at {1.0 / frequency[-1]:.0f} A; expected finer pixels, to compare below 60 A."
        )
    part = ContrastSpectra(
        frequency=frequency[used],
        measured=spectra.measured[:, used],
        ice=spectra.ice[:, used],
        matter=spectra.matter[:, used],
        electrons=spectra.electrons,
    )

    def misfits(unknowns: FloatArray) -> FloatArray:
        return np.asarray(np.log(part.measured / _model(part, *_values(unknowns))).ravel())

    def residuals(unknowns: FloatArray) -> FloatArray:
        return np.concatenate([misfits(unknowns) / _LOG_POWER, unknowns / _PRIORS])

    fit = least_squares(residuals, np.zeros(4), loss="soft_l1")
    detected, ice, matter, extra = _values(fit.x)
    coarse = (frequency > 1.0 / 200.0) & (frequency <= 1.0 / _COARSEST)
    floor = 1.0 / (detected * spectra.electrons[:, None])
    model = _model(spectra, detected, ice, 1.0, extra)
    ratio = float("nan")
    if coarse.any():
        ratio = float((spectra.measured - floor)[:, coarse].sum() / (model - floor)[:, coarse].sum())
    return RecordingFit(
        detected=detected,
        ice=ice,
        matter=matter,
        extra_b_factor=extra,
        misfit=float(np.sqrt(np.mean(misfits(fit.x) ** 2))),
        coarse_ratio=ratio,
    )


def _values(unknowns: FloatArray) -> tuple[float, float, float, float]:
    detected, ice, matter = np.exp(unknowns[:3])
    return float(detected), float(ice), float(matter), _B_UNIT * float(unknowns[3])


def _model(spectra: ContrastSpectra, detected: float, ice: float, matter: float, extra_b_factor: float) -> FloatArray:
    envelope = np.exp(-0.5 * extra_b_factor * spectra.frequency**2)
    return np.asarray(
        1.0 / (detected * spectra.electrons[:, None]) + (ice**2 * spectra.ice + matter**2 * spectra.matter) * envelope
    )
