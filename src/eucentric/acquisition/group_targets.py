"""Which targets are reached by image shift from one stage position, and in what order all are taken."""

import numpy as np

from eucentric.acquisition.target_geometry import ViewingGeometry
from eucentric.typing import FloatArray


def group_targets(places: FloatArray, view: ViewingGeometry, limit: float) -> list[list[int]]:
    """Numbers of targets by group, the one at the stage position first, each group along a short path.

    The target that reaches most others becomes the first of a group, so that groups are few; the stage then goes to it, and
    series are tracked on it.

    Parameters
    ----------
    places : (target, 2), A, in the frame of the tilt axis
    limit : A of image shift, which no tilt may exceed
    """
    offsets = places[:, None] - places[None]
    shifts = np.zeros(offsets.shape[:2])
    for matrix in view.to_image:
        shifts = np.maximum(shifts, np.linalg.norm(offsets @ matrix.T, axis=-1))
    reached = shifts <= limit
    left = np.ones(len(places), dtype=bool)
    groups: list[list[int]] = []
    while left.any():
        counts = np.where(left, (reached & left).sum(axis=1), -1)
        # of equals the one in the middle of its own, then the earliest given
        spread = np.where(reached & left, shifts, 0.0).sum(axis=1)
        first = int(min(np.flatnonzero(counts == counts.max()), key=lambda i: (round(spread[i], 3), i)))
        members = np.flatnonzero(reached[first] & left)
        groups.append(path_through(places, first, members.tolist()))
        left[members] = False
    firsts = [group[0] for group in groups]
    visited = path_through(places, min(firsts), firsts)
    return [groups[firsts.index(first)] for first in visited]


def path_through(places: FloatArray, first: int, members: list[int]) -> list[int]:
    """Members in an order in which each is the nearest one left to the one before it."""
    path, left = [first], [m for m in members if m != first]
    while left:
        nearest = min(left, key=lambda m: (round(float(np.linalg.norm(places[m] - places[path[-1]])), 6), m))
        path.append(nearest)
        left.remove(nearest)
    return path
