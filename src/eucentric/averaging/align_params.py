"""Settings of alignment of particles to a reference, and of iterations to a map."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

Search = Literal["global", "cone", "local"]


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
    prior_deg: float = Field(
        default=0.0,
        ge=0,
        description="degrees, one deviation of the given orientations; 0: they weigh nothing within the reach",
    )
    prior_angstrom: float = Field(
        default=0.0, ge=0, description="A, one deviation of the given places; 0: they weigh nothing within the reach"
    )
    prior_of_axes: bool = Field(
        default=False,
        description="the prior is of the direction of the particle's z axis alone, as normals of membranes tell it",
    )
    climb: bool = Field(
        default=True, description="end with steps uphill on the tilt images, to 0.1 degree and 0.1 pixel"
    )
