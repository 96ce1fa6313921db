r"""The correlation of a filament's map with itself at every height and angle.

On cylinders about the axis, the density of a helix is the same at :math:`(z + k h, \theta + k \phi)` for all whole k. The
correlation of the map with itself,

.. math:: A(\Delta z, \Delta\theta) = \int C(z, r, \theta)\, C'(z + \Delta z, r, \theta + \Delta\theta)\, r

with C and C' of either half map, so that no noise meets itself, is one Fourier transform. Averages over all angles are taken off
first: rings agree with any twist. Those over all heights stay, as their loss would move the lines beside the equator.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from eucentric.averaging.helical_average import window_of
from eucentric.averaging.helix_params import HelixParams
from eucentric.averaging.solve_average import shell_means, spread_shells
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.geometry.helix import cross_section
from eucentric.projection.cylinder import Cylinders
from eucentric.typing import FloatArray

_OVERLAP = 0.3
"""Least part of the heights that both copies share."""
_SHARED = 0.2
"""Of the most, down to which density at a radius counts as the filament's."""
_SMOOTH_SHELLS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HelixLattice:
    """The correlation of a map with itself by height and angle."""

    power: NDArray[np.float64]
    """(q, m), of heights and orders."""
    shared: NDArray[np.float64]
    """(q,), of the window's heights."""
    along: FloatArray
    """(q,), 1/A."""
    around: FloatArray
    """(m,), orders."""
    shares: FloatArray
    """(m,), how many orders of the whole transform each stands for."""
    top: float
    """At no distance, over the heights shared there."""
    half_length_angstrom: float
    """Of the part that is looked at."""
    radius_angstrom: float
    """Root mean square radius of the density."""
    detail_angstrom: float
    voxel_angstrom: float

    @classmethod
    def of(cls, half1: Tensor, half2: Tensor | None, voxel: float, params: HelixParams, detail: float) -> Self:
        white = _whitened(half1, half2, voxel, detail)
        one = Cylinders.of(white[0], voxel)
        other = one if half2 is None else Cylinders.of(white[1], voxel)
        n, radii = one.size, one.radii_angstrom
        reach = 0.5 * params.central_part * n * voxel
        # square-edged but for a fade: what is compared at k units should hold as much as there is
        window = window_of(one.heights_angstrom, reach)
        found = _radii(one, other, detail, window)
        inner, outer = params.inner_radius_angstrom or found[0], params.outer_radius_angstrom or found[1]
        inside = (radii >= inner) & (radii <= outer)
        if not inside.any():
            raise InputError(
                f"No density lies between radii of {inner:.0f} and {outer:.0f} A in a box of "
                f"{n * voxel:.0f} A. Check the radii."
            )
        order, _ = cross_section(params.symmetry)
        power = np.zeros((2 * n, one.values.shape[2] // 2 + 1))
        profile = np.zeros(len(radii))
        for j in np.flatnonzero(inside):
            pair = [_flattened(c.values[:, j].astype(np.float64)) for c in (one, other)]
            a, b = (np.fft.fft(np.fft.rfft(p * window[:, None], axis=1), n=2 * n, axis=0) for p in pair)
            both = radii[j] * (a.conj() * b).real
            power += both
            profile[j] = both.sum()
        around = np.arange(one.values.shape[2] // 2 + 1.0)
        along = np.asarray(np.fft.fftfreq(2 * n, voxel), dtype=np.float64)
        shares = np.where((around == 0) | (around == around[-1]), 1.0, 2.0)
        power = np.where(around % order == 0, power, 0.0)
        shared = np.abs(np.fft.fft(window, n=2 * n)) ** 2
        top = float((power * shares).sum() / shared.sum())
        if not top > 0:
            raise ProcessingError("The halves do not agree on any structure between the radii. Check the maps.")
        heavy = np.clip(profile, 0.0, None)
        return cls(
            power=power,
            shared=shared,
            along=along,
            around=around,
            shares=shares,
            top=top,
            half_length_angstrom=reach,
            radius_angstrom=float(np.sqrt((heavy * radii**2).sum() / max(float(heavy.sum()), 1e-30))),
            detail_angstrom=detail,
            voxel_angstrom=voxel,
        )

    def units(self, rise: float) -> int:
        """On one side, that share enough heights."""
        return max(1, math.floor(2.0 * (1.0 - _OVERLAP) * self.half_length_angstrom * 0.75 / rise))

    def at(self, heights: FloatArray, angles_deg: FloatArray) -> FloatArray:
        """(place,) correlation, over that at no distance."""
        rows, columns = self.power.any(axis=1), self.power.any(axis=0)
        waves = np.exp(2j * np.pi * np.outer(heights, self.along[rows])) @ self.power[np.ix_(rows, columns)]
        turns = self.shares[columns] * np.exp(1j * np.outer(np.deg2rad(angles_deg), self.around[columns]))
        total = (waves * turns).sum(axis=1).real
        return np.asarray(total / self._shared_at(heights) / self.top)

    def _shared_at(self, heights: FloatArray) -> FloatArray:
        return np.asarray((np.exp(2j * np.pi * np.outer(heights, self.along)) @ self.shared).real)

    def weights(self, heights: FloatArray) -> FloatArray:
        """(place,) heights that both copies share, over those at no distance."""
        return np.asarray(np.clip(self._shared_at(heights) / self.shared.sum(), 0.0, 1.0))

    def table(self) -> tuple[NDArray[np.float64], float, float]:
        """Correlations at all heights from none on (height, angle), steps in A and degrees."""
        length = 2 * (len(self.around) - 1)
        plane = np.fft.irfft(np.fft.ifft(self.power, axis=0), n=length, axis=1)
        heights = np.arange(len(self.along) // 2) * self.voxel_angstrom
        shared = np.maximum(np.fft.ifft(self.shared).real[: len(heights)], 1e-9 * self.shared.sum())
        return plane[: len(heights)] / shared[:, None] * length / self.top, self.voxel_angstrom, 360.0 / length


def _whitened(half1: Tensor, half2: Tensor | None, voxel: float, detail: float) -> tuple[Tensor, Tensor]:
    """Both over the amplitude of their shells, times how far the halves agree there, to some detail.

    A background, strong as it is, then counts as little as any other detail. Curves are smooth, and what they do to a helix leaves it
    one; cut off after the middle was cut out, the lines of its transform would move.
    """
    n = half1.shape[0]
    maps = (half1, half1 if half2 is None else half2)
    spectra = [torch.fft.rfftn(v) for v in maps]
    power = shell_means(0.5 * (spectra[0].abs() ** 2 + spectra[1].abs() ** 2)).cpu().double().numpy()
    gain = gaussian_filter1d(np.maximum(power, 1e-6 * power.max() + 1e-300), _SMOOTH_SHELLS, mode="nearest") ** -0.5
    if half2 is not None:
        agreed = fourier_shell_correlation(half1, half2, voxel)[1].cpu().double().numpy()
        gain = gain * np.sqrt(gaussian_filter1d(np.clip(agreed, 0.0, 1.0), _SMOOTH_SHELLS, mode="nearest"))
    grid = frequency_grid((n, n, n), voxel, device=half1.device)
    curve = spread_shells(torch.from_numpy(gain).to(half1), n) * band_pass(grid, low_pass_angstrom=detail)
    out = [torch.fft.irfftn(s * curve, s=(n, n, n)) for s in spectra]
    return out[0], out[1]


def _flattened(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without its means over angles."""
    return np.asarray(plane - plane.mean(axis=1, keepdims=True))


def _radii(one: Cylinders, other: Cylinders, detail: float, window: FloatArray) -> tuple[float, float]:
    """A; between which both maps share density: a fifth of the most, without a gap, no farther out than a box one and a half times
    the filament's width leaves room for.
    """
    radii = one.radii_angstrom
    pairs = ([_flattened(c.values[:, j].astype(np.float64)) for c in (one, other)] for j in range(len(radii)))
    shared = np.array([float((a * b * window[:, None]).mean()) for a, b in pairs])
    shared = gaussian_filter1d(shared, 0.5 * detail / (radii[1] - radii[0]), mode="nearest")
    shared[radii > one.size * one.voxel_size_angstrom / 3.0] = 0.0
    low = high = int(shared.argmax())
    good = shared >= _SHARED * shared[low]
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(radii) - 1 and good[high + 1]:
        high += 1
    return float(radii[low]), float(radii[high])
