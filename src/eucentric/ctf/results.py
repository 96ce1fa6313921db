"""What CTF estimation hands back."""

from dataclasses import dataclass

from eucentric.ctf.ring_model import RingModel
from eucentric.ctf.tile_spectra import TileSpectra
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
    """+1 or -1: defocus of a point = defocus + hand * z_camera. The given hand, where the test is undecided. A hand that
    is set goes before it: :attr:`CtfResult.hand` is what was used."""
    given: float
    """The hand that was expected of this microscope."""
    decided: bool
    log_likelihood_ratio: float
    """Log-likelihood of hand +1 less that of hand -1; the tilts' rings may favour a hand without deciding it."""
    sigmas: float
    """Confidence: the tilts' mean vote (signed square root of twice the difference) over its standard error."""

    @property
    def axis_sign(self) -> float:
        """-1 where, should the given hand be right, the tilt axis points the other way (180 degrees off), else +1.

        The rings know the product of both only.
        """
        return self.hand * self.given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThicknessFit:
    """Thickness of the specimen along its normal, from the nodes of the rings."""

    thickness_angstrom: float
    """NaN where not determined."""
    sigma_angstrom: float
    """One standard deviation; NaN where not determined."""
    determined: bool
    """Whether the first node lies inside the fitted band and the rings beyond it stand turned over."""
    likeliest_angstrom: float
    """Maximum of the profile, of no meaning where not determined."""
    smallest_visible_angstrom: float
    """Thickness whose first node lies at the end of the fitted band: thinner specimens cannot be told."""
    evidence: float
    """Log-likelihood of the nodes over the best explanation without a node in the band."""
    trials_angstrom: FloatArray
    """(trial,)."""
    log_likelihood: FloatArray
    """(trial,), less its maximum."""


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
    thickness: ThicknessFit | None
    """None where it was not asked for, or no tilt shows rings."""
    likely_pixel_scale: float
    """1, or 1/2 or 2 where the rings fit the given pixel size times this number clearly better."""
    phase_shift_sigma_deg: FloatArray
    """(tilt,) one standard deviation; zero where no phase shift was fitted."""
    evidence: FloatArray
    """(tilt,): standard deviations by which the rings stand out of noise."""
    curves: CtfCurves
    caveats: tuple[str, ...]
    spectra: TileSpectra
    """What was fitted."""
    model: RingModel
    """What it was fitted with; tilts without rings as the fit left them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageCtf:
    """CTF of one untilted image, or of tiles of one defocus."""

    fit: CtfFit
    evidence: float
    """Standard deviations by which the rings stand out of noise."""
    thickness: ThicknessFit | None
    """None where it was not asked for."""
    phase_shift_sigma_deg: float
    """One standard deviation; zero where no phase shift was fitted."""
    ice: float
    """Standard deviations by which the rings of crystalline ice stand out; NaN where the pixels are too coarse."""
    verdicts: tuple[str, ...]
    """Of `icy`, `too thick` and `weak rings`; nothing for a good image."""
    curves: CtfCurves
    """With one row: the equiphase average, what the fit makes of it, and its quality."""
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeometryDiagnosis:
    """How far the defocus inside each image departs from the plane of the geometry."""

    places_angstrom: FloatArray
    """(cell, 2), x and y of the middles of the cells of the map from the image centre."""
    defocus_residual_angstrom: FloatArray
    """(tilt, cell): defocus over that of the fitted plane; NaN where nothing is known."""
    defocus_residual_sigma_angstrom: FloatArray
    """(tilt, cell): one standard deviation."""
    bend_angstrom: FloatArray
    """(cell,): height of the specimen that the maps of the tilts within 40 degrees agree on, over the plane through them."""
    bend_sigma_angstrom: FloatArray
    """(cell,): one standard deviation, from the scatter of the tilts."""
    tilt_angle_deg: FloatArray
    """(tilt,): angle between the beam and the specimen's normal that the rings of each image alone speak for, >= 0."""
    tilt_axis_deg: FloatArray
    """(tilt,): direction of that tilt, as z_rot of a positive or negative y tilt; NaN where the tilt is near zero."""
    expected_angle_deg: FloatArray
    """(tilt,): the same of the fitted plane seen through the geometry."""
    expected_axis_deg: FloatArray
    """(tilt,)."""
    tilt_angle_sigma_deg: FloatArray
    """(tilt,)."""
    tilt_axis_sigma_deg: FloatArray
    """(tilt,)."""
    axis_offset_deg: float
    """Turn of the tilt axis that suits the gradients of all tilts best, at the inclination that suits them best."""
    axis_offset_sigma_deg: float
    findings: tuple[str, ...]
    """What departs clearly, in words."""
