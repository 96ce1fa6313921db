"""Settings of tilt-series alignment."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class AlignParams(Frozen):
    """How the images of a tilt series are brought into one geometry."""

    method: Literal["matching", "centre-of-mass", "none"] = Field(
        default="matching",
        description="matching aligns by projection matching; centre-of-mass is for a needle or particle alone on an even "
        "background (import sets it for scanning series); none keeps an imported alignment, else takes all shifts as "
        "zero",
    )
    dark_fraction: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="part of the expected intensity below which a region of an image counts as dark",
    )
    dark_area: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="part of an image that may be dark before the tilt is left out (grid bar, ice)",
    )
    thickness_angstrom: float = Field(
        default=2400.0, gt=0, description="A; height in which the specimen is looked for while images are matched"
    )
    coarse_pixel_angstrom: float = Field(
        default=12.0, gt=0, description="A; sampling for the correlation of neighbouring tilts"
    )
    match_pixel_angstrom: float = Field(
        default=16.0, gt=0, description="A; sampling for projection matching: finer adds time, not signal"
    )
    low_pass_angstrom: tuple[float, float, float, float] = Field(
        default=(100.0, 60.0, 50.0, 40.0),
        description="A; finest detail used to focus, then to match, in the search for the axis, and at last",
    )
    high_pass_angstrom: float = Field(
        default=1000.0, gt=0, description="A; coarser detail is illumination and thickness, not specimen"
    )
    max_shift_fraction: float = Field(
        default=0.3, gt=0, lt=0.5, description="part of the image by which neighbouring tilts may be displaced"
    )
    passes: tuple[int, int] = Field(
        default=(6, 3), description="rounds of projection matching before and after the axis search"
    )
    axis_search_deg: float = Field(
        default=5.0, ge=0, description="degrees around the given tilt axis in which it is refined; 0 keeps it as given"
    )
