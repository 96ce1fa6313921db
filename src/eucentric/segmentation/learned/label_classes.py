"""One class for each voxel, from scores of classes that are each on their own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from eucentric.errors import InputError

_CLOSEST = 1e-6  # to 0 and 1


def label_classes(scores: Float[Tensor, "class z y x"], thresholds: Sequence[float]) -> Int[Tensor, "z y x"]:
    """Numbers of classes from 1, int16: of those above their thresholds the one that is farthest above in log odds, else 0.

    Raises
    ------
    InputError : another number of thresholds than classes, or thresholds beyond 0 to 1
    """
    if len(thresholds) != len(scores) or not all(0 < t < 1 for t in thresholds):
        raise InputError(
            f"Thresholds {tuple(thresholds)} were given for {len(scores)} classes; expected one each, 0 to 1."
        )
    best = torch.zeros_like(scores[0])
    found = torch.zeros(scores.shape[1:], dtype=torch.int16, device=scores.device)
    for number, (part, threshold) in enumerate(zip(scores, thresholds, strict=True), 1):
        above = torch.logit(part, eps=_CLOSEST) - torch.logit(torch.tensor(threshold))
        ahead = above > best
        found[ahead] = number
        best = torch.where(ahead, above, best)
    return found
