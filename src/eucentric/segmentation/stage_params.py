"""Settings of membranes as a stage of a project."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen
from eucentric.segmentation.params import Contrast, LearnedMembraneParams, MembraneParams

_VOTES = MembraneParams()
_LEARNED = LearnedMembraneParams()


class SegmentParams(Frozen):
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
    contrast: Contrast = Field(
        default="dark", description="of matter in the tomogram: dark as recorded, bright where it was inverted"
    )
    thickness_angstrom: float = Field(
        default=37.0,
        ge=20,
        le=100,
        description="A between the heads of the two leaflets: how thick labels are painted, and what votes look for",
    )
    min_area_angstrom2: float = Field(
        default=50_000.0,
        ge=0,
        description="A^2 of the mid-surface: smaller pieces are left out; the default is a disc as wide as a ribosome",
    )
    threshold: float = Field(
        default=_LEARNED.threshold,
        gt=0,
        lt=1,
        description="of the network: score that a sheet must reach on the sure part of its area; lower finds more, false ones too",
    )
    sure_part: float = Field(
        default=_LEARNED.sure_part,
        ge=0,
        le=1,
        description="of the network: part of a sheet that must reach the threshold; streaks beyond membranes do on half or less",
    )
    follow_threshold: float = Field(
        default=_LEARNED.follow_threshold,
        gt=0,
        lt=1,
        description="of the network: score down to which a sheet is followed",
    )
    mirrors: int = Field(
        default=_LEARNED.mirrors,
        ge=1,
        le=8,
        description="of the network: mirror images over which the score is averaged; time goes with their number",
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
        description="mask of places where nothing is labelled: a volume, or a folder with NAME.mrc for each tomogram",
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
        return MembraneParams(
            contrast=self.contrast,
            thickness_angstrom=self.thickness_angstrom,
            bridge_angstrom=self.bridge_angstrom,
            high_false_share=self.high_false_share,
            low_false_share=self.low_false_share,
            min_area_angstrom2=self.min_area_angstrom2,
            min_support=self.min_support,
            seed=seed,
        )

    def learned(self) -> LearnedMembraneParams:
        """What concerns the network."""
        return LearnedMembraneParams(
            contrast=self.contrast,
            thickness_angstrom=self.thickness_angstrom,
            threshold=self.threshold,
            sure_part=self.sure_part,
            follow_threshold=self.follow_threshold,
            min_area_angstrom2=self.min_area_angstrom2,
            mirrors=self.mirrors,
        )
