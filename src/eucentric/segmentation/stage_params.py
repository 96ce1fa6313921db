"""Settings of membranes as a stage of a project."""

from typing import Literal

from pydantic import Field

from eucentric.segmentation.params import LearnedMembraneParams, MembraneParams

_VOTES = MembraneParams()


class SegmentParams(LearnedMembraneParams):
    """Everything a user may set of membranes, with unit, default and reason."""

    method: Literal["network", "votes"] = Field(
        default="network",
        description="network: one that was shown simulated membranes; votes: a filter and tensor voting, without training",
    )
    model: str = Field(
        default="shipped", description="model file of the network; shipped is the one that comes with the program"
    )
    tomograms: str = Field(
        default="reconstruct",
        min_length=1,
        description="folder of the project whose tomograms are segmented, such as denoise or fill-wedge",
    )
    bridge_angstrom: float = Field(
        default=_VOTES.bridge_angstrom,
        gt=0,
        le=500,
        description="A, of votes: 1 sd of the distance over which pieces of a sheet support each other",
    )
    high_false_share: float = Field(
        default=_VOTES.high_false_share,
        gt=0,
        le=0.5,
        description="of votes: part of the places above the upper level that noise would put there",
    )
    low_false_share: float = Field(
        default=_VOTES.low_false_share,
        gt=0,
        le=0.9,
        description="of votes: the same of the level down to which a sheet is followed",
    )
    min_support: float = Field(
        default=_VOTES.min_support,
        ge=0,
        le=1,
        description="of votes: part of a piece that the tomogram itself must show above noise",
    )
    protect: str | None = Field(
        default=None,
        description="mask of places where nothing is labelled, above 0 there: a volume, or a folder with NAME.mrc for each tomogram; "
        "a project's is named from its folder",
    )
    specimen_only: bool = Field(
        default=True, description="look between the faces of the specimen alone, where the project knows them"
    )
    meshes: Literal["ply", "stl", "obj", "vtk", "glb"] = Field(
        default="ply",
        description="format of the meshes of mid-surfaces; ply and vtk keep curvature and thickness at every vertex; glb is one file",
    )
    point_spacing_angstrom: float = Field(
        default=80.0, gt=0, description="A between the oriented points on the mid-surfaces"
    )
    with_run: bool = Field(default=False, description="segment whenever the whole project runs")

    def votes(self, seed: int) -> MembraneParams:
        """What concerns the method without training."""
        own = {name: getattr(self, name) for name in MembraneParams.model_fields if name != "seed"}
        return MembraneParams(**own, seed=seed)
