"""Steps between the tiles that a network was applied to: planes at a constant period."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from eucentric.denoising.trust.block_spectra import check_same_shapes
from eucentric.errors import InputError

_PATCH = 8
_SHORTEST = 8
_MARGIN = 4
_LEAST_TEETH = 3
_SEARCHED, _TOLD = 6.0, 5.0
_CLIPPED = 6.0  # no single plane makes a comb
_TOOTH = 1.0
_UNEXPLAINED, _DOUBTS = 0.5, 3.0
_PHASES, _TRIED = 3, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """Steps at planes of one axis."""

    axis: str
    """z, y or x: the planes stand at right angles to it."""
    period_voxels: int
    first_plane: int
    """The first voxel beyond the first step."""
    z_score: float
    share: float
    """Root mean square step, of means over 8 x 8 voxels, over the standard deviation of the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What was found: at most one comb of planes for each axis."""

    seams: tuple[Seam, ...]
    largest_z: float
    """Of all combs tested that the raw volume does not explain."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """One sentence for each axis."""
        return tuple(
            f"The output has steps of {100 * s.share:.2g}% of its standard deviation every {s.period_voxels} voxels along "
            f"{s.axis}: tiles do not fit together. Apply the network with more overlap."
            for s in self.seams
        )


def find_seams(output: Float[Tensor, "z y x"], raw: Float[Tensor, "z y x"], *, stride: int | None = None) -> Seams:
    r"""Look for steps across planes that repeat at a constant distance.

    Along each axis means over 8 x 8 voxels of the other two are taken, and their third difference
    :math:`-v_{i-2} + 3 v_{i-1} - 3 v_i + v_{i+1}`, which a step of height J before voxel i makes -2 J and smooth detail
    hardly anything. The mean logarithm of its square over a plane, less the median of planes 2 to 4 voxels away, in robust
    standard deviations (at most 6), is the height of a tooth; a comb of m teeth scores their sum over :math:`\sqrt m`. All
    periods from 8 voxels to a third of the axis and all phases are tried, or multiples of `stride` alone. A comb counts at 6
    (at 5 where `stride` is given: few are tried), if most of its teeth stand out. Layers of the specimen pass as in
    :func:`find_grid_artefacts`: what the raw volume has too, at half its height or more, is no seam.

    Parameters
    ----------
    output, raw : the restored volume and what it was made of
    stride : tile less overlap, in voxels; None where it is not known

    Raises
    ------
    ShapeError : volumes of other shapes
    InputError : a stride below 8 voxels, or a constant output
    """
    check_same_shapes(output=output, raw=raw)
    spread = float(output.double().std())
    if not spread > 0:
        raise InputError("The output is constant: all of its voxels have one value. There is nothing to check.")
    if stride is not None and stride < _SHORTEST:
        raise InputError(f"A stride of {stride} voxels was given; expected {_SHORTEST} or more.")
    found, largest = [], 0.0
    for axis, name in enumerate("zyx"):
        score, period, first, share = _best_comb(output, raw, axis, stride)
        largest = max(largest, score)
        if score >= (_SEARCHED if stride is None else _TOLD):
            found.append(Seam(axis=name, period_voxels=period, first_plane=first, z_score=score, share=share / spread))
    return Seams(seams=tuple(found), largest_z=largest)


def _best_comb(output: Tensor, raw: Tensor, axis: int, stride: int | None) -> tuple[float, int, int, float]:
    """Score, period, first plane and step of the comb that stands out most; score 0 without any."""
    n = output.shape[axis]
    if n < 4 * _SHORTEST:
        return 0.0, 0, 0, 0.0
    ours, theirs = _third_differences(output, axis), _third_differences(raw, axis)
    power, cross = (ours * ours).mean(1).cpu(), (ours * theirs).mean(1).cpu()
    tiny = float(power.mean()) * 1e-12 + 1e-300
    heights = _above_neighbours((ours.square() + tiny).log().mean(1).cpu())[_MARGIN : n - _MARGIN]
    heights = (heights - heights.median()) / max(_spread(heights), 1e-9)
    # the part beyond the clip only tells equals apart
    heights = heights.clamp(max=_CLIPPED) + 1e-3 * (heights - _CLIPPED).clamp(min=0.0)
    for score, period, first in sorted(_combs(heights, stride), reverse=True)[:_TRIED]:
        teeth = torch.arange(first, n - _MARGIN, period)
        around = teeth[:, None] + torch.arange(-_MARGIN, _MARGIN + 1)
        around = around.clamp(_MARGIN, n - _MARGIN - 1)
        ground = power.median(), cross.median()
        excess, shared = (v[around].mean(0) - g for v, g in zip((power, cross), ground, strict=True))
        at = int(excess.argmax())
        step, beta = float(excess[at]), float(shared[at] / excess[at].clamp(min=1e-300))
        # a comb beside a stronger one is its fringe
        if at != _MARGIN or step <= 0:
            continue
        doubt = _spread(cross) / math.sqrt(len(teeth)) * math.sqrt(1.0 + step / float(ground[0])) / step
        if beta < _UNEXPLAINED or beta < _DOUBTS * doubt:
            return score, period, first, math.sqrt(step / 4.0)
    return 0.0, 0, 0, 0.0


def _combs(heights: Float[Tensor, " plane"], stride: int | None) -> list[tuple[float, int, int]]:
    """Score, period and first plane of the best combs of each period; `heights` begin at plane `_MARGIN`."""
    n = len(heights)
    if stride is not None:
        teeth = heights[stride - _MARGIN :: stride]
        return [(float(teeth.sum()) / math.sqrt(len(teeth)), stride, stride)] if len(teeth) else []
    found = []
    for period in range(_SHORTEST, (n + 2 * _MARGIN) // _LEAST_TEETH + 1):
        rows = -(-n // period)
        table = functional.pad(heights, (0, rows * period - n), value=torch.nan).reshape(rows, period)
        counts = torch.isfinite(table).sum(0)
        score = table.nansum(0) / counts.sqrt()
        score[(counts < _LEAST_TEETH) | ~(table.nanmedian(0).values >= _TOOTH)] = 0.0
        top = score.topk(min(_PHASES, period))
        found += [
            (float(value), period, int(at) + _MARGIN)
            for value, at in zip(top.values, top.indices, strict=True)
            if value > 0
        ]
    return found


def _spread(values: Tensor) -> float:
    return 1.4826 * float((values - values.median()).abs().median())


def _third_differences(volume: Tensor, axis: int) -> Float[Tensor, "plane patch"]:
    """Of means over patches; the entry of a plane tells of the step before it, 0 where planes lack."""
    planes = volume.movedim(axis, 0)
    patch = (min(_PATCH, planes.shape[1]), min(_PATCH, planes.shape[2]))
    v = torch.stack([functional.avg_pool2d(plane.float()[None], patch)[0] for plane in planes]).flatten(1).double()
    out = torch.zeros_like(v)
    out[2:-1] = -v[:-3] + 3 * v[1:-2] - 3 * v[2:-1] + v[3:]
    return out


def _above_neighbours(profile: Float[Tensor, " plane"]) -> Float[Tensor, " plane"]:
    """Less the median of planes 2 to 4 voxels away."""
    n = len(profile)
    places = torch.arange(n, device=profile.device)[:, None] + torch.tensor(
        [-4, -3, -2, 2, 3, 4], device=profile.device
    )
    return profile - profile[places.clamp(2, n - 2)].median(1).values
