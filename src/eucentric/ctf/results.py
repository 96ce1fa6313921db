"""What CTF estimation hands back."""

from dataclasses import dataclass

from eucentric.models import CtfFit
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtfCurves:
    """One-dimensional spectra for the report: all tiles and directions of a tilt brought to its mean defocus."""

    frequency: FloatArray
    """(shell,), 1/A."""
    spectrum: FloatArray
    """(tilt, shell): power over its smooth background, less one."""
    model: FloatArray
    """(tilt, shell): what the fit makes of it, ``-m(k) cos(2 chi)``; the CTF's zeros are its minima."""
    quality: FloatArray
    """(tilt, shell): correlation of the two within three rings about each frequency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandTest:
    """Which sign of the defocus gradient the tiles speak for."""

    hand: float
    """+1 or -1: defocus of a point = defocus + hand * z_camera. The given hand, where the test is undecided."""
    decided: bool
    log_likelihood_ratio: float
    """Log-likelihood of hand +1 less that of hand -1; the tilts' rings may favour a hand without deciding it."""
    sigmas: float
    """Confidence: the tilts' mean vote (signed square root of twice the difference) over its standard error."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CtfResult:
    """CTF of every tilt, and what the series as a whole says of hand and specimen plane."""

    fits: tuple[CtfFit, ...]
    failed: tuple[int, ...]
    """Tilts without visible rings: their defocus is that of their neighbours, their score is NaN."""
    hand: float
    hand_test: HandTest
    inclination_x_deg: float
    inclination_y_deg: float
    """The specimen's plane has the normal ``Ry(inclination_y) Rx(inclination_x) z``; zero where not significant. Adding
    inclination_y to every y tilt levels a plane that is inclined about y only."""
    inclination_x_sigma_deg: float
    inclination_y_sigma_deg: float
    """One standard deviation, the scatter of matter through the ice included; NaN where not fitted."""
    evidence: FloatArray
    """(tilt,): standard deviations by which the rings stand out of noise."""
    curves: CtfCurves
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageCtf:
    """CTF of one untilted image, or of tiles of one defocus."""

    fit: CtfFit
    evidence: float
    curves: CtfCurves
    """With one row."""
    caveats: tuple[str, ...]
