"""Orientation and place of candidates, made finer step by step against the tomogram at its full sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.geometry.so3 import local_rotations
from eucentric.picking.rotated_templates import FourierTemplate
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Poses:
    """Candidates."""

    positions_angstrom: FloatArray
    """(candidate, 3), x, y, z from the specimen centre."""
    rotations: FloatArray
    """(candidate, 3, 3)."""
    scores: FloatArray
    """(candidate,), standard deviations of white noise."""


def refine_poses(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    template: FourierTemplate,
    gain_at: Callable[[float], Float[Tensor, "c c half_c"]],
    mask: Float[Tensor, "c c c"],
    poses: Poses,
    *,
    step_deg: float,
    shift_angstrom: float,
    fine_step_deg: float,
) -> Poses:
    """Try orientations and places around each candidate, in steps that halve until they are fine enough.

    Parameters
    ----------
    volume : whitened
    gain_at : transfer and whitening for a height in A, on the samples of the cube's rfftn
    mask : of the cube; data outside does not count
    step_deg, shift_angstrom : how far the candidates may be off
    fine_step_deg : the last angular step is no larger
    """
    side = template.side
    weight = _half_weights(side, template.inside).to(volume)
    factors = template.places / template.size * (2.0 * math.pi / voxel_size)  # radians for each A
    found_positions, found_rotations, found_scores = (
        poses.positions_angstrom.copy(),
        poses.rotations.copy(),
        np.full(len(poses.scores), -np.inf),
    )
    middle = np.array([n // 2 for n in reversed(volume.shape)])
    for row in range(len(poses.scores)):
        place = poses.positions_angstrom[row]
        corner = np.round(place / voxel_size).astype(int) + middle - side // 2
        data = _box(volume, corner, side)
        level = (data * mask).sum() / mask.sum()
        data = (data - level) * mask
        deviation = float((data.square().sum() / mask.square().sum()).sqrt())
        if deviation <= 0.0:
            continue
        spectrum = torch.fft.rfftn(torch.fft.ifftshift(data), norm="ortho").reshape(-1)[template.inside]
        gain = gain_at(float(place[2])).reshape(-1)[template.inside]
        spectrum = spectrum * gain * weight / deviation
        power = gain.square() * weight
        origin = (corner - middle + side // 2) * voxel_size
        best_rotation, best_shift, best = poses.rotations[row], place - origin, -math.inf
        angle, length = step_deg, shift_angstrom
        while True:
            trials = local_rotations(angle, 0.5 * angle) @ best_rotation
            moves = best_shift + length * 0.5 * _CUBE
            copies = template.rotated(trials)
            norms = (copies.abs().square() @ power).sqrt().clamp_min(1e-20)
            phase = factors @ torch.from_numpy(moves.T).to(factors)
            turn = torch.polar(torch.ones_like(phase), phase)
            scores = ((copies.conj() * spectrum) @ turn).real / norms[:, None]
            top = int(scores.argmax())
            best = float(scores.reshape(-1)[top])
            best_rotation, best_shift = trials[top // len(moves)], moves[top % len(moves)]
            angle, length = 0.5 * angle, 0.5 * length
            if angle <= fine_step_deg:
                break
        found_positions[row] = origin + best_shift
        found_rotations[row] = best_rotation
        found_scores[row] = best
    return Poses(positions_angstrom=found_positions, rotations=found_rotations, scores=found_scores)


_CUBE = np.stack(np.meshgrid(*[np.arange(-2.0, 3.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)


def _half_weights(side: int, inside: Tensor) -> Tensor:
    """How many samples of the whole transform each one stands for."""
    x = inside % (side // 2 + 1)
    return torch.where((x == 0) | (x == side // 2), 1.0, 2.0)


def _box(volume: Float[Tensor, "z y x"], corner_xyz: NDArray[np.int64], side: int) -> Tensor:
    """A cube of the volume, zero beyond its edge."""
    out = volume.new_zeros((side,) * 3)
    source, target = [], []
    for axis, n in enumerate(volume.shape):
        low = int(corner_xyz[2 - axis])
        start, stop = max(0, low), min(n, low + side)
        if stop <= start:
            return out
        source.append(slice(start, stop))
        target.append(slice(start - low, stop - low))
    out[tuple(target)] = volume[tuple(source)]
    return out
