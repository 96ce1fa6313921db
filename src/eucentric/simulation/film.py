"""The ice that holds a specimen: a film or lamella between two faces, in specimen coordinates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """Ice of a thickness that may change across the field, about a middle surface that may be bent.

    x and y are counted from the middle of the untilted field of view, in A.
    """

    thickness_angstrom: float
    """At the middle of the field."""
    gradient: tuple[float, float] = (0.0, 0.0)
    """A of thickness for each A along x and y."""
    bend_per_angstrom: tuple[float, float] = (0.0, 0.0)
    """Curvature of the middle surface along x and y: it rises as half of this times the square of the place."""
    hole_centre_angstrom: tuple[float, float] = (0.0, 0.0)
    hole_radius_angstrom: float | None = None
    """Beyond it the film lies on carbon; None for a field without an edge of the carbon film."""
    carbon_angstrom: float = 0.0
    """Thickness of the carbon under the ice beyond the hole."""
    vacuum_beyond_angstrom: float | None = None
    """Where x grows larger than this there is nothing at all; None for ice everywhere."""

    def thickness_at(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Thickness of the ice in A, nowhere negative, zero in the vacuum."""
        across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        thickness = self.thickness_angstrom + self.gradient[0] * across + self.gradient[1] * up
        if self.vacuum_beyond_angstrom is not None:
            thickness = np.where(across > self.vacuum_beyond_angstrom, 0.0, thickness)
        return np.maximum(thickness, 0.0)

    def middle_at(self, x: ArrayLike, y: ArrayLike) -> FloatArray:
        """Height of the middle surface in A."""
        across, up = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        return np.asarray(0.5 * (self.bend_per_angstrom[0] * across**2 + self.bend_per_angstrom[1] * up**2))

    def faces(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Heights of the lower and the upper face of the ice in A."""
        middle, half = self.middle_at(x, y), 0.5 * self.thickness_at(x, y)
        return middle - half, middle + half
