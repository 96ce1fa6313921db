"""Settings of template matching."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class MatchParams(Frozen):
    """Everything a user may set, with unit, default and reason."""

    coarse_step_deg: float = Field(
        default=10.0,
        ge=2.0,
        le=30.0,
        description="degrees, of the orientations tried everywhere; 10 suits 16 A per voxel",
    )
    fine_step_deg: float = Field(
        default=3.0, ge=0.5, le=30.0, description="degrees, to which the best places are refined"
    )
    coarse_voxel_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A, of the search everywhere; none takes what the step tells apart at each template's rim (Crowther), 8 to 16 A",
    )
    survey_part: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="of the voxels, those that scored best at twice the step, which are searched at the step itself; 1 "
        "searches all at once",
    )
    mask_margin_angstrom: float = Field(
        default=0.0, ge=0, description="A, by which the mask that counts is larger than the template"
    )
    mask_shape: Literal["ball", "own", "ellipsoid"] = Field(
        default="ball",
        description="what counts around a place: a ball, the template's own shape, or an ellipsoid about it; the last two "
        "suit elongated and flat particles and take about three times as long",
    )
    kept_power: float = Field(
        default=0.9,
        gt=0.3,
        le=1.0,
        description="part of the templates' power that the patterns of the fast search hold; 1 correlates each by FFT",
    )
    decoys: Literal["scrambled", "mirrored", "both", "none"] = Field(
        default="scrambled",
        description="molecules that are not there, looked for in the same way: the share of false picks is told from them",
    )
    scrambled_decoys: int = Field(
        default=2,
        ge=1,
        le=20,
        description="for each template; more tell smaller shares of few picks, and take as long each",
    )
    judging_decoys: int = Field(
        default=10,
        ge=0,
        le=100,
        description="further ones for each template, fitted only where something was found: other molecules seldom prefer the "
        "template to all of them",
    )
    false_discovery_rate: float = Field(
        default=0.05, gt=0, le=1, description="part of the picks that may be false; needs decoys"
    )
    least_score: float | None = Field(
        default=None,
        description="standard deviations; none takes the level that chance alone passes once (Rickgauer et al. 2017)",
    )
    top_hat: bool = Field(
        default=False,
        description="only places whose peak is sharp (white top-hat): for tomograms with steep backgrounds",
    )
    leave_membranes: bool = Field(
        default=True,
        description="no pick where a piece of membrane, flat or bent, fits better than the template; templates of membrane proteins "
        "hold their own piece and lose nothing",
    )
    most_particles: int = Field(default=500, ge=1, description="of one template in one tomogram that are refined")
    spacing: float = Field(
        default=0.6, gt=0, le=2, description="least distance of two picks, in diameters of the template"
    )
    edge_angstrom: float | None = Field(
        default=None, ge=0, description="A along x and y that are left out at the edges; none takes half a template"
    )
    specimen_margin_angstrom: float = Field(
        default=50.0,
        ge=0,
        description="A above and below the specimen's faces, where these are known, that are searched",
    )
