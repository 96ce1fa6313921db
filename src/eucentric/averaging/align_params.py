"""Settings of alignment of particles to a reference, and of iterations to a map."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

Search = Literal["global", "cone", "local"]
PriorOf = Literal["none", "orientation", "normal", "axis"]


class AlignParams(Frozen):
    """How orientation and place of each particle are found."""

    search: Search = Field(
        default="local",
        description="all orientations; those whose axis is near the given one; or those near the given one",
    )
    reach_deg: float = Field(
        default=12.0,
        gt=0,
        le=180,
        description="degrees; how far the given orientations, or axes, may be off (local, cone)",
    )
    shift_angstrom: float = Field(
        default=20.0, ge=0, description="A; how far the given places may be off, along each axis"
    )
    coarse_step_deg: float = Field(
        default=15.0,
        gt=0.5,
        le=30,
        description="degrees; first step of the search, halved as long as detail asks for it",
    )
    kept: int = Field(default=48, ge=1, description="orientations that are followed up from the first step, at most")
    prior: PriorOf = Field(
        default="none",
        description="what of the given orientations is known: nothing, all, where z points to (normals), or the line that z lies on "
        "(axes of filaments of unknown polarity)",
    )
    prior_sigma_deg: float = Field(
        default=10.0, gt=0, le=60, description="degrees, one deviation of what `prior` is about"
    )
    prior_angstrom: float = Field(
        default=0.0, ge=0, description="A, one deviation of the given places; 0: they weigh nothing within the reach"
    )
    shift_along_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; how far the given places may be off along the axis of a prior of normals or axes; 0: as far as elsewhere",
    )
    own_axis: tuple[float, float, float] = Field(
        default=(0.0, 0.0, 1.0),
        description="x, y, z in the reference: the direction that priors of normals and axes are about",
    )
    climb: bool = Field(
        default=True, description="end with steps uphill on the tilt images, to 0.1 degree and 0.1 pixel"
    )

    @property
    def of_axes(self) -> bool:
        """Whether the prior is of a direction, and turns about it are free."""
        return self.prior in ("normal", "axis")

    @property
    def everywhere(self) -> bool:
        """Whether all orientations are searched: those of a prior of directions are not."""
        return self.search == "global" and not self.of_axes
