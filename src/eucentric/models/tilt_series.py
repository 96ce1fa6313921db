"""A tilt series and everything estimated about it so far.

Lengths in A, angles in degrees, doses in e/A^2. Geometry as RELION-5 (see docs/explanation/conventions.md):
``x_image = magnification * (Rz(z_rot) Ry(y_tilt) Rx(x_tilt) p) + shift`` with p in A from the specimen centre, y up.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from eucentric.errors import InputError
from eucentric.models.optics import Optics
from eucentric.models.specimen import Specimen
from eucentric.typing import FloatArray

_EARLY_DOSE = 4.0  # e/A^2; as RELION's rlnAccumMotionEarly


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameShifts:
    """Motion of the frames of one movie."""

    shifts_angstrom: FloatArray
    """(frame, 2), x and y: where the content of each frame was displaced to; the mean over frames is zero."""
    sigma_angstrom: FloatArray
    """(frame,), one standard deviation of each shift component."""

    @property
    def total_angstrom(self) -> float:
        """Length of the path from the first frame to the last."""
        return float(np.linalg.norm(np.diff(self.shifts_angstrom, axis=0), axis=1).sum())

    def early_and_late_angstrom(self, dose: float, pre_exposure: float = 0.0) -> tuple[float, float]:
        """Length of the path within the first 4 e/A^2 that the specimen received, and of the rest.

        Parameters
        ----------
        dose : e/A^2 of all frames; they are taken to have received it evenly
        pre_exposure : e/A^2 before the movie

        Returns
        -------
        both in A, NaN where no dose is known
        """
        if not dose > 0:
            return float("nan"), float("nan")
        steps = np.linalg.norm(np.diff(self.shifts_angstrom, axis=0), axis=1)
        count = len(self.shifts_angstrom)
        until = pre_exposure + np.arange(2, count + 1) * (dose / max(count, 1))
        early = float(steps[until <= _EARLY_DOSE + 1e-9].sum())
        return early, float(steps.sum()) - early


@dataclass(frozen=True, slots=True, kw_only=True)
class MovieQuality:
    """Figures of one movie; root mean squares over its frames, A."""

    sigma_angstrom: float
    """One standard deviation of a component of a frame's shift."""
    residual_angstrom: float
    """Distance of a frame from where it fits the others best."""
    blur_angstrom: float
    """Motion within a frame at the measured speed, a standard deviation."""
    defect_fraction: float
    """Part of the pixels that were replaced."""
    mean_counts: float
    """Of a pixel of one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiltPose:
    """Orientation and shift of the specimen in one image."""

    y_tilt_deg: float
    z_rot_deg: float
    x_tilt_deg: float = 0.0
    x_shift_angstrom: float = 0.0
    y_shift_angstrom: float = 0.0
    sigma_angstrom: float = float("nan")
    """One standard deviation of a shift component; NaN where unknown."""
    magnification: float = 1.0
    """Above 1 the specimen looks larger in this image than its pixel size says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CtfFit:
    """Contrast transfer of one image at the height of the specimen centre."""

    defocus_u_angstrom: float
    """Underfocus positive; along the astigmatism angle."""
    defocus_v_angstrom: float
    astigmatism_angle_deg: float = 0.0
    """From the x axis towards y, of the U direction."""
    phase_shift_deg: float = 0.0
    defocus_sigma_angstrom: float = float("nan")
    score: float = float("nan")
    """Normalised correlation of the background-free spectrum with the model, over the fitted band."""
    max_resolution_angstrom: float = float("nan")

    @property
    def defocus_angstrom(self) -> float:
        return 0.5 * (self.defocus_u_angstrom + self.defocus_v_angstrom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tilt:
    """One image of a tilt series, from its movie to its CTF. Paths are relative to the project's root, with '/'."""

    nominal_tilt_deg: float
    acquisition: int
    """0-based order in which the images were taken."""
    dose: float
    pre_exposure: float
    """Dose that the specimen had received before this image."""
    movie: str | None = None
    frames: tuple[int, int] | None = None
    """First frame of the movie that belongs to this tilt, from 0, and the one after the last; None for all of them."""
    frame_count: int = 1
    nominal_axis_deg: float | None = None
    """Tilt axis as RELION's rlnTomoZRot: the rotation about z that takes y to the tilt axis."""
    nominal_defocus_angstrom: float | None = None
    """What the microscope was asked for; underfocus positive."""
    shown_defocus_angstrom: float | None = None
    """What the microscope showed as the image was taken: how its lens was set, not what the image has."""
    image_shift_um: tuple[float, float] | None = None
    """As the microscope applied it, in its own frame: how that lies on the camera is not said."""
    time_s: float | None = None
    """Since the first image of the series."""
    exposure_s: float | None = None
    image: str | None = None
    """Sum of frames, not dose weighted: `path.mrc` or, inside a stack, `3@path.mrc` (counted from 1)."""
    image_even: str | None = None
    image_odd: str | None = None
    motion: FrameShifts | None = None
    quality: MovieQuality | None = None
    pose: TiltPose | None = None
    ctf: CtfFit | None = None
    signal_scale: float = 1.0
    """Amplitude of the specimen in this image, over that in the others; beyond CTF and damage."""
    b_factor_angstrom2: float = 0.0
    """The image shows detail at k faded by exp(-B k^2 / 4), beyond CTF and damage."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.signal_scale) and self.signal_scale >= 0 and math.isfinite(self.b_factor_angstrom2)):
            raise InputError(
                f"The image at {self.nominal_tilt_deg:g} degrees has a signal scale of {self.signal_scale:g} and a B factor of "
                f"{self.b_factor_angstrom2:g} A^2; expected numbers, the scale not below 0. Take 1 and 0 where they are not known."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludedTilt:
    """A tilt left out of all later work, and why, in words."""

    tilt: Tilt
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tomogram:
    """A reconstruction on disk."""

    path: str
    voxel_size_angstrom: float
    shape_zyx: tuple[int, int, int]
    half1: str | None = None
    half2: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TiltSeries:
    """A tilt series: its optics and its tilts in ascending tilt angle, excluded ones apart."""

    name: str
    pixel_size_angstrom: float
    """Of the images (`Tilt.image`), and of `volume_size_px`."""
    image_shape: tuple[int, int]
    """(y, x) of the images."""
    tilts: tuple[Tilt, ...]
    excluded: tuple[ExcludedTilt, ...] = ()
    original_pixel_size_angstrom: float | None = None
    """Of the movies, where it differs."""
    optics: Optics | None = field(default_factory=Optics)
    """None where contrast is no CTF's (scanning transmission): CTF work is then passed over."""
    optics_group: str | None = None
    """Name that was given to its setting of its microscope; None where optics and pixel size tell settings apart."""
    hand: float = -1.0
    """rlnTomoHand: defocus of a point = defocus + hand * z_camera."""
    volume_size_px: tuple[int, int, int] | None = None
    """(x, y, z) extent of the specimen, unbinned pixels."""
    thickness_angstrom: float | None = None
    tomogram: Tomogram | None = None
    warp: str | None = None
    """File of the deformation of specimen and images (`eucentric.geometry.Deformation`), from the project's root."""
    specimen: Specimen | None = None
    """Where the specimen lies and how thick it is, once measured."""

    def __post_init__(self) -> None:
        if not self.pixel_size_angstrom > 0:
            raise InputError(
                f"The pixel size of {self.name} is {self.pixel_size_angstrom:g} A; expected a positive number. "
                "Give it with --pixel-size."
            )
        angles = [t.nominal_tilt_deg for t in self.tilts]
        if any(b < a for a, b in itertools.pairwise(angles)):
            raise InputError(f"The tilts of {self.name} are not in ascending order of angle.")

    @classmethod
    def sorted(cls, tilts: Sequence[Tilt], **fields: object) -> Self:
        """A series from tilts in any order."""
        return cls(tilts=tuple(sorted(tilts, key=lambda t: (t.nominal_tilt_deg, t.acquisition))), **fields)  # type: ignore[arg-type]

    @property
    def nominal_tilts_deg(self) -> FloatArray:
        return np.array([t.nominal_tilt_deg for t in self.tilts], dtype=np.float64)

    @property
    def pre_exposures(self) -> FloatArray:
        return np.array([t.pre_exposure for t in self.tilts], dtype=np.float64)

    @property
    def doses(self) -> FloatArray:
        return np.array([t.dose for t in self.tilts], dtype=np.float64)

    @property
    def middle_doses(self) -> FloatArray:
        """(tilt,), e/A^2 that the specimen had received in the middle of each image."""
        return self.pre_exposures + 0.5 * self.doses

    @property
    def has_ctf(self) -> bool:
        """Whether the contrast transfer of every tilt is known."""
        return self.optics is not None and all(t.ctf is not None for t in self.tilts)

    @property
    def has_halves(self) -> bool:
        """Whether there are images of even and of odd frames of every tilt."""
        return all(t.image_even and t.image_odd for t in self.tilts)

    @property
    def poses(self) -> tuple[TiltPose, ...]:
        """Poses of all tilts.

        Raises
        ------
        InputError : the series has not been aligned
        """
        poses = tuple(t.pose for t in self.tilts if t.pose is not None)
        if len(poses) != len(self.tilts):
            raise InputError(f"{self.name} has not been aligned. Run `eucentric align` first.")
        return poses

    def replace(self, **changes: object) -> Self:
        return replace(self, **changes)  # type: ignore[arg-type]

    def with_tilts(self, tilts: Sequence[Tilt]) -> Self:
        """The same series with its tilts replaced one for one (the order is kept)."""
        return replace(self, tilts=tuple(tilts))

    def without(self, reasons: dict[int, str]) -> Self:
        """The series with some tilts excluded: position in `tilts` -> reason in words."""
        kept = tuple(t for i, t in enumerate(self.tilts) if i not in reasons)
        gone = tuple(ExcludedTilt(tilt=self.tilts[i], reason=why) for i, why in sorted(reasons.items()))
        return replace(self, tilts=kept, excluded=self.excluded + gone)
