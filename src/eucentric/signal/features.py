"""Which voxels of a noisy volume surely hold something."""

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor


def strong_features(
    volume: Float[Tensor, "z y x"], *, threshold: float, neighbourhood_px: int, share: float = 0.4
) -> Float[Tensor, "z y x"]:
    """A soft mask, 0 to 1, around dark voxels that stand out from the noise and are no streak of a stronger one.

    Parameters
    ----------
    volume : recorded contrast, specimen dark
    threshold : robust standard deviations below the median at which a voxel counts
    neighbourhood_px : side of the cube in which the strongest voxel is looked for
    share : a voxel must reach this part of the strongest one nearby, which leaves out the streaks of gold beads
    """
    smooth = ndimage.gaussian_filter(volume.detach().cpu().numpy(), 1.0)
    sample = smooth[::2, ::2, ::2]
    middle = float(np.median(sample))
    spread = 1.4826 * float(np.median(np.abs(sample - middle)))
    if not spread > 0:
        return torch.ones_like(volume)
    score = (middle - smooth) / spread
    nearby = ndimage.maximum_filter(score[::2, ::2, ::2], size=max(3, neighbourhood_px // 2) | 1)
    for axis, n in enumerate(score.shape):
        nearby = np.repeat(nearby, 2, axis=axis).take(np.arange(n), axis=axis)
    chosen = ndimage.binary_dilation(score > np.maximum(threshold, share * nearby), iterations=2)
    mask = ndimage.gaussian_filter(chosen.astype(np.float32), 1.0)
    return torch.from_numpy(mask).to(device=volume.device, dtype=volume.dtype)
