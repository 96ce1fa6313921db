"""Settings of counting objects on their parents, and of statistics in space."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen
from eucentric.pipeline.surface_params import SurfaceKind


class CountParams(Frozen):
    """Settings of counting and of statistics in space."""

    kind: SurfaceKind = Field(
        default="sheets",
        description="of the parents: sheets, such as membranes, of which the middle is taken; bodies, of which the outline is taken",
    )
    limit_angstrom: float = Field(
        default=200.0, gt=0, description="A from the surface of a parent: what is farther belongs to none"
    )
    outside_only: bool = Field(
        default=False,
        description="objects inside of a closed parent, or against the normals of an open one, belong to none",
    )
    confidence: float = Field(default=0.95, gt=0, lt=1, description="of the intervals of counts")
    region: Literal["surface", "volume"] = Field(
        default="surface",
        description="where random controls lie: on the parents' surfaces, for the objects that have a parent; or anywhere in the "
        "volume, or in the mask, for all objects in it",
    )
    controls: int = Field(default=199, ge=19, le=99_999, description="random sets that each kind is compared with")
    farthest_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A: greatest distance of pairs; six mean distances to the neighbour if not given",
    )
    least_distance_angstrom: float = Field(
        default=0.0, ge=0, description="A: no two objects of a control are nearer; the size of the objects"
    )
    seed: int = Field(default=0, ge=0, description="of the random controls")
