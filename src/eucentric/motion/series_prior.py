r"""What the other movies of a tilt series tell of one movie's motion, before its frames are looked at.

After the stage has moved it settles: frame f of tilt m, taken at the time t_f (in frames or e/A^2), is displaced by

.. math:: s_m(t) = d_m\,(1 - e^{-t/\tau}) + w_m\,t + \text{noise}

with a direction and amplitude d_m and a steady drift w_m that are a movie's own, but whose mean and spread over the series, the time
constant and the size of the rest are shared. These are found from the other tilts, every one with the weight of its own
uncertainty, so that a movie of few electrons is held to what its neighbours did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import ShapeError
from eucentric.motion.results import MotionResult

_TIMES = (0.1, 0.2, 0.4, 0.8, 2.0)
"""Time constants tried, as parts of the movie."""
_ROUNDS = 30
_SMALLEST = 0.02
"""A; no shift is taken to be known better."""
_LARGEST = 4.0
"""A, a third of the finest detail used: a movie whose shifts are less well known tells nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MotionPrior:
    """A normal distribution of the shifts of a movie's frames, the same spread along x and y."""

    mean_angstrom: Float[Tensor, "frame 2"]
    precision: Float[Tensor, "frame frame"]
    """1/A^2; zero along a common displacement of all frames, which no frame can tell."""


def smooth_prior(doses: Float[Tensor, " frame"], step_angstrom: float, jerk_angstrom: float) -> MotionPrior:
    """Steps and changes of step between frames of the given standard deviations, about no motion.

    Parameters
    ----------
    doses : (frame,), relative; steps are those of a frame of dose 1 and grow as its square root
    """
    count = len(doses)
    first = torch.zeros(max(0, count - 1), count, dtype=torch.float64)
    for i in range(count - 1):
        length = max(0.5 * float(doses[i] + doses[i + 1]), 1e-3) ** 0.5
        first[i, i], first[i, i + 1] = -1.0 / length, 1.0 / length
    second = first[1:] - first[:-1]
    precision = first.T @ first / step_angstrom**2 + second.T @ second / jerk_angstrom**2
    return MotionPrior(mean_angstrom=torch.zeros(count, 2, dtype=torch.float64), precision=precision)


def series_prior(others: Sequence[MotionResult]) -> MotionPrior | None:
    """The distribution of a movie's shifts that the other movies of its series suggest.

    The spread over the movies enters the precision, so a series whose tilts have nothing in common gives a wide prior.

    Parameters
    ----------
    others : results of at least four movies of as many frames, found without a series prior; the movie itself is not among them

    Returns
    -------
    the prior, or None where there are too few movies to tell

    Raises
    ------
    ShapeError : movies of different numbers of frames
    """
    usable = [
        (r.free_shifts_angstrom, r.free_covariance)
        for r in others
        if r.free_shifts_angstrom is not None
        and r.free_covariance is not None
        and not r.rejected
        and _tells(r.free_covariance)
    ]
    if len(usable) < 4:
        return None
    counts = {len(shifts) for shifts, _ in usable}
    if len(counts) > 1:
        raise ShapeError(f"The movies have {sorted(counts)} frames; a series prior needs the same number in all.")
    count = counts.pop()
    if count < 2:
        return None
    free = free_directions(count)
    shifts = torch.stack([free.T @ there.double().cpu() for there, _ in usable])
    least = _SMALLEST**2 * torch.eye(count - 1, dtype=torch.float64)
    errors = torch.stack([free.T @ known.double().cpu() @ free + least for _, known in usable])
    fits = [_fit_population(shifts, errors, free.T @ _courses(count, tau)) for tau in _TIMES]
    best = max(fits, key=lambda fit: fit.log_likelihood)
    return MotionPrior(mean_angstrom=free @ best.mean, precision=free @ torch.linalg.inv(best.covariance) @ free.T)


def change_by(prior: MotionPrior, result: MotionResult) -> float:
    """How far a prior would move the frames of a movie, root mean square over frames, A; infinite where that is not known.

    The movie's own likelihood is taken as normal, which it is where it places the frames to a few A.
    """
    if result.free_shifts_angstrom is None or result.free_covariance is None or not _tells(result.free_covariance):
        return math.inf
    free = free_directions(len(result.shifts_angstrom))
    least = _SMALLEST**2 * torch.eye(free.shape[1], dtype=torch.float64)
    own = torch.linalg.inv(free.T @ result.free_covariance.double().cpu() @ free + least)
    held = free.T @ prior.precision @ free
    pull = own @ free.T @ result.free_shifts_angstrom.double().cpu() + held @ free.T @ prior.mean_angstrom
    moved = torch.linalg.solve(own + held, pull) - free.T @ result.shifts_angstrom.double().cpu()
    return float((moved.square().sum() / len(result.shifts_angstrom)).sqrt())


def _tells(covariance: Tensor) -> bool:
    """Whether the likelihood alone places the frames at all: far from there it is no longer normal."""
    return float(covariance.diagonal().mean()) < _LARGEST**2


def centring(count: int) -> Float[Tensor, "frame frame"]:
    """Takes the mean over frames away."""
    return torch.eye(count, dtype=torch.float64) - 1.0 / count


def free_directions(count: int) -> Float[Tensor, "frame direction"]:
    """(n, n - 1) orthonormal directions in which the frames do not all move together."""
    vectors: Tensor = torch.linalg.qr(centring(count)[:, 1:]).Q
    return vectors.clone(memory_format=torch.contiguous_format)


def _courses(count: int, tau: float) -> Tensor:
    """(frame, 2): settling and steady drift, of a length of about one over the movie."""
    time = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    settling = (1.0 - torch.exp(-time / tau)) / (1.0 - math.exp(-1.0 / tau))
    return torch.stack([settling, time], dim=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Population:
    mean: Tensor  # (direction, 2)
    covariance: Tensor  # (direction, direction)
    log_likelihood: float


def _fit_population(shifts: Tensor, errors: Tensor, courses: Tensor) -> _Population:
    """Mean and spread of the amplitudes, and the size of the rest, by expectation maximisation.

    Parameters
    ----------
    shifts : (movie, direction, 2)
    errors : (movie, direction, direction), of their measurement
    courses : (direction, course)
    """
    movies, directions, _ = shifts.shape
    # beforehand each movie's amplitudes spread about the mean as widely as the movies do, the rest is small
    solve = torch.linalg.pinv(courses)
    amplitudes = torch.einsum("cd,mdx->mcx", solve, shifts)
    mean = amplitudes.mean(0)
    spread = torch.einsum("mcx,mdx->cd", amplitudes - mean, amplitudes - mean) / (2 * movies)
    spread = spread + 0.1 * torch.eye(courses.shape[1], dtype=torch.float64)
    rest = 0.5
    one = torch.eye(directions, dtype=torch.float64)
    for _ in range(_ROUNDS):
        total = courses @ spread @ courses.T + rest * one + errors
        inverse = torch.linalg.inv(total)
        # the mean over the movies, each with its weight
        weight = torch.einsum("dc,mde,ef->cf", courses, inverse, courses)
        pull = torch.einsum("dc,mde,mex->cx", courses, inverse, shifts)
        mean = torch.linalg.solve(weight, pull)
        left = shifts - courses @ mean
        # what each movie's amplitudes and rest are, and how far that is open
        gain = spread @ courses.T @ inverse
        own = torch.einsum("mcd,mdx->mcx", gain, left)
        open_ = spread - gain @ courses @ spread
        residue = rest * torch.einsum("mde,mex->mdx", inverse, left)
        open_rest = rest - rest**2 * inverse.diagonal(dim1=1, dim2=2).sum(1) / directions
        # a weak inverse-Wishart of two movies keeps the spread from collapsing
        spread = (
            torch.einsum("mcx,mdx->cd", own, own) + 2 * open_.sum(0) + 0.2 * torch.eye(len(spread), dtype=torch.float64)
        ) / (2 * movies + 2)
        rest = float((residue.square().sum() / directions + 2 * open_rest.sum() + 0.02) / (2 * movies + 2))
    total = courses @ spread @ courses.T + rest * one
    value = 0.0
    for error, there in zip(errors, shifts - courses @ mean, strict=True):
        here = total + error
        value -= float(torch.logdet(here)) + 0.5 * float((there * torch.linalg.solve(here, there)).sum())
    # the mean itself is known from few movies only
    sure = torch.linalg.inv(torch.einsum("dc,mde,ef->cf", courses, inverse, courses))
    return _Population(mean=courses @ mean, covariance=total + courses @ sure @ courses.T, log_likelihood=value)
