"""Settings of the prediction of a tilting stage."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

_LONGEST = 1e7  # A; a mm, farther than a stage is ever off


class PredictionParams(Frozen):
    """What is believed of a stage before it moves, and what error is tolerated.

    The sizes are those that papers report of side-entry stages (see README.md), not fitted to any series.
    """

    hand: Literal[-1, 1] = Field(
        default=-1,
        description="defocus is that of the lens plus hand times height; -1: the higher, the less underfocus",
    )
    pretilt_deg: float = Field(
        default=0.0, gt=-60, lt=60, description="degrees; a lamella of pre-tilt 10 lies flat at a stage angle of -10"
    )
    pretilt_sigma_deg: float = Field(
        default=5.0, gt=0, le=90, description="degrees; lamellae differ from the angle of milling"
    )
    eucentric_sigma_angstrom: float = Field(
        default=20000.0, gt=0, le=_LONGEST, description="A, 1 sd; height after routine eucentricity is within 1 to 2 um"
    )
    axis_sigma_angstrom: float = Field(
        default=20000.0, gt=0, le=_LONGEST, description="A, 1 sd; the optical axis lies this far from the tilt axis"
    )
    run_out_angstrom: float = Field(
        default=3000.0, gt=0, le=_LONGEST, description="A, 1 sd; goniometers run out by some tenths of a um"
    )
    harmonics: int = Field(
        default=10,
        ge=1,
        le=40,
        description="of a full turn; the tenth has a period of 36 degrees; a goniometer model brings its own",
    )
    run_out_length_deg: float = Field(
        default=60.0,
        gt=5,
        le=3600,
        description="degrees over which run-out is alike; published curves turn once or twice in 120 degrees",
    )
    backlash_angstrom: float = Field(
        default=1000.0,
        ge=0,
        le=_LONGEST,
        description="A, 1 sd; half the difference between the two directions of approach",
    )
    first_approach: Literal[-1, 0, 1] = Field(
        default=0,
        description="direction in which the first angle was reached: 1 from lower angles, -1 from higher, 0 not known",
    )
    relaxation_angstrom: float = Field(
        default=300.0,
        ge=0,
        le=_LONGEST,
        description="A, 1 sd; what a tilt by 60 degrees leaves to creep back after settling",
    )
    drift_angstrom_per_s: float = Field(default=1.0, ge=0, le=1e5, description="A/s, 1 sd at the start of a series")
    drift_decay_s: float = Field(
        default=900.0, ge=1, le=1e6, description="s; the drift falls to 1/e of it in this time"
    )
    drift_walk_angstrom: float = Field(
        default=10.0, ge=0, le=_LONGEST, description="A a minute; what the specimen wanders without a direction"
    )
    tilt_time_s: float = Field(default=45.0, gt=0, le=1e5, description="s a tilt, where times are not given")
    stage_noise_angstrom: float = Field(
        default=100.0,
        gt=0,
        le=_LONGEST,
        description="A, 1 sd; how well the stage comes back to an angle; learned by a goniometer model",
    )
    measured_sigma_angstrom: float = Field(
        default=30.0,
        gt=0,
        le=_LONGEST,
        description="A, 1 sd of a correlation, where it does not come with the measurement",
    )
    height_sigma_angstrom: float = Field(
        default=500.0,
        gt=0,
        le=_LONGEST,
        description="A, 1 sd of a measured height or defocus, where it does not come with it",
    )
    target_sigma_angstrom: float = Field(
        default=1000.0,
        gt=0,
        le=_LONGEST,
        description="A, 1 sd of a target's place in the plane: image shift is calibrated to some per cent",
    )
    target_height_sigma_angstrom: float = Field(
        default=3000.0, gt=0, le=_LONGEST, description="A, 1 sd of a target from the plane of the specimen"
    )
    position_tolerance_angstrom: float = Field(
        default=400.0,
        gt=0,
        le=_LONGEST,
        description="A, 1 sd of a component, a twentieth of a field of 0.8 um; beyond it a tracking exposure is asked for",
    )
    focus_tolerance_angstrom: float = Field(
        default=800.0, gt=0, le=_LONGEST, description="A, 1 sd; beyond it a focus exposure is asked for"
    )
    outlier_sigma: float = Field(
        default=6.0, gt=2, description="standard deviations; a measurement farther out is a wrong correlation peak"
    )
    max_tilt_deg: float = Field(default=80.0, gt=0, lt=90, description="degrees; beyond it the stage does not go")
