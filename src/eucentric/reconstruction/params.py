"""Settings of the reconstruction."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class ReconstructParams(Frozen):
    """Everything a user may set, with unit, default and reason."""

    pixel_size_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A per voxel; none takes the whole multiple of the image pixel nearest to 10 A: enough to see and "
        "pick macromolecules, in a volume of about 1 GB",
    )
    thickness_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A, height of the volume; none takes the known thickness of the specimen, else 3000 A: most "
        "lamellae and plunge-frozen films fit with room to spare; scanning images: as deep as they are wide",
    )
    max_tilt_deg: float = Field(
        default=90.0,
        gt=0,
        le=90,
        description="degrees; images tilted further are left out of the volume: to see what the steepest bring or spoil",
    )
    filter: Literal["ramp", "none"] = Field(
        default="ramp",
        description="weighting of the images: the ramp restores the density; none smears them back as they are (the "
        "mean of all), blurred, to compare with other programs",
    )
    fall_off: Literal["sharp", "hamming", "hann", "cosine", "gaussian"] = Field(
        default="sharp",
        description="fall-off on top of the filter, in the image plane up to Nyquist; sharp keeps what was recorded for "
        "denoising and picking, hamming looks smoother",
    )
    low_pass_angstrom: float = Field(
        default=0.0, ge=0, description="A; removes finer detail with a soft edge; 0 keeps all that the voxels can hold"
    )
    dose_weighting: bool = Field(
        default=True,
        description="fade the detail that radiation had destroyed when each image was taken: there late tilts hold "
        "only noise",
    )
    half_volumes: bool = Field(
        default=True,
        description="also reconstruct from even and from odd frames: denoising and resolution need two halves",
    )
    float16: bool = Field(
        default=True, description="store volumes as float16 (MRC mode 12): half the disk, rounding far below the noise"
    )
