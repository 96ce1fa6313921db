r"""How many of the picks are chance: a cut-off from the number of tests, and q-values from decoys.

Among :math:`N` independent normal scores the level :math:`\sqrt 2\,\mathrm{erfc}^{-1}(2 n / N)` is passed by n on average [1]_.
Decoys are molecules that are not there; target and decoy compete for every place, and the share of decoys among the winners
above a score estimates that of false picks [2]_.

References
----------
.. [1] Rickgauer, Grigorieff & Denk, eLife 6:e25648 (2017), doi:10.7554/eLife.25648
.. [2] Elias & Gygi, Nat. Methods 4:207 (2007), doi:10.1038/nmeth1019
.. [3] Choi & Nesvizhskii, J. Proteome Res. 7:254 (2008), doi:10.1021/pr070542g
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcinv, gammaln

from eucentric.errors import InputError
from eucentric.typing import FloatArray

_TINY = 0.05  # the least score, which has a logarithm
_ROUNDS = 300
_NARROWEST = 0.5  # standard deviation of true scores
_TAIL = 0.02  # of true ones: cut at the field's edge, or beside gold


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


def mixture_shares(targets: FloatArray, decoys: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(target,) chance of each target to be false, and share of false ones among those of at least its score.

    False targets are taken to score as decoys do, by a gamma distribution that both are fitted with, and true ones by a normal
    distribution with a thin even tail; how many targets are false is fitted too, by expectation maximisation. So places that
    prefer the target to decoys more often than these share them equally do not count as true, as long as they prefer it
    no more clearly than decoys win theirs (semi-supervised mixture of Choi & Nesvizhskii 2008 [3]_). Without any target
    above nearly all decoys all are taken for false.
    """
    if not len(targets):
        return np.zeros(0), np.zeros(0)
    mine, theirs = np.maximum(targets, _TINY), np.maximum(decoys, _TINY)
    true = mine > (np.quantile(theirs, 0.95) if len(theirs) else 0.0)
    true = true.astype(np.float64)
    for _ in range(_ROUNDS):
        if true.sum() < 0.5:
            true[:] = 0.0
            break
        weights = np.concatenate([1.0 - true, np.ones(len(theirs))])
        every = np.concatenate([mine, theirs])
        false = (1.0 - true.mean()) * _gamma_density(mine, every, weights)
        usual = float((weights * every).sum() / max(1e-9, weights.sum()))
        middle = float((true * mine).sum() / true.sum())
        width = max(_NARROWEST, math.sqrt(float((true * (mine - middle) ** 2).sum() / true.sum())))
        normal = np.exp(-0.5 * ((mine - middle) / width) ** 2) / (width * math.sqrt(2.0 * math.pi))
        right = true.mean() * ((1.0 - _TAIL) * normal + _TAIL / mine.max())
        before, true = true, np.where(mine > usual, right / (right + false + 1e-300), 0.0)
        if np.abs(true - before).max() < 1e-4:
            break
    # a higher score is never more likely false
    rising = np.argsort(mine, kind="stable")
    local = np.empty(len(mine))
    local[rising] = np.minimum.accumulate(1.0 - true[rising])
    falling = rising[::-1]
    shares = np.empty(len(mine))
    shares[falling] = np.cumsum(local[falling]) / np.arange(1, len(mine) + 1)
    return local, shares


def _gamma_density(at: FloatArray, values: FloatArray, weights: FloatArray) -> FloatArray:
    """Density of the gamma distribution that fits weighted values (Minka's closed form for its shape)."""
    total = weights.sum()
    if total < 1e-9:
        return np.zeros(len(at))
    mean = float((weights * values).sum() / total)
    spread = max(1e-3, math.log(mean) - float((weights * np.log(values)).sum() / total))
    shape = (3.0 - spread + math.sqrt((spread - 3.0) ** 2 + 24.0 * spread)) / (12.0 * spread)
    scale = mean / shape
    log: FloatArray = (shape - 1.0) * np.log(at) - at / scale - gammaln(shape) - shape * math.log(scale)
    return np.exp(log)


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
