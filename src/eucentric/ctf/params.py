"""Settings of CTF estimation."""

from typing import Self

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen


class CtfParams(Frozen):
    """Everything a user may set about CTF estimation."""

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
        description="A, one standard deviation of a tilt's astigmatism about the series'; charging changes it a little",
    )
    maximum_astigmatism_angstrom: float = Field(
        default=3000.0, gt=0, description="A, largest difference of the two defocus values that is searched"
    )
    inclination: bool = Field(
        default=True,
        description="also fit how the specimen plane is inclined to the geometry's z = 0 (lamella, wrong tilt offset)",
    )
    maximum_inclination_deg: float = Field(
        default=25.0, gt=0, le=45, description="degrees; lamellae are milled at 8 to 20"
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
        return self
