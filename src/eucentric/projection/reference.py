"""The plain projector: torch alone, any device, any angle. The fast paths are measured against it."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.projection.layout import LineLayout, line_layout
from eucentric.projection.splines import line_matrix

_CHUNK_VOXELS = 2**25


def reference_back_project(
    images: Float[Tensor, "tilt y x"],
    tilt_angles_deg: ArrayLike,
    volume_shape: tuple[int, int, int],
    *,
    x_tilts_deg: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    z_offset: int = 0,
) -> Float[Tensor, "z y x"]:
    """:func:`eucentric.projection.back_project` in plain torch."""
    whole = (volume_shape[0] + 2 * abs(z_offset), *volume_shape[1:])
    layout = line_layout(tilt_angles_deg, whole, images.shape[1], x_tilts_deg=x_tilts_deg)
    factor = np.ones(len(layout)) if weights is None else np.asarray(weights, dtype=np.float64)
    out = images.new_zeros(volume_shape)
    for t in range(len(layout)):
        lines = factor[t] * images[t] @ _matrix(layout, t, images)
        add_lines(out, lines, layout, t, z_start=z_offset)
    return out


def reference_project(
    volume: Float[Tensor, "z y x"],
    tilt_angles_deg: ArrayLike,
    image_shape: tuple[int, int],
    *,
    x_tilts_deg: ArrayLike | None = None,
    z_offset: int = 0,
) -> Float[Tensor, "tilt y x"]:
    """:func:`eucentric.projection.project` in plain torch: the transpose of :func:`reference_back_project`."""
    shape = _shape(volume)
    whole = (shape[0] + 2 * abs(z_offset), *shape[1:])
    layout = line_layout(tilt_angles_deg, whole, image_shape[0], x_tilts_deg=x_tilts_deg)
    out = volume.new_zeros((len(layout), *image_shape))
    for t in range(len(layout)):
        lines = volume.new_zeros(image_shape[0] * layout.length)
        for z, flat, weight in _taps(layout, t, shape, z_offset, volume):
            lines.index_add_(0, flat.reshape(-1), (volume[z] * weight).reshape(-1))
        out[t] = lines.reshape(image_shape[0], -1) @ _matrix(layout, t, out).T
    return out


def add_lines(
    volume: Float[Tensor, "z y x"],
    lines: Float[Tensor, "row sample"],
    layout: LineLayout,
    tilt: int,
    *,
    whole_shape: tuple[int, int, int] | None = None,
    z_start: int = 0,
) -> None:
    """Add the fine lines of one tilt to every voxel, in place.

    `volume` may be the planes from `z_start` on of a volume of `whole_shape`.
    """
    flat_lines = lines.reshape(-1)
    for z, flat, weight in _taps(layout, tilt, whole_shape or _shape(volume), z_start, volume):
        volume[z] += flat_lines[flat] * weight


def _shape(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[0], volume.shape[1], volume.shape[2]


def _matrix(layout: LineLayout, tilt: int, like: Tensor) -> Tensor:
    q0, step = float(layout.q0[tilt]), float(layout.step[tilt])
    return line_matrix(like.shape[-1], layout.length, q0, step, dtype=like.dtype, device=like.device)


def _taps(
    layout: LineLayout, tilt: int, whole_shape: tuple[int, int, int], z_start: int, volume: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Some planes of `volume`, the sample that each of their voxels reads, and its weight; one tap at a time."""
    t, device = tilt, volume.device
    count_z, count_y, count_x = _shape(volume)
    z_axis = torch.arange(count_z, dtype=torch.float64, device=device)[:, None, None] + (z_start - whole_shape[0] // 2)
    y_axis = torch.arange(count_y, dtype=torch.float64, device=device)[:, None] - whole_shape[1] // 2
    x_axis = torch.arange(count_x, dtype=torch.float64, device=device) - whole_shape[2] // 2
    planes = max(1, _CHUNK_VOXELS // (count_y * count_x))
    for start_z in range(0, count_z, planes):
        z = slice(start_z, min(start_z + planes, count_z))
        sample = layout.qx[t] * x_axis + layout.qy[t] * y_axis + layout.qz[t] * z_axis[z] + layout.q0[t]
        row = layout.ry[t] * y_axis + layout.rz[t] * z_axis[z] + layout.r0[t]
        first, first_row = sample.floor(), row.floor()
        part, row_part = sample - first, row - first_row
        for row_tap in range(2 if layout.sheared else 1):
            at_row = first_row.long() + row_tap
            inside = (at_row >= 0) & (at_row < layout.rows)
            row_weight = (row_part if row_tap else 1.0 - row_part) * inside
            start = at_row.clamp(0, layout.rows - 1) * layout.length
            for tap in range(2):
                weight = (part if tap else 1.0 - part) * row_weight
                yield z, start + first.long() + tap, weight.to(volume.dtype)
