"""Series that lie in one file: two of different places mixed, or one that was begun again."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from eucentric.acquisition.fit_scheme import SAME_ANGLE_DEG, find_lattice
from eucentric.acquisition.order_records import ImageFacts

_APART_UM = 1.0
"""Stages return to within 0.1 um; places of other series lie farther than a field of view away."""
_PAUSE = 10.0  # times the usual time between images


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSplit:
    """Images of one file by the series that they belong to."""

    groups: tuple[tuple[int, ...], ...]
    """Indexes, in the order of the file; one group where it holds one series."""
    names: tuple[str, ...]
    """What tells each group, such as its navigator label; empty for one group."""
    how: str
    """What tells them apart, in words."""
    confidence: float
    """Probability that the split is right."""


def angle_groups(angles_deg: Sequence[float]) -> list[int]:
    """(n,), a number for each angle; equal for images of one angle, whichever way the stage came to it."""
    lattice = find_lattice(angles_deg)
    if lattice is not None:
        return [int(i) for i in lattice.index(angles_deg)]
    order = np.argsort(angles_deg)
    steps = np.diff(np.asarray(angles_deg)[order]) > SAME_ANGLE_DEG
    numbers = np.zeros(len(order), dtype=int)
    numbers[order] = np.concatenate([[0], np.cumsum(steps)]) if len(order) else []
    return [int(i) for i in numbers]


def split_series(images: Sequence[ImageFacts]) -> SeriesSplit:
    """Tell series apart that stand in one file or folder.

    Navigator label, root of the movie's name, stage position and image shift each divide the images; a division counts
    where the parts visit the same angles, for one series visits each once. Divisions that agree make each other surer.

    Parameters
    ----------
    images : in the order of the file
    """
    whole = SeriesSplit(groups=(tuple(range(len(images))),), names=(), how="one series", confidence=0.99)
    visits = angle_groups([i.angle_deg for i in images])
    found: dict[tuple[tuple[int, ...], ...], list[tuple[str, float, tuple[str, ...]]]] = defaultdict(list)
    for how, reliability, mark in _MARKS:
        made = _grouped(images, mark)
        if made is not None and _overlap(made[0], visits) >= 0.5:
            found[made[0]].append((how, reliability, made[1]))
    if found:
        doubts = {groups: float(np.prod([1 - r for _, r, _ in told])) for groups, told in found.items()}
        best = min(doubts, key=lambda groups: doubts[groups])
        confidence = (1 - doubts[best]) * (0.6 if len(found) > 1 else 1.0)
        told = found[best]
        return SeriesSplit(
            groups=best,
            names=told[0][2],
            how=" and ".join(how for how, _, _ in told),
            confidence=float(min(0.999, confidence)),
        )
    turns = _by_turns(visits)
    if turns is not None:
        return SeriesSplit(groups=turns, names=("1", "2"), how="images by turns at each angle", confidence=0.5)
    return whole


def _near_places(places: Sequence[tuple[float, float] | None]) -> list[Hashable] | None:
    """A number for each place, equal for those that a chain of near places joins."""
    if any(p is None for p in places):
        return None
    points = np.array(places, dtype=np.float64)
    near = np.linalg.norm(points[:, None] - points[None, :], axis=-1) <= _APART_UM
    numbers: list[Hashable] = [-1] * len(points)
    for first in range(len(points)):
        waiting = [first] if numbers[first] == -1 else []
        while waiting:
            here = waiting.pop()
            numbers[here] = first
            waiting += [int(i) for i in np.flatnonzero(near[here]) if numbers[i] == -1]
    return numbers


def _labels(images: Sequence[ImageFacts]) -> list[Hashable] | None:
    return [i.navigator_label for i in images]


def _roots(images: Sequence[ImageFacts]) -> list[Hashable] | None:
    return [i.root for i in images]


def _stages(images: Sequence[ImageFacts]) -> list[Hashable] | None:
    return _near_places([i.stage_um for i in images])


def _shifts(images: Sequence[ImageFacts]) -> list[Hashable] | None:
    return _near_places([i.shift_um for i in images])


_MARKS: tuple[tuple[str, float, Callable[[Sequence[ImageFacts]], list[Hashable] | None]], ...] = (
    ("names of movies", 0.95, _roots),
    ("navigator labels", 0.95, _labels),
    ("stage positions", 0.95, _stages),
    ("image shifts", 0.8, _shifts),
)


def _grouped(
    images: Sequence[ImageFacts], mark: Callable[[Sequence[ImageFacts]], list[Hashable] | None]
) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]] | None:
    marks = mark(images)
    if marks is None or any(m is None for m in marks):
        return None
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, one in enumerate(marks):
        groups[one].append(i)
    if len(groups) < 2 or min(len(g) for g in groups.values()) < 2:
        return None
    names = [str(m) if isinstance(m, str) else str(n) for n, m in enumerate(groups, 1)]
    return tuple(tuple(g) for g in groups.values()), tuple(names)


def _overlap(groups: Sequence[Sequence[int]], visits: Sequence[int]) -> float:
    """Share of the angles of the smallest part that another part visits too."""
    angles = sorted(({visits[i] for i in group} for group in groups), key=len)
    others = set().union(*angles[1:])
    return len(angles[0] & others) / len(angles[0])


def _by_turns(visits: Sequence[int]) -> tuple[tuple[int, ...], ...] | None:
    """Pairs of images at one angle, one after the other, all along a file."""
    pairs = len(visits) // 2
    if pairs < 3 or len(visits) % 2 or len(set(visits)) < 0.8 * pairs:
        return None
    if sum(visits[2 * i] == visits[2 * i + 1] for i in range(pairs)) < 0.8 * pairs:
        return None
    return tuple(range(0, len(visits), 2)), tuple(range(1, len(visits), 2))


def find_restarts(visits: Sequence[int]) -> list[int]:
    """Places in the order taken at which a series begins again: two images in turn repeat angles of the part before.

    One image that repeats an angle alone is a double, not a restart.

    Parameters
    ----------
    visits : number of the angle of every image (`angle_groups`), in the order taken
    """
    restarts: list[int] = []
    seen: set[int] = set()
    for place, visit in enumerate(visits):
        following = visits[place + 1] if place + 1 < len(visits) else None
        if visit in seen and following in seen and following != visit:
            restarts.append(place)
            seen = set()
        seen.add(visit)
    return restarts


def find_pauses(times_s: Sequence[float | None]) -> list[tuple[int, float]]:
    """(place of the image after it, seconds) of every pause far longer than the usual time between images."""
    if len(times_s) < 4 or any(t is None for t in times_s):
        return []
    gaps = np.diff(np.array(times_s, dtype=np.float64))
    usual = float(np.median(gaps))
    return [(i + 1, float(gap)) for i, gap in enumerate(gaps) if usual > 0 and gap > _PAUSE * usual]
