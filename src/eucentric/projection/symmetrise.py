"""Mean of a volume over rotations about its centre, and shifts: the one symmetry operation, exact to a thousandth."""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import ShapeError
from eucentric.projection import symmetrise_kernels
from eucentric.projection.cpu import run_blocks
from eucentric.projection.slices import _fast, _table, _unfold, tap_weights_of, volume_to_grid
from eucentric.typing import FloatArray


def turned_mean(
    volume: Float[Tensor, "n n n"], rotations: ArrayLike, shifts_voxels: ArrayLike | None = None
) -> Float[Tensor, "n n n"]:
    r"""Mean of :math:`V(R\,x + t)` over rotations R about voxel ``n // 2``, each with a shift t where wanted.

    Read in Fourier space from a grid of twice the size, with the taps of :func:`eucentric.projection.slices.extract_slices`.
    Detail beyond Nyquist's ball is lost, and what a rotation brings out of the box comes in at the other side: fade
    the volume to zero within the ball that fits it.

    Parameters
    ----------
    volume : a cube of even size
    rotations : (element, 3, 3), x, y, z; those of a whole group, or any others
    shifts_voxels : (element, 3), x, y, z; none where None

    Raises
    ------
    ShapeError : a volume that is no cube of even size, or rotations or shifts of another shape
    """
    matrices = np.ascontiguousarray(rotations, dtype=np.float64)
    n = volume.shape[0]
    if volume.shape != (n, n, n) or n % 2 or matrices.ndim != 3 or matrices.shape[1:] != (3, 3) or not len(matrices):
        raise ShapeError(
            f"A volume of {tuple(volume.shape)} and rotations of {matrices.shape} were given; expected a cube of even size and "
            "(element, 3, 3)."
        )
    shifts = np.zeros((0, 3)) if shifts_voxels is None else np.asarray(shifts_voxels, dtype=np.float64) / n
    if shifts_voxels is not None and shifts.shape != (len(matrices), 3):
        raise ShapeError(
            f"Shifts of shape {shifts.shape} were given for {len(matrices)} rotations; expected (element, 3)."
        )
    side = good_size(2 * n)
    guarded = _unfold(volume_to_grid(volume, (side, side, side)))
    scale = np.full(3, side / n)
    out = guarded.new_zeros((n, n, n // 2 + 1))
    if _fast(guarded):
        source, target = (torch.view_as_real(a).numpy() for a in (guarded.contiguous(), out))

        def work(start: int, stop: int) -> None:
            symmetrise_kernels.read_turned(
                source, matrices, shifts, scale, 0.5 * n, _table(), start, target[start:stop]
            )

        run_blocks(n, 4, work)
    else:
        _read_turned(guarded, matrices, shifts, scale, out)
    mean: Tensor = torch.fft.fftshift(torch.fft.irfftn(out / len(matrices), s=(n, n, n)))
    return mean


def _read_turned(guarded: Tensor, matrices: FloatArray, shifts: FloatArray, scale: FloatArray, out: Tensor) -> None:
    n = out.shape[0]
    line = torch.fft.fftfreq(n, 1.0 / n, device=out.device, dtype=torch.float64).round()
    half = torch.arange(n // 2 + 1, device=out.device, dtype=torch.float64)
    fz, fy, fx = torch.meshgrid(line, line, half, indexing="ij")
    inside = torch.nonzero((fz**2 + fy**2 + fx**2 < 0.25 * n * n).reshape(-1)).reshape(-1)
    k = torch.stack([f.reshape(-1)[inside] for f in (fx, fy, fz)])
    depth, height, width = guarded.shape
    flat = guarded.reshape(-1)
    target = out.view(-1)
    for element, matrix in enumerate(matrices):
        at = torch.as_tensor(matrix * scale[:, None], device=out.device) @ k
        flip = torch.where(at[0] < 0, -1.0, 1.0).to(torch.float64)
        at = at * flip
        first = at.floor()
        weights = tap_weights_of(at - first).to(guarded.real.dtype)
        whole = first.long()
        total = torch.zeros_like(flat[: len(inside)])
        for i in range(4):
            z = torch.remainder(whole[2] + i - 1, depth) * height
            for j in range(4):
                row = (z + torch.remainder(whole[1] + j - 1, height)) * width
                weight = weights[2, :, i] * weights[1, :, j]
                for m in range(4):
                    total += flat[row + whole[0] + m] * (weight * weights[0, :, m])
        total = torch.where(flip < 0, total.conj(), total)
        if len(shifts):
            move = torch.as_tensor(matrix.T @ shifts[element], device=out.device)
            total = total * torch.polar(torch.ones_like(k[0]), 2.0 * math.pi * (move @ k)).to(total.dtype)
        target[inside] += total
