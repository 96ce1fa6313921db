"""Registration made finer by points whose pairs are not known, such as beads that both images show.

Each round pairs points that are each other's nearest (iterated closest points [1]_, mutual) and fits them anew, robustly.

References
----------
.. [1] Besl & McKay, IEEE Trans. Pattern Anal. 14:239 (1992), doi:10.1109/34.121791
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from eucentric.errors import InputError
from eucentric.fitting.landmarks import Kind, LandmarkFit, Mirror, fewest_landmarks, fit_landmarks
from eucentric.typing import FloatArray

_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchedPoints:
    """A registration made finer by points whose pairs were not known."""

    fit: LandmarkFit
    pairs: NDArray[np.int64]
    """(pair, 2), rows of the moving and of the fixed points."""


def match_points(
    start: LandmarkFit, moving: ArrayLike, fixed: ArrayLike, reach: float, kinds: Sequence[Kind] = ()
) -> MatchedPoints:
    """Pair points that lie on each other by a registration, fit them, and repeat until pairs stay.

    Points are a pair where each is the other's nearest, within reach.

    Parameters
    ----------
    start : a registration by landmarks
    moving, fixed : (n, d), (m, d), such as beads that are seen in both images
    reach : of pairs, in the unit of the fixed points
    kinds : of the transforms, one after another; that of the start where empty

    Raises
    ------
    InputError : too few pairs within reach
    """
    a, b = np.asarray(moving, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    fit, pairs = start, np.zeros((0, 2), dtype=np.int64)
    mirror: Mirror = "yes" if start.transform.is_mirrored else "no"
    for kind in tuple(kinds) or (start.kind,):
        for _ in range(_MOST_ROUNDS):
            found = _mutual(fit.transform(a), b, reach)
            if len(found) < fewest_landmarks(kind, b.shape[1]):
                raise InputError(
                    f"Only {len(found)} of {len(a)} and {len(b)} points lie within {reach:.3g} A of each other by the landmarks; "
                    f"{fewest_landmarks(kind, b.shape[1])} are needed. Check the landmarks, or allow a larger distance."
                )
            fit = fit_landmarks(a[found[:, 0]], b[found[:, 1]], kind, mirror=mirror)
            if np.array_equal(found, pairs):
                break
            pairs = found
    return MatchedPoints(fit=fit, pairs=pairs)


def _mutual(mapped: FloatArray, fixed: FloatArray, reach: float) -> NDArray[np.int64]:
    near, far = KDTree(fixed).query(mapped), KDTree(mapped).query(fixed)
    distance, to_fixed = np.asarray(near[0]), np.asarray(near[1], dtype=np.int64)
    rows = np.arange(len(mapped))
    good = (np.asarray(far[1])[to_fixed] == rows) & (distance <= reach)
    return np.stack([rows[good], to_fixed[good]], axis=1).astype(np.int64)
