"""Registration by pairs of landmarks: rigid, similarity or affine, of either hand, in two or three dimensions.

Wrong pairs are found by least trimmed squares [1]_ and a forward search [2]_: the half of the landmarks that agree best grows by
one at a time, as long as its error is what the others predict (F test). Similarities are Umeyama's closed form [3]_.

References
----------
.. [1] Rousseeuw, J. Am. Stat. Assoc. 79:871 (1984), doi:10.1080/01621459.1984.10477105
.. [2] Atkinson, Riani & Cerioli, Exploring Multivariate Data with the Forward Search (2004), doi:10.1007/978-0-387-21840-3
.. [3] Umeyama, IEEE Trans. Pattern Anal. 13:376 (1991), doi:10.1109/34.88573
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from eucentric.errors import InputError
from eucentric.geometry.affine import Affine
from eucentric.typing import FloatArray

Kind: TypeAlias = Literal["rigid", "similarity", "affine"]
Mirror: TypeAlias = Literal["auto", "no", "yes"]
WRONG_BY_CHANCE = 1e-4
"""How often a right landmark may be called wrong, at each test: of 9 landmarks of normal errors it was 1 of 10 800."""
_HAND_BY_CHANCE = 0.01
_MOST_SUBSETS = 500
_CONCENTRATED = 5
_FLAT = 1e-6
_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandmarkFit:
    """A registration and how well it is known. Lengths are in the unit of the fixed points."""

    transform: Affine
    kind: Kind
    hand_known: bool
    """Whether the landmarks tell a mirror image: the other hand fits worse than chance allows."""
    used: NDArray[np.bool_]
    """(landmark,), False of those that were found wrong."""
    errors: FloatArray
    """(landmark, d), fixed - mapped; of a wrong one it is an error of prediction."""
    left_out_errors: FloatArray
    """(landmark,), length of the error of each when the others alone are fitted."""
    sigma: float
    """1 sd of a landmark in each coordinate, from the residuals and the unknowns spent."""
    moving: FloatArray = field(repr=False)
    """(landmark, d)."""

    @property
    def rms(self) -> float:
        """Of the residuals of the landmarks used."""
        return float(np.sqrt((self.errors[self.used] ** 2).sum(axis=1).mean()))

    @property
    def left_out_rms(self) -> float:
        """Of the errors of the landmarks used when each is left out: what a place that is no landmark may be off."""
        return float(np.sqrt((self.left_out_errors[self.used] ** 2).mean()))

    def sigma_at(self, points: ArrayLike) -> FloatArray:
        """(n,) 1 sd of the length by which mapped points (n, d) are off, from the landmarks' errors and arrangement."""
        own = jacobian(self.moving[self.used], self.transform, self.kind)
        there = jacobian(np.asarray(points, dtype=np.float64), self.transform, self.kind)
        spread = np.linalg.pinv(np.einsum("nip,niq->pq", own, own))
        return np.asarray(self.sigma * np.sqrt(np.einsum("nip,pq,niq->n", there, spread, there)))


def unknowns(kind: Kind, dimensions: int) -> int:
    """Numbers that a transform of that kind has."""
    turns = dimensions * (dimensions - 1) // 2
    return {"rigid": turns, "similarity": turns + 1, "affine": dimensions**2}[kind] + dimensions


def fewest_landmarks(kind: Kind, dimensions: int) -> int:
    """That determine a transform, and one more to tell whether they agree."""
    return _minimal(kind, dimensions) + 1


def _minimal(kind: Kind, dimensions: int) -> int:
    """Landmarks that determine a transform of a known hand."""
    return {"rigid": dimensions, "similarity": dimensions, "affine": dimensions + 1}[kind]


def fit_exactly(moving: FloatArray, fixed: FloatArray, kind: Kind, *, mirrored: bool = False) -> Affine:
    """Least squares, every landmark counting alike.

    Parameters
    ----------
    moving, fixed : (n, d)
    mirrored : of a rigid motion or similarity; an affine transform takes the hand that it finds
    """
    centre_a, centre_b = moving.mean(axis=0), fixed.mean(axis=0)
    a, b = moving - centre_a, fixed - centre_b
    if kind == "affine":
        matrix = np.linalg.lstsq(a, b, rcond=None)[0].T
    else:
        u, values, vt = np.linalg.svd(b.T @ a)
        signs = np.ones(a.shape[1])
        if (np.linalg.det(u) * np.linalg.det(vt) < 0) != mirrored:
            signs[-1] = -1.0
        size = float((values * signs).sum() / (a**2).sum()) if kind == "similarity" else 1.0
        matrix = size * (u * signs) @ vt
    return Affine(matrix=matrix, offset=centre_b - matrix @ centre_a)


def jacobian(points: FloatArray, transform: Affine, kind: Kind) -> FloatArray:
    """(n, d, unknowns) by how much mapped points move with each unknown."""
    n, d = points.shape
    if kind == "affine":
        linear = np.einsum("ij,nk->nijk", np.eye(d), points).reshape(n, d, d * d)
    else:
        generators = []
        for i, j in itertools.combinations(range(d), 2):
            turn = np.zeros((d, d))
            turn[i, j], turn[j, i] = -1.0, 1.0
            generators.append(turn)
        if kind == "similarity":
            generators.append(np.eye(d))
        linear = np.stack([points @ (transform.matrix @ g).T for g in generators], axis=2)
    return np.concatenate([linear, np.broadcast_to(np.eye(d), (n, d, d))], axis=2)


def fit_landmarks(
    moving: ArrayLike, fixed: ArrayLike, kind: Kind = "similarity", *, mirror: Mirror = "auto", seed: int = 0
) -> LandmarkFit:
    """Register pairs of landmarks; wrong ones are found and left out.

    Parameters
    ----------
    moving, fixed : (n, 2) or (n, 3), lengths
    mirror : whether one is a mirror image of the other; `auto` finds it
    seed : of the choice of subsets, where there are many landmarks

    Raises
    ------
    InputError : too few landmarks, or they lie on one place, line or plane and do not determine the transform
    """
    a, b = np.asarray(moving, dtype=np.float64), np.asarray(fixed, dtype=np.float64)
    _check(a, b, kind)
    hands = {"auto": (False, True), "no": (False,), "yes": (True,)}[mirror]
    found = [(hand, *_forward(a, b, kind, hand, seed)) for hand in (hands if kind != "affine" else (False,))]
    mirrored, used, _ = min(found, key=lambda one: one[2])
    known = mirror != "auto" or _tells_hand(a[used], b[used], kind, mirrored=mirrored)
    if not known and kind != "affine":
        mirrored, used, _ = found[0]  # microscopes do not mirror by themselves
    transform = fit_exactly(a[used], b[used], kind, mirrored=mirrored)
    if kind == "affine" and mirror != "auto" and transform.is_mirrored != (mirror == "yes"):
        raise InputError(
            f"The landmarks say that the image is {'' if transform.is_mirrored else 'not '}mirrored, against what was asked for. "
            "Check their coordinates, or let the hand be found."
        )
    errors = b - transform(a)
    return LandmarkFit(
        transform=transform,
        kind=kind,
        hand_known=known,
        used=used,
        errors=errors,
        left_out_errors=_left_out(a, b, kind, used, mirrored=mirrored),
        sigma=_sigma(errors[used], kind),
        moving=a,
    )


def _check(a: FloatArray, b: FloatArray, kind: Kind) -> None:
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] not in (2, 3):
        raise InputError(
            f"Landmarks of shapes {a.shape} and {b.shape} were given; expected pairs of 2 or 3 coordinates."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("A landmark has a coordinate that is not a number.")
    n, d = a.shape
    fewest = fewest_landmarks(kind, d)
    if n < fewest:
        raise InputError(
            f"{n} landmarks were given; a transform that is {kind} in {d} dimensions needs {fewest} or more: {fewest - 1} determine "
            "it, and one tells whether they agree."
        )
    needed = d if kind == "affine" else d - 1
    for points, whose in ((a, "image that is registered"), (b, "target")):
        if _rank(points) < needed:
            shape = ("one place", "one line", "one plane")[_rank(points)]
            raise InputError(
                f"All landmarks of the {whose} lie on {shape}, so that they do not determine the transform. Add some beside it."
            )


def _rank(points: FloatArray) -> int:
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return int((values > _FLAT * max(values[0], np.finfo(float).tiny)).sum()) if values[0] > 0 else 0


def _freedom(points: FloatArray, kind: Kind) -> int:
    return points.size - unknowns(kind, points.shape[1])


def _sigma(errors: FloatArray, kind: Kind) -> float:
    return float(np.sqrt((errors**2).sum() / max(1, _freedom(errors, kind))))


def _subsets(count: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    if math.comb(count, size) <= _MOST_SUBSETS:
        yield from (np.array(one) for one in itertools.combinations(range(count), size))
        return
    generator = np.random.default_rng(seed)
    for _ in range(_MOST_SUBSETS):
        yield generator.choice(count, size, replace=False)


def _forward(a: FloatArray, b: FloatArray, kind: Kind, mirrored: bool, seed: int) -> tuple[NDArray[np.bool_], float]:
    """Landmarks that agree, and the sum of squares of the half that agrees best."""
    n, d = a.shape
    half = max((n + _minimal(kind, d) + 1) // 2, fewest_landmarks(kind, d))
    rows, squares_of_half = _best_half(a, b, kind, mirrored, seed, half)
    while len(rows) < n:
        transform = fit_exactly(a[rows], b[rows], kind, mirrored=mirrored)
        sigma = _sigma(b[rows] - transform(a[rows]), kind)
        own = jacobian(a[rows], transform, kind)
        spread = np.linalg.pinv(np.einsum("nip,niq->pq", own, own))
        others = np.setdiff1d(np.arange(n), rows)
        there = jacobian(a[others], transform, kind)
        variance = np.eye(d) + np.einsum("nip,pq,njq->nij", there, spread, there)
        errors = b[others] - transform(a[others])
        squares = np.einsum("ni,nij,nj->n", errors, np.linalg.inv(variance), errors) / d
        nearest = int(np.argmin(squares))
        limit = float(f_distribution.isf(WRONG_BY_CHANCE, d, _freedom(a[rows], kind)))
        # landmarks that agree to rounding leave no measure of what is too far
        floor = (_FLAT * np.ptp(b, axis=0).max()) ** 2
        if squares[nearest] > limit * max(sigma**2, floor):
            break
        rows = np.sort(np.append(rows, others[nearest]))
    used = np.zeros(n, dtype=bool)
    used[rows] = True
    return used, squares_of_half


def _best_half(
    a: FloatArray, b: FloatArray, kind: Kind, mirrored: bool, seed: int, half: int
) -> tuple[NDArray[np.int64], float]:
    """The landmarks, `half` in number, that agree best, and the sum of their squares."""

    def nearest(rows: NDArray[np.int64]) -> tuple[float, NDArray[np.int64]]:
        squares = ((b - fit_exactly(a[rows], b[rows], kind, mirrored=mirrored)(a)) ** 2).sum(axis=1)
        chosen = np.argsort(squares, kind="stable")[:half]
        return float(squares[chosen].sum()), chosen

    size, needed = _minimal(kind, a.shape[1]), a.shape[1] - (kind != "affine")
    starts = [nearest(rows) for rows in _subsets(len(a), size, seed) if min(_rank(a[rows]), _rank(b[rows])) >= needed]
    starts = sorted(starts, key=lambda one: one[0])[:_CONCENTRATED] or [nearest(np.arange(len(a)))]
    ends = []
    for total, rows in starts:
        best = total, rows
        for _ in range(_MOST_ROUNDS):
            after = nearest(best[1])
            if after[0] >= best[0]:
                break
            best = after
        ends.append(best)
    total, rows = min(ends, key=lambda one: one[0])
    return np.sort(rows), total


def _tells_hand(a: FloatArray, b: FloatArray, kind: Kind, *, mirrored: bool) -> bool:
    """Whether the other hand fits worse than chance allows."""
    if _rank(a) < a.shape[1]:
        return False
    form: Kind = "similarity" if kind == "affine" else kind
    hand = fit_exactly(a, b, kind).is_mirrored if kind == "affine" else mirrored
    squares = [((b - fit_exactly(a, b, form, mirrored=m)(a)) ** 2).sum() for m in (hand, not hand)]
    freedom = _freedom(a, form)
    limit = float(f_distribution.isf(_HAND_BY_CHANCE, freedom, freedom))
    return bool(squares[1] > limit * squares[0])


def _left_out(a: FloatArray, b: FloatArray, kind: Kind, used: NDArray[np.bool_], *, mirrored: bool) -> FloatArray:
    errors = np.empty(len(a))
    for i in range(len(a)):
        rows = np.flatnonzero(used & (np.arange(len(a)) != i))
        transform = fit_exactly(a[rows], b[rows], kind, mirrored=mirrored)
        errors[i] = np.linalg.norm(b[i] - transform(a[i : i + 1])[0])
    return errors
