"""Affine maps of points in two or three dimensions."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Points x go to ``matrix x + offset``."""

    matrix: FloatArray
    """(d, d)."""
    offset: FloatArray
    """(d,)."""

    def __call__(self, points: ArrayLike) -> FloatArray:
        """(n, d) where points (n, d) go."""
        return np.asarray(np.asarray(points, dtype=np.float64) @ self.matrix.T + self.offset)

    @property
    def inverse(self) -> "Affine":
        """The way back."""
        back = np.asarray(np.linalg.inv(self.matrix), dtype=np.float64)
        return Affine(matrix=back, offset=-back @ self.offset)

    def after(self, first: "Affine") -> "Affine":
        """What `first` gives, mapped on by this one."""
        return Affine(matrix=self.matrix @ first.matrix, offset=self.matrix @ first.offset + self.offset)

    @property
    def scale(self) -> float:
        """Length of an image over that of what is mapped, in the mean over directions."""
        return float(abs(np.linalg.det(self.matrix)) ** (1 / len(self.offset)))

    @property
    def is_mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def angle_deg(self) -> float:
        """Turn of the plane in degrees, from x towards y, after the mirror (of y) where there is one; of x and y alone in space."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))
