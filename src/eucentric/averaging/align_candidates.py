"""Orientations and places to be tried, and which of them are followed up, from coarse steps at low frequencies to fine ones.

A step of an angle moves the rim of a particle by half its diameter times that angle, so only detail about as coarse as that
tells one orientation of a grid from the next. Each stage halves the step, doubles the frequency, and follows up what the
stage before left likely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation as _ScipyRotation
from scipy.special import logsumexp

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.align_prior import CONE, Prior, cone_rotations, either_way
from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.align_samples import ParticleSamples, VolumeSamples
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
_FEWEST = 8
"""Orientations of a cone that are followed up at least."""
_NARROWING = 3
"""What is followed up falls by that factor from stage to stage."""
CLIMBED = 3
"""Candidates left at last."""
_MOST_SCORES = 2**24  # held at once
_CHILDREN = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Poses of one particle, best first."""

    rotations: FloatArray
    moves: FloatArray
    """(candidate, 3), voxels of the box."""
    scores: FloatArray
    values: FloatArray
    """Log-likelihoods, half the squares of scores, with the log of the prior."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the angles, and what it compares."""

    step_deg: float
    highest: float
    """Cycles a voxel."""
    move_voxels: float
    """Step of places."""


def search_stages(reference: AlignReference, params: AlignParams, box_size: int) -> list[Stage]:
    """From the first step to the one at which all detail of the reference is compared."""
    voxel, finest = reference.voxel_size_angstrom, reference.low_pass_angstrom
    step = params.coarse_step_deg
    if params.search == "local":
        step = min(step, 0.5 * params.reach_deg)
    out: list[Stage] = []
    while True:
        detail = max(_ARC * reference.diameter_angstrom * math.radians(step), finest)
        # fewer samples than that tell nothing of a box
        highest = max(voxel / detail, 2.5 / box_size)
        out.append(Stage(step_deg=step, highest=min(highest, 0.5), move_voxels=_SHIFT * detail / voxel))
        if detail <= finest or step <= 1.0:
            return out
        step *= 0.5


def relative_rotations(params: AlignParams, step: float, symmetry: str) -> list[FloatArray]:
    """Turns to be tried from a given orientation: small ones in the specimen, or some of the reference about its axis.

    Both directions of an axis are told apart by fine detail only, so that either has a list of its own.

    A search of all orientations stays within three deviations of a prior of directions.
    """
    if params.search == "local":
        return [local_rotations(params.reach_deg, step)]
    reach = params.reach_deg if params.search == "cone" else CONE * params.prior_sigma_deg
    cone = cone_rotations(params, symmetry, reach, step)
    return np.split(cone, 2) if either_way(params, symmetry) else [cone]


def followed_up(params: AlignParams, trials: int, step: float, symmetry: str) -> int:
    """Orientations that are followed up: of a cone as small a part as of all, so that noise passes as rarely."""
    if params.search == "local":
        return params.kept
    every = len(sample_rotations(step, symmetry))
    return min(params.kept, max(_FEWEST, math.ceil(params.kept * trials / every)))


def _moves(limit: float, step: float) -> FloatArray:
    """Values that each coordinate of a place takes, evenly from minus the limit to the limit."""
    count = math.ceil(limit / step - 1e-6)
    return np.linspace(-limit, limit, 2 * count + 1)


class SharedGrid:
    """The reference in all orientations of the first step: one product of matrices scores many particles."""

    def __init__(
        self, reference: AlignReference, volumes: VolumeSamples, stage: Stage, params: AlignParams, symmetry: str
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
        self._kept, self._step_deg = params.kept, stage.step_deg

    def candidates(self, seen: list[ParticleSamples], priors: Sequence[Prior]) -> list[Candidates]:
        """The likeliest orientations of each particle, each with its best place."""
        out = []
        for row, at, prior in zip(*self._scores(seen), priors, strict=True):
            values = _log(row) - prior.costs(self.rotations)
            out.append(_likeliest(self.rotations, self.moves[at], row, values, self._kept))
        return out

    def evidence(self, seen: list[ParticleSamples], priors: Sequence[Prior]) -> FloatArray:
        """(particle,) log of the mean likelihood under the prior over that of all orientations alike.

        No prior is taken to be narrower than half a step.
        """
        out = np.empty(len(seen))
        for i, (row, prior) in enumerate(zip(self._scores(seen)[0], priors, strict=True)):
            finest = 1.0 / math.radians(0.5 * self._step_deg) ** 2
            log_prior = -replace(prior, per_rad2=min(prior.per_rad2, finest)).costs(self.rotations)
            log_prior -= logsumexp(log_prior)
            value = _log(row)
            out[i] = logsumexp(value + log_prior) - logsumexp(value) + math.log(len(value))
        return out

    def _scores(self, seen: list[ParticleSamples]) -> tuple[FloatArray, np.ndarray]:
        """(particle, orientation) best scores, and the numbers of the places where."""
        together = max(1, _MOST_SCORES // (len(self.rotations) * len(self.moves)))
        if len(seen) > together:
            parts = [self._scores(seen[i : i + together]) for i in range(0, len(seen), together)]
            return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        moved = torch.stack([s.data[:, None] * self._phases for s in seen], dim=1)
        points, particles, count = moved.shape
        columns = torch.view_as_real(moved.reshape(points, -1)).permute(0, 2, 1).reshape(2 * points, -1)
        overlap, place = (self._rows @ columns).reshape(-1, particles, count).max(2)
        norm = (self._power @ torch.stack([s.power for s in seen], dim=1)).sqrt().clamp_min(1e-15)
        return (overlap / norm).T.cpu().double().numpy(), place.T.cpu().numpy()


def _log(scores: FloatArray) -> FloatArray:
    """Log-likelihoods; those of negative scores fall a little, so that there is an order among them."""
    return np.asarray(0.5 * np.square(np.clip(scores, 0.0, None)) + 1e-6 * np.clip(scores, None, 0.0))


def _likeliest(
    rotations: FloatArray, moves: FloatArray, scores: FloatArray, values: FloatArray, most: int
) -> Candidates:
    """The best by value, as many as are not unlikely beside the best."""
    best = np.argsort(-values)[:most]
    best = best[values[best] >= values[best[0]] - max(_UNLIKELY, _MISSED * float(values[best[0]]))]
    return Candidates(rotations=rotations[best], moves=moves[best], scores=scores[best], values=values[best])


def first_candidates(
    reference: AlignReference,
    volumes: VolumeSamples,
    seen: ParticleSamples,
    trials: FloatArray,
    stage: Stage,
    params: AlignParams,
    prior: Prior,
    kept: int,
) -> Candidates:
    """The likeliest of some orientations, each with its best place, and that many at most."""
    line = _moves(params.shift_angstrom / reference.voxel_size_angstrom, stage.move_voxels)
    scores, values, moves = _scored(reference, volumes, seen, trials, np.repeat(line[:, None], 3, axis=1), prior)
    return _likeliest(trials, moves, scores, values, kept)


def narrowed(
    reference: AlignReference,
    volumes: VolumeSamples,
    seen: ParticleSamples,
    found: Candidates,
    stage: Stage,
    prior: Prior,
) -> Candidates:
    """The neighbourhood of each candidate at half the step; fewer are left."""
    turns = _ScipyRotation.from_rotvec(np.deg2rad(0.5 * stage.step_deg) * _CHILDREN).as_matrix()
    around = stage.move_voxels * np.array([-1.0, 0.0, 1.0])
    rotations, moves, scores, values = [], [], [], []
    for rotation, move in zip(found.rotations, found.moves, strict=True):
        children = turns @ rotation
        score, value, place = _scored(reference, volumes, seen, children, move + around[:, None], prior)
        rotations.append(children)
        moves.append(place)
        scores.append(score)
        values.append(value)
    most = max(CLIMBED, math.ceil(len(found.scores) / _NARROWING))
    every = [np.concatenate(v) for v in (rotations, moves, scores, values)]
    return _likeliest(every[0], every[1], every[2], every[3], most)


def _scored(
    reference: AlignReference,
    volumes: VolumeSamples,
    seen: ParticleSamples,
    trials: FloatArray,
    moves: FloatArray,
    prior: Prior,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Score of each orientation at its likeliest place of those with coordinates (move, 3); log-likelihood with the prior; place."""
    grid = volumes.scaled_moves(torch.from_numpy(moves))
    scores = score_turned(reference.transform, volumes.samples, trials, seen.data, seen.power, grid)
    slack = 0.5 * float(moves[1, 0] - moves[0, 0]) if len(moves) > 1 else 0.0
    dear = prior.place_costs(moves, slack)
    flat = scores.reshape(len(trials), -1)
    if dear is None:
        best, place = (v.cpu().numpy() for v in flat.max(1))
        values = _log(best.astype(np.float64))
    else:
        every = _log(flat.cpu().double().numpy()) - dear.reshape(-1)
        place = every.argmax(1)
        rows = np.arange(len(trials))
        best, values = flat.cpu().numpy()[rows, place], every[rows, place]
    z, y, x = np.unravel_index(place, tuple(scores.shape[1:]))
    places = np.stack([moves[x, 0], moves[y, 1], moves[z, 2]], axis=1)
    return best.astype(np.float64), values - prior.costs(trials), places
