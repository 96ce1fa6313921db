"""What a stage does in every series alike: its run-out and backlash, learned from finished series.

Each series has an offset, a height, a drift and a direction of its own; what is left and common to all is the
stage's. All unknowns are Gaussian and enter linearly, so that series are added one after the other without keeping them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from eucentric.acquisition.params import PredictionParams
from eucentric.acquisition.stage_model import (
    AXES,
    Layout,
    design,
    filled_times,
    first_sigma,
    moves,
    prior,
    run_out_rows,
    shared_sigmas,
)
from eucentric.errors import InputError
from eucentric.models.stage_track import StageTrack
from eucentric.typing import FloatArray

FEWEST_TILTS = 8
_STEEPEST_DEG = 90.0
_REPEAT = 0.1
"""Share of the expected run-out that differs from series to series, before series tell it."""
_REPEAT_WEIGHT = 3.0
"""Unknowns of one series that this expectation counts for."""
_ROUNDS = 8
_HUBER = 1.345
"""Of residuals in standard deviations: 95% efficient where errors are Gaussian."""
_BAD_SERIES = 4.0
"""Squared misfit over its expectation, beyond which a series tells nothing of the stage."""
_FAR_APART = 2.0
"""`_Series.apart` beyond which a series is of another stage, or mirrored."""
_FEWEST_TO_JUDGE = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoniometerModel:
    """Run-out and backlash of a stage, with what is not known of them.

    Run-out is a sum of harmonics of the tilt angle, nothing at 0 degrees. What a wrong height or an offset from the axis does is in
    no series told from a run-out of the first harmonic; `at` and `sigma_at` leave it out.
    """

    coefficients_angstrom: FloatArray
    """(3, 2 k): of x (across the axis), y (along it) and z, those of cos(t) - 1 ... cos(k t) - 1, then of sin(t) ... sin(k t)."""
    backlash_angstrom: FloatArray
    """(3,): half the difference between places reached from below and from above."""
    covariance: FloatArray
    """(6 k + 3, 6 k + 3), A^2, of coefficients and backlash."""
    repeat_share: FloatArray
    """(3,): what differs from series to series, as a share of the run-out and backlash expected before learning."""
    prior_sigma_angstrom: FloatArray
    """(6 k + 3,), A: the run-out and backlash expected before learning."""
    stage_noise_angstrom: float
    """1 sd of what the stage misses at random."""
    series_count: int
    left_out: tuple[str, ...] = ()
    """Names of series that did not agree with the others."""

    @property
    def harmonics(self) -> int:
        return int(self.coefficients_angstrom.shape[1]) // 2

    def at(self, tilts_deg: FloatArray) -> FloatArray:
        """(n, 3), A: run-out in x, y and z at angles."""
        kept = (_without_geometry(self.harmonics) @ self.coefficients_angstrom.ravel()).reshape(AXES, -1)
        return np.asarray(run_out_rows(np.asarray(tilts_deg), self.harmonics) @ kept.T)

    def sigma_at(self, tilts_deg: FloatArray) -> FloatArray:
        """(n, 3), A: 1 sd of `at` for one more series, what differs from series to series included."""
        count = 2 * self.harmonics
        keep = _without_geometry(self.harmonics)
        covariance = keep @ self.series_covariance[: AXES * count, : AXES * count] @ keep
        rows = run_out_rows(np.asarray(tilts_deg), self.harmonics)
        blocks = [covariance[i * count : (i + 1) * count, i * count : (i + 1) * count] for i in range(AXES)]
        return np.asarray(np.sqrt(np.stack([np.einsum("ni,ij,nj->n", rows, block, rows) for block in blocks], axis=1)))

    @property
    def shared_mean(self) -> FloatArray:
        """(6 k + 3,), A: coefficients and backlash."""
        return np.concatenate([self.coefficients_angstrom.ravel(), self.backlash_angstrom])

    @property
    def series_covariance(self) -> FloatArray:
        """(6 k + 3, 6 k + 3), A^2: of run-out and backlash in one more series."""
        return np.asarray(self.covariance + np.diag(_repeat_variance(self.repeat_share, self.prior_sigma_angstrom)))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for a file."""
        return {
            "harmonics": self.harmonics,
            "series_count": self.series_count,
            "left_out": list(self.left_out),
            "stage_noise_angstrom": self.stage_noise_angstrom,
            "repeat_share": self.repeat_share.tolist(),
            "backlash_angstrom": self.backlash_angstrom.tolist(),
            "coefficients_angstrom": self.coefficients_angstrom.tolist(),
            "prior_sigma_angstrom": self.prior_sigma_angstrom.tolist(),
            "covariance": self.covariance.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GoniometerModel":
        """The reverse of `to_dict`.

        Raises
        ------
        InputError : something is missing, or of another size
        """
        try:
            numbers = {
                name: np.asarray(values[name], dtype=np.float64)
                for name in (
                    "coefficients_angstrom", "backlash_angstrom", "covariance", "repeat_share", "prior_sigma_angstrom",
                )
            }  # fmt: skip
            noise, count, harmonics = (
                float(values["stage_noise_angstrom"]),
                int(values["series_count"]),
                int(values["harmonics"]),
            )
            left_out = tuple(str(name) for name in values.get("left_out", ()))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"The goniometer model is incomplete: {error}. Learn it again.") from error
        size = 2 * AXES * harmonics + AXES
        shapes = ((AXES, 2 * harmonics), (AXES,), (size, size), (AXES,), (size,))
        wrong = [name for (name, a), shape in zip(numbers.items(), shapes, strict=True) if a.shape != shape]
        if wrong or not all(np.isfinite(a).all() for a in numbers.values()) or not (noise > 0 and count >= 0):
            raise InputError(
                f"The goniometer model has numbers that do not fit its {harmonics} harmonics"
                f"{': ' + ', '.join(wrong) if wrong else ', or are none'}. Learn it again."
            )
        try:
            PredictionParams(harmonics=harmonics, stage_noise_angstrom=noise)
        except ValidationError as error:
            raise InputError(
                f"The goniometer model has {harmonics} harmonics and a noise of {noise:g} A, which no stage has. Learn it again."
            ) from error
        return cls(**numbers, stage_noise_angstrom=noise, series_count=count, left_out=left_out)


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """One track as equations: values = own unknowns (Gaussian, of no interest) + shared @ unknowns of the stage."""

    name: str
    values: FloatArray
    shared: FloatArray
    own_covariance: FloatArray
    measured_variance: FloatArray
    weights: FloatArray
    apart: FloatArray
    """(3,): its difference from what all series share, over twice the usual difference of a series; 1 where it is less."""

    def repeat_variance(self, share: FloatArray, sigmas: FloatArray) -> FloatArray:
        """(6 k + 3,), A^2: of its difference from what all series share."""
        return _repeat_variance(share * self.apart, sigmas)

    def covariance(self, noise: float, repeat: FloatArray) -> FloatArray:
        """(n, n), A^2, of the values about what all series share."""
        scatter = (self.measured_variance + noise**2) / self.weights
        return np.asarray(np.diag(scatter) + self.own_covariance + (self.shared * repeat) @ self.shared.T)


def unfit(track: StageTrack) -> str:
    """Why nothing can be learned from a series; empty where it can."""
    if len(track) < FEWEST_TILTS:
        return "too few tilts"
    # finished series may go beyond what a prediction allows its stage
    if not (np.abs(track.tilts_deg) <= _STEEPEST_DEG).all():
        return f"an angle beyond {_STEEPEST_DEG:g} degrees"
    return ""


def learn_goniometer(
    tracks: Sequence[StageTrack], before: GoniometerModel | None = None, params: PredictionParams | None = None
) -> GoniometerModel:
    """The stage's part of what series did.

    Parameters
    ----------
    tracks : of finished series, each in the order of acquisition; those that `unfit` names a reason for are left out
    before : what earlier series taught; it is not changed
    params : what is expected of a stage and of series

    Returns
    -------
    the model of all series, those of `before` included, without those that do not agree with the others

    Raises
    ------
    InputError : no series is fit to learn from, or `before` has other harmonics than `params`
    """
    params = params or PredictionParams(harmonics=before.harmonics if before else 10)
    if before is not None and before.harmonics != params.harmonics:
        raise InputError(
            f"The goniometer model has {before.harmonics} harmonics, the settings {params.harmonics}. Use the same number."
        )
    out = tuple(track.name for track in tracks if unfit(track))
    series = [_equations(track, params) for track in tracks if not unfit(track)]
    if not series:
        raise InputError(
            f"None of {len(tracks)} series has {FEWEST_TILTS} tilts, the fewest that tell a stage's run-out from its offset, "
            f"all of them within {_STEEPEST_DEG:g} degrees."
        )
    start = before or _empty(params)
    model, series = _fitted(series, start)
    bad: set[str] = set()
    while more := _disagreeing(series, start, model):  # the worst hide others until they are out
        bad |= more
        series = [s for s in series if s.name not in bad]
        if not series:
            model = start
            break
        model, series = _fitted(series, start)
    return replace(model, left_out=start.left_out + out + tuple(sorted(bad)))


def _empty(params: PredictionParams) -> GoniometerModel:
    sigmas = shared_sigmas(params)
    return GoniometerModel(
        coefficients_angstrom=np.zeros((AXES, 2 * params.harmonics)),
        backlash_angstrom=np.zeros(AXES),
        covariance=np.diag(sigmas**2),
        repeat_share=np.full(AXES, _REPEAT),
        prior_sigma_angstrom=sigmas,
        stage_noise_angstrom=params.stage_noise_angstrom,
        series_count=0,
    )


def _equations(track: StageTrack, params: PredictionParams) -> _Series:
    layout = Layout(params.harmonics)
    tilts = track.tilts_deg
    directions, moved = moves(tilts, params.first_approach)
    rows = np.concatenate([design(layout, t, s, m) for t, s, m in zip(tilts, directions, moved, strict=True)])
    times = filled_times(track.times_s, params)
    _, variances = prior(layout, params)
    shared = layout.shared_size
    variances[layout.noise] = 0.0
    own = rows[:, shared:] * np.sqrt(variances[shared:])
    # the drift comes to an end: its whole course is the integral of a falling rate
    course = params.drift_decay_s * (1.0 - np.exp(-times / params.drift_decay_s)) * params.drift_angstrom_per_s
    drift = np.kron(course[:, None], np.eye(AXES))
    walk = params.drift_walk_angstrom**2 / 60.0 * np.minimum.outer(times, times)
    first = np.zeros(len(rows))
    first[:AXES] = first_sigma(params) ** 2
    values = np.column_stack([track.position_angstrom, track.height_angstrom]).ravel()
    place = _filled(track.position_sigma_angstrom, params.measured_sigma_angstrom)
    height = _filled(track.height_sigma_angstrom, params.height_sigma_angstrom)
    known = np.isfinite(values)
    covariance = own @ own.T + drift @ drift.T + np.kron(walk, np.eye(AXES)) + np.diag(first)
    return _Series(
        track.name,
        values[known],
        rows[known, :shared],
        covariance[np.ix_(known, known)],
        np.column_stack([place, place, height]).ravel()[known] ** 2,
        np.ones(int(known.sum())),
        np.ones(AXES),
    )


def _filled(sigmas: FloatArray, usual: float) -> FloatArray:
    return np.where(np.isfinite(sigmas) & (sigmas > 0), sigmas, usual)


def _repeat_variance(share: FloatArray, sigmas: FloatArray) -> FloatArray:
    """(6 k + 3,), A^2: of the difference of one series from what all share."""
    count = (len(sigmas) - AXES) // AXES
    return np.asarray((np.concatenate([np.repeat(share, count), share]) * sigmas) ** 2)


def _fitted(series: list[_Series], start: GoniometerModel) -> tuple[GoniometerModel, list[_Series]]:
    """Most probable unknowns of the stage; how well it repeats and its noise are found with them, in turns."""
    noise, share, model = start.stage_noise_angstrom, start.repeat_share, start
    precision = np.linalg.inv(start.covariance)
    for _ in range(_ROUNDS):
        information, right = precision.copy(), precision @ start.shared_mean
        for one in series:
            repeat = one.repeat_variance(share, start.prior_sigma_angstrom)
            solved = np.linalg.solve(one.covariance(noise, repeat), np.column_stack([one.shared, one.values]))
            information += one.shared.T @ solved[:, :-1]
            right += one.shared.T @ solved[:, -1]
        covariance = np.linalg.inv(information)
        mean = covariance @ right
        model = replace(
            start,
            coefficients_angstrom=mean[:-AXES].reshape(AXES, -1),
            backlash_angstrom=mean[-AXES:],
            covariance=0.5 * (covariance + covariance.T),
            repeat_share=share,
            stage_noise_angstrom=noise,
            series_count=start.series_count + len(series),
        )
        series, noise, share = _refined(series, model, start)
    return model, series


def _refined(
    series: list[_Series], model: GoniometerModel, start: GoniometerModel
) -> tuple[list[_Series], float, FloatArray]:
    """Weights of measurements, the stage's noise, and how well it repeats, given the rest."""
    sigmas = start.prior_sigma_angstrom
    weighed, noises, found, determined = [], [], [], []
    count = (len(sigmas) - AXES) // AXES
    for one in series:
        scatter = one.measured_variance + model.stage_noise_angstrom**2
        repeat = one.repeat_variance(model.repeat_share, sigmas)
        inverse = np.linalg.inv(one.covariance(model.stage_noise_angstrom, repeat))
        solved = inverse @ (one.values - one.shared @ model.shared_mean)
        left = scatter / one.weights * solved
        spent = np.sqrt(scatter / one.weights * np.maximum(np.diag(inverse), 1e-12)) + 1e-6
        size = np.abs(left) / (np.sqrt(scatter) * spent)
        weighed.append(replace(one, weights=np.minimum(1.0, _HUBER / np.maximum(size, 1e-9))))
        # the median of squares of a Gaussian is 0.455 of its variance; heights are measured too coarsely to tell the noise
        fine = one.measured_variance < 2.0 * model.stage_noise_angstrom**2
        if fine.any():
            noises.append(
                float(np.median((size**2)[fine] * scatter[fine] - 0.455 * one.measured_variance[fine])) / 0.455
            )
        # MacKay's rule: squares of what was found, over the share of it that measurements determine
        deviation = repeat * (one.shared.T @ solved)
        told = repeat * np.sum(one.shared * (inverse @ one.shared), axis=0)
        found.append((deviation / np.maximum(sigmas, 1e-9))[: AXES * count].reshape(AXES, count) ** 2)
        determined.append(told[: AXES * count].reshape(AXES, count))
    share, apart = _repeats(np.sum(found, axis=2), np.sum(determined, axis=2), start)
    weighed = [replace(one, apart=of_it) for one, of_it in zip(weighed, apart, strict=True)]
    noise = _noise(np.array(noises), start) if noises else model.stage_noise_angstrom
    return weighed, noise, share


def _repeats(squares: FloatArray, counts: FloatArray, start: GoniometerModel) -> tuple[FloatArray, FloatArray]:
    """(3,) what differs from series to series as a share, and (series, 3) `_Series.apart`.

    A series that differs by far more than most must not pass for a stage that repeats badly: it counts for a limited part
    of the share, and tells the less of what all have in common, the farther it is from the others.

    Parameters
    ----------
    squares, counts : (series, 3), sums of squares of differences, as shares, and how many of them measurements determine
    """
    shares = squares / np.maximum(counts, 1e-9)
    most = _BAD_SERIES * _median_with(shares, start.repeat_share**2, start.series_count)
    before = _REPEAT_WEIGHT + start.series_count
    kept = (np.minimum(shares, most) * counts).sum(axis=0)
    share = np.sqrt((before * start.repeat_share**2 + kept) / (before + counts.sum(axis=0)))
    return share, np.sqrt(np.maximum(shares / (_BAD_SERIES * share**2), 1.0))


def _noise(variances: FloatArray, start: GoniometerModel) -> float:
    """The stage's noise, A, from that of each series, A^2; a noisy series beside many earlier ones counts for a limited part."""
    known, count = np.asarray(start.stage_noise_angstrom**2), start.series_count
    usual = min(float(np.median(variances)), _BAD_SERIES * float(_median_with(variances, known, count)))
    found = (count * float(known) + len(variances) * usual) / (count + len(variances))
    return float(np.sqrt(max(found, 0.01 * float(known))))


def _disagreeing(series: list[_Series], start: GoniometerModel, model: GoniometerModel) -> set[str]:
    """Names of series that the others do not explain."""
    if len(series) + start.series_count < _FEWEST_TO_JUDGE:
        return set()
    misfits = []
    share, sigmas = model.repeat_share, model.prior_sigma_angstrom
    whole = np.linalg.inv(model.covariance)
    for one in series:
        plain = replace(one, weights=np.ones_like(one.weights))
        mine = plain.covariance(model.stage_noise_angstrom, _repeat_variance(share, sigmas))
        weighed = one.covariance(model.stage_noise_angstrom, one.repeat_variance(share, sigmas))
        solved = np.linalg.solve(weighed, np.column_stack([one.shared, one.values]))
        information = whole - one.shared.T @ solved[:, :-1]
        covariance = np.linalg.inv(information)
        mean = covariance @ (whole @ model.shared_mean - one.shared.T @ solved[:, -1])
        off = one.values - one.shared @ mean
        expected = mine + one.shared @ covariance @ one.shared.T
        whitened = np.linalg.solve(np.linalg.cholesky(expected), off)
        misfits.append(float(np.median(whitened**2)) / 0.455)
    limit = _BAD_SERIES * max(1.0, float(_median_with(np.array(misfits), np.ones(()), start.series_count)))
    return {
        one.name for one, misfit in zip(series, misfits, strict=True) if misfit > limit or one.apart.max() > _FAR_APART
    }


def _median_with(values: FloatArray, known: FloatArray, count: int) -> FloatArray:
    """(...), the median over the first axis of values and of `count` earlier ones, for which one value stands."""
    copies = min(count, len(values) + 1)  # more change nothing
    return np.asarray(np.median(np.concatenate([values, np.repeat(known[None], copies, axis=0)]), axis=0))


def _without_geometry(harmonics: int) -> FloatArray:
    """(6 k, 6 k): takes out what an offset from the axis and a height do."""
    directions = np.zeros((2, AXES, 2, harmonics))
    directions[0, 0, 0, 0], directions[0, 2, 1, 0] = 1.0, -1.0  # offset: x follows cos(t), z -sin(t)
    directions[1, 0, 1, 0], directions[1, 2, 0, 0] = 1.0, 1.0  # height: x follows sin(t), z cos(t)
    flat = directions.reshape(2, -1) / np.sqrt(2.0)
    return np.asarray(np.eye(flat.shape[1]) - flat.T @ flat)
