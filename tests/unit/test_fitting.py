"""Robust bundle fits against dense least squares and brute force."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime

from eucentric.errors import ProcessingError, ShapeError
from eucentric.fitting import (
    Biweight,
    BundleStructure,
    Huber,
    Linearised,
    leave_one_out,
    leave_points_out,
    solve_bundle,
)
from eucentric.fitting.losses import RAYLEIGH_MEDIAN, length_scale, variance_factor
from eucentric.fitting.robust_bundle import solve_positive

GROUPS, POINTS, LOCAL, COMMON = 7, 9, 4, 11


@dataclass
class Linear:
    """Predictions linear in everything, so that dense algebra gives the exact answer."""

    structure: BundleStructure
    by_group: np.ndarray
    by_point: np.ndarray
    measured: np.ndarray

    def residuals(self, common: np.ndarray, points: np.ndarray) -> np.ndarray:
        local = (self.structure.spread @ common)[self.structure.groups]
        predicted = np.einsum("oik,ok->oi", self.by_group, local)
        return self.measured - predicted - np.einsum("oij,oj->oi", self.by_point, points[self.structure.points])

    def linearise(self, common: np.ndarray, points: np.ndarray) -> Linearised:
        return Linearised(residuals=self.residuals(common, points), by_group=self.by_group, by_point=self.by_point)

    def design(self) -> np.ndarray:
        """(2 * observation, common + 3 * point)."""
        n = len(self.measured)
        out = np.zeros((n, 2, COMMON + 3 * POINTS))
        for o in range(n):
            out[o, :, :COMMON] = self.by_group[o] @ self.structure.spread[self.structure.groups[o]]
            at = COMMON + 3 * self.structure.points[o]
            out[o, :, at : at + 3] = self.by_point[o]
        return out

    def dense(self, weights: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unknowns and normal matrix by plain algebra for given weights over the variance factor."""
        design = self.design()
        prior = np.concatenate([1 / sigma**2, np.full(3 * POINTS, self.structure.point_precision)])
        mean = np.concatenate([self.structure.prior_mean, self.structure.point_mean.ravel()])
        matrix = np.einsum("o,oim,oin->mn", weights, design, design) + np.diag(prior)
        right = np.einsum("o,oim,oi->m", weights, design, self.measured) + prior * mean
        return np.linalg.solve(matrix, right), matrix


def linear_problem(*, noise: float = 1.0, gross: int = 0, kinds: bool = False, seed: int = 0) -> Linear:
    rng = np.random.default_rng(seed)
    groups, points = (a.ravel() for a in np.meshgrid(np.arange(GROUPS), np.arange(POINTS), indexing="ij"))
    kept = rng.random(len(groups)) < 0.85
    groups, points = groups[kept], points[kept]
    structure = BundleStructure(
        groups=groups,
        points=points,
        spread=rng.normal(size=(GROUPS, LOCAL, COMMON)) * (rng.random((GROUPS, LOCAL, COMMON)) < 0.5),
        prior_sigma=rng.uniform(1.0, 30.0, COMMON),
        prior_mean=rng.normal(size=COMMON),
        kinds=np.where(np.arange(COMMON) < 5, 0, -1) if kinds else np.full(COMMON, -1),
        point_precision=1e-3,
        point_mean=rng.normal(size=(POINTS, 3)),
    )
    n = len(groups)
    problem = Linear(structure, rng.normal(size=(n, 2, LOCAL)), rng.normal(size=(n, 2, 3)), np.zeros((n, 2)))
    problem.measured = -problem.residuals(rng.normal(size=COMMON), 5 * rng.normal(size=(POINTS, 3)))
    problem.measured = problem.measured + noise * rng.normal(size=(n, 2))
    problem.measured[:gross] += 60.0
    return problem


def solved(problem: Linear):
    return solve_bundle(problem, problem.structure, np.zeros(COMMON), np.zeros((POINTS, 3)))


def test_biweight_is_that_of_gaussian_lengths():
    loss = Biweight()
    rayleigh = lambda r: r * np.exp(-(r**2) / 2)  # noqa: E731
    assert quad(rayleigh, 0, RAYLEIGH_MEDIAN)[0] == pytest.approx(0.5, abs=1e-9)
    # the median deviation from the median covers half of the lengths; 4.685 of its normal equivalent end the weight
    deviation = (loss.reach - RAYLEIGH_MEDIAN) / 4.685 / 1.482602
    assert quad(rayleigh, RAYLEIGH_MEDIAN - deviation, RAYLEIGH_MEDIAN + deviation)[0] == pytest.approx(0.5, abs=1e-4)
    assert loss.weights(np.array([0.0, RAYLEIGH_MEDIAN])).tolist() == [1.0, 1.0]
    assert loss.weights(np.array([loss.reach, 9.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", [Biweight(), Huber(), Huber(0.1)])
def test_weight_times_length_is_the_slope_of_the_loss(loss):
    for r in (0.05, 0.7, 1.3, 2.5, 3.9, 6.0):
        slope = approx_fprime(np.array([r]), lambda x: loss.cost(x), 1e-6)[0]
        assert slope == pytest.approx(float(r * loss.weights(np.array([r]))[0]), abs=2e-5)


def test_scale_and_variance_of_gaussian_residuals():
    lengths = np.linalg.norm(3.0 * np.random.default_rng(1).normal(size=(40000, 2)), axis=1)
    assert length_scale(lengths) == pytest.approx(3.0, rel=0.02)  # 1.2 / sqrt(40000) is 0.6%
    weights = Biweight().weights(lengths / 3.0)
    assert variance_factor(lengths, weights, 0.0) == pytest.approx(9.0, rel=0.03)
    assert length_scale(np.zeros(0)) == 0.0


def test_solution_and_covariance_are_those_of_dense_least_squares():
    problem = linear_problem()
    found = solved(problem)
    assert found.settled
    unknowns, matrix = problem.dense(found.weights / found.variance_factor, found.prior_sigma)
    sigma = np.sqrt(np.diag(np.linalg.inv(matrix)))
    # steps end at a few thousandths of a standard deviation, and weights change as little
    both = np.concatenate([found.common, found.points.ravel()])
    assert np.abs((both - unknowns) / sigma).max() < 0.1
    # the variance factor and the unknowns that the observations have fixed are iterated to a thousandth
    np.testing.assert_allclose(found.covariance, np.linalg.inv(matrix)[:COMMON, :COMMON], rtol=1e-3)


def test_gross_errors_do_not_matter():
    clean, spoilt = solved(linear_problem()), solved(linear_problem(gross=9))
    sigma = np.sqrt(np.diag(clean.covariance))
    assert (spoilt.weights[:9] == 0.0).all()
    assert np.abs((spoilt.common - clean.common) / sigma).max() < 4.0  # nine observations fewer
    assert (spoilt.weights[9:] > 0.0).mean() > 0.9


@pytest.mark.parametrize("gross", [0, 4])
def test_leave_one_out_is_that_of_brute_force(gross):
    problem = linear_problem(gross=gross)
    found = solved(problem)
    weights = found.weights / found.variance_factor
    exact, _ = problem.dense(weights, found.prior_sigma)
    found = replace(found, common=exact[:COMMON], points=exact[COMMON:].reshape(-1, 3))
    linearised = problem.linearise(found.common, found.points)
    left_out = leave_one_out(problem.structure, linearised, found)
    for o in range(0, len(weights), 5):
        others = weights.copy()
        others[o] = 0.0
        unknowns, _ = problem.dense(others, found.prior_sigma)
        np.testing.assert_allclose(
            left_out[o], problem.measured[o] - problem.design()[o] @ unknowns, rtol=1e-6, atol=1e-8
        )


def test_points_left_out_are_predicted_as_by_brute_force():
    problem = linear_problem()
    found = solved(problem)
    weights = found.weights / found.variance_factor
    exact, _ = problem.dense(weights, found.prior_sigma)
    found = replace(found, common=exact[:COMMON], points=exact[COMMON:].reshape(-1, 3))
    folds = np.arange(POINTS) % 4
    structure = problem.structure
    held_out = leave_points_out(structure, problem.linearise(found.common, found.points), found, folds)
    for o in range(0, len(weights), 6):
        mine = structure.points == structure.points[o]
        unknowns, _ = problem.dense(
            np.where(folds[structure.points] == folds[structure.points[o]], 0.0, weights), found.prior_sigma
        )
        common = unknowns[:COMMON]
        others = np.flatnonzero(mine & (np.arange(len(mine)) != o))
        b = problem.by_point[others]
        rest = problem.residuals(common, np.zeros((POINTS, 3)))
        mean = structure.point_mean[structure.points[o]]
        matrix = np.einsum("o,oim,oin->mn", weights[others], b, b) + structure.point_precision * np.eye(3)
        right = np.einsum("o,oim,oi->m", weights[others], b, rest[others]) + structure.point_precision * mean
        expected = rest[o] - problem.by_point[o] @ np.linalg.solve(matrix, right)
        np.testing.assert_allclose(held_out[o], expected, rtol=1e-6, atol=1e-8)


def test_sizes_follow_the_data_only_where_they_may():
    kept, adjusted = solved(linear_problem(noise=0.05)), solved(linear_problem(noise=0.05, kinds=True))
    given = linear_problem().structure.prior_sigma
    np.testing.assert_array_equal(kept.prior_sigma, given)
    np.testing.assert_array_equal(adjusted.prior_sigma[5:], given[5:])
    # five well observed unknowns about their means, and the given size counting as two more
    problem = linear_problem(noise=0.05, kinds=True)
    square = ((adjusted.common - problem.structure.prior_mean)[:5] ** 2).sum()
    expected = np.sqrt((square + 2 * (given[:5] ** 2).mean()) / 7)
    np.testing.assert_allclose(adjusted.prior_sigma[:5], expected, rtol=0.02)


def test_what_nothing_observes_keeps_its_prior():
    problem = linear_problem()
    wider = replace(
        problem.structure,
        spread=np.concatenate([problem.structure.spread, np.zeros((GROUPS, LOCAL, 1))], axis=2),
        prior_sigma=np.append(problem.structure.prior_sigma, 3.0),
        prior_mean=np.append(problem.structure.prior_mean, 7.0),
        kinds=np.append(problem.structure.kinds, -1),
        point_mean=np.concatenate([problem.structure.point_mean, [[1.0, 2.0, 3.0]]]),
    )
    problem.structure = wider
    found = solve_bundle(problem, wider, np.zeros(COMMON + 1), np.zeros((POINTS + 1, 3)))
    assert found.common[-1] == pytest.approx(7.0)
    assert found.covariance[-1, -1] == pytest.approx(9.0)
    np.testing.assert_allclose(found.points[-1], [1.0, 2.0, 3.0])


def test_bad_input_is_named():
    with pytest.raises(ProcessingError, match="do not fix"):
        solve_positive(-np.eye(3), np.ones(3))
    with pytest.raises(ShapeError, match="common unknowns"):
        replace(linear_problem().structure, prior_mean=np.zeros(3))
