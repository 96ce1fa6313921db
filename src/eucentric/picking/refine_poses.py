r"""Orientation and place of candidates, made finer against the tomogram at its full sampling.

First a grid of small turns and moves about each candidate, on the frequencies that such a step can tell apart; then steps
uphill from the best of it. With the copy u of a pose, its slopes J and the data y, the score is :math:`s = \langle y, u \rangle
/ |u|`, and what of the slopes is not along u itself, :math:`J' = J - u \langle u, J \rangle / |u|^2`, gives its gradient and,
with the noise averaged away, its curvature (Fisher scoring):

.. math:: \delta = \frac{|u|^2}{\langle y, u \rangle} \, \langle J', J' \rangle^{-1} \, \langle J', y \rangle .
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.geometry.so3 import local_rotations
from eucentric.picking.rotated_templates import FourierTemplate
from eucentric.projection.turned import CubeSamples, score_turned, slope_sums
from eucentric.typing import FloatArray

_MOST_STEPS = 12
_FINEST_PART = 0.05  # of the fine step and of a voxel: smaller moves end the climb
_EARLIER_PART = 0.2  # the same of climbs that another one follows
_NEAR_NYQUIST = 0.4  # cycles a voxel: detail finer than this is taken together with all
_MOVES = np.arange(-2.0, 3.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Poses:
    """Candidates."""

    positions_angstrom: FloatArray
    """(candidate, 3), x, y, z from the specimen centre."""
    rotations: FloatArray
    """(candidate, 3, 3)."""
    scores: FloatArray
    """(candidate,), standard deviations of white noise."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Search:
    """What all candidates of a template share."""

    volume: Float[Tensor, "z y x"]
    voxel: float
    template: FourierTemplate
    gain_at: Callable[[float], Tensor]
    mask_at: Callable[[FloatArray], Tensor]
    stages: tuple[CubeSamples, ...]
    """Of the grid, and of each climb."""
    step_deg: float
    shift: float
    """Voxels."""
    fine_step_deg: float


def refine_poses(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    template: FourierTemplate,
    gain_at: Callable[[float], Float[Tensor, "c c half_c"]],
    mask_at: Callable[[FloatArray], Float[Tensor, "c c c"]],
    poses: Poses,
    *,
    diameter_angstrom: float,
    step_deg: float,
    shift_angstrom: float,
    fine_step_deg: float,
) -> Poses:
    """Try orientations and places around each candidate, then climb to the greatest score nearby.

    Parameters
    ----------
    volume : whitened
    gain_at : transfer and whitening for a height in A, on the samples of the cube's rfftn
    mask_at : of the cube for an orientation (3, 3); data outside does not count
    diameter_angstrom : of the template: with an angle, it tells which detail that angle moves
    step_deg, shift_angstrom : how far the candidates may be off
    fine_step_deg : the climb ends when it moves by less than a twentieth of this
    """
    side = template.samples.side
    detail = [diameter_angstrom * math.radians(part * step_deg) for part in (0.5, 0.25)]
    like = template.samples.frequencies
    stages = [CubeSamples.below(voxel_size / d, side, like) for d in detail if voxel_size / d < _NEAR_NYQUIST]
    stages.append(template.samples)
    search = _Search(
        volume=volume,
        voxel=voxel_size,
        template=template,
        gain_at=gain_at,
        mask_at=mask_at,
        stages=tuple(stages),
        step_deg=step_deg,
        shift=shift_angstrom / voxel_size,
        fine_step_deg=fine_step_deg,
    )
    count = len(poses.scores)
    threads = torch.get_num_threads() if volume.device.type == "cpu" else 1
    # torch's own threads would wait for each other in such small cubes
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = list(pool.map(_refined, [search] * count, poses.positions_angstrom, poses.rotations))
    if not rows:
        return poses
    return Poses(
        positions_angstrom=np.stack([r[0] for r in rows]),
        rotations=np.stack([r[1] for r in rows]),
        scores=np.array([r[2] for r in rows]),
    )


def _refined(search: _Search, place: FloatArray, rotation: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Position, rotation and score of one candidate; a score of minus infinity where the volume is empty."""
    side, voxel = search.template.samples.side, search.voxel
    middle = np.array([n // 2 for n in reversed(search.volume.shape)])
    corner = np.round(place / voxel).astype(int) + middle - side // 2
    box = _box(search.volume, corner, side)
    gain = search.gain_at(float(place[2])).reshape(-1)
    origin = (corner - middle + side // 2) * voxel
    move = (place - origin) / voxel
    spectrum = _windowed(box, search.mask_at(rotation))
    if spectrum is None:
        return place, rotation, -math.inf
    samples = search.stages[0]
    trials = local_rotations(search.step_deg, 0.5 * search.step_deg) @ rotation
    moves = move + 0.5 * search.shift * _MOVES[:, None]
    data, power = _weighted(samples, spectrum, gain)
    scores = score_turned(search.template.transform, samples, trials, data, power, torch.from_numpy(moves))
    best, z, y, x = np.unravel_index(int(scores.argmax()), tuple(scores.shape))
    rotation, move = trials[best], np.array([moves[x, 0], moves[y, 1], moves[z, 2]])
    for samples in search.stages:
        spectrum = _windowed(box, search.mask_at(rotation))
        if spectrum is None:
            return place, rotation, -math.inf
        part = _FINEST_PART if samples is search.stages[-1] else _EARLIER_PART
        rotation, move = _climb(search, samples, rotation, move, *_weighted(samples, spectrum, gain), part)
    return origin + move * voxel, rotation, _score(search, box, gain, rotation, move)


def _climb(
    search: _Search,
    samples: CubeSamples,
    rotation: FloatArray,
    move: FloatArray,
    data: Tensor,
    power: Tensor,
    part: float,
) -> tuple[FloatArray, FloatArray]:
    """Orientation and place, in voxels, of the greatest score nearby; ends with moves below a part of step and voxel."""
    reach, finest = math.radians(0.5 * search.step_deg), math.radians(search.fine_step_deg) * part
    transform, factors = search.template.transform, 2.0 * math.pi * samples.frequencies
    damping = 0.03

    def sums_at(turn: FloatArray, place: FloatArray) -> tuple[FloatArray, float]:
        phase = factors @ torch.from_numpy(place).to(factors)
        sums = slope_sums(transform, samples, turn, data * torch.polar(torch.ones_like(phase), phase), power)
        return sums, float(sums[0, 7] / math.sqrt(max(sums[0, 0], 1e-30)))

    sums, score = sums_at(rotation, move)
    for _ in range(_MOST_STEPS):
        norm, overlap, along = sums[0, 0], sums[0, 7], sums[0, 1:7]
        if overlap <= 0.0 or norm <= 0.0:
            break
        square = sums[1:7, 1:7] - np.outer(along, along) / norm
        slope = sums[1:7, 7] - along * (overlap / norm)
        diagonal = np.maximum(np.diag(square), 1e-9 * norm)
        step = np.linalg.solve(square + np.diag(damping * diagonal), slope) * (norm / overlap)
        step[3:] /= 2.0 * math.pi
        largest = max(np.linalg.norm(step[:3]) / reach, np.linalg.norm(step[3:]) / max(1.0, 0.5 * search.shift))
        step /= max(1.0, float(largest))
        turned = _ScipyRotation.from_rotvec(step[:3]).as_matrix() @ rotation
        tried, value = sums_at(turned, move + step[3:])
        if value > score:
            rotation, move, sums, score = turned, move + step[3:], tried, value
            damping = max(0.1 * damping, 1e-4)
        else:
            damping = 10.0 * max(damping, 0.01)
        if np.linalg.norm(step[:3]) < finest and np.linalg.norm(step[3:]) < part:
            break
    return rotation, move


def _score(search: _Search, box: Tensor, gain: Tensor, rotation: FloatArray, move: FloatArray) -> float:
    """As of the search: the copy of zero mean under the mask and unit norm, the data's deviation under the mask."""
    template, mask = search.template, search.mask_at(rotation)
    copy = template.rotated(rotation[None]) * gain[template.samples.inside]
    value = template.boxes(copy, torch.from_numpy(move[None]).to(mask))[0]
    total = mask.sum()
    row = mask * (value - (mask * value).sum() / total)
    level = (mask * box).sum() / total
    deviation = ((mask * (box - level).square()).sum() / total).sqrt()
    if float(deviation) <= 0.0:
        return -math.inf
    return float((row * box).sum() / (row.norm().clamp_min(1e-20) * deviation))


def _windowed(box: Float[Tensor, "c c c"], mask: Float[Tensor, "c c c"]) -> Complex[Tensor, " samples"] | None:
    """Transform of the data under the mask, its mean taken off, phases from the middle; None of an even box."""
    level = (box * mask).sum() / mask.sum()
    data = (box - level) * mask
    if float(data.abs().max()) <= 0.0:
        return None
    spectrum: Tensor = torch.fft.rfftn(torch.fft.ifftshift(data)).reshape(-1)
    return spectrum


def _weighted(samples: CubeSamples, spectrum: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    weight = gain[samples.inside]
    return spectrum[samples.inside] * (weight * samples.shares), weight.square() * samples.shares


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
