r"""The primal-dual iteration: total variation and bounds in real space, agreement with the data in Fourier space.

.. math:: \min_u \mathrm{TV}(u) \quad \text{subject to} \quad l \le u \le h, \quad
          \sum_{k \in S} |t_k \hat u_k - \hat v_k|^2 \le \rho^2 \sum_{k \in S} \sigma_k^2 \quad \text{for each shell S}

by Chambolle & Pock (J. Math. Imaging Vis. 40:120, 2011, doi:10.1007/s10851-010-0251-1), algorithm 1. S are the measured samples
of a shell, t a transfer and sigma the noise, both of the frequency's length alone; so the nearest volume that agrees is found
exactly from sums over shells.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_GRADIENT_NORM = 12.0  # of forward differences along three axes, squared
_RATIO = 0.1  # of primal to dual steps; of 0.02 to 16, in units of the noise, this came nearest in 40 iterations
_SLAB = 16  # planes whose slopes are in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agreement:
    """The set of volumes that agree with the data."""

    data: Float[Tensor, "z y half_x"]
    """Complex, the transform of the data."""
    measured: Bool[Tensor, "z y half_x"]
    shell: Int[Tensor, "z y half_x"]
    """Shell of each sample; the last one holds what no shell does."""
    transfer: Float[Tensor, " shell"]
    noise: Float[Tensor, " shell"]
    """Squares of the noise, summed over measured samples of the whole transform, float64."""
    budget: Float[Tensor, " shell"]
    """The largest sum of squared differences, float64."""
    weights: Float[Tensor, " half_x"]
    """How many samples of the whole transform each column of the half one stands for."""

    def misfit(self, spectrum: Tensor) -> Float[Tensor, " shell"]:
        """Sums of squared differences of data and a volume's transform over measured samples of each shell, (shell,) float64."""
        total = torch.zeros(len(self.transfer), dtype=torch.float64, device=spectrum.device)
        for start in range(0, spectrum.shape[0], _SLAB):
            part = slice(start, start + _SLAB)
            index = self.shell[part]
            squares = torch.view_as_real(spectrum[part] * self.transfer[index] - self.data[part]).square().sum(-1)
            squares *= self.measured[part] * self.weights
            total.index_add_(0, index.reshape(-1), squares.reshape(-1).double())
        return total

    def nearest(self, spectrum: Tensor) -> float:
        """Change a transform, in place, to the nearest one that agrees; its root mean square distance from the data over the noise.

        With a multiplier m of each shell, :math:`u = (z + m t v) / (1 + m t^2)` leaves :math:`(t z - v) / (1 + m t^2)`.
        """
        squares = self.misfit(spectrum)
        shrink = (squares / self.budget.clamp(min=1e-300)).sqrt().clamp(min=1.0)
        shrink[self.transfer == 0] = 1.0  # nothing was told there
        gain = (1.0 - 1.0 / shrink).float()
        pull = gain / torch.where(self.transfer == 0, 1.0, self.transfer)
        for start in range(0, spectrum.shape[0], _SLAB):
            part = slice(start, start + _SLAB)
            index = self.shell[part]
            seen = self.measured[part]
            spectrum[part] += seen * (pull[index] * self.data[part] - gain[index] * spectrum[part])
        told = self.transfer != 0
        return math.sqrt(float((squares / shrink.square())[told].sum()) / max(float(self.noise[told].sum()), 1e-300))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state after an iteration."""

    level: int
    """Times that the voxels are as large as those of the volume."""
    iteration: int
    """Of this level, counted from 1."""
    of: int
    """Iterations at most."""
    total_variation: float
    """Mean length of the slope, in times the noise a voxel: what is made small."""
    residual: float
    """Root mean square distance from the measured data over the noise: at most `misfit`."""
    beyond: float
    """Root mean square distance beyond the bounds, in times the noise."""
    change: float
    """Root mean square change of the volume over its spread."""


OnProgress = Callable[[Progress], None]


def solve(
    start: Float[Tensor, "z y x"],
    agreement: Agreement,
    lowest: Float[Tensor, "..."],
    highest: Float[Tensor, "..."],
    *,
    iterations: int,
    least_change: float,
    level: int = 1,
    on_progress: OnProgress | None = None,
) -> tuple[Float[Tensor, "z y x"], list[Progress]]:
    """The volume and its record. `start` and the bounds, of one number or one a voxel, are in units of the noise.

    Returns
    -------
    a volume that agrees with the data exactly, and keeps the bounds as far as iterations went
    """
    shape = start.shape
    step_size = 0.99 / math.sqrt(_GRADIENT_NORM + 1.0)
    primal, dual = step_size * _RATIO, step_size / _RATIO
    volume = start.clone()
    ahead = start.clone()
    slopes = start.new_zeros(3, *shape)
    bound = torch.zeros_like(start)
    record: list[Progress] = []
    for iteration in range(1, iterations + 1):
        variation = _raise_slopes(slopes, ahead, dual)
        beyond = _raise_bound(bound, ahead, lowest, highest, dual)
        change = _transposed(slopes)
        change += bound
        spectrum = torch.fft.rfftn(torch.add(volume, change, alpha=-primal, out=change))
        residual = agreement.nearest(spectrum)
        new = torch.fft.irfftn(spectrum, s=shape)
        torch.sub(new, volume, out=volume)
        moved = float(volume.square().mean().sqrt()) / max(float(new.std()), 1e-12)
        torch.add(new, volume, out=ahead)
        volume = new
        step = Progress(
            level=level,
            iteration=iteration,
            of=iterations,
            total_variation=variation,
            residual=residual,
            beyond=beyond,
            change=moved,
        )
        record.append(step)
        if on_progress is not None:
            on_progress(step)
        if iteration > 5 and moved < least_change:
            break
    return volume, record


def _raise_slopes(slopes: Tensor, volume: Tensor, step: float) -> float:
    """The dual of total variation: along the slope, of a length of at most 1. Mean length of the slope."""
    total, depth = 0.0, volume.shape[0]
    for start in range(0, depth, _SLAB):
        stop = min(start + _SLAB, depth)
        part = slopes[:, start:stop]
        slab = volume[start:stop]
        slope = torch.zeros_like(part)
        last = min(stop, depth - 1)
        torch.sub(volume[start + 1 : last + 1], volume[start:last], out=slope[0, : last - start])
        torch.sub(slab[:, 1:], slab[:, :-1], out=slope[1, :, :-1])
        torch.sub(slab[:, :, 1:], slab[:, :, :-1], out=slope[2, :, :, :-1])
        total += float(_length(slope).sum())
        part.add_(slope, alpha=step)
        part /= _length(part).clamp_(min=1.0)
    return total / volume.numel()


def _length(vectors: Tensor) -> Tensor:
    out = vectors[0].square()
    for part in vectors[1:]:
        out.addcmul_(part, part)
    return out.sqrt_()


def _raise_bound(bound: Tensor, volume: Tensor, lowest: Tensor, highest: Tensor, step: float) -> float:
    """The dual of the bounds. Root mean square distance beyond them."""
    inside = torch.clamp(volume, lowest, highest)
    beyond = float((volume - inside).square().mean().sqrt())
    bound.add_(volume, alpha=step)
    inside = torch.clamp(torch.div(bound, step, out=inside), lowest, highest)
    bound.sub_(inside, alpha=step)
    return beyond


def _transposed(slopes: Tensor) -> Tensor:
    """The transpose of forward differences: minus the divergence."""
    out = torch.zeros_like(slopes[0])
    for axis in range(3):
        part = slopes[axis]
        count = part.shape[axis] - 1
        inner = part.narrow(axis, 0, count)
        out.narrow(axis, 1, count).add_(inner)
        out.narrow(axis, 0, count).sub_(inner)
    return out
