"""Settings of the stage that picks: what to look for, and how."""

from pydantic import Field

from eucentric.models.settings import Frozen
from eucentric.picking.params import MatchParams


class PickTargets(Frozen):
    """What is looked for, and where."""

    templates: tuple[str, ...] = Field(
        default=(),
        description="files from the project's folder (PDB, mmCIF, MRC protein bright) or sphere:DIAMETER in A; several "
        "compete for each place; without one a run does not pick",
    )
    symmetries: tuple[str, ...] = Field(
        default=("C1",),
        description="of the templates about their own axes, wherever these lie; one for all or one for each",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
        description="of the folder below pick; none takes that of the first template",
    )
    template_pixel_size_angstrom: float | None = Field(
        default=None, gt=0, description="A, of a map whose header holds none or a wrong one"
    )
    template_masks: tuple[str, ...] = Field(
        default=(),
        description="volumes, 0 to 1, about the origins of the templates, one for each: what of a template counts; without one "
        "mask_shape tells",
    )
    resolution_angstrom: float = Field(
        default=0.0, ge=0, description="A; finer detail of templates is removed; 0 keeps what the voxels hold"
    )
    mask: str | None = Field(
        default=None,
        description="volume above 0 where particles may lie, or a folder with one for each tomogram, NAME.mrc",
    )
    tilts_deg: tuple[float, float] | None = Field(
        default=None, description="degrees, lowest and highest, of tomograms that came without their tilt series"
    )
    score_volumes: bool = Field(default=False, description="also write the greatest score at each voxel: large files")


class PickParams(MatchParams, PickTargets):
    """Everything a user may set, with unit, default and reason."""

    @property
    def folder_name(self) -> str:
        """Of the folder below `pick`."""
        first = self.templates[0] if self.templates else "picks"
        return self.name or plain_name(first)


def plain_name(template: str) -> str:
    """A template's file name as the name of a folder: without its endings, letters, digits, `_`, `-` only."""
    stem = template.replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in stem).lstrip("-") or "picks"
