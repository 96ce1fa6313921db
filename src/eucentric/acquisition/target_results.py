"""What placing targets tells: per target and tilt, and what stands in the way."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from eucentric.acquisition.target_geometry import ViewingGeometry
from eucentric.acquisition.target_params import TargetParams
from eucentric.typing import FloatArray

ConflictKind = Literal["beam", "spot", "no spot", "edge", "bar", "field", "beam size"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conflict:
    """Something that harms a target, or all of them."""

    kind: ConflictKind
    """beam: of another target on its field; spot: a focus or tracking spot on it; no spot: none found; edge: its field leaves
    the area; bar: its field meets a bar; field: too little of it stays in view; beam size: the beam does not light it."""
    target: str
    """Whose field is harmed; empty where all are alike."""
    other: str = ""
    """Whose beam or spot does it."""
    tilts_deg: tuple[float, ...] = ()
    """Angles at which it does, rising."""
    dose_fraction: float = 0.0
    """Of the series' dose, as a mean over the field, that the other gives it in all."""
    part: float = float("nan")
    """Of kinds without another: the part of the field that is kept or lit."""
    moved: str = ""
    """The target whose move would resolve it."""
    move_stage_angstrom: tuple[float, float] | None = None
    """The smallest such move, clear of all else; None where none was found or none helps."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedTarget:
    """A target with its spots; places are on the stage, A."""

    name: str
    stage_angstrom: FloatArray
    """(2,)."""
    group: int
    """From 0, in order of acquisition."""
    order: int
    """From 0, over all groups."""
    focus_stage_angstrom: FloatArray | None
    """(2,), on the line of the tilt axis through the target; None where there is none."""
    tracking_stage_angstrom: FloatArray | None
    image_shift_angstrom: FloatArray
    """(tilt,), from the stage position of its group, as the images see it."""
    stray_part: FloatArray
    """(tilt,), largest part of its field on which another beam falls in this tilt."""
    stray_dose: FloatArray
    """(tilt,), e/A^2 that other beams have given its field, on average, before this image is taken."""
    pre_exposed_fraction: FloatArray
    """(tilt,), the same as part of the dose of a series."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetPlan:
    """Targets in order of acquisition. Arrays over tilts are in the order of the scheme."""

    targets: tuple[PlacedTarget, ...]
    conflicts: tuple[Conflict, ...]
    view: ViewingGeometry
    params: TargetParams
    field_seen: FloatArray
    """(tilt,), part of the field, through the whole thickness, that an image shows; the same for all targets."""
    field_kept: float
    """Part that all images show."""
    field_lit: float
    """Part that beams light in all images."""

    @property
    def group_count(self) -> int:
        return 1 + max(t.group for t in self.targets)

    @property
    def troubled(self) -> frozenset[str]:
        """Names of targets in any conflict, as harmed or harming."""
        named = {c.target for c in self.conflicts} | {c.other for c in self.conflicts}
        return frozenset(named - {""})

    def stage_outline(self, outline: FloatArray, centre: FloatArray) -> FloatArray:
        """(n, 2), on the stage, of an outline in the frame of the tilt axis about a place on the stage."""
        return np.asarray(outline @ self.view.axis_of_stage + centre)
