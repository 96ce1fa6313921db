"""Settings of tilt-series alignment."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class AlignParams(Frozen):
    """How the images of a tilt series are brought into one geometry."""

    method: Literal["auto", "beads", "patches", "projection", "centre-of-mass", "none"] = Field(
        default="auto",
        description="all but the last two begin with projection matching. beads goes on with gold beads, patches with parts "
        "of the images, projection stops there; auto takes beads where enough are found, else patches, and says why. "
        "centre-of-mass is for a needle or particle alone on an even background (import sets it for scanning series); "
        "none keeps an imported alignment, else takes all shifts as zero",
    )
    start: Literal["images", "imported"] = Field(
        default="images",
        description="where to begin: with the images alone, or with the alignment that was imported, which is then refined",
    )
    local: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="local deformation of the specimen with dose; auto keeps it where it predicts tracks that were held out",
    )
    bead_diameter_angstrom: float | None = Field(
        default=None, gt=0, description="A, of the gold beads; none measures it, between 40 and 300"
    )
    tracks: str | None = Field(
        default=None,
        description="file, or folder of files named after the series (.star, .fid, .mod), of tracks to be used instead of "
        "those found. Tracks that were corrected in the project (`curation/tracks`) go before it",
    )
    patch_angstrom: float = Field(
        default=400.0,
        gt=0,
        description="A, side of a patch. Patches that show nothing weigh nothing, so that small ones cost only time",
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
    mean_free_path_angstrom: float = Field(
        default=3000.0,
        gt=0,
        description="A, of electrons in the specimen at 300 kV with an energy filter; scaled to other voltages. What images "
        "darken with tilt is turned into a thickness with it",
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


class AxisParams(Frozen):
    """How the tilt axis is shared among the series of a data set."""

    share: bool = Field(
        default=True,
        description="bring the axes of all series of one pixel size and nominal axis together: they are a constant of the "
        "microscope; off passes every series on as it was aligned",
    )
    least_turn_deg: float = Field(
        default=0.05, gt=0, description="degrees; a series is aligned again if its axis is to turn by this or more"
    )
    fewest_series: int = Field(default=3, ge=2, description="series that must agree before one is overruled")
