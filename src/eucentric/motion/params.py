"""Settings of motion correction."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen

Turn = Literal["as-stored", "90", "180", "270", "up-down", "left-right", "90-up-down", "90-left-right"]


class MotionParams(Frozen):
    """How frames are corrected, aligned and summed."""

    low_pass_angstrom: float = Field(
        default=12.0, gt=0, description="A; finer detail is not used to find the shifts: at 3 e/A2 it is noise"
    )
    high_pass_angstrom: float = Field(
        default=400.0, gt=0, description="A; coarser detail is not used: it is illumination, not specimen"
    )
    max_shift_angstrom: float = Field(
        default=100.0, gt=0, description="A; a frame is looked for within this distance of the others"
    )
    jerk_angstrom: float = Field(
        default=10.0,
        gt=0,
        description="A; standard deviation expected of the change of speed between frames (prior on smooth motion)",
    )
    local: Literal["auto", "off"] = Field(
        default="auto",
        description="motion that differs from place to place: auto takes as much detail as the dose of a movie can tell, and "
        "only where it helps frames that took no part in the fit; off has one shift a frame",
    )
    series_prior: bool = Field(
        default=True,
        description="let the tilts of a series tell each other how the stage settles, so that faint frames are not aligned on "
        "noise",
    )
    skip_frames: int = Field(
        default=0,
        ge=0,
        description="first frames of each movie that are left out, such as those with the largest motion",
    )
    eer_fractions: int | None = Field(
        default=None,
        ge=1,
        description="frames to sum an EER movie to; 10 where no rule is given: 0.3 e/A2 each at 3 e/A2 a tilt, as much as can "
        "be aligned",
    )
    eer_frames_per_fraction: int | None = Field(
        default=None, ge=1, description="frames of the sensor summed to one, instead of eer_fractions"
    )
    eer_dose_per_fraction: float | None = Field(
        default=None, gt=0, description="e/A2 summed to one frame, instead of eer_fractions"
    )
    eer_upsampling: Literal[1, 2, 4] = Field(
        default=1,
        description="EER electrons are placed on a grid this many times finer than the sensor, which a crop in Fourier space "
        "takes back: 2 keeps what lies beyond the sensor's Nyquist frequency from folding back on detail near it, in five times "
        "the time",
    )
    eer_super_resolution: bool = Field(
        default=False,
        description="sums of EER movies with half the sensor's pixel size; electrons are then placed twice as fine",
    )
    binning: Literal[1, 2, 4] = Field(
        default=1,
        description="sums have pixels this many times larger than the movie's, by a crop in Fourier space: 2 takes "
        "super-resolution movies to the camera's own pixels",
    )
    gain_orientation: Literal["auto"] | Turn = Field(
        default="auto",
        description="how the gain reference is turned to lie on the frames: degrees counter-clockwise, then a flip; auto finds it "
        "in the fixed pattern of the movies, and stops where the reference does not fit",
    )
    gain_operation: Literal["auto", "multiply", "divide"] = Field(
        default="auto",
        description="whether counts are multiplied or divided by the gain reference; auto finds it as well",
    )
    dark_orientation: Turn = Field(
        default="as-stored",
        description="how the dark reference is turned to lie on the frames, in the words of gain_orientation",
    )
    defect_sigma: float = Field(
        default=6.0,
        gt=3,
        description="robust standard deviations from its neighbours at which a pixel is called defective",
    )
    magnification: tuple[float, float, float] | None = Field(
        default=None,
        description="anisotropic magnification as major scale, minor scale and angle in degrees, in MotionCor's convention (-Mag); "
        "undone in the same interpolation as the motion",
    )
    halves: bool = Field(
        default=True, description="also write the sums of even and of odd frames, for denoising and FSC"
    )
    dose_weighted_copy: bool = Field(
        default=False,
        description="also write a dose-weighted sum for viewing; later steps weight for themselves, once",
    )
    power_spectra: bool = Field(
        default=False,
        description="also write the power spectrum of sums of about 4 e/A2, which other programs fit the CTF to",
    )
    image_type: Literal["float16", "float32"] = Field(
        default="float16",
        description="of stored sums: float16 (MRC mode 12) halves the disk, rounding far below the noise",
    )
    thumbnails: bool = Field(default=False, description="also write small PNG pictures of the sums")

    @model_validator(mode="after")
    def _that_fit_together(self) -> "MotionParams":
        chosen = (self.eer_fractions, self.eer_frames_per_fraction, self.eer_dose_per_fraction)
        if sum(value is not None for value in chosen) > 1:
            raise ValueError("give only one of eer_fractions, eer_frames_per_fraction and eer_dose_per_fraction")
        if self.low_pass_angstrom >= self.high_pass_angstrom:
            raise ValueError(
                "low_pass_angstrom must be less than high_pass_angstrom: nothing would be left to align by"
            )
        return self

    @property
    def eer_grid(self) -> int:
        """How many times finer than the sensor EER electrons are placed."""
        return max(self.eer_upsampling, 2) if self.eer_super_resolution else self.eer_upsampling
