"""Median over a cube."""

from jaxtyping import Float
from torch import Tensor

from eucentric.signal.tiles import trimmed


def median_filter(block: Float[Tensor, "z y x"], size: int) -> Float[Tensor, "z y x"]:
    """Median of the `size`^3 voxels around each; the block loses ``size // 2`` voxels on every side.

    Parameters
    ----------
    block : with its halo
    size : odd
    """
    radius = size // 2
    shape = [n - 2 * radius for n in block.shape]
    out = trimmed(block, radius).clone()
    for z in range(shape[0]):  # a plane at a time: size^3 copies of it are held
        around = block[z : z + size].unfold(1, size, 1).unfold(2, size, 1)
        out[z] = around.permute(1, 2, 0, 3, 4).reshape(shape[1], shape[2], -1).median(-1).values
    return out
