"""`eucentric simulate`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json, shown_progress
from eucentric.cli.twin_output import TwinOptions, show_twin
from eucentric.errors import InputError
from eucentric.pipeline.progress import RunProgress
from eucentric.simulation.params import SimulationParams

if TYPE_CHECKING:
    from eucentric.simulation.scene import Scene
    from eucentric.simulation.species import Species


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
    run: Switch = False,
    device: str = "auto",
    workers: int | None = None,
    series: int | None = None,
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
        project whose pixel and image size, tilts and their order, dose, defocus, motion, pre-tilt, thickness, deformation, picked
        particles and segmented membranes are taken over, as far as it has come; or a plan of `eucentric plan-tilts`
    like_series
        which of the project's tilt series; the first one where not given
    run
        with --like: also process the simulated series with the project's own plan, and say from the truth what to expect of
        alignment, CTF and picking (expected.json, .md and .html)
    device
        with --run: auto, cpu, cuda or cuda:n
    workers
        with --run: tilt series side by side
    series
        number of tilt series, 1 where not given, 2 with --run; all that is random differs from one to the next
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
    from eucentric.pipeline.simulated_specimen import SpecimenWanted, made_specimen

    del debug  # read by the program itself
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"`{folder}` holds files already; expected a new folder. Name another one, or add --overwrite."
        )
    wanted = SpecimenWanted(
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
    if run and like is None:
        raise InputError("--run needs a project or a plan to be run like. Name it with --like.")
    if run and boxes:
        raise InputError(
            "--boxes writes no movies, so there is nothing that --run could process. Leave one of them out."
        )
    made = made_specimen(wanted, settings)
    for line in made.told:
        sys.stdout.write(line + "\n")
    if boxes:
        return _write_boxes(
            folder,
            boxes,
            (box_size, box_voxel_size),
            made.scene,
            made.params,
            None if made.species is None else list(made.species),
            as_json=as_json,
        )
    started = time.monotonic()
    camera = None if mtf is None else read_camera_mtf(mtf)
    with shown_progress() as progress, progress:
        written = write_simulation(
            folder,
            made.params,
            (2 if run else 1) if series is None else series,
            species=made.species,
            scene=made.scene,
            mtf=camera,
            truth=options,
            progress=movie_counter(progress),
        )
    if run:
        return show_twin(folder, written, made, TwinOptions(device=device, workers=workers, as_json=as_json), started)
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
