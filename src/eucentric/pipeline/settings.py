"""Settings of a project as a whole, and the tilts that its user leaves out."""

from pydantic import Field

from eucentric.models.settings import Frozen


class ProjectSettings(Frozen):
    """The table `[project]` of `eucentric.toml`."""

    gain: str | None = Field(
        default=None,
        description="path from the project's folder, of the gain reference of the camera; none: frames are used as they are",
    )
    dark: str | None = Field(
        default=None, description="path from the project's folder, of counts without a beam; taken away before the gain"
    )
    defects: str | None = Field(
        default=None,
        description="path from the project's folder, of pixels known to be defective: a map, or a list of SerialEM or MotionCor",
    )
    seed: int = Field(default=0, ge=0, description="of every random choice: the same seed gives the same result")


class Exclusion(Frozen):
    """One tilt, or a whole series, left out by hand: an `[[exclude]]` entry of `eucentric.toml`."""

    series: str = Field(description="name of the tilt series")
    angle: float | None = Field(
        default=None, ge=-180, le=180, description="degrees, nominal tilt angle; the whole series where there is none"
    )
    acquisition: int | None = Field(
        default=None, ge=0, description="order of acquisition from 0; tells equal angles apart"
    )
    reason: str = Field(default="excluded by hand", description="why, in words")
