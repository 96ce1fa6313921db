r"""How a gain reference lies on the frames, and whether it multiplies or divides, found in the movies themselves.

A pixel of gain g counts 1 / g of what its neighbours count, whatever the specimen. With N the counts of a pixel over all
frames and m the mean of the 16 x 16 pixels around it, N / m - 1 is -log g, less its mean there, plus the noise of counting
and the specimen's own fine detail, which knows nothing of the camera. So for each orientation the slope of the one on the
other is

.. math:: b = \sum (N - m)\,\delta \Big/ \sum m\,\delta^2, \qquad \delta = -\log g + \langle\log g\rangle

the estimate of greatest likelihood for Poisson counts where the pattern is weak: 1 where the reference lies right and
multiplies, -1 where it lies right and divides, 0 where it does not belong. Its error comes from the scatter that is seen, so
that neither the scale of the counts nor their distribution is assumed. Stripes have few independent samples, so whole columns
and whole rows are judged apart from single pixels, and the three slopes are weighted by their errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.threads import threads_for
from eucentric.errors import InputError, ShapeError
from eucentric.motion.detector import AS_STORED, ORIENTATIONS, Operation, Orientation, prepare_gain

_PATCH = 16
_SURE = 8.0
"""Standard deviations: of 8 orientations none comes so far by chance, even where the scatter has long tails."""
_LEAST_SLOPE = 0.5
_FLAT = 1e-3
_ENOUGH = 2048
"""Pixels along each side that are looked at first."""
_STEEPEST = 1.5
"""Natural logarithm; pixels whose gain is further from the usual one are broken, not insensitive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientationEvidence:
    """What speaks for one orientation."""

    orientation: Orientation
    slope: float
    """1: explains the fixed pattern of the frames as a factor; -1: as a divisor; 0: not at all."""
    sigma: float
    """Standard deviation of the slope."""
    parts: tuple[tuple[float, float], ...]
    """Slope and standard deviation from whole columns, whole rows, and single pixels, which the slope is the mean of."""

    @property
    def significance(self) -> float:
        """Slope over its standard deviation."""
        return self.slope / self.sigma if self.sigma > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GainOrientation:
    """How a gain reference is to be used."""

    orientation: Orientation
    operation: Operation
    status: Literal["found", "flat", "alike"]
    """`flat`: a reference of ones, any orientation is the same. `alike`: the reference looks the same in several."""
    evidence: tuple[OrientationEvidence, ...]
    """Of every orientation that the shape allows, the strongest first."""
    note: str
    """One or two sentences for the user."""

    def table(self) -> str:
        """The evidence, one line for each orientation."""
        return evidence_table(self.evidence)


def evidence_table(evidence: Sequence[OrientationEvidence]) -> str:
    """The slopes with their errors, one line for each orientation."""
    return "\n".join(
        f"{e.orientation!s:40s} {e.slope:+7.3f} +- {e.sigma:.3f}  ({e.significance:+.1f} sigma)" for e in evidence
    )


def orient_gain(counts: Float[Tensor, "*movie y x"], gain: Float[Tensor, "y x"]) -> GainOrientation:
    """The orientation, and the operation, in which a gain reference explains the fixed pattern of uncorrected frames.

    Parameters
    ----------
    counts : the sum of all frames of a movie as recorded, or of several movies (movie, y, x) or added up. Movies of different
        tilts help twice: more counts, and the specimen averages away. With at least two, a movie that carries no fixed pattern
        is told from one that carries another.
    gain : as read, y up; of the frames' size, or of twice, four times, a half or a quarter of it

    Raises
    ------
    ShapeError : no orientation has the frames' shape
    InputError : the reference fits in no orientation: it belongs to another camera or day, or the movies are corrected already;
        or it fits in several that differ; or the counts are too few to tell. The message shows the evidence.
    """
    if counts.ndim not in (2, 3) or min(counts.shape[-2:]) < 2 * _PATCH:
        raise ShapeError(
            f"The sum of frames has shape {tuple(counts.shape)}; expected (y, x) or (movie, y, x) of {2 * _PATCH} pixels or more."
        )
    shape = (counts.shape[-2], counts.shape[-1])
    total = (counts if counts.ndim == 2 else counts.sum(0)).to(torch.float32)
    if not float(total.mean()) > 0 or not math.isfinite(float(total.mean())):
        raise InputError(
            "The sum of the frames is not positive everywhere it should be; give sums of frames as recorded."
        )
    with threads_for(_ENOUGH):
        fitting = [o for o in ORIENTATIONS if _fits(gain, o, shape)]
        if not fitting:
            # the error of the plain attempt names both sizes
            prepare_gain(gain, shape)
        # brought to the frames' size once: the orientations then only turn it
        turned_shape = (shape[1], shape[0]) if fitting[0].exchanges_axes else shape
        factor = prepare_gain(gain, turned_shape)
        pattern = _log_sensitivity(factor)
        if float(pattern.std()) < _FLAT:
            return GainOrientation(
                orientation=next((o for o in fitting if o == AS_STORED), fitting[0]), operation="multiply", status="flat",
                evidence=(), note="The gain reference is flat: it changes nothing, in any orientation.",
            )  # fmt: skip
        evidence = _compare_all(total, pattern, fitting, _middle(shape))
        if max(shape) > _ENOUGH and abs(evidence[0].significance) < 3 * _SURE:
            evidence = _compare_all(total, pattern, fitting, (slice(None), slice(None)))
        return _decide(evidence, pattern, counts)


def _middle(shape: tuple[int, int]) -> tuple[slice, slice]:
    """The middle of an image, no larger than is needed as a rule."""
    rows, columns = (slice((n - min(n, _ENOUGH)) // 2, (n + min(n, _ENOUGH)) // 2) for n in shape)
    return rows, columns


def _compare_all(
    total: Tensor, pattern: Tensor, orientations: Sequence[Orientation], window: tuple[slice, slice]
) -> tuple[OrientationEvidence, ...]:
    seen = _Pattern.of(total[window])
    return tuple(
        sorted((_compare(seen, o.apply(pattern)[window], o) for o in orientations), key=lambda e: -abs(e.slope))
    )


def _fits(gain: Tensor, orientation: Orientation, shape: tuple[int, int]) -> bool:
    height, width = gain.shape[::-1] if orientation.exchanges_axes else gain.shape
    return any((height * s, width * s) == shape or (shape[0] * s, shape[1] * s) == (height, width) for s in (1, 2, 4))


def _log_sensitivity(factor: Tensor) -> Tensor:
    """-log gain about its median; 0 where there is none."""
    good = factor > 0
    out = -torch.log(factor.clamp(min=1e-12))
    sample = slice(None, None, max(1, factor.numel() // 2**18) | 1)
    out -= out.view(-1)[sample][good.view(-1)[sample]].median()
    return torch.where(good, out.clamp(-_STEEPEST, _STEEPEST), out.new_zeros(()))


@dataclass(frozen=True, slots=True, eq=False)
class _Pattern:
    """Counts beyond the mean around, and that mean, cut to whole patches."""

    excess: Tensor
    mean: Tensor  # (patch y, patch x)

    @classmethod
    def of(cls, total: Tensor) -> "_Pattern":
        height, width = (n // _PATCH * _PATCH for n in total.shape)
        image = _without_hot(total[:height, :width].contiguous())
        mean = _patch_means(image)
        excess = _patches(image) - mean[:, None, :, None]
        # hot pixels and beads would outweigh all others
        scale = torch.sqrt(_patch_means(excess.reshape(height, width).square()).clamp(min=0.0))
        dispersion = _dispersion(scale, mean)
        usual = torch.minimum(scale, 3.0 * torch.sqrt(mean.clamp(min=0.0)) * dispersion)
        # and a few electrons in a pixel are nothing special where most have none
        limit = (5.0 * usual + 10.0 * dispersion**2)[:, None, :, None]
        excess = torch.where(excess.abs() > limit, excess.new_zeros(()), excess)
        return cls(excess.reshape(height, width), mean.clamp(min=0.0))


def _without_hot(image: Tensor) -> Tensor:
    """Counts that no insensitive neighbourhood explains, replaced by the mean of the others in their patch.

    One full pixel of 16 bits would else be the level of its patch.
    """
    patches = _patches(image)
    flat = patches.permute(0, 2, 1, 3).flatten(2)
    middle = flat.median(-1).values
    limit = (math.exp(_STEEPEST) * middle + 10.0 * middle.clamp(min=0.0).sqrt() + 10.0)[:, None, :, None]
    hot = patches > limit
    if not bool(hot.any()):
        return image
    good = torch.where(hot, patches.new_zeros(()), patches).sum((1, 3), keepdim=True)
    count = (~hot).sum((1, 3), keepdim=True).clamp(min=1)
    return torch.where(hot, good / count, patches).reshape(image.shape)


def _dispersion(scale: Tensor, mean: Tensor) -> Tensor:
    """Standard deviation over the square root of the mean, of the usual patch."""
    lit = mean > 0
    return (scale[lit] / torch.sqrt(mean[lit])).median()


def _patches(image: Tensor) -> Tensor:
    """(patch y, y, patch x, x)."""
    height, width = image.shape
    return image.reshape(height // _PATCH, _PATCH, width // _PATCH, _PATCH)


def _patch_means(image: Tensor) -> Tensor:
    return functional.avg_pool2d(image[None, None], _PATCH)[0, 0]


def _compare(seen: _Pattern, turned: Tensor, orientation: Orientation) -> OrientationEvidence:
    height, width = seen.excess.shape
    turned = turned[:height, :width].contiguous()
    delta = (_patches(turned) - _patch_means(turned)[:, None, :, None]).view(height, width)
    weight = seen.mean.repeat_interleave(_PATCH, 0)  # (y, patch x)
    parts = []
    # stripes first, then what is left of single pixels
    for axis in (0, 1):
        parts.append(_line_slope(seen, delta, weight, axis))
        delta -= delta.mean(axis, keepdim=True)
    product = seen.excess * delta
    weighted = (delta.square_().view(height, -1, _PATCH).sum(-1) * weight).sum()
    parts.append((product.sum(), weighted, product.square_().sum()))
    slopes = tuple(
        (float(numerator / denominator), float(variance.sqrt() / denominator))
        if denominator > 0 and variance > 0
        else (0.0, math.inf)
        for numerator, denominator, variance in parts
    )
    precision = sum(sigma**-2 for _, sigma in slopes)
    mean = sum(slope * sigma**-2 for slope, sigma in slopes)
    return OrientationEvidence(
        orientation=orientation, parts=slopes,
        slope=mean / precision if precision > 0 else 0.0, sigma=precision**-0.5 if precision > 0 else math.inf,
    )  # fmt: skip


def _line_slope(seen: _Pattern, delta: Tensor, weight: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numerator and denominator of the slope over whole columns (axis 0) or rows, and the numerator's variance."""
    excess = seen.excess.sum(axis).double()
    change = delta.mean(axis).double()
    counts = (
        weight.sum(0, dtype=torch.float64).repeat_interleave(_PATCH)
        if axis == 0
        else weight.sum(1, dtype=torch.float64) * _PATCH
    )
    product = excess * change
    return product.sum(), (counts * change.square()).sum(), product.square().sum()


def _decide(evidence: tuple[OrientationEvidence, ...], pattern: Tensor, counts: Tensor) -> GainOrientation:
    best = evidence[0]
    sure = abs(best.significance) >= _SURE
    if sure and abs(best.slope) >= _LEAST_SLOPE:
        rivals = [e for e in evidence[1:] if _misfit(e, best.slope) - _misfit(best, best.slope) < _SURE**2]
        same = [e for e in rivals if _alike(pattern, best.orientation, e.orientation)]
        if len(same) < len(rivals):
            raise InputError(
                f"The gain reference fits in {len(rivals) + 1} orientations that differ. Set its rotation and flip by hand.\n"
                + evidence_table(evidence)
            )
        operation: Operation = "multiply" if best.slope > 0 else "divide"
        chosen = best.orientation
        if any(e.orientation == AS_STORED for e in same):
            chosen = AS_STORED
        note = (
            f"The gain reference, {chosen}, {'multiplies' if operation == 'multiply' else 'divides'} the counts: it explains "
            f"{min(1.0, abs(best.slope)):.0%} of the camera's pattern ({abs(best.significance):.0f} sigma)."
        )
        if abs(best.slope) < 0.8:
            note += " A part of the pattern is not in it: it may be of another day, so a newer one would serve better."
        elif abs(best.slope) > 1.25:
            note += " The pattern is stronger than the reference: it may have been smoothed, or scaled."
        if same:
            note += f" It looks the same in {len(same)} other orientations, so either will do."
        return GainOrientation(
            orientation=chosen, operation=operation, status="alike" if same else "found", evidence=evidence, note=note
        )
    raise InputError(_refusal(best, pattern, counts) + "\n" + evidence_table(evidence))


def _misfit(evidence: OrientationEvidence, slope: float) -> float:
    """How badly columns, rows and pixels agree with a slope, as a sum of squares in standard deviations.

    Stripes look the same turned over along their length: then only the single pixels tell which way is right.
    """
    return sum(((part - slope) / sigma) ** 2 for part, sigma in evidence.parts)


def _alike(pattern: Tensor, one: Orientation, other: Orientation) -> bool:
    first, second = one.apply(pattern), other.apply(pattern)
    return first.shape == second.shape and float((first - second).square().mean().sqrt()) < _FLAT


def _refusal(best: OrientationEvidence, pattern: Tensor, counts: Tensor) -> str:
    if best.sigma > 1.0 / _SURE:
        times = math.ceil((best.sigma * 1.5 * _SURE) ** 2) if math.isfinite(best.sigma) else 100
        return (
            f"The counts are too few to tell how the gain reference lies (slopes are known to {best.sigma:.2g} only). "
            f"Add the frames of about {times} times as many movies, or set its rotation and flip by hand."
        )
    if abs(best.significance) >= _SURE and abs(best.slope) > 0.1:
        return (
            f"The gain reference explains only {abs(best.slope):.0%} of itself in the frames, at best ({best.orientation}). "
            "It seems to be of this camera but of another time, or the movies are corrected with another one. "
            "Give the one of this session."
        )
    trace = _pattern_share(pattern, counts)
    if trace is None:
        why = "either it is of another camera, or the movies are corrected already"
    elif trace < 0.25:
        why = "the frames carry no fixed pattern as strong as it would leave, so they seem to be corrected already"
    else:
        why = "the frames carry a fixed pattern, but another one, so it seems to be of another camera or another day"
    return (
        f"The gain reference fits the frames in no orientation: {why}. Give the one of this camera and day, or none if the movies "
        "are corrected."
    )


def _pattern_share(pattern: Tensor, counts: Tensor) -> float | None:
    """Power of the pattern that movies share, over the reference's, in the finest detail; None for one movie."""
    if counts.ndim != 3 or len(counts) < 2:
        return None
    halves = [counts[0::2].sum(0).to(torch.float32), counts[1::2].sum(0).to(torch.float32)]
    fine = []
    for half in halves:
        change = _Pattern.of(half)
        mean = change.mean.repeat_interleave(_PATCH, 0).repeat_interleave(_PATCH, 1)
        lit = mean > 0.2 * float(mean.mean())
        fine.append(_finest(torch.where(lit, change.excess / mean.clamp(min=1e-12), mean.new_zeros(()))))
    own = float(_finest(pattern).square().mean())
    return float((fine[0] * fine[1]).mean()) / own if own > 0 else None


def _finest(image: Tensor) -> Tensor:
    """Each pixel less the mean of its four neighbours: what no specimen in focus of a microscope shows."""
    return image[1:-1, 1:-1] - 0.25 * (image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:])
