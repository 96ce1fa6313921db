"""One iteration: particles aligned to the map of their own half, and summed into the next one."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_results import FoundPoses
from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import AverageParams
from eucentric.averaging.particle_images import SeriesImages
from eucentric.averaging.results import AverageResult, HalfMapCorrelation
from eucentric.averaging.search_poses import search_poses
from eucentric.averaging.soft_mask import ball_mask
from eucentric.averaging.solve_average import spread_shells
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.crop import fourier_crop, fourier_pad
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid
from eucentric.typing import FloatArray

_BATCH = 16
_HELD = 0.95
"""Of the squared density that a particle's diameter encloses."""
_FALLBACK = 0.7  # of the box, a ball for a mask where none can be made


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesParticles:
    """Particles of one series."""

    rows: NDArray[np.int64]
    """Where in the whole list they are."""
    images: Callable[[], SeriesImages]
    """Made when it is their turn, and let go after."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aligned:
    """What an iteration found."""

    poses: FoundPoses
    """Of all particles, in order."""
    sums: tuple[FourierSums, FourierSums]
    tilts_used: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[Self], rows: Sequence[NDArray[np.int64]]) -> Self:
        """What was found of parts of the particles, together: sums add up.

        Parameters
        ----------
        rows : of each part, where its particles stand in the whole list
        """
        order = np.argsort(np.concatenate(rows))
        sums = parts[0].sums
        for part in parts[1:]:
            sums = (sums[0] + part.sums[0], sums[1] + part.sums[1])
        return cls(
            poses=FoundPoses.joined([part.poses for part in parts]).select(order),
            sums=sums,
            tilts_used=np.concatenate([part.tilts_used for part in parts])[order],
        )


def align_and_sum(
    series: Iterable[SeriesParticles],
    positions_angstrom: FloatArray,
    rotations: FloatArray,
    halves: NDArray[np.int64],
    references: tuple[AlignReference, AlignReference] | None,
    params: AlignParams,
    *,
    symmetry: str = "C1",
    expected: tuple[FloatArray, FloatArray] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Aligned:
    """Align each particle to the reference of its half and sum its images.

    Parameters
    ----------
    positions_angstrom, rotations : (particle, 3) and (particle, 3, 3), as known so far
    halves : (particle,), 1 or 2
    references : of half 1 and 2; None sums with the poses given
    expected : positions in A and rotations that priors are about; those known so far where None
    on_step : told the number of particles done since the last time

    Raises
    ------
    InputError : no particle lies in the field of its series
    """
    count = len(positions_angstrom)
    found: list[FoundPoses | None] = [None] * count
    tilts = np.zeros(count, dtype=np.int64)
    sums: tuple[FourierSums, FourierSums] | None = None
    for part in series:
        source = part.images()
        for half in (1, 2):
            rows = part.rows[halves[part.rows] == half]
            for start in range(0, len(rows), _BATCH):
                some = rows[start : start + _BATCH]
                batch = source.particles(positions_angstrom[some])
                if sums is None:
                    size, voxel, device = batch.box_size, batch.voxel_size_angstrom, batch.data.device
                    sums = (FourierSums.empty(size, voxel, device), FourierSums.empty(size, voxel, device))
                if references is None:
                    poses = _as_given(rotations[some])
                else:
                    about = None
                    if expected is not None:
                        about = (expected[1][some], expected[0][some] - positions_angstrom[some])
                    poses = search_poses(
                        batch,
                        references[half - 1],
                        params,
                        rotations=rotations[some],
                        symmetry=symmetry,
                        expected=about,
                    )
                sums[half - 1].add(batch.moved(poses.shifts_angstrom), poses.rotations)
                tilts[some] = np.bincount(batch.particle, minlength=len(some))
                for i, row in enumerate(some):
                    found[row] = poses.select(np.array([i]))
                if on_step is not None:
                    on_step(len(some))
    if sums is None or not tilts.any():
        raise InputError(
            "No particle lies in the field of its series. Check that the positions are A from the specimen centre, and that "
            "the list belongs to these series."
        )
    everything = [_as_given(rotations[i : i + 1]) if f is None else f for i, f in enumerate(found)]
    return Aligned(poses=FoundPoses.joined(everything), sums=sums, tilts_used=tilts)


def _as_given(rotations: FloatArray) -> FoundPoses:
    count = len(rotations)
    none = np.full(count, math.nan)
    return FoundPoses(
        rotations=rotations, shifts_angstrom=np.zeros((count, 3)), scores=none, sigma_deg=none, sigma_angstrom=none
    )


def average_of(aligned: Aligned, params: AverageParams, halves: NDArray[np.int64]) -> AverageResult:
    """The average of an iteration; inside a ball where nothing stands out that a mask could follow."""
    counted = np.where(aligned.tilts_used > 0, halves, 0)
    try:
        return average_halves(aligned.sums, params, halves=counted, tilts_used=aligned.tilts_used)
    except ProcessingError:
        n, voxel = aligned.sums[0].box_size, aligned.sums[0].voxel_size_angstrom
        mask = ball_mask(n, voxel, _FALLBACK * n * voxel, 4.0 * voxel).to(aligned.sums[0].data.real)
        return average_halves(aligned.sums, params, halves=counted, tilts_used=aligned.tilts_used, mask=mask)


def filtered_half(
    half: Float[Tensor, "n n n"],
    mask: Float[Tensor, "n n n"],
    correlation: HalfMapCorrelation,
    low_pass_angstrom: float,
) -> Float[Tensor, "n n n"]:
    """A half map made ready to be aligned to: filtered by how far it agrees with the other, cut off, masked.

    The Wiener filter of a map of signal over noise C / (1 - C) is C, the correlation of two maps as good.
    """
    n = half.shape[0]
    curve = np.clip(correlation.corrected, 0.0, 1.0)
    curve[correlation.frequency > 1.0 / low_pass_angstrom] = 0.0
    curve[0] = curve[1]
    kept = spread_shells(torch.from_numpy(curve).to(half), n)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(half) * kept, s=(n, n, n)) * mask
    return out


def joined_halves(
    half1: Float[Tensor, "n n n"], half2: Float[Tensor, "n n n"], voxel_size: float, coarser_angstrom: float
) -> tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]]:
    """Both halves with the mean of them in detail coarser than a length, so that they keep the same frame.

    Aligned apart, the maps of a particle without symmetry drift apart by turns and moves that no image tells.
    """
    shape = tuple(half1.shape)
    grid = frequency_grid(shape, voxel_size, device=half1.device)
    apart = torch.fft.rfftn(half1 - half2) * band_pass(grid, low_pass_angstrom=coarser_angstrom)
    change: Tensor = 0.5 * torch.fft.irfftn(apart, s=shape)
    return half1 - change, half2 + change


def compared_detail(correlation: HalfMapCorrelation) -> float:
    """A; detail in which halves agree, and four shells at least, where they do not."""
    finest, coarsest = (
        1.0 / correlation.frequency[-1],
        1.0 / correlation.frequency[min(4, len(correlation.frequency) - 1)],
    )
    return float(np.clip(correlation.resolution_angstrom, finest, coarsest))


def diameter_of(volume: Float[Tensor, "n n n"], voxel_size: float) -> float:
    """A, of the ball about the middle that holds nearly all of a masked map's power."""
    n = volume.shape[0]
    line = (torch.arange(n, device=volume.device, dtype=volume.dtype) - n // 2) * voxel_size
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).reshape(-1)
    order = radius.argsort()
    held = volume.reshape(-1)[order].double().square().cumsum(0)
    place = int((held < _HELD * held[-1]).sum())
    return 2.0 * float(radius[order][min(place, len(order) - 1)])


def on_voxels(
    volume: Float[Tensor, "n n n"], voxel: float, target_voxel: float, target_size: int
) -> Float[Tensor, "m m m"]:
    """A map on other voxels, in a box of another size; voxel ``n // 2`` stays the centre."""
    n = volume.shape[0]
    if abs(voxel / target_voxel - 1.0) < 1e-4:
        return _boxed(volume, target_size)
    # the edge whose whole numbers of voxels agree best, in steps of the old voxel
    ratio = voxel / target_voxel
    sizes = np.arange(n + n % 2, 2 * n + 2, 2)
    new = 2 * np.rint(0.5 * sizes * ratio)
    error = np.abs(new / (sizes * ratio) - 1.0)
    chosen = int(np.flatnonzero(error <= max(float(error.min()), 1e-4))[0])
    padded, wanted = _boxed(volume, int(sizes[chosen])), (int(new[chosen]),) * 3
    resampled = fourier_crop(padded, wanted) if wanted[0] <= len(padded) else fourier_pad(padded, wanted)
    return _boxed(resampled, target_size)


def _boxed(volume: Tensor, size: int) -> Tensor:
    """Cut out of the middle, or set amid zeros."""
    n = volume.shape[0]
    out = volume.new_zeros((size,) * 3)
    low, start = max(0, size // 2 - n // 2), max(0, n // 2 - size // 2)
    span = min(n - start, size - low)
    out[(slice(low, low + span),) * 3] = volume[(slice(start, start + span),) * 3]
    return out
