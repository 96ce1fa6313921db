"""Gain and defective pixels."""

import torch
import torch.nn.functional as functional
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.motion.results import DetectorCorrection

_WINDOW = 7


def correct_frames(
    frames: Float[Tensor, "frame y x"],
    gain: Float[Tensor, "y x"] | None,
    *,
    defect_sigma: float,
    generator: torch.Generator,
) -> DetectorCorrection:
    """Multiply by the gain and replace defective pixels by neighbours drawn at random, so that noise stays noise.

    Defects are pixels with no gain (zero or not finite), and pixels whose count over all frames stands further from its
    7 x 7 neighbourhood than `defect_sigma` robust standard deviations after the variance-stabilising square root.

    Parameters
    ----------
    frames : counts, as recorded
    gain : factor for every pixel, or None

    Raises
    ------
    ShapeError : the gain has another size than the frames
    InputError : a frame holds values that are not finite, or negative sums throughout
    """
    if not bool(torch.isfinite(frames).all()):
        bad = (~torch.isfinite(frames)).flatten(1).any(1).nonzero().flatten().tolist()
        raise InputError(
            f"Frame {bad[0] + 1} holds values that are not numbers (NaN or infinity). Copy the movie again."
        )
    dead = torch.zeros(frames.shape[-2:], dtype=torch.bool, device=frames.device)
    if gain is not None:
        if gain.shape != frames.shape[-2:]:
            raise ShapeError(
                f"The gain reference is {gain.shape[1]} x {gain.shape[0]} pixels and the frames are "
                f"{frames.shape[2]} x {frames.shape[1]}; expected the same size."
            )
        dead = ~torch.isfinite(gain) | (gain <= 0)
        frames = frames * torch.where(dead, torch.zeros_like(gain), gain)
    defects = _find_defects(frames.sum(0), dead, defect_sigma)
    return DetectorCorrection(frames=_fill(frames, defects, generator), defects=defects)


def _find_defects(total: Tensor, dead: Tensor, sigma: float) -> Bool[Tensor, "y x"]:
    floor = total.clamp(min=0.0)
    if float(floor.max()) <= 0:
        return dead
    # neighbours are clipped first, so that one hot pixel does not raise the level of its surroundings
    level = floor[~dead].median() if bool((~dead).any()) else floor.median()
    clipped = floor.clamp(max=float(4.0 * level + 10.0 * level.sqrt()))
    good = (~dead).to(total.dtype)
    around = _box_sum(clipped * good) - clipped * good
    count = _box_sum(good) - good
    local = around / count.clamp(min=1.0)
    deviation = 2.0 * (torch.sqrt(floor + 0.375) - torch.sqrt(local + 0.375))
    centred = deviation[~dead] - deviation[~dead].median()
    # two robust estimates: the median alone collapses where half of an image is blocked and counts nothing
    ranked = centred.abs().sort().values
    spread = torch.maximum(1.4826 * ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))] / 1.96)
    return dead | ((deviation.abs() > sigma * spread.clamp(min=1e-6)) & (count > 0))


def _box_sum(image: Tensor) -> Tensor:
    padded = functional.pad(image[None, None], [_WINDOW // 2] * 4, mode="reflect")
    return functional.avg_pool2d(padded, _WINDOW, stride=1)[0, 0] * _WINDOW**2


def _fill(frames: Tensor, defects: Tensor, generator: torch.Generator) -> Tensor:
    where = defects.nonzero()
    if not len(where):
        return frames
    height, width = defects.shape
    filled = frames.clone()
    todo = where
    reach = 2
    while len(todo) and reach < max(height, width):
        offset = torch.randint(-reach, reach + 1, (len(todo), 2), generator=generator, device=frames.device)
        source = todo + offset
        source[:, 0].clamp_(0, height - 1)
        source[:, 1].clamp_(0, width - 1)
        usable = ~defects[source[:, 0], source[:, 1]]
        to, at = todo[usable], source[usable]
        filled[:, to[:, 0], to[:, 1]] = frames[:, at[:, 0], at[:, 1]]
        todo = todo[~usable]
        reach += 1
    if len(todo):
        filled[:, todo[:, 0], todo[:, 1]] = frames[:, ~defects].mean(1, keepdim=True) if bool((~defects).any()) else 0.0
    return filled
