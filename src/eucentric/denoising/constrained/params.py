"""Settings of filling the missing wedge by constrained optimisation."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

Matter = Literal["auto", "dark", "bright", "both"]


class ConstrainedParams(Frozen):
    """Everything a user may set, with unit, default and reason."""

    matter: Matter = Field(
        default="auto",
        description="dark: nothing is brighter than the ground, as in recorded contrast; bright: nothing is darker; both: any sign; "
        "auto: dark where the contrast transfer is known, else both, as rings of the other contrast then lie around matter",
    )
    slack: float = Field(
        default=0.0,
        ge=0,
        description="times the noise of a voxel: how far beyond the ground the other contrast may go; where the contrast transfer "
        "is not known, rings around matter need some, about 1",
    )
    misfit: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="how far the answer may be from the measured data in each shell, as a part of their noise: 1 is the discrepancy "
        "principle; less follows the data more closely, noise included",
    )
    iterations: int = Field(
        default=40, ge=1, le=5000, description="at most, on the volume itself, from what the coarse one found"
    )
    coarse_iterations: int = Field(
        default=60,
        ge=0,
        le=5000,
        description="at most, on the volume at twice the voxel size first, which is 8 times as fast; 0 leaves it out",
    )
    least_change: float = Field(
        default=1e-3,
        ge=0,
        description="stops once an iteration changes the volume by less than this part of it; 0 never does",
    )
    hard_data: bool = Field(
        default=True,
        description="put the measured part of Fourier space back as it was, noise included; else the answer is denoised there, too",
    )
