"""`eucentric ctf`: the stage on a project, or single images."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from eucentric.cli.options import SETTINGS, RunOptions, option_name, run_and_show, show_json
from eucentric.errors import InputError

_IMAGES = Group("Single images", sort_key=1)
_ENDINGS = (".mrc", ".mrcs", ".st", ".ali", ".tif", ".tiff", ".eer", ".dm3", ".dm4", ".gz", ".bz2")
_OF_SERIES = ("method", "hand", "inclination", "maximum_inclination_deg")
"""Settings that mean nothing for an image alone."""
_DEFAULT = RunOptions()
_Sections = Literal["auto", "sum", "each", "particles"]


def ctf_command(model: Any) -> Callable[..., int]:
    """The command, with the fields of the stage's settings as options."""

    def ctf(
        *targets: Path,
        output: str | None = None,
        pixel_size: Annotated[float | None, Parameter(group=_IMAGES)] = None,
        voltage: Annotated[float | None, Parameter(group=_IMAGES)] = None,
        spherical_aberration: Annotated[float | None, Parameter(group=_IMAGES)] = None,
        amplitude_contrast: Annotated[float | None, Parameter(group=_IMAGES)] = None,
        sections: Annotated[_Sections, Parameter(group=_IMAGES)] = "auto",
        gain: Annotated[Path | None, Parameter(group=_IMAGES)] = None,
        table: Annotated[Path | None, Parameter(group=_IMAGES)] = None,
        pictures: Annotated[Path | None, Parameter(group=_IMAGES)] = None,
        settings: Any = None,
        options: RunOptions = _DEFAULT,
    ) -> int:
        """Fit defocus and astigmatism of every tilt of a project, or of single images.

        Settings that are not given are those of the project's `eucentric.toml`; given ones are written to it, unless the
        results go to another folder with --output.

        Parameters
        ----------
        targets
            project, or a table such as `align/tilt_series.star`; or images: micrographs, movies, stacks, particles
        output
            folder in the project for a variant of the results, kept beside the usual ones
        pixel_size
            A; goes before what files say
        voltage
            kV; 300 where neither this nor a file says
        spherical_aberration
            mm; 2.7 where not given
        amplitude_contrast
            fraction; 0.07 where not given
        sections
            what the images of a file with several are: frames to be summed, images each on its own, particles of one defocus
        gain
            gain reference that frames are multiplied by
        table
            STAR table to write
        pictures
            folder for pictures of spectra and curves
        """
        if not targets:
            raise InputError("Nothing was given to work on. Give a project, or images.")
        if any(t.name.lower().endswith(_ENDINGS) for t in targets):
            if output is not None:
                raise InputError(
                    "--output names a folder in a project, and images were given. Choose --table or --pictures."
                )
            _refuse_for_images(set() if settings is None else settings.model_fields_set)
            return _single(
                targets, settings, model, options, table, pictures,
                pixel_size_angstrom=pixel_size, voltage_kv=voltage, spherical_aberration_mm=spherical_aberration,
                amplitude_contrast=amplitude_contrast, sections=sections, gain=gain,
            )  # fmt: skip
        if len(targets) > 1:
            raise InputError(f"{len(targets)} projects were given; expected one, or images such as `micrograph.mrc`.")
        _refuse_for_projects(
            pixel_size=pixel_size, voltage=voltage, spherical_aberration=spherical_aberration,
            amplitude_contrast=amplitude_contrast, sections=None if sections == "auto" else sections, gain=gain,
            table=table, pictures=pictures,
        )  # fmt: skip
        from eucentric.pipeline.runner import run_stage

        changes = {} if settings is None else {name: getattr(settings, name) for name in settings.model_fields_set}
        return run_and_show(partial(run_stage, targets[0], "ctf", changes, output), options)

    ctf.__annotations__["settings"] = Annotated[model | None, SETTINGS]
    return ctf


def _refuse_for_projects(**given: Any) -> None:
    """Options of single images change nothing in a project, and a user who gave one would think they had."""
    named = [f"--{option_name(name)}" for name, value in given.items() if value is not None]
    if named:
        raise InputError(
            f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} for single images. A project has its pixel size, "
            "optics and gain from its import: to correct them, import again."
        )


def _refuse_for_images(given: set[str]) -> None:
    named = [f"--{option_name(name)}" for name in _OF_SERIES if name in given]
    if named:
        raise InputError(
            f"{' and '.join(named)} {'is' if len(named) == 1 else 'are'} for tilt series, and images were given. Leave "
            f"{'it' if len(named) == 1 else 'them'} out."
        )


def _single(
    targets: tuple[Path, ...],
    settings: Any,
    model: Any,
    options: RunOptions,
    table: Path | None,
    pictures: Path | None,
    **about: Any,
) -> int:
    """Measure images and show a line for each; 1 where one of them could not be read."""
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.measure_images import image_table, measure_images, write_images

    def show(row: Any) -> None:
        fit = row.fit
        found = (
            ""
            if fit is None
            else f"defocus {fit.defocus_u_angstrom:.0f} and {fit.defocus_v_angstrom:.0f} A, the larger at "
            f"{fit.astigmatism_angle_deg:.0f} degrees, +- {fit.defocus_sigma_angstrom:.0f} A; "
        )
        sys.stdout.write(f"{row.name}: {found}{row.verdict}. {row.message}\n")

    rows = measure_images(
        targets,
        params=settings or model(),
        pictures=pictures is not None,
        device=resolve_device(options.device),
        report=show,
        **about,
    )
    for note in dict.fromkeys(c for row in rows for c in row.caveats if c not in row.message):
        sys.stdout.write(f"note: {note}\n")
    for path in write_images(rows, table=table, folder=pictures):
        sys.stdout.write(f"written: `{path}`\n")
    code = 1 if any(row.verdict == "unreadable" for row in rows) else 0
    if options.as_json:
        columns = image_table(rows)
        shown = {name: [None if v != v else v for v in values] for name, values in columns.items()}
        show_json({"exit_code": code, "images": shown})
    return code
