"""What the course of the acquisition makes likely: images taken one after another are alike."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

_MEMORY = 10.0  # images over which astigmatism and phase shift lose what they were


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcquisitionOrder:
    """How far the images of a series lie apart in time, in images."""

    distance: Float[Tensor, "tilt tilt"]
    persistence: Float[Tensor, "tilt tilt"]
    """Inverse covariance of a quantity of unit variance whose correlation falls by e over ten images."""

    @classmethod
    def build(cls, order: ArrayLike, device: torch.device | str = "cpu") -> Self:
        """From the place (tilt,) of each image in the order of acquisition; gaps count, equal places lie one apart."""
        place = np.asarray(order, dtype=np.float64)
        sequence = np.argsort(place, kind="stable")
        steps = np.maximum(np.diff(place[sequence]), 1.0)
        time = np.empty(len(place))
        time[sequence] = np.concatenate([[0.0], np.cumsum(steps)])
        correlation = np.exp(-steps / _MEMORY)
        precision = np.eye(len(place))
        gain = correlation**2 / (1 - correlation**2)
        for step in range(len(steps)):
            a, b = sequence[step], sequence[step + 1]
            precision[a, a] += gain[step]
            precision[b, b] += gain[step]
            precision[a, b] = precision[b, a] = -correlation[step] / (1 - correlation[step] ** 2)
        return cls(
            distance=torch.from_numpy(np.abs(time[:, None] - time)).to(device),
            persistence=torch.from_numpy(precision).to(device),
        )
