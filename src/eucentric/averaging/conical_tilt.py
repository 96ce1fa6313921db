r"""Random conical tilt: start maps of particles that lie on the support the same way up, from a nearly flat image of each and a
tilted one.

Particles that show the same face differ by a turn :math:`\psi` about the normal of the specimen alone, which the untilted image
tells [1]_. Their tilted images are then views from all around a cone of known opening, and are put together without any search
for orientations. Faces are told apart by k-means of the untilted images, turned and moved onto class means in stochastic steps
as in :mod:`eucentric.averaging.ab_initio`. Each face gives a map of its own; how high each particle lies, which no untilted image
shows, comes from both images compared with that map.

Views at an angle :math:`\theta` leave a cone of half angle :math:`90^\circ - \theta` about the normal unmeasured.

.. [1] Radermacher, Wagenknecht, Verschoor & Frank, J. Microsc. 146:113 (1987), doi:10.1111/j.1365-2818.1987.tb01333.x
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.ab_initio import FEWEST, LikelyPoses, StartJob, StartModel, drawn_particles
from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError
from eucentric.geometry.rotations import rotation_z
from eucentric.typing import FloatArray

_FLAT_DEG, _TILTED_DEG = 15.0, 30.0
"""The untilted image leans less than the one against the specimen's normal, and the tilted one more than the other."""
_FINER = 0.5
"""Detail in which untilted images are compared, over that of the maps: turns about one axis are few, and mirrored outlines are much
alike."""
_STEP, _LAST = 0.6, 3
"""Part of the running sums that each step replaces; steps at the end that use all particles and keep nothing."""
_HEIGHTS = 3
"""Rounds in which each particle's height and turn are found with its tilted images."""


def find_conical_starts(
    images: ParticleImages, params: InitialModelParams, *, on_step: Callable[[float], None] | None = None
) -> list[StartModel]:
    """A map of each face that particles show in their untilted images; the one that tells most of held-out particles first.

    Of several beginnings by chance that one is kept whose faces, each particle's best, tell most of the held-out particles.

    Parameters
    ----------
    images : of all particles; those without an untilted and a tilted image do not count
    on_step : told which part is done

    Raises
    ------
    InputError : fewer than eight particles have both images, none of the faces has enough of them, or the box is smaller than the
        particle
    """
    pairs, flat = tilt_pairs(images)
    used, held = drawn_particles(pairs, params)
    # sums keep all detail: with two images a particle, little is measured that could be given away
    job = StartJob.of(pairs, params)
    job = replace(job, coarse=job.images)
    fine = max(_FINER * job.detail, params.low_pass_angstrom)
    level = StartJob.of(flat, params, fine)
    level = replace(level, coarse=level.images, moves=level.moves[np.abs(level.moves[:, 2]) < 1e-6])
    # a step moves the rim by half the finer detail
    count = math.ceil(4.0 * math.pi * params.diameter_angstrom / fine)
    turns = rotation_z(np.arange(count) * 360.0 / count)
    best, most = [], -math.inf
    for number in range(params.starts):
        rng = np.random.default_rng([params.seed, number])
        faces, poses = _sorted_faces(level, used, turns, rng)
        out, told = [], []
        for face in range(params.faces):
            rows = np.flatnonzero(faces == face)
            if len(rows) < FEWEST:
                continue
            volume = _heights_found(job, used[rows], poses.of(rows), turns, rng)
            told.append(job.poses(volume, held, turns).evidence)
            evidence = float(told[-1].mean())
            out.append(StartModel(volume=volume, detail_angstrom=job.detail, evidence=evidence, particles=len(rows)))
        # each held-out particle shows one face
        whole = float(np.max(told, axis=0).mean()) if told else -math.inf
        if whole > most:
            best, most = out, whole
        if on_step is not None:
            on_step((number + 1) / params.starts)
    if not best:
        raise InputError(
            f"No face holds {FEWEST} particles of the {len(used)} that were sorted. Ask for fewer --faces, or give more particles."
        )
    return sorted(best, key=lambda s: -s.evidence)


def tilt_pairs(images: ParticleImages) -> tuple[ParticleImages, ParticleImages]:
    """Particles with an untilted and a tilted image: all their images, and the least tilted of each.

    Raises
    ------
    InputError : none has both
    """
    unit = images.matrices[:, 2] / np.linalg.norm(images.matrices[:, 2], axis=1, keepdims=True)
    lean = np.degrees(np.arccos(np.clip(np.abs(unit[:, 2]), 0.0, 1.0)))
    least, most = np.full(images.count, np.inf), np.zeros(images.count)
    np.minimum.at(least, images.particle, lean)
    np.maximum.at(most, images.particle, lean)
    good = (least < _FLAT_DEG) & (most > _TILTED_DEG)
    if not good.any():
        raise InputError(
            f"No particle is seen both in an image tilted by less than {_FLAT_DEG:g} degrees and in one tilted by more than "
            f"{_TILTED_DEG:g}. Leave --random-conical-tilt out, or give the series that holds both images."
        )
    first = np.zeros(len(lean), dtype=bool)
    by_lean = np.lexsort((lean, images.particle))
    first[by_lean[np.unique(images.particle[by_lean], return_index=True)[1]]] = True
    whole = good[images.particle]
    return _rows(images, whole), _rows(images, whole & first)


def _rows(images: ParticleImages, some: NDArray[np.bool_]) -> ParticleImages:
    """Some images; particles keep their numbers."""
    rows = np.flatnonzero(some)
    index = torch.from_numpy(rows).to(images.data.device)
    return replace(
        images,
        data=images.data[index],
        weight=images.weight[index],
        particle=images.particle[rows],
        tilt=images.tilt[rows],
        matrices=images.matrices[rows],
    )


def _sorted_faces(
    level: StartJob,
    numbers: NDArray[np.int64],
    turns: FloatArray,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], LikelyPoses]:
    """The face (particle,) that each untilted image shows, and its turn and place in the plane."""
    params, count = level.params, len(numbers)
    faces = rng.permutation(count) % params.faces
    poses = LikelyPoses.by_chance(rotation_z(rng.uniform(0.0, 360.0, count)))
    sums = [level.sums(numbers[faces == f], poses.of(np.flatnonzero(faces == f))) for f in range(params.faces)]
    for i in range(params.iterations):
        last = i >= params.iterations - _LAST
        size = count if last else min(params.batch_particles, count)
        some = np.sort(rng.choice(count, size, replace=False))
        trials = turns if i == params.iterations - 1 else turns @ rotation_z(rng.uniform(0.0, 360.0))
        found = [level.poses(level.solved(*s), numbers[some], trials) for s in sums]
        best = np.argmax([f.evidence for f in found], axis=0)
        for face, own in enumerate(found):
            rows = np.flatnonzero(best == face)
            if not len(rows):
                continue
            part = 1.0 if last else _STEP
            new = level.sums(numbers[some[rows]], own.of(rows))
            sums[face] = _mixed(sums[face], new, part, count / size)
    # the last step looked at all of them
    return best, LikelyPoses(
        rotations=np.stack([found[f].rotations[i] for i, f in enumerate(best)]),
        moves=np.stack([found[f].moves[i] for i, f in enumerate(best)]),
        shares=np.stack([found[f].shares[i] for i, f in enumerate(best)]),
        evidence=np.stack([found[f].evidence[i] for i, f in enumerate(best)]),
    )


def _mixed(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], part: float, scale: float) -> tuple[Tensor, Tensor]:
    """Running means of data and weights."""
    return (1.0 - part) * old[0] + part * scale * new[0], (1.0 - part) * old[1] + part * scale * new[1]


def _heights_found(
    job: StartJob, numbers: NDArray[np.int64], poses: LikelyPoses, turns: FloatArray, rng: np.random.Generator
) -> Tensor:
    """The map of one face, from all images of its particles."""
    volume = job.solved(*job.sums(numbers, poses))
    for _ in range(_HEIGHTS):
        trials = turns @ rotation_z(rng.uniform(0.0, 360.0))
        volume = job.solved(*job.sums(numbers, job.poses(volume, numbers, trials)))
    return volume
