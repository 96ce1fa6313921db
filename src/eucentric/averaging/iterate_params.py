"""Settings of iterations to a map."""

from pydantic import Field, model_validator

from eucentric.averaging.align_params import PriorOf, Search
from eucentric.errors import InputError
from eucentric.models.settings import Frozen


class IterateParams(Frozen):
    """How alignment and averaging take turns."""

    search: Search = Field(
        default="local",
        description="first search: all orientations; those whose axis is near the given one; or those near the given one",
    )
    reach_deg: float = Field(
        default=15.0, gt=0, le=180, description="degrees; how far the given orientations, or axes, may be off at first"
    )
    shift_angstrom: float = Field(
        default=20.0, ge=0, description="A; how far the given places may be off at first, along each axis"
    )
    prior: PriorOf = Field(
        default="none",
        description="what of the given orientations is known: nothing, all, where z points to (normals of membranes), or the line "
        "that z lies on (axes of filaments of unknown polarity). With the last two a global search stays within three deviations of "
        "it, and any turn about it is tried",
    )
    prior_sigma_deg: float = Field(
        default=10.0, gt=0, le=60, description="degrees, one deviation of what the prior is about"
    )
    prior_angstrom: float = Field(
        default=0.0, ge=0, description="A, one deviation of the given places; 0: they weigh nothing"
    )
    shift_along_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; how far the given places may be off along the axis of a prior of normals or axes; 0: half the rise of a "
        "helix, or as far as elsewhere",
    )
    start_low_pass_angstrom: float = Field(
        default=40.0,
        gt=0,
        description="A; detail of the start map that is used: what a homologous structure cannot share with the noise of both halves",
    )
    max_iterations: int = Field(default=12, ge=1, le=100, description="iterations at most")
    gain: float = Field(
        default=0.01,
        ge=0,
        lt=0.5,
        description="part by which the resolution must improve within two iterations to go on",
    )
    kept: int = Field(
        default=48, ge=1, description="orientations that are followed up from the first step of a search, at most"
    )

    @model_validator(mode="after")
    def _of_a_prior(self) -> "IterateParams":
        usual = type(self).model_fields["prior_sigma_deg"].default
        if self.prior == "none" and self.prior_sigma_deg != usual:
            raise InputError(
                "--prior-sigma-deg says how well a prior is known, and none is given. Say what is known: --prior orientation, "
                "normal or axis."
            )
        if self.shift_along_angstrom and self.prior not in ("normal", "axis"):
            raise InputError("--shift-along-angstrom is along the axis of a prior. Give --prior normal or axis.")
        return self
