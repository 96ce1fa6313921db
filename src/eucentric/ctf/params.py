"""Settings of CTF estimation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen


class CtfParams(Frozen):
    """Everything a user may set about CTF estimation."""

    method: Literal["fit", "refine", "imported"] = Field(
        default="fit",
        description="fit: from the images alone; refine: from the images, starting at the estimates that were imported "
        "(`eucentric import --ctf`); imported: those as they are, compared with the images",
    )
    minimum_defocus_angstrom: float = Field(
        default=5000.0, gt=0, description="A, underfocus; nearer to focus a tilt shows no ring in its useful band"
    )
    maximum_defocus_angstrom: float = Field(
        default=80000.0, gt=0, description="A; tomography is taken at 2 to 6 um, rarely at 8"
    )
    low_resolution_angstrom: float = Field(
        default=40.0, gt=0, description="A, start of the fitted band: below it the specimen's shape outweighs the rings"
    )
    high_resolution_angstrom: float = Field(
        default=5.0,
        gt=0,
        description="A, end of the fitted band; never finer than 1.05 times Nyquist's length, and noise gets no weight",
    )
    tile_angstrom: float = Field(
        default=1024.0,
        gt=0,
        description="A, side of a tile: three samples a ring at 5 um and 5 A, and little change of defocus across it",
    )
    tile_overlap: float = Field(
        default=0.5, ge=0, lt=1, description="fraction; a Hann window uses all pixels at one half"
    )
    defocus_spread_angstrom: float = Field(
        default=3000.0,
        gt=0,
        description="A, one standard deviation a tilt may stray from the series; focusing is good to 0.1-0.3 um",
    )
    astigmatism_spread_angstrom: float = Field(
        default=100.0,
        gt=0,
        description="A, one standard deviation of a tilt's astigmatism about the series'; it changes slowly in time",
    )
    maximum_astigmatism_angstrom: float = Field(
        default=3000.0, gt=0, description="A, largest difference of the two defocus values that is searched"
    )
    phase_shift: Literal["off", "fit"] = Field(
        default="off", description="`fit` where a phase plate was used; without one it is zero"
    )
    phase_shift_range_deg: tuple[float, float] = Field(
        default=(10.0, 170.0),
        description="degrees, smallest and largest; rings repeat after 180, and 0 and 180 look alike",
    )
    thickness: bool = Field(
        default=True, description="also look for the nodes that the depth of the specimen leaves in the rings"
    )
    maximum_thickness_angstrom: float = Field(
        default=5000.0, gt=300, description="A; through thicker specimens hardly an electron keeps its energy"
    )
    ice_ring_masks: bool = Field(
        default=True, description="leave out the bands of crystalline ice (4.0 to 3.3 and 2.3 to 2.2 A) where reached"
    )
    inclination: bool = Field(
        default=True,
        description="also fit how the specimen plane is inclined to the geometry's z = 0 (lamella, wrong tilt offset)",
    )
    maximum_inclination_deg: float = Field(
        default=25.0, gt=0, le=45, description="degrees; lamellae are milled at 8 to 20"
    )
    hand: Literal["auto", -1, 1] = Field(
        default="auto",
        description="of a tilted specimen, the higher (larger z) has less underfocus with -1, more with 1; `auto`: as the "
        "images tell, and as imported where they do not",
    )
    decision_sigmas: float = Field(
        default=3.0,
        gt=0,
        description="the hand and the inclination are changed by evidence of this many standard errors only",
    )
    outlier_sigmas: float = Field(
        default=6.0, gt=0, description="pixels this many robust standard deviations from their neighbours are replaced"
    )

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        if self.maximum_defocus_angstrom <= self.minimum_defocus_angstrom:
            raise ValueError("maximum_defocus_angstrom must be larger than minimum_defocus_angstrom")
        if self.high_resolution_angstrom >= self.low_resolution_angstrom:
            raise ValueError("high_resolution_angstrom must be a smaller number than low_resolution_angstrom")
        low, high = self.phase_shift_range_deg
        if not 0.0 <= low < high <= 180.0:
            raise ValueError("phase_shift_range_deg must be two numbers from 0 to 180, the smaller first")
        return self
