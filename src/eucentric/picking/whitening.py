"""The power of a tomogram's noise by frequency, from sampled voxels of Fourier space alone, and the filter that evens it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.fourier.filters import soft_edge
from eucentric.fourier.grid import frequency_grid
from eucentric.fourier.shells import radial_average

_PATCHES = 300
_REJECTED = 0.1  # of the patches, those of the greatest variance: beads, ice


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NoiseSpectrum:
    """Amplitude of a tomogram by shell of frequency."""

    amplitude: Float[Tensor, " shell"]
    """Of an orthonormal transform, from zero to Nyquist; rms over the sampled voxels of a shell."""
    voxel_size_angstrom: float

    @classmethod
    def estimate(
        cls,
        volume: Float[Tensor, "z y x"],
        voxel_size: float,
        coverage: Float[Tensor, "c c half_c"],
        region: Tensor | None = None,
    ) -> Self:
        """From overlapping cubes.

        Parameters
        ----------
        coverage : of Fourier space, on the samples of a cube's rfftn: 0 where no tilt measured
        region : (z, y, x) bool: only cubes whose middle lies in it
        """
        side = coverage.shape[0]
        window = torch.hann_window(side, periodic=True, device=volume.device)
        taper = window[:, None, None] * window[None, :, None] * window[None, None, :]
        taper = taper / taper.square().mean().sqrt()
        sampled = (coverage > 0.1).to(volume)
        shape = (side, side, side)
        count = side // 2
        share = radial_average(sampled, shape, count).clamp_min(1e-6)
        spectra, variances = [], []
        for corner in _corners(tuple(volume.shape), side, region):
            box = volume[tuple(slice(c, c + side) for c in corner)]
            box = box - box.mean()
            power = torch.fft.rfftn(box * taper, norm="ortho").abs().square() * sampled
            spectra.append(radial_average(power, shape, count) / share)
            variances.append(float(box.square().mean()))
        kept = np.argsort(variances)[: max(1, round((1.0 - _REJECTED) * len(variances)))]
        mean = torch.stack(spectra)[torch.from_numpy(kept)].mean(0)
        mean[0] = mean[1]  # the window's own leak
        return cls(amplitude=mean.clamp_min(1e-12 * float(mean.max())).sqrt(), voxel_size_angstrom=voxel_size)

    def gain(self, shape: tuple[int, int, int], voxel_size: float | None = None) -> Float[Tensor, "z y half_x"]:
        """One over the amplitude on the samples of an rfftn; 0 at zero frequency, fading to 0 at Nyquist."""
        size = self.voxel_size_angstrom if voxel_size is None else voxel_size
        radius = frequency_grid(shape, size, device=self.amplitude.device) * (2.0 * self.voxel_size_angstrom)
        place = (radius * len(self.amplitude) - 0.5).clamp(0.0, len(self.amplitude) - 1.0)
        low = place.floor().long().clamp_max(max(0, len(self.amplitude) - 2))
        part = place - low
        log = self.amplitude.log()
        value = torch.exp(-(log[low] * (1.0 - part) + log[(low + 1).clamp_max(len(log) - 1)] * part))
        return torch.where(radius > 0, value * soft_edge(radius, 0.9, 1.0), torch.zeros(()).to(value))

    def whiten(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
        """The volume with an even spectrum, of variance about 1 where all is sampled."""
        shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        spectrum = torch.fft.rfftn(volume - volume.mean())
        out: Tensor = torch.fft.irfftn(spectrum.mul_(self.gain(shape)), s=shape)
        return out


def _corners(shape: tuple[int, ...], side: int, region: Tensor | None) -> list[tuple[int, ...]]:
    steps = [range(0, max(1, n - side + 1), max(1, side // 2)) for n in shape]
    every = [(z, y, x) for z in steps[0] for y in steps[1] for x in steps[2]]
    if region is not None:
        inside = [
            c for c in every if bool(region[tuple(min(v + side // 2, n - 1) for v, n in zip(c, shape, strict=True))])
        ]
        every = inside or every
    chosen: list[tuple[int, ...]] = list(every)
    return chosen[:: max(1, len(every) // _PATCHES)]
