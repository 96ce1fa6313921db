"""What a specimen holds besides free particles: membranes, filaments, lattices and contamination."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from eucentric.simulation.surfaces import Surface
from eucentric.typing import FloatArray

BILAYER_ANGSTROM = 37.0
"""Distance of the two layers of head groups of a common bilayer."""
MEMBRANE_HALF_ANGSTROM = 26.0
"""From the mid-surface of such a bilayer to its outside."""
MEMBRANE_ROOM_ANGSTROM = 10.0
"""Between a membrane and a face of the film."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Membrane:
    """One bilayer."""

    name: str
    """Its class: `vesicle`, `tube`, `sheet`, `cisterna`, `double membrane` or `envelope`, or what the scene calls it."""
    surface: Surface
    """Where its two leaflets meet; normals point outwards, upwards for a sheet."""
    thickness_angstrom: float = BILAYER_ANGSTROM
    """Distance of the two layers of head groups."""
    sphere: tuple[float, float, float, float] | None = None
    """Middle x, y, z and radius of the mid-surface where it is a sphere, in A."""

    @property
    def half_angstrom(self) -> float:
        """From the mid-surface to the outside."""
        return MEMBRANE_HALF_ANGSTROM * self.thickness_angstrom / BILAYER_ANGSTROM


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filament:
    """One filament; its subunits are particles of the specimen, whose own z axis points to the plus end."""

    name: str
    backbone_angstrom: FloatArray
    """(n, 3), its axis from the minus end to the plus end, in even steps."""
    radius_angstrom: float
    """Of the tube that it fills."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lattice:
    """Particles in a hexagonal order on a sphere; their own z axis points outwards."""

    name: str
    centre_angstrom: FloatArray
    """(3,)."""
    radius_angstrom: float
    """Of the sphere on which the origins of the particles lie."""
    spacing_angstrom: float
    """Mean distance of next neighbours."""
    membrane: int = -1
    """Number of the membrane around it; -1 for none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contaminant:
    """A dense body on a face of the film, in the vacuum: a union of balls."""

    name: str
    """`ice` or `ethane`."""
    balls_angstrom: FloatArray
    """(ball, 4), middle x, y, z and radius."""
    volts: float
    """Mean potential above the vacuum."""


ROLES = ("free", "membrane", "filament", "lattice")
"""What a particle belongs to: the values of `Specimen.roles`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Particles:
    """All particles of a specimen, or those that one part of it adds. Arrays by particle."""

    positions_angstrom: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(particle, 3), where the origin of the species lies."""
    rotations: FloatArray = field(default_factory=lambda: np.zeros((0, 3, 3)))
    """(particle, 3, 3), from the species' own frame to the specimen."""
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(particle,), index of the species."""
    roles: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(particle,), index in `ROLES`."""
    parents: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(particle,), number of the membrane, filament or lattice that it belongs to; -1 for a free one."""

    def chosen(self, numbers: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Some of them, in the order of `numbers`."""
        return type(self)(
            positions_angstrom=self.positions_angstrom[numbers],
            rotations=self.rotations[numbers],
            kinds=self.kinds[numbers],
            roles=self.roles[numbers],
            parents=self.parents[numbers],
        )
