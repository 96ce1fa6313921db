"""Where points of the specimen are seen in the images of a tilt series: beads, patches, or what a person marked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracks:
    """One row an observation: point `points[i]` is seen in tilt `tilts[i]` at `positions_angstrom[i]`."""

    points: Indices
    """(observation,), any whole numbers from 0; the name of a point."""
    tilts: Indices
    """(observation,), positions in the series' ascending order of tilts."""
    positions_angstrom: FloatArray
    """(observation, 2), x and y from the image centre (pixel ``n // 2``), y up."""
    covariance: FloatArray
    """(observation, 2, 2), A^2: how well each position was measured."""

    def __post_init__(self) -> None:
        n = len(self.points)
        if self.tilts.shape != (n,) or self.positions_angstrom.shape != (n, 2) or self.covariance.shape != (n, 2, 2):
            raise ShapeError(
                f"Tracks need one tilt, position and covariance for each of their {n} observations; got shapes "
                f"{self.tilts.shape}, {self.positions_angstrom.shape} and {self.covariance.shape}."
            )
        if not (np.isfinite(self.positions_angstrom).all() and np.isfinite(self.covariance).all()):
            raise InputError("A track holds NaN or infinity. Remove that row, or mark the point again.")

    @classmethod
    def build(
        cls,
        points: ArrayLike,
        tilts: ArrayLike,
        positions_angstrom: ArrayLike,
        *,
        sigma_angstrom: ArrayLike = 1.0,
        covariance: ArrayLike | None = None,
    ) -> Self:
        """From arrays of any kind; `sigma_angstrom`, one number or one an observation, where no covariance is given."""
        name = np.asarray(points, dtype=np.int64).reshape(-1)
        sigma = np.broadcast_to(np.asarray(sigma_angstrom, dtype=np.float64), name.shape)
        spread = sigma[:, None, None] ** 2 * np.eye(2) if covariance is None else np.asarray(covariance, np.float64)
        return cls(
            points=name,
            tilts=np.asarray(tilts, dtype=np.int64).reshape(-1),
            positions_angstrom=np.asarray(positions_angstrom, dtype=np.float64).reshape(-1, 2),
            covariance=spread,
        )

    def __len__(self) -> int:
        return len(self.points)

    @property
    def names(self) -> Indices:
        """(point,), the points that are seen at all, ascending."""
        return np.unique(self.points)

    def take(self, rows: ArrayLike) -> Self:
        """Some of the observations: a mask or row numbers."""
        pick = np.asarray(rows)
        return replace(
            self,
            points=self.points[pick],
            tilts=self.tilts[pick],
            positions_angstrom=self.positions_angstrom[pick],
            covariance=self.covariance[pick],
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All observations of several tracks; points of different parts get names of their own."""
        names, offset = [], 0
        for part in parts:
            names.append(part.points + offset)
            offset += int(part.points.max()) + 1 if len(part) else 0
        return cls(
            points=np.concatenate([np.zeros(0, np.int64), *names]),
            tilts=np.concatenate([np.zeros(0, np.int64), *(p.tilts for p in parts)]),
            positions_angstrom=np.concatenate([np.zeros((0, 2)), *(p.positions_angstrom for p in parts)]),
            covariance=np.concatenate([np.zeros((0, 2, 2)), *(p.covariance for p in parts)]),
        )
