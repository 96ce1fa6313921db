"""`eucentric simulate`."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from eucentric.cli.options import shown_progress
from eucentric.errors import InputError
from eucentric.pipeline import simulate_project
from eucentric.pipeline.progress import RunProgress
from eucentric.simulation.params import SimulationParams

_SETTINGS = Group("Settings", sort_key=1)


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
    structure: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    settings: Annotated[
        SimulationParams | None, Parameter(name="*", group=_SETTINGS, negative_iterable=(), consume_multiple=True)
    ] = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    debug: Annotated[bool, Parameter(negative=())] = False,
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
    as_json
        write the result as JSON in the last line
    debug
        show where an error came from
    """
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
        sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
    return 0
