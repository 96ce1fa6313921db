"""Peaks of a score volume, and which of several that overlap is kept."""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.typing import FloatArray


def local_maxima(
    scores: Float[Tensor, "z y x"], radius_px: float, floor: float
) -> tuple[NDArray[np.int64], FloatArray]:
    """Voxels (n, 3), z y x, that are the greatest within a distance and exceed a floor, best first, and their scores."""
    data = scores.cpu().numpy()
    rough = (data >= ndimage.maximum_filter(data, size=3)) & (data > floor) & np.isfinite(data)
    places = np.argwhere(rough)
    values = data[rough].astype(np.float64)
    keep = greedy(places.astype(np.float64), values, float(max(1.0, radius_px)))
    return places[keep], values[keep]


def greedy(positions: FloatArray, scores: FloatArray, distance: float) -> NDArray[np.int64]:
    """Rows kept, best first: each one blanks all that are nearer than `distance`."""
    if not len(positions):
        return np.zeros(0, dtype=np.int64)
    near = cKDTree(positions).query_ball_point(positions, distance * (1.0 - 1e-9))
    gone = np.zeros(len(positions), dtype=bool)
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if not gone[row]:
            kept.append(row)
            gone[near[row]] = True
    return np.array(kept, dtype=np.int64)


def top_hat_region(scores: Float[Tensor, "z y x"]) -> tuple[Float[Tensor, "z y x"], float]:
    """Sharp peaks alone: the white top-hat of the scores with a cross of 7 voxels, and the level that noise reaches once.

    The level follows from the median and the median deviation, so that peaks do not count.
    """
    finite = torch.isfinite(scores)
    filled = torch.where(finite, scores, scores[finite].min()).cpu().numpy()
    hat = ndimage.white_tophat(filled, footprint=ndimage.generate_binary_structure(3, 1))
    values = hat[finite.cpu().numpy()]
    values = values[values > 0.0] if (values > 0.0).any() else values  # in hollows and on slopes it is zero
    spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))
    level = float(np.median(values)) + spread * float(np.sqrt(2.0 * np.log(max(2, values.size))))
    return torch.from_numpy(hat).to(scores), level
