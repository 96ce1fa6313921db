"""Settings of the search for a point group."""

from pydantic import Field

from eucentric.models.settings import Frozen


class PointGroupParams(Frozen):
    """Which groups are tried, and what is asked of one to be believed."""

    max_order: int = Field(default=12, ge=2, le=60, description="largest n of the axes Cn and Dn that are tried")
    cubic: bool = Field(default=True, description="try T, O and I too")
    low_pass_angstrom: float = Field(
        default=0.0, ge=0, description="A; finest detail that is compared; 0: that in which the halves agree to 0.143"
    )
    odds: float = Field(
        default=100.0,
        gt=1,
        description="how many times likelier than no symmetry a group must make each half, for the number of groups tried",
    )
    likeness: float = Field(
        default=0.8,
        gt=0,
        lt=1,
        description="least agreement of turned copies with the other half, over that of the halves themselves: a particle that is "
        "merely alike all around has less",
    )
