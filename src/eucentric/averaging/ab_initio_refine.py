"""From a start map to an initial model: the halves of the particles aligned apart, each to its own map.

Beyond the detail of the start map each half chooses its own frame, and all the more so where the start map looks round: after
each round half 2 is turned onto half 1. These six numbers are all that the halves share of finer detail.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.ab_initio import StartModel, particle_ball
from eucentric.averaging.ab_initio_images import selected_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_results import FoundPoses
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.iterate_average import Aligned, average_of, compared_detail, filtered_half, joined_halves
from eucentric.averaging.params import AverageParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.averaging.results import AverageResult
from eucentric.averaging.search_poses import search_poses
from eucentric.averaging.solve_average import solve_average
from eucentric.averaging.superpose_maps import superpose_maps
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid

_BEYOND = 1.5
"""Noise turned onto itself agrees to 1.25 times the detail of the start map."""
_GLOBAL = 2
"""Rounds that search all orientations, before those near the ones found."""
_REACH_DEG, _REACH = 15.0, 0.4
"""Of the other rounds; places, over the detail compared."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InitialModel:
    """A map from particles alone, and their poses in it."""

    volume: Float[Tensor, "n n n"]
    """Both halves together, filtered by their agreement and to the detail asked for, protein bright."""
    average: AverageResult
    """Halves, mask and their correlation; the halves share what is coarser than `start.detail_angstrom`, and nothing else."""
    poses: FoundPoses
    """Of all particles; shifts from the given places."""
    start: StartModel
    resolutions_angstrom: tuple[float, ...]
    """Of each round."""

    @property
    def goes_beyond_start(self) -> bool:
        """Whether halves that were aligned apart agree in detail that the start map did not give them."""
        return self.average.correlation.resolution_angstrom < self.start.detail_angstrom / _BEYOND


def refine_start(
    images: ParticleImages,
    start: StartModel,
    halves: NDArray[np.int64],
    params: InitialModelParams,
    *,
    on_step: Callable[[float], None] | None = None,
) -> InitialModel:
    """Align both halves, first to the same start map and then each to its own average.

    Parameters
    ----------
    halves : (particle,), 1 or 2
    on_step : told which part is done
    """
    voxel, low_pass = images.voxel_size_angstrom, start.detail_angstrom
    references = (start.volume, start.volume)
    parts = [np.flatnonzero(halves == half) for half in (1, 2)]
    poses, resolutions = _unknown(images.count), []
    average: AverageResult | None = None
    ball = particle_ball(images.box_size, voxel, params.diameter_angstrom).to(images.weight)
    for number in range(params.rounds):
        align = _settings(number, params, low_pass)
        sums = []
        for rows, volume in zip(parts, references, strict=True):
            reference = AlignReference.build(
                volume, voxel, low_pass_angstrom=low_pass, diameter_angstrom=params.diameter_angstrom
            )
            sums.append(_aligned(images, rows, reference, align, poses))
        _join_frames(images, parts, sums, poses, ball, params)
        tilts = np.bincount(images.particle, minlength=images.count)
        aligned = Aligned(poses=poses, sums=(sums[0], sums[1]), tilts_used=tilts)
        average = average_of(aligned, AverageParams(seed=params.seed), halves)
        resolutions.append(average.correlation.resolution_angstrom)
        low_pass = max(params.low_pass_angstrom, min(compared_detail(average.correlation), start.detail_angstrom))
        filtered = [
            filtered_half(h, average.mask, average.correlation, low_pass) for h in (average.half1, average.half2)
        ]
        references = joined_halves(filtered[0], filtered[1], voxel, start.detail_angstrom)
        if on_step is not None:
            on_step((number + 1) / params.rounds)
    if average is None:
        raise AssertionError("settings ask for one round at least")
    return InitialModel(
        volume=_low_passed(average.volume * average.mask, voxel, params.low_pass_angstrom),
        average=average,
        poses=poses,
        start=start,
        resolutions_angstrom=tuple(resolutions),
    )


def _settings(number: int, params: InitialModelParams, low_pass: float) -> AlignParams:
    if number < _GLOBAL:
        return AlignParams(search="global", shift_angstrom=params.shift_angstrom)
    return AlignParams(reach_deg=_REACH_DEG, shift_angstrom=min(params.shift_angstrom, _REACH * low_pass))


def _aligned(
    images: ParticleImages, rows: NDArray[np.int64], reference: AlignReference, params: AlignParams, poses: FoundPoses
) -> FourierSums:
    """Align some particles, note their poses in `poses`, and sum them."""
    some = selected_particles(images, rows)
    known = poses.shifts_angstrom[rows]
    if params.search != "global":
        some = some.moved(known)
    found = search_poses(some, reference, params, rotations=poses.rotations[rows])
    sums = FourierSums.empty(images.box_size, images.voxel_size_angstrom, images.data.device)
    sums.add(some.moved(found.shifts_angstrom), found.rotations)
    poses.rotations[rows] = found.rotations
    poses.shifts_angstrom[rows] = found.shifts_angstrom + (known if params.search != "global" else 0.0)
    for name in ("scores", "sigma_deg", "sigma_angstrom"):
        getattr(poses, name)[rows] = getattr(found, name)
    return sums


def _join_frames(
    images: ParticleImages,
    parts: list[NDArray[np.int64]],
    sums: list[FourierSums],
    poses: FoundPoses,
    ball: Tensor,
    params: InitialModelParams,
) -> None:
    """Turn half 2 onto half 1, poses and sums.

    What the start map does not show, such as which way the subunits of a ring point, each half finds on its own.
    """
    voxel = images.voxel_size_angstrom
    maps = [solve_average(*s.finished()) * ball for s in sums]
    found = superpose_maps(
        maps[0],
        maps[1],
        voxel,
        detail_angstrom=params.low_pass_angstrom,
        diameter_angstrom=params.diameter_angstrom,
    )
    rows = parts[1]
    poses.shifts_angstrom[rows] += np.einsum("nij,j->ni", poses.rotations[rows], found.move * voxel)
    poses.rotations[rows] = poses.rotations[rows] @ found.rotation
    some = selected_particles(images, rows)
    sums[1] = FourierSums.empty(images.box_size, voxel, images.data.device)
    sums[1].add(some.moved(poses.shifts_angstrom[rows]), poses.rotations[rows])


def _unknown(count: int) -> FoundPoses:
    none = np.full(count, math.nan)
    return FoundPoses(
        rotations=np.tile(np.eye(3), (count, 1, 1)),
        shifts_angstrom=np.zeros((count, 3)),
        scores=none,
        sigma_deg=none.copy(),
        sigma_angstrom=none.copy(),
    )


def _low_passed(volume: Tensor, voxel: float, low_pass: float) -> Tensor:
    shape = tuple(volume.shape)
    grid = frequency_grid(shape, voxel, device=volume.device)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * band_pass(grid, low_pass_angstrom=low_pass), s=shape)
    return out
