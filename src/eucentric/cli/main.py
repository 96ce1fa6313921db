"""The program `eucentric`: its commands, and what becomes of errors."""

import json
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Group

from eucentric import __version__
from eucentric.cli.acquisition_app import acquisition_app
from eucentric.cli.figure_app import figure_app
from eucentric.cli.particles_app import geometry_app, particles_app
from eucentric.errors import EucentricError
from eucentric.pipeline.stages import STAGES

_HELP = """Cryo-electron tomography from movies to maps.

Start with `eucentric import PROJECT --frames FOLDER --mdoc FOLDER`, then `eucentric run PROJECT`.
`eucentric demo FOLDER` shows all of it on simulated movies.
"""
_OWN_APPS = {
    "denoise": "eucentric.cli.denoise_app:app",
    "fill-wedge": "eucentric.cli.fill_wedge_app:app",
    "pick": "eucentric.cli.pick_app:app",
    "segment": "eucentric.cli.segment_app:app",
}
"""Of stages with further commands below them, or options that are more than their settings."""
_AVERAGING = {
    "extract": "Cut particles from tilt images, for other programs.",
    "initial-model": "Make a first map from picks alone, without reference or orientations.",
    "average": "Average particles into a map, with its resolution.",
    "classify": "Sort particles into classes, each with its map.",
    "refine": "Refine tilt series by the particles in them, and the particles' poses.",
    "symmetry": "Find the point group of a map by its half maps, and turn it into its frame.",
}
_MAPS = {
    "sharpen": "Undo the fall of a map's amplitudes, by its half maps.",
    "local-resolution": "Measure the resolution of a map from place to place.",
}
_FILAMENTS_AND_CELLS = {
    "helix": ("helix_command", "Find rise and twist of a filament in its map."),
    "map-back": ("map_back_command", "Put maps back where their particles lie in tomograms."),
    "correlate": ("correlate_command", "Register light microscopy to a tomogram or grid map by landmarks."),
    "project-map": ("project_map_command", "Project a map as picking templates, or write it for other programs."),
}


def make_app() -> App:
    """The commands, each loaded when it is called."""
    app = App(
        name="eucentric",
        help=_HELP,
        version=__version__,
        result_action="return_value",
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    project, stages, tools = (
        Group.create_ordered(name)
        for name in ("Whole project", "Stages: a project or a table in, a folder out", "Tools")
    )
    app.command(
        "eucentric.cli.import_command:import_files",
        name="import",
        help="Make a project from microscope files.",
        group=project,
    )
    app.command("eucentric.cli.run_command:run", name="run", help="Do all that is not done yet.", group=project)
    app.command(
        "eucentric.cli.status_command:status", name="status", help="Show what is done, failed or to do.", group=project
    )
    app.command(
        "eucentric.cli.live_command:live",
        name="live",
        help="Follow a microscope, and process each tilt series as it ends.",
        group=project,
        help_format="plaintext",
    )
    app.command(
        "eucentric.cli.doctor_command:doctor",
        name="doctor",
        help="Find what is wrong with a project's files or this machine, and how to mend it.",
        group=project,
        help_format="plaintext",
    )
    app.command(
        "eucentric.cli.view_command:view",
        name="view",
        help="Show the project in the browser.",
        group=project,
    )
    app.command(
        "eucentric.cli.demo_command:demo",
        name="demo",
        help="Simulate a data set, run every stage on it and score the results.",
        group=project,
    )
    app.command(
        "eucentric.cli.simulate_command:simulate",
        name="simulate",
        help="Write movies of a known specimen, and the truth about them.",
        group=project,
    )
    app.command(
        "eucentric.cli.plan_tilts_command:plan_tilts",
        name="plan-tilts",
        help="Propose a tilt scheme for a goal, and write it for the microscope.",
        group=project,
        help_format="plaintext",
    )
    app.command(
        "eucentric.cli.export_command:export",
        name="export",
        help="Write the project as a folder that another program opens.",
        group=project,
    )
    app.command(
        "eucentric.cli.score_command:score",
        name="score",
        help="Show how far each stage's results are from the truth.",
        group=project,
    )
    for order, entry in enumerate(STAGES):
        if entry.name in _OWN_APPS:
            app.command(_OWN_APPS[entry.name], name=entry.name, help=entry.help, group=stages, sort_key=order)
            continue
        target = f"eucentric.cli.stage_commands:{entry.name}"
        # plain text: settings are many, and reading each as Markdown takes longer than all else
        app.command(target, name=entry.name, help=entry.help, group=stages, sort_key=order, help_format="plaintext")
    for order, (name, text) in enumerate(_AVERAGING.items(), start=len(STAGES)):
        module = name.replace("-", "_")
        target = f"eucentric.cli.{module}_command:{module}"
        app.command(target, name=name, help=text, group=stages, sort_key=order, help_format="plaintext")
    app.command(
        "eucentric.cli.exclude_command:exclude", name="exclude", help="Leave a tilt out of all later work.", group=tools
    )
    app.command(
        "eucentric.cli.curate_command:curate",
        name="curate",
        help="Leave out tilts or series, edit picks, rate tomograms; undo, and show the log.",
        group=tools,
        help_format="plaintext",
    )
    app.command(
        "eucentric.cli.repair_command:repair",
        name="repair",
        help="Show, or make from a file, what is set by hand between stages: tracks, levels, drawings, labels.",
        group=tools,
        help_format="plaintext",
    )
    app.command(
        "eucentric.cli.reproject_command:reproject",
        name="reproject",
        help="Project a volume into images at any geometry.",
        group=tools,
    )
    app.command(
        "eucentric.cli.dual_axis_command:dual_axis",
        name="dual-axis",
        help="Combine two tomograms of one specimen tilted about two axes.",
        group=tools,
    )
    app.command(
        "eucentric.cli.correct_stack_command:correct_stack",
        name="correct-stack",
        help="Write tilt stacks corrected for their contrast transfer.",
        group=tools,
    )
    app.command(
        "eucentric.cli.boxes_command:boxes",
        name="boxes",
        help="Reconstruct small boxes anywhere in a series, without its tomogram.",
        group=tools,
    )
    for name, text in _MAPS.items():
        target = f"eucentric.cli.map_commands:{name.replace('-', '_')}"
        app.command(target, name=name, help=text, group=tools, help_format="plaintext")
    for name, (module, text) in _FILAMENTS_AND_CELLS.items():
        target = f"eucentric.cli.{module}:{name.replace('-', '_')}"
        app.command(target, name=name, help=text, group=tools, help_format="plaintext")
    app.command(acquisition_app(tools))
    app.command(figure_app(tools))
    app.command(particles_app(tools))
    app.command(geometry_app(tools))
    app.command(
        "eucentric.cli.pick_blobs_command:pick_blobs",
        name="pick-blobs",
        help="Pick round things of a size, without a template.",
        group=tools,
    )
    app.command(
        "eucentric.cli.convert_command:convert",
        name="convert",
        help="Write tilt series, particles or volumes in another program's format.",
        group=tools,
    )
    app.command(
        "eucentric.cli.validate_command:validate",
        name="validate",
        help="Check files and list every fault.",
        group=tools,
    )
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the program; the exit code: 0 done, 1 some items failed, 2 wrong input, 130 interrupted."""
    debug = "--debug" in arguments
    try:
        code = make_app()(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return _tell(_explained(error), arguments, 2)
    except KeyboardInterrupt as stop:
        return _tell(str(stop) or "Stopped.", arguments, 130)
    except EucentricError as error:
        if debug:
            traceback.print_exc()
        return _tell(str(error), arguments, 2)
    except BrokenPipeError:  # the reader of a pipe went away
        sys.stderr.close()
        return 1
    except Exception as error:  # noqa: BLE001 - the last line of defence: words for the user, the place with --debug
        if debug:
            traceback.print_exc()
        text = f"Eucentric stopped at an error that nobody foresaw: {type(error).__name__}: {error!s:.300}."
        return _tell(f"{text} Run again with --debug to see where, and report it.", arguments, 1)
    return code if isinstance(code, int) else 0


def _explained(error: CycloptsError) -> str:
    """A fault of the command line in our words."""
    from pydantic import ValidationError

    from eucentric.cli.settings_models import model_of

    cause = error.__cause__ or error.__context__
    command = " ".join(error.command_chain or ())
    if isinstance(cause, ValidationError):
        from eucentric.cli.options import option_name
        from eucentric.pipeline.explain import explain_validation_error

        model = model_of(command)
        if model is not None:
            explained = explain_validation_error(
                cause, model, "the command", shown_as=lambda field: f"--{option_name(field)}"
            )
            return str(explained)
    text = str(error).strip().rstrip(".")
    return f"{text}{'' if text.endswith('?') else '.'} See `eucentric {command + ' ' if command else ''}--help`."


def _tell(text: str, arguments: Sequence[str], code: int) -> int:
    sys.stderr.write(text + "\n")
    if "--json" in arguments:
        sys.stdout.write(json.dumps({"exit_code": code, "error": text}, ensure_ascii=False) + "\n")
    return code


def main() -> NoReturn:
    """Entry point of the installed program."""
    sys.exit(run(sys.argv[1:]))
