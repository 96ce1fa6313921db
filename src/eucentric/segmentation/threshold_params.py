"""Settings of labels by a threshold."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen
from eucentric.segmentation.params import Contrast

Method = Literal["noise", "otsu", "local", "hysteresis"]


class ThresholdParams(Frozen):
    """Everything a user may set of labels by a threshold, with unit, default and reason."""

    method: Method = Field(
        default="noise",
        description="how the level is found: noise for little matter in much ice; otsu for two groups of like size, as after "
        "denoising; local against shading; hysteresis keeps what hangs together with a place above a second level",
    )
    level: float | None = Field(
        default=None,
        description="in the tomogram's own values, in place of the method's; with hysteresis the level that each piece must reach",
    )
    low_level: float | None = Field(
        default=None, description="in the same values, down to which hysteresis follows a piece"
    )
    deviations: float = Field(
        default=3.0,
        gt=0,
        description="standard deviations above the ground, of noise and hysteresis; above the surroundings, of local",
    )
    low_deviations: float = Field(
        default=2.0, gt=0, description="standard deviations down to which hysteresis follows a piece"
    )
    window: float = Field(
        default=400.0,
        gt=0,
        description="A: 1 sd of the Gaussian that local averages over; several times the size of what is sought",
    )
    contrast: Contrast = Field(
        default="dark", description="of matter in the tomogram: dark as recorded, bright where it was inverted"
    )
    smooth: float = Field(
        default=20.0, ge=0, description="A: 1 sd of a Gaussian before the threshold; 0 for denoised tomograms"
    )
    open: float = Field(
        default=0.0, ge=0, description="A: radius of balls that must fit into the mask: drops specks and thin bridges"
    )
    close: float = Field(
        default=0.0, ge=0, description="A: radius of balls that must fit outside of it: fills narrow gaps"
    )
    erode: float = Field(default=0.0, ge=0, description="A that the mask shrinks by")
    dilate: float = Field(default=0.0, ge=0, description="A that the mask grows by, after it shrank")
    fill: bool = Field(default=False, description="fill what the mask shuts off from the faces of the volume")
    split: float | None = Field(
        default=None,
        gt=0,
        description="A that the radius must shrink by between two touching objects for them to be cut apart",
    )
    min_volume: float = Field(
        default=100_000.0, ge=0, description="A^3: smaller objects are left out; the default is a ball of 58 A"
    )
    max_volume: float | None = Field(default=None, gt=0, description="A^3: larger objects are left out")
    min_elongation: float = Field(
        default=1.0, ge=1, description="longest over middle semi-axis, at least: 3 keeps rods alone"
    )
    max_elongation: float | None = Field(
        default=None, ge=1, description="longest over middle semi-axis, at most: 1.5 leaves rods out"
    )
    min_flatness: float = Field(
        default=0.0, ge=0, lt=1, description="0 of rods and balls to 1 of sheets, at least: 0.6 keeps sheets alone"
    )
    max_flatness: float = Field(default=1.0, gt=0, le=1, description="the same, at most: 0.5 leaves sheets out")

    @model_validator(mode="after")
    def _fit_together(self) -> "ThresholdParams":
        if self.method == "local" and self.level is not None:
            raise InputError("A local threshold has no single level. Leave the level out, or take another method.")
        if self.method != "hysteresis" and self.low_level is not None:
            raise InputError(f"{self.method} takes one level. Leave the lower level out, or take hysteresis.")
        if self.method == "hysteresis" and (self.level is None) != (self.low_level is None):
            raise InputError("Hysteresis needs both levels, or none. Give the level and the lower level.")
        if self.method == "hysteresis" and self.level is None and self.low_deviations > self.deviations:
            raise InputError(
                f"The lower level is at {self.low_deviations:g} deviations, the upper one at {self.deviations:g}; "
                "expected them the other way round."
            )
        if self.max_volume is not None and self.max_volume < self.min_volume:
            raise InputError(
                f"Objects of {self.min_volume:g} to {self.max_volume:g} A^3 were asked for; expected the smaller first."
            )
        return self
