"""What the prediction of a stage answers."""

from dataclasses import dataclass
from typing import Literal

from eucentric.typing import FloatArray

Way = Literal["previous tilts", "focus positions", "goniometer"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction:
    """Where a target will be after the next tilt."""

    target: str
    tilt_deg: float
    position_angstrom: FloatArray
    """(2,), x across the axis and y along it, as an uncorrected camera would see the target; zero is that of the measurements."""
    height_angstrom: float
    """Along the beam; 0 is the first image of the first target, or as heights were measured."""
    focus_change_angstrom: float
    """Hand times height: what the lens must be changed by to keep the defocus, more underfocus being negative."""
    position_sigma_angstrom: FloatArray
    """(2,), 1 sd, what the stage misses at random included."""
    focus_sigma_angstrom: float
    """1 sd."""
    track_now: bool
    """Whether the error to be expected is beyond what is tolerated, so that a tracking exposure is worth its dose."""
    way: Way
    """Which of the ways promised the least error and was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What became of a measurement."""

    accepted: bool
    word: str
    """Why it was not taken, or what it brought; empty where it is as others."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """What would have been predicted, one tilt ahead, of a series that was recorded."""

    name: str
    tilts_deg: FloatArray
    """(n,), in the order of acquisition."""
    predicted_angstrom: FloatArray
    """(n, 3), x, y, z; NaN for the first, before which there is nothing to predict from."""
    measured_angstrom: FloatArray
    """(n, 3); z is NaN where it was not measured."""
    sigma_angstrom: FloatArray
    """(n, 3), 1 sd that was expected, without the error of the measurement."""
    tracking: tuple[bool, ...]
    """Where a tracking exposure would have been asked for."""
    rejected: tuple[bool, ...]
    """Which measurements were taken for wrong correlation peaks."""
    ways: tuple[Way, ...]
    """The way taken at each tilt."""

    @property
    def error_angstrom(self) -> FloatArray:
        """(n, 3), measured less predicted."""
        return self.measured_angstrom - self.predicted_angstrom


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionErrors:
    """How far predictions lay from what was measured: root mean squares over a series from its fifth image on, A."""

    across: float
    along: float
    height: float
    """NaN where no height was measured."""
    series_known: int
    """To the goniometer model that helped; 0 without one."""
