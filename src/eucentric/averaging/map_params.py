"""Settings of what is made of a finished average: sharpening, resolution by place and by direction."""

from pydantic import Field

from eucentric.models.settings import Frozen


class SharpenParams(Frozen):
    """How the fall of a map's amplitudes is undone."""

    b_factor: float | None = Field(
        default=None, description="A^2, positive sharpens; fitted to the map where not given"
    )
    fit_from_angstrom: float = Field(
        default=10.0,
        gt=0,
        description="A; the fit begins at this detail: amplitudes of coarser detail follow the particle's outline",
    )
    fit_to_angstrom: float = Field(
        default=0.0, ge=0, description="A; the fit ends at this detail; 0: at the resolution"
    )
    low_pass_angstrom: float = Field(
        default=0.0, ge=0, description="A; finer detail is cut off; 0: beyond the resolution"
    )
    mtf_pixel_size_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A, of the detector's pixels, to which a table of its MTF refers; 0: those of the images, or of the map",
    )


class LocalResolutionParams(Frozen):
    """How agreement of half maps is measured from place to place."""

    window_wavelengths: float = Field(
        default=3.0,
        ge=1.5,
        le=20,
        description="width of the window at half its height, in wavelengths of the detail looked at: wider is surer and blurs more",
    )
    threshold: float = Field(
        default=0.143, gt=0, lt=1, description="correlation of the halves down to which detail counts"
    )
    false_positive_rate: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="detail counts only where noise of the same window and symmetry would correlate as well that rarely",
    )
    coarsest_angstrom: float = Field(
        default=0.0, ge=0, description="A; coarser detail is not told apart; 0: a third of the box's edge"
    )
    b_factor: float = Field(
        default=0.0, description="A^2, with which the locally filtered map is sharpened; 0: not at all"
    )
    seed: int = Field(default=0, ge=0, description="of the noise")


class DirectionParams(Frozen):
    """How agreement of half maps is measured by direction."""

    cone_deg: float = Field(default=20.0, ge=5, le=60, description="degrees between the axis of a cone and its edge")
    directions: int = Field(default=150, ge=10, le=5000, description="over half the sphere")
