r"""From scores to probabilities, on volumes or parts of them that were not trained on.

Of each class :math:`p = 1 / (1 + \exp(-a \ln s - b))`, fitted to which candidates are true, with Platt's softened answers [1]_ and
a weak prior of the slope, so that a handful of candidates is enough. Where not every particle is labelled, candidates
without a label are true with a probability that follows from two normal distributions of :math:`\ln s`, one of them that of
the labelled [2]_. The cut-off is the one of the greatest expected F1, half of that F1 [3]_.

References
----------
.. [1] Platt, Advances in Large Margin Classifiers (1999), 61-74
.. [2] Elkan & Noto, KDD 2008, doi:10.1145/1401890.1401920
.. [3] Lipton, Elkan & Naryanaswamy, ECML 2014, doi:10.1007/978-3-662-44851-9_15
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import norm

from eucentric.typing import FloatArray

_PRIOR_SLOPE, _PRIOR_SIGMA = 3.0, 2.0
_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Of one class."""

    slope: float
    offset: float
    cutoff: float
    """Probability of the greatest expected F1."""
    expected_f1: float
    """At the cut-off, on what was held out; NaN where nothing was."""
    true_count: int
    """Labels that were held out."""
    candidates: int

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Of candidates being true."""
        return np.asarray(expit(self.slope * np.log(np.maximum(scores, 1e-6)) + self.offset))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


def uncalibrated() -> Calibration:
    """Where nothing was held out: half a training spot is even odds."""
    slope = _PRIOR_SLOPE
    return Calibration(
        slope=slope, offset=slope * float(np.log(2.0)), cutoff=0.5, expected_f1=float("nan"), true_count=0, candidates=0
    )


def calibrate(scores: FloatArray, true: NDArray[np.bool_], truths: int, *, complete: bool) -> Calibration:
    """Fit one class.

    Parameters
    ----------
    scores : (candidate,) > 0, of what was held out
    true : (candidate,) which of them lie on a label
    truths : labels that were held out, found or not
    complete : whether every particle is labelled
    """
    if not len(scores) or not truths:
        return uncalibrated()
    x = np.log(np.maximum(scores, 1e-6))
    answers = true.astype(np.float64) if complete else _soft_answers(x, true)
    positive, negative = answers.sum(), (1.0 - answers).sum()
    softened = answers * (positive + 1.0) / (positive + 2.0) + (1.0 - answers) / (negative + 2.0)

    def loss(values: FloatArray) -> float:
        logits = values[0] * x + values[1]
        terms = np.logaddexp(0.0, logits) - softened * logits
        return float(terms.sum() + 0.5 * ((values[0] - _PRIOR_SLOPE) / _PRIOR_SIGMA) ** 2)

    start = np.array([_PRIOR_SLOPE, _PRIOR_SLOPE * np.log(2.0)])
    slope, offset = minimize(loss, start, bounds=[(0.05, None), (None, None)], method="L-BFGS-B").x
    probability = expit(slope * x + offset)
    missed = max(0.0, truths - float(true.sum()))
    cutoff, best = best_cutoff(probability, missed)
    return Calibration(
        slope=float(slope),
        offset=float(offset),
        cutoff=cutoff,
        expected_f1=best,
        true_count=int(truths),
        candidates=len(scores),
    )


def best_cutoff(probability: FloatArray, missed: float) -> tuple[float, float]:
    """Cut-off of the greatest expected F1, and that F1, where so many particles are no candidates at all."""
    falling = np.sort(probability)[::-1]
    total = falling.sum() + missed
    f1 = 2.0 * np.cumsum(falling) / (np.arange(1, len(falling) + 1) + total)
    best = float(f1.max())
    return 0.5 * best, best


def q_values_of(probability: FloatArray) -> FloatArray:
    """(pick,) least expected share of false picks among all cut-offs that keep a pick."""
    order = np.argsort(-probability, kind="stable")
    share = np.cumsum(1.0 - probability[order]) / np.arange(1, len(order) + 1)
    out = np.empty(len(order))
    out[order] = np.minimum.accumulate(share[::-1])[::-1]
    return out


def _soft_answers(x: FloatArray, true: NDArray[np.bool_]) -> FloatArray:
    """1 for the labelled; for others the probability of being like them."""
    answers = true.astype(np.float64)
    rest = ~true
    if true.sum() < 2 or rest.sum() < 4:
        return answers
    mean, spread = x[true].mean(), max(0.2, x[true].std())
    like = norm.pdf(x, mean, spread)
    share, other_mean, other_spread = 0.2, float(np.quantile(x[rest], 0.25)), max(0.2, float(x[rest].std()))
    part = np.zeros(len(x))
    for _ in range(_STEPS):
        other = norm.pdf(x, other_mean, other_spread)
        part = share * like / (share * like + (1.0 - share) * other + 1e-300)
        # far above all that was labelled is no reason for doubt, far below none for trust
        part[x > mean] = np.maximum(part[x > mean], share * 0.5)
        share = float(np.clip(part[rest].mean(), 0.01, 0.95))
        weight = 1.0 - part[rest]
        other_mean = float((weight * x[rest]).sum() / weight.sum())
        other_spread = max(0.2, float(np.sqrt((weight * (x[rest] - other_mean) ** 2).sum() / weight.sum())))
    answers[rest] = part[rest]
    return answers


def match_labels(
    positions: FloatArray,
    kinds: NDArray[np.int64],
    labels: FloatArray,
    label_kinds: NDArray[np.int64],
    reach: Sequence[float],
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which candidates lie on a label of their class, one on each, the nearest first; and the label of each, or -1.

    Parameters
    ----------
    reach : of each class, farthest distance in the unit of the positions
    """
    owner = np.full(len(positions), -1, dtype=np.int64)
    if len(positions) and len(labels):
        gap = np.linalg.norm(positions[:, None] - labels[None], axis=2)
        allowed = (kinds[:, None] == label_kinds[None]) & (gap <= np.asarray(reach)[label_kinds][None])
        pairs = np.argwhere(allowed)
        taken: set[int] = set()
        for row, label in pairs[np.argsort(gap[allowed], kind="stable")]:
            if owner[row] < 0 and int(label) not in taken:
                owner[row] = label
                taken.add(int(label))
    return owner >= 0, owner
