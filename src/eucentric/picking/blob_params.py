"""Settings of picking without a template."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen


class BlobParams(Frozen):
    """What to look for: round things of a size, denser than what surrounds them."""

    diameter_angstrom: float = Field(gt=0, description="A; of the particle, or of the smallest of a range")
    largest_diameter_angstrom: float | None = Field(
        default=None, gt=0, description="A; where particles differ in size: all sizes between are looked for"
    )
    contrast: Literal["dark", "bright"] = Field(
        default="dark", description="of protein in the tomogram: dark as recorded, bright where it was inverted"
    )
    max_q_value: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="part of false picks that is allowed; false ones are counted among blobs of the other contrast",
    )
    min_score: float | None = Field(default=None, description="standard deviations instead of a q-value")
    distance_angstrom: float | None = Field(
        default=None, gt=0, description="A between picks at least; none takes the diameter"
    )
    contamination_ratio: float | None = Field(
        default=4.0,
        gt=1,
        description="what answers so many times more than a typical blob is gold or ice: gold is ten times as dense against ice as "
        "protein is; none keeps all",
    )
    contamination_margin_angstrom: float | None = Field(
        default=None, ge=0, description="A from such places within which nothing is picked; none takes the diameter"
    )
    min_roundness: float = Field(
        default=0.35,
        ge=0,
        le=1,
        description="second curvature of the response over the first: 1 of balls, 0 of membranes and edges; 0.35 keeps 95% "
        "of lone simulated particles up to 1.5 times as long as wide, fewer where they crowd; 0 keeps all",
    )
    edge_angstrom: float | None = Field(
        default=None,
        ge=0,
        description="A from the faces of the volume within which nothing is picked; none takes the radius",
    )

    @model_validator(mode="after")
    def _range(self) -> "BlobParams":
        if self.largest_diameter_angstrom is not None and self.largest_diameter_angstrom < self.diameter_angstrom:
            raise InputError(
                f"The largest diameter, {self.largest_diameter_angstrom:g} A, is smaller than the diameter, "
                f"{self.diameter_angstrom:g} A."
            )
        return self
