"""How one map is to be turned and moved to lie on another: frames that no reference ties together."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.align_reference import AlignReference
from eucentric.errors import ShapeError
from eucentric.geometry.so3 import local_rotations, sample_rotations
from eucentric.projection.turned import CubeSamples, read_turned
from eucentric.typing import FloatArray

_FIRST_DEG, _LAST_DEG = 12.0, 0.2
_MOST_STEPS = 40
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Superposition:
    """``moving(Q x + c)`` is like ``fixed(x)``."""

    rotation: FloatArray
    """(3, 3) Q."""
    move: FloatArray
    """(3,) c, voxels."""
    likeness: float
    """Correlation of both, shells white; 1 alike."""


def superpose_maps(
    fixed: Float[Tensor, "n n n"],
    moving: Float[Tensor, "n n n"],
    voxel_size: float,
    *,
    detail_angstrom: float,
    diameter_angstrom: float,
) -> Superposition:
    """Turn and move that bring one map onto another, of all there are.

    Parameters
    ----------
    fixed, moving : masked, about the middle
    detail_angstrom : finest detail that is compared
    diameter_angstrom : of the particle

    Raises
    ------
    ShapeError : maps of different shapes
    """
    if fixed.shape != moving.shape:
        raise ShapeError(f"Maps of {tuple(fixed.shape)} and {tuple(moving.shape)} voxels cannot be superposed.")
    samples = CubeSamples.below(voxel_size / detail_angstrom, fixed.shape[0], fixed)
    pair = [
        AlignReference.build(m, voxel_size, low_pass_angstrom=detail_angstrom, diameter_angstrom=diameter_angstrom)
        for m in (fixed, moving)
    ]
    own, other = (read_turned(r.transform, samples, np.eye(3)[None])[0] for r in pair)
    shell = (samples.frequencies.norm(dim=1) * fixed.shape[0]).round().long()
    level = [
        torch.zeros(int(shell.max()) + 1).to(own.real).index_add_(0, shell, v.abs().square()) for v in (own, other)
    ]
    weight = samples.shares / (level[0] * level[1]).sqrt().clamp_min(1e-30)[shell] * (shell > 0)
    held = own.conj() * weight

    def likeness(turns: FloatArray, move: FloatArray) -> FloatArray:
        phase = -2.0 * math.pi * (samples.frequencies @ torch.from_numpy(move).to(samples.frequencies))
        shifted = held * torch.polar(torch.ones_like(phase), phase)
        out = [
            (read_turned(pair[1].transform, samples, turns[i : i + _AT_ONCE]) * shifted).real.sum(1)
            for i in range(0, len(turns), _AT_ONCE)
        ]
        return torch.cat(out).cpu().double().numpy()

    whole = math.sqrt(float((own.abs().square() * weight).sum()) * float((other.abs().square() * weight).sum()))
    turn, move, best = np.eye(3), np.zeros(3), -math.inf
    trials, step, tried = np.concatenate([np.eye(3)[None], sample_rotations(_FIRST_DEG)]), _FIRST_DEG, 0
    radius = 0.5 * diameter_angstrom / voxel_size
    while step > _LAST_DEG and tried < _MOST_STEPS:
        before, tried = best, tried + 1
        values = likeness(trials, move)
        turn, best = trials[int(values.argmax())], float(values.max())
        for axis in np.concatenate([np.eye(3), -np.eye(3)]) * math.radians(step) * radius:
            value = float(likeness(turn[None], move + axis)[0])
            if value > best:
                move, best = move + axis, value
        if best <= before:
            step *= 0.5
        trials = local_rotations(1.5 * step, step) @ turn
    return Superposition(rotation=turn.T, move=-turn.T @ move, likeness=best / max(whole, 1e-30))
