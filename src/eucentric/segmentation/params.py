"""Settings of segmentation that needs no training."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen

Contrast = Literal["dark", "bright"]


class MembraneParams(Frozen):
    """Everything a user may set of membranes without training, with unit, default and reason."""

    contrast: Contrast = Field(
        default="dark", description="of matter in the tomogram: dark as recorded, bright where it was inverted"
    )
    thickness_angstrom: float = Field(
        default=37.0,
        ge=20,
        le=100,
        description="A between the heads of the two leaflets: 35 to 40 for fluid lipids, to 50 with cholesterol and proteins",
    )
    bridge_angstrom: float = Field(
        default=100.0,
        gt=0,
        le=500,
        description="A: 1 sd of the distance over which pieces of a sheet support each other; gaps of about twice it are bridged",
    )
    high_false_share: float = Field(
        default=0.01,
        gt=0,
        le=0.5,
        description="part of the places above the upper level that noise would put there; every sheet must reach that level",
    )
    low_false_share: float = Field(
        default=0.1,
        gt=0,
        le=0.9,
        description="the same of the lower level, down to which a sheet that reaches the upper one is followed",
    )
    min_area_angstrom2: float = Field(
        default=50_000.0,
        ge=0,
        description="A^2 of the mid-surface: smaller pieces are left out; the default is a disc as wide as a ribosome",
    )
    min_support: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="part of a piece that the tomogram itself must show above noise; the rest may be bridged",
    )
    seed: int = Field(default=0, ge=0, description="of the random phases of the noise that sets the levels")

    @model_validator(mode="after")
    def _ordered(self) -> "MembraneParams":
        if self.low_false_share < self.high_false_share:
            raise InputError(
                f"The lower level allows {self.low_false_share:g} of false places, the upper one {self.high_false_share:g}; "
                "expected the lower level to allow at least as many."
            )
        return self


class LearnedMembraneParams(Frozen):
    """Settings of membranes that a network finds."""

    contrast: Contrast = Field(
        default="dark", description="of matter in the tomogram: dark as recorded, bright where it was inverted"
    )
    thickness_angstrom: float = Field(
        default=37.0, ge=20, le=100, description="A between the heads of the two leaflets: how thick labels are painted"
    )
    threshold: float = Field(
        default=0.8,
        gt=0,
        lt=1,
        description="of the network: score that a sheet must reach on the sure part of its area; lower finds more, false ones too",
    )
    sure_part: float = Field(
        default=2.0 / 3.0,
        ge=0,
        le=1,
        description="of the network: part of a sheet that must reach the threshold; streaks beyond membranes do on half or less",
    )
    follow_threshold: float = Field(
        default=0.4, gt=0, lt=1, description="of the network: score down to which a sheet is followed"
    )
    min_area_angstrom2: float = Field(
        default=50_000.0,
        ge=0,
        description="A^2 of the mid-surface: smaller pieces are left out; the default is a disc as wide as a ribosome",
    )
    mirrors: int = Field(
        default=4,
        ge=1,
        le=8,
        description="of the network: mirror images over which the score is averaged; time goes with their number",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "LearnedMembraneParams":
        if self.follow_threshold > self.threshold:
            raise InputError(
                f"Sheets are to be followed down to {self.follow_threshold:g} from a threshold of {self.threshold:g}; "
                "expected the first to be the lower one."
            )
        return self


class SpecimenParams(Frozen):
    """Settings of the faces of the specimen."""

    spacing_angstrom: float = Field(
        default=400.0, gt=0, description="A between the nodes of the surfaces; finer ones follow noise"
    )
    texture_angstrom: tuple[float, float] = Field(
        default=(40.0, 200.0),
        description="A, finest and coarsest detail whose strength tells the specimen from empty space",
    )
    min_quality: float = Field(
        default=2.0,
        ge=0,
        description="standard deviations by which the texture within must stand out from that without; below, no face is told",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "SpecimenParams":
        low, high = self.texture_angstrom
        if not 0 < low < high:
            raise InputError(f"Texture of {low:g} to {high:g} A was asked for; expected the finer detail first.")
        return self
