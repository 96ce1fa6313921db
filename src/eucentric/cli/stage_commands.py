"""One command a stage; its options are the fields of its settings, with their units, defaults and reasons."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

from eucentric.cli.ctf_command import ctf_command
from eucentric.cli.options import SETTINGS, RunOptions, run_and_show
from eucentric.cli.setting_groups import GROUPS, grouped_settings
from eucentric.pipeline.stages import STAGES, StageEntry, load_settings

_DEFAULT = RunOptions()


@cache
def stage_command(entry: StageEntry) -> Callable[..., int]:
    """The command of a stage."""
    if entry.name == "ctf":
        return ctf_command(load_settings(entry))

    def command(
        target: Path, /, *, output: str | None = None, settings: Any = None, options: RunOptions = _DEFAULT
    ) -> int:
        from eucentric.pipeline.runner import run_stage

        changes = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
        return run_and_show(partial(run_stage, target, entry.name, changes, output), options)

    command.__name__ = entry.name
    command.__doc__ = f"""{entry.help}

    Settings that are not given are those of the project's `eucentric.toml`; given ones are written to it, unless the
    results go to another folder with --output.

    Parameters
    ----------
    target
        project, or a table such as `motion/tilt_series.star`
    output
        folder in the project for a variant of the results, kept beside the usual ones
    """
    model = load_settings(entry)
    if entry.name in GROUPS:
        model = grouped_settings(model, GROUPS[entry.name])
    # The settings class is known only now; cyclopts reads it from here.
    command.__annotations__["settings"] = Annotated[model | None, SETTINGS]
    return command


def __getattr__(name: str) -> Callable[..., int]:
    for entry in STAGES:
        if entry.name == name:
            return stage_command(entry)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
