"""Settings of tracing filaments, and of the lattice of their walls."""

from typing import Literal

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen

_ACTIN_PERSISTENCE, _ACTIN_DIAMETER = 1e5, 70.0  # A


class TraceParams(Frozen):
    """What the filaments are like, and which lines count as one."""

    diameter_angstrom: float = Field(gt=0, description="A; outside: 250 of a microtubule, 70 of actin")
    wall_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A; thickness of the wall of a tube, 45 of a microtubule; none where it is solid",
    )
    contrast: Literal["dark", "bright"] = Field(
        default="dark", description="of protein in the tomogram: dark as recorded, bright where it was inverted"
    )
    min_score: float = Field(
        default=6.0,
        gt=0,
        description="standard deviations at the best place of a filament; noise reaches 5 among 10^7 voxels and directions",
    )
    ends_at: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="of a filament's median score: where a line ends, a filter that is long along it still sees half of it",
    )
    min_length_angstrom: float | None = Field(
        default=None, gt=0, description="A; shorter ones are left out; none takes four diameters"
    )
    max_bend_deg: float = Field(
        default=20.0, gt=0, le=60, description="degrees from one diameter of length to the next; filaments are stiff"
    )
    persistence_angstrom: float | None = Field(
        default=None,
        gt=0,
        description="A over which a filament keeps its direction; none takes 10 um at 70 A (actin) and in proportion to the "
        "diameter: forces in cells bend microtubules to an apparent 30 um (Brangwynne et al. 2006), far below their own stiffness",
    )
    spacing_angstrom: float | None = Field(
        default=None, gt=0, description="A between points of the centre line; none takes half the diameter"
    )

    @property
    def stiffness(self) -> float:
        """Persistence length, A."""
        return self.persistence_angstrom or _ACTIN_PERSISTENCE * self.diameter_angstrom / _ACTIN_DIAMETER

    @model_validator(mode="after")
    def _wall(self) -> "TraceParams":
        if self.wall_angstrom is not None and self.wall_angstrom >= self.diameter_angstrom / 2.0:
            raise InputError(
                f"A wall of {self.wall_angstrom:g} A leaves no lumen in a tube of {self.diameter_angstrom:g} A. "
                "Give its thickness, or none for a solid filament."
            )
        return self


class WallParams(Frozen):
    """Lattices that are looked for in the wall of a tube; those of a microtubule unless told otherwise."""

    spacing_angstrom: float = Field(
        default=40.9,
        gt=0,
        description="A between subunits along a protofilament: the layer line of tubulin lies at 1/40.9",
    )
    spacing_tolerance: float = Field(
        default=0.06,
        gt=0,
        lt=0.3,
        description="part by which spacing may differ: nucleotides change it by 2%, pixel sizes by as much",
    )
    protofilaments: tuple[int, int] = Field(default=(9, 18), description="fewest and most that are looked for")
    starts: tuple[int, int] = Field(
        default=(2, 4), description="fewest and most starts of the shallow helix of subunits, of either hand"
    )
    max_skew_deg: float = Field(
        default=2.5,
        ge=0,
        lt=30,
        description="degrees of protofilaments to the axis; 13 run straight, 14 turn by 0.8, 15 by 1.6",
    )

    @model_validator(mode="after")
    def _ranges(self) -> "WallParams":
        for name, (low, high) in (("protofilaments", self.protofilaments), ("starts", self.starts)):
            if low < 1 or high < low:
                raise InputError(
                    f"{low} to {high} {name} were asked for; expected two positive numbers, the lower first."
                )
        return self
