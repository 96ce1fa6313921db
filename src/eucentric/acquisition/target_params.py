"""Settings of target placement."""

from typing import Annotated, Literal

from pydantic import Field

from eucentric.models.settings import Frozen

_Pixels = Annotated[int, Field(ge=1)]


class TargetParams(Frozen):
    """Beam, camera, specimen and stage of a session, as far as they decide where targets may lie."""

    beam_diameter_angstrom: float = Field(gt=0, description="A; of the illuminated area of an image")
    pixel_size_angstrom: float = Field(gt=0, description="A; of the images of tilt series")
    camera_pixels: tuple[_Pixels, _Pixels] = Field(default=(4096, 4096), description="x, y; pixels of these images")
    image_axis_angle_deg: float = Field(
        default=0.0,
        description="degrees, anticlockwise, that bring the camera's y axis onto the tilt axis: `Tilt axis angle` of an "
        "mdoc file, rlnTomoZRot",
    )
    stage_axis_angle_deg: float = Field(
        default=0.0, description="degrees, anticlockwise from the stage's x axis to the tilt axis; holders tilt about x"
    )
    pretilt_deg: float = Field(
        default=0.0, gt=-60, lt=60, description="degrees; of a lamella: it lies flat at minus this stage angle"
    )
    pretilt_turn_deg: float = Field(
        default=0.0, description="degrees, anticlockwise on the stage, from the tilt axis to the axis of the pre-tilt"
    )
    thickness_angstrom: float = Field(default=2000.0, ge=0, description="A; of the specimen, along its normal")
    image_shift_limit_angstrom: float = Field(
        default=150_000.0, gt=0, description="A from the stage position; SerialEM's limit is 15 um unless it is set"
    )
    spots: Literal["each", "group"] = Field(
        default="each",
        description="focus and tracking spots for each target, or for the first of each group alone, as where the others "
        "follow by prediction",
    )
    spot_diameter_angstrom: float | None = Field(
        default=None, gt=0, description="A; illuminated area of focus and tracking; none takes that of images"
    )
    spot_reach_angstrom: float = Field(
        default=60_000.0, gt=0, description="A along the tilt axis, from a target to its farthest spot"
    )
    spot_dose: float = Field(default=0.0, ge=0, description="e/A^2 of a focus and of a tracking exposure, at each tilt")
    margin_angstrom: float = Field(
        default=1000.0, ge=0, description="A kept free between beams and fields: image shift and stage are no better"
    )
    least_field_kept: float = Field(
        default=0.5, ge=0, le=1, description="part of the field seen in all tilts, below which it is a conflict"
    )
    stage_limit_deg: float = Field(default=70.0, gt=0, lt=90, description="degrees to which the stage tilts")
