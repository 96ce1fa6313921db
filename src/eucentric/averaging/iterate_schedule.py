"""What one iteration tells the next: detail compared, pixel size, how far poses may move, and when to stop."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from eucentric.averaging.align_params import AlignParams
from eucentric.averaging.iterate_params import IterateParams
from eucentric.compute.sizes import good_size

_SAMPLES = 3.0
"""Pixels to the detail that the last average resolved: half as much again as Nyquist, room to get better."""
_BINS = (8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0)
_REACH = 5.0
"""Reach of a search over the median change of the one before: a turn's length is rarely beyond that."""
_LEAST_REACH_DEG, _LEAST_SHIFT_PX = 4.0, 1.0
_SETTLED_DEG = 0.5
_GLOBAL_ROUNDS = 2
_LEAST_BOX = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What an iteration came to."""

    number: int
    """From 0, the start map."""
    pixel_size_angstrom: float
    resolution_angstrom: float
    low_pass_angstrom: float
    """Detail that was compared."""
    change_deg: float
    """Median turn of the particles; infinite for the start."""
    change_angstrom: float
    score: float
    """Median of the particles."""

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, infinities as null."""
        return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The reverse of :meth:`as_json`."""
        known: dict[str, Any] = {k: math.inf if v is None else v for k, v in values.items()}
        return cls(**known)


def pixel_size_for(resolution: float, image_pixel: float, finest_pixel: float) -> float:
    """Pixel size in A that holds detail of `resolution` and some more: a simple multiple of the finest one."""
    finest = max(image_pixel, finest_pixel)
    for factor in _BINS:
        if factor * finest * _SAMPLES <= resolution:
            return factor * finest
    return finest


def box_for(edge_angstrom: float, pixel_size: float) -> int:
    """Even number of pixels, good for transforms, that spans an edge in A."""
    return good_size(max(_LEAST_BOX, math.ceil(edge_angstrom / pixel_size - 1e-6)))


def next_search(params: IterateParams, history: Sequence[Round], pixel_size: float) -> AlignParams:
    """Settings of the next search from the rounds so far, the first of which is the start."""
    searched = [r for r in history if math.isfinite(r.change_deg)]
    common: dict[str, Any] = {
        "prior": params.prior,
        "prior_sigma_deg": params.prior_sigma_deg,
        "prior_angstrom": params.prior_angstrom,
        "shift_along_angstrom": params.shift_along_angstrom,
        "kept": params.kept,
    }
    rounds = _GLOBAL_ROUNDS if params.search != "local" else 1
    if len(searched) < rounds:
        return AlignParams(
            search=params.search, reach_deg=params.reach_deg, shift_angstrom=params.shift_angstrom, **common
        )
    last = searched[-1]
    reach = min(params.reach_deg if params.search == "local" else 15.0, max(_LEAST_REACH_DEG, _REACH * last.change_deg))
    shift = min(params.shift_angstrom, max(_LEAST_SHIFT_PX * pixel_size, _REACH * last.change_angstrom))
    return AlignParams(search="local", reach_deg=reach, shift_angstrom=shift, **common)


def is_settled(params: IterateParams, history: Sequence[Round], finest_pixel: float) -> bool:
    """Whether another iteration would change little: poses stand still, or two rounds brought no finer detail."""
    searched = [r for r in history if math.isfinite(r.change_deg)]
    if len(searched) >= params.max_iterations:
        return True
    if len(searched) < 4:
        return False
    wanted = pixel_size_for(searched[-1].resolution_angstrom, finest_pixel, finest_pixel)
    if wanted < searched[-1].pixel_size_angstrom * (1.0 - 1e-6):
        return False
    best_before = min(r.resolution_angstrom for r in searched[:-2])
    gained = min(r.resolution_angstrom for r in searched[-2:]) < best_before * (1.0 - params.gain)
    still = searched[-1].change_deg < _SETTLED_DEG and searched[-1].change_angstrom < 0.25 * finest_pixel
    return not gained or still
