"""What lies in the ice: everything that is placed without overlap in a slab wider than the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.simulation.film import Film
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species
from eucentric.simulation.structures import ROLES, Contaminant, Filament, Lattice, Membrane, Particles
from eucentric.typing import FloatArray

if TYPE_CHECKING:
    from eucentric.simulation.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Specimen:
    """Everything in the ice. Positions in A from the middle of the untilted field of view."""

    species: tuple[Species, ...]
    particles: Particles
    membranes: tuple[Membrane, ...] = ()
    filaments: tuple[Filament, ...] = ()
    lattices: tuple[Lattice, ...] = ()
    beads: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    """(bead, 3)."""
    bead_diameter_angstrom: float
    contamination: tuple[Contaminant, ...] = ()
    film: Film
    half_extent_angstrom: tuple[float, float, float]
    """x, y, z: the film is simulated from minus to plus these."""

    @property
    def positions_angstrom(self) -> FloatArray:
        """(particle, 3)."""
        return self.particles.positions_angstrom

    @property
    def rotations(self) -> FloatArray:
        """(particle, 3, 3), from the species' own frame to the specimen."""
        return self.particles.rotations

    @property
    def kinds(self) -> NDArray[np.int64]:
        """(particle,), index of the species."""
        return self.particles.kinds

    @property
    def vesicles(self) -> FloatArray:
        """(vesicle, 4): middle x, y, z and radius of the mid-surface of each membrane that is a sphere."""
        spheres = [membrane.sphere for membrane in self.membranes if membrane.sphere is not None]
        return np.array(spheres, dtype=np.float64).reshape(-1, 4)

    def members(self, role: str, parent: int | None = None) -> NDArray[np.int64]:
        """Numbers of the particles of one role of `ROLES`, of one membrane, filament or lattice or of all."""
        particles = self.particles
        chosen = particles.roles == ROLES.index(role)
        return np.flatnonzero(chosen if parent is None else chosen & (particles.parents == parent))

    @classmethod
    def build(
        cls,
        params: SimulationParams,
        species: Sequence[Species],
        rng: np.random.Generator,
        scene: "Scene | None" = None,
    ) -> "Specimen":
        """Place at random what `scene` asks for, or, where it is None, what `params` does.

        Raises
        ------
        InputError : numbers of particles that do not match the species, or something larger than the film
        ProcessingError : no room left
        """
        from eucentric.simulation.build_specimen import build_specimen  # it makes specimens itself
        from eucentric.simulation.scene import Scene

        if scene is None and len(params.particles_per_species) != len(species):
            raise InputError(
                f"particles_per_species has {len(params.particles_per_species)} numbers, but there are {len(species)} "
                "species. Give one number for each."
            )
        return build_specimen(Scene.from_params(params) if scene is None else scene, params, species, rng)
