"""Which groups of unknowns the images bear out: each is kept only where particles that had no part in the fit gain from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array, hstack

from eucentric.refinement.image_views import ImageViews
from eucentric.refinement.normal_equations import FoldedEquations, LocalTerms, SharedEquations
from eucentric.refinement.results import GroupTrial
from eucentric.refinement.unknowns import Columns, Unknowns
from eucentric.typing import FloatArray

_LEAST = 2.0
"""Gain of the log-likelihood, a factor of seven, below which nothing is kept: few sets tell their own scatter badly."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptGroup:
    """A group that is refined, the size that its unknowns are expected to have, and what they have changed."""

    unknowns: Unknowns
    size: float
    total: FloatArray
    """(unknown,), since refinement began."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What was chosen, and how everything changes."""

    groups: tuple[KeptGroup, ...]
    """With what they have changed before."""
    changes: tuple[FloatArray, ...]
    sigmas: tuple[FloatArray, ...]
    own: FloatArray
    """(particle, 7)."""
    trials: tuple[GroupTrial, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """Equations of some groups together."""

    equations: SharedEquations
    starts: Int[np.ndarray, " group"]

    def precision(self, groups: Sequence[KeptGroup]) -> FloatArray:
        out = np.zeros((self.starts[-1], self.starts[-1]))
        for i, group in enumerate(groups):
            part = slice(self.starts[i], self.starts[i + 1])
            out[part, part] = group.unknowns.precision(group.size)
        return out

    def held_out(self, groups: Sequence[KeptGroup]) -> FloatArray:
        return self.equations.held_out(self.precision(groups), _totals(groups))

    def parts(self, values: FloatArray) -> tuple[FloatArray, ...]:
        return tuple(values[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True))


def _totals(groups: Sequence[KeptGroup]) -> FloatArray:
    return np.concatenate([g.total for g in groups])


class GroupChooser:
    """Chooses among groups for one series, near one linearisation."""

    def __init__(
        self, terms: LocalTerms, views: ImageViews, folds: Int[np.ndarray, " particle"], *, sets: int, certainty: float
    ) -> None:
        """
        Parameters
        ----------
        folds : (particle,), sets of particles held out together
        sets : how many there are
        certainty : deviations by which held-out particles must gain
        """
        self._terms, self._views, self._folds, self._sets, self._certainty = terms, views, folds, sets, certainty
        self._columns: dict[str, Columns] = {}

    def choose(self, kept: Sequence[KeptGroup], families: Sequence[Sequence[Unknowns]]) -> Choice:
        """Try families of groups in their order, on top of what is kept already.

        Parameters
        ----------
        kept : groups that are refined in any case: the contrast of bands, and what was borne out before
        families : alternatives of each family
        """
        groups = list(kept)
        before = self._fit(groups).held_out(groups)
        trials: list[GroupTrial] = []
        for family in families:
            held, best = self._best(groups, family)
            trials.append(judged(best.unknowns, best.size, held - before, self._certainty))
            if trials[-1].accepted:
                groups.append(best)
                before = held
        return self._solved(groups, trials)

    def equations(self, groups: Sequence[Unknowns]) -> SharedEquations:
        """Of some groups together, as they have changed nothing yet."""
        return self._fit([_new(u, self._columns_of(u), u.sizes[0]) for u in groups]).equations

    def evidence(self, groups: Sequence[KeptGroup]) -> Mapping[str, tuple[float, float]]:
        """What held-out particles gain from each kept group, all others kept, and one deviation of it; by name."""
        fit = self._fit(groups)
        whole = fit.held_out(groups)
        out = {}
        for i, group in enumerate(groups):
            if not np.any(group.total):
                continue
            # without a group is where it changes nothing since the beginning: a prior of no width holds it there
            none = replace(group, size=1e-6 * group.size)
            others = [*groups[:i], none, *groups[i + 1 :]]
            gain = whole - fit.held_out(others)
            out[group.unknowns.name] = float(gain.sum()), float(math.sqrt(len(gain)) * gain.std(ddof=1))
        return out

    def _best(self, groups: Sequence[KeptGroup], family: Sequence[Unknowns]) -> tuple[FloatArray, KeptGroup]:
        found: tuple[FloatArray, KeptGroup] | None = None
        for unknowns in family:
            fit = self._fit([*groups, _new(unknowns, self._columns_of(unknowns), unknowns.sizes[0])])
            for size in unknowns.sizes:
                tried = _new(unknowns, self._columns_of(unknowns), size)
                held = fit.held_out([*groups, tried])
                if found is None or held.sum() > found[0].sum():
                    found = held, tried
        assert found is not None
        return found

    def _solved(self, groups: Sequence[KeptGroup], trials: Sequence[GroupTrial]) -> Choice:
        fit = self._fit(groups)
        equations, precision = fit.equations, fit.precision(groups)
        theta = equations.solve(precision, _totals(groups))
        changes, sigmas = fit.parts(theta), fit.parts(equations.deviations(precision))
        return Choice(
            groups=tuple(groups),
            changes=changes,
            sigmas=sigmas,
            own=equations.own_changes(theta),
            trials=tuple(trials),
        )

    def _fit(self, groups: Sequence[KeptGroup]) -> _Fit:
        parts = [self._columns_of(g.unknowns) for g in groups]
        widths = [_width(p) for p in parts]
        count = len(self._views)
        columns: dict[str, csr_array] = {}
        for name in sorted({n for p in parts for n in p}):
            blocks = [p.get(name, csr_array((count, w))) for p, w in zip(parts, widths, strict=True)]
            columns[name] = csr_array(hstack(blocks))
        equations = SharedEquations.build(self._terms, self._views, columns, self._folds, self._sets)
        return _Fit(equations=equations, starts=np.cumsum([0, *widths]))

    def _columns_of(self, unknowns: Unknowns) -> Columns:
        if unknowns.name not in self._columns:
            self._columns[unknowns.name] = unknowns.columns(self._views)
        return self._columns[unknowns.name]


def judged(unknowns: Unknowns, size: float, gains: FloatArray, certainty: float) -> GroupTrial:
    """Whether a group is borne out by the gains of the sets held out (fold,)."""
    sigma = float(math.sqrt(len(gains)) * gains.std(ddof=1))
    total = float(gains.sum())
    return GroupTrial(
        family=unknowns.family,
        name=unknowns.name,
        unit=unknowns.unit,
        size=size,
        gain=total,
        sigma=sigma,
        accepted=total > max(certainty * sigma, _LEAST),
    )


def choose_alone(
    unknowns: Unknowns, equations: FoldedEquations, total: FloatArray, certainty: float
) -> tuple[GroupTrial, FloatArray, FloatArray]:
    """Judge a group by itself: the trial, how its unknowns change, and their deviations.

    Parameters
    ----------
    total : (unknown,), what they have changed since refinement began
    """
    without = equations.held_out(unknowns.precision(1e-6 * unknowns.sizes[0]), total)
    tried = {size: equations.held_out(unknowns.precision(size), total) - without for size in unknowns.sizes}
    size = max(tried, key=lambda s: float(tried[s].sum()))
    trial = judged(unknowns, size, tried[size], certainty)
    precision = unknowns.precision(size)
    change = equations.solve(precision, total) if trial.accepted else -total
    sigma = equations.deviations(precision)
    done = replace(
        trial,
        rms=float(np.sqrt(np.square(total + change).mean())) if trial.accepted else math.nan,
        median_sigma=float(np.median(sigma)),
    )
    return done, change, sigma


def _width(columns: Columns) -> int:
    return int(next(iter(columns.values())).shape[1])


def _new(unknowns: Unknowns, columns: Columns, size: float) -> KeptGroup:
    return KeptGroup(unknowns=unknowns, size=size, total=np.zeros(_width(columns)))
