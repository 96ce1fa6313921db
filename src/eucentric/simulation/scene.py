"""What a scene asks for: the tables of a scene file, and the settings of the simulator that they make."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from eucentric.errors import InputError
from eucentric.models.settings import Frozen
from eucentric.simulation.film import Film
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.structures import MEMBRANE_HALF_ANGSTROM, MEMBRANE_ROOM_ANGSTROM

Range = tuple[float, float]
"""Smallest and largest; each thing draws its own."""
SPECIMEN_SETTINGS = (
    "thickness_angstrom",
    "macromolecules_kda",
    "particles_per_species",
    "vesicles",
    "vesicle_radius_angstrom",
    "beads",
    "bead_diameter_angstrom",
)
"""Settings of the simulator that a scene says in its own tables."""


class SceneSpecies(Frozen):
    """One kind of particle. It lies free in the ice where a count, a concentration or a volume fraction says how many."""

    name: str = Field(default="", description="empty for that of the file or the mass")
    mass_kda: float | None = Field(default=None, ge=20, description="kDa; of a built-in macromolecule, or of a map")
    variant: int = Field(default=0, ge=0, description="another number, another built-in macromolecule of the same mass")
    structure: str | None = Field(default=None, description="PDB or mmCIF file, beside the scene file")
    map: str | None = Field(default=None, description="MRC file of a density map, beside the scene file")
    threshold: float | None = Field(default=None, description="of a map: what lies above belongs to the species")
    dark: bool = Field(default=False, description="a map in the contrast of tomograms, where the species is dark")
    count: int | None = Field(default=None, ge=0, description="in the untilted field of view; as dense around it")
    per_um3: float | None = Field(default=None, ge=0, description="number in a cubic micrometre of ice")
    volume_fraction: float | None = Field(
        default=None, ge=0, lt=0.6, description="of the ice, at 1.21 A^3 for each dalton"
    )

    where: Literal["anywhere", "inside", "outside"] = Field(
        default="anywhere",
        description="within or without closed membranes; fractions and concentrations are of that ice",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        files = [path for path in (self.structure, self.map) if path is not None]
        if len(files) > 1 or (not files and self.mass_kda is None):
            raise ValueError(
                "a species needs a structure, a map or, where it is built in, mass_kda, and only one of them"
            )
        if sum(value is not None for value in (self.count, self.per_um3, self.volume_fraction)) > 1:
            raise ValueError("only one of count, per_um3 and volume_fraction says how many there are")
        return self


class SceneProtein(Frozen):
    """A species in a membrane, its own z axis along the outward normal."""

    species: str = Field(description="name of a species")
    per_um2: float = Field(gt=0, description="number on a square micrometre")
    inward: float = Field(default=0.0, ge=0, le=1, description="part of them that stands the other way round")
    height_angstrom: float = Field(
        default=0.0, description="A, of the species' origin above the mid-surface, along its z"
    )


class _Counted(Frozen):
    """Things that are counted, or as dense in every field of view."""

    count: int | None = Field(
        default=None, ge=0, description="in the untilted field of view; one where per_um2 is not given either"
    )
    per_um2: float | None = Field(
        default=None,
        ge=0,
        description="number in a square micrometre, of the largest square in the field; a quarter of one is one",
    )

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.count is not None and self.per_um2 is not None:
            raise ValueError("only one of count and per_um2 says how many there are")
        return self

    def copies(self, field_angstrom: Range) -> int:
        """How many there are in a field of view of x, y A."""
        if self.per_um2 is None:
            return 1 if self.count is None else self.count
        number = self.per_um2 * min(field_angstrom) ** 2 * 1e-8
        return 1 if 0.25 <= number < 1.0 else round(number)


class SceneMembrane(_Counted):
    """Membranes of one shape."""

    shape: Literal["vesicle", "tube", "sheet", "cisterna", "double"] = Field(description="what they look like")
    name: str = Field(default="", description="their class in the truth; empty for the shape")
    radius_angstrom: Range = Field(
        default=(280.0, 420.0),
        description="A; of vesicles, of the outer of two membranes, of tubes, of a cisterna's outline; larger ones than the "
        "ice holds are not drawn",
    )
    length_angstrom: Range = Field(default=(1500.0, 3000.0), description="A; of tubes, ends included")
    lumen_angstrom: Range = Field(
        default=(200.0, 300.0), description="A between the mid-surfaces of a cisterna or of two nested membranes"
    )
    rim: float = Field(default=1.5, ge=1, description="width of a cisterna near its rim over that of its lumen")
    roughness: float = Field(
        default=0.0, ge=0, le=0.3, description="rms of bulges over the radius; of a sheet's height over 1000 A"
    )
    thickness_angstrom: float = Field(default=37.0, gt=10, lt=80, description="A between the layers of head groups")
    tilt_deg: float = Field(
        default=90.0,
        ge=0,
        le=90,
        description="degrees; most that a tube, sheet or cisterna leans out of the film's plane",
    )
    proteins: tuple[SceneProtein, ...] = Field(default=(), description="species that stand in them")


class SceneFilament(_Counted):
    """Filaments of one kind."""

    kind: Literal["actin", "microtubule"] = Field(description="the helix of their subunits")
    name: str = Field(default="", description="their class in the truth; empty for the kind")
    length_angstrom: Range = Field(default=(2000.0, 5000.0), description="A")
    species: str = Field(default="", description="name of the subunit's species; empty for the built-in one")
    persistence_angstrom: float | None = Field(
        default=None, gt=100, description="A; None for 177,000 of actin or 52,000,000 of microtubules"
    )
    tilt_deg: float = Field(
        default=10.0, ge=0, le=90, description="degrees; most that they lean out of the film's plane"
    )


class SceneLattice(_Counted):
    """Spheres with a hexagonal lattice, as immature retroviruses have inside their membrane."""

    name: str = Field(default="immature", description="their class in the truth")
    species: str = Field(default="", description="name of the species at the points; empty for a built-in hexamer")
    radius_angstrom: Range = Field(default=(500.0, 600.0), description="A, of the sphere through the species' origins")
    spacing_angstrom: float = Field(default=78.0, gt=20, description="A between next neighbours")
    coverage: float = Field(
        default=0.65, gt=0, le=1, description="part of the sphere that is covered; the rest are gaps"
    )
    membrane_angstrom: float | None = Field(
        default=95.0, gt=20, description="A from the lattice out to the mid-surface of its membrane"
    )


class SceneFilm(Frozen):
    """The ice."""

    thickness_angstrom: float = Field(default=1100.0, gt=50, description="A, in the middle of the field")
    gradient: Range = Field(default=(0.0, 0.0), description="A of thickness for each A along x and y")
    bend_per_angstrom: Range = Field(default=(0.0, 0.0), description="1/A; curvature along x and y")
    hole_centre_angstrom: Range = Field(default=(0.0, 0.0), description="A; middle of the hole of the carbon film")
    hole_radius_angstrom: float | None = Field(default=None, gt=0, description="A; None for no carbon")
    carbon_angstrom: float = Field(default=0.0, ge=0, description="A; thickness of the carbon beyond the hole")
    vacuum_beyond_angstrom: float | None = Field(default=None, description="A along x; beyond it there is nothing")
    cut: bool = Field(default=False, description="a lamella, whose faces cut through membranes and filaments")


class SceneBeads(Frozen):
    """Gold beads."""

    count: int = Field(default=0, ge=0, description="in the untilted field of view; as dense around it")
    per_um2: float = Field(default=0.0, ge=0, description="number in a square micrometre, besides those counted")
    diameter_angstrom: float = Field(default=100.0, gt=0, description="A")


class SceneContamination(Frozen):
    """Bodies on the faces of the film."""

    ice: int = Field(default=0, ge=0, description="balls of crystalline ice, in the untilted field of view")
    ethane: int = Field(default=0, ge=0, description="specks of frozen ethane")
    ice_per_um2: float = Field(default=0.0, ge=0, description="number in a square micrometre, besides those counted")
    ethane_per_um2: float = Field(default=0.0, ge=0, description="number in a square micrometre, besides those counted")
    radius_angstrom: Range = Field(default=(150.0, 400.0), description="A")


class Scene(Frozen):
    """A specimen as a scene file describes it, and the microscope that looks at it."""

    description: str = Field(default="", description="one sentence")
    apart: bool = Field(
        default=False, description="keep the balls around particles apart; otherwise shapes come as close as they can"
    )
    species: tuple[SceneSpecies, ...] = Field(default=(), description="kinds of particles")
    membranes: tuple[SceneMembrane, ...] = Field(default=(), description="membranes")
    filaments: tuple[SceneFilament, ...] = Field(default=(), description="filaments")
    lattices: tuple[SceneLattice, ...] = Field(default=(), description="lattices on spheres")
    film: SceneFilm = Field(default=SceneFilm(), description="the ice")
    beads: SceneBeads = Field(default=SceneBeads(), description="gold beads")
    contamination: SceneContamination = Field(default=SceneContamination(), description="bodies on the film")
    microscope: Mapping[str, Any] = Field(default={}, description="settings of the simulator besides the specimen's")

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = self.species_names
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"two species are called {double}; give one of them another name")
        wanted = [protein.species for membrane in self.membranes for protein in membrane.proteins]
        wanted += [filament.species for filament in self.filaments if filament.species]
        wanted += [lattice.species for lattice in self.lattices if lattice.species]
        missing = next((name for name in wanted if name not in names), None)
        if missing is not None:
            raise ValueError(f"there is no species called {missing}; there are {', '.join(names) or 'none'}")
        ranges = [m.radius_angstrom for m in self.membranes] + [m.lumen_angstrom for m in self.membranes]
        ranges += [m.length_angstrom for m in self.membranes] + [f.length_angstrom for f in self.filaments]
        ranges += [lattice.radius_angstrom for lattice in self.lattices] + [self.contamination.radius_angstrom]
        if any(not 0 < low <= high for low, high in ranges):
            raise ValueError("a range must be a smallest and a largest value above zero")
        return self

    @property
    def species_names(self) -> list[str]:
        """What the species are called."""
        return [entry.name or _default_name(entry) for entry in self.species]

    def build_film(self) -> Film:
        """The ice."""
        return Film(**self.film.model_dump(exclude={"cut"}))

    def params(self, **changes: Any) -> SimulationParams:
        """Settings of the simulator: those of the table [microscope], then `changes`, and what the specimen fixes.

        Raises
        ------
        InputError : a setting of the specimen in the table [microscope]
        ValidationError : settings that do not fit
        """
        belongs = next((name for name in self.microscope if name in SPECIMEN_SETTINGS), None)
        if belongs is not None:
            raise InputError(
                f"`{belongs}` is a setting of the specimen, in the table [microscope] of a scene. "
                "Say it in [film], [[species]], [[membranes]] or [beads]."
            )
        given = {**self.microscope, **changes}
        specimen = {
            "thickness_angstrom": self.film.thickness_angstrom,
            "particles_per_species": (),
            "vesicles": 0,
            "beads": self.beads.count,
            "bead_diameter_angstrom": self.beads.diameter_angstrom,
        }
        return SimulationParams.model_validate({**given, **specimen})

    @classmethod
    def from_params(cls, params: SimulationParams) -> Self:
        """The scene that the simulator's own settings stand for."""
        species = tuple(
            SceneSpecies(name=f"species {number + 1}", mass_kda=20.0, count=count)
            for number, count in enumerate(params.particles_per_species)
        )
        low, high = params.vesicle_radius_angstrom
        held = max(0.5 * params.thickness_angstrom - MEMBRANE_HALF_ANGSTROM - MEMBRANE_ROOM_ANGSTROM, 1.0)
        radius = (min(low, held), high)  # the setting says that it is cut to what the ice holds
        membranes = (SceneMembrane(shape="vesicle", count=params.vesicles, radius_angstrom=radius),)
        return cls(
            apart=True,
            species=species,
            membranes=membranes if params.vesicles else (),
            film=SceneFilm(thickness_angstrom=params.thickness_angstrom),
            beads=SceneBeads(count=params.beads, diameter_angstrom=params.bead_diameter_angstrom),
        )


def _default_name(entry: SceneSpecies) -> str:
    path = entry.structure or entry.map
    if path is not None:
        return path.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
    return f"macromolecule_{entry.mass_kda:g}kDa" + (f"_{entry.variant}" if entry.variant else "")
