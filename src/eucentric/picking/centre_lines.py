"""Smooth lines in space with a frame that is carried along them without turning. numpy, A."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from eucentric.errors import InputError
from eucentric.typing import FloatArray

_FINE = 200  # samples of a spline between two points given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CentreLine:
    """Samples of a line, and the frame at each: x and y across, z along; right-handed, x turning as little as it can."""

    track_angstrom: FloatArray
    """(sample,), arc length from the first point."""
    places: FloatArray
    """(sample, 3), A."""
    frames: FloatArray
    """(sample, 3, 3); columns x, y, z."""

    @property
    def length_angstrom(self) -> float:
        return float(self.track_angstrom[-1])

    def at(self, track_angstrom: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Places (n, 3) and frames (n, 3, 3) at arc lengths; straight on beyond the ends."""
        s = np.asarray(track_angstrom, dtype=np.float64)
        inside = np.clip(s, 0.0, self.length_angstrom)
        places = np.stack([np.interp(inside, self.track_angstrom, self.places[:, k]) for k in range(3)], axis=1)
        x, z = (
            np.stack([np.interp(inside, self.track_angstrom, self.frames[:, k, c]) for k in range(3)], axis=1)
            for c in (0, 2)
        )
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        x -= np.einsum("ni,ni->n", x, z)[:, None] * z
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return places + (s - inside)[:, None] * z, np.stack([x, np.cross(z, x), z], axis=2)


def centre_line(points_angstrom: ArrayLike) -> CentreLine:
    """A cubic spline through points, sampled finely by arc length; a straight line through two.

    Parameters
    ----------
    points_angstrom : (point, 3), in order; a point that repeats the one before is passed over

    Raises
    ------
    InputError : less than two different points
    """
    line = np.asarray(points_angstrom, dtype=np.float64).reshape(-1, 3)
    line = line[np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-6])] if len(line) else line
    if len(line) < 2:
        raise InputError("A filament needs two different points or more.")
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    fine = np.linspace(0.0, chord[-1], _FINE * (len(line) - 1) + 1)
    straight = line[0] + (fine / chord[-1])[:, None] * (line[1] - line[0])
    path = np.asarray(CubicSpline(chord, line)(fine)) if len(line) > 2 else straight
    track = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = _carried_along(tangent)
    frames = np.stack([side, np.cross(tangent, side), tangent], axis=2)
    return CentreLine(track_angstrom=track, places=path, frames=frames)


def _carried_along(tangent: FloatArray) -> FloatArray:
    """A vector across a line at each of its points that does not turn about it (to first order of the steps)."""
    side = np.empty_like(tangent)
    across = np.eye(3)[0 if abs(tangent[0, 0]) < 0.9 else 1]
    side[0] = across - (across @ tangent[0]) * tangent[0]
    side[0] /= np.linalg.norm(side[0])
    for i in range(1, len(tangent)):
        v = side[i - 1] - (side[i - 1] @ tangent[i]) * tangent[i]
        side[i] = v / np.linalg.norm(v)
    return side
