"""Orientations and places of particles, compared with a reference: from coarse steps at low frequencies to fine ones.

A step of an angle moves the rim of a particle by half its diameter times that angle, so only detail about as coarse as that
tells one orientation of a grid from the next. Each stage halves the step, doubles the frequency, and follows up what the
stage before left likely.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.averaging.align_climb import ClimbedPose, Prior, climb_pose
from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_results import FoundPoses
from eucentric.averaging.align_samples import ParticleSamples, VolumeSamples, image_samples
from eucentric.averaging.particle_images import ParticleImages
from eucentric.errors import InputError, ShapeError
from eucentric.geometry.so3 import local_rotations, sample_rotations
from eucentric.projection.turned import read_turned, score_turned
from eucentric.typing import FloatArray

_ARC = 1.2
"""Detail compared, over the arc along the diameter that a step turns: orientations between two steps then still overlap."""
_SHIFT = 0.25
"""Step of places over the detail compared."""
_UNLIKELY = 8.0
"""Log-likelihood below the best beyond which nothing is followed up (a part in 3000)."""
_MISSED = 0.2
"""Part of the log-likelihood that the best orientation of a step may lose by lying between those tried, where noise is low."""
_CLIMBED = 3
_NARROWING = 3
"""What is followed up falls by that factor from stage to stage."""
_CHUNK = 16  # particles whose candidates are held at once
_MOST_SCORES = 2**24  # held at once
_CHILDREN = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidates:
    """Poses of one particle, best first."""

    rotations: FloatArray
    moves: FloatArray
    """(candidate, 3), voxels of the box."""
    scores: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    step_deg: float
    highest: float
    """Cycles a voxel."""
    move_voxels: float
    """Step of places."""


def search_poses(
    batch: ParticleImages,
    reference: AlignReference,
    params: AlignParams,
    *,
    rotations: FloatArray | None = None,
    symmetry: str = "C1",
    expected: tuple[FloatArray, FloatArray] | None = None,
) -> FoundPoses:
    """Orientation and place of every particle of a batch.

    Parameters
    ----------
    rotations : (particle, 3, 3), the given orientations; not needed for a global search
    symmetry : of the reference; orientations that it makes alike are tried once
    expected : rotations (particle, 3, 3) and shifts (particle, 3) in A that the priors of `params` are about; those given, and
        none, where None. In a cone search, and after it, they are about the axes

    Raises
    ------
    ShapeError : boxes that the reference does not fit, or rotations that are not one for each particle
    InputError : no rotations where they are needed, or some that are NaN
    """
    given = _checked(batch, reference, params, rotations)
    stages = _stages(reference, params, batch.box_size)
    volumes = VolumeSamples(batch.box_size, stages[0].highest, batch.weight)
    numbers = [i for i in range(batch.count) if np.any(batch.particle == i)]
    out: list[FoundPoses | None] = [None] * batch.count
    shared = _SharedGrid(reference, volumes, stages[0], params, symmetry) if params.search == "global" else None
    relative = None if shared else _relative_rotations(params, stages[0].step_deg, symmetry)
    finer = [VolumeSamples(batch.box_size, s.highest, batch.weight) for s in stages[1:]]
    threads = torch.get_num_threads() if batch.data.device.type == "cpu" else 1

    about = (given, np.zeros((batch.count, 3))) if expected is None else expected

    def prior_of(number: int) -> Prior:
        voxel = batch.voxel_size_angstrom
        return Prior(
            rotation=about[0][number],
            move=about[1][number] / voxel,
            per_rad2=1.0 / math.radians(params.prior_deg) ** 2 if params.prior_deg else 0.0,
            per_voxel2=(voxel / params.prior_angstrom) ** 2 if params.prior_angstrom else 0.0,
            axis_only=params.prior_of_axes,
            two_sided=symmetry.upper().startswith("D"),
        )

    def follow(task: tuple[int, _Candidates | None]) -> None:
        number, found = task
        if found is None:
            assert relative is not None
            trials = given[number] @ relative if params.search == "cone" else relative @ given[number]
            found = _first(reference, volumes, volumes.of(batch, number), trials, stages[0], params)
        for stage, samples in zip(stages[1:], finer, strict=True):
            found = _narrowed(reference, samples, samples.of(batch, number), found, stage)
        out[number] = _finished(batch, number, reference, found, prior_of(number), stages[-1], params)

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for start in range(0, len(numbers), _CHUNK):
            some = numbers[start : start + _CHUNK]
            first = [None] * len(some) if shared is None else shared.candidates([volumes.of(batch, i) for i in some])
            list(pool.map(follow, zip(some, first, strict=True)))
    return FoundPoses.joined([_unseen(given[i]) if o is None else o for i, o in enumerate(out)])


def _checked(
    batch: ParticleImages, reference: AlignReference, params: AlignParams, rotations: FloatArray | None
) -> FloatArray:
    close = abs(batch.voxel_size_angstrom / reference.voxel_size_angstrom - 1.0) < 1e-3
    if batch.box_size != reference.box_size or not close:
        raise ShapeError(
            f"Boxes of {batch.box_size} pixels of {batch.voxel_size_angstrom:g} A were given with a reference of "
            f"{reference.box_size} voxels of {reference.voxel_size_angstrom:g} A; expected the same."
        )
    if rotations is None:
        if params.search != "global":
            raise InputError("A local search needs the orientations of the particles. Give them, or search globally.")
        return np.tile(np.eye(3), (batch.count, 1, 1))
    if rotations.shape != (batch.count, 3, 3):
        raise ShapeError(f"{batch.count} particles were given with rotations of shape {rotations.shape}.")
    if not np.isfinite(rotations).all():
        raise InputError("A particle has an orientation that is NaN or infinite. Remove it from the list.")
    return rotations


def _stages(reference: AlignReference, params: AlignParams, box_size: int) -> list[_Stage]:
    """From the first step to the one at which all detail of the reference is compared."""
    voxel, finest = reference.voxel_size_angstrom, reference.low_pass_angstrom
    step = params.coarse_step_deg
    if params.search == "local":
        step = min(step, 0.5 * params.reach_deg)
    out: list[_Stage] = []
    while True:
        detail = max(_ARC * reference.diameter_angstrom * math.radians(step), finest)
        # fewer samples than that tell nothing of a box
        highest = max(voxel / detail, 2.5 / box_size)
        out.append(_Stage(step_deg=step, highest=min(highest, 0.5), move_voxels=_SHIFT * detail / voxel))
        if detail <= finest or step <= 1.0:
            return out
        step *= 0.5


def _relative_rotations(params: AlignParams, step: float, symmetry: str) -> FloatArray:
    """Turns to be tried from a given orientation: small ones in the specimen, or some of the reference about its axis."""
    if params.search == "local":
        return local_rotations(params.reach_deg, step)
    every = sample_rotations(step, symmetry)
    near = np.abs(every[:, 2, 2]) if symmetry.upper().startswith("D") else every[:, 2, 2]
    kept = every[near >= math.cos(math.radians(params.reach_deg)) - 1e-9]
    return np.concatenate([np.eye(3)[None], kept])


def _moves(limit: float, step: float) -> FloatArray:
    """Values that each coordinate of a place takes, evenly from minus the limit to the limit."""
    count = math.ceil(limit / step - 1e-6)
    return np.linspace(-limit, limit, 2 * count + 1)


class _SharedGrid:
    """The reference in all orientations of the first step: one product of matrices scores many particles."""

    def __init__(
        self, reference: AlignReference, volumes: VolumeSamples, stage: _Stage, params: AlignParams, symmetry: str
    ) -> None:
        self.rotations = sample_rotations(stage.step_deg, symmetry)
        copies = read_turned(reference.transform, volumes.samples, self.rotations)
        self._power = copies.abs().square()
        self._rows = torch.view_as_real(copies).reshape(len(copies), -1)
        line = _moves(params.shift_angstrom / reference.voxel_size_angstrom, stage.move_voxels)
        moves = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
        self.moves = moves
        phase = (
            2.0 * math.pi * (volumes.samples.frequencies @ torch.from_numpy(moves.T).to(volumes.samples.frequencies))
        )
        self._phases = torch.polar(torch.ones_like(phase), phase)
        self._kept = params.kept

    def candidates(self, seen: list[ParticleSamples]) -> list[_Candidates]:
        """The likeliest orientations of each particle, each with its best place."""
        together = max(1, _MOST_SCORES // (len(self.rotations) * len(self.moves)))
        if len(seen) > together:
            parts = [self.candidates(seen[i : i + together]) for i in range(0, len(seen), together)]
            return [found for part in parts for found in part]
        moved = torch.stack([s.data[:, None] * self._phases for s in seen], dim=1)
        points, particles, count = moved.shape
        columns = torch.view_as_real(moved.reshape(points, -1)).permute(0, 2, 1).reshape(2 * points, -1)
        overlap, place = (self._rows @ columns).reshape(-1, particles, count).max(2)
        norm = (self._power @ torch.stack([s.power for s in seen], dim=1)).sqrt().clamp_min(1e-15)
        scores = (overlap / norm).T.cpu().double().numpy()
        places = place.T.cpu().numpy()
        out = []
        for row, at in zip(scores, places, strict=True):
            best = _likely(row, self._kept)
            out.append(_Candidates(rotations=self.rotations[best], moves=self.moves[at[best]], scores=row[best]))
        return out


def _likely(scores: FloatArray, most: int) -> np.ndarray:
    """Numbers of the best scores, best first: log-likelihoods are half their squares."""
    best = np.argsort(-scores)[:most]
    value = 0.5 * np.square(np.clip(scores[best], 0.0, None))
    return np.asarray(best[value >= value[0] - max(_UNLIKELY, _MISSED * value[0])])


def _first(
    reference: AlignReference,
    volumes: VolumeSamples,
    seen: ParticleSamples,
    trials: FloatArray,
    stage: _Stage,
    params: AlignParams,
) -> _Candidates:
    line = _moves(params.shift_angstrom / reference.voxel_size_angstrom, stage.move_voxels)
    scores, moves = _scored(reference, volumes, seen, trials, np.repeat(line[:, None], 3, axis=1))
    best = _likely(scores, params.kept)
    return _Candidates(rotations=trials[best], moves=moves[best], scores=scores[best])


def _narrowed(
    reference: AlignReference, volumes: VolumeSamples, seen: ParticleSamples, found: _Candidates, stage: _Stage
) -> _Candidates:
    """The neighbourhood of each candidate at half the step; fewer are left."""
    turns = _ScipyRotation.from_rotvec(np.deg2rad(0.5 * stage.step_deg) * _CHILDREN).as_matrix()
    around = stage.move_voxels * np.array([-1.0, 0.0, 1.0])
    rotations, moves, scores = [], [], []
    for rotation, move in zip(found.rotations, found.moves, strict=True):
        children = turns @ rotation
        score, place = _scored(reference, volumes, seen, children, move + around[:, None])
        rotations.append(children)
        moves.append(place)
        scores.append(score)
    every = np.concatenate(scores)
    best = _likely(every, max(_CLIMBED, math.ceil(len(found.scores) / _NARROWING)))
    return _Candidates(rotations=np.concatenate(rotations)[best], moves=np.concatenate(moves)[best], scores=every[best])


def _scored(
    reference: AlignReference, volumes: VolumeSamples, seen: ParticleSamples, trials: FloatArray, moves: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Best score of each orientation over the places (move, 3), and that place."""
    grid = volumes.scaled_moves(torch.from_numpy(moves))
    scores = score_turned(reference.transform, volumes.samples, trials, seen.data, seen.power, grid)
    best, place = scores.reshape(len(trials), -1).max(1)
    z, y, x = np.unravel_index(place.cpu().numpy(), tuple(scores.shape[1:]))
    return best.cpu().double().numpy(), np.stack([moves[x, 0], moves[y, 1], moves[z, 2]], axis=1)


def _finished(
    batch: ParticleImages,
    number: int,
    reference: AlignReference,
    found: _Candidates,
    prior: Prior,
    stage: _Stage,
    params: AlignParams,
) -> FoundPoses:
    voxel = batch.voxel_size_angstrom
    if not params.climb:
        return _pose(found.rotations[0], found.moves[0] * voxel, found.scores[0], math.nan, math.nan)
    seen = image_samples(batch, number, voxel / reference.low_pass_angstrom)
    climbed: list[ClimbedPose] = [
        climb_pose(
            reference.transform,
            seen,
            rotation,
            move,
            prior,
            reach_rad=math.radians(stage.step_deg),
            reach_voxels=max(1.0, stage.move_voxels),
        )
        for rotation, move in zip(found.rotations[:_CLIMBED], found.moves[:_CLIMBED], strict=True)
    ]
    best = max(climbed, key=lambda c: c.log_likelihood)
    return _pose(best.rotation, best.move * voxel, best.score, math.degrees(best.sigma_rad), best.sigma_voxels * voxel)


def _pose(rotation: FloatArray, shift: FloatArray, score: float, sigma_deg: float, sigma: float) -> FoundPoses:
    return FoundPoses(
        rotations=rotation[None],
        shifts_angstrom=np.asarray(shift)[None],
        scores=np.array([score]),
        sigma_deg=np.array([sigma_deg]),
        sigma_angstrom=np.array([sigma]),
    )


def _unseen(rotation: FloatArray) -> FoundPoses:
    return _pose(rotation, np.zeros(3), 0.0, math.nan, math.nan)
