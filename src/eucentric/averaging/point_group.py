r"""The point group of a map, by a likelihood ratio of its halves.

Under a group G the best guess of half 2 is the mean of half 1 over the turns of G: it holds the same signal and less noise.
If G is wrong, signal is lost. With the correlation :math:`\rho_s` of the guess with half 2 in shell s of :math:`n_s`
independent numbers, the log-likelihood of half 2, against knowing nothing, is

.. math:: \Lambda_G = -\tfrac12 \sum_s n_s \ln (1 - \rho_s^2)

(a Gaussian regression in each shell), and :math:`\Lambda_G - \Lambda_{C1}` is the evidence for G. The axes are found in half 1
alone, so that half 2 knows nothing of how many were tried; both directions are averaged.

A particle that is nearly alike all around gains by the mean as long as its halves are noisy. So the copies must agree with
the other half as well as the halves agree with each other: their *likeness*, noise taken off, is one for a true group.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.averaging.align_reference import AlignReference
from eucentric.averaging.correlate_maps import HALF_MAPS, correlate_halves
from eucentric.averaging.map_centre import centre_of_mass
from eucentric.averaging.point_group_axes import Frame, TurnedMap, find_frames, refined_frame
from eucentric.averaging.point_group_params import PointGroupParams
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import soft_edge
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.projection.turned import CubeSamples
from eucentric.typing import FloatArray

_EDGE = 3.0  # voxels
_REFINED = 8
"""Groups with most evidence, whose axes are made exact before they are weighed again."""
_SHELLS = 4
"""Fewest in which halves must agree."""
_AS_ALIKE = 0.95
"""Of the best group's likeness: another group of copies so alike may have less evidence for having fewer copies alone, as about an
axis of a particle that looks round; or, if larger, for an axis that is a little off."""
_CUBIC = {
    "T": {"C2", "C3", "D2"},
    "O": {"C2", "C3", "C4", "D2", "D3", "D4", "T"},
    "I": {"C2", "C3", "C5", "D2", "D3", "D5", "T"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEvidence:
    """What speaks for a group."""

    group: str
    evidence: float
    """Log-likelihood ratio against C1; mean of both halves."""
    likeness: float
    """Agreement of copies with the other half over that of the halves: 1 for a true group, noise apart."""
    supported: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointGroup:
    """The group that is supported, and where its axes lie."""

    group: str
    rotation: FloatArray
    """(3, 3) Q: ``V(Q x + c)`` has its axes as :func:`eucentric.geometry.symmetry.symmetry_rotations` has them."""
    centre_angstrom: FloatArray
    """(3,) c."""
    evidence: tuple[GroupEvidence, ...]
    """Of all groups tried, best first."""
    needed: float
    """Evidence that a group must have."""
    rivals: tuple[str, ...]
    """Groups that the halves do not tell from the best one; `group` is then what they have in common."""
    low_pass_angstrom: float


def is_subgroup(small: str, large: str) -> bool:
    """Whether every particle of group `large` has the axes of group `small` too."""
    if small in ("C1", large):
        return True
    if large in _CUBIC:
        return small in _CUBIC[large]
    if small in _CUBIC:
        return False
    fits = int(large[1:]) % int(small[1:]) == 0
    if small[0] == "C":
        return fits or (large[0] == "D" and small == "C2")
    return large[0] == "D" and fits


def detect_point_group(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    voxel_size: float,
    mask: Float[Tensor, "n n n"],
    params: PointGroupParams | None = None,
) -> PointGroup:
    """The highest point group that half maps made without symmetry support.

    Parameters
    ----------
    half1, half2 : unfiltered or filtered alike, of independent halves of the particles
    voxel_size : A
    mask : 0 to 1; a ball about the particle that holds it is used, as its own outline could break a symmetry or feign one

    Raises
    ------
    ShapeError : maps and mask of different shapes, or no cubes of even size
    InputError : an empty mask, or a low-pass beyond what the voxels hold
    """
    params = params or PointGroupParams()
    n = half1.shape[0]
    if not half1.shape == half2.shape == mask.shape == (n, n, n) or n % 2:
        raise ShapeError(
            f"Halves of {tuple(half1.shape)} and {tuple(half2.shape)} voxels and a mask of {tuple(mask.shape)} were given; "
            "expected cubes of the same even size."
        )
    if float(mask.max()) <= 0.5:
        raise InputError("The mask is empty. Give one of 0 to 1, or none.")
    ball, diameter = _ball_about(mask, voxel_size)
    detail = params.low_pass_angstrom or _agreed_detail(half1, half2, voxel_size, ball)
    if detail < 2.0 * voxel_size:
        raise InputError(
            f"A low-pass of {detail:g} A is finer than voxels of {voxel_size:g} A hold. Give --low-pass-angstrom of "
            f"{2.0 * voxel_size:g} or more."
        )
    names = _names(params)
    needed = math.log(params.odds) + math.log(len(names))
    pair = [
        AlignReference.build(
            h * ball, voxel_size, low_pass_angstrom=detail, diameter_angstrom=min(diameter, n * voxel_size)
        )
        for h in (half1, half2, half1 + half2)
    ]
    samples = CubeSamples.below(voxel_size / detail, n, half1)
    reliability = _reliability(pair[0], pair[1], samples)
    maps = [TurnedMap.of(r, samples, reliability) for r in pair]
    independent = float(ball.square().sum() ** 2 / ball.square().square().sum()) / n**3
    start = [centre_of_mass(h * ball) for h in (half1, half2)]
    frames = [find_frames(one, names, centre) for one, centre in zip(maps, start, strict=False)]
    pairs = [(maps[0], maps[1]), (maps[1], maps[0])]
    found = _weighed(pairs, frames, independent, needed, params)
    for name in [g.group for g in found[:_REFINED]]:
        for own, (one, _) in zip(frames, pairs, strict=True):
            own[name] = refined_frame(one, name, own[name], 0.5 * one.step_deg)
    found = _weighed(pairs, frames, independent, needed, params)
    group, rivals = chosen_group(found, needed)
    frame = Frame(rotation=np.eye(3), centre=np.zeros(3), score=1.0)
    if group != "C1":
        frame = refined_frame(maps[2], group, frames[0][group], 0.5 * maps[2].step_deg)
    return PointGroup(
        group=group,
        rotation=frame.rotation,
        centre_angstrom=frame.centre * voxel_size,
        evidence=tuple(found),
        needed=needed,
        rivals=rivals,
        low_pass_angstrom=detail,
    )


def _weighed(
    pairs: list[tuple[TurnedMap, TurnedMap]],
    frames: list[dict[str, Frame]],
    independent: float,
    needed: float,
    params: PointGroupParams,
) -> list[GroupEvidence]:
    """What speaks for each group, best first."""
    found = []
    for name in frames[0]:
        told = [_compared(*pair, name, own[name], independent) for pair, own in zip(pairs, frames, strict=True)]
        evidence, likeness = (float(np.mean([t[k] for t in told])) for k in (0, 1))
        good = evidence > needed and likeness > params.likeness
        found.append(GroupEvidence(group=name, evidence=evidence, likeness=likeness, supported=good))
    return sorted(found, key=lambda g: -g.evidence)


def chosen_group(found: list[GroupEvidence], needed: float) -> tuple[str, tuple[str, ...]]:
    """The supported group with most evidence, or a larger one whose further copies are as alike; or what it has in common with others
    that are as good; and these.

    Parameters
    ----------
    found : best first
    """
    good = [g for g in found if g.supported]
    if not good:
        return "C1", ()
    best = good[0]
    for larger in good[1:]:
        if is_subgroup(best.group, larger.group) and _adds_as_alike(larger, best):
            best = larger
    near = [
        g.group
        for g in good
        if not is_subgroup(g.group, best.group)
        and (g.evidence > good[0].evidence - needed or g.likeness > _AS_ALIKE * best.likeness)
    ]
    # what a rival contains speaks for that rival
    near = [g for g in near if not any(is_subgroup(g, other) for other in near if other != g)]
    if not near:
        return best.group, ()
    common = [g.group for g in good if all(is_subgroup(g.group, other) for other in (best.group, *near))]
    return (common[0] if common else "C1"), (best.group, *near)


def _adds_as_alike(larger: GroupEvidence, smaller: GroupEvidence) -> bool:
    """Whether copies by what a larger group adds agree with the other half as those of the smaller group do.

    Each further copy takes away less noise than the ones before, while an axis that is a little off costs as much as ever: with
    less evidence than its subgroup a larger group is not refuted, but only by copies that are less alike.
    """
    orders = [len(symmetry_rotations(g.group)) for g in (larger, smaller)]
    added = (orders[0] - 1) * larger.likeness - (orders[1] - 1) * smaller.likeness
    return added / (orders[0] - orders[1]) > _AS_ALIKE * smaller.likeness


def _names(params: PointGroupParams) -> list[str]:
    orders = range(2, params.max_order + 1)
    return [f"{kind}{n}" for kind in "CD" for n in orders] + (list("TOI") if params.cubic else [])


def _ball_about(mask: Tensor, voxel: float) -> tuple[Tensor, float]:
    """A soft ball about the middle that holds a mask, as far as the box does, and its diameter in A."""
    n = mask.shape[0]
    line = torch.arange(n, device=mask.device, dtype=mask.dtype) - n // 2
    radius = torch.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2)
    reach = min(float(radius[mask > 0.5].max()), 0.5 * n - 1.0 - _EDGE)
    return soft_edge(radius, reach, reach + _EDGE), 2.0 * reach * voxel


def _agreed_detail(half1: Tensor, half2: Tensor, voxel: float, ball: Tensor) -> float:
    """A; where the halves agree to 0.143, and some shells at least."""
    found = correlate_halves(half1, half2, voxel, ball)
    below = np.flatnonzero(found.masked[1:] < HALF_MAPS) + 1
    shell = int(below[0]) if len(below) else len(found.frequency) - 1
    shell = min(max(shell, _SHELLS), len(found.frequency) - 1)
    return float(max(1.0 / found.frequency[shell], 2.0 * voxel))


def _shell_sums(values: Tensor, shell: Tensor, count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.float64).index_add_(0, shell.cpu(), values.double().cpu())


def _reliability(one: AlignReference, other: AlignReference, samples: CubeSamples) -> Tensor:
    """(shell,) correlation of the halves, none below zero."""
    count = int((samples.frequencies.norm(dim=1).max() * one.box_size).round()) + 1
    ones = torch.ones(count)
    a, b = TurnedMap.of(one, samples, ones), TurnedMap.of(other, samples, ones)
    top = _shell_sums((a.own.conj() * b.own).real * samples.shares, a.shell, count)
    norm = [_shell_sums(m.own.abs().square() * samples.shares, a.shell, count) for m in (a, b)]
    return (top / (norm[0] * norm[1]).sqrt().clamp_min(1e-30)).clamp(0.0, 1.0).float()


def _compared(known: TurnedMap, other: TurnedMap, name: str, frame: Frame, independent: float) -> tuple[float, float]:
    """Evidence of a group against C1, and likeness, of the frame found in the one half, for the other half."""
    group = frame.rotation @ symmetry_rotations(name) @ frame.rotation.T
    copies = known.copies(group, frame.centre)
    shares, count = known.samples.shares, int(known.shell.max()) + 1
    numbers = _shell_sums(shares, known.shell, count) * independent
    numbers[0] = 0.0

    def likelihood(guess: Tensor) -> float:
        top = _shell_sums((guess.conj() * other.own).real * shares, known.shell, count)
        norm = [_shell_sums(m.abs().square() * shares, known.shell, count) for m in (guess, other.own)]
        rho = (top / (norm[0] * norm[1]).sqrt().clamp_min(1e-30)).clamp(0.0, 1.0 - 1e-6)
        return float(-0.5 * (numbers * torch.log1p(-rho.square())).sum())

    evidence = likelihood(copies.mean(0)) - likelihood(known.own)
    agreed = ((copies * other.own.conj()).real * known.weight).sum(1)
    alone = float(((known.own * other.own.conj()).real * known.weight).sum())
    return evidence, float(agreed[1:].mean()) / max(alone, 1e-30)
