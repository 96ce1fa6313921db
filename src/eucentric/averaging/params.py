"""Settings of extraction and averaging."""

from typing import Literal

from pydantic import Field

from eucentric.errors import InputError
from eucentric.geometry.helix import Helix
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
    image_weights: bool = Field(
        default=True,
        description="count images less that show a bead, ice or the field's edge where the particle is: by the power there, "
        "over what is usual in the same tilt",
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

    symmetry: str = Field(
        default="C1",
        description="of the particle in its own frame: C1, C7, D7, T, O, I; of a helix' cross-section Cn or Dn",
    )
    helical_rise_angstrom: float = Field(
        default=0.0, ge=0, description="A along z from a unit of a helix to the next one; 0: the particle is no helix"
    )
    helical_twist_deg: float = Field(
        default=0.0, ge=-180, le=180, description="degrees about z that go with the rise; right-handed is positive"
    )
    helical_central_part: float = Field(
        default=0.5,
        gt=0,
        le=0.9,
        description="of the box's edge, about the middle, of which a helix is made: filaments bend outside of it",
    )
    helical_outer_radius_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; what lies farther from a helix' axis says nothing of its rise and twist; 0: as far as density is shared",
    )
    helical_refine: bool = Field(
        default=True, description="refine rise and twist on the average before the helix is imposed, in every iteration"
    )
    mask_diameter_angstrom: float = Field(
        default=0.0, ge=0, description="A, of a ball as mask for the resolution; 0: a mask is made from the average"
    )
    half_distance_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; particles nearer than this share pixels and go into the same half; 0: half the box's edge",
    )
    seed: int = Field(default=0, ge=0, description="of the choice of halves, and of randomised phases")

    @property
    def helix(self) -> Helix | None:
        """As given; None where the particle is none.

        Raises
        ------
        InputError : a twist without rise, or a symmetry that no helix has
        """
        if self.helical_rise_angstrom > 0:
            return Helix(
                rise_angstrom=self.helical_rise_angstrom, twist_deg=self.helical_twist_deg, group=self.symmetry
            )
        if self.helical_twist_deg:
            raise InputError(
                f"A helical twist of {self.helical_twist_deg:g} degrees was given without a rise. Give --helical-rise-angstrom too."
            )
        return None

    def with_helix(self, helix: Helix) -> "AverageParams":
        """With another rise and twist."""
        return self.replace(helical_rise_angstrom=helix.rise_angstrom, helical_twist_deg=helix.twist_deg)
