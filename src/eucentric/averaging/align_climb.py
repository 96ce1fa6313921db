r"""Continuous refinement of one pose by the gradient of its likelihood.

With the copy U of a pose, its slopes J, the data d and the weights w, and the contrast of each particle left free, the
log-likelihood is :math:`x^2 / 2p` with :math:`x = \sum \mathrm{Re}\,d \bar U` and :math:`p = \sum w |U|^2`. What of the
slopes is not along U itself, :math:`J' = J - U \langle J, U \rangle_w / p`, gives its gradient, :math:`(x / p)\,(\langle J, d
\rangle - x \langle J, U \rangle_w / p)`, and, with the noise averaged away, its curvature, :math:`(x / p)^2 \langle J', J'
\rangle_w` (Fisher scoring). Given poses may weigh as normal priors.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation as _ScipyRotation
from torch import Tensor

from eucentric.averaging.align_prior import Prior
from eucentric.averaging.align_samples import ParticleSamples
from eucentric.projection.turned import slope_sums
from eucentric.typing import FloatArray

_MOST_STEPS = 15
_FINEST_RAD, _FINEST_VOXELS = math.radians(0.02), 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClimbedPose:
    """The best pose near a start."""

    rotation: FloatArray
    move: FloatArray
    """(3,), voxels."""
    score: float
    """x over the root of p."""
    log_likelihood: float
    """With the prior."""
    sigma_rad: float
    sigma_voxels: float


def climb_pose(
    transform: Tensor,
    seen: ParticleSamples,
    rotation: FloatArray,
    move: FloatArray,
    prior: Prior,
    *,
    reach_rad: float,
    reach_voxels: float,
) -> ClimbedPose:
    """Steps uphill from a pose until they are smaller than 0.02 degrees and 0.01 voxels.

    Parameters
    ----------
    transform : of the reference, see :class:`~eucentric.averaging.align_reference.AlignReference`
    seen : of the particle, phases from its given place
    rotation, move : the start; (3, 3), and (3,) in voxels of the box
    reach_rad, reach_voxels : longest single step
    """
    factors = 2.0 * math.pi * seen.samples.frequencies

    def sums_at(turned: FloatArray, moved: FloatArray) -> tuple[FloatArray, float, FloatArray]:
        phase = factors @ torch.from_numpy(moved).to(factors)
        sums = slope_sums(
            transform, seen.samples, turned, seen.data * torch.polar(torch.ones_like(phase), phase), seen.power
        )
        # moves come over 2 pi
        sums[4:7] *= 2.0 * math.pi
        sums[:, 4:7] *= 2.0 * math.pi
        cost, slope = prior.cost(turned, moved)
        return sums, 0.5 * max(sums[0, 7], 0.0) ** 2 / max(sums[0, 0], 1e-30) - cost, slope

    move = prior.held(move)
    sums, value, prior_slope = sums_at(rotation, move)
    damping = 0.01
    curvature = _curvature(sums)
    for _ in range(_MOST_STEPS):
        if sums[0, 7] <= 0.0 or sums[0, 0] <= 0.0:
            break
        ratio = sums[0, 7] / sums[0, 0]
        gradient = ratio * (sums[1:7, 7] - sums[0, 1:7] * ratio) - prior_slope
        whole = curvature + prior.curvature
        diagonal = np.maximum(np.diag(whole), 1e-9 * np.diag(whole).max() + 1e-30)
        step = np.linalg.solve(whole + np.diag(damping * diagonal), gradient)
        step /= max(1.0, float(np.linalg.norm(step[:3])) / reach_rad, float(np.linalg.norm(step[3:])) / reach_voxels)
        turned = _ScipyRotation.from_rotvec(step[:3]).as_matrix() @ rotation
        moved = prior.held(move + step[3:])
        tried = sums_at(turned, moved)
        if tried[1] > value:
            rotation, move = turned, moved
            sums, value, prior_slope = tried
            curvature = _curvature(sums)
            damping = max(0.1 * damping, 1e-4)
        else:
            damping = 10.0 * max(damping, 0.01)
        if np.linalg.norm(step[:3]) < _FINEST_RAD and np.linalg.norm(step[3:]) < _FINEST_VOXELS:
            break
    variance = np.diag(np.linalg.pinv(curvature + prior.curvature))
    return ClimbedPose(
        rotation=rotation,
        move=move,
        score=float(sums[0, 7] / math.sqrt(max(sums[0, 0], 1e-30))),
        log_likelihood=value,
        sigma_rad=float(np.sqrt(np.clip(variance[:3].mean(), 0.0, None))),
        sigma_voxels=float(np.sqrt(np.clip(variance[3:].mean(), 0.0, None))),
    )


def _curvature(sums: FloatArray) -> FloatArray:
    """(6, 6) expected curvature of the log-likelihood."""
    norm = max(sums[0, 0], 1e-30)
    square = sums[1:7, 1:7] - np.outer(sums[0, 1:7], sums[0, 1:7]) / norm
    return np.asarray((sums[0, 7] / norm) ** 2 * square)
