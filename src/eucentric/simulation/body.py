"""What image formation sees of a specimen: weighted points at places."""

from dataclasses import dataclass

from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """The same weighted points at several places of the specimen."""

    points_angstrom: FloatArray
    """(n, 3) in the body's own frame."""
    weights: FloatArray
    """(n,), potential above the ice integrated over space, V A^3."""
    rotations: FloatArray
    """(place, 3, 3), body to specimen."""
    centres_angstrom: FloatArray
    """(place, 3), specimen."""
    fades: bool
    """Whether radiation damage takes its detail."""
