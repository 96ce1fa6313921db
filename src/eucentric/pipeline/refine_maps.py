"""Maps of a species from the poses and the geometry of a round, summed in parts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import AverageParams
from eucentric.averaging.results import AverageResult
from eucentric.pipeline.executors import Executor
from eucentric.pipeline.extract_series import ParticleJob
from eucentric.refinement.leave_out import PartSums


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SummedSpecies:
    """The map of a species, and the sums of its parts."""

    result: AverageResult
    sums: PartSums


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Share:
    """Particles for one worker."""

    job: ParticleJob
    part: NDArray[np.int64]
    count: int


def sum_species(
    job: ParticleJob, params: AverageParams, part: NDArray[np.int64], parts: int, executor: Executor
) -> SummedSpecies:
    """The map of all particles as they are, from sums of each part.

    Parameters
    ----------
    part : (particle,), of :func:`eucentric.refinement.leave_out.parts_of_halves`
    parts : of each half
    executor : series are shared among its workers
    """
    count = 2 * parts
    shares = []
    for rows in _rows(job, executor.slots):
        some = replace(job, particles=job.particles.select(rows))
        shares.append((rows, _Share(job=some, part=part[rows], count=count)))
    total: list[FourierSums] | None = None
    tilts = np.zeros(len(job), dtype=np.int64)
    for (rows, _), (sums, used) in zip(shares, executor.map(_sum, [s for _, s in shares]), strict=True):
        tilts[rows] = used
        total = list(sums) if total is None else [a + b for a, b in zip(total, sums, strict=True)]
    assert total is not None
    sums_of = PartSums(sums=tuple(total), part=part, tilts_used=tilts)
    halves = np.where(tilts > 0, 1 + part // parts, 0)
    result = average_halves(sums_of.halves(), params, halves=halves, tilts_used=tilts)
    return SummedSpecies(result=result, sums=sums_of)


def _rows(job: ParticleJob, slots: int) -> Sequence[NDArray[np.int64]]:
    if slots == 1:
        return [np.arange(len(job))]
    return [np.flatnonzero(job.particles.tomograms == name) for name in job.particles.tomogram_names]


def _sum(share: _Share) -> tuple[tuple[FourierSums, ...], NDArray[np.int64]]:
    job = share.job
    sums = tuple(
        FourierSums.empty(job.params.box_size, job.pixel_size_angstrom, job.device) for _ in range(share.count)
    )
    tilts = np.zeros(len(job), dtype=np.int64)
    for batch, rows in job.batches():
        voxel = batch.voxel_size_angstrom
        for number in np.unique(share.part[rows]):
            sums[number].voxel_size_angstrom = voxel
            sums[number].add(batch, job.particles.rotations[rows], (share.part[rows] == number).astype(np.float64))
        tilts[rows] = np.bincount(batch.particle, minlength=len(rows))
    return sums, tilts
