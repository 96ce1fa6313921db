"""What a simulation is told to show: a scene, files of structures, or what a project or a plan knows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eucentric.errors import InputError
from eucentric.pipeline import scene_files
from eucentric.pipeline.like_plan import like_plan
from eucentric.pipeline.like_project import Likeness, like_project
from eucentric.pipeline.scene_settings import scene_with_settings
from eucentric.pipeline.steps import find_project
from eucentric.pipeline.twin_recording import TwinRecording, recording_of_project
from eucentric.pipeline.twin_specimen import specimen_of_project
from eucentric.simulation import Scene, SimulationParams, Species
from eucentric.simulation.scene import SceneMembrane

_SCHEME = {"scheme", "tilt_min_deg", "tilt_max_deg", "tilt_step_deg", "tilt_start_deg", "tilt_group"}
_USUAL = (
    "What the specimen holds is not known from picks of templates, so the usual built-in molecules stand unless --structure, "
    "--preset, --scene or --particles-per-species say more."
)
_COUNTED = {"macromolecules_kda", "particles_per_species"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenWanted:
    """Where the specimen and the settings are to come from."""

    preset: str | None = None
    scene: Path | None = None
    structures: Sequence[Path] | None = None
    maps: Sequence[Path] | None = None
    masses: Sequence[float] | None = None
    """kDa, of what is in `maps`."""
    like: Path | None = None
    """A project, or a plan file."""
    like_series: str | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.scene is not None:
            raise InputError("--preset and --scene both describe the specimen; expected one of them.")
        for option, files in (("--structure", self.structures), ("--map", self.maps)):
            if files is not None and not files:
                raise InputError(f"{option} is without a file; expected one for each species.")
            if files is not None and (self.preset is not None or self.scene is not None):
                raise InputError(
                    f"{option} was given with a scene, which names the files of its species itself. "
                    "Write them into its [[species]] as `structure` or `map`."
                )
        maps, masses = self.maps or [], self.masses or []
        if len(masses) != len(maps):
            named = ", ".join(f"`{path}`" for path in maps) or "no map"
            raise InputError(
                f"--map-mass-kda has {len(masses)} masses for {named}; expected one for each map: it says how much of the "
                "map is the species."
            )
        if self.like_series is not None and self.like is None:
            raise InputError("--like-series names a tilt series, but no project was given with --like.")
        if self.like_series is not None and self.like is not None and self.like.is_file():
            raise InputError(f"--like-series names a tilt series, but `{self.like}` is a plan of one. Leave it out.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpecimenMade:
    """All that the simulator needs."""

    scene: Scene | None
    params: SimulationParams
    species: tuple[Species, ...] | None
    """None where they are built in."""
    files: tuple[Path, ...]
    """Structures and maps of the species, where they were given one by one."""
    told: tuple[str, ...]
    """In words: what was taken over."""
    root: Path | None = None
    """Of the project that it is like."""
    series: str = ""
    recording: TwinRecording | None = None


def made_specimen(wanted: SpecimenWanted, settings: SimulationParams | None) -> SpecimenMade:
    """The scene where there is one, the settings, and the species where they are not built in.

    Parameters
    ----------
    settings : those that were stated (`model_fields_set`) go before a project's or plan's figures, and these before a scene's

    Raises
    ------
    InputError, FormatError : files or settings that cannot be used, or do not go together
    """
    given = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
    root, found = None, None
    if wanted.like is not None:
        if wanted.like.is_file():
            found = like_plan(wanted.like)
        else:
            root = find_project(wanted.like)
            found = like_project(root, wanted.like_series)
    changes = _with_given(found, given)
    made = _named(wanted, changes)
    told = () if found is None else found.told
    if made is None and root is not None and found is not None and not _COUNTED & set(given):
        made = _from_picks(root, found, changes)
    if made is None:
        usual = () if found is None or _COUNTED & set(given) else (_USUAL,)
        made = SpecimenMade(
            scene=None, params=SimulationParams.model_validate(changes), species=None, files=(), told=usual
        )
    if root is None or found is None:
        return _with(made, told=(*told, *made.told))
    recording = recording_of_project(root, found.series, made.params, made.species, made.scene)
    params, more = made.params, tuple[str, ...]()
    if recording is not None:
        params = params.replace(**{k: v for k, v in recording.changes.items() if k not in given})
        more = recording.told
    return _with(
        made, params=params, told=(*told, *made.told, *more), root=root, series=found.series, recording=recording
    )


def _with(made: SpecimenMade, **changes: Any) -> SpecimenMade:
    return replace(made, **changes)


def _with_given(found: Likeness | None, given: dict[str, Any]) -> dict[str, Any]:
    changes = {} if found is None else dict(found.changes)
    if _SCHEME & set(given):  # another scheme than the project's
        changes.pop("tilt_angles_deg", None)
    if (_SCHEME | {"tilt_angles_deg", "dose_per_tilt"}) & set(given):  # doses of the project's images are of no others
        changes.pop("tilt_doses", None)
    return changes | given


def _named(wanted: SpecimenWanted, changes: dict[str, Any]) -> SpecimenMade | None:
    """What a scene or files of structures say; None where neither is given."""
    if wanted.preset is not None or wanted.scene is not None:
        if wanted.preset is not None:
            scene, folder = scene_files.read_preset(wanted.preset), Path()
        else:
            assert wanted.scene is not None
            scene, folder = scene_files.read_scene(wanted.scene), wanted.scene.parent
        scene, params = scene_with_settings(scene, changes)
        species = tuple(scene_files.scene_species(scene, folder))
        return SpecimenMade(scene=scene, params=params, species=species, files=(), told=())
    files = (*(wanted.structures or ()), *(wanted.maps or ()))
    if not files:
        return None
    kinds = [scene_files.read_species(path) for path in wanted.structures or ()]
    kinds += [
        scene_files.read_map_species(path, mass_kda=mass)
        for path, mass in zip(wanted.maps or (), wanted.masses or (), strict=True)
    ]
    names = [one.name for one in kinds]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two files make species called `{twice}`. Give one of them another name.")
    params = SimulationParams.model_validate(changes)
    return SpecimenMade(scene=None, params=params, species=tuple(kinds), files=files, told=())


def _from_picks(root: Path, found: Likeness, changes: dict[str, Any]) -> SpecimenMade | None:
    """What a project's picks and membranes say; vesicles that are asked for take the place of segmented ones."""
    rest = dict(changes)
    field = SimulationParams.model_validate({k: rest[k] for k in ("image_size_px", "pixel_size_angstrom")})
    specimen = specimen_of_project(root, found.series, field.field_of_view_angstrom, rest.get("thickness_angstrom"))
    if specimen is None:
        return None
    scene = specimen.scene
    count, radii = rest.pop("vesicles", None), rest.pop("vesicle_radius_angstrom", None)
    if count is not None:
        limits = {} if radii is None else {"radius_angstrom": radii}
        membranes = (SceneMembrane(shape="vesicle", count=count, **limits),) if count else ()
        scene = scene.replace(membranes=membranes)
    scene, params = scene_with_settings(scene, rest)
    return SpecimenMade(scene=scene, params=params, species=specimen.species, files=(), told=specimen.told)
