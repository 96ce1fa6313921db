"""Settings of the report."""

from pydantic import Field

from eucentric.models.settings import Frozen


class ReportParams(Frozen):
    """How the report looks."""

    title: str = Field(default="Tomography report", min_length=1, description="heading of the project's page")
    dots_per_inch: int = Field(
        default=100, ge=30, le=400, description="dots per inch of the figures: 100 keeps a page to some hundred kB"
    )
    slice_planes: int = Field(
        default=5, ge=1, le=101, description="planes averaged for each slice of the tomogram: one alone is mostly noise"
    )
    layer_count: int = Field(
        default=20, ge=1, le=400, description="layers of the tomogram to slide through, spread evenly over its height"
    )
    layer_size_px: int = Field(
        default=256, ge=64, le=2048, description="longer side of a layer: larger ones are compressed to the same bytes"
    )
    contrast_percentile: float = Field(
        default=0.5, ge=0, lt=50, description="percent of pixels below black and above white in slices"
    )
    spectrum_count: int = Field(
        default=5, ge=1, le=200, description="tilts whose spectra are shown, spread evenly over the angles"
    )
