"""Settings of helical symmetry: of averages, and of the search for rise and twist in a map."""

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen


class HelixParams(Frozen):
    """Which helices are looked for in a map, and where in it."""

    rise_angstrom: float = Field(
        default=0.0, ge=0, description="A along the axis from a unit to the next one, as known so far; 0: looked for"
    )
    twist_deg: float = Field(
        default=0.0,
        ge=-180,
        le=180,
        description="degrees about the axis that go with the rise; right-handed is positive",
    )
    symmetry: str = Field(
        default="C1", description="of the cross-section: C1, C2 and so on, or D1, D2 without polarity"
    )
    rise_range_angstrom: tuple[float, float] = Field(
        default=(0.0, 0.0),
        description="A, least and most; 0 0: a tenth about the rise given, or all that the map can tell",
    )
    twist_range_deg: tuple[float, float] = Field(
        default=(0.0, 0.0), description="degrees, least and most; 0 0: two degrees about the twist given, or all"
    )
    central_part: float = Field(
        default=0.5,
        gt=0,
        le=0.9,
        description="of the box's edge, about the middle, that is taken as measured: what a filament bends and the box's ball "
        "cut off lies outside",
    )
    inner_radius_angstrom: float = Field(
        default=0.0, ge=0, description="A; what lies nearer to the axis is left out; 0: inside of the density"
    )
    outer_radius_angstrom: float = Field(
        default=0.0, ge=0, description="A; what lies farther from it is left out; 0: that of the density"
    )
    low_pass_angstrom: float = Field(
        default=0.0, ge=0, description="A; finer detail is left out; 0: beyond where the halves agree, or four voxels"
    )

    @model_validator(mode="after")
    def _ranges(self) -> "HelixParams":
        for name, (low, high) in (("rises", self.rise_range_angstrom), ("twists", self.twist_range_deg)):
            if high < low or (name == "rises" and low < 0):
                raise InputError(f"{low:g} to {high:g} was given as range of {name}; expected the lower one first.")
        if 0 < self.outer_radius_angstrom <= self.inner_radius_angstrom:
            raise InputError(
                f"The inner radius is {self.inner_radius_angstrom:g} A and the outer one {self.outer_radius_angstrom:g} A; "
                "expected the outer one larger."
            )
        return self
