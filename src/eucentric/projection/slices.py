"""Central slices of a Fourier transform: read from a grid, and put into it by the exact transpose."""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.projection import slice_kernels
from eucentric.typing import FloatArray

_WIDTH = 4
"""Taps of the Kaiser-Bessel kernel along each axis."""
_SHAPE = 9.1
"""Its shape parameter: the least error, 0.08%, for a grid of twice the volume's size."""
_TABLE_STEPS = 512


def insert_slices(
    slices: Complex[Tensor, "slice n half_n"],
    matrices: ArrayLike,
    grid_shape: tuple[int, int, int],
    *,
    extent_voxels: float | None = None,
) -> Complex[Tensor, "z y half_x"]:
    r"""Add central slices to a Fourier grid, each sample spread by a Kaiser-Bessel kernel of 4 x 4 x 4 taps [1]_.

    The transpose of :func:`extract_slices` (of the real images and volumes that the half planes and half grids stand
    for). ``grid_to_volume(insert_slices(s, ...), ...)`` is :math:`\sum_t \sum_k s_t(k)\, e^{2\pi i k \cdot (R_t p)_{xy}}`
    over the whole planes: the sum of images smeared along the beam.

    Parameters
    ----------
    slices : (slice, n, n // 2 + 1), ``rfft2`` order, phases counted from the centre of the image. Samples at or beyond
        Nyquist of the slice or of the volume are left out
    matrices : (slice, 3, 3), specimen to camera: sample (kx, ky) goes to ``R^T (kx, ky, 0)``; may scale too
    grid_shape : (z, y, x) of the real-space grid, all even; twice the size of the volume
    extent_voxels : edge of the field that a slice was made from, in voxels of the volume; n where None

    Returns
    -------
    (z, y, x // 2 + 1), the dtype and device of `slices`

    Raises
    ------
    ShapeError, InputError : slices, matrices and grid that do not fit together

    References
    ----------
    .. [1] Fessler & Sutton, IEEE Trans. Signal Process. 51:560 (2003), doi:10.1109/TSP.2002.807005
    """
    if slices.ndim != 3 or slices.shape[2] != slices.shape[1] // 2 + 1 or not slices.is_complex():
        raise ShapeError(
            f"Slices of shape {tuple(slices.shape)} and type {slices.dtype} were given; expected complex numbers "
            "(slice, n, n // 2 + 1)."
        )
    n = slices.shape[1]
    rotation, scale, limit = _check(slices.shape[0], matrices, n, grid_shape, extent_voxels)
    depth, height, width = grid_shape
    guarded = slices.new_zeros((depth, height, width // 2 + 3))
    if _fast(slices):
        source, target = (torch.view_as_real(a).numpy() for a in (slices.contiguous(), guarded))
        slice_kernels.spread_slices(source, rotation, scale, limit, _table(), target.reshape(depth, height, -1))
    else:
        _spread(slices, rotation, scale, limit, guarded)
    return _fold(guarded)


def extract_slices(
    grid: Complex[Tensor, "z y half_x"],
    matrices: ArrayLike,
    size: int,
    *,
    extent_voxels: float | None = None,
) -> Complex[Tensor, "slice n half_n"]:
    r"""Central slices of a Fourier grid: the transforms of the projections of a volume, :math:`F(R^T (k_x, k_y, 0))`.

    With ``grid = volume_to_grid(volume, twice its size)`` they are true to 0.1% of the largest.

    Parameters
    ----------
    grid : (z, y, x // 2 + 1), of a real-space grid with an even number of samples along every axis
    matrices : (slice, 3, 3), specimen to camera
    size : n, samples along either axis of a slice
    extent_voxels : edge of the field of a slice, in voxels of the volume; n where None

    Returns
    -------
    (slice, n, n // 2 + 1), ``rfft2`` order, phases counted from the centre; zero at and beyond Nyquist
    """
    shape = (grid.shape[0], grid.shape[1], 2 * (grid.shape[2] - 1))
    count = len(np.asarray(matrices))
    rotation, scale, limit = _check(count, matrices, size, shape, extent_voxels)
    guarded = _unfold(grid)
    out = grid.new_zeros((count, size, size // 2 + 1))
    if _fast(grid):
        source, target = (torch.view_as_real(a).numpy() for a in (guarded, out))
        slice_kernels.read_slices(source, rotation, scale, limit, _table(), target)
        return out
    real = torch.view_as_real(out).reshape(-1, 2)
    source_flat = torch.view_as_real(guarded).reshape(-1, 2)
    for sample, flip, index, weight in _taps(out, rotation, scale, limit, guarded):
        value = source_flat[index] * weight[:, None]
        value[:, 1] *= flip
        real.index_add_(0, sample, value)
    return out


def volume_to_grid(volume: Float[Tensor, "z y x"], grid_shape: tuple[int, int, int]) -> Complex[Tensor, "z y half_x"]:
    """Fourier transform of a volume on a finer grid, made ready for :func:`extract_slices`.

    The volume is divided by the transform of the interpolation kernel, set amid zeros with its centre ``n // 2`` at the
    origin, and transformed.

    Parameters
    ----------
    volume : (z, y, x)
    grid_shape : (z, y, x), even; twice the volume's size keeps interpolation true to 0.1%
    """
    _check_grid(grid_shape, (volume.shape[0], volume.shape[1], volume.shape[2]))
    out: Tensor = volume
    for axis in (2, 1, 0):
        out = out * _correction(volume.shape[axis], grid_shape[axis], axis, volume)
        # whole lines of zeros need no transform, so each axis is padded just before its own
        padded = out.new_zeros([grid_shape[a] if a == axis else s for a, s in enumerate(out.shape)])
        padded.index_copy_(axis, _around_origin(volume.shape[axis], grid_shape[axis], volume.device), out)
        out = torch.fft.rfft(padded, dim=axis) if axis == 2 else torch.fft.fft(padded, dim=axis)
    return out


def grid_to_volume(grid: Complex[Tensor, "z y half_x"], shape: tuple[int, int, int]) -> Float[Tensor, "z y x"]:
    """Volume of `shape` from the middle of a Fourier grid: the transpose of :func:`volume_to_grid`.

    The sum over the grid's samples is taken without a factor; the kernel of :func:`insert_slices` is divided out.
    """
    grid_shape = (grid.shape[0], grid.shape[1], 2 * (grid.shape[2] - 1))
    _check_grid(grid_shape, shape)
    out: Tensor = grid
    for axis in (0, 1, 2):
        if axis < 2:
            out = torch.fft.ifft(out, dim=axis, norm="forward")
        else:
            out = torch.fft.irfft(out, n=grid_shape[2], dim=2, norm="forward")
        out = out.index_select(axis, _around_origin(shape[axis], grid_shape[axis], grid.device))
        out *= _correction(shape[axis], grid_shape[axis], axis, out)
    return out


def _check(
    count: int, matrices: ArrayLike, n: int, grid_shape: tuple[int, int, int], extent: float | None
) -> tuple[FloatArray, FloatArray, float]:
    """Matrices, grid samples per slice sample (x, y, z), and the first radius in slice samples that is left out."""
    rotation = np.ascontiguousarray(matrices, dtype=np.float64)
    if rotation.shape != (count, 3, 3):
        raise ShapeError(f"{count} slices were given with matrices of shape {rotation.shape}; expected one for each.")
    _check_grid(grid_shape, (1, 1, 1))
    edge = float(n if extent is None else extent)
    if not edge > 0:
        raise InputError(f"The extent of the slices is {edge:g} voxels; expected a positive number.")
    # a matrix that magnifies brings the volume's Nyquist frequency nearer to the centre of the slice
    largest = max(1.0, round(float(np.linalg.norm(rotation[:, :2], axis=2).max(initial=1.0)), 9))
    return rotation, np.array(grid_shape[::-1], dtype=np.float64) / edge, 0.5 * min(float(n), edge / largest)


def _check_grid(grid_shape: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    if any(g < max(s, _WIDTH) or g % 2 for g, s in zip(grid_shape, shape, strict=True)):
        raise ShapeError(
            f"A Fourier grid of {grid_shape} samples was asked for a volume of {shape}; expected even sizes, none "
            f"smaller than the volume or than {_WIDTH}."
        )


def _fast(data: Tensor) -> bool:
    return data.device.type == "cpu" and data.dtype == torch.complex64 and not data.requires_grad


def _kernel(distance: FloatArray) -> FloatArray:
    inside = np.clip(1.0 - (2.0 * distance / _WIDTH) ** 2, 0.0, None)
    return np.asarray(np.where(np.abs(distance) <= _WIDTH / 2, np.i0(_SHAPE * np.sqrt(inside)) / np.i0(_SHAPE), 0.0))


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """(steps + 1, 4): weights of the taps at -1, 0, 1 and 2 for a sample at 0 to 1."""
    part = np.linspace(0.0, 1.0, _TABLE_STEPS + 1)[:, None]
    return _kernel(part - np.arange(-1, 3)).astype(np.float32)


def tap_weights_of(part: Float[Tensor, "*sample"]) -> Float[Tensor, "*sample 4"]:
    """Weights of the taps at -1, 0, 1 and 2 for samples at 0 to 1 between the middle two."""
    steps = torch.arange(-1, 3, device=part.device, dtype=part.dtype)
    inner = torch.clamp(1.0 - (2.0 * (part[..., None] - steps) / _WIDTH) ** 2, min=0.0)
    weights: Tensor = torch.special.i0(_SHAPE * torch.sqrt(inner)) / float(np.i0(_SHAPE))
    return weights


def _correction(size: int, grid_size: int, axis: int, like: Tensor) -> Tensor:
    """One over the transform of the kernel, along `axis`."""
    x = (np.arange(size) - size // 2) / grid_size
    root = np.sqrt(_SHAPE**2 - (math.pi * _WIDTH * x) ** 2 + 0j)
    transform = (_WIDTH / np.i0(_SHAPE) * np.sinh(root) / root).real
    shape = [-1 if a == axis else 1 for a in range(3)]
    dtype = like.real.dtype if like.is_complex() else like.dtype
    return torch.from_numpy(1.0 / transform).to(dtype=dtype, device=like.device).reshape(shape)


def _around_origin(size: int, grid_size: int, device: torch.device) -> Tensor:
    """Where the samples of a centred axis lie on a periodic one whose origin is its first sample."""
    return torch.remainder(torch.arange(size, device=device) - size // 2, grid_size)


def _mirror(plane: Tensor) -> Tensor:
    """The conjugate of what lies at (-z, -y)."""
    return torch.roll(plane.flip((0, 1)), (1, 1), dims=(0, 1)).conj()


def _fold(guarded: Tensor) -> Tensor:
    """Half grid from samples of one half of space and what their taps left beyond it, with the other half added."""
    last = guarded.shape[2] - 3
    grid = guarded[:, :, 1:-1].clone()
    grid[:, :, 0] += _mirror(guarded[:, :, 1])
    grid[:, :, 1] += _mirror(guarded[:, :, 0])
    grid[:, :, last] += _mirror(guarded[:, :, last + 1])
    grid[:, :, last - 1] += _mirror(guarded[:, :, last + 2])
    return grid


def _unfold(grid: Tensor) -> Tensor:
    return torch.cat([_mirror(grid[:, :, 1])[:, :, None], grid, _mirror(grid[:, :, -2])[:, :, None]], dim=2)


def _spread(slices: Tensor, rotation: FloatArray, scale: FloatArray, limit: float, guarded: Tensor) -> None:
    target = torch.view_as_real(guarded).reshape(-1, 2)
    halved = slices.clone()
    halved[:, :, 0] *= 0.5
    source = torch.view_as_real(halved).reshape(-1, 2)
    for sample, flip, index, weight in _taps(slices, rotation, scale, limit, guarded):
        value = source[sample] * weight[:, None]
        value[:, 1] *= flip
        target.index_add_(0, index, value)


def _taps(
    slices: Tensor, rotation: FloatArray, scale: FloatArray, limit: float, guarded: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Samples of all slices, -1 where the conjugate is meant, the flat place in the grid and the weight: tap by tap."""
    count, n, half = slices.shape
    device, real = slices.device, slices.real.dtype
    fy = torch.fft.fftfreq(n, d=1.0 / n, device=device, dtype=torch.float64).round()
    fx = torch.arange(half, device=device, dtype=torch.float64)
    inside = torch.nonzero((fy[:, None] ** 2 + fx**2 < limit**2).reshape(-1)).reshape(-1)
    plane = torch.stack([fx.expand(n, half).reshape(-1)[inside], fy[:, None].expand(n, half).reshape(-1)[inside]])
    to_grid = torch.as_tensor(np.swapaxes(rotation[:, :2], 1, 2) * scale[:, None], device=device)
    at = (to_grid @ plane).permute(1, 0, 2).reshape(3, -1)
    sample = (torch.arange(count, device=device)[:, None] * (n * half) + inside).reshape(-1)
    flip = torch.where(at[0] < 0, -1.0, 1.0).to(torch.float64)
    at = at * flip
    first = at.floor()
    part = at - first
    depth, height, width = guarded.shape
    weights = tap_weights_of(part).to(real)
    whole = first.long()
    for k in range(_WIDTH):
        z = torch.remainder(whole[2] + k - 1, depth) * height
        for j in range(_WIDTH):
            row = (z + torch.remainder(whole[1] + j - 1, height)) * width
            weight = weights[2, :, k] * weights[1, :, j]
            for i in range(_WIDTH):
                yield sample, flip.to(real), row + whole[0] + i, weight * weights[0, :, i]
