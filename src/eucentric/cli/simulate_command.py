"""`eucentric simulate`."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json, shown_progress
from eucentric.errors import InputError
from eucentric.pipeline.progress import RunProgress
from eucentric.simulation.params import SimulationParams

if TYPE_CHECKING:
    from eucentric.simulation.scene import Scene
    from eucentric.simulation.species import Species

_SCHEME = {"scheme", "tilt_min_deg", "tilt_max_deg", "tilt_step_deg", "tilt_start_deg", "tilt_group"}


def movie_counter(progress: RunProgress, what: str = "movies") -> Callable[[int, int], None]:
    """What the simulator calls after every movie or box, shown as the progress of a run."""
    before = time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal before
        now = time.monotonic()
        if done == 1:
            progress.begin({what: total}, 1)
        progress.item_ended(what, "simulating", now - before)
        if done < total:
            progress.item_started(what, "simulating")
        before = now

    return step


def simulate(
    folder: Path,
    /,
    *,
    preset: str | None = None,
    scene: Path | None = None,
    structure: Annotated[list[Path] | None, SEVERAL] = None,
    map: Annotated[list[Path] | None, SEVERAL] = None,  # noqa: A002 - the option's name
    map_mass_kda: Annotated[list[float] | None, SEVERAL] = None,
    like: Path | None = None,
    like_series: str | None = None,
    series: int = 1,
    mtf: Path | None = None,
    truth: Literal["poses", "volumes", "images", "all"] = "poses",
    truth_voxel_size: float = 10.0,
    truth_twice: Switch = False,
    boxes: int = 0,
    box_size: int = 64,
    box_voxel_size: float = 10.0,
    settings: Annotated[SimulationParams | None, SETTINGS] = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write movies, mdocs and a gain reference as a microscope would, and the truth about them.

    What is given on the command line goes before a project's figures (--like), and these before a scene's.

    Parameters
    ----------
    folder
        folder to make
    preset
        a specimen that comes with the program: crowded, filaments, hiv-like, lamella, purified-beads or vesicles
    scene
        TOML file that describes a specimen
    structure
        PDB or mmCIF files, one a species, in place of the built-in macromolecules
    map
        density maps (MRC), one a species, after those of --structure; the densest part that a protein of
        --map-mass-kda fills is taken
    map_mass_kda
        kDa, of the species in each of --map
    like
        project whose pixel and image size, tilts and their order, dose, defocus, motion, pre-tilt and thickness are
        taken over, as far as it has come
    like_series
        which of its tilt series; the first one where not given
    series
        number of tilt series; all that is random differs from one to the next
    mtf
        table of the camera's MTF (STAR, as RELION reads it), in place of --mtf-at-nyquist
    truth
        what is written of it: poses (always), also volumes (density, labels, distance to membranes), also images
        without noise, or all
    truth_voxel_size
        A, of the volumes
    truth_twice
        volumes and images also with voxels and pixels half as large
    boxes
        write so many training boxes (halves, labels, wedge and more) in place of movies
    box_size
        voxels along each side of a box
    box_voxel_size
        A
    overwrite
        write into a folder that holds files; those of the same name are replaced
    """
    # here, so that --help does not load torch
    from eucentric.pipeline.simulate_project import TruthOptions
    from eucentric.pipeline.simulate_project import simulate as write_simulation
    from eucentric.pipeline.simulated_movies import read_camera_mtf

    del debug  # read by the program itself
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"`{folder}` holds files already; expected a new folder. Name another one, or add --overwrite."
        )
    wanted = _Wanted(
        preset=preset,
        scene=scene,
        structures=structure,
        maps=map,
        masses=map_mass_kda,
        like=like,
        like_series=like_series,
    )
    options = TruthOptions(
        volumes=truth in ("volumes", "all"),
        images=truth in ("images", "all"),
        voxel_size_angstrom=truth_voxel_size,
        twice=truth_twice,
    )
    what, params, species = _specimen(wanted, settings)
    if boxes:
        return _write_boxes(folder, boxes, (box_size, box_voxel_size), what, params, species, as_json=as_json)
    camera = None if mtf is None else read_camera_mtf(mtf)
    with shown_progress() as progress, progress:
        written = write_simulation(
            folder,
            params,
            series,
            species=species,
            scene=what,
            mtf=camera,
            truth=options,
            progress=movie_counter(progress),
        )
    count = sum(len(one.movies) for one in written)
    sys.stdout.write(f"{len(written)} tilt series with {count} movies in `{folder / 'frames'}`.\n")
    sys.stdout.write(f"The truth is in {', '.join(f'`{one.truth}`' for one in written)}.\n")
    gain = written[0].gain
    sys.stdout.write(
        f"Next: eucentric import PROJECT --frames {folder / 'frames'} --mdoc {folder} --gain {gain}\n"
        f"After the run: eucentric score PROJECT --truth {folder}\n"
    )
    if as_json:
        values = {
            "exit_code": 0,
            "series": [one.name for one in written],
            "movies": count,
            "gain": str(gain),
            "truth": [str(one.truth) for one in written],
            "references": [str(path) for path in written[0].references],
        }
        show_json(values)
    return 0


def _write_boxes(
    folder: Path,
    count: int,
    size: tuple[int, float],
    scene: "Scene | None",
    params: SimulationParams,
    species: "list[Species] | None",
    *,
    as_json: bool,
) -> int:
    from pydantic import ValidationError

    from eucentric.pipeline.explain import explain_validation_error
    from eucentric.pipeline.training_boxes import training_specimens, write_training_boxes
    from eucentric.simulation.subvolumes import SubvolumeParams

    try:
        about = SubvolumeParams(box_size=size[0], voxel_size_angstrom=size[1])
    except ValidationError as error:
        raise explain_validation_error(error, SubvolumeParams, "the options of boxes") from error
    specimens = training_specimens(scene, params, species, boxes=count)
    with shown_progress() as progress, progress:
        written = write_training_boxes(
            folder, specimens, about, count=count, seed=params.seed, progress=movie_counter(progress, "boxes")
        )
    sys.stdout.write(
        f"{len(written)} boxes in `{folder / 'boxes'}`; what is in them: `{folder / 'boxes' / 'boxes.json'}`.\n"
    )
    if as_json:
        show_json({"exit_code": 0, "boxes": [str(path) for path in written]})
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Where the specimen and the settings are to come from."""

    preset: str | None
    scene: Path | None
    structures: list[Path] | None
    maps: list[Path] | None
    masses: list[float] | None
    """kDa, of what is in `maps`."""
    like: Path | None
    like_series: str | None

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


def _specimen(
    wanted: _Wanted, settings: SimulationParams | None
) -> "tuple[Scene | None, SimulationParams, list[Species] | None]":
    """The scene where there is one, the settings, and the species where they are not built in."""
    from eucentric.pipeline import scene_files
    from eucentric.pipeline.like_project import like_project
    from eucentric.pipeline.scene_settings import scene_with_settings
    from eucentric.pipeline.steps import find_project

    changes: dict[str, Any] = {}
    if wanted.like is not None:
        found = like_project(find_project(wanted.like), wanted.like_series)
        changes |= found.changes
        for line in found.told:
            sys.stdout.write(line + "\n")
    if settings is not None:
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        if _SCHEME & set(given):  # another scheme than the project's
            changes.pop("tilt_angles_deg", None)
        changes |= given
    if wanted.preset is not None or wanted.scene is not None:
        if wanted.preset is not None:
            scene, folder = scene_files.read_preset(wanted.preset), Path()
        else:
            assert wanted.scene is not None
            scene, folder = scene_files.read_scene(wanted.scene), wanted.scene.parent
        scene, params = scene_with_settings(scene, changes)
        return scene, params, scene_files.scene_species(scene, folder)
    species = [scene_files.read_species(path) for path in wanted.structures or ()]
    species += [
        scene_files.read_map_species(path, mass_kda=mass)
        for path, mass in zip(wanted.maps or (), wanted.masses or (), strict=True)
    ]
    names = [one.name for one in species]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"Two files make species called `{twice}`. Give one of them another name.")
    return None, SimulationParams.model_validate(changes), species or None
