"""Settings of surfaces of labels."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen

SurfaceKind = Literal["sheets", "bodies"]


class SurfaceParams(Frozen):
    """Settings of surfaces of labels and of what is measured on them."""

    kind: SurfaceKind = Field(
        default="sheets",
        description="sheets: thin labels such as membranes, of which the middle is taken; bodies: labels that are filled, of "
        "which the outline is taken",
    )
    format: Literal["ply", "stl", "obj", "vtk", "glb"] = Field(
        default="ply",
        description="of the meshes; ply and vtk keep curvature and thickness at every vertex; glb is one file for all, with colours",
    )
    spacing_angstrom: float = Field(
        default=100.0, gt=0, description="A between oriented points at least, for picking on the surface"
    )
    separate: bool = Field(
        default=False,
        description="number pieces of a label that do not touch as objects of their own, the largest first",
    )
    min_area_angstrom2: float = Field(
        default=0.0, ge=0, description="A^2: surfaces that are smaller in all are passed over"
    )
    curvature_radius_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A: patches over which curvature is fitted; a third to a half of the radius of curvature that matters. "
        "100, or 6 voxels where these are more, if not given",
    )
    thickness_radius_angstrom: float = Field(
        default=150.0,
        gt=0,
        description="A: patches over which the density across a sheet is averaged for its thickness",
    )
    contrast: Literal["dark", "bright"] = Field(
        default="dark", description="of matter in the tomogram: dark as recorded, bright where it was inverted"
    )
    seed: int = Field(
        default=0, ge=0, description="of the random places of points, and of their turns about the normals"
    )
