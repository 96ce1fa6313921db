"""What classification returns."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sorted:
    """Classes of particles at the end of one beginning."""

    probabilities: FloatArray
    """(particle, class); a particle is compared with what others made of a class."""
    gain: float
    """Held-out log-likelihood of a particle over that of one class for all, in nats, on average."""
    differences: Complex[Tensor, "class points"]
    """From the average of all, of each class; shrunk by what noise leaves of them."""
    labels: Int[np.ndarray, " particle"]
    """The class of each, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SortedSeveral:
    """The likeliest of several beginnings, and how far they agree."""

    best: Sorted
    gains: tuple[float, ...]
    """Of all beginnings, best first."""
    agreement: float
    """Adjusted Rand index between the best and each of the others, the median; NaN with one beginning."""
    coordinates: FloatArray | None = None
    """(particle, component) along the principal differences, by falling variance."""
    components: Float[Tensor, "component z y x"] | None = None
    """Maps of these, on the voxels of the cube; of length one deviation."""


def sort_by_size(sorted_: Sorted) -> Sorted:
    """The same with the largest class first."""
    order = np.argsort(-sorted_.probabilities.sum(0), kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Sorted(
        probabilities=sorted_.probabilities[:, order],
        gain=sorted_.gain,
        differences=sorted_.differences[torch.from_numpy(order).to(sorted_.differences.device)],
        labels=rank[sorted_.labels],
    )
