"""Settings of sub-tilt refinement."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen

GroupName = Literal[
    "shifts", "axis", "angles", "magnification", "image-warp", "volume-warp", "poses",
    "defocus", "astigmatism", "phase-shift", "spherical-aberration", "beam-tilt", "trefoil", "weights",
]  # fmt: skip
GEOMETRY: tuple[GroupName, ...] = ("shifts", "axis", "angles", "magnification", "volume-warp", "image-warp")
"""In the order in which they are tried: what bends comes after what is rigid, which it could stand for."""
_AUTO: tuple[GroupName, ...] = (
    "poses", *GEOMETRY, "defocus", "astigmatism",
    "spherical-aberration", "beam-tilt", "trefoil", "weights",
)  # fmt: skip


class RefineParams(Frozen):
    """What is refined, and how carefully."""

    groups: tuple[GroupName, ...] = Field(
        default=_AUTO,
        description="groups of unknowns that are tried, each kept only where images that had no part in the fit gain from it",
    )
    rounds: int = Field(
        default=5, ge=1, le=30, description="times that maps are made anew from what was refined, at most"
    )
    steps: int = Field(
        default=6,
        ge=1,
        le=20,
        description="times in a round that images are compared with the same maps, at most; fewer where they gain no more",
    )
    gain: float = Field(
        default=0.005,
        ge=0,
        lt=0.5,
        description="part by which a round must enlarge the area under the FSC of a species for another to follow",
    )
    folds: int = Field(default=8, ge=2, le=50, description="parts of the particles, each of which is held out in turn")
    parts: int = Field(
        default=5,
        ge=1,
        le=20,
        description="parts of each half: particles are compared with their half less their own part, whose noise would hold "
        "them where they are; 1: with the whole half",
    )
    certainty: float = Field(
        default=2.0, ge=0, description="deviations by which held-out particles must gain for a group to be kept"
    )
    image_grids: tuple[int, ...] = Field(
        default=(2, 3), description="points along each edge of the grids of image warps that are tried"
    )
    volume_grids: tuple[int, ...] = Field(
        default=(2, 3), description="points along x and y of the grids of volume warps that are tried"
    )
    dose_knots: int = Field(default=5, ge=2, le=40, description="doses at which a volume warp is free")
    neighbours: bool = Field(
        default=True, description="take the predicted images of all other particles off before one is compared"
    )
    transfer_angstrom: float = Field(
        default=15.0,
        gt=0,
        lt=20,
        description="A; species that resolve less say nothing of defocus and the lens, for which only detail finer than 20 A is asked",
    )
    finest_angstrom: float = Field(
        default=0.0, ge=0, description="A; finer detail is not compared; 0: as far as halves agree"
    )
    seed: int = Field(default=0, ge=0, description="of which particles are held out together")

    @model_validator(mode="after")
    def _sensible(self) -> "RefineParams":
        if not self.groups:
            raise InputError("No group of unknowns was given. Name some with --groups, or leave the option out.")
        if any(g < 1 or g > 12 for g in (*self.image_grids, *self.volume_grids)):
            raise InputError(
                f"Grids of {self.image_grids} and {self.volume_grids} points were given; expected 1 to 12 along each edge."
            )
        return self
