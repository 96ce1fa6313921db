"""A tilting stage with the faults of real ones, and the places where it carries targets.

What is what:

- **Run-out** is the same in all series of a stage but for `repeat_share` of it: sines of the tilt angle of whole and broken orders
  up to `highest_order` and random phase, a kink (a slope that changes at one angle, as a worn bearing has) and a ripple of a gear, of
  order 20 to 40. The largest of a component within 60 degrees is `run_out_angstrom`. No basis of few harmonics holds it.
- **Backlash** shifts the stage by half of it along the direction of tilting; the angle itself lags by `play_deg`.
- **Relaxation** after a move is in proportion to the angle moved, and decays while the stage settles. **Drift** begins at some rate
  that decays, and wanders besides.
- **Geometry**: the specimen's plane is pre-tilted, off the eucentric height, and off the axis; the axis is drawn wrong on the camera
  by some tenths of a degree. Targets lie in this plane, but for `roughness_angstrom`.
- **Noise** is what the stage misses at random, by each component and image, the same for all targets. Errors of measuring are added
  by :func:`measured_track` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from eucentric.errors import InputError
from eucentric.models.settings import Frozen
from eucentric.models.stage_track import StageTrack
from eucentric.typing import FloatArray

_AXES = 3
_WITHIN_DEG = 60.0
_BROKEN_ORDERS = 3


class StageParams(Frozen):
    """Sizes of a stage's faults; "1 sd" ones are drawn for each stage or series."""

    run_out_angstrom: float = Field(default=3000.0, ge=0, description="A; largest within 60 degrees, each component")
    highest_order: int = Field(default=4, ge=1, description="of sines, per turn; 4: a period of 90 degrees")
    run_out_decay: float = Field(default=2.0, ge=0, description="sines fall by this power of their order")
    kink_angstrom_per_deg: float = Field(default=10.0, ge=0, description="A a degree, 1 sd; change of slope")
    ripple_angstrom: float = Field(default=20.0, ge=0, description="A; of a gear's teeth")
    repeat_share: float = Field(
        default=0.03, ge=0, description="1 sd of what differs from series to series, of each sine"
    )
    backlash_angstrom: float = Field(default=600.0, ge=0, description="A, 1 sd; half the difference of both directions")
    play_deg: float = Field(default=0.01, ge=0, description="degrees; by which the angle lags behind")
    relaxation_angstrom: float = Field(default=400.0, ge=0, description="A, 1 sd; after 60 degrees, before settling")
    relaxation_time_s: float = Field(default=8.0, gt=0, description="s; in which it falls to 1/e")
    settle_s: float = Field(default=5.0, ge=0, description="s between a tilt and its image")
    drift_angstrom_per_s: float = Field(default=0.5, ge=0, description="A/s, 1 sd at the start")
    drift_decay_s: float = Field(default=1200.0, gt=0, description="s; in which it falls to 1/e")
    drift_walk_angstrom: float = Field(default=10.0, ge=0, description="A a minute")
    eucentric_angstrom: float = Field(default=20000.0, ge=0, description="A; heights are off by up to this")
    axis_offset_angstrom: float = Field(default=10000.0, ge=0, description="A, 1 sd; of the optical from the tilt axis")
    axis_error_deg: float = Field(default=0.3, ge=0, description="degrees, 1 sd; of the axis as drawn on the camera")
    pretilt_deg: tuple[float, float] = Field(
        default=(10.0, 20.0), description="degrees; least and most, of either sign"
    )
    cross_slope_deg: float = Field(default=2.0, ge=0, description="degrees, 1 sd; of the plane along the axis")
    roughness_angstrom: float = Field(default=1000.0, ge=0, description="A, 1 sd; of targets from the plane")
    noise_angstrom: float = Field(default=100.0, ge=0, description="A, 1 sd of a component")
    image_time_s: float = Field(
        default=40.0, gt=0, description="s from image to image, besides 1 s for each 10 degrees"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One microscope's stage."""

    params: StageParams
    orders: FloatArray
    """(3, term)"""
    amplitudes_angstrom: FloatArray
    """(3, term)"""
    phases: FloatArray
    """(3, term), radian"""
    kink_deg: FloatArray
    """(3,)"""
    kink_angstrom_per_deg: FloatArray
    """(3,)"""
    backlash_angstrom: FloatArray
    """(3,)"""
    relaxation_angstrom: FloatArray
    """(3,)"""

    def run_out(self, tilts_deg: FloatArray) -> FloatArray:
        """(n, 3), A."""
        tilts = np.asarray(tilts_deg, dtype=np.float64)[:, None, None]
        sines = self.amplitudes_angstrom * np.sin(self.orders * np.deg2rad(tilts) + self.phases)
        return np.asarray(sines.sum(axis=2) + self.kink_angstrom_per_deg * np.abs(tilts[:, 0] - self.kink_deg))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageSeries:
    """Where one series' targets were, without and with what the stage missed at random."""

    pretilt_deg: float
    height_angstrom: float
    """Of the specimen above the axis, at the centre."""
    axis_offset_angstrom: float
    tracks: tuple[StageTrack, ...]
    """True places of every target; sigmas are 0."""
    smooth: FloatArray
    """(target, n, 3), A: places without noise, for scores."""


def draw_stage(rng: np.random.Generator, params: StageParams | None = None) -> Stage:
    """A stage of random run-out and backlash."""
    p = params or StageParams()
    broken = rng.uniform(1.2, p.highest_order + 0.5, (_AXES, _BROKEN_ORDERS))
    whole = np.arange(1.0, p.highest_order + 1.0)
    orders = np.concatenate([np.tile(whole, (_AXES, 1)), broken], axis=1)
    stage = Stage(
        params=p,
        orders=orders,
        amplitudes_angstrom=rng.normal(size=orders.shape) / orders**p.run_out_decay,
        phases=rng.uniform(0.0, 2.0 * np.pi, orders.shape),
        kink_deg=rng.uniform(-40.0, 40.0, _AXES),
        kink_angstrom_per_deg=np.zeros(_AXES),
        backlash_angstrom=rng.normal(0.0, p.backlash_angstrom, _AXES),
        relaxation_angstrom=rng.normal(0.0, p.relaxation_angstrom, _AXES),
    )
    course = stage.run_out(np.linspace(-_WITHIN_DEG, _WITHIN_DEG, 241))
    half = 0.5 * np.ptp(course, axis=0)
    return replace(
        stage,
        orders=np.concatenate([orders, rng.uniform(20.0, 40.0, (_AXES, 1))], axis=1),
        amplitudes_angstrom=np.concatenate(
            [stage.amplitudes_angstrom * (p.run_out_angstrom / half)[:, None], np.full((_AXES, 1), p.ripple_angstrom)],
            axis=1,
        ),
        phases=np.concatenate([stage.phases, rng.uniform(0.0, 2.0 * np.pi, (_AXES, 1))], axis=1),
        kink_angstrom_per_deg=rng.normal(0.0, p.kink_angstrom_per_deg, _AXES),
    )


def run_series(
    stage: Stage,
    angles_deg: FloatArray,
    rng: np.random.Generator,
    *,
    places_angstrom: Sequence[Sequence[float]] = ((0.0, 0.0),),
    name: str = "series",
) -> StageSeries:
    """One series on a stage, of a specimen and height drawn anew.

    Parameters
    ----------
    angles_deg : (n,), in the order of acquisition
    places_angstrom : (target, 2), x across the axis and y along it, in the untilted plane

    Raises
    ------
    InputError : angles that no stage reaches
    """
    angles = np.asarray(angles_deg, dtype=np.float64)
    if not len(angles) or not np.isfinite(angles).all() or np.abs(angles).max() >= 90:
        raise InputError("A simulated series needs angles between -90 and 90 degrees.")
    p = stage.params
    pretilt = float(rng.uniform(*p.pretilt_deg) * rng.choice([-1.0, 1.0]))
    height = float(rng.uniform(-1.0, 1.0) * p.eucentric_angstrom)
    offset = float(rng.normal(0.0, p.axis_offset_angstrom))
    cross, axis_error = np.deg2rad(rng.normal(0.0, 1.0, 2) * (p.cross_slope_deg, p.axis_error_deg))
    this = replace(
        stage,
        amplitudes_angstrom=stage.amplitudes_angstrom
        * (1.0 + p.repeat_share * rng.normal(size=stage.amplitudes_angstrom.shape)),
    )
    steps = np.diff(angles, prepend=angles[:1])
    times = np.cumsum(np.where(np.arange(len(angles)) > 0, p.image_time_s + 0.1 * np.abs(steps), 0.0))
    common = _common_path(this, angles, steps, times, rng)
    lag = p.play_deg * _directions(steps)
    tilt = np.deg2rad(angles - lag)
    noise = rng.normal(0.0, 1.0, (len(angles), _AXES)) * p.noise_angstrom
    smooth = []
    for x, y in places_angstrom:
        z = height - np.tan(np.deg2rad(pretilt)) * x + np.tan(cross) * y + rng.normal(0.0, p.roughness_angstrom)
        across = np.cos(tilt) * (x - offset) + np.sin(tilt) * z + offset
        along = y + axis_error * across
        smooth.append(np.column_stack([across, along, -np.sin(tilt) * (x - offset) + np.cos(tilt) * z]) + common)
    nothing = np.zeros(len(angles))
    tracks = tuple(
        StageTrack(
            name=f"{name}_{i}" if len(smooth) > 1 else name,
            tilts_deg=angles,
            position_angstrom=(path + noise)[:, :2],
            height_angstrom=(path + noise)[:, 2],
            position_sigma_angstrom=nothing,
            height_sigma_angstrom=nothing,
            times_s=times,
        )
        for i, path in enumerate(smooth)
    )
    return StageSeries(
        pretilt_deg=pretilt, height_angstrom=height, axis_offset_angstrom=offset, tracks=tracks, smooth=np.stack(smooth)
    )


def measured_track(
    track: StageTrack, rng: np.random.Generator, *, position_sigma_angstrom: float, height_sigma_angstrom: float | None
) -> StageTrack:
    """What correlation and defocus measurements make of true places: errors grow with the path through the specimen, 1/cos(tilt).

    Parameters
    ----------
    position_sigma_angstrom : 1 sd of a component at 0 degrees
    height_sigma_angstrom : 1 sd at 0 degrees; None: heights are not measured
    """
    longer = 1.0 / np.cos(np.deg2rad(track.tilts_deg))
    sigma = position_sigma_angstrom * longer
    height_sigma = np.full(len(track), np.nan) if height_sigma_angstrom is None else height_sigma_angstrom * longer
    return replace(
        track,
        position_angstrom=track.position_angstrom + sigma[:, None] * rng.normal(size=(len(track), 2)),
        height_angstrom=track.height_angstrom + height_sigma * rng.normal(size=len(track)),
        position_sigma_angstrom=sigma,
        height_sigma_angstrom=height_sigma,
    )


def _directions(steps: FloatArray) -> FloatArray:
    """Of approach: -1 or 1; the first angle is reached as the first move goes on."""
    signs = np.sign(steps)
    moved = signs[signs != 0]
    last = moved[0] if len(moved) else 1.0
    out = np.zeros(len(steps))
    for i, sign in enumerate(signs):
        last = sign or last
        out[i] = last
    return out


def _common_path(
    stage: Stage, angles: FloatArray, steps: FloatArray, times: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """(n, 3), A: run-out, backlash, relaxation and drift."""
    p = stage.params
    left = np.exp(-p.settle_s / p.relaxation_time_s)
    rate = rng.normal(0.0, p.drift_angstrom_per_s, _AXES)
    drift = rate * (p.drift_decay_s * (1.0 - np.exp(-times / p.drift_decay_s)))[:, None]
    waited = np.diff(times, prepend=0.0)
    walk = np.cumsum(
        rng.normal(0.0, 1.0, (len(angles), _AXES)) * (p.drift_walk_angstrom * np.sqrt(waited / 60.0))[:, None], axis=0
    )
    return np.asarray(
        stage.run_out(angles)
        + _directions(steps)[:, None] * stage.backlash_angstrom
        + (steps / 60.0 * left)[:, None] * stage.relaxation_angstrom
        + drift
        + walk
    )
