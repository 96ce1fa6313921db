"""Which unknowns the data pay for: models compared on held-out points."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from eucentric.alignment.bundle_model import BundleModel
from eucentric.alignment.bundle_problem import Fit, TrackSet
from eucentric.fitting.held_out import leave_points_out
from eucentric.fitting.losses import length_scale
from eucentric.fitting.robust_bundle import solve_bundle
from eucentric.models.tracks import Indices
from eucentric.typing import FloatArray

_FOLDS = 10
_MOST_POINTS = 60
_BOUND = 4.0
_ROUNDS = 6
_FEWEST_TO_BEND = 4
_FEWEST_TO_COMPARE = 4
_DOSES = (10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedModel:
    """A model and what it predicts."""

    model: BundleModel
    held_out_angstrom: float
    """Root mean square error, along one axis, of observations of points that had no part in the geometry; lengths over
    four standard deviations count as four."""
    standard_error_angstrom: float
    """Of the difference to the best model, over points."""
    unknowns: int
    chosen: bool


def fitted(data: TrackSet, model: BundleModel, near: Fit | None = None, size_rounds: int = 4) -> Fit:
    """A model fitted to tracks; `near`, a fit of nearly the same, spares the robust start."""
    problem = data.problem(model)
    common = np.zeros(problem.structure.prior_mean.shape)
    points = data.start_points()
    if near is not None:
        points = near.solution.points
        # shifts come first in every model
        shifts = 2 * len(data.start)
        common[:shifts] = near.solution.common[:shifts]
    solution = solve_bundle(
        problem, problem.structure, common, points, robust_start=near is None, size_rounds=size_rounds
    )
    return Fit(model=model, problem=problem, solution=solution)


def choose_model(
    data: TrackSet, *, deformable: bool, hold_axis: bool = False
) -> tuple[BundleModel, tuple[TriedModel, ...]]:
    """Go from the expected model to a simpler or richer one while that predicts held-out points better.

    Better is by more than one standard error of the difference over points. Expected is what microscopes do: one axis,
    a goniometer with errors, and, where doses are known, a specimen that bends as the exposure accumulates. The data
    adjust the sizes of both, so that they cost little where they are not needed.

    Parameters
    ----------
    data : tracks
    deformable : whether doses are known, so that a deformation may be tried
    hold_axis : the axis is no unknown
    """
    if len(data.names) > _MOST_POINTS:
        data = data.of_points(np.linspace(0, len(data.names) - 1, _MOST_POINTS).astype(np.int64))
    deformable = deformable and len(data.names) >= _FEWEST_TO_BEND
    simplest = BundleModel(axis="fixed" if hold_axis else "one")
    current = simplest.replace(tilt_angles="each", deformation_order=2 if deformable else 0)
    if len(data.names) < _FEWEST_TO_COMPARE:
        return simplest, ()
    folds = np.arange(len(data.names)) % min(_FOLDS, len(data.names))
    base = fitted(data, simplest)
    bench = _Bench(data, folds, length_scale(_held_out(base, folds)), base)
    bench.errors(base.model)
    for _ in range(_ROUNDS):
        moves = list(_moves(current, deformable=deformable))
        best = min(moves, key=lambda m: float(bench.errors(m).mean()))
        if not bench.better(best, current):
            break
        as_good = [m for m in moves if not bench.better(best, m) and bench.better(m, current)]
        current = min([*as_good, best], key=bench.unknowns)
    bench.errors(current)
    return current, bench.table(current)


def _moves(model: BundleModel, *, deformable: bool) -> Iterator[BundleModel]:
    """Models with one kind of unknown more or less, or another degree or course of the deformation.

    Not x-tilt: along the series it does nearly what the axis does.
    """
    fields: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("axis", ("one", "spline")),
        ("tilt_angles", ("fixed", "scale", "each")),
        ("magnification", ("fixed", "spline", "each")),
    )
    for field, kinds in fields if model.axis != "fixed" else fields[1:]:
        for kind in kinds:
            if kind != getattr(model, field):
                yield model.replace(**{field: kind})
    if not deformable:
        return
    order = model.deformation_order
    for other in (order - 1, order + 1):
        if 0 <= other <= 3:
            yield model.replace(deformation_order=other)
    if order:
        for dose in _DOSES:
            if (dose, "exponential") != (model.deformation_dose, model.deformation_course):
                yield model.replace(deformation_dose=dose, deformation_course="exponential")
        if model.deformation_course != "spline":
            yield model.replace(deformation_course="spline")


def _held_out(fit: Fit, folds: Indices) -> FloatArray:
    """(observation,): lengths of the whitened errors of held-out points."""
    linearised = fit.problem.linearise(fit.solution.common, fit.solution.points)
    return np.asarray(np.linalg.norm(leave_points_out(fit.problem.structure, linearised, fit.solution, folds), axis=1))


class _Bench:
    """Held-out errors of models, each found once."""

    def __init__(self, data: TrackSet, folds: Indices, scale: float, base: Fit) -> None:
        self._data, self._folds, self._scale, self._base = data, folds, max(scale, 1e-9), base
        self._known: dict[BundleModel, tuple[FloatArray, int]] = {}

    def errors(self, model: BundleModel) -> FloatArray:
        """(point,): bounded mean square, in squares of the simplest model's scale; its mean is that of observations."""
        if model not in self._known:
            fit = fitted(self._data, model, near=self._base, size_rounds=2)
            length = np.minimum(_held_out(fit, self._folds) / self._scale, _BOUND)
            total = np.bincount(self._data.rows, weights=0.5 * length**2, minlength=len(self._data.names))
            self._known[model] = total * len(self._data.names) / len(length), len(fit.solution.common)
        return self._known[model][0]

    def unknowns(self, model: BundleModel) -> int:
        self.errors(model)
        return self._known[model][1]

    def gain(self, worse: BundleModel, better: BundleModel) -> tuple[float, float]:
        """Mean gain over points and its standard error."""
        gains = self.errors(worse) - self.errors(better)
        return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else np.inf

    def better(self, model: BundleModel, than: BundleModel) -> bool:
        """Whether a model gains more than one standard error."""
        gain, error = self.gain(than, model)
        return gain > error

    def table(self, chosen: BundleModel) -> tuple[TriedModel, ...]:
        best = min(self._known, key=lambda m: float(self.errors(m).mean()))
        size = float(np.median(1.0 / np.linalg.svd(self._data.whitening, compute_uv=False)[:, 0]))
        rows = []
        for model in self._known:
            rms = float(np.sqrt(self.errors(model).mean())) * self._scale * size
            _, error = self.gain(model, best)
            rows.append(
                TriedModel(
                    model=model,
                    held_out_angstrom=rms,
                    standard_error_angstrom=0.0
                    if model == best
                    else 0.5 * error * (self._scale * size) ** 2 / max(rms, 1e-9),
                    unknowns=self.unknowns(model),
                    chosen=model == chosen,
                )
            )
        return tuple(rows)
