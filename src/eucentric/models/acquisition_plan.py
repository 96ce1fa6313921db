"""What a session is going to record: tilt scheme, microscope and specimen, as a plan file holds them."""

from pydantic import Field, model_validator

from eucentric.models.settings import Frozen
from eucentric.models.tilt_scheme import TiltScheme


class PlannedMicroscope(Frozen):
    """How images are taken; what is None was not chosen."""

    pixel_size_angstrom: float | None = Field(default=None, gt=0, le=100, description="A")
    voltage_kv: float | None = Field(default=None, ge=80, le=1300, description="kV")
    image_size_px: tuple[int, int] | None = Field(default=None, description="x, y")
    frames: int | None = Field(default=None, ge=1, description="frames in each movie")
    defocus_angstrom: float | None = Field(default=None, gt=0, description="A, underfocus positive; the target")
    defocus_spread_angstrom: float | None = Field(
        default=None, ge=0, description="A, one standard deviation about the target"
    )
    tilt_axis_deg: float | None = Field(
        default=None,
        ge=-360,
        le=360,
        description="degrees; rlnTomoZRot, the turn that takes the image's y axis onto the tilt axis",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "PlannedMicroscope":
        if self.image_size_px is not None and min(self.image_size_px) < 32:
            raise ValueError("image_size_px is below 32 pixels")
        return self


class PlannedSpecimen(Frozen):
    """What lies under the beam; what is None is not known."""

    thickness_angstrom: float | None = Field(default=None, gt=50, description="A, of the ice or lamella")
    pretilt_deg: float | None = Field(
        default=None,
        ge=-60,
        le=60,
        description="degrees about the tilt axis that the specimen is inclined by where the stage says 0, as a milled lamella is",
    )


class AcquisitionPlan(Frozen):
    """A planned tilt series."""

    scheme: TiltScheme
    microscope: PlannedMicroscope = PlannedMicroscope()
    specimen: PlannedSpecimen = PlannedSpecimen()
