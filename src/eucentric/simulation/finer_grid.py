"""From the transform of points spread on a finer grid to that on the grid wanted."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def kept_rows(size: int, fine: int) -> Int[Tensor, " size"]:
    """Where a transform of `fine` samples along an axis holds the frequencies of one of `size` over the same length."""
    rows = torch.arange(size)
    rows[(size + 1) // 2 :] += fine - size
    return rows


def spline_transform(
    size: int, fine: int, *, half: bool = False, dtype: torch.dtype = torch.float32
) -> Float[Tensor, " frequency"]:
    """Transform along one axis of the cubic B-spline that points are spread with, on samples of `fine` to a length.

    Given at the frequencies of `size` samples to that length, of an rfft where `half`.
    """
    frequency = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(size, dtype=dtype)
    transform: Tensor = torch.sinc(frequency * (size / fine)) ** 4
    return transform
