"""Scene files, the scenes that come with the product, and the files that their species are read from."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import gemmi
from pydantic import BaseModel, ValidationError

from eucentric.errors import FormatError, InputError
from eucentric.io.atoms import read_atoms
from eucentric.io.mrc import read_mrc
from eucentric.pipeline.explain import explain_validation_error, nearest, unknown_name
from eucentric.simulation.build_specimen import builtin_species
from eucentric.simulation.params import SimulationParams
from eucentric.simulation.scene import (
    SPECIMEN_SETTINGS,
    Scene,
    SceneBeads,
    SceneContamination,
    SceneFilament,
    SceneFilm,
    SceneLattice,
    SceneMembrane,
    SceneProtein,
    SceneSpecies,
)
from eucentric.simulation.species import Species, species_from_atoms, species_from_volume
from eucentric.typing import PathLike

_LISTS: dict[str, type[BaseModel]] = {
    "species": SceneSpecies,
    "membranes": SceneMembrane,
    "filaments": SceneFilament,
    "lattices": SceneLattice,
}
_TABLES: dict[str, type[BaseModel]] = {"film": SceneFilm, "beads": SceneBeads, "contamination": SceneContamination}


def preset_names() -> tuple[str, ...]:
    """Names of the scenes that come with the product."""
    files = resources.files("eucentric.simulation").joinpath("presets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def read_preset(name: str) -> Scene:
    """One of the scenes that come with the product.

    Raises
    ------
    InputError : no scene of this name
    """
    names = preset_names()
    if name not in names:
        like = nearest(name, [n.replace("-", "_") for n in names])
        hint = f"Did you mean `{like.replace('_', '-')}`?" if like else f"There are {', '.join(names)}."
        raise InputError(f"There is no preset `{name}`. {hint}")
    text = resources.files("eucentric.simulation").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")
    return _scene(tomllib.loads(text), f"the preset `{name}`")


def read_scene(path: PathLike) -> Scene:
    """A scene from a TOML file.

    Raises
    ------
    InputError : no such file, an unknown table or setting (named, with the nearest known one), or a value that does not fit
    FormatError : not TOML
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        tables = tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"`{place}` is not a scene that can be read: {error}. Expected TOML.") from error
    return _scene(tables, f"`{place}`")


def scene_species(scene: Scene, folder: PathLike = ".") -> list[Species]:
    """The species of a scene, in their order, read from their files or built.

    Parameters
    ----------
    folder : where the files of the scene are named from: the folder of the scene file

    Raises
    ------
    InputError, FormatError : a file that is missing or holds no species; the words name it
    """
    found = []
    for entry, name in zip(scene.species, scene.species_names, strict=True):
        if entry.structure is not None:
            found.append(read_species(Path(folder) / entry.structure).renamed(name))
        elif entry.map is not None:
            path = Path(folder) / entry.map
            found.append(
                read_map_species(path, mass_kda=entry.mass_kda, threshold=entry.threshold, dark=entry.dark).renamed(
                    name
                )
            )
        else:
            found.append(builtin_species(entry))
    return found


def read_species(path: PathLike) -> Species:
    """A species from a PDB or mmCIF file, its origin at the mean of the atoms. Atoms of unknown element are left out.

    Raises
    ------
    InputError, FormatError : as `eucentric.io.atoms.read_atoms`; no atom of a known element
    """
    atoms = read_atoms(path)
    known = (atoms.atomic_numbers > 0) & (atoms.occupancies > 0)
    if not known.any():
        raise InputError(f"`{path}` names the element of none of its atoms. Write its element columns first.")
    return species_from_atoms(
        atoms.positions[known],
        [gemmi.Element(int(number)).name for number in atoms.atomic_numbers[known]],
        name=Path(path).name.split(".")[0],
        occupancies=atoms.occupancies[known],
    )


def read_map_species(
    path: PathLike, *, mass_kda: float | None = None, threshold: float | None = None, dark: bool = False
) -> Species:
    """A species from an MRC map. Parameters as `eucentric.simulation.species_from_volume`.

    Raises
    ------
    InputError, FormatError : no such file, not a map, voxels of no known or of unequal size, or no species in it
    """
    volume, header = read_mrc(path)
    sizes = header.voxel_size_angstrom
    if sizes is None or max(sizes) > 1.001 * min(sizes):
        shown = "an unknown size" if sizes is None else f"{sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} A"
        raise InputError(f"`{path}` has voxels of {shown}; expected cubes of a known size. Write its header again.")
    try:
        return species_from_volume(
            volume,
            float(sizes[0]),
            name=Path(path).name.split(".")[0],
            mass_kda=mass_kda,
            threshold=threshold,
            dark=dark,
        )
    except InputError as error:
        raise InputError(f"`{path}`: {error}") from error


def _scene(tables: dict[str, Any], where: str) -> Scene:
    """The scene of TOML tables; what does not fit is said table by table."""
    for name, given in tables.items():
        if name not in Scene.model_fields:
            raise unknown_name(name, Scene.model_fields, "table", where[0].upper() + where[1:])
        if name in _LISTS:
            if not isinstance(given, list):
                raise InputError(f"`{name}` is one table in {where}; expected a list of them. Write [[{name}]].")
            for number, entry in enumerate(given, 1):
                place = f"[[{name}]] number {number} of {where}"
                for protein in entry.get("proteins", ()) if name == "membranes" else ():
                    _check(SceneProtein, protein, f"a protein of {place}")
                _check(_LISTS[name], entry, place)
        elif name in _TABLES:
            _check(_TABLES[name], given, f"the table [{name}] of {where}")
        elif name == "microscope":
            _check_microscope(given, f"the table [microscope] of {where}")
    return Scene.model_validate(_check(Scene, tables, where))


def _check(model: type[BaseModel], given: Any, where: str) -> Any:
    if not isinstance(given, dict):
        raise InputError(f"{where[0].upper() + where[1:]} is {given!r}; expected a table of settings.")
    unknown = next((name for name in given if name not in model.model_fields), None)
    if unknown is not None:
        raise unknown_name(unknown, model.model_fields, "setting", where[0].upper() + where[1:])
    try:
        model.model_validate(given)
    except ValidationError as error:
        raise explain_validation_error(error, model, where) from error
    return given


def _check_microscope(given: Any, where: str) -> None:
    if isinstance(given, dict):
        belongs = next((name for name in given if name in SPECIMEN_SETTINGS), None)
        if belongs is not None:
            raise InputError(
                f"`{belongs}` in {where} is a setting of the specimen. "
                "Say it in [film], [[species]], [[membranes]] or [beads]."
            )
    _check(SimulationParams, given, where)
