"""The transform of a particle in any orientation, on the samples of a cube: read, scored against data, and its slopes.

A copy turned by R holds at k what the particle holds at R^-1 k. Every function here has a compiled loop for the CPU and plain
tensors for other devices.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eucentric.fourier.grid import frequency_vectors
from eucentric.projection import turned_kernels
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CubeSamples:
    """The samples of a cube's rfftn below a frequency, line by line along x."""

    side: int
    """Voxels along each axis of the cube."""
    inside: Int[Tensor, " points"]
    """Their place in the flat rfftn."""
    frequencies: Float[Tensor, "points 3"]
    """x, y, z in cycles a voxel."""
    lines: NDArray[np.int64]
    """(line, 4): first point of a line, points in it, its row and its plane."""

    @classmethod
    def below(cls, highest: float, side: int, like: Tensor) -> Self:
        """All up to a frequency in cycles a voxel, at most 0.5; device and precision of `like`."""
        z, y, x = frequency_vectors((side,) * 3, 1.0, device=like.device)
        radius = (z**2 + y**2 + x**2).sqrt()
        inside = (radius <= min(highest, 0.5)).reshape(-1).nonzero().reshape(-1)
        grid = torch.stack([v.expand(radius.shape).reshape(-1)[inside] for v in (x, y, z)], dim=1)
        rows, first, count = np.unique(inside.cpu().numpy() // (side // 2 + 1), return_index=True, return_counts=True)
        lines = np.stack([first, count, rows % side, rows // side], axis=1).astype(np.int64)
        return cls(side=side, inside=inside, frequencies=grid.to(like.dtype), lines=lines)

    @property
    def shares(self) -> Float[Tensor, " points"]:
        """How many samples of the whole transform each one stands for."""
        x = self.inside % (self.side // 2 + 1)
        one = (x == 0) | (x == self.side // 2)
        return torch.where(one, 1.0, 2.0).to(self.frequencies)

    def phases(self, moves: Float[Tensor, "move 3"]) -> Float[Tensor, "3 move sample 2"]:
        """exp(2 pi i k t) along each axis for moves in voxels."""
        line = torch.fft.fftfreq(self.side, device=moves.device, dtype=torch.float64).repeat(3, 1)
        line[0, self.side // 2] = 0.5  # of an rfft along x
        turn = 2.0 * math.pi * moves.T[:, :, None].double() * line[:, None]
        return torch.stack([turn.cos(), turn.sin()], dim=-1).to(self.frequencies).contiguous()


def read_turned(
    transform: Complex[Tensor, "z y x"], samples: CubeSamples, rotations: FloatArray
) -> Complex[Tensor, "rotation points"]:
    """Transform of turned copies at the samples, by linear interpolation.

    Parameters
    ----------
    transform : of a padded cube, zero frequency at its middle ``size // 2``
    rotations : (n, 3, 3), reference to specimen
    """
    places, turn = _places(transform, samples), _matrices(rotations, samples)
    if _fast(transform):
        out = transform.new_empty((len(rotations), len(places)))
        turned_kernels.read_turned(*_arrays(transform, places, turn), torch.view_as_real(out).numpy())
        return out
    base, fraction = _cells(transform, places, turn)
    return sum_of_corners(transform, base, fraction)


def score_turned(
    transform: Complex[Tensor, "z y x"],
    samples: CubeSamples,
    rotations: FloatArray,
    data: Complex[Tensor, " points"],
    power: Float[Tensor, " points"],
    moves: Float[Tensor, "move 3"],
) -> Float[Tensor, "rotation z y x"]:
    """Scores of copies at all places of a small grid: Re sum d conj(T) exp(2 pi i k t) over the root of sum p |T|^2.

    Parameters
    ----------
    data : transform of the data times what the copies are weighted with
    power : the square of that weight
    moves : (move, 3), x, y, z in voxels: the values that each coordinate of the place takes
    """
    places, turn, phases = _places(transform, samples), _matrices(rotations, samples), samples.phases(moves)
    count = len(moves)
    if _fast(transform):
        out = power.new_empty((len(rotations), count, count, count))
        values = (torch.view_as_real(data.contiguous()).numpy(), power.numpy(), phases.numpy(), out.numpy())
        grid, points, matrices = _arrays(transform, places, turn)
        turned_kernels.score_turned(grid, points, samples.lines, matrices, *values)
        return out
    copies = read_turned(transform, samples, rotations)
    norms = (copies.abs().square() @ power).sqrt().clamp_min(1e-15)
    side, half = samples.side, samples.side // 2 + 1
    cubes = copies.new_zeros((len(copies), side * side * half))
    cubes[:, samples.inside] = data * copies.conj()
    x, y, z = torch.view_as_complex(phases)
    cubes = cubes.reshape(-1, side, side, half)
    found = torch.einsum("nzyx,ax->nzya", cubes, x[:, :half])
    found = torch.einsum("nzya,by->nzba", found, y)
    return torch.einsum("nzba,cz->ncba", found, z).real / norms[:, None, None, None]


def slope_sums(
    transform: Complex[Tensor, "z y x"],
    samples: CubeSamples,
    rotation: FloatArray,
    data: Complex[Tensor, " points"],
    power: Float[Tensor, " points"],
) -> FloatArray:
    """(8, 8) sums over the samples of products of T, its slopes and the data, all that a step uphill needs.

    Row 0 is T; 1 to 3 its slopes by turns of the copy about x, y and z in radians; 4 to 6 those by moves in voxels over 2 pi;
    7 the data, moved to where the copy is. Among T and its slopes a product is Re(a conj(b)) times `power`.

    Parameters
    ----------
    rotation : (3, 3), reference to specimen
    data, power : as for :func:`score_turned`
    """
    places, turn = _places(transform, samples), _matrices(rotation[None], samples)
    if _fast(transform):
        out = np.empty((8, 8))
        grid, points, matrices = _arrays(transform, places, turn)
        values = (torch.view_as_real(data.contiguous()).numpy(), power.numpy(), out)
        turned_kernels.slope_sums(grid, points, matrices[0], *values)
        return _in_voxels(out, transform.shape[0])
    base, fraction = _cells(transform, places, turn)
    value = sum_of_corners(transform, base, fraction)[0]
    own = torch.stack([sum_of_corners(transform, base, fraction, axis)[0] for axis in range(3)], dim=1)
    slope = own @ turn[0].T.to(own.dtype)
    turned = torch.linalg.cross(slope, places.to(slope.dtype))
    moved = -1j * places * value[:, None]
    every = torch.cat([value[:, None], turned, moved], dim=1)
    sums = np.zeros((8, 8))
    sums[:7, :7] = (every.mH @ (power[:, None] * every)).real.double().cpu().numpy()
    sums[:7, 7] = sums[7, :7] = (every.mH @ data).real.double().cpu().numpy()
    return _in_voxels(sums, transform.shape[0])


def sum_of_corners(
    transform: Complex[Tensor, "z y x"],
    base: Int[Tensor, "n points 3"],
    fraction: Float[Tensor, "n points 3"],
    axis: int | None = None,
) -> Complex[Tensor, "n points"]:
    """Linear interpolation between the eight samples about each point, or its slope along x, y or z."""
    size, flat = transform.shape[0], transform.reshape(-1)
    start = (base[..., 2] * size + base[..., 1]) * size + base[..., 0]
    weights = []
    for number, part in enumerate(fraction.unbind(-1)):
        one = torch.ones_like(part)
        weights.append((-one, one) if number == axis else (one - part, part))
    total = torch.zeros(start.shape, dtype=transform.dtype, device=start.device)
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                weight = weights[2][dz] * weights[1][dy] * weights[0][dx]
                total += flat[start + ((dz * size + dy) * size + dx)] * weight
    return total


def _cells(transform: Tensor, places: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    size = transform.shape[0]
    at = torch.einsum("pi,nij->npj", places, turn) + size // 2
    base = at.floor().long().clamp_(0, size - 2)
    return base, at - base


def _places(transform: Tensor, samples: CubeSamples) -> Float[Tensor, "points 3"]:
    return samples.frequencies * transform.shape[0]


def _matrices(rotations: FloatArray, samples: CubeSamples) -> Float[Tensor, "n 3 3"]:
    return torch.from_numpy(np.ascontiguousarray(rotations)).to(samples.frequencies)


def _in_voxels(sums: FloatArray, size: int) -> FloatArray:
    """Slopes by moves, whose k is in samples of the padded cube, with k in cycles a voxel."""
    scale = np.ones(8)
    scale[4:7] = 1.0 / size
    return np.asarray(sums * scale[:, None] * scale)


def _fast(transform: Tensor) -> bool:
    return transform.device.type == "cpu" and transform.dtype == torch.complex64


def _arrays(transform: Tensor, places: Tensor, turn: Tensor) -> tuple[Any, Any, Any]:
    size = transform.shape[0]
    grid = torch.view_as_real(transform.contiguous()).numpy().reshape(size, size, 2 * size)
    return grid, places.contiguous().numpy(), turn.contiguous().numpy()
