"""`eucentric refine`: tilt series by the particles in them."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_parts
from eucentric.refinement.params import RefineParams


def refine(
    averages: Annotated[list[Path], SEVERAL],
    /,
    *,
    output: Path,
    series: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    settings: Annotated[RefineParams | None, SETTINGS] = None,
    device: str = "auto",
    workers: int = 1,
    cluster: str = "local",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Refine tilt series by the particles in them, and the particles: geometry, deformation, contrast transfer, poses.

    Predicted images of all particles of all species are compared with the tilt images. Shifts, angles, deformation of images and
    specimen, magnification, defocus and aberrations are changed in groups, and a group is kept only where particles that were held
    out of its fit gain from it. Maps are then made anew, in rounds, until they get no better; a round that makes them worse is taken
    back.

    Writes tilt_series.star with its tables and warps (for `reconstruct`, `extract`, `average --series`), a folder as `eucentric
    average` makes it for each species, and refine.json. Every round is kept in rounds/, and the same command goes on where it was
    interrupted.

    Parameters
    ----------
    averages
        folders of `eucentric average`, one for each species, or of an earlier refinement; all of the same tilt series
    output
        folder to be made, in the project: PROJECT/refine/NAME
    series
        aligned series in place of those that the averages were made of
    only
        names of series to refine; the others stay as they are, and their particles still count in the maps
    device
        auto, cpu, cuda or cuda:n
    workers
        processes among which series are shared
    cluster
        local, slurm, or the address of a Dask scheduler such as tcp://host:8786
    overwrite
        replace what was made with other settings
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.executors import shared_work
    from eucentric.pipeline.refine import refine as refine_averages

    del debug  # read by the program itself
    with shared_work(cluster, workers) as executor:
        made = refine_averages(
            averages,
            output,
            settings or RefineParams(),
            device=resolve_device(device),
            executor=executor,
            table=series,
            only=only or (),
            overwrite=overwrite,
            on_step=shown_parts(),
        )
    history = made.state.history
    for entry in history[1:]:
        words = ", ".join(f"{name} {_angstrom(of['resolution_angstrom'])}" for name, of in entry["species"].items())
        sys.stdout.write(f"Round {entry['number']}: {words}{'' if entry['accepted'] else '; taken back'}.\n")
    for name, memory in made.state.memory.items():
        kept = ", ".join(_words(t) for t in memory.trials if t.accepted)
        sys.stdout.write(f"{name}: {kept or 'nothing was borne out by held-out particles; it stays as it was'}.\n")
    for name, of in history[0]["species"].items():
        after = made.results[name].correlation.resolution_angstrom
        sys.stdout.write(
            f"{name}, {of['particles']} particles: {_angstrom(of['resolution_angstrom'])} before, {_angstrom(after)} after "
            "(FSC 0.143 between halves).\n"
        )
    sys.stdout.write(f"Wrote {made.folder}.\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    code = 1 if made.failed else 0
    if as_json:
        show_json(
            {"exit_code": code, "folder": str(made.folder), "history": list(history), "caveats": list(made.caveats)}
        )
    return code


def _words(trial: Any) -> str:
    size = f" {trial.rms:.2g} {trial.unit} rms" if math.isfinite(trial.rms) else ""
    return f"{trial.name}{size} (+{trial.gain:.0f} ± {trial.sigma:.0f})"


def _angstrom(resolution: float | None) -> str:
    known = resolution is not None and math.isfinite(resolution)
    return f"{resolution:.1f} A" if known else "no agreement of the halves"
