"""`eucentric simulate`."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json, shown_progress
from eucentric.errors import InputError
from eucentric.pipeline.progress import RunProgress
from eucentric.simulation.params import SimulationParams


def movie_counter(progress: RunProgress) -> Callable[[int, int], None]:
    """What the simulator calls after every movie, shown as the progress of a run."""
    before = time.monotonic()

    def step(done: int, total: int) -> None:
        nonlocal before
        now = time.monotonic()
        if done == 1:
            progress.begin({"movies": total}, 1)
        progress.item_ended("movies", "simulating", now - before)
        if done < total:
            progress.item_started("movies", "simulating")
        before = now

    return step


def simulate(
    folder: Path,
    /,
    *,
    series: int = 1,
    structure: Annotated[list[Path] | None, SEVERAL] = None,
    settings: Annotated[SimulationParams | None, SETTINGS] = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write movies, mdocs and a gain reference as a microscope would, and the truth about them.

    Parameters
    ----------
    folder
        folder to make
    series
        number of tilt series; all that is random differs from one to the next
    structure
        PDB or mmCIF files, one a species, in place of the built-in macromolecules
    overwrite
        write into a folder that holds files; those of the same name are replaced
    """
    from eucentric.pipeline import simulate_project  # here, so that --help does not load torch

    del debug  # read by the program itself
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"`{folder}` holds files already; expected a new folder. Name another one, or add --overwrite."
        )
    if structure is not None and not structure:
        raise InputError("--structure is without a file; expected PDB or mmCIF files, one a species.")
    params = SimulationParams() if settings is None else settings
    with shown_progress() as progress, progress:
        written = simulate_project.simulate(
            folder, params, series, structures=structure, progress=movie_counter(progress)
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
