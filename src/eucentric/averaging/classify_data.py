r"""What each particle says beyond the average of all: one cube of data and one of weights in the particle's own frame.

With images :math:`y = T P (V_0 + \Delta) + n` and the average of all :math:`V_0`, data :math:`d = \sum_t P^T T (y - T P V_0) / N` and
weights :math:`w = \sum_t P^T T^2 / N` are inserted in the
frame of the reference. :math:`V_0` is taken off each image, so that what a wedge hides of the average is never mistaken for a
difference. The log-likelihood of a difference, against none, is

.. math:: L(\Delta) = \sum_k \mathrm{Re}\, \bar d_k \Delta_k - \tfrac12 \sum_k w_k |\Delta_k|^2 .

The first sum is exact; w is smoothed by less than one over the box.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.fourier.crop import fourier_crop
from eucentric.projection.cpu import run_items
from eucentric.projection.slices import extract_slices, volume_to_grid
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CubeGrid:
    """Samples of the transform of a box below a frequency, and the cube that holds no more than these."""

    side: int
    box_size: int
    voxel_size_angstrom: float
    inside: Int[Tensor, " points"]
    """Place in the flat rfftn of the cube."""
    shares: Float[Tensor, " points"]
    """How many samples of the whole transform each stands for."""
    shell: Int[Tensor, " points"]
    """Distance from zero frequency in steps of one over the box's edge."""

    @classmethod
    def of(cls, volumes: VolumeSamples, voxel_size_angstrom: float) -> "CubeGrid":
        samples = volumes.samples
        shell = (samples.frequencies.norm(dim=1) * volumes.box_size).round().long()
        return cls(
            side=volumes.side,
            box_size=volumes.box_size,
            voxel_size_angstrom=voxel_size_angstrom,
            inside=samples.inside,
            shares=samples.shares,
            shell=shell,
        )

    @property
    def shells(self) -> int:
        return int(self.shell.max()) + 1

    @property
    def angstrom(self) -> Float[Tensor, " shell"]:
        """Detail of each shell; infinite for the first."""
        edge = self.box_size * self.voxel_size_angstrom
        return edge / torch.arange(self.shells, dtype=torch.float32)

    def shell_sums(self, values: Float[Tensor, " points"]) -> Float[Tensor, " shell"]:
        out = torch.zeros(self.shells, dtype=torch.float64, device=values.device)
        return out.index_add_(0, self.shell, values.double())

    def maps(self, spectra: Complex[Tensor, "map points"]) -> Float[Tensor, "map z y x"]:
        """Maps on the voxels of the cube, the particle's centre in the middle."""
        side = self.side
        flat = spectra.new_zeros((len(spectra), side * side * (side // 2 + 1)))
        flat[:, self.inside] = spectra
        cubes = torch.fft.irfftn(flat.reshape(-1, side, side, side // 2 + 1), s=(side,) * 3)
        out: Tensor = torch.fft.fftshift(cubes, dim=(1, 2, 3)) * (side / self.box_size) ** 3
        return out

    def spectra(self, maps: Float[Tensor, "map z y x"]) -> Complex[Tensor, "map points"]:
        """The samples of maps on the voxels of the cube."""
        transform = torch.fft.rfftn(torch.fft.ifftshift(maps, dim=(1, 2, 3)), dim=(1, 2, 3))
        out: Tensor = transform.reshape(len(maps), -1)[:, self.inside] * (self.box_size / self.side) ** 3
        return out

    def on_cube(self, volume: Float[Tensor, "n n n"]) -> Float[Tensor, "z y x"]:
        """A map or mask of the box on the voxels of the cube."""
        return volume if volume.shape[0] == self.side else fourier_crop(volume, (self.side,) * 3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Differences:
    """Data and weights of all particles, each sample counted as often as it stands for."""

    grid: CubeGrid
    data: Complex[Tensor, "particle points"]
    power: Float[Tensor, "particle points"]

    def __len__(self) -> int:
        return len(self.data)

    def below(self, low_pass_angstrom: float) -> "Differences":
        """Without finer detail; four shells are left at least."""
        edge = self.grid.box_size * self.grid.voxel_size_angstrom
        keep = self.grid.shell <= max(4.0, edge / max(low_pass_angstrom, 1e-6))
        grid = replace(
            self.grid,
            inside=self.grid.inside[keep],
            shares=self.grid.shares[keep],
            shell=self.grid.shell[keep],
        )
        return Differences(grid=grid, data=self.data[:, keep].contiguous(), power=self.power[:, keep].contiguous())


def particle_differences(
    batch: ParticleImages,
    rotations: FloatArray,
    volumes: VolumeSamples,
    average: Float[Tensor, "n n n"] | None,
    symmetry: FloatArray,
) -> tuple[Complex[Tensor, "particle points"], Float[Tensor, "particle points"]]:
    """Data and weights of the particles of a batch.

    Parameters
    ----------
    rotations : (particle, 3, 3)
    volumes : the samples that are wanted
    average : of all particles, in contrast per A, taken off every image; None takes nothing off
    symmetry : (element, 3, 3) of the particle's group: what a symmetric difference is compared with, is the mean over it

    Returns
    -------
    Zero for a particle that no image shows.
    """
    n, voxel = batch.box_size, batch.voxel_size_angstrom
    data = batch.data
    if average is not None:
        grid = volume_to_grid(average, (2 * n,) * 3)
        data = data - batch.weight * (extract_slices(grid, batch.slice_matrices(rotations), n) * voxel)
    points = len(volumes.samples.inside)
    out = data.new_zeros((batch.count, points))
    weight = batch.weight.new_zeros((batch.count, points))
    turned = [replace(batch, data=data, matrices=batch.slice_matrices(rotations @ g)) for g in symmetry]

    def work(number: int) -> None:
        for one in turned:
            found = volumes.of(one, number)
            out[number] += found.data * (voxel / len(turned))
            weight[number] += found.power * (voxel**2 / len(turned))

    numbers = sorted({int(i) for i in batch.particle})
    if data.device.type == "cpu":
        run_items(len(numbers), lambda i: work(numbers[i]))
    else:
        for number in numbers:
            work(number)
    return out, weight


def joined_differences(
    grid: CubeGrid, parts: list[tuple[Tensor, Tensor]], order: Int[Tensor, " particle"]
) -> Differences:
    """Batches put together.

    Parameters
    ----------
    order : row of the list for each particle of the batches, one after another

    Raises
    ------
    InputError : no particle
    """
    if not parts:
        raise InputError("No particle is seen in its series. Check that the list belongs to these series.")
    data, power = torch.cat([d for d, _ in parts]), torch.cat([p for _, p in parts])
    back = torch.argsort(order)
    return Differences(grid=grid, data=data[back], power=power[back])
