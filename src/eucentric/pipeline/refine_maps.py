"""Maps of a species from the poses and the geometry of a round, summed in parts."""

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
    numbers: tuple[int, ...]
    """Of the parts that these particles may be in."""


def sum_species(
    job: ParticleJob, params: AverageParams, part: NDArray[np.int64], parts: int, executor: Executor
) -> SummedSpecies:
    """The map of all particles as they are, from sums of each part.

    Parameters
    ----------
    part : (particle,), of :func:`eucentric.refinement.leave_out.parts_of_halves`
    parts : of each half
    executor : parts are shared among its workers, and series where there are more workers than parts
    """
    shares = []
    for rows, numbers in _rows(job, part, 2 * parts, executor.slots):
        some = replace(job, particles=job.particles.select(rows))
        shares.append((rows, _Share(job=some, part=part[rows], numbers=numbers)))
    total: dict[int, FourierSums] = {}
    tilts = np.zeros(len(job), dtype=np.int64)
    for (rows, _), (sums, used) in zip(shares, executor.map(_sum, [s for _, s in shares]), strict=True):
        tilts[rows] = used
        for number, one in sums.items():
            total[number] = total[number] + one if number in total else one
    sums_of = PartSums(sums=tuple(total[n] for n in range(2 * parts)), part=part, tilts_used=tilts)
    halves = np.where(tilts > 0, 1 + part // parts, 0)
    result = average_halves(sums_of.halves(), params, halves=halves, tilts_used=tilts)
    return SummedSpecies(result=result, sums=sums_of)


def _rows(
    job: ParticleJob, part: NDArray[np.int64], count: int, slots: int
) -> list[tuple[NDArray[np.int64], tuple[int, ...]]]:
    """Rows of particles for each worker, and the parts that they are in.

    Sums of all parts are some gigabytes where boxes are large. They are held once, however many workers there are, as long as each
    has parts of its own.
    """
    groups = np.array_split(np.arange(count), min(slots, count))
    names, series = np.unique(job.particles.tomograms, return_inverse=True)
    sets = min(len(names), max(1, slots // len(groups)))
    return [
        (np.flatnonzero(np.isin(part, numbers) & (series % sets == number)), tuple(int(n) for n in numbers))
        for numbers in groups
        for number in range(sets)
    ]


def _sum(share: _Share) -> tuple[dict[int, FourierSums], NDArray[np.int64]]:
    job = share.job
    size, pixel = job.params.box_size, job.pixel_size_angstrom
    sums = {number: FourierSums.empty(size, pixel, job.device) for number in share.numbers}
    tilts = np.zeros(len(job), dtype=np.int64)
    for batch, rows in job.batches():
        voxel = batch.voxel_size_angstrom
        for number in np.unique(share.part[rows]):
            sums[int(number)].voxel_size_angstrom = voxel
            sums[int(number)].add(batch, job.particles.rotations[rows], (share.part[rows] == number).astype(np.float64))
        tilts[rows] = np.bincount(batch.particle, minlength=len(rows))
    return sums, tilts
