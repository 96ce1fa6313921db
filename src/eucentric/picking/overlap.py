"""Molecules do not lie within each other: picks that would are shifted copies of better ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from eucentric.picking.templates import Template
from eucentric.typing import FloatArray

_HELD = 0.7  # of the density, in the voxels that count as solid
_COARSEST = 8.0  # A, of the voxels on which shapes are compared
_MOST = 0.1  # of a molecule that may lie within another: errors of place, and contacts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solid:
    """Where a template is solid."""

    points_angstrom: FloatArray
    """(point, 3), x, y, z from its middle."""
    inside: NDArray[np.float32]
    """(z, y, x), 1 where it is solid, else 0."""
    voxel_size_angstrom: float
    radius_angstrom: float

    @classmethod
    def of_template(cls, template: Template) -> Self:
        """The densest voxels, which together hold most of the density."""
        coarse = template.resampled(max(_COARSEST, template.voxel_size_angstrom))
        density = np.clip(coarse.density.cpu().double().numpy(), 0.0, None)
        falling = np.sort(density, axis=None)[::-1]
        held = np.cumsum(falling)
        level = falling[min(len(falling) - 1, int(np.searchsorted(held, _HELD * held[-1])))]
        inside = (density >= level) & (density > 0)
        side = coarse.voxel_size_angstrom
        return cls(
            points_angstrom=(np.argwhere(inside)[:, ::-1] - density.shape[0] // 2) * side,
            inside=inside.astype(np.float32),
            voxel_size_angstrom=side,
            radius_angstrom=0.5 * template.diameter_angstrom,
        )

    def share_of(self, points_angstrom: FloatArray) -> float:
        """Part of the points (point, 3), in this template's own frame, that lie within it."""
        index = points_angstrom[:, ::-1] / self.voxel_size_angstrom + self.inside.shape[0] // 2
        return float((map_coordinates(self.inside, index.T, order=1) > 0.5).mean())


def apart(
    positions_angstrom: FloatArray, rotations: FloatArray, kinds: NDArray[np.int64], solids: Sequence[Solid | None]
) -> NDArray[np.int64]:
    """Rows of poses that lie in none of those before them by more than a tenth, nor hold a tenth of them.

    Parameters
    ----------
    positions_angstrom, rotations, kinds : (pose, ...), the best first
    solids : of each kind; None where its shape is not known, which overlaps with nothing
    """
    kept: list[int] = []
    for row in range(len(kinds)):
        if not any(_within(row, other, positions_angstrom, rotations, kinds, solids) for other in kept):
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _within(
    row: int,
    other: int,
    positions: FloatArray,
    rotations: FloatArray,
    kinds: NDArray[np.int64],
    solids: Sequence[Solid | None],
) -> bool:
    mine, its = solids[kinds[row]], solids[kinds[other]]
    if mine is None or its is None:
        return False
    gap = positions[row] - positions[other]
    if np.linalg.norm(gap) >= mine.radius_angstrom + its.radius_angstrom:
        return False
    there = (mine.points_angstrom @ rotations[row].T + gap) @ rotations[other]
    back = (its.points_angstrom @ rotations[other].T - gap) @ rotations[row]
    return bool(max(its.share_of(there), mine.share_of(back)) > _MOST)
