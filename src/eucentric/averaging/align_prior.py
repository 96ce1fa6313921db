"""Where the pose of a particle is expected, from what its pick knew: an orientation, a normal, the axis of a filament; a place.

Log priors are in the units of log-likelihoods, so that both add up. A direction known within sigma has the density
exp(-angle^2 / 2 sigma^2): a right prior leaves exp(-x^2 / 2) of all particles beyond x sigma.
"""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.spatial.transform import Rotation as _ScipyRotation

from eucentric.averaging.align_params import AlignParams
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.typing import FloatArray

CONE = 3.0
"""Deviations within which a search of all orientations stays: a right prior leaves a hundredth outside."""
BORDER = 2.5
"""Deviations beyond which a particle lies at the border of its prior: a twenty-third of them where the prior is right."""
_TOLD = 3.0
"""Deviations of the number of particles at the border beyond which a prior is called wrong."""


def _itself() -> FloatArray:
    return np.eye(3)[None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prior:
    """Where a pose is expected: a normal distribution about a given one."""

    rotation: FloatArray
    """(3, 3)."""
    move: FloatArray
    """(3,), voxels."""
    per_rad2: float
    """One over the variance of a turn about each axis, or of the axis' direction; 0 weighs nothing."""
    per_voxel2: float
    copies: FloatArray = field(default_factory=_itself)
    """(copy, 3, 3), the particle's point group: a pose and its copies are the same."""
    own: FloatArray | None = None
    """(axis, 3), directions in the reference of which any may be the given axis; None: the whole orientation is given."""
    direction: FloatArray | None = None
    """(3,), the given axis in the specimen; None as `own`."""
    along_voxels: float = math.inf
    """The place stays that near to the given one along the given axis."""

    @classmethod
    def of(cls, params: AlignParams, rotation: FloatArray, move: FloatArray, voxel: float, symmetry: str) -> Self:
        """As settings say.

        Parameters
        ----------
        rotation, move : (3, 3) and (3,) in voxels, as given
        voxel : A
        symmetry : of the particle
        """
        group = symmetry_rotations(symmetry)
        weighs = 0.0 if params.prior == "none" else 1.0 / math.radians(params.prior_sigma_deg) ** 2
        own = direction = None
        along = math.inf
        if params.of_axes:
            own = own_axes(params, symmetry)
            direction = rotation @ own[0]
            along = params.shift_along_angstrom / voxel or math.inf
        return cls(
            rotation=rotation,
            move=move,
            per_rad2=weighs,
            per_voxel2=(voxel / params.prior_angstrom) ** 2 if params.prior_angstrom else 0.0,
            copies=group,
            own=own,
            direction=direction,
            along_voxels=along,
        )

    def cost(self, rotation: FloatArray, move: FloatArray) -> tuple[float, FloatArray]:
        """Minus the log of it, and its gradient by turns (rad) and moves (voxels)."""
        turn = self._turn(rotation) if self.per_rad2 else np.zeros(3)
        away = move - self.move
        value = 0.5 * (self.per_rad2 * float(turn @ turn) + self.per_voxel2 * float(away @ away))
        return value, np.concatenate([self.per_rad2 * turn, self.per_voxel2 * away])

    def costs(self, rotations: FloatArray) -> FloatArray:
        """(trial,) minus the log of it for orientations (trial, 3, 3), places left out."""
        if not self.per_rad2:
            return np.zeros(len(rotations))
        return np.asarray(0.5 * self.per_rad2 * np.square(self.away_rad(rotations)))

    def away_rad(self, rotations: FloatArray) -> FloatArray:
        """(trial,) angle from the given orientation, or from the given axis, to the nearest copy of each."""
        if self.own is not None and self.direction is not None:
            cosine = np.einsum("nij,aj,i->na", rotations, self.own, self.direction).max(1)
            return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)))
        trace = np.einsum("nij,gjk,ik->ng", rotations, self.copies, self.rotation).max(1)
        return np.asarray(np.arccos(np.clip(0.5 * (trace - 1.0), -1.0, 1.0)))

    def place_costs(self, moves: FloatArray, slack_voxels: float) -> FloatArray | None:
        """(z, y, x) minus the log of it for places whose coordinates take the values (move, 3); None where all weigh alike.

        Parameters
        ----------
        slack_voxels : half the distance of neighbouring values: places are infinitely dear where nothing within it is allowed
        """
        if not self.per_voxel2 and not math.isfinite(self.along_voxels):
            return None
        x, y, z = (moves - self.move).T
        cost: FloatArray = 0.5 * self.per_voxel2 * (z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
        if self.direction is not None and math.isfinite(self.along_voxels):
            a, b, c = self.direction
            along = np.abs(c * z[:, None, None] + b * y[:, None] + a * x)
            far = along > self.along_voxels + slack_voxels * np.abs(self.direction).sum() + 1e-6
            # the nearest are allowed in any case
            cost = np.where(far & (along > along.min() + 1e-6), math.inf, cost)
        return cost

    def held(self, move: FloatArray) -> FloatArray:
        """The nearest place that is allowed."""
        if self.direction is None or not math.isfinite(self.along_voxels):
            return move
        along = float((move - self.move) @ self.direction)
        beyond = along - float(np.clip(along, -self.along_voxels, self.along_voxels))
        return np.asarray(move - beyond * self.direction)

    def _turn(self, rotation: FloatArray) -> FloatArray:
        """Rotation vector from the given orientation, or from the given axis, to this one or its nearest copy."""
        if self.own is None or self.direction is None:
            turned = rotation @ self.copies
            nearest = int(np.argmax(np.einsum("gij,ij->g", turned, self.rotation)))
            return np.asarray(_ScipyRotation.from_matrix(turned[nearest] @ self.rotation.T).as_rotvec())
        axes = self.own @ rotation.T
        axis = axes[int(np.argmax(axes @ self.direction))]
        across = np.cross(self.direction, axis)
        length = float(np.linalg.norm(across))
        return np.asarray(across * (math.atan2(length, float(self.direction @ axis)) / max(length, 1e-12)))

    @property
    def curvature(self) -> FloatArray:
        """(6, 6), of it; at most."""
        out = np.diag(np.repeat([self.per_rad2, self.per_voxel2], 3))
        if self.direction is not None:
            out[:3, :3] -= self.per_rad2 * np.outer(self.direction, self.direction)  # free to turn about it
        return out


def own_axes(params: AlignParams, symmetry: str) -> FloatArray:
    """(axis, 3), the directions in the reference that the given axis may be: copies by symmetry, and of both signs for `axis`."""
    given = np.asarray(params.own_axis) / np.linalg.norm(params.own_axis)
    every = symmetry_rotations(symmetry) @ given
    return np.asarray(np.concatenate([every, -every]) if params.prior == "axis" else every)


def either_way(params: AlignParams, symmetry: str) -> bool:
    """Whether the axis is of unknown sign, and particles look different upside down."""
    own = own_axes(params, symmetry)[0]
    return params.prior == "axis" and not (symmetry_rotations(symmetry) @ own @ own < -1.0 + 1e-6).any()


def cone_rotations(params: AlignParams, symmetry: str, reach_deg: float, step_deg: float) -> FloatArray:
    """(n, 3, 3), turns of the reference that leave its own axis within a reach, none first.

    Tilts of the axis on a square grid, each with all turns about it. Where the sign of the axis is not known, the second half of them
    are the same upside down.
    """
    axes = own_axes(params, symmetry)
    own = axes[0]
    group = symmetry_rotations(symmetry) @ own
    order = max(1, int((group @ own > 1.0 - 1e-6).sum()))
    first = np.cross(own, np.eye(3)[int(np.argmin(np.abs(own)))])
    first /= np.linalg.norm(first)
    second = np.cross(own, first)
    steps = math.floor(reach_deg / step_deg + 1e-9)
    line = step_deg * np.arange(-steps, steps + 1)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    length = np.linalg.norm(grid, axis=1)
    grid = grid[np.argsort(length, kind="stable")][: int((length <= reach_deg * (1.0 + 1e-9)).sum())]
    tilts = _ScipyRotation.from_rotvec(np.deg2rad(grid) @ np.stack([first, second])).as_matrix()
    count = max(1, math.ceil(360.0 / order / step_deg - 1e-9))
    turns = _ScipyRotation.from_rotvec(2.0 * math.pi * np.arange(count)[:, None] / (count * order) * own).as_matrix()
    if either_way(params, symmetry):
        over = _ScipyRotation.from_rotvec(math.pi * first).as_matrix()
        turns = np.stack([turns, turns @ over])
    else:
        turns = turns[None]
    return np.asarray((tilts[:, None] @ turns[:, None]).reshape(-1, 3, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCheck:
    """How many particles lie where a right prior leaves few."""

    particles: int
    at_border: int
    """Beyond :data:`BORDER` deviations."""

    @property
    def wrong(self) -> bool:
        """More of them than chance leaves a right prior, by three deviations of their number."""
        part = expected_at_border()
        most = part * self.particles + _TOLD * math.sqrt(part * (1.0 - part) * self.particles)
        return self.at_border > most


def expected_at_border() -> float:
    """Part of the particles beyond :data:`BORDER` deviations of a right prior of directions."""
    return math.exp(-0.5 * BORDER**2)


def check_prior(params: AlignParams, found: FloatArray, given: FloatArray, symmetry: str) -> PriorCheck | None:
    """Poses found against a prior of directions; None where there is no such prior.

    Parameters
    ----------
    found, given : (particle, 3, 3)
    """
    if not params.of_axes or not len(found):
        return None
    away = [
        Prior.of(params, about, np.zeros(3), 1.0, symmetry).away_rad(pose[None])[0]
        for pose, about in zip(found, given, strict=True)
    ]
    beyond = np.degrees(away) > BORDER * params.prior_sigma_deg
    return PriorCheck(particles=len(found), at_border=int(beyond.sum()))
