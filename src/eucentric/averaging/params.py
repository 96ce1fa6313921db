"""Settings of extraction and averaging."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

TiltWeights = Literal["noise", "cosine", "none"]


class ExtractParams(Frozen):
    """How particles are cut from tilt images, and how their images count."""

    box_size: int = Field(
        default=64, ge=16, le=1024, multiple_of=2, description="pixels, even; one and a half times the particle or more"
    )
    pixel_size_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; never finer than the images; 0: that of the images, or the coarsest of several",
    )
    padding: int = Field(
        default=2,
        ge=1,
        le=4,
        description="edge of the window over that of the box: the CTF is multiplied in the window, so that what defocus "
        "spread out of the box comes back",
    )
    ctf: bool = Field(default=True, description="take the contrast transfer into account")
    dose_weighting: bool = Field(default=True, description="expect less of detail that radiation had destroyed")
    tilt_weights: TiltWeights = Field(
        default="noise",
        description="how tilts count: by the noise measured in each at each frequency, by the cosine of the tilt, or alike",
    )
    max_dose: float = Field(default=0.0, ge=0, description="e/A^2; tilts that end after it are left out; 0: none is")
    max_tilt_deg: float = Field(default=90.0, gt=0, le=90, description="degrees; steeper tilts are left out")
    inside: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="part of the box, in the middle, that must lie in an image for the image to count: the particle",
    )
    min_tilts: int = Field(default=1, ge=1, description="particles seen in fewer images are left out")


class AverageParams(Frozen):
    """How particles are averaged."""

    symmetry: str = Field(default="C1", description="of the particle in its own frame: C1, C7, D7, T, O, I")
    mask_diameter_angstrom: float = Field(
        default=0.0, ge=0, description="A, of a ball as mask for the resolution; 0: a mask is made from the average"
    )
    half_distance_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; particles nearer than this share pixels and go into the same half; 0: half the box's edge",
    )
    seed: int = Field(default=0, ge=0, description="of the choice of halves, and of randomised phases")
