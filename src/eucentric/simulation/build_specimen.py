"""From a scene to a specimen: membranes first, then lattices, filaments, beads and, into what is left, free particles."""

from collections.abc import Sequence

import numpy as np

from eucentric.errors import InputError, ProcessingError
from eucentric.simulation.packing import INSIDE, OUTSIDE, TAKEN, Occupancy, Shape
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.place_filaments import place_filaments
from eucentric.simulation.place_membranes import place_lattices, place_membranes
from eucentric.simulation.placing import Placing, joined
from eucentric.simulation.scene import Scene, SceneContamination, SceneSpecies
from eucentric.simulation.species import CUBIC_ANGSTROM_PER_DALTON, Species, procedural_macromolecule
from eucentric.simulation.specimen import Specimen
from eucentric.simulation.structures import Contaminant
from eucentric.typing import FloatArray

_CONTAMINANTS = {"ice": 4.53, "ethane": 5.5}
"""Mean potential of crystalline ice and of frozen ethane of 0.7 g/cm^3, made of free atoms, in V."""

_SUNK = 0.35
_WHERE = {"anywhere": (0, 0), "inside": (INSIDE, 0), "outside": (0, INSIDE)}
"""Bits that the voxel of a particle's middle must have, and bits that keep it away."""


def builtin_species(entry: SceneSpecies) -> Species:
    """The built-in macromolecule of an entry of a scene.

    Raises
    ------
    InputError : the entry takes its species from a file
    """
    if entry.mass_kda is None or entry.structure is not None or entry.map is not None:
        raise InputError(f"The species `{entry.name}` of the scene comes from a file, which has to be read first.")
    made = procedural_macromolecule(entry.mass_kda, variant=entry.variant)
    return made.renamed(entry.name) if entry.name else made


def build_specimen(
    scene: Scene, params: SimulationParams, species: Sequence[Species], rng: np.random.Generator
) -> Specimen:
    """Place at random what a scene asks for.

    Parameters
    ----------
    scene : what to place, and the film
    params : field of view, tilts and stage, which say how much of the film is seen
    species : one for each of `scene.species`, in their order

    Raises
    ------
    InputError : species that do not match, or something larger than the film
    ProcessingError : no room left; the words say how many fitted
    """
    if len(species) != len(scene.species):
        raise InputError(f"{len(species)} species were given for the {len(scene.species)} of the scene.")
    film, half = scene.build_film(), half_extent(params)
    placing = Placing(
        scene=scene,
        film=film,
        field_angstrom=params.field_of_view_angstrom,
        half=half,
        occupancy=Occupancy(film, half, rng),
        rng=rng,
        species=list(species),
    )
    place_membranes(placing)
    place_lattices(placing)
    place_filaments(placing)
    beads = _place_beads(placing)
    _place_free(placing)
    return Specimen(
        species=tuple(placing.species),
        particles=placing.all_particles(),
        membranes=tuple(placing.membranes),
        filaments=tuple(placing.filaments),
        lattices=tuple(placing.lattices),
        beads=beads,
        bead_diameter_angstrom=scene.beads.diameter_angstrom,
        contamination=_contaminants(placing, scene.contamination),
        film=film,
        half_extent_angstrom=half,
    )


def half_extent(params: SimulationParams) -> tuple[float, float, float]:
    """Half lengths of a slab that fills the tilted images; at the highest tilts their edges may stay empty."""
    axis = np.deg2rad(params.tilt_axis_deg)
    field = params.field_of_view_angstrom
    across = 0.5 * (abs(np.cos(axis)) * field[0] + abs(np.sin(axis)) * field[1])
    along = 0.5 * (abs(np.sin(axis)) * field[0] + abs(np.cos(axis)) * field[1])
    steepest = params.steepest_tilt_deg
    stretch = min(1.8, 1.0 / np.cos(np.deg2rad(steepest)) if steepest < 60 else 1.8)
    margin = 2.0 * params.stage_jitter_angstrom
    return float(stretch * across + margin), float(1.03 * along + margin), 0.5 * params.thickness_angstrom


def _as_dense(placing: Placing, count: float) -> int:
    """Number in the whole slab of what is `count` in the field of view."""
    field, half = placing.field_angstrom, placing.half
    return round(count * 4.0 * half[0] * half[1] / (field[0] * field[1]))


def _place_beads(placing: Placing) -> FloatArray:
    entry = placing.scene.beads
    field = placing.field_angstrom
    wanted = _as_dense(placing, entry.count + entry.per_um2 * field[0] * field[1] * 1e-8)
    if wanted and entry.diameter_angstrom > placing.thickest:
        raise InputError(
            _too_large(f"bead of {entry.diameter_angstrom:g} A", entry.diameter_angstrom, placing.thickest)
        )
    beads, _ = placing.occupancy.place(Shape.ball(0.5 * entry.diameter_angstrom), wanted, blocked=TAKEN | INSIDE)
    if len(beads) < wanted:
        raise ProcessingError(_no_room("bead", len(beads), wanted, placing))
    return beads


def _place_free(placing: Placing) -> None:
    """Particles that belong to nothing, the large ones first: small ones find room between them."""
    wanted = [_copies(placing, kind) for kind in range(len(placing.scene.species))]
    start = len(placing.particles)
    for kind in sorted(range(len(wanted)), key=lambda k: -placing.species[k].mass_kda):
        one = placing.species[kind]
        if not wanted[kind]:
            continue
        shape = placing.shape(kind)
        needed = 2.0 * one.radius_angstrom if placing.scene.apart else shape.thinnest
        if needed > placing.thickest:
            raise InputError(_too_large(one.name, needed, placing.thickest))
        needed, kept_out = _WHERE[placing.scene.species[kind].where]
        centres, rotations = placing.occupancy.place(shape, wanted[kind], blocked=TAKEN | kept_out, needed=needed)
        if len(centres) < wanted[kind]:
            raise ProcessingError(_no_room(one.name, len(centres), wanted[kind], placing))
        placing.add(kind, centres, rotations, "free", -1)
    free = placing.particles[start:]
    del placing.particles[start:]
    if free:
        placing.particles.append(joined(free).chosen(placing.rng.permutation(sum(len(part.kinds) for part in free))))


def _copies(placing: Placing, kind: int) -> int:
    entry = placing.scene.species[kind]
    if entry.count is not None:
        return _as_dense(placing, entry.count)
    needed, kept_out = _WHERE[entry.where]
    room = placing.occupancy.volume(needed, OUTSIDE | kept_out)
    if entry.per_um3 is not None:
        return round(entry.per_um3 * room * 1e-12)
    if entry.volume_fraction is not None:
        return round(entry.volume_fraction * room / (placing.species[kind].mass_kda * 1e3 * CUBIC_ANGSTROM_PER_DALTON))
    return 0


def _contaminants(placing: Placing, entry: SceneContamination) -> tuple[Contaminant, ...]:
    """Lumps of balls that lie on the faces of the film."""
    rng, result = placing.rng, []
    area = placing.field_angstrom[0] * placing.field_angstrom[1] * 1e-8
    for name, count, density in (("ice", entry.ice, entry.ice_per_um2), ("ethane", entry.ethane, entry.ethane_per_um2)):
        for _ in range(count + round(density * area)):
            radius = placing.draw(entry.radius_angstrom)
            x, y = (rng.uniform(-0.5 * f, 0.5 * f) for f in placing.field_angstrom)
            lower, upper = placing.film.faces(x, y)
            top = bool(rng.uniform() < 0.5)
            lumps = int(rng.integers(3, 7))
            around = rng.normal(size=(lumps, 3))
            around *= 0.6 * radius / np.linalg.norm(around, axis=1, keepdims=True)
            sizes = radius * rng.uniform(0.4, 0.8, lumps)
            middles = np.concatenate([np.zeros((1, 3)), around])
            sizes = np.concatenate([[0.8 * radius], sizes])
            height = float((sizes - middles[:, 2]).max() if top else -(sizes + middles[:, 2]).max())
            height *= 1.0 - _SUNK  # what lies below the face is not there
            middles += (x, y, float(upper if top else lower) + height)
            balls = np.concatenate([middles, sizes[:, None]], axis=1)
            result.append(Contaminant(name=name, balls_angstrom=balls, volts=_CONTAMINANTS[name]))
    return tuple(result)


def _too_large(name: str, needed: float, thickest: float) -> str:
    return (
        f"`{name}` does not fit into ice of {thickest:.0f} A: it takes {needed:.0f} A however it lies. "
        "Make thickness_angstrom larger."
    )


def _no_room(name: str, done: int, wanted: int, placing: Placing) -> str:
    return (
        f"No room for more than {done} of {wanted} `{name}` was found: {100 * placing.occupancy.taken:.0f}% of the ice "
        "is taken already. Ask for fewer, or make the ice thicker."
    )
