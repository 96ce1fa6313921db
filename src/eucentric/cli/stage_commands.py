"""One command a stage; its options are the fields of its settings, with their units, defaults and reasons."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from eucentric.cli.options import RunOptions, show_interrupted, show_summary, shown_progress
from eucentric.pipeline.runner import run_stage
from eucentric.pipeline.stage import AnyStage
from eucentric.pipeline.stages import STAGES, load_stage
from eucentric.pipeline.summary import RunInterrupted

_DEFAULT = RunOptions()
_SETTINGS = Group("Settings", sort_key=0)


@cache
def stage_command(stage: AnyStage) -> Callable[..., int]:
    """The command of a stage."""

    def command(
        target: Path, /, *, output: str | None = None, settings: Any = None, options: RunOptions = _DEFAULT
    ) -> int:
        changes = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
        try:
            with shown_progress() as progress:
                summary = run_stage(
                    target,
                    stage.name,
                    changes,
                    output,
                    only=options.only,
                    workers=options.workers,
                    cluster=options.cluster,
                    device=options.device,
                    overwrite=options.overwrite,
                    progress=progress,
                )
        except RunInterrupted as stop:
            return show_interrupted(stop, options)
        return show_summary(summary, options)

    command.__name__ = stage.name
    text = (stage.__doc__ or stage.name).strip()
    command.__doc__ = f"""{text}

    Settings that are not given are those of the project's `eucentric.toml`; given ones are written to it, unless the
    results go to another folder with --output.

    Parameters
    ----------
    target
        project, or a table such as `motion/tilt_series.star`
    output
        folder in the project for a variant of the results, kept beside the usual ones
    """
    # The settings class is known only now; cyclopts reads it from here.
    command.__annotations__["settings"] = Annotated[stage.params | None, Parameter(name="*", group=_SETTINGS)]
    return command


def __getattr__(name: str) -> Callable[..., int]:
    for entry in STAGES:
        if entry.name == name:
            return stage_command(load_stage(entry))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
