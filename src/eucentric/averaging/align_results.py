"""What alignment returns."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoundPoses:
    """Poses of particles, as found."""

    rotations: FloatArray
    """(particle, 3, 3), reference to specimen."""
    shifts_angstrom: FloatArray
    """(particle, 3), from the given places."""
    scores: FloatArray
    """(particle,), overlap with the reference over its norm: standard deviations of noise; 0 where no image shows it."""
    sigma_deg: FloatArray
    """(particle,), one deviation of a turn about a random axis, from the curvature of the likelihood; NaN without the climb."""
    sigma_angstrom: FloatArray
    """(particle,), one deviation of a move along a random axis; NaN without the climb."""

    evidence: FloatArray | None = None
    """(particle,), log of how much likelier the prior of directions makes the images than any orientation does; NaN where no image
    shows the particle, None where nothing was compared."""

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Poses of several batches, one after another."""
        names = [name for name in cls.__slots__ if name != "evidence"]
        known = None
        if any(p.evidence is not None for p in parts):
            known = np.concatenate(
                [np.full(len(p.scores), np.nan) if p.evidence is None else p.evidence for p in parts]
            )
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names}, evidence=known)

    def select(self, rows: np.ndarray) -> Self:
        """Some of them, by mask or number."""
        names = [name for name in self.__slots__ if name != "evidence"]
        known = None if self.evidence is None else self.evidence[rows]
        return type(self)(**{name: getattr(self, name)[rows] for name in names}, evidence=known)
