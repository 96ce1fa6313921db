"""What lies in the ice: everything that is placed without overlap in a slab wider than the image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError, ProcessingError
from eucentric.geometry import Rotation
from eucentric.optics.atoms import ICE_VOLTS
from eucentric.simulation.film import Film
from eucentric.simulation.membranes import sphere_surface
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.species import Species
from eucentric.simulation.structures import ROLES, Contaminant, Filament, Lattice, Membrane, Particles
from eucentric.typing import FloatArray

_GAP = 8.0  # A of ice left between things
_TRIES = 400
_MEMBRANE_HALF = 26.0  # A from the mid-surface to the outside of a bilayer
# distance from the mid-surface (A) and potential above the ice integrated across the leaflet (V A): heads, then tails
_BILAYER = ((18.5, 22.0), (-18.5, 22.0), (6.0, -6.0), (-6.0, -6.0))
_GOLD_VOLTS = 29.9


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
    def build(cls, params: SimulationParams, species: Sequence[Species], rng: np.random.Generator) -> Self:
        """Place at random what `params` asks for.

        Raises
        ------
        InputError : numbers of particles that do not match the species, or a particle thicker than the ice
        ProcessingError : no room left
        """
        if len(params.particles_per_species) != len(species):
            raise InputError(
                f"{len(params.particles_per_species)} numbers of particles were given for {len(species)} species. "
                "Give one number for each."
            )
        half = _half_extent(params)
        field = params.field_of_view_angstrom
        more = 4.0 * half[0] * half[1] / (field[0] * field[1])  # as dense around the field of view as in it
        packer = _Packer(half, rng)
        vesicles = _place_vesicles(params, packer, rng)
        beads = [packer.place(0.5 * params.bead_diameter_angstrom, "bead") for _ in range(round(params.beads * more))]
        wanted = [
            (kind, s.radius_angstrom)
            for kind, (s, n) in enumerate(zip(species, params.particles_per_species, strict=True))
            for _ in range(round(n * more))
        ]
        wanted.sort(key=lambda item: -item[1])  # the large ones find room first
        places = [packer.place(radius, species[kind].name) for kind, radius in wanted]
        order = rng.permutation(len(wanted))
        return cls(
            species=tuple(species),
            particles=Particles(
                positions_angstrom=np.array(places, dtype=np.float64).reshape(-1, 3)[order],
                rotations=Rotation.random(len(wanted), rng).matrices if wanted else np.zeros((0, 3, 3)),
                kinds=np.array([kind for kind, _ in wanted], dtype=np.int64)[order],
                roles=np.zeros(len(wanted), dtype=np.int64),
                parents=np.full(len(wanted), -1, dtype=np.int64),
            ),
            membranes=tuple(vesicle_membrane(vesicle) for vesicle in vesicles),
            beads=np.array(beads, dtype=np.float64).reshape(-1, 3),
            bead_diameter_angstrom=params.bead_diameter_angstrom,
            film=Film(thickness_angstrom=params.thickness_angstrom),
            half_extent_angstrom=half,
        )


def vesicle_membrane(vesicle: FloatArray) -> Membrane:
    """A round membrane from its middle x, y, z and the radius of its mid-surface."""
    x, y, z, radius = (float(value) for value in vesicle)
    surface = sphere_surface(radius).placed(np.eye(3), np.array([x, y, z]))
    return Membrane(name="vesicle", surface=surface, sphere=(x, y, z, radius))


def vesicle_points(vesicle: FloatArray, spacing: float, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) and weights (n,), V A^3, of a bilayer sphere (x, y, z, radius): dense heads, light tails."""
    points, weights = [], []
    for distance, areal in _BILAYER:
        radius = vesicle[3] + distance
        count = max(12, round(4 * np.pi * (radius / spacing) ** 2))
        # a Fibonacci lattice is even; the jitter takes away its order
        step = np.arange(count) + 0.5
        z = 1.0 - 2.0 * step / count
        angle = step * np.pi * (1.0 + np.sqrt(5.0))
        ring = np.sqrt(1.0 - z**2)
        sphere = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
        points.append(vesicle[:3] + radius * sphere + rng.normal(scale=0.25 * spacing, size=sphere.shape))
        weights.append(np.full(count, areal * 4 * np.pi * radius**2 / count))
    return np.concatenate(points), np.concatenate(weights)


def bead_points(diameter: float, spacing: float) -> tuple[FloatArray, FloatArray]:
    """Points (n, 3) about the origin and weights (n,), V A^3, of a gold ball."""
    radius = 0.5 * diameter
    spacing = min(spacing, diameter / 6)
    n = int(np.ceil(radius / spacing)) + 1
    grid = np.stack(np.meshgrid(*[np.arange(-n, n + 1) * spacing] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    inside = grid[np.linalg.norm(grid, axis=1) <= radius]
    return inside, np.full(len(inside), (_GOLD_VOLTS - ICE_VOLTS) * np.pi / 6 * diameter**3 / len(inside))


def _half_extent(params: SimulationParams) -> tuple[float, float, float]:
    """Half lengths of a slab that fills the tilted images; at the highest tilts their edges may stay empty."""
    axis = np.deg2rad(params.tilt_axis_deg)
    field = params.field_of_view_angstrom
    across = 0.5 * (abs(np.cos(axis)) * field[0] + abs(np.sin(axis)) * field[1])
    along = 0.5 * (abs(np.sin(axis)) * field[0] + abs(np.cos(axis)) * field[1])
    steepest = max(abs(params.tilt_min_deg + params.tilt_offset_deg), abs(params.tilt_max_deg + params.tilt_offset_deg))
    stretch = min(1.8, 1.0 / np.cos(np.deg2rad(steepest)) if steepest < 60 else 1.8)
    margin = 2.0 * params.stage_jitter_angstrom
    return float(stretch * across + margin), float(1.03 * along + margin), 0.5 * params.thickness_angstrom


def _place_vesicles(params: SimulationParams, packer: "_Packer", rng: np.random.Generator) -> FloatArray:
    half_z = packer.half[2]
    largest = min(params.vesicle_radius_angstrom[1], half_z - _MEMBRANE_HALF - 10.0)
    if params.vesicles and largest <= 60.0:
        raise InputError(
            f"Ice of {params.thickness_angstrom:g} A holds no vesicle. Make it thicker, or ask for no vesicles."
        )
    field = params.field_of_view_angstrom
    vesicles = []
    for _ in range(params.vesicles):  # in the field of view, where they are seen
        radius = rng.uniform(min(params.vesicle_radius_angstrom[0], largest), largest)
        centre = packer.place(radius + _MEMBRANE_HALF, "vesicle", within=(0.42 * min(field), 0.42 * min(field)))
        packer.hollow(radius - _MEMBRANE_HALF)
        vesicles.append((*centre, radius))
    return np.array(vesicles, dtype=np.float64).reshape(-1, 4)


class _Packer:
    """Balls placed one after the other at random, none touching another; hollow balls have room inside."""

    def __init__(self, half: tuple[float, float, float], rng: np.random.Generator) -> None:
        self.half = half
        self._rng = rng
        self._centres = np.zeros((0, 3))
        self._outer = np.zeros(0)
        self._inner = np.zeros(0)

    def place(self, radius: float, what: str, within: tuple[float, float] | None = None) -> FloatArray:
        """Middle of a new ball; `within` are the half lengths of the part of the slab to use."""
        room = np.array([*(within or self.half[:2]), self.half[2] - radius])
        if room[2] < 0:
            raise InputError(
                f"A {what} of radius {radius:.0f} A does not fit into ice of {2 * self.half[2]:.0f} A. "
                "Make thickness_angstrom larger."
            )
        for _ in range(_TRIES):
            centre = self._rng.uniform(-room, room)
            distance = np.linalg.norm(self._centres - centre, axis=1)
            free = (distance > self._outer + radius + _GAP) | (distance + radius + _GAP < self._inner)
            if free.all():
                self._centres = np.vstack([self._centres, centre])
                self._outer = np.append(self._outer, radius)
                self._inner = np.append(self._inner, 0.0)
                return centre
        raise ProcessingError(
            f"No room for another {what} was found after {len(self._outer)} were placed. "
            "Ask for fewer, or make the ice thicker."
        )

    def hollow(self, radius: float) -> None:
        """Leave room inside the last ball."""
        self._inner[-1] = radius
