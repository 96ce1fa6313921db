"""Settings of the registration of light-microscope images."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class CorrelateParams(Frozen):
    """How a light-microscope image is registered, and on which voxels it is written."""

    kind: Literal["similarity", "rigid", "affine"] = Field(
        default="similarity",
        description="turn, shift and one magnification; rigid keeps the pixel sizes; affine also stretches and shears",
    )
    mirror: Literal["auto", "no", "yes"] = Field(
        default="auto", description="whether one image is a mirror image of the other; auto finds it by the landmarks"
    )
    target_units: Literal["voxels", "angstrom"] = Field(
        default="voxels",
        description="of landmarks in the target: voxels from 0, or A from the specimen centre (of a map: from its first pixel)",
    )
    pixel_size_angstrom: float = Field(
        default=0.0, ge=0, description="A, of the light-microscope image; 0: as its file says"
    )
    step_angstrom: float = Field(
        default=0.0, ge=0, description="A, between the sections of a stack; 0: as its file says"
    )
    voxel_size_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A, of what is written; 0: a quarter of the light-microscope's pixel, not finer than the tomogram",
    )
    bead_reach_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A, within which beads of both images are pairs; 0: four times the error of a landmark that is left out",
    )
