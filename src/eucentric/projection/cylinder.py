"""A volume on cylinders about its z axis, and back: where turns and moves along the axis are shifts of a transform. numpy."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d
from scipy.sparse import csr_matrix
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import ShapeError
from eucentric.fourier.crop import fourier_pad
from eucentric.typing import FloatArray

_FINER = 2
"""Samples to a voxel, along the radius and across z for reading: cubic splines are then true to 1% up to Nyquist."""
_AROUND = 1.3  # samples to a voxel of the outermost arc
_MIRRORED = 12  # samples beyond the axis, for the splines


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cylinders:
    """Densities around an axis; z and angles as in the volume, voxel ``n // 2`` at z = 0."""

    values: Float[np.ndarray, "z radius angle"]
    """Angles from x to y, the first at 0."""
    voxel_size_angstrom: float

    @property
    def size(self) -> int:
        """Voxels along each edge of the volume."""
        return int(self.values.shape[0])

    @property
    def radii_angstrom(self) -> FloatArray:
        """(radius,), A."""
        step = self.voxel_size_angstrom / _FINER
        return np.asarray(step * (np.arange(self.values.shape[1]) + 0.5))

    @property
    def heights_angstrom(self) -> FloatArray:
        """(z,), A."""
        n = self.size
        return np.asarray(self.voxel_size_angstrom * (np.arange(n) - n // 2))

    @classmethod
    def of(cls, volume: Float[Tensor, "n n n"], voxel_size_angstrom: float) -> "Cylinders":
        """Sample a cube of even size.

        Raises
        ------
        ShapeError : no such cube
        """
        n = volume.shape[0]
        if tuple(volume.shape) != (n, n, n) or n % 2 or n < 8:
            raise ShapeError(f"A volume of {tuple(volume.shape)} was given; expected a cube of even size, 8 or more.")
        fine = fourier_pad(volume.detach().cpu().float(), (n, _FINER * n, _FINER * n)).numpy()
        for axis in (1, 2):
            fine = spline_filter1d(fine, axis=axis, mode="grid-wrap", output=np.float32)
        values = fine.reshape(n, -1) @ _reading(n).T
        return cls(values=np.ascontiguousarray(values.reshape(n, *_shape(n))), voxel_size_angstrom=voxel_size_angstrom)

    def volume(self) -> Float[Tensor, "n n n"]:
        """The cube that these cylinders are of; zero beyond the outermost."""
        n, angles = self.size, self.values.shape[2]
        # beyond the axis lies the other side
        mirrored = np.roll(self.values[:, :_MIRRORED][:, ::-1], angles // 2, axis=2)
        lines = np.concatenate([mirrored, self.values], axis=1)
        lines = spline_filter1d(lines, axis=1, mode="mirror", output=np.float32)
        lines = spline_filter1d(lines, axis=2, mode="grid-wrap", output=np.float32)
        out = lines.reshape(n, -1) @ _writing(n).T
        return torch.from_numpy(np.ascontiguousarray(out.reshape(n, n, n), dtype=np.float32))

    def with_values(self, values: NDArray[np.float32]) -> "Cylinders":
        return replace(self, values=values)


def _shape(n: int) -> tuple[int, int]:
    """Radii and angles for a cube."""
    radii = _FINER * (n // 2 - 1)
    angles = good_size(math.ceil(_AROUND * 2.0 * math.pi * radii / _FINER))
    return radii, angles + angles % 2


@lru_cache(maxsize=2)
def _reading(n: int) -> csr_matrix:
    """(radius x angle, y x x) of a plane that is `_FINER` times as fine."""
    radii, angles = _shape(n)
    r = np.arange(radii) + 0.5
    angle = 2.0 * np.pi * np.arange(angles) / angles
    middle = _FINER * n // 2
    x, y = (np.outer(r, f(angle)).reshape(-1) + middle for f in (np.cos, np.sin))
    return _splines(y, x, (_FINER * n, _FINER * n))


@lru_cache(maxsize=2)
def _writing(n: int) -> csr_matrix:
    """(y x x, radius x angle), radii from `_MIRRORED` samples beyond the axis on."""
    radii, angles = _shape(n)
    line = np.arange(n) - n // 2
    y, x = (part.reshape(-1).astype(np.float64) for part in np.meshgrid(line, line, indexing="ij"))
    r = _FINER * np.hypot(x, y) - 0.5
    turn = np.mod(np.arctan2(y, x) / (2.0 * np.pi) * angles, angles)
    inside = r <= radii - 2.0
    return _splines(r + _MIRRORED, turn, (radii + _MIRRORED, angles), inside)


def _splines(
    rows: FloatArray, columns: FloatArray, shape: tuple[int, int], inside: NDArray[np.bool_] | None = None
) -> csr_matrix:
    """(point, cell) weights of cubic B-splines at points of a plane; periodic."""
    kept = np.ones(len(rows), dtype=bool) if inside is None else inside
    point = np.flatnonzero(kept)
    base, part = (np.floor(v[point]) for v in (rows, columns)), (v[point] - np.floor(v[point]) for v in (rows, columns))
    (row0, column0), (wy, wx) = base, (_taps(p) for p in part)
    at, to, value = [], [], []
    for i in range(4):
        for j in range(4):
            at.append(point)
            to.append(((row0 + i - 1) % shape[0]) * shape[1] + (column0 + j - 1) % shape[1])
            value.append(wy[i] * wx[j])
    index = (np.concatenate(at), np.concatenate(to).astype(np.int64))
    values = np.concatenate(value).astype(np.float32)
    return csr_matrix((values, index), shape=(len(rows), shape[0] * shape[1]))


def _taps(part: FloatArray) -> FloatArray:
    """(4, point) values of the cubic B-spline at -1, 0, 1 and 2 from a place between 0 and 1."""
    back = 1.0 - part
    return np.stack(
        [back**3 / 6.0, 2.0 / 3.0 - part**2 + 0.5 * part**3, 2.0 / 3.0 - back**2 + 0.5 * back**3, part**3 / 6.0]
    )
