"""Where the central slices of a tilt series see the same part of an object's Fourier transform."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.projection import slice_kernels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedSamples:
    """Pairs of a sample in one slice and the place nearest to it in another, for every overlap; see `share_samples`."""

    inside: Int[Tensor, " inside"]
    """Flat places in a half plane (n, n // 2 + 1) of the samples below Nyquist."""
    starts: Int[Tensor, " tilt_inside"]
    """First pair of each sample; one more than there are samples."""
    corner: Int[Tensor, " pair"]
    """Flat place of the lower corner of the four samples to read."""
    part_y: Float[Tensor, " pair"]
    part_x: Float[Tensor, " pair"]
    weight: Float[Tensor, " pair"]
    overlap: Float[Tensor, "tilt inside"]
    """Sum of the weights of each sample; 1 where it stands alone."""

    def sum(self, values: Float[Tensor, "tilt n half_n"]) -> Float[Tensor, "tilt inside"]:
        """Weighted sum over all slices of `values` (real and the same at k and -k) at the place of each sample."""
        padded = self._padded(values)
        flat, width = padded.reshape(-1), padded.shape[2]
        if values.device.type == "cpu" and values.dtype == torch.float32 and not values.requires_grad:
            out = torch.empty_like(self.overlap)
            slice_kernels.sum_pairs(
                self.starts.numpy(),
                self.corner.numpy(),
                self.part_y.numpy(),
                self.part_x.numpy(),
                self.weight.numpy(),
                width,
                flat.numpy(),
                out.reshape(-1).numpy(),
            )
            return out
        c = self.corner.long()
        below = torch.lerp(flat[c], flat[c + 1], self.part_x)
        above = torch.lerp(flat[c + width], flat[c + width + 1], self.part_x)
        read = self.weight * torch.lerp(below, above, self.part_y)
        sample = torch.repeat_interleave(torch.arange(self.overlap.numel(), device=c.device), self.starts.diff())
        total = read.new_zeros(self.overlap.numel()).index_add_(0, sample, read)
        return total.reshape(self.overlap.shape)

    @staticmethod
    def _padded(values: Tensor) -> Tensor:
        """Rows from lowest to highest frequency, and one more row and column, so that every corner has neighbours."""
        rows = torch.roll(values, values.shape[1] // 2, dims=1)
        rows = torch.cat([rows, rows[:, :1]], dim=1)
        return torch.cat([rows, rows[:, :, -1:]], dim=2).contiguous()


def share_samples(
    matrices: ArrayLike,
    size: int,
    field_over_object: float,
    like: Tensor,
    *,
    limit: float | None = None,
) -> SharedSamples:
    r"""How much each sample of each slice has in common with all slices, for an object of limited size [1]_.

    The transform of an object of edge D changes over distances of 1/D. Sample k of slice t lies
    :math:`s = (R_u R_t^T k)_z` from slice u and is shared with it to :math:`\max(0, 1 - |s| D)`.

    Parameters
    ----------
    matrices : (tilt, 3, 3), specimen to camera
    size : n, even, of the slices (n, n // 2 + 1)
    field_over_object : edge of the field that the slices were made from over the edge of the object
    like : gives dtype and device
    limit : radius in samples of what is used; n / 2 where None

    References
    ----------
    .. [1] Harauz & van Heel, Optik 73:146 (1986)
    """
    rotation = np.asarray(matrices, dtype=np.float64)
    if rotation.ndim != 3 or rotation.shape[1:] != (3, 3) or size % 2:
        raise ShapeError(
            f"Matrices of shape {rotation.shape} and slices of size {size} were given; expected (tilt, 3, 3) and an even size."
        )
    half = size // 2 + 1
    fy = torch.fft.fftfreq(size, d=1.0 / size, dtype=torch.float64).round()[:, None].expand(size, half).reshape(-1)
    fx = torch.arange(half, dtype=torch.float64).expand(size, half).reshape(-1)
    radius = 0.5 * size if limit is None else limit
    inside = torch.nonzero(fx**2 + fy**2 < radius**2).reshape(-1)
    plane = torch.stack([fx[inside], fy[inside]]).to(like.device)
    counts, places, parts_y, parts_x, weights = [], [], [], [], []
    for t in range(len(rotation)):
        relative = torch.as_tensor((rotation @ rotation[t].T)[:, :, :2], device=like.device)
        x, y, s = ((relative[:, axis] @ plane).T for axis in range(3))
        share = 1.0 - s.abs() / field_over_object
        shared = share > 0
        x, y, share = x[shared], y[shared], share[shared]
        flip = torch.where(x < 0, -1.0, 1.0).to(torch.float64)
        x, y = x * flip, y * flip
        tilt = torch.nonzero(shared)[:, 1]
        # rows of the padded half planes start at frequency -size / 2
        row, column = (y.floor() + size // 2).clamp(0, size - 1), x.floor().clamp(0, half - 1)
        counts.append(shared.sum(1))
        places.append((((tilt * (size + 1)) + row.long()) * (half + 1) + column.long()).to(torch.int32))
        parts_y.append((y + size // 2 - row).to(like.dtype))
        parts_x.append((x - column).to(like.dtype))
        weights.append(share.to(like.dtype))
    each = torch.cat(counts)
    weight = torch.cat(weights)
    starts = torch.cat([each.new_zeros(1), each.cumsum(0)])
    sample = torch.repeat_interleave(torch.arange(len(each), device=like.device), each)
    overlap = weight.new_zeros(len(each)).index_add_(0, sample, weight)
    return SharedSamples(
        inside=inside.to(like.device),
        starts=starts,
        corner=torch.cat(places),
        part_y=torch.cat(parts_y),
        part_x=torch.cat(parts_x),
        weight=weight,
        overlap=overlap.reshape(len(rotation), -1),
    )
