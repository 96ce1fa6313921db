"""Robust Levenberg-Marquardt for bundle adjustment: many points, few common unknowns, points eliminated by Schur."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from eucentric.errors import ProcessingError, ShapeError
from eucentric.fitting.losses import Biweight, Huber, Loss, length_scale, variance_factor
from eucentric.typing import FloatArray

Indices = NDArray[np.int64]

_START_ROUNDS = 30
_ROUNDS = 40
_SETTLED = 5e-3  # of a standard deviation, rms over the unknowns
_DAMPINGS = 12
_RIDGE = 1e-10
_PRIOR_COUNT = 2.0
_SCALE_FLOOR = 1e-2  # of the stated standard deviations: below it rounding would count as evidence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linearised:
    """Residuals (measured less predicted) in units of their standard deviations, and how predictions change."""

    residuals: FloatArray
    """(observation, 2)."""
    by_group: FloatArray
    """(observation, 2, k): derivative of the prediction by the k local unknowns of the observation's group."""
    by_point: FloatArray
    """(observation, 2, 3): derivative of the prediction by the observation's point."""


class BundleProblem(Protocol):
    """What is fitted: predictions of whitened observations from common unknowns and points."""

    def residuals(self, common: FloatArray, points: FloatArray) -> FloatArray:
        """(observation, 2), measured less predicted, whitened."""
        ...

    def linearise(self, common: FloatArray, points: FloatArray) -> Linearised:
        """Residuals and derivatives."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class BundleStructure:
    """Which group and point each observation belongs to, how common unknowns reach the groups, and the priors.

    A group (an image) sees k local unknowns; `spread` takes the common unknowns to those of all groups. Priors are
    independent Gaussians and keep every problem regular, whatever is not observed.
    """

    groups: Indices
    """(observation,)."""
    points: Indices
    """(observation,)."""
    spread: FloatArray
    """(group, k, common)."""
    prior_sigma: FloatArray
    """(common,), standard deviations, above 0."""
    prior_mean: FloatArray
    """(common,)."""
    kinds: Indices
    """(common,): unknowns of one kind, 0 or more, have one expected size that the data adjust; -1 keeps it as given."""
    point_precision: float
    """Of each coordinate of a point about `point_mean`; above 0."""
    point_mean: FloatArray
    """(point, 3)."""

    def __post_init__(self) -> None:
        shapes = self.prior_sigma.shape, self.prior_mean.shape, self.kinds.shape
        n = self.spread.shape[2]
        if shapes != ((n,), (n,), (n,)):
            raise ShapeError(
                f"{n} common unknowns have a prior (sigma, mean, kind) of shapes {shapes}; expected ({n},)."
            )

    @property
    def unknowns(self) -> int:
        """Number of common unknowns."""
        return int(self.spread.shape[2])

    @property
    def prior_precision(self) -> FloatArray:
        """(common,), 1 / variance."""
        return np.asarray(1.0 / self.prior_sigma**2)

    @cached_property
    def flat_spread(self) -> csr_array:
        """(group * k, common)."""
        return csr_array(self.spread.reshape(-1, self.unknowns))

    @cached_property
    def members(self) -> tuple[Indices, ...]:
        """Rows of the observations of each group."""
        order = np.argsort(self.groups, kind="stable")
        edges = np.searchsorted(self.groups[order], np.arange(len(self.spread) + 1))
        return tuple(order[edges[g] : edges[g + 1]] for g in range(len(self.spread)))

    @cached_property
    def point_sums(self) -> csr_array:
        """(point, observation): adds up the observations of each point."""
        return self._sums(self.points, len(self.point_mean))

    @cached_property
    def pair_sums(self) -> csr_array:
        """(group * point, observation): adds up the observations of each point in each group."""
        return self._sums(self.groups * len(self.point_mean) + self.points, len(self.spread) * len(self.point_mean))

    def _sums(self, places: Indices, count: int) -> csr_array:
        n = len(places)
        return csr_array((np.ones(n), (places, np.arange(n))), shape=(count, n))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BundleSolution:
    """The summit, and all that is needed to judge it."""

    common: FloatArray
    """(common,)."""
    points: FloatArray
    """(point, 3)."""
    residuals: FloatArray
    """(observation, 2), whitened."""
    weights: FloatArray
    """(observation,), 0 to 1, from the robust loss."""
    variance_factor: float
    """By how much residuals vary more than the covariances given with them say."""
    covariance: FloatArray
    """(common, common), of the answer, at the variance found."""
    prior_sigma: FloatArray
    """(common,), expected sizes as the data have adjusted them."""
    rounds: int
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormalEquations:
    """Normal equations with the points eliminated. `w` stands for the weights over the variance factor."""

    reduced: FloatArray
    """(common, common): what remains for the common unknowns."""
    gradient: FloatArray
    """(common,): right-hand side that belongs to it."""
    coupling: FloatArray
    """(common, 3 * point), J_common^T w J_point."""
    point_inverse: FloatArray
    """(point, 3, 3), inverse of J_point^T w J_point."""
    point_gradient: FloatArray
    """(point, 3)."""

    def step(self, damping: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """Changes of the common unknowns and of the points, diagonal raised by `damping` (Marquardt)."""
        matrix = self.reduced + damping * np.diag(np.diag(self.reduced))
        change = solve_positive(matrix, self.gradient)
        back = (self.coupling.T @ change).reshape(-1, 3)
        return change, np.einsum("pij,pj->pi", self.point_inverse, self.point_gradient - back)


def solve_positive(matrix: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of a symmetric positive definite system, scaled to a unit diagonal first.

    Raises
    ------
    ProcessingError : the matrix is not positive definite
    """
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    even = matrix * scale[:, None] * scale
    try:
        factor = cho_factor(even, lower=True)
    except np.linalg.LinAlgError:
        try:
            # rounding alone takes wide priors away where observations know some directions 1e6 times better
            factor = cho_factor(even + _RIDGE * np.eye(len(even)), lower=True)
        except np.linalg.LinAlgError as error:
            raise ProcessingError(
                "The observations and priors do not fix all unknowns. Free fewer of them, or give narrower priors."
            ) from error
    shape = scale if right.ndim == 1 else scale[:, None]
    return np.asarray(shape * cho_solve(factor, shape * right))


def assemble(
    structure: BundleStructure, linearised: Linearised, weights: FloatArray, common: FloatArray, points: FloatArray
) -> NormalEquations:
    """Normal equations about `common` and `points`.

    Points whose observations have no weight keep their prior.
    """
    a, b, e = linearised.by_group, linearised.by_point, linearised.residuals
    n_points, (n_groups, k, n_common) = len(points), structure.spread.shape
    wa, wb = weights[:, None, None] * a, weights[:, None, None] * b

    own = (structure.point_sums @ (wb.transpose(0, 2, 1) @ b).reshape(-1, 9)).reshape(-1, 3, 3)
    own = own + structure.point_precision * np.eye(3)
    point_gradient = structure.point_sums @ (wb * e[:, :, None]).sum(1)
    point_gradient = point_gradient + structure.point_precision * (structure.point_mean - points)

    blocks = np.zeros((n_groups, k, k))
    for g, mine in enumerate(structure.members):
        blocks[g] = wa[mine].reshape(-1, k).T @ a[mine].reshape(-1, k)
    local_gradient = np.zeros((n_groups, k))
    np.add.at(local_gradient, structure.groups, (wa * e[:, :, None]).sum(1))
    crossed = structure.pair_sums @ (wa.transpose(0, 2, 1) @ b).reshape(-1, 3 * k)

    wide = crossed.reshape(n_groups, n_points, k, 3).transpose(0, 2, 1, 3).reshape(n_groups * k, 3 * n_points)
    across = structure.flat_spread.T
    coupling = np.asarray(across @ wide)
    full = np.asarray(across @ (blocks @ structure.spread).reshape(n_groups * k, n_common))
    gradient = np.asarray(across @ local_gradient.reshape(-1))
    gradient = gradient + structure.prior_precision * (structure.prior_mean - common)

    inverse = np.linalg.inv(own)
    root = np.linalg.cholesky(inverse)
    narrowed = (coupling.reshape(n_common, n_points, 1, 3) @ root).reshape(n_common, -1)
    eliminated = np.einsum("pij,pj->pi", inverse, point_gradient).reshape(-1)
    return NormalEquations(
        reduced=full + np.diag(structure.prior_precision) - narrowed @ narrowed.T,
        gradient=gradient - coupling @ eliminated,
        coupling=coupling,
        point_inverse=inverse,
        point_gradient=np.asarray(point_gradient),
    )


def solve_bundle(
    problem: BundleProblem,
    structure: BundleStructure,
    common: FloatArray,
    points: FloatArray,
    *,
    robust_start: bool = True,
    size_rounds: int = 4,
) -> BundleSolution:
    """Most probable common unknowns and points.

    Least distances first (a Huber loss with a threshold of 0.1 standard deviations), which gross errors cannot
    capture, then Huber's loss, then Tukey's biweight. Two things are found along the way: the variance of the residuals over what
    their covariances say, so that priors keep their proper share; and the expected size of each kind of unknown, by
    expectation maximisation with the given size counting as two further unknowns [1]_.

    Parameters
    ----------
    problem, structure : what is fitted
    common : (common,), start
    points : (point, 3), start
    robust_start : False goes straight to the biweight, from a start that is nearly right
    size_rounds : how often the expected sizes are adjusted

    Raises
    ------
    ProcessingError : unknowns that neither observations nor priors fix

    References
    ----------
    .. [1] Tipping, J. Mach. Learn. Res. 1:211 (2001)
    """
    state = _State(problem, structure, common, points)
    if robust_start:
        state.descend(Huber(0.1), _START_ROUNDS)
        state.descend(Huber(), _START_ROUNDS)
    settled = state.descend(Biweight(), _ROUNDS)
    state.measure()
    if (structure.kinds >= 0).any():
        for _ in range(size_rounds):
            state.adjust_sizes()
            settled = state.descend(Biweight(), _ROUNDS)
            state.measure()
    return BundleSolution(
        common=state.common,
        points=state.points,
        residuals=state.residuals,
        weights=state.weights,
        variance_factor=state.factor,
        covariance=state.covariance,
        prior_sigma=state.structure.prior_sigma,
        rounds=state.rounds,
        settled=settled,
    )


def hat_blocks(
    structure: BundleStructure, linearised: Linearised, normal: NormalEquations, covariance: FloatArray
) -> FloatArray:
    """(observation, 2, 2): covariance of each prediction, points included, in units of the observation's own.

    Parameters
    ----------
    structure, linearised, normal : of one solution
    covariance : (common, common), inverse of ``normal.reduced``
    """
    n_common = covariance.shape[0]
    b = linearised.by_point
    # prediction = A x + B p and p = const - C E^T x: the common unknowns act through A - B C E^T
    lead = normal.coupling.reshape(n_common, -1, 3).transpose(1, 2, 0)
    lead = normal.point_inverse @ lead
    out = b @ normal.point_inverse[structure.points] @ b.transpose(0, 2, 1)
    for g, mine in enumerate(structure.members):
        acting = linearised.by_group[mine] @ structure.spread[g] - b[mine] @ lead[structure.points[mine]]
        seen = (acting.reshape(-1, n_common) @ covariance).reshape(acting.shape)
        out[mine] += seen @ acting.transpose(0, 2, 1)
    return np.asarray(out)


def _spent_unknowns(structure: BundleStructure, normal: NormalEquations, covariance: FloatArray) -> float:
    """How many unknowns the observations have fixed: each counts by what its variance has lost to its prior's."""
    common = structure.unknowns - float((structure.prior_precision * np.diag(covariance)).sum())
    lead = normal.point_inverse @ normal.coupling.reshape(len(covariance), -1, 3).transpose(1, 2, 0)
    own = float(np.einsum("pii->", normal.point_inverse))
    led = float(((lead.reshape(-1, len(covariance)) @ covariance) * lead.reshape(-1, len(covariance))).sum())
    return common + 3.0 * len(normal.point_inverse) - structure.point_precision * (own + led)


class _State:
    """The descent: unknowns, scale of the residuals, damping, expected sizes."""

    def __init__(
        self, problem: BundleProblem, structure: BundleStructure, common: FloatArray, points: FloatArray
    ) -> None:
        self.problem, self.structure = problem, structure
        self.common, self.points = np.array(common, dtype=np.float64), np.array(points, dtype=np.float64)
        self.scale, self.rounds, self._damping = 1.0, 0, 0.0
        self._given = structure.prior_sigma
        seen = int(np.unique(structure.points).size)
        self._spent: float = min(structure.unknowns + 3.0 * seen, 1.5 * len(structure.points))
        self.factor = 1.0
        self.residuals, self.weights = np.zeros((0, 2)), np.zeros(0)
        self.covariance = np.zeros((0, 0))

    def descend(self, loss: Loss, rounds: int) -> bool:
        """Steps until they are small against the standard deviations of the unknowns; whether they became so."""
        for _ in range(rounds):
            self.rounds += 1
            linearised = self.problem.linearise(self.common, self.points)
            length = np.linalg.norm(linearised.residuals, axis=1)
            self.scale = self._scale(length)
            weights = loss.weights(length / self.scale) / self.scale**2
            normal = assemble(self.structure, linearised, weights, self.common, self.points)
            if self._step(normal, loss, self._cost(loss, length, self.common, self.points)):
                return True
        return False

    def measure(self) -> None:
        """Residuals, weights, variance factor and covariance where the descent has ended."""
        linearised = self.problem.linearise(self.common, self.points)
        length = np.linalg.norm(linearised.residuals, axis=1)
        self.residuals, self.weights = linearised.residuals, Biweight().weights(length / self.scale)
        self.factor = self.scale**2
        for _ in range(2):
            # what the unknowns spend beside their priors depends on the factor itself
            weights = self.weights / self.factor
            normal = assemble(self.structure, linearised, weights, self.common, self.points)
            self.covariance = solve_positive(normal.reduced, np.eye(self.structure.unknowns))
            spent = _spent_unknowns(self.structure, normal, self.covariance)
            self._spent = min(spent, 1.9 * float(self.weights.sum()))
            free = max(0.0, 2.0 * float(self.weights.sum()) - self._spent)
            found = variance_factor(length, self.weights, self._spent)
            self.factor = max((free * found + 1.0) / (free + 1.0), _SCALE_FLOOR**2)

    def adjust_sizes(self) -> None:
        """Expected size of each kind of unknown, from the estimates and their variances."""
        sigma = np.array(self.structure.prior_sigma)
        square = (self.common - self.structure.prior_mean) ** 2 + np.diag(self.covariance)
        for kind in np.unique(self.structure.kinds[self.structure.kinds >= 0]):
            mine = self.structure.kinds == kind
            total = square[mine].sum() + _PRIOR_COUNT * float((self._given[mine] ** 2).mean())
            sigma[mine] = np.sqrt(total / (mine.sum() + _PRIOR_COUNT))
        self.structure = replace(self.structure, prior_sigma=sigma)

    def _scale(self, length: FloatArray) -> float:
        """Residuals are smaller than errors by what the unknowns take up; the covariances given count as one more residual."""
        free = max(0.0, 2.0 * len(length) - self._spent)
        square = length_scale(length) ** 2 / max(0.25, free / max(2 * len(length), 1))
        return max(float(np.sqrt((free * square + 1.0) / (free + 1.0))), _SCALE_FLOOR)

    def _cost(self, loss: Loss, length: FloatArray, common: FloatArray, points: FloatArray) -> float:
        off = ((common - self.structure.prior_mean) / self.structure.prior_sigma) ** 2
        away = self.structure.point_precision * float(((points - self.structure.point_mean) ** 2).sum())
        return loss.cost(length / self.scale) + 0.5 * float(off.sum()) + 0.5 * away

    def _step(self, normal: NormalEquations, loss: Loss, before: float) -> bool:
        for _ in range(_DAMPINGS):
            change, moved = normal.step(self._damping)
            length = np.linalg.norm(self.problem.residuals(self.common + change, self.points + moved), axis=1)
            after = self._cost(loss, length, self.common + change, self.points + moved)
            square = float(change @ normal.reduced @ change)
            size = float(np.sqrt(max(0.0, square) / max(1, len(change))))
            if after <= before * (1.0 + 1e-12) + 1e-12:
                self.common, self.points = self.common + change, self.points + moved
                self._damping = 0.0 if self._damping < 1e-3 else 0.1 * self._damping
                return size < _SETTLED
            if size < _SETTLED:
                return True
            self._damping = max(1e-3, 10.0 * self._damping)
        return True
