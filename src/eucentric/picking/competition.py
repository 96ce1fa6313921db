r"""Template and decoys compete for every place, and templates with each other.

All members of a kind, the template and its decoys, are fitted to each place that any of them found. With the best and the
second-best score :math:`z_1 > z_2` in standard deviations, twice the logarithm of the ratio of their likelihoods, each with the
amplitude that fits best, is :math:`z_1^2 - z_2^2`; its root is called the margin. Noise and other molecules prefer no
member, so that the template and each decoy win such places equally often and by equal margins: what false discovery rates
by knock-offs ask for [1]_. Judges, things that are fitted but own no place, take places from all members alike and
narrow the margins of all. The molecule itself prefers its template by far, however well it fits a decoy.

References
----------
.. [1] Barber & Candes, Ann. Stat. 43:2055 (2015), doi:10.1214/15-AOS1337
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from eucentric.picking.false_discovery import mixture_shares, q_values, win_places
from eucentric.picking.overlap import Solid, apart
from eucentric.picking.refine_poses import Poses
from eucentric.typing import FloatArray

_LIKELY = 0.5  # share of false picks among those of like margin: more are not kept, whatever the share among all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rivals:
    """A template and its decoys, all fitted to the same places."""

    members: tuple[Poses, ...]
    """The template first; rows are the places."""
    foreign: NDArray[np.bool_]
    """(place,) where far denser things than particles lie."""
    judges: FloatArray | None = None
    """(place,) best score of other things, which win places for no one."""
    radius_angstrom: float
    """Half of the least distance of two picks."""
    solid: Solid | None = None
    """The template's shape, which no better pick may share."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """Places that templates won, best first, and what decoys won."""

    positions_angstrom: FloatArray
    rotations: FloatArray
    scores: FloatArray
    margins: FloatArray
    q_values: FloatArray
    """NaN without decoys, and below the least score."""
    kinds: NDArray[np.int64]
    kept: NDArray[np.bool_]
    decoy_scores: FloatArray
    decoy_margins: FloatArray
    decoy_kinds: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Winners:
    """The best member of each place, and by how much."""

    positions: FloatArray
    rotations: FloatArray
    scores: FloatArray
    margins: FloatArray
    decoy: NDArray[np.bool_]

    def at(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "_Winners":
        return _Winners(
            positions=self.positions[rows],
            rotations=self.rotations[rows],
            scores=self.scores[rows],
            margins=self.margins[rows],
            decoy=self.decoy[rows],
        )


def judge_places(kinds: Sequence[Rivals], *, rate: float, least_score: float) -> Verdict:
    """Which places are picks.

    Parameters
    ----------
    rate : share of false picks that is allowed
    least_score : standard deviations, of every pick
    """
    won = [_winners(rivals) for rivals in kinds]
    decoys = [len(rivals.members) - 1 for rivals in kinds]
    radius = np.array([rivals.radius_angstrom for rivals in kinds])
    first = [_shares(w, d, least_score) for w, d in zip(won, decoys, strict=True)]
    # a place where one kind surely lies tells nothing of the others
    sure = [_passes(w, s, rate, least_score) for w, s in zip(won, first, strict=True)]
    won = [w.at(~_taken(w, number, won, sure, radius)) for number, w in enumerate(won)]
    shares = [_shares(w, d, least_score) for w, d in zip(won, decoys, strict=True)]
    kept = np.concatenate([_passes(w, s, rate, least_score) for w, s in zip(won, shares, strict=True)])
    number = np.concatenate([np.full(len(w.scores), n) for n, w in enumerate(won)]).astype(np.int64)
    decoy = np.concatenate([w.decoy for w in won])
    scores, margins = np.concatenate([w.scores for w in won]), np.concatenate([w.margins for w in won])
    positions, rotations = np.concatenate([w.positions for w in won]), np.concatenate([w.rotations for w in won])
    values = np.concatenate([s.q_values for s in shares])
    targets = np.flatnonzero(~decoy)
    # kept ones first, each place to the template that fits it best
    order = targets[np.lexsort((-scores[targets], ~kept[targets]))]
    rank = np.empty(len(order))
    rank[np.arange(len(order))] = -np.arange(len(order), dtype=np.float64)
    targets = order[win_places(positions[order], rank, radius[number[order]])]
    targets = targets[apart(positions[targets], rotations[targets], number[targets], [r.solid for r in kinds])]
    targets = targets[np.argsort(-scores[targets], kind="stable")]
    return Verdict(
        positions_angstrom=positions[targets],
        rotations=rotations[targets],
        scores=scores[targets],
        margins=margins[targets],
        q_values=values[targets],
        kinds=number[targets],
        kept=kept[targets],
        decoy_scores=scores[decoy],
        decoy_margins=margins[decoy],
        decoy_kinds=number[decoy],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shares:
    """Of the places of a kind: NaN for those that decoys won, for those below the least score, and for all without decoys."""

    q_values: FloatArray
    local: FloatArray


def _winners(rivals: Rivals) -> _Winners:
    """Of the places of one kind; each place blanks those nearby that fit worse."""
    scores = np.stack([m.scores for m in rivals.members])
    rows = np.arange(scores.shape[1])
    # of equal ones the last: a decoy that is the template again, as the mirror image of what has no hand, tells nothing apart
    best = len(scores) - 1 - scores[::-1].argmax(0) if scores.size else np.zeros(0, dtype=np.int64)
    first = scores[best, rows]
    others = np.sort(np.maximum(scores, 0.0), axis=0)
    second = others[-2] if len(scores) > 1 else np.zeros(len(rows))
    judge = np.full(len(rows), -np.inf) if rivals.judges is None else rivals.judges
    second = np.maximum(second, np.minimum(judge, first))
    margins = np.sqrt(np.maximum(0.0, np.maximum(first, 0.0) ** 2 - second**2))
    every = _Winners(
        positions=np.stack([m.positions_angstrom for m in rivals.members])[best, rows],
        rotations=np.stack([m.rotations for m in rivals.members])[best, rows],
        scores=first,
        margins=margins,
        decoy=best > 0,
    )
    good = np.flatnonzero(np.isfinite(first) & ~rivals.foreign)
    best_ones = good[win_places(every.positions[good], first[good], np.full(len(good), rivals.radius_angstrom))]
    return every.at(best_ones[judge[best_ones] < first[best_ones]])


def _shares(won: _Winners, decoys: int, least_score: float) -> _Shares:
    values, local = np.full(len(won.scores), np.nan), np.full(len(won.scores), np.nan)
    if decoys:
        clear = won.scores >= least_score
        mine = ~won.decoy & clear
        targets, false = won.margins[mine], won.margins[won.decoy & clear]
        local[mine], shares = mixture_shares(targets, false)
        values[mine] = np.maximum(shares, q_values(targets, false, decoys_per_target=float(decoys)))
    return _Shares(q_values=values, local=local)


def _passes(won: _Winners, shares: _Shares, rate: float, least_score: float) -> NDArray[np.bool_]:
    known = ~np.isnan(shares.q_values)
    fine = ~known | ((np.nan_to_num(shares.q_values) <= rate) & (np.nan_to_num(shares.local) <= _LIKELY))
    passed: NDArray[np.bool_] = ~won.decoy & (won.scores >= least_score) & fine
    return passed


def _taken(
    won: _Winners, number: int, every: Sequence[_Winners], sure: Sequence[NDArray[np.bool_]], radius: FloatArray
) -> NDArray[np.bool_]:
    """Places of a kind where a sure pick of another kind fits better."""
    out = np.zeros(len(won.scores), dtype=bool)
    for other, (rival, passed) in enumerate(zip(every, sure, strict=True)):
        if other == number or not passed.any() or not len(out):
            continue
        places, scores = rival.positions[passed], rival.scores[passed]
        near = cKDTree(places).query_ball_point(won.positions, radius[other] + radius[number])
        out |= np.array([any(scores[n] > score for n in rows) for rows, score in zip(near, won.scores, strict=True)])
    return out
