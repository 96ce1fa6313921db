"""`eucentric demo`."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from eucentric.cli.options import RunOptions, Switch, run_and_show, show_json, show_summary, shown_progress
from eucentric.cli.score_command import find_truth_files, scores_as_json, show_scores
from eucentric.cli.simulate_command import movie_counter
from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.pipeline.summary import RunSummary
from eucentric.simulation.params import SimulationParams

_DEFAULT = RunOptions()
_SETTINGS_FILE = "simulation.json"
_PICK = "pick"
_PICKING = {"name": "particles", "coarse_step_deg": 20.0}  # twice the usual step: a demo is short


def demo_settings(short: bool) -> SimulationParams:
    """What the demo simulates; the short one has a field half as large and half as many tilts, of the same dose."""
    if not short:
        return SimulationParams()
    return SimulationParams(
        image_size_px=(320, 320), tilt_step_deg=6.0, dose_per_tilt=6.0, particles_per_species=(12, 18)
    )


def demo(
    folder: Path,
    /,
    *,
    short: Switch = False,
    options: RunOptions = _DEFAULT,
) -> int:
    """Simulate a tilt series, take it through every stage, and show how far the results are from the truth.

    The same command goes on where it was stopped, and shows a finished demo again.

    Parameters
    ----------
    folder
        folder to make: movies and truth in `data`, results in `project`
    short
        smaller images and fewer tilts
    """
    # here, so that --help does not load torch
    from eucentric.cli.import_command import show_findings, write_project
    from eucentric.pipeline.importing import plan_import
    from eucentric.pipeline.runner import run_project

    data, project = folder / "data", folder / "project"
    _make_data(data, demo_settings(short), options.overwrite)
    found = plan_import([str(data / "frames")], [str(data)], gain=data / "gain.mrc")
    show_findings(found.findings)
    write_project(project, found)
    _choose_templates(project, data)
    return run_and_show(partial(run_project, project), options, partial(_show_results, data=data, project=project))


def _choose_templates(project: Path, data: Path) -> None:
    """Let the project's plan pick the largest of the molecules that were simulated, unless it has templates."""
    from eucentric.io.tilt_series import relative_path
    from eucentric.pipeline.plan import Plan

    plan = Plan.load(project)
    if not plan.params(_PICK).templates:
        largest = max((data / "references").glob("*.mrc"), key=lambda file: file.stat().st_size)
        plan.save(_PICK, {"templates": [relative_path(largest, project)], **_PICKING})


def _make_data(data: Path, params: SimulationParams, overwrite: bool) -> None:
    """The demo's movies, unless they are there. The settings are written first, the truth last."""
    from eucentric.pipeline.simulate_project import simulate

    settings, wanted = data / _SETTINGS_FILE, params.model_dump_json(indent=1) + "\n"
    if data.is_dir() and any(data.iterdir()):
        if not settings.is_file() or settings.read_text(encoding="utf-8") != wanted:
            raise InputError(
                f"`{data}` holds other files than those of this demo. Name another folder, or remove this one; "
                "a demo made with --short goes on with --short."
            )
        if any(data.glob("*_truth.json")) and not overwrite:
            return
    write_text_atomic(settings, wanted)
    with shown_progress() as progress, progress:
        written = simulate(data, params, progress=movie_counter(progress))
    sys.stdout.write(f"Simulated {sum(len(one.movies) for one in written)} movies in `{data}`.\n")


def _show_results(summary: RunSummary, options: RunOptions, data: Path, project: Path) -> int:
    """Tell what the run did, the scores, and where the report is."""
    from eucentric.pipeline.scoring import score_project

    code = show_summary(summary, replace(options, as_json=False))
    rows = []
    if code == 0:
        rows = score_project(project, find_truth_files([data]))
        sys.stdout.write("\nDistance from the truth:\n")
        show_scores(rows)
    else:
        sys.stdout.write(f"Not scored. What is done is: eucentric score {project} --truth {data}\n")
    report = project / "report" / "index.html"
    if report.is_file():
        sys.stdout.write(f"The report is `{report}`.\n")
    if options.as_json:
        values = json.loads(summary.to_json())
        values["scores"] = scores_as_json(rows)
        values["report"] = str(report) if report.is_file() else None
        show_json(values)
    return code
