r"""How many of the picks are chance: a cut-off from the number of tests, and q-values from decoys.

Among :math:`N` independent normal scores the level :math:`\sqrt 2\,\mathrm{erfc}^{-1}(2 n / N)` is passed by n on average [1]_.
Decoys are molecules that are not there; target and decoy compete for every place, and the share of decoys among the winners
above a score estimates that of false picks [2]_.

References
----------
.. [1] Rickgauer, Grigorieff & Denk, eLife 6:e25648 (2017), doi:10.7554/eLife.25648
.. [2] Elias & Gygi, Nat. Methods 4:207 (2007), doi:10.1038/nmeth1019
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import erfcinv

from eucentric.errors import InputError
from eucentric.typing import FloatArray


def chance_level(tests: float, false_positives: float = 1.0) -> float:
    """Score in standard deviations that so many of `tests` normal numbers pass by chance.

    Raises
    ------
    InputError : numbers that are not positive
    """
    if not (tests > 0 and false_positives > 0):
        raise InputError(f"{tests:g} tests with {false_positives:g} false positives; expected positive numbers.")
    return float(np.sqrt(2.0) * erfcinv(min(1.0, 2.0 * false_positives / tests)))


def q_values(targets: FloatArray, decoys: FloatArray, *, decoys_per_target: float = 1.0) -> FloatArray:
    """(target,) least share of false picks among all cut-offs that keep a target.

    At a score s it is estimated as ``(1 + decoys >= s) / decoys_per_target / targets >= s``: the one more makes the
    estimate hold for few picks too.

    Parameters
    ----------
    targets, decoys : scores of those that won their places
    decoys_per_target : how many decoys were looked for with each target
    """
    if not len(targets):
        return np.zeros(0)
    order = np.argsort(-targets, kind="stable")
    rank = np.empty(len(targets))
    falling = targets[order]
    above = np.searchsorted(np.sort(-decoys), -falling, side="right") if len(decoys) else np.zeros(len(falling))
    # ties share the rank of the last of them
    count = np.searchsorted(-falling, -falling, side="right")
    share = np.minimum(1.0, (1.0 + above) / decoys_per_target / np.maximum(1, count))
    rank[order] = np.minimum.accumulate(share[::-1])[::-1]
    return rank


def local_false_shares(targets: FloatArray, decoys: FloatArray, *, decoys_per_target: float = 1.0) -> FloatArray:
    """(target,) share of false picks among those that score alike, which never falls with falling score.

    The share of decoys among all that score alike is the monotonic one nearest to what was seen (isotonic regression); on
    each target that is false come `decoys_per_target` decoys.
    """
    if not len(targets):
        return np.zeros(0)
    every = np.concatenate([targets, decoys])
    order = np.argsort(-every, kind="stable")
    seen = (order >= len(targets)).astype(np.float64)
    part = np.empty(len(every))
    part[order] = isotonic_regression(seen).x
    part = part[: len(targets)]
    return np.asarray(np.minimum(1.0, part / decoys_per_target / np.maximum(1.0 - part, 1e-12)))


def win_places(positions: FloatArray, scores: FloatArray, radius: FloatArray) -> NDArray[np.int64]:
    """Rows that win their places, best first: one blanks all rows nearer than the mean of both radii.

    Parameters
    ----------
    positions : (n, 3) A
    scores : (n,)
    radius : (n,) A, of each row's kind
    """
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        if kept:
            others = np.array(kept)
            gap = np.linalg.norm(positions[others] - positions[row], axis=1)
            if (gap < radius[others] + radius[row]).any():
                continue
        kept.append(int(row))
    return np.array(kept, dtype=np.int64)
