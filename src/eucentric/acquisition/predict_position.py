"""Where targets will be after the next tilt, learned from each image as it comes.

A Kalman filter holds what `stage_model` says is unknown. The ways of the field are three such filters that are given different things:
images of the targets; these and positions on the axis; these and what earlier series taught of the goniometer.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.acquisition.goniometer import GoniometerModel
from eucentric.acquisition.kalman import Gaussian
from eucentric.acquisition.params import PredictionParams
from eucentric.acquisition.results import Prediction, Reception, Way
from eucentric.acquisition.stage_model import (
    AXES,
    MOVE_UNIT_DEG,
    Layout,
    checked_tilt,
    design,
    known_part,
    own_target_rows,
    prior,
)
from eucentric.errors import InputError
from eucentric.typing import FloatArray

_SAME_ANGLE_DEG = 0.005
_SCALE_WEIGHT = 10.0
"""Measurements that the errors expected by a filter count for, when they are compared with those that it makes."""
_SCALE_RANGE = (0.7, 5.0)
_JUMP_ANGSTROM = 1e5
_ZERO_SIGMA_ANGSTROM = 1.0
_LEAST_SIGMA_ANGSTROM = 0.1
"""Of what is measured: no image tells more, and beside a zero that is not known finer ones would be lost in rounding."""
_FEWEST_TO_REJECT = 3
_PARTS = (slice(0, 2), slice(2, 3))
"""Position and height, which are judged apart: a refocus or a wrong hand shifts heights alone."""
DEFAULT_TARGET = "target"


@dataclass(slots=True, eq=False)
class _Track:
    """A target or a position on the axis."""

    place: tuple[float, float]
    on_axis: bool
    start: int
    """Of its three unknowns in the state."""


@dataclass(slots=True, eq=False)
class _Filter:
    """One way to predict."""

    way: Way
    state: Gaussian
    squares: FloatArray = field(default_factory=lambda: np.full(2, _SCALE_WEIGHT))
    """Of errors over their expectation, for positions and heights."""
    counts: FloatArray = field(default_factory=lambda: np.full(2, _SCALE_WEIGHT))

    def scales(self) -> FloatArray:
        """(2,): by which errors of position and height exceed their expectation."""
        return np.clip(np.sqrt(self.squares / self.counts), *_SCALE_RANGE)

    def hears_of(self, track: _Track) -> bool:
        return not track.on_axis or self.way != "previous tilts"


@dataclass(frozen=True, slots=True, eq=False)
class _Stop:
    """The stage at an angle."""

    tilt_deg: float
    direction: float
    moved: float
    time_s: float


class PositionPredictor:
    """Predicts targets of one tilt series.

    Use: `predict` the next angle, move the field by it, record, and `update` with what the record shows. Every angle costs one
    prediction and one update, some milliseconds in all.

    Parameters
    ----------
    params : what is believed of the stage and tolerated
    goniometer : run-out learned from earlier series, if there is one
    """

    def __init__(self, params: PredictionParams | None = None, goniometer: GoniometerModel | None = None) -> None:
        params = params or PredictionParams(harmonics=goniometer.harmonics if goniometer else 10)
        if goniometer is not None:
            if goniometer.harmonics != params.harmonics:
                raise InputError(
                    f"The goniometer model has {goniometer.harmonics} harmonics, the settings {params.harmonics}. "
                    "Use the same number."
                )
            params = params.replace(stage_noise_angstrom=goniometer.stage_noise_angstrom)
        self.params = params
        self._layout = Layout(params.harmonics)
        mean, variance = prior(self._layout, params)
        self._filters = [
            _Filter("previous tilts", Gaussian(mean.copy(), np.diag(variance))),
            _Filter("focus positions", Gaussian(mean.copy(), np.diag(variance))),
        ]
        if goniometer is not None:
            state = Gaussian(mean.copy(), np.diag(variance))
            shared = self._layout.shared_size
            state.mean[:shared] = goniometer.shared_mean
            state.covariance[:shared, :shared] = goniometer.series_covariance
            self._filters.append(_Filter("goniometer", state))
        self._targets: dict[str, _Track] = {}
        self._stop: _Stop | None = None
        self._height_known = False
        self._tracked = False
        self._accepted = 0
        self._suspects: dict[int, FloatArray | None] = {axes.start: None for axes in _PARTS}

    @property
    def targets(self) -> tuple[str, ...]:
        """Names, in the order in which they were given."""
        return tuple(self._targets)

    @property
    def tilt_deg(self) -> float | None:
        """The angle of the last measurement."""
        return self._stop.tilt_deg if self._stop else None

    def add_target(
        self,
        name: str,
        place_angstrom: Sequence[float] = (0.0, 0.0),
        *,
        seen_at_deg: float = 0.0,
        on_axis: bool = False,
    ) -> None:
        """Follow one more target, or a position on the axis for focus and tracking.

        Parameters
        ----------
        name : of the target
        place_angstrom : x across the axis and y along it from the target at the centre, as seen at `seen_at_deg`
        seen_at_deg : stage angle of the image in which the place was chosen
        on_axis : a position for focus and tracking; its exposures are those that `track_now` asks for

        Raises
        ------
        InputError : a name that is taken, or a place that is no number
        """
        place = np.asarray(place_angstrom, dtype=np.float64)
        if place.shape != (2,) or not np.isfinite(place).all():
            raise InputError(f"The place of target {name} is {place_angstrom}; expected two numbers, x and y.")
        if not name or name in self._targets:
            raise InputError(f"There is a target {name} already. Give each a name of its own.")
        angle = np.deg2rad(checked_tilt(seen_at_deg, self.params))
        # a plane of slope -tan(pre-tilt), seen at an angle: x is cos(angle + pre-tilt) / cos(pre-tilt) of its length
        shown = np.cos(angle) - np.sin(angle) * np.tan(np.deg2rad(self.params.pretilt_deg))
        if shown < 0.1:
            raise InputError(
                f"At {seen_at_deg:g} degrees the specimen of target {name} is seen edge on. Check the pre-tilt."
            )
        self._targets[name] = _Track(
            (float(place[0] / shown), float(place[1])), on_axis, len(self._filters[0].state.mean)
        )
        p = self.params
        variance = np.array([p.target_sigma_angstrom, p.target_sigma_angstrom, p.target_height_sigma_angstrom]) ** 2
        if not place.any():
            variance[:2] = 0.0  # the target at the centre: positions are counted from it
        for one in self._filters:
            one.state = one.state.grown(np.zeros(AXES), variance)

    def predict(self, tilt_deg: float, target: str | None = None, *, time_s: float | None = None) -> Prediction:
        """Where a target will be at an angle; nothing is changed.

        Parameters
        ----------
        tilt_deg : the angle to which the stage goes next, or at which it is
        target : its name; the first target if not given, and one at the centre where there is none
        time_s : when the image will be taken, since the first

        Raises
        ------
        InputError : an angle beyond the stage, no such target, or a time before the last image
        """
        if target is None and not self._targets:
            other = deepcopy(self)
            other.add_target(DEFAULT_TARGET)
            return other.predict(tilt_deg, time_s=time_s)
        name, track = self._track(target)
        stop = self._next_stop(tilt_deg, time_s)
        is_new = stop is not self._stop
        p = self.params
        asked = []
        for one in self._filters:
            state = self._moved(one.state, stop) if is_new else one.state
            mean, covariance = state.seen(self._rows(state, stop, track))
            sigmas = np.sqrt(np.maximum(np.diag(covariance), 0.0)) * one.scales()[[0, 0, 1]]
            asked.append((one.way, mean + known_part(stop.tilt_deg, track.place), sigmas))
        way, place, sigmas = min(asked, key=lambda a: float(_against_tolerance(a[2], p)))
        beyond = _against_tolerance(sigmas, p) > 1.0
        return Prediction(
            target=name,
            tilt_deg=stop.tilt_deg,
            position_angstrom=place[:2],
            height_angstrom=float(place[2]),
            focus_change_angstrom=float(p.hand * place[2]),
            position_sigma_angstrom=sigmas[:2],
            focus_sigma_angstrom=float(sigmas[2]),
            track_now=bool(beyond and (is_new or not self._tracked)),
            way=way,
        )

    def update(
        self,
        tilt_deg: float,
        position_angstrom: Sequence[float] | FloatArray | None = None,
        *,
        target: str | None = None,
        sigma_angstrom: float | None = None,
        height_angstrom: float | None = None,
        height_sigma_angstrom: float | None = None,
        time_s: float | None = None,
    ) -> Reception:
        """Learn where a target was found.

        Parameters
        ----------
        tilt_deg : the angle at which the stage is
        position_angstrom : (2,), x and y as an uncorrected camera would see the target: image shift applied is added
        target : its name; the first target if not given; where there is none, `DEFAULT_TARGET` is added at the centre
        sigma_angstrom : 1 sd of a component; below 0.1 it counts as that
        height_angstrom : where it was measured: ``(defocus - defocus of the first image) / hand``
        height_sigma_angstrom : 1 sd, likewise
        time_s : since the first image

        Raises
        ------
        InputError : neither position nor height, a value that is no number, an angle beyond the stage, or a time before the last image
        """
        place = _checked_measurement(position_angstrom, height_angstrom, sigma_angstrom, height_sigma_angstrom)
        stop = self._next_stop(tilt_deg, time_s)
        if target is None and not self._targets:
            self.add_target(DEFAULT_TARGET)  # after the checks: what is wrong changes nothing
        _, track = self._track(target)
        first = self._stop is None
        if stop is not self._stop:
            if not first:
                for one in self._filters:
                    one.state = self._moved(one.state, stop)
            self._stop, self._tracked = stop, False
        if np.isfinite(place[2]):
            self._height_known = True
        elif not self._height_known:
            # heights are counted from the first image
            place[2], height_sigma_angstrom, self._height_known = 0.0, _ZERO_SIGMA_ANGSTROM, True
        p = self.params
        sigma = max(sigma_angstrom or p.measured_sigma_angstrom, _LEAST_SIGMA_ANGSTROM)
        height_sigma = max(height_sigma_angstrom or p.height_sigma_angstrom, _LEAST_SIGMA_ANGSTROM)
        variance = np.array([sigma, sigma, height_sigma]) ** 2
        return self._learn(track, stop, place - known_part(stop.tilt_deg, track.place), variance)

    def _learn(self, track: _Track, stop: _Stop, values: FloatArray, variance: FloatArray) -> Reception:
        known = np.isfinite(values)
        judge = min(
            (one for one in self._filters if one.hears_of(track)),
            key=lambda one: float(np.trace(one.state.seen(self._rows(one.state, stop, track))[1][:2, :2])),
        )
        rows = self._rows(judge.state, stop, track)
        mean, covariance = judge.state.seen(rows)
        off = np.where(known, values - mean, 0.0)
        allowed = self.params.outlier_sigma * np.sqrt(np.diag(covariance) * judge.scales()[[0, 0, 1]] ** 2 + variance)
        taken, jumped, words = known.copy(), np.zeros(AXES, dtype=bool), []
        for axes in _PARTS:
            if known[axes].all():
                taken[axes], jumped[axes], word = self._judged(axes, off, allowed)
                words += [word] if word else []
        if taken.any():
            self._accepted += 1
            self._suspects.update({axes.start: None for axes in _PARTS if taken[axes].all()})
        for one in self._filters:
            drift = self._layout.drift.start + np.flatnonzero(jumped)
            one.state.covariance[drift, drift] += _JUMP_ANGSTROM**2
            if taken.any() and one.hears_of(track):
                seen = self._rows(one.state, stop, track)
                self._measured(one, seen, values, variance, taken, scored=~jumped)
        # where the position is not believed the image was not the one that was meant, whatever its height
        accepted = bool(taken[0] if known[0] else taken[2])
        self._tracked |= track.on_axis and bool((taken == known).all())
        return Reception(accepted=accepted, word="; ".join(words))

    def _judged(self, axes: slice, off: FloatArray, allowed: FloatArray) -> tuple[bool, bool, str]:
        """Whether a position or a height is believed, whether it has jumped, and the word for it."""
        if self._accepted < _FEWEST_TO_REJECT or (np.abs(off) <= allowed)[axes].all():
            return True, False, ""
        what, whole, kind = (
            ("the height or the focus", "heights", "a wrong height")
            if axes.start
            else ("the specimen or the stage", "positions", "a wrong correlation peak")
        )
        suspect = self._suspects[axes.start]
        if suspect is not None and (np.abs(off[axes] - suspect) <= allowed[axes]).all():
            return True, True, f"{what} has jumped; {whole} start anew from here"
        self._suspects[axes.start] = off[axes].copy()
        worst = axes.start + int(np.argmax((np.abs(off) / allowed)[axes]))
        word = (
            f"{('x', 'y', 'height')[worst]} is {abs(off[worst]) / 10:.4g} nm from its prediction, "
            f"where {allowed[worst] / 10:.4g} nm are believed: taken for {kind}"
        )
        return False, False, word

    def _measured(
        self,
        one: _Filter,
        rows: FloatArray,
        values: FloatArray,
        variance: FloatArray,
        known: NDArray[np.bool_],
        *,
        scored: NDArray[np.bool_],
    ) -> None:
        mean, covariance = one.state.seen(rows)
        if self._accepted > _FEWEST_TO_REJECT:
            ratio = (values - mean) ** 2 / (np.diag(covariance) + variance)
            for i, axes in enumerate(_PARTS):
                counted = (known & scored)[axes]
                one.squares[i] += ratio[axes][counted].sum()
                one.counts[i] += counted.sum()
        one.state.measure(rows[known], values[known], variance[known])

    def _track(self, name: str | None) -> tuple[str, _Track]:
        name = name if name is not None else next(iter(self._targets))
        if name not in self._targets:
            raise InputError(f"There is no target {name}. Known are: {', '.join(self._targets) or 'none'}.")
        return name, self._targets[name]

    def _rows(self, state: Gaussian, stop: _Stop, track: _Track) -> FloatArray:
        rows = np.zeros((AXES, len(state.mean)))
        rows[:, : self._layout.size] = design(self._layout, stop.tilt_deg, stop.direction, stop.moved, track.place)
        rows[:, track.start : track.start + AXES] = own_target_rows(stop.tilt_deg)
        return rows

    def _next_stop(self, tilt_deg: float, time_s: float | None) -> _Stop:
        """The stage at an angle; the present one where it does not move."""
        tilt = checked_tilt(tilt_deg, self.params)
        last = self._stop
        if time_s is not None and not np.isfinite(time_s):
            raise InputError(f"The time is {time_s}, not a number. Give seconds, or leave it out.")
        if last is None:
            return _Stop(tilt, float(self.params.first_approach), 0.0, 0.0 if time_s is None else time_s)
        if time_s is not None and time_s < last.time_s:
            raise InputError(f"The time {time_s:g} s lies before that of the last image, {last.time_s:g} s.")
        step = tilt - last.tilt_deg
        if abs(step) < _SAME_ANGLE_DEG:
            return last
        time = last.time_s + self.params.tilt_time_s if time_s is None else time_s
        return _Stop(tilt, float(np.sign(step)), step / MOVE_UNIT_DEG, time)

    def _moved(self, state: Gaussian, stop: _Stop) -> Gaussian:
        """The state after a tilt: drift goes on, and what the stage misses at random is drawn anew."""
        if self._stop is None:
            return state
        p, layout = self.params, self._layout
        seconds = stop.time_s - self._stop.time_s
        kept = float(np.exp(-seconds / p.drift_decay_s))
        state = state.copy()
        state.integrate(layout.drift, layout.rate, p.drift_decay_s * (1.0 - kept), kept)
        state.add(layout.drift, p.drift_walk_angstrom**2 * seconds / 60.0)
        state.forget(layout.noise, np.full(AXES, p.stage_noise_angstrom**2))
        return state

    def describe(self) -> dict[str, Any]:
        """What is believed now, in plain numbers: eucentric error, axis offset, slopes, backlash, and each way's scale."""
        best = self._filters[-1]
        state, layout = best.state, self._layout
        sigma = np.sqrt(np.diag(state.covariance))
        first = layout.geometry.start
        return {
            "tilt_deg": self.tilt_deg,
            "axis_offset_angstrom": float(state.mean[first]),
            "axis_offset_sigma_angstrom": float(sigma[first]),
            "height_angstrom": float(state.mean[first + 1]),
            "height_sigma_angstrom": float(sigma[first + 1]),
            "slope_x": float(state.mean[first + 2]),
            "slope_y": float(state.mean[first + 3]),
            "backlash_angstrom": state.mean[layout.backlash].tolist(),
            "scales": {one.way: one.scales().tolist() for one in self._filters},
        }


def _against_tolerance(sigmas: FloatArray, params: PredictionParams) -> FloatArray:
    """Largest of the errors over what is tolerated of each."""
    return np.asarray(
        max(sigmas[:2].max() / params.position_tolerance_angstrom, sigmas[2] / params.focus_tolerance_angstrom)
    )


def _checked_measurement(
    position: Sequence[float] | FloatArray | None, height: float | None, *sigmas: float | None
) -> FloatArray:
    """(3,), x, y, z; NaN where not measured."""
    if position is None and height is None:
        raise InputError("The measurement has neither a position nor a height. Give one of them, or both.")
    given = np.full(AXES, np.nan)
    if position is not None:
        given[:2] = np.asarray(position, dtype=np.float64)
        if not np.isfinite(given[:2]).all():
            raise InputError(
                f"The position measured is {position}; expected two numbers. Leave it out where nothing was found."
            )
    if height is not None:
        given[2] = height
        if not np.isfinite(height):
            raise InputError(f"The height measured is {height}, not a number. Leave it out where nothing was found.")
    if any(s is not None and not (np.isfinite(s) and s > 0) for s in sigmas):
        raise InputError(
            "The standard deviation of a measurement must be a number above 0. Leave it out where it is not known."
        )
    return given
