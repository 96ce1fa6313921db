"""Weighted points onto slabs of depth or volumes: the simulator's own projection, which shares nothing with the projectors.

Points are projected exactly and spread by cubic B-splines on a grid finer than the image; the spline's transform is
divided out in Fourier space, so that up to the image's Nyquist frequency only the points themselves are left.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from eucentric.simulation.body import Body
from eucentric.typing import FloatArray


def spread_points(
    slabs: NDArray[np.float32],
    points: FloatArray,
    weights: FloatArray,
    matrices: FloatArray,
    centres: FloatArray,
    *,
    spacing: float,
    depth_start: float,
    depth_step: float,
    first_slab: int,
    slab_count: int,
) -> None:
    """Add bodies of the same points to `slabs`, in place; each point is shared by the two slabs next to it in depth.

    Parameters
    ----------
    slabs : (slab, y, x), some of all slabs: number `first_slab` and those after it
    points, weights : (n, 3) in A and (n,), one body in its own frame
    matrices : (body, 3, 3), from the body's frame to the camera's
    centres : (body, 3), A in the camera's frame; zero falls on pixel ``n // 2``
    spacing : A, of the pixels of `slabs`
    depth_start, depth_step : A, height of slab 0 and distance of the slabs
    slab_count : number of all slabs; points beyond the last go to the last
    """
    radius = float(np.sqrt((points**2).sum(1).max())) if len(points) else 0.0
    _spread(
        slabs,
        np.ascontiguousarray(points),
        np.ascontiguousarray(weights),
        np.ascontiguousarray(matrices),
        np.ascontiguousarray(centres),
        radius,
        1.0 / spacing,
        depth_start,
        1.0 / depth_step,
        first_slab,
        slab_count,
    )


def _spread_loop(
    slabs: Any,
    points: Any,
    weights: Any,
    matrices: Any,
    centres: Any,
    radius: float,
    scale: float,
    depth_start: float,
    depth_scale: float,
    first_slab: int,
    slab_count: int,
) -> None:
    held, rows, columns = slabs.shape
    wx = np.empty(4)
    wy = np.empty(4)
    for body in range(len(centres)):
        cx = centres[body, 0] * scale + columns // 2
        cy = centres[body, 1] * scale + rows // 2
        reach = radius * scale + 2.0
        if cx < -reach or cy < -reach or cx > columns + reach or cy > rows + reach:
            continue
        low = min(max((centres[body, 2] - radius - depth_start) * depth_scale, 0.0), slab_count - 1.0)
        high = min(max((centres[body, 2] + radius - depth_start) * depth_scale, 0.0), slab_count - 1.0)
        if int(high) + 1 < first_slab or int(low) - 1 >= first_slab + held:
            continue
        m = matrices[body]
        for i in range(len(points)):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            depth = (m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + centres[body, 2] - depth_start) * depth_scale
            depth = min(max(depth, 0.0), slab_count - 1.0)
            lower = min(int(depth), slab_count - 2)
            if lower + 1 < first_slab or lower >= first_slab + held:
                continue
            x = (m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz) * scale + cx
            y = (m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz) * scale + cy
            if x < 1.0 or y < 1.0 or x >= columns - 2.0 or y >= rows - 2.0:
                continue
            ix, iy = int(x), int(y)
            for axis in range(2):
                t = x - ix if axis == 0 else y - iy
                u = 1.0 - t
                w = wx if axis == 0 else wy
                w[0] = u * u * u / 6.0
                w[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
                w[2] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
                w[3] = t * t * t / 6.0
            for upper in range(2):
                slab = lower + upper - first_slab
                if slab < 0 or slab >= held:
                    continue
                share = depth - lower if upper == 1 else 1.0 - (depth - lower)
                amount = weights[i] * share
                for b in range(4):
                    part = amount * wy[b]
                    for a in range(4):
                        slabs[slab, iy - 1 + b, ix - 1 + a] += np.float32(part * wx[a])


_spread = numba.njit(cache=True, nogil=True)(_spread_loop)


def spread_in_volume(grid: NDArray[np.float32], body: Body, scales: FloatArray, middle: FloatArray) -> None:
    """Add the points of a body at all its places to a volume, in place, each on 4 x 4 x 4 voxels.

    Parameters
    ----------
    grid : (z, y, x)
    scales, middle : (3,) for z, y, x: voxels for each A, and where the origin of the body's places falls
    """
    _spread_3d(
        grid,
        np.ascontiguousarray(body.points_angstrom),
        np.ascontiguousarray(body.weights),
        np.ascontiguousarray(body.rotations),
        np.ascontiguousarray(body.centres_angstrom),
        float(np.sqrt((body.points_angstrom**2).sum(1).max(initial=0.0))),
        scales,
        middle,
    )


def _spread_3d_loop(
    grid: Any, points: Any, weights: Any, rotations: Any, centres: Any, radius: float, scales: Any, middle: Any
) -> None:
    w = np.empty((3, 4))
    at = np.empty(3, dtype=np.int64)
    for body in range(len(centres)):
        m = rotations[body]
        outside = False
        for axis in range(3):  # z, y, x of the grid
            place = centres[body, 2 - axis] * scales[axis] + middle[axis]
            reach = radius * scales[axis] + 2.0
            if place < -reach or place > grid.shape[axis] + reach:
                outside = True
        if outside:
            continue
        for i in range(len(points)):
            inside = True
            for axis in range(3):
                place = centres[body, 2 - axis]
                for other in range(3):
                    place += m[2 - axis, other] * points[i, other]
                place = place * scales[axis] + middle[axis]
                at[axis] = int(np.floor(place))
                if at[axis] < 1 or at[axis] >= grid.shape[axis] - 2:
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
                    part = weights[i] * w[0, c] * w[1, b]
                    for a in range(4):
                        grid[at[0] - 1 + c, at[1] - 1 + b, at[2] - 1 + a] += np.float32(part * w[2, a])


_spread_3d = numba.njit(cache=True, nogil=True)(_spread_3d_loop)
