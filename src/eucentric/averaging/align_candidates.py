"""Orientations and places to be tried, and which of them are followed up, from coarse steps at low frequencies to fine ones.

A step of an angle moves the rim of a particle by half its diameter times that angle, so only detail about as coarse as that
tells one orientation of a grid from the next. Each stage halves the step, doubles the frequency, and follows up what the
stage before left likely.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.averaging.align_params import AlignParams
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


def relative_rotations(params: AlignParams, step: float, symmetry: str) -> FloatArray:
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
        self._kept = params.kept

    def candidates(self, seen: list[ParticleSamples]) -> list[Candidates]:
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
            out.append(Candidates(rotations=self.rotations[best], moves=self.moves[at[best]], scores=row[best]))
        return out


def _likely(scores: FloatArray, most: int) -> np.ndarray:
    """Numbers of the best scores, best first: log-likelihoods are half their squares."""
    best = np.argsort(-scores)[:most]
    value = 0.5 * np.square(np.clip(scores[best], 0.0, None))
    return np.asarray(best[value >= value[0] - max(_UNLIKELY, _MISSED * value[0])])


def first_candidates(
    reference: AlignReference,
    volumes: VolumeSamples,
    seen: ParticleSamples,
    trials: FloatArray,
    stage: Stage,
    params: AlignParams,
) -> Candidates:
    """The likeliest of some orientations, each with its best place."""
    line = _moves(params.shift_angstrom / reference.voxel_size_angstrom, stage.move_voxels)
    scores, moves = _scored(reference, volumes, seen, trials, np.repeat(line[:, None], 3, axis=1))
    best = _likely(scores, params.kept)
    return Candidates(rotations=trials[best], moves=moves[best], scores=scores[best])


def narrowed(
    reference: AlignReference, volumes: VolumeSamples, seen: ParticleSamples, found: Candidates, stage: Stage
) -> Candidates:
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
    best = _likely(every, max(CLIMBED, math.ceil(len(found.scores) / _NARROWING)))
    return Candidates(rotations=np.concatenate(rotations)[best], moves=np.concatenate(moves)[best], scores=every[best])


def _scored(
    reference: AlignReference, volumes: VolumeSamples, seen: ParticleSamples, trials: FloatArray, moves: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Best score of each orientation over the places (move, 3), and that place."""
    grid = volumes.scaled_moves(torch.from_numpy(moves))
    scores = score_turned(reference.transform, volumes.samples, trials, seen.data, seen.power, grid)
    best, place = scores.reshape(len(trials), -1).max(1)
    z, y, x = np.unravel_index(place.cpu().numpy(), tuple(scores.shape[1:]))
    return best.cpu().double().numpy(), np.stack([moves[x, 0], moves[y, 1], moves[z, 2]], axis=1)
