"""Settings of motion correction."""

from pydantic import Field

from eucentric.models.settings import Frozen


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
    defect_sigma: float = Field(
        default=6.0,
        gt=3,
        description="robust standard deviations from its neighbours at which a pixel is called defective",
    )
    halves: bool = Field(
        default=True, description="also write the sums of even and of odd frames, for denoising and FSC"
    )
    dose_weighted_copy: bool = Field(
        default=False,
        description="also write a dose-weighted sum for viewing; later steps weight for themselves, once",
    )
