"""Agreement of half maps by direction, and over what was measured only; how evenly directions were measured."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.correlate_maps import HALF_MAPS, crossing_angstrom
from eucentric.averaging.map_params import DirectionParams
from eucentric.averaging.solve_average import shell_means, spread_shells
from eucentric.errors import ShapeError
from eucentric.fourier.grid import frequency_vectors
from eucentric.fourier.shells import shell_index
from eucentric.typing import FloatArray

_LEAST_SAMPLES = 20.0
"""Samples of the half transform that a shell of a cone must hold for its correlation to tell anything."""
_UNMEASURED = 0.01
"""Weights below that part of the shell's mean are taken for nothing measured."""
_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DirectionalCorrelation:
    """Correlation of two half maps in cones."""

    directions: FloatArray
    """(direction, 3) unit vectors x, y, z, z >= 0."""
    frequency: FloatArray
    """(shell,), 1/A."""
    correlation: FloatArray
    """(direction, shell); NaN where a cone holds too few samples."""
    resolution_angstrom: FloatArray
    """(direction,), at 0.143."""
    cone_deg: float

    @property
    def best_angstrom(self) -> float:
        """The 5th percentile of all directions."""
        return _percentile(self.resolution_angstrom, 5.0)

    @property
    def worst_angstrom(self) -> float:
        """The 95th percentile."""
        return _percentile(self.resolution_angstrom, 95.0)

    @property
    def anisotropy(self) -> float:
        """Worst over best; 1 for a map that is as fine along all directions."""
        return self.worst_angstrom / self.best_angstrom


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampling:
    """How evenly Fourier space was measured, up to a resolution."""

    directions: FloatArray
    """(direction, 3) unit vectors, z >= 0."""
    density: FloatArray
    """(direction,), what was measured along each over the mean of all."""
    unmeasured: float
    """Part of the samples that hold next to nothing."""
    efficiency: float
    """Mean signal over noise, by harmonic means, over that of even sampling with as many images [1]_, times the part measured.

    .. [1] Baldwin & Lyumkis, Prog. Biophys. Mol. Biol. 150:160 (2020), doi:10.1016/j.pbiomolbio.2019.09.002
    """


def half_sphere(count: int) -> FloatArray:
    """(count, 3) unit vectors with z >= 0, spread evenly by a Fibonacci spiral."""
    step = np.arange(count) + 0.5
    z, turn = 1.0 - step / count, step * math.pi * (3.0 - math.sqrt(5.0))
    flat = np.sqrt(1.0 - z**2)
    out: FloatArray = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    return out


def correlate_directions(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    voxel_size: float,
    params: DirectionParams,
    *,
    mask: Float[Tensor, "n n n"] | None = None,
    weights: Float[Tensor, "n n half_n"] | None = None,
    threshold: float = HALF_MAPS,
) -> DirectionalCorrelation:
    """Correlation in cones about many directions, each with its mirror [1]_; cones have soft edges.

    Parameters
    ----------
    half1, half2 : unfiltered
    voxel_size : A
    mask : 0 to 1, soft
    weights : what was measured of each sample, so that those that hold noise alone do not count; all alike where None

    Raises
    ------
    ShapeError : maps, mask and weights of different sizes

    References
    ----------
    .. [1] Diebolder et al., J. Struct. Biol. 191:79 (2015); Tan et al., Nat. Methods 14:793 (2017), doi:10.1038/nmeth.4347
    """
    n = half1.shape[0]
    cross, power1, power2 = _products(half1, half2, mask, weights)
    index = shell_index((n, n, n), n // 2, device=half1.device).reshape(-1)
    unit = _unit_vectors(n, half1)
    counts = _standing_for(n, half1)
    directions = half_sphere(params.directions)
    edge = math.cos(math.radians(params.cone_deg))
    rows = []
    for start in range(0, len(directions), _AT_ONCE):
        axes = torch.from_numpy(directions[start : start + _AT_ONCE]).to(unit)
        # falls as a cosine from the axis to the cone's edge
        along = (unit @ axes.T).abs().clamp(max=1.0)
        taper = 0.5 * (1.0 + torch.cos(math.pi * torch.acos(along) / math.radians(params.cone_deg)))
        taper = torch.where(along > edge, taper, torch.zeros_like(taper)) * counts[:, None]
        sums = [_smoothed(_by_shell(taper * q[:, None], index, n // 2)) for q in (cross, power1, power2)]
        held = _smoothed(_by_shell(taper, index, n // 2))
        value = sums[0] / torch.sqrt(sums[1] * sums[2]).clamp_min(torch.finfo(torch.float64).tiny)
        value[(held < _LEAST_SAMPLES) | (sums[1] * sums[2] <= 0)] = math.nan
        rows.append(value.T.cpu().numpy())
    correlation = np.concatenate(rows)
    frequency: FloatArray = (np.arange(n // 2, dtype=np.float64) + 0.5) / (n * voxel_size)
    found = np.array([_crossing(frequency, row, threshold) for row in correlation])
    return DirectionalCorrelation(
        directions=directions,
        frequency=frequency,
        correlation=correlation,
        resolution_angstrom=found,
        cone_deg=params.cone_deg,
    )


def correlate_measured(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    weights: Float[Tensor, "n n half_n"],
    *,
    mask: Float[Tensor, "n n n"] | None = None,
) -> FloatArray:
    """Fourier shell correlation (shell,) in which every sample counts as much as was measured of it, the mean at most.

    Samples of which little was measured hold much noise and set the plain correlation; unmeasured ones, leaked into by a
    mask, repeat their neighbours.

    Raises
    ------
    ShapeError : maps, mask and weights of different sizes
    """
    n = half1.shape[0]
    cross, power1, power2 = _products(half1, half2, mask, weights)
    index = shell_index((n, n, n), n // 2, device=half1.device).reshape(-1)
    counts = _standing_for(n, half1)
    a, b, c = (_by_shell((q * counts)[:, None], index, n // 2)[:, 0] for q in (cross, power1, power2))
    out: FloatArray = (a / torch.sqrt(b * c).clamp_min(torch.finfo(torch.float64).tiny)).cpu().numpy()
    return out


def measure_sampling(
    weights: Float[Tensor, "n n half_n"], voxel_size: float, limit_angstrom: float, params: DirectionParams
) -> Sampling:
    """How evenly directions and samples were measured in detail coarser than a limit.

    Parameters
    ----------
    weights : squared transfer over noise, summed
    limit_angstrom : A; all detail where it is infinite

    Raises
    ------
    ShapeError : weights that are not those of a cube
    """
    n = weights.shape[0]
    _check_weights(weights, n)
    share = _share(weights)
    index = shell_index((n, n, n), n // 2, device=weights.device)
    last = (
        n // 2 if not math.isfinite(limit_angstrom) else min(n // 2, max(4, int(n * voxel_size / limit_angstrom) + 1))
    )
    used = ((index >= 2) & (index < last)).reshape(-1)
    value, counts = share.reshape(-1)[used].double(), _standing_for(n, weights)[used].double()
    unit = _unit_vectors(n, weights)[used]
    measured = value > _UNMEASURED
    directions = half_sphere(params.directions)
    edge = math.cos(math.radians(params.cone_deg))
    density = []
    for start in range(0, len(directions), _AT_ONCE):
        axes = torch.from_numpy(directions[start : start + _AT_ONCE]).to(unit)
        near = ((unit @ axes.T).abs() > edge).double() * counts[:, None]
        density.append(((near * value[:, None]).sum(0) / near.sum(0).clamp_min(1e-12)).cpu().numpy())
    return Sampling(
        directions=directions,
        density=np.concatenate(density),
        unmeasured=float(counts[~measured].sum() / counts.sum()),
        efficiency=_efficiency(value, counts, measured),
    )


def _efficiency(value: Tensor, counts: Tensor, measured: Tensor) -> float:
    if not bool(measured.any()):
        return 0.0
    held, part = value[measured], counts[measured] / counts[measured].sum()
    harmonic = 1.0 / (part / held).sum()
    return float(harmonic / (part * held).sum() * counts[measured].sum() / counts.sum())


def _crossing(frequency: FloatArray, curve: FloatArray, threshold: float) -> float:
    """Where a curve falls below a threshold; shells that tell nothing are taken to agree, but not those at the end."""
    known = np.flatnonzero(np.isfinite(curve))
    if not len(known):
        return math.inf
    whole = np.where(np.isfinite(curve), curve, 1.0)
    whole[: known[0]] = 1.0
    return crossing_angstrom(frequency, whole, threshold)


def _products(
    half1: Tensor, half2: Tensor, mask: Tensor | None, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross product and powers of both halves at every sample of the half transform, weighted; flat, float64."""
    n = half1.shape[0]
    if not half1.shape == half2.shape == (n, n, n) or (mask is not None and mask.shape != half1.shape):
        raise ShapeError(
            f"Half maps of {tuple(half1.shape)} and {tuple(half2.shape)} voxels and their mask do not have the same size."
        )
    share = None
    if weights is not None:
        _check_weights(weights, n)
        share = _share(weights).clamp(max=1.0)
    held = 1.0 if mask is None else mask
    fa, fb = torch.fft.rfftn(half1 * held), torch.fft.rfftn(half2 * held)
    parts = [(fa * fb.conj()).real, fa.abs() ** 2, fb.abs() ** 2]
    a, b, c = ((p if share is None else p * share).reshape(-1).double() for p in parts)
    return a, b, c


def _share(weights: Tensor) -> Tensor:
    """Weights over the mean of their shell; zero beyond Nyquist."""
    mean = spread_shells(shell_means(weights), weights.shape[0])
    return torch.where(mean > 0, weights / mean.clamp_min(torch.finfo(mean.dtype).tiny), torch.zeros_like(weights))


def _check_weights(weights: Tensor, n: int) -> None:
    if weights.shape != (n, n, n // 2 + 1):
        raise ShapeError(f"The weights have {tuple(weights.shape)} samples; expected {(n, n, n // 2 + 1)}.")


def _unit_vectors(n: int, like: Tensor) -> Float[Tensor, "sample 3"]:
    kz, ky, kx = frequency_vectors((n, n, n), 1.0, device=like.device)
    shape = (n, n, n // 2 + 1)
    vectors = torch.stack([k.expand(shape).reshape(-1) for k in (kx, ky, kz)], dim=1)
    out: Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return out


def _standing_for(n: int, like: Tensor) -> Float[Tensor, " sample"]:
    """How many samples of the half space each stands for: those on the plane x = 0 have their mirror there too."""
    counts = torch.ones((n, n, n // 2 + 1), dtype=torch.float32, device=like.device)
    counts[..., 0] = 0.5
    if n % 2 == 0:
        counts[..., -1] = 0.5
    return counts.reshape(-1)


def _by_shell(values: Float[Tensor, "sample column"], index: Tensor, count: int) -> Float[Tensor, "shell column"]:
    out = torch.zeros((count + 1, values.shape[1]), dtype=torch.float64, device=values.device)
    out.index_add_(0, index, values.double())
    return out[:count]


def _smoothed(sums: Float[Tensor, "shell column"]) -> Float[Tensor, "shell column"]:
    """Each shell with half of its neighbours: shells of cones hold few samples."""
    padded = torch.cat([sums[:1], sums, sums[-1:]])
    return padded[1:-1] + 0.5 * (padded[:-2] + padded[2:])


def _percentile(values: FloatArray, part: float) -> float:
    """Of values among which some may be infinite."""
    ordered = np.sort(values)
    return float(ordered[min(round(part / 100.0 * (len(ordered) - 1)), len(ordered) - 1)])
