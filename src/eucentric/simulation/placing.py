"""What the parts of a specimen share while they are placed one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from eucentric.errors import InputError
from eucentric.simulation.film import Film
from eucentric.simulation.packing import MEMBRANE, OUTSIDE, SOLID, Occupancy, Shape
from eucentric.simulation.scene import Range, Scene
from eucentric.simulation.species import Species
from eucentric.simulation.structures import ROLES, Filament, Lattice, Membrane, Particles
from eucentric.typing import FloatArray


@dataclass(slots=True, kw_only=True, eq=False)
class Placing:
    """A specimen on its way."""

    scene: Scene
    film: Film
    field_angstrom: tuple[float, float]
    """x, y of the untilted field of view."""
    half: tuple[float, float, float]
    occupancy: Occupancy
    rng: np.random.Generator
    species: list[Species]
    membranes: list[Membrane] = field(default_factory=list)
    filaments: list[Filament] = field(default_factory=list)
    lattices: list[Lattice] = field(default_factory=list)
    particles: list[Particles] = field(default_factory=list)
    _shapes: dict[int, Shape] = field(default_factory=dict)

    @property
    def within(self) -> tuple[float, float]:
        """Half lengths (A) of the part of the film where things lie that are to be seen."""
        return 0.42 * min(self.field_angstrom), 0.42 * min(self.field_angstrom)

    @property
    def thickest(self) -> float:
        """A, of the ice."""
        return self.occupancy.thickest

    @property
    def blocked(self) -> int:
        """The bits of voxels that membranes and filaments stay away from."""
        return SOLID | MEMBRANE if self.scene.film.cut else SOLID | MEMBRANE | OUTSIDE

    def draw(self, limits: Range, most: float = np.inf) -> float:
        """A number between two limits, none above `most`."""
        high = min(limits[1], most)
        return float(self.rng.uniform(min(limits[0], high), high))

    def kind(self, name: str, builtin: Species | None = None) -> int:
        """Number of a species by name; where the name is empty, that of a built-in one, which is added."""
        if name:
            return self.scene.species_names.index(name)
        if builtin is None:
            raise InputError("A species without a name was asked for. Name one of [[species]].")
        known = [number for number, one in enumerate(self.species) if one.name == builtin.name]
        if not known:
            self.species.append(builtin)
        return known[0] if known else len(self.species) - 1

    def shape(self, kind: int) -> Shape:
        """What a species takes."""
        if kind not in self._shapes:
            one = self.species[kind]
            self._shapes[kind] = (
                Shape.ball(one.radius_angstrom) if self.scene.apart else Shape.from_points(one.points_angstrom)
            )
        return self._shapes[kind]

    def add(self, kind: int, positions: FloatArray, rotations: FloatArray, role: str, parent: int) -> None:
        """Note particles of one species at (n, 3) A with rotations (n, 3, 3)."""
        count = len(positions)
        self.particles.append(
            Particles(
                positions_angstrom=positions,
                rotations=rotations,
                kinds=np.full(count, kind, dtype=np.int64),
                roles=np.full(count, ROLES.index(role), dtype=np.int64),
                parents=np.full(count, parent, dtype=np.int64),
            )
        )

    def all_particles(self) -> Particles:
        """All that were noted."""
        return joined(self.particles)

    def in_film(self, points: FloatArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """(n,) whether points (n, 3) lie between the faces of the film and within the simulated part of it."""
        lower, upper = self.film.faces(points[:, 0], points[:, 1])
        inside = (points[:, 2] >= lower) & (points[:, 2] <= upper) & (upper > lower)
        return np.asarray(inside & (np.abs(points[:, :2]) <= np.asarray(self.half[:2]) + 300.0).all(1))


def joined(parts: Sequence[Particles]) -> Particles:
    """The particles of several records, one after the other."""
    if not parts:
        return Particles()
    return Particles(
        positions_angstrom=np.concatenate([p.positions_angstrom for p in parts]),
        rotations=np.concatenate([p.rotations for p in parts]),
        kinds=np.concatenate([p.kinds for p in parts]),
        roles=np.concatenate([p.roles for p in parts]),
        parents=np.concatenate([p.parents for p in parts]),
    )
