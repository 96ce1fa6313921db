"""The potential of a specimen on voxels, without a microscope: slab by slab, so that memory stays small."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.compute import good_size
from eucentric.errors import ShapeError
from eucentric.simulation.body import Body
from eucentric.simulation.finer_grid import kept_rows, spline_transform
from eucentric.simulation.spreading import spread_in_volume

_OVERSAMPLING = 1.5
_MARGIN = 20  # voxels around a slab: the filter's tail beyond them is 1e-4 of a point's peak
_PASS, _STOP = 0.36, 0.5  # cycles a voxel; all is kept below the first, nothing above the second


def potential_slab(
    bodies: Sequence[Body], shape: tuple[int, int, int], voxel_size: float, first: int, count: int
) -> NDArray[np.float32]:
    """Sections of the volume that holds the potential of bodies, in V above the ice; protein is positive.

    Every axis keeps 72% of its Nyquist frequency whole and falls smoothly to nothing at Nyquist.

    Parameters
    ----------
    bodies : centres in A from the middle of the volume, voxel ``n // 2``
    shape : (z, y, x) of the whole volume
    voxel_size : A
    first, count : the sections wanted

    Returns
    -------
    (count, y, x); the same numbers, within 1e-3 of the largest, however the volume is cut

    Raises
    ------
    ShapeError : sections outside of the volume
    """
    if not (first >= 0 and count >= 1 and first + count <= shape[0]):
        raise ShapeError(f"Sections {first} to {first + count - 1} were asked for of a volume of shape {shape}.")
    padded = tuple(good_size(n + 2 * _MARGIN) for n in (count, *shape[1:]))
    fine = tuple(good_size(math.ceil(_OVERSAMPLING * n)) for n in padded)
    # voxel 0 of the padded box lies `_MARGIN` before the first one wanted
    origin = [shape[0] // 2 - first + _MARGIN, shape[1] // 2 + _MARGIN, shape[2] // 2 + _MARGIN]
    scales = np.array([f / (p * voxel_size) for f, p in zip(fine, padded, strict=True)])
    middle = np.array([o * f / p for o, f, p in zip(origin, fine, padded, strict=True)])
    grid = np.zeros(fine, dtype=np.float32)
    for body in bodies:
        spread_in_volume(grid, body, scales, middle)
    planes = torch.stack([_cut(torch.fft.rfft2(torch.from_numpy(plane)), padded[1:]) for plane in grid])
    del grid
    columns = torch.fft.fft(planes, dim=0)
    del planes
    spectrum = columns[kept_rows(padded[0], fine[0])]
    for axis in range(3):
        spectrum *= _filter(padded[axis], fine[axis], half=axis == 2).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
    volume = torch.fft.irfftn(spectrum, s=padded) / voxel_size**3
    z, y, x = (slice(_MARGIN, _MARGIN + n) for n in (count, *shape[1:]))
    wanted: NDArray[np.float32] = np.ascontiguousarray(volume[z, y, x].numpy())
    return wanted


def _cut(transform: Tensor, shape: tuple[int, ...]) -> Tensor:
    rows: Tensor = transform[kept_rows(shape[0], len(transform))][:, : shape[1] // 2 + 1]
    return rows


def _filter(size: int, fine: int, *, half: bool) -> Tensor:
    """Along one axis: the band to keep over the transform of the spline that points were spread with."""
    frequency = (torch.fft.rfftfreq(size) if half else torch.fft.fftfreq(size)).double()
    ramp = ((frequency.abs() - _PASS) / (_STOP - _PASS)).clamp(0.0, 1.0)
    spline = spline_transform(size, fine, half=half, dtype=torch.float64)
    kept: Tensor = (0.5 * (1.0 + torch.cos(math.pi * ramp)) / spline).float()
    return kept
