r"""What is known of one particle, as lists of samples in its specimen's frame, in two forms.

The log-likelihood of a copy U of the reference, turned and moved, is :math:`\sum \mathrm{Re}\, d \bar U - \frac12 \sum w |U|^2` over
the samples of all its images. In the form *images* the samples are those of the images' own central slices. In the form
*volume* all slices are first put into one cube, which has few samples at low frequencies; the sum over d stays exact, and w is
smoothed by less than one over the box's edge.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.averaging.particle_images import ParticleImages
from eucentric.compute.sizes import good_size
from eucentric.fourier.filters import soft_edge
from eucentric.projection.slices import grid_to_volume, insert_slices
from eucentric.projection.turned import CubeSamples

_LEAST_SIDE = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleSamples:
    """Data and weights of one particle at some samples; frequencies in cycles a voxel of the box."""

    samples: CubeSamples
    data: Complex[Tensor, " points"]
    power: Float[Tensor, " points"]


def image_samples(batch: ParticleImages, number: int, highest: float) -> ParticleSamples:
    """The form *images* of one particle of a batch, up to a frequency in cycles a voxel."""
    n = batch.box_size
    first, last = np.searchsorted(batch.particle, [number, number + 1])
    fy, fx, flat, share = _half_plane(n, min(highest, 0.5 - 1e-6), batch.weight)
    plane = torch.stack([fx, fy])
    matrices = torch.from_numpy(batch.matrices[first:last, :2]).to(plane)
    at = torch.einsum("iac,ap->ipc", matrices, plane).reshape(-1, 3)
    data = batch.data[first:last].reshape(last - first, -1)[:, flat] * share
    power = batch.weight[first:last].reshape(last - first, -1)[:, flat] * share
    none = np.zeros((0, 4), dtype=np.int64)
    samples = CubeSamples(side=n, inside=flat.repeat(last - first), frequencies=at.contiguous(), lines=none)
    return ParticleSamples(samples=samples, data=data.reshape(-1).contiguous(), power=power.reshape(-1).contiguous())


class VolumeSamples:
    """The form *volume* up to a frequency, for particles of one batch after another."""

    def __init__(self, box_size: int, highest: float, like: Tensor) -> None:
        """
        Parameters
        ----------
        highest : cycles a voxel
        like : real, of the batch's device and precision
        """
        wanted = max(_LEAST_SIDE, int(np.ceil(2.0 * highest * box_size)) + 2)
        self.side = min(good_size(wanted + wanted % 2), box_size)
        self.side -= self.side % 2
        self.box_size = box_size
        self.voxels = box_size / self.side
        """Voxels of the box in one of the cube."""
        coarse = CubeSamples.below(min(highest * self.voxels, 0.5 - 1.0 / self.side), self.side, like)
        self.samples = replace(coarse, frequencies=coarse.frequencies / self.voxels)
        self._coarse = coarse
        line = torch.arange(self.side, device=like.device, dtype=like.dtype) - self.side // 2
        radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
        self._ball = soft_edge(radius, 0.5 * self.side - 2.0, 0.5 * self.side)

    def of(self, batch: ParticleImages, number: int) -> ParticleSamples:
        """One particle of a batch."""
        first, last = np.searchsorted(batch.particle, [number, number + 1])
        grid = (good_size(2 * self.side),) * 3
        out = []
        for spectra in (batch.data[first:last], batch.weight[first:last].to(batch.data.dtype)):
            cropped = cropped_spectra(spectra, self.side)
            volume = grid_to_volume(insert_slices(cropped, batch.matrices[first:last], grid), (self.side,) * 3)
            spectrum = torch.fft.rfftn(torch.fft.ifftshift(volume * self._ball)).reshape(-1)
            out.append(spectrum[self.samples.inside] * (self.samples.shares / self.side**3))
        return ParticleSamples(samples=self.samples, data=out[0], power=out[1].real.clamp_min(0.0).contiguous())

    def scaled_moves(self, moves_voxels: Tensor) -> Tensor:
        """Moves in voxels of the box, in those of the cube."""
        return moves_voxels.to(self.samples.frequencies) / self.voxels


def _half_plane(n: int, highest: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frequencies y and x of the samples below a frequency, their places in the flat half plane, and what each stands for."""
    fy = torch.fft.fftfreq(n, device=like.device, dtype=like.dtype)[:, None].expand(n, n // 2 + 1)
    fx = torch.fft.rfftfreq(n, device=like.device, dtype=like.dtype).expand(n, n // 2 + 1)
    flat = (fy**2 + fx**2 < highest**2).reshape(-1).nonzero().reshape(-1)
    share = torch.where(flat % (n // 2 + 1) == 0, 1.0, 2.0).to(like)
    return fy.reshape(-1)[flat], fx.reshape(-1)[flat], flat, share


def cropped_spectra(spectra: Tensor, side: int) -> Tensor:
    """The samples of lowest frequency of (..., n, n // 2 + 1)."""
    n, half = spectra.shape[-2], side // 2
    if n == side:
        return spectra
    rows = torch.cat([spectra[..., :half, :], spectra[..., n - half :, :]], dim=-2)
    return rows[..., : half + 1].contiguous()
