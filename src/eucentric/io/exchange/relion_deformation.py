"""Local deformation of images as RELION holds it: bicubic Hermite splines in pixels of the images.

A point that the projection matrix brings to pixel q (counted from 0) is found at q + s(q). The grid has its first point at pixel
0 and its last at n, one behind the last pixel; beyond it the value at the edge holds. Each point has value, slopes along x and y
and twist, the derivatives per cell of the grid; rlnTomoDeformationCoefficients has those of x shifts for all points, x fastest, then
those of y shifts [1]_.

References
----------
.. [1] RELION-5's sources, `spline_2D_deformation_model.h`, `tomogram.cpp` (projectPoint) and `tomogram_set.cpp`
"""

import numpy as np
import torch

from eucentric.geometry.warp import ImageWarp
from eucentric.models.tilt_series import TiltSeries
from eucentric.typing import FloatArray

_FINE_PX = 0.01
_MOST_POINTS = 65
_STEP_PX = 1e-3
_PROBES = 23


def deformation_field(series: TiltSeries, warp: ImageWarp | None, tilt: int, pixels: FloatArray) -> FloatArray:
    """(point, 2) pixels: what is added to places (point, 2) that the rigid geometry without magnification gives.

    Magnification is part of it: it acts about the image of the specimen centre.
    """
    pixel, pose = series.pixel_size_angstrom, series.poses[tilt]
    centre = np.array(series.image_shape[::-1]) // 2
    rigid = (pixels - centre) * pixel
    shift = np.array([pose.x_shift_angstrom, pose.y_shift_angstrom])
    seen = pose.magnification * (rigid - shift) + shift
    if warp is not None:
        seen = seen + warp.at(tilt, torch.from_numpy(np.ascontiguousarray(seen))).numpy()
    return np.asarray((seen - rigid) / pixel)


def _hermite(series: TiltSeries, warp: ImageWarp | None, tilt: int, grid: tuple[int, int]) -> FloatArray:
    """(2, gy, gx, 4): value, slope along x, slope along y and twist at the points of a grid (gx, gy)."""
    gx, gy = grid
    ny, nx = series.image_shape
    spacing = np.array([nx / (gx - 1), ny / (gy - 1)])
    x, y = np.meshgrid(np.arange(gx) * spacing[0], np.arange(gy) * spacing[1])
    places = np.stack([x, y], -1).reshape(-1, 2)

    def at(dx: float, dy: float) -> FloatArray:
        moved = places + np.array([dx, dy]) * _STEP_PX
        return deformation_field(series, warp, tilt, moved).reshape(gy, gx, 2)

    right, left, up, down = at(1, 0), at(-1, 0), at(0, 1), at(0, -1)
    both = at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)
    step = 2.0 * _STEP_PX
    values = [
        at(0, 0),
        (right - left) / step * spacing[0],
        (up - down) / step * spacing[1],
        both / step**2 * spacing[0] * spacing[1],
    ]
    return np.moveaxis(np.stack(values, -1), 2, 0)


def evaluate(coefficients: FloatArray, image_shape: tuple[int, int], pixels: FloatArray) -> FloatArray:
    """(point, 2) pixels: the displacement at places (point, 2), of coefficients (2, gy, gx, 4) of one image."""
    _, gy, gx, _ = coefficients.shape
    size, count = np.array(image_shape[::-1], dtype=np.float64), np.array([gx, gy])
    place = np.clip(pixels / (size / (count - 1)), 0.0, count - 1 - 1e-10)
    cell = place.astype(np.int64)
    f = place - cell
    basis = np.stack([1 - 3 * f**2 + 2 * f**3, 3 * f**2 - 2 * f**3, f - 2 * f**2 + f**3, f**3 - f**2])  # (4, point, 2)
    out = np.zeros((len(pixels), 2))
    for j in (0, 1):
        for i in (0, 1):
            node = coefficients[:, cell[:, 1] + j, cell[:, 0] + i]  # (2, point, 4)
            vx, sx, vy, sy = basis[i, :, 0], basis[2 + i, :, 0], basis[j, :, 1], basis[2 + j, :, 1]
            out += (node[..., 0] * vx * vy + node[..., 1] * sx * vy + node[..., 2] * vx * sy + node[..., 3] * sx * sy).T
    return out


def fitted_deformation(series: TiltSeries, warp: ImageWarp | None) -> tuple[FloatArray, float] | None:
    """Coefficients (tilt, 2, gy, gx, 4) of a grid fine enough, and the rms in A that they miss; None for a rigid series."""
    if warp is None and all(t.pose is None or t.pose.magnification == 1.0 for t in series.tilts):
        return None
    rows, columns = (1, 1) if warp is None else warp.displacement_angstrom.shape[1:3]
    gy, gx = (max(2, n) for n in (rows, columns))
    ny, nx = series.image_shape
    probe = np.stack(np.meshgrid(np.linspace(0, nx - 1, _PROBES), np.linspace(0, ny - 1, _PROBES)), -1).reshape(-1, 2)
    wanted = [deformation_field(series, warp, t, probe) for t in range(len(series.tilts))]
    while True:
        found = np.stack([_hermite(series, warp, t, (gx, gy)) for t in range(len(series.tilts))])
        away = [evaluate(c, series.image_shape, probe) - w for c, w in zip(found, wanted, strict=True)]
        rms = float(np.sqrt(np.mean(np.sum(np.square(away), -1))))
        if rms < _FINE_PX or max(gx, gy) * 2 - 1 > _MOST_POINTS:
            return found, rms * series.pixel_size_angstrom
        gx, gy = 2 * gx - 1, 2 * gy - 1


def warp_of_deformation(
    coefficients: FloatArray, image_shape: tuple[int, int], pixel_size_angstrom: float
) -> ImageWarp:
    """Our field from coefficients (tilt, 2, gy, gx, 4), on a grid twice as fine as RELION's."""
    ny, nx = image_shape
    gy, gx = (2 * n + 1 for n in coefficients.shape[2:4])
    x, y = np.meshgrid(np.linspace(0, nx - 1, gx), np.linspace(0, ny - 1, gy))
    places = np.stack([x, y], -1).reshape(-1, 2)
    field = [evaluate(c, image_shape, places).reshape(gy, gx, 2) * pixel_size_angstrom for c in coefficients]
    return ImageWarp.build(np.array(field), image_shape, pixel_size_angstrom)
