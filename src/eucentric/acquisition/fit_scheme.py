"""Which tilt schemes explain the order in which the angles of a series were taken.

Angles are put on a lattice of whole steps, and orders are compared as whole numbers, so that a stage that stops some
hundredths of a degree away changes nothing. Every comparison is with the order that `TiltScheme` itself makes.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from eucentric.models.tilt_scheme import Side, TiltScheme, alternate
from eucentric.typing import FloatArray

SAME_ANGLE_DEG = 0.1
"""Closer than this, two images were taken at one angle."""
_ROUND_NUMBERS_DEG = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
_LARGEST_GROUP = 12
_LARGEST_GROWTH = 4
_LARGEST_USUAL_GROUP = 4  # of what is listed where nothing tells the order
_NEXT_IMAGES = 12  # further images on each side, by which schemes that agree so far are told apart
_WHOLE_TURN_DEG = 360.0
_LARGEST_STEP_DEG = 90.0  # as a scheme may have
_LEAST_FILLED = 0.4
"""Of the points of a lattice: a much finer one goes near any angle that is odd, and tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AngleLattice:
    """Equally spaced angles: index i lies at ``zero_deg + i step_deg``."""

    zero_deg: float
    step_deg: float

    def index(self, angles_deg: Sequence[float] | FloatArray) -> NDArray[np.int64]:
        """(n,), the nearest lattice point of every angle."""
        return np.rint((np.asarray(angles_deg, dtype=np.float64) - self.zero_deg) / self.step_deg).astype(np.int64)

    def angle(self, index: int) -> float:
        """Degrees."""
        return round(self.zero_deg + index * self.step_deg, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeFit:
    """A scheme that explains an order."""

    scheme: TiltScheme
    """Doses in it are not fitted."""
    out_of_place: tuple[int, ...]
    """Places in the order of images that the scheme would have taken at another time; empty where it fits exactly."""
    probability: float
    """Among the schemes of the family that explain the order, simpler ones being likelier: a factor 4 for each setting."""


def find_lattice(angles_deg: Sequence[float] | FloatArray) -> AngleLattice | None:
    """Step and offset of equally spaced angles; None where they are not, or where there is one angle alone.

    Parameters
    ----------
    angles_deg : (n,), in any order; angles may be missing (not most of them) or repeated, and deviate by a tenth of the step (rms)
    """
    angles = np.sort(np.asarray(angles_deg, dtype=np.float64))
    if not len(angles) or np.abs(angles).max() > _WHOLE_TURN_DEG:
        return None
    angles = angles[np.concatenate([[True], np.diff(angles) > SAME_ANGLE_DEG])]
    if len(angles) < 2:
        return None
    gaps = np.diff(angles)
    for step in sorted({float(np.median(gaps)), float(gaps.min())}, reverse=True):
        # Steps counted from gap to gap first: the error of a first guess would add up along the series.
        index = np.concatenate([[0.0], np.cumsum(np.rint(gaps / step))])
        if len(np.unique(index)) < 2:
            continue
        step, reference = (float(v) for v in np.polyfit(index, angles, 1))
        index = np.rint((angles - reference) / step)
        rest = angles - reference - step * index
        if len(angles) < _LEAST_FILLED * float(np.ptp(index) + 1):
            continue
        if len(np.unique(index)) == len(angles) and np.abs(rest).max() <= 0.3 * step and rest.std() <= 0.1 * step:
            step = _round_number(step, min(0.1, 0.1 / float(np.ptp(index))))
            zero = reference + float(np.mean(angles - reference - step * index))
            return AngleLattice(zero_deg=_round_number(zero, 0.06), step_deg=step)
    return None


def _round_number(value: float, tolerance: float) -> float:
    for unit in _ROUND_NUMBERS_DEG:
        rounded = round(value / unit) * unit
        if abs(rounded - value) <= tolerance and (rounded or unit == 1.0 or tolerance < 0.1):
            return round(rounded, 6)
    return round(value, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """A scheme in whole steps from its start."""

    start: int
    up_first: bool
    group: int | None
    """None: one side is run to its end."""
    with_start: bool = False
    growth: int = 0
    beyond: int = 0
    every: int = 0
    one_sided: int | None = None

    @property
    def count(self) -> int:
        """Settings that differ from the simplest scheme."""
        group = 0 if self.group in (1, None) else 1
        grown = bool(self.growth) + bool(self.growth and self.beyond) + bool(self.every)
        return group + self.with_start + grown + (self.one_sided is not None)

    def order(self, low: int, high: int) -> Iterator[int]:
        """Lattice points from low to high in the order taken."""
        up, down = range(self.start + 1, high + 1), range(self.start - 1, low - 1, -1)
        yield self.start
        sides = (up, down) if self.up_first else (down, up)
        if self.group is None:
            for side in sides:
                yield from side
            return
        for point in alternate(sides, self._size, self._is_one_sided, taken=int(self.with_start)):
            yield int(point)

    def _size(self, point: float) -> int:
        beyond = abs(point - self.start) - self.beyond
        group = self.group or 1
        if not self.growth or beyond < 0:
            return group
        return group + self.growth * (1 + (int(beyond) // self.every if self.every else 0))

    def _is_one_sided(self, point: float) -> bool:
        return self.one_sided is not None and abs(point - self.start) >= self.one_sided

    def scheme(self, lattice: AngleLattice, low: int, high: int) -> TiltScheme:
        """The record."""
        step = lattice.step_deg
        ends = self.start in (low, high)
        first: Side = "positive" if (self.start == low if ends and low != high else self.up_first) else "negative"
        scheme = TiltScheme(
            order="continuous" if ends else "bidirectional",
            start_deg=lattice.angle(self.start),
            step_deg=step,
            first_side=first,
            min_deg=lattice.angle(low),
            max_deg=lattice.angle(high),
        )
        if self.group is None:
            return scheme
        return scheme.replace(
            order="dose-symmetric",
            group_size=self.group,
            start_in_first_group=self.with_start,
            group_growth=self.growth,
            group_growth_beyond_deg=round(self.beyond * step, 6),
            group_growth_every_deg=round(self.every * step, 6),
            one_sided_beyond_deg=None if self.one_sided is None else round(self.one_sided * step, 6),
        )


def fit_schemes(
    angles_deg: Sequence[float] | FloatArray, all_angles_deg: Sequence[float] | FloatArray | None = None
) -> tuple[SchemeFit, ...]:
    """Schemes that explain an order, likeliest first; empty where none of the family does.

    Angles that the scheme would have and the series lacks are taken for missing images; a second visit of an angle is
    passed over. Where no scheme fits exactly, one that fits all but a tenth of the images is given.

    Parameters
    ----------
    angles_deg : (n,), in the order in which the images were taken
    all_angles_deg : where the place of some images in the order is not known: the angles of all
    """
    lattice = find_lattice(angles_deg if all_angles_deg is None else all_angles_deg)
    if lattice is None:
        return ()
    taken = list(dict.fromkeys(lattice.index(angles_deg).tolist()))
    whole = taken if all_angles_deg is None else lattice.index(all_angles_deg).tolist()
    low, high = min(whole), max(whole)
    if len(taken) < 2 or not _is_on_stage(lattice, low, high):
        return ()
    fits = _exact_fits(taken, low, high)
    if not fits:
        return _nearest_fit(taken, lattice, low, high)
    weights = np.array([0.25**f.count for f in fits])
    weights /= weights.sum()
    made = [
        SchemeFit(scheme=f.scheme(lattice, low, high), out_of_place=(), probability=float(w))
        for f, w in zip(fits, weights, strict=True)
    ]
    return tuple(sorted(made, key=lambda fit: -fit.probability))


def _is_on_stage(lattice: AngleLattice, low: int, high: int) -> bool:
    """Whether the angles are those of a stage with limits, in steps that a scheme may have; a needle turns all the way."""
    return max(abs(lattice.angle(low)), abs(lattice.angle(high))) < 90 and lattice.step_deg <= _LARGEST_STEP_DEG


def _starts(taken: Sequence[int]) -> list[int]:
    """Where the series may have begun: its first image, or one beside it that is missing."""
    here = set(taken)
    return [taken[0], *(p for p in (taken[0] - 1, taken[0] + 1) if p not in here)]


def _exact_fits(taken: Sequence[int], low: int, high: int) -> list[_Settings]:
    """Settings whose order is the one observed; of those that would go on alike, the simplest."""
    steps = np.diff(taken)
    if np.all(steps > 0) or np.all(steps < 0):
        rising = bool(steps[0] > 0)
        first = _Settings(start=low if rising else high, up_first=rising, group=None)
        # From few images, all on one side, nobody can tell that the other side does not follow.
        return [first] if len(taken) > 3 else [first, *_distinct(_simple(taken), taken, low, high)]
    fits = _distinct(_simple(taken), taken, low, high)
    if fits:
        return fits
    for more in (_with_side_end(taken, low, high), _with_growth(taken, low, high)):
        fits = _distinct(more, taken, low, high)
        if fits:
            return fits
    return []


def _simple(taken: Sequence[int]) -> Iterator[_Settings]:
    largest = min(_LARGEST_GROUP, max(2, len(taken) // 2))
    for start, up in product(_starts(taken), (True, False)):
        yield _Settings(start=start, up_first=up, group=None)
        for group in range(1, largest + 1):
            yield _Settings(start=start, up_first=up, group=group)
            if group > 1:
                yield _Settings(start=start, up_first=up, group=group, with_start=True)


def _with_side_end(taken: Sequence[int], low: int, high: int) -> Iterator[_Settings]:
    for simple in _simple(taken):
        if simple.group is not None:
            yield from _sides_ended(simple, taken, low, high)


def _sides_ended(settings: _Settings, taken: Sequence[int], low: int, high: int) -> Iterator[_Settings]:
    """The same with one side run to its end from where the order first differs."""
    place = _first_difference(settings, taken, low, high)
    if place < 3:  # an alternation cannot be seen in less
        return
    distance = abs(taken[place - 1] - settings.start)
    for more in range(3):
        yield replace(settings, one_sided=distance + more)


def _with_growth(taken: Sequence[int], low: int, high: int) -> Iterator[_Settings]:
    distances = range(max(high - taken[0], taken[0] - low) + 1)
    for simple in _simple(taken):
        if simple.group is None:
            continue
        agreed = _first_difference(simple, taken, low, high)
        seen = taken[:agreed]
        if not (seen and min(seen) < simple.start < max(seen)):
            continue  # the first group of a side is of the size given: none grows before both sides were visited
        reach = max(abs(p - simple.start) for p in seen)
        nearest = max(1, reach - 2 * (simple.group + 1))
        for growth, beyond, every in product(range(1, _LARGEST_GROWTH + 1), distances, range(11)):
            if not nearest < beyond <= reach + 1:
                continue  # nearer, a group would have grown that did not; farther, nothing seen would change
            grown = replace(simple, growth=growth, beyond=beyond, every=every)
            yield grown
            yield from _sides_ended(grown, taken, low, high)


def _first_difference(settings: _Settings, taken: Sequence[int], low: int, high: int) -> int:
    """Images that come as the settings say, before the first that does not."""
    here = set(taken)
    made = (p for p in settings.order(low, high) if p in here)
    return next((i for i, (a, b) in enumerate(zip(made, taken, strict=False)) if a != b), len(taken))


def _distinct(candidates: Iterator[_Settings], taken: Sequence[int], low: int, high: int) -> list[_Settings]:
    """Those that fit, the simplest of those which would take the same images next."""
    kept: dict[tuple[int, ...], _Settings] = {}
    for settings in candidates:
        if not low <= settings.start <= high or _first_difference(settings, taken, low, high) < len(taken):
            continue
        wide = low - _NEXT_IMAGES, high + _NEXT_IMAGES
        # How a series would end says nothing: only what comes between its images and soon after them.
        further = settings.order(*(wide if settings.group is not None else (low, high)))
        key = tuple(islice(further, len(taken) + 4)) if len(taken) < 8 else (0,)
        if key not in kept or settings.count < kept[key].count:
            kept[key] = settings
    return list(kept.values())


def _nearest_fit(taken: Sequence[int], lattice: AngleLattice, low: int, high: int) -> tuple[SchemeFit, ...]:
    """The simple scheme with which most images are in order, if nearly all are."""
    allowed = len(taken) // 10
    best: tuple[int, int, _Settings, tuple[int, ...]] | None = None
    for settings in _simple(taken):
        if allowed == 0 or not low <= settings.start <= high:
            continue
        rank = {p: i for i, p in enumerate(settings.order(low, high))}
        out = _out_of_order([rank[p] for p in taken])
        if len(out) <= allowed and (best is None or (len(out), settings.count) < best[:2]):
            best = (len(out), settings.count, settings, out)
    if best is None:
        return ()
    return (SchemeFit(scheme=best[2].scheme(lattice, low, high), out_of_place=best[3], probability=1.0),)


def _out_of_order(ranks: Sequence[int]) -> tuple[int, ...]:
    """Places that must be left out for the rest to rise: all but a longest rising subsequence."""
    ends: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for i, rank in enumerate(ranks):
        length = bisect_left(ends, rank)
        before.append(places[length - 1] if length else -1)
        ends[length : length + 1] = [rank]
        places[length : length + 1] = [i]
    kept = set()
    here = places[-1] if places else -1
    while here >= 0:
        kept.add(here)
        here = before[here]
    return tuple(i for i in range(len(ranks)) if i not in kept)


def compatible_schemes(
    angles_deg: Sequence[float] | FloatArray,
    allowed: Callable[[TiltScheme], bool] = lambda _: True,
) -> tuple[TiltScheme, ...]:
    """Schemes that would take just these angles, in whatever order: continuous, bidirectional and dose-symmetric.

    Those that come to the same order are given once. Growing groups and sides run to their end are not listed, for
    angles alone say nothing about them.

    Parameters
    ----------
    angles_deg : (n,), in any order
    allowed : which schemes to keep
    """
    lattice = find_lattice(angles_deg)
    if lattice is None:
        return ()
    points = sorted(set(lattice.index(angles_deg).tolist()))
    low, high = points[0], points[-1]
    if not _is_on_stage(lattice, low, high):
        return ()
    found: dict[tuple[int, ...], TiltScheme] = {}
    for start, up in product(points, (True, False)):
        options = [_Settings(start=start, up_first=up, group=None)]
        for group in range(1, _LARGEST_USUAL_GROUP + 1):
            options.append(_Settings(start=start, up_first=up, group=group))
            if group > 1:
                options.append(_Settings(start=start, up_first=up, group=group, with_start=True))
        for settings in options:
            order = tuple(settings.order(low, high))
            if order not in found:
                scheme = settings.scheme(lattice, low, high)
                if allowed(scheme):
                    found[order] = scheme
    return tuple(found.values())


def order_by_scheme(angles_deg: Sequence[float] | FloatArray, scheme: TiltScheme) -> list[int]:
    """Indexes of images in the order in which a scheme takes them; images of one angle keep theirs.

    Raises
    ------
    ValueError : an angle that the scheme does not have, within 0.3 of its step
    """
    made = scheme.angles_in_order()
    angles = np.asarray(angles_deg, dtype=np.float64)
    distance = np.abs(angles[:, None] - made[None, :])
    if distance.min(axis=1).max(initial=0.0) > 0.3 * scheme.step_deg:
        worst = angles[int(distance.min(axis=1).argmax())]
        raise ValueError(f"{worst:g} degrees is no angle of the scheme")
    return [int(i) for i in np.argsort(distance.argmin(axis=1), kind="stable")]


def describe_scheme(scheme: TiltScheme) -> str:
    """A scheme in words."""
    first = "up" if scheme.first_side == "positive" else "down"
    span = f"{scheme.min_deg:g} to {scheme.max_deg:g} in steps of {scheme.step_deg:g} degrees"
    if scheme.order == "continuous":
        return f"continuous, {'rising' if first == 'up' else 'falling'}, {span}"
    start = f"{scheme.order} from {scheme.start_deg:g} degrees, {first} first, {span}"
    if scheme.order == "bidirectional":
        return f"{start}"
    size = scheme.group_size
    words = [start, f"groups of {size}" if size > 1 else "one image a side"]
    if scheme.start_in_first_group:
        words.append("the first image counted in the first group")
    if scheme.group_growth:
        every = scheme.group_growth_every_deg
        again = f" and again every {every:g} degrees" if every else ""
        words.append(f"growing by {scheme.group_growth} beyond {scheme.group_growth_beyond_deg:g} degrees{again}")
    if scheme.one_sided_beyond_deg is not None:
        words.append(f"one side after the other beyond {scheme.one_sided_beyond_deg:g} degrees")
    return ", ".join(words)


def missing_angles(angles_deg: Sequence[float] | FloatArray, scheme: TiltScheme) -> tuple[float, ...]:
    """Angles between the lowest and the highest that a scheme takes and a series lacks, degrees."""
    lattice = AngleLattice(zero_deg=scheme.start_deg, step_deg=scheme.step_deg)
    have = set(lattice.index(angles_deg).tolist())
    wanted = lattice.index(scheme.angles_in_order()).tolist()
    return tuple(sorted(lattice.angle(i) for i in wanted if i not in have and min(have) < i < max(have)))


def is_trivial(angles_deg: Sequence[float] | FloatArray) -> bool:
    """Whether an order is that of the angles themselves, rising or falling, as a sorted list has it too."""
    steps = np.diff(np.asarray(angles_deg, dtype=np.float64))
    return bool(np.all(steps > -SAME_ANGLE_DEG) or np.all(steps < SAME_ANGLE_DEG))


def chance_of_fit(images: int) -> float:
    """How often an order drawn at random is one that a simple scheme makes: some 14 for each image, of all there are."""
    return 14.0 * images / math.factorial(min(images, 20))
