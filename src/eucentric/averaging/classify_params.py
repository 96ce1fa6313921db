"""Settings of classification."""

from typing import Literal

from pydantic import Field

from eucentric.models.settings import Frozen


class ClassifyParams(Frozen):
    """How particles are sorted into classes."""

    classes: int = Field(default=2, ge=2, le=50, description="how many; some may stay empty")
    method: Literal["ml", "pca", "multi-reference"] = Field(
        default="ml",
        description="likelihood of each class for each particle, in turns; groups along the principal differences; or the "
        "likeliest of given maps",
    )
    align: Literal["none", "local", "global"] = Field(
        default="none",
        description="keep the poses given; search about them with every class (ml, multi-reference); or try all orientations "
        "with every map (multi-reference)",
    )
    symmetry: str = Field(
        default="C1", description="of the particle in its own frame, in every class: C1, C7, D7, T, O, I"
    )
    low_pass_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A; finer detail is not compared; 0: as fine as halves of all particles agree, or 20 A for given maps",
    )
    mask_diameter_angstrom: float = Field(
        default=0.0,
        ge=0,
        description="A, of a ball in which classes may differ; 0: a mask is made from the average of all",
    )
    starts: int = Field(default=6, ge=1, le=100, description="random beginnings (ml, pca); the likeliest end is taken")
    components: int = Field(
        default=4, ge=1, le=32, description="principal differences that groups are found along (pca)"
    )
    rounds: int = Field(default=2, ge=1, le=20, description="of alignment to the classes and sorting again (local, ml)")
    reach_deg: float = Field(default=12.0, gt=0, le=180, description="degrees; how far poses given may be off (local)")
    shift_angstrom: float = Field(default=20.0, ge=0, description="A; how far places given may be off (local)")
    seed: int = Field(default=0, ge=0, description="of beginnings, of the sets of particles, and of halves")
