"""Soft masks made from an average, and balls."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import binary_fill_holes, distance_transform_edt, label
from torch import Tensor

from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.filters import band_pass, soft_edge
from eucentric.fourier.grid import frequency_grid

_LEVELS = 256
_PART = 0.02  # of the largest piece; smaller ones are noise


def ball_mask(n: int, voxel_size: float, diameter_angstrom: float, edge_angstrom: float) -> Float[Tensor, "n n n"]:
    """1 within a ball about voxel ``n // 2``, falling to 0 over an edge beyond it.

    Raises
    ------
    InputError : the ball with its edge does not fit into the box
    """
    reach = 0.5 * diameter_angstrom + edge_angstrom
    if reach > 0.5 * n * voxel_size:
        raise InputError(
            f"A mask of {diameter_angstrom:g} A with an edge of {edge_angstrom:g} A does not fit into a box of {n} voxels of "
            f"{voxel_size:g} A ({n * voxel_size:g} A). Extract larger boxes, or give a smaller mask."
        )
    line = (torch.arange(n, dtype=torch.float32) - n // 2) * voxel_size
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    return soft_edge(radius, 0.5 * diameter_angstrom, reach)


def soft_mask(
    average: Float[Tensor, "n n n"],
    voxel_size: float,
    *,
    low_pass_angstrom: float,
    extend_angstrom: float | None = None,
    edge_angstrom: float | None = None,
) -> Float[Tensor, "n n n"]:
    """Mask around the particle in an average: its bright part, smoothed, made wider and given a soft edge.

    The threshold parts the low-passed average into two groups of values as unlike as can be (Otsu), and then lies halfway
    between the mean of the outer one and itself, so that the flanks of the particle are inside.

    Parameters
    ----------
    average : protein bright
    low_pass_angstrom : detail that the outline follows
    extend_angstrom, edge_angstrom : A; half the low-pass, or two voxels, and the low-pass, or five voxels, where None

    Raises
    ------
    ProcessingError : nothing stands out, or what does reaches the faces of the box
    """
    n = average.shape[0]
    extend = max(2.0 * voxel_size, 0.5 * low_pass_angstrom) if extend_angstrom is None else extend_angstrom
    edge = max(5.0 * voxel_size, low_pass_angstrom) if edge_angstrom is None else edge_angstrom
    shape = (n, n, n)
    grid = frequency_grid(shape, voxel_size, device=average.device)
    smooth = torch.fft.irfftn(torch.fft.rfftn(average) * band_pass(grid, low_pass_angstrom=low_pass_angstrom), s=shape)
    values = smooth.cpu().double().numpy()
    line = np.arange(n) - n // 2
    radius = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    ball = radius < 0.5 * n - 1.0
    inside = values[ball]
    if not np.isfinite(inside).all() or inside.std() == 0.0:
        raise ProcessingError("The average holds no structure to make a mask of. Give --mask-diameter-angstrom.")
    top = _otsu(inside)
    outer = inside[inside < top].mean()
    bright = ball & (values > outer + 0.5 * (top - outer))
    pieces, count = label(bright)
    if not count:
        raise ProcessingError("Nothing in the average stands out. Give --mask-diameter-angstrom.")
    sizes = np.bincount(pieces.ravel(), weights=np.clip(values - outer, 0.0, None).ravel())
    sizes[0] = 0.0
    solid = binary_fill_holes(np.isin(pieces, np.flatnonzero(sizes >= _PART * sizes.max())) & bright)
    away = distance_transform_edt(~solid) * voxel_size
    mask = soft_edge(torch.from_numpy(away.astype(np.float32)), extend, extend + edge)
    limit = soft_edge(torch.from_numpy(radius.astype(np.float32)), 0.5 * n - 3.0, 0.5 * n - 1.0)
    return (mask * limit).to(average)


def _otsu(values: np.ndarray) -> float:
    counts, edges = np.histogram(values, bins=_LEVELS)
    middle = 0.5 * (edges[1:] + edges[:-1])
    below, above = np.cumsum(counts), counts[::-1].cumsum()[::-1]
    mean_below = np.cumsum(counts * middle) / np.maximum(below, 1)
    mean_above = (counts * middle)[::-1].cumsum()[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(edges[1 + int(np.argmax(between))])
