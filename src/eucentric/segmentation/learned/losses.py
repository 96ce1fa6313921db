r"""What the trainings of segmentation make small: cross entropy and one minus Dice, over the voxels that are labelled."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

_SMOOTH = 1.0  # voxels: an empty class that is found empty loses nothing


def mask_loss(
    scores: Float[Tensor, "batch class z y x"],
    target: Float[Tensor, "batch class z y x"],
    known: Bool[Tensor, "batch z y x"] | None = None,
) -> Tensor:
    """Cross entropy and one minus Dice of independent classes, each counted alike.

    Parameters
    ----------
    scores : logits
    target : 0 or 1
    known : voxels that are labelled; all where None
    """
    scores = scores.float()
    here = torch.ones_like(scores) if known is None else known[:, None].expand_as(scores).float()
    entropy = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
    over = (0, 2, 3, 4)
    found = torch.sigmoid(scores) * here
    overlap = (found * target).sum(over)
    dice = (2.0 * overlap + _SMOOTH) / (found.sum(over) + (target * here).sum(over) + _SMOOTH)
    return (entropy * here).sum() / here.sum().clamp_min(1.0) + (1.0 - dice).mean()
