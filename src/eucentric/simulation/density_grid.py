"""The potential of bodies in a small cube, as a transform: what training boxes are filtered from.

`potential_volume` is for whole fields of view: in pieces, low-passed, in real space. Here nothing of either is needed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from eucentric.compute import good_size
from eucentric.simulation.body import Body
from eucentric.simulation.finer_grid import kept_rows, spline_transform
from eucentric.simulation.spreading import spread_in_volume

_OVERSAMPLING = 1.5  # aliases of 6% at Nyquist, 1% at two thirds of it


def density_transform(bodies: Sequence[Body], side: int, voxel_size: float) -> Complex[Tensor, "z y half_x"]:
    """Discrete transform (rfftn, zero frequency at index 0) of the potential in V of bodies in a cube.

    Parameters
    ----------
    bodies : centres in A from the middle of the cube, voxel ``side // 2``; points outside are left out
    side, voxel_size : of the cube, voxels and A

    Returns
    -------
    (z, y, x // 2 + 1), of a volume whose origin voxel is at ``side // 2``
    """
    fine = good_size(int(np.ceil(_OVERSAMPLING * side / 2)) * 2)
    fine += fine % 2
    spacing = voxel_size * side / fine
    grid = np.zeros((fine, fine, fine), dtype=np.float32)
    scales, middle = np.full(3, 1.0 / spacing), np.full(3, float(fine // 2))
    for body in bodies:
        spread_in_volume(grid, body, scales, middle)
    full = torch.fft.rfftn(torch.from_numpy(grid))
    rows = kept_rows(side, fine)
    cut = full[rows][:, rows][:, :, : side // 2 + 1]
    y, x = spline_transform(side, fine), spline_transform(side, fine, half=True)
    # the middle of the fine cube is voxel fine // 2, whose phase is that of side // 2 in the coarse one
    samples: Tensor = cut / (y[:, None, None] * y[:, None] * x) / voxel_size**3
    return samples
