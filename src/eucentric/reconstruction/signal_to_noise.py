"""How much of the images is specimen: the ratio of signal to noise against the frequency, contrast transfer aside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.fourier.grid import frequency_grid
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.optics.transfer import contrast_transfer
from eucentric.typing import FloatArray

_BANDS = 96
_SMOOTH = 4  # bands to either side: wider than a CTF ring at the coarse end, narrower than the fall of the specimen
_LEAST, _MOST = 0.01, 100.0  # beyond, the result changes no more, and the equations grow stiff


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectralRatio:
    """A ratio of two power spectra against the frequency."""

    frequency: FloatArray
    """(band,) 1/A, rising."""
    ratio: FloatArray
    """(band,), positive."""

    def at(self, frequency: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """The ratio at other frequencies, between bands by its logarithm; held at the ends."""
        values = np.interp(frequency.cpu().numpy(), self.frequency, np.log(self.ratio))
        return torch.from_numpy(np.exp(values)).to(frequency)


def estimate_signal_to_noise(
    even: Float[Tensor, "tilt y x"],
    odd: Float[Tensor, "tilt y x"],
    *,
    pixel_size: float,
    fits: Sequence[CtfFit],
    optics: Optics,
    exposures: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    b_factor_angstrom2: float = 0.0,
    finest_angstrom: float | None = None,
) -> SpectralRatio:
    """Ratio for sums of all frames, from what the sums of even and of odd frames share.

    What both halves show is specimen, their difference is noise; over all tilts,
    ``ratio = sum of shared power / (noise power * sum of CTF^2 damage^2)`` in every band, smoothed over a few.

    Parameters
    ----------
    even, odd : (tilt, y, x) sums of every other frame; with the same positive mean, as counts are
    pixel_size : A
    fits : CTF of every tilt
    exposures : (tilt,) e/A^2 at the middle of each image; None for no damage
    signal : how strongly each image shows the specimen; None where all do alike
    b_factor_angstrom2 : A^2, of the envelope of all images: the ratio is then that of what it has faded
    finest_angstrom : length at which the bands end; twice the pixel where None
    """
    if even.shape != odd.shape or even.shape[0] != len(fits):
        raise ShapeError(
            f"Halves of shape {tuple(even.shape)} and {tuple(odd.shape)} and {len(fits)} CTF fits were given; "
            "expected one fit for each image, and halves of one shape."
        )
    shape = (even.shape[1], even.shape[2])
    frequency = frequency_grid(shape, pixel_size, device=even.device)
    limit = min(0.5 / pixel_size, 1.0 / finest_angstrom if finest_angstrom else np.inf)
    band = (frequency * (_BANDS / limit)).long()
    used = band < _BANDS
    band = band[used]
    window = torch.outer(
        torch.hann_window(shape[0], periodic=False, device=even.device),
        torch.hann_window(shape[1], periodic=False, device=even.device),
    )
    shared, noise, transfer = (torch.zeros(_BANDS, dtype=torch.float64, device=even.device) for _ in range(3))
    given = None if exposures is None else np.asarray(exposures, dtype=np.float64)
    told = [t for t in range(len(fits)) if signal is None or signal.scale[t] > 0.0]
    for t in told:
        mean = float((even[t] + odd[t]).mean())
        scale = 1.0 / mean if mean > 0 else 1.0
        first, second = (torch.fft.rfft2(scale * (half[t] - half[t].mean()) * window) for half in (even, odd))
        gain = contrast_transfer(
            shape,
            pixel_size,
            fits[t],
            optics,
            exposure=None if given is None else float(given[t]),
            b_factor_angstrom2=b_factor_angstrom2 + (0.0 if signal is None else float(signal.b_factor_angstrom2[t])),
            signal_scale=1.0 if signal is None else float(signal.scale[t]),
            device=even.device,
        ).at()
        # the sum is both halves: four times the shared power, and the power of the difference
        for total, power in (
            (shared, 4.0 * (first * second.conj()).real),
            (noise, (first - second).abs().square()),
            (transfer, gain.square()),
        ):
            total.index_add_(0, band, power[used].double())
    count = torch.zeros_like(shared).index_add_(0, band, torch.ones_like(band, dtype=torch.float64)) * len(told)
    kept = (count > 0).cpu().numpy()
    specimen, noise_power, passed = ((x / count.clamp(min=1.0)).cpu().numpy()[kept] for x in (shared, noise, transfer))
    ratio = _smooth(specimen) / np.maximum(_smooth(noise_power * passed), 1e-30)
    # the coarsest bands fall too steeply to be smoothed
    ratio[:_SMOOTH] = (specimen / np.maximum(noise_power * passed, 1e-30))[:_SMOOTH]
    middle = (np.arange(_BANDS)[kept] + 0.5) * (limit / _BANDS)
    return SpectralRatio(frequency=middle, ratio=np.clip(ratio, _LEAST, _MOST))


def _smooth(values: FloatArray) -> FloatArray:
    kernel = np.hanning(2 * _SMOOTH + 3)[1:-1]
    padded = np.pad(values, _SMOOTH, mode="edge")
    return np.asarray(np.convolve(padded, kernel / kernel.sum(), mode="valid"), dtype=np.float64)


def assumed_signal_to_noise(dose: float) -> SpectralRatio:
    """A ratio for images without halves: that of a crowded specimen 150 nm thick, in proportion to the dose.

    One number at 3 e/A^2, 1 at 40 A, rising as the inverse square of the frequency below it and falling slowly beyond: rough, but a
    Wiener filter forgives a factor of two.
    """
    frequency = np.geomspace(1e-3, 0.5, 64)
    ratio = np.where(frequency < 0.025, (0.025 / frequency) ** 2, np.exp(-(frequency - 0.025) * 15.0))
    return SpectralRatio(frequency=frequency, ratio=np.clip(ratio * max(dose, 0.5) / 3.0, _LEAST, _MOST))
