"""Weighted points onto a volume: cubic B-splines on a finer grid, whose transform is divided out."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Complex
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute import good_size
from eucentric.simulation.body import Body

_OVERSAMPLING = 1.5  # aliases of 6% at Nyquist, 1% at two thirds of it


def density_transform(bodies: Sequence[Body], side: int, voxel_size: float) -> Complex[Tensor, "z y half_x"]:
    """Discrete transform (rfftn, zero frequency at index 0) of the potential in V of bodies in a cube.

    Parameters
    ----------
    bodies : centres in A from the middle of the cube, voxel ``side // 2``; points outside are left out
    side, voxel_size : of the cube, voxels and A

    Returns
    -------
    (z, y, x // 2 + 1), of a volume whose origin voxel is at ``side // 2``
    """
    fine = good_size(int(np.ceil(_OVERSAMPLING * side / 2)) * 2)
    fine += fine % 2
    spacing = voxel_size * side / fine
    grid = np.zeros((fine, fine, fine), dtype=np.float32)
    for body in bodies:
        _spread(
            grid,
            np.ascontiguousarray(body.points_angstrom),
            np.ascontiguousarray(body.weights),
            np.ascontiguousarray(body.rotations),
            np.ascontiguousarray(body.centres_angstrom),
            float(np.sqrt((body.points_angstrom**2).sum(1).max(initial=0.0))),
            1.0 / spacing,
        )
    full = torch.fft.rfftn(torch.from_numpy(grid))
    rows = torch.arange(side)
    rows[(side + 1) // 2 :] += fine - side
    cut = full[rows][:, rows][:, :, : side // 2 + 1]
    y = torch.sinc(torch.fft.fftfreq(side) * side / fine) ** 4
    x = torch.sinc(torch.fft.rfftfreq(side) * side / fine) ** 4
    # the middle of the fine cube is voxel fine // 2, whose phase is that of side // 2 in the coarse one
    samples: Tensor = cut / (y[:, None, None] * y[:, None] * x) / voxel_size**3
    return samples


def mark_bodies(
    labels: NDArray[np.int32],
    bodies: Sequence[Body],
    values: Sequence[NDArray[np.int32]],
    voxel_size: float,
    reach: float,
) -> None:
    """Write a number into every voxel whose middle lies within `reach` A of a point, in place.

    Parameters
    ----------
    labels : (z, y, x) of a cube
    values : for each body, a number for each of its places
    """
    for body, numbers in zip(bodies, values, strict=True):
        _mark(
            labels,
            np.ascontiguousarray(body.points_angstrom),
            np.ascontiguousarray(body.rotations),
            np.ascontiguousarray(body.centres_angstrom),
            np.ascontiguousarray(numbers, dtype=np.int32),
            1.0 / voxel_size,
            reach / voxel_size,
        )


def _spread_loop(
    grid: Any, points: Any, weights: Any, rotations: Any, centres: Any, radius: float, scale: float
) -> None:
    size = grid.shape[0]
    half = size // 2
    w = np.empty((3, 4))
    at = np.empty(3, dtype=np.int64)
    for body in range(len(centres)):
        m = rotations[body]
        outside = False
        for axis in range(3):
            if abs(centres[body, axis]) * scale > half + radius * scale:
                outside = True
        if outside:
            continue
        for i in range(len(points)):
            inside = True
            for axis in range(3):
                place = centres[body, axis]
                for other in range(3):
                    place += m[axis, other] * points[i, other]
                place = place * scale + half
                at[axis] = int(np.floor(place))
                if at[axis] < 1 or at[axis] >= size - 2:
                    inside = False
                    break
                t = place - at[axis]
                u = 1.0 - t
                w[axis, 0] = u * u * u / 6.0
                w[axis, 1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
                w[axis, 2] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
                w[axis, 3] = t * t * t / 6.0
            if not inside:
                continue
            for c in range(4):
                for b in range(4):
                    part = weights[i] * w[2, c] * w[1, b]
                    for a in range(4):
                        grid[at[2] - 1 + c, at[1] - 1 + b, at[0] - 1 + a] += np.float32(part * w[0, a])


def _mark_loop(labels: Any, points: Any, rotations: Any, centres: Any, values: Any, scale: float, reach: float) -> None:
    size = labels.shape[0]
    half = size // 2
    steps = int(np.ceil(reach))
    place = np.empty(3)
    for body in range(len(centres)):
        m = rotations[body]
        for i in range(len(points)):
            for axis in range(3):
                value = centres[body, axis]
                for other in range(3):
                    value += m[axis, other] * points[i, other]
                place[axis] = value * scale + half
            x0, y0, z0 = round(place[0]), round(place[1]), round(place[2])
            for z in range(max(z0 - steps, 0), min(z0 + steps + 1, size)):
                for y in range(max(y0 - steps, 0), min(y0 + steps + 1, size)):
                    for x in range(max(x0 - steps, 0), min(x0 + steps + 1, size)):
                        away = (x - place[0]) ** 2 + (y - place[1]) ** 2 + (z - place[2]) ** 2
                        if away <= reach * reach:
                            labels[z, y, x] = values[body]


_spread = numba.njit(cache=True, nogil=True)(_spread_loop)
_mark = numba.njit(cache=True, nogil=True)(_mark_loop)
