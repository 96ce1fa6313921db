"""Passes over the images of particles that classification makes."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import VolumeSamples
from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.classify_alignment import ClassPoses, pose_in_classes
from eucentric.averaging.classify_components import sort_by_components
from eucentric.averaging.classify_data import CubeGrid, Differences, joined_differences, particle_differences
from eucentric.averaging.classify_mixture import MixtureData, sort_mixture
from eucentric.averaging.classify_params import ClassifyParams
from eucentric.averaging.classify_results import Sorted, SortedSeveral
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.half_sets import assign_halves
from eucentric.averaging.iterate_average import compared_detail, diameter_of, on_voxels
from eucentric.averaging.params import AverageParams
from eucentric.averaging.results import AverageResult
from eucentric.averaging.soft_mask import ball_mask
from eucentric.compute.device import free_bytes
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.crop import fourier_pad
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.pipeline.average_files import average_job
from eucentric.pipeline.extract_series import ParticleJob, particle_batches
from eucentric.pipeline.pick_templates import read_template

OnStep = Callable[[str, float], None]
"""Told what is being done and which part of it is done."""
_FINEST = 2.05  # voxels
_OF_MAPS = 20.0
"""A; detail in which given maps are compared, where nothing is said."""
_FALLBACK = 0.5  # of the box, a ball for a mask where none can be made
_COUNTED = 1e-3  # least probability of a particle that counts in a class


def sort_particles(
    job: ParticleJob, params: ClassifyParams, focus: Tensor | None, on_step: OnStep | None
) -> tuple[ParticleJob, SortedSeveral, Tensor]:
    """Classes from the particles themselves.

    Returns
    -------
    the job with poses as they are at the end; the classes; the mask in which they may differ
    """
    data, average, mask = _compared(job, params, focus, on_step)
    groups = sort_by_components(data, params.classes, params.components, params.starts, seed=params.seed)
    if params.method == "pca":
        return job, groups, mask
    first = groups.best.probabilities
    found = sort_mixture(data, params.classes, params.starts, seed=params.seed, first=first)
    if params.align == "local":
        for number in range(params.rounds):
            job = _aligned(job, params, data, average, found.best, on_step, f"aligning to classes, round {number + 1}")
            data, average, mask = _compared(job, params, focus, on_step)
            first = found.best.probabilities
            found = sort_mixture(data, params.classes, params.starts, seed=params.seed, first=first)
    return job, found, mask


def sort_by_maps(
    job: ParticleJob, params: ClassifyParams, files: tuple[Path, ...], on_step: OnStep | None
) -> tuple[ParticleJob, SortedSeveral]:
    """The likeliest of given maps for each particle, in its best pose."""
    box, voxel = job.params.box_size, job.pixel_size_angstrom
    references = []
    for file in files:
        found = read_template(str(file), voxel_size=voxel)
        if found.diameter_angstrom > box * voxel:
            raise InputError(
                f"`{file}` is {found.diameter_angstrom:.0f} A wide, and the box {box * voxel:.0f} A. Give a larger --box-size."
            )
        references.append(
            AlignReference.build(
                on_voxels(found.density, voxel, voxel, box).to(job.device),
                voxel,
                low_pass_angstrom=params.low_pass_angstrom or _OF_MAPS,
                diameter_angstrom=found.diameter_angstrom,
            )
        )
    poses = _poses(
        job, params, [references, references], np.zeros(len(job), dtype=np.int64), on_step, "comparing with maps"
    )
    likelihood = poses.log_likelihoods
    parts = np.full(len(files), 1.0 / len(files))
    for _ in range(50):
        logs = likelihood + np.log(parts)
        shares = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        parts = np.maximum(shares.mean(0), 1e-6) / np.maximum(shares.mean(0), 1e-6).sum()
    chosen = shares.argmax(1)
    none = torch.zeros((len(files), 0), dtype=torch.complex64)
    best = Sorted(probabilities=shares, gain=math.nan, differences=none, labels=chosen)
    return _moved(job, poses, chosen), SortedSeveral(best=best, gains=(math.nan,), agreement=math.nan)


def class_averages(
    job: ParticleJob, params: ClassifyParams, found: Sorted, on_step: OnStep | None
) -> tuple[list[AverageResult | None], np.ndarray]:
    """A map of each class, particles counted by their probabilities, and the images of each particle.

    None where a class has no particle in one of its halves.
    """
    box, voxel = job.params.box_size, job.pixel_size_angstrom
    halves = assign_halves(job.particles, 0.5 * box * voxel, seed=params.seed)
    shares = np.where(found.probabilities > _COUNTED, found.probabilities, 0.0)
    own = np.eye(shares.shape[1])[found.labels]
    shares = np.where(shares.sum(1, keepdims=True) > 0, shares, own) if params.method != "pca" else own
    tilts = np.zeros(len(job), dtype=np.int64)
    each = 2 * 2 * 8 * (2 * box) ** 2 * (box + 1)
    together = max(1, int(0.5 * free_bytes(job.device)) // each)
    out: list[AverageResult | None] = []
    for start in range(0, shares.shape[1], together):
        some = range(start, min(start + together, shares.shape[1]))
        sums = {(k, h): FourierSums.empty(box, voxel, job.device) for k in some for h in (1, 2)}
        done = 0
        for batch, rows in job.batches():
            tilts[rows] = np.bincount(batch.particle, minlength=batch.count)
            for (k, half), one in sums.items():
                one.add(batch, job.particles.rotations[rows], shares[rows, k] * (halves[rows] == half))
            done += len(rows)
            _tell(on_step, "averaging classes", done, len(job))
        for k in some:
            counted = np.where(shares[:, k] > 0.5, halves, 0)
            out.append(_average_of((sums[k, 1], sums[k, 2]), params, counted, tilts))
    return out, tilts


def _average_of(
    sums: tuple[FourierSums, FourierSums], params: ClassifyParams, halves: np.ndarray, tilts: np.ndarray
) -> AverageResult | None:
    if not (sums[0].images and sums[1].images):
        return None
    settings = AverageParams(symmetry=params.symmetry, seed=params.seed)
    try:
        return average_halves(sums, settings, halves=halves, tilts_used=tilts)
    except ProcessingError:
        ball = _ball(sums[0].box_size, sums[0].voxel_size_angstrom, sums[0].data.real)
        return average_halves(sums, settings, halves=halves, tilts_used=tilts, mask=ball)


def _compared(
    job: ParticleJob, params: ClassifyParams, focus: Tensor | None, on_step: OnStep | None
) -> tuple[MixtureData, AverageResult, Tensor]:
    """Differences of particles from the average of all, that average, and the mask."""
    settings = AverageParams(symmetry=params.symmetry, seed=params.seed)
    box, voxel = job.params.box_size, job.pixel_size_angstrom

    def step(done: int, total: int) -> None:
        _tell(on_step, "averaging all", done, total)

    try:
        average = average_job(job, settings, on_step=step)
    except ProcessingError:
        ball = _ball(box, voxel, torch.empty(0, device=job.device))
        average = average_job(job, settings, mask=ball, on_step=step)
    detail = max(params.low_pass_angstrom or compared_detail(average.correlation), _FINEST * voxel)
    mask = average.mask if focus is None else focus
    if focus is None and params.mask_diameter_angstrom:
        mask = ball_mask(box, voxel, params.mask_diameter_angstrom, 5.0 * voxel).to(job.device)
    given = _differences(job, average.volume * average.mask, detail, symmetry_rotations(params.symmetry), on_step)
    grid = given.grid
    data = MixtureData.build(
        given, grid.on_cube(mask).clamp(0.0, 1.0), grid.on_cube(average.volume * average.mask), seed=params.seed
    )
    return data, average, mask


def _differences(
    job: ParticleJob, average: Tensor, detail: float, symmetry: np.ndarray, on_step: OnStep | None
) -> Differences:
    parts, order, done = [], [], 0
    volumes: VolumeSamples | None = None
    for batch, rows in job.batches():
        if volumes is None:
            volumes = VolumeSamples(batch.box_size, batch.voxel_size_angstrom / detail, batch.weight)
            need, free = 16 * len(volumes.samples.inside) * len(job), free_bytes(job.device)
            if need > free:
                raise InputError(
                    f"Differences of {len(job)} particles to {detail:.0f} A need {need / 2**30:.1f} GiB, but only "
                    f"{free / 2**30:.1f} GiB may be used. Give a coarser --low-pass-angstrom, or smaller boxes."
                )
        parts.append(particle_differences(batch, job.particles.rotations[rows], volumes, average, symmetry))
        order.append(rows)
        done += len(rows)
        _tell(on_step, "comparing with the average", done, len(job))
    if volumes is None:
        raise InputError("No particle is seen in its series. Check that the list belongs to these series.")
    grid = CubeGrid.of(volumes, job.pixel_size_angstrom)
    return joined_differences(grid, parts, torch.from_numpy(np.concatenate(order)).to(job.device))


def _aligned(
    job: ParticleJob,
    params: ClassifyParams,
    data: MixtureData,
    average: AverageResult,
    found: Sorted,
    on_step: OnStep | None,
    what: str,
) -> ParticleJob:
    """Poses of the likeliest class; references are of the other half of the particles than the one aligned."""
    box, voxel = job.params.box_size, job.pixel_size_angstrom
    detail = max(params.low_pass_angstrom or compared_detail(average.correlation), 2.0 * voxel)
    whole = average.volume * average.mask
    shares = data.of_list(found.probabilities)
    references = []
    for side in (1, 0):
        maps = data.given.grid.maps(data.differences(shares, only=side))
        references.append(
            [
                AlignReference.build(
                    whole + (one if one.shape[0] == box else fourier_pad(one, (box,) * 3)),
                    voxel,
                    low_pass_angstrom=detail,
                    diameter_angstrom=diameter_of(whole, voxel),
                )
                for one in maps
            ]
        )
    poses = _poses(job, params, references, data.sides, on_step, what)
    likelihood = poses.log_likelihoods + np.log(np.maximum(found.probabilities.mean(0), 1e-6))
    return _moved(job, poses, likelihood.argmax(1))


def _poses(
    job: ParticleJob,
    params: ClassifyParams,
    references: list[list[AlignReference]],
    sides: np.ndarray,
    on_step: OnStep | None,
    what: str,
) -> ClassPoses:
    """Of all particles for all classes; the references of each particle are those of its side."""
    search = None
    if params.align != "none":
        search = AlignParams(search=params.align, reach_deg=params.reach_deg, shift_angstrom=params.shift_angstrom)
    parts, order, done = [], [], 0
    for source, rows in job.sources():
        for side in np.unique(sides[rows]):
            own = rows[sides[rows] == side]
            for some in particle_batches(source, len(own)):
                picked = own[some]
                batch = source.particles(job.particles.positions_angstrom[picked])
                turned = job.particles.rotations[picked]
                parts.append(pose_in_classes(batch, references[int(side)], search, turned, params.symmetry))
                order.append(picked)
                done += len(picked)
                _tell(on_step, what, done, len(job))
    return ClassPoses.joined(parts, np.concatenate(order))


def _moved(job: ParticleJob, poses: ClassPoses, chosen: np.ndarray) -> ParticleJob:
    rotations, shifts = poses.of(chosen)
    particles = job.particles.with_rotations(rotations)
    return replace(job, particles=particles.with_positions(particles.positions_angstrom + shifts))


def _ball(box: int, voxel: float, like: Tensor) -> Tensor:
    return ball_mask(box, voxel, _FALLBACK * box * voxel, 4.0 * voxel).to(like.device)


def _tell(on_step: OnStep | None, what: str, done: int, total: int) -> None:
    if on_step is not None:
        on_step(what, done / total)
