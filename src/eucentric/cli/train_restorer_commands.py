"""`eucentric denoise train` and `eucentric fill-wedge train`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_steps
from eucentric.cli.restore_one import check_tilt_range
from eucentric.denoising.learned.params import RestorerTraining, WedgeTraining
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.train_restorer_files import TrainingSource


_HALVES = Group("Volumes without a project")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What both trainings take."""

    only: Annotated[list[str] | None, SEVERAL] = None
    """names of tomograms to learn from; wildcards allowed"""
    start: str = "shipped"
    """model to start from: a file, `shipped` for the general one that comes with the program, or `none`"""
    mask: Path | None = None
    """volume of the tomograms' shape, above 0 where is learned from; or a folder with one for each, NAME.mrc"""
    seed: int = 0
    """same seed, same model"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n"""
    overwrite: Switch = False
    """replace a model that exists"""
    as_json: AsJson = False
    debug: Debug = False
    half1: Annotated[list[Path] | None, SEVERAL, Parameter(group=_HALVES)] = None
    """first half volumes"""
    half2: Annotated[list[Path] | None, SEVERAL, Parameter(group=_HALVES)] = None
    """second half volumes, in the same order"""
    tilt_range: Annotated[tuple[float, float] | None, Parameter(group=_HALVES)] = None
    """degrees, lowest and highest tilt; measured in the volumes where not given"""
    pixel_size: Annotated[float | None, Parameter(group=_HALVES)] = None
    """A per voxel, where headers hold none"""


_DEFAULT = TrainOptions()


def train_denoiser(
    target: Path | None = None,
    /,
    *,
    output: Path,
    settings: Annotated[RestorerTraining | None, SETTINGS] = None,
    options: TrainOptions = _DEFAULT,
) -> int:
    """Train a network to denoise, from one half of tomograms to the other (noise to noise).

    Halves of even and odd frames show the same; halves of even and odd tilts differ in what they measured, which a network learns to
    blur. A training that is stopped (Ctrl-C) goes on where it was when the same command is given again.

    Parameters
    ----------
    target
        project or table such as `reconstruct/tilt_series.star`; all tomograms of it train one model
    output
        model file to be made
    """
    return _train(target, output, settings or RestorerTraining(), options)


def train_filler(
    target: Path | None = None,
    /,
    *,
    output: Path,
    settings: Annotated[WedgeTraining | None, SETTINGS] = None,
    options: TrainOptions = _DEFAULT,
) -> int:
    """Train a network to fill the missing wedge, on the tomograms themselves.

    Tomograms are filled, turned, and cut as the microscope cuts; the network learns to undo it, against the other half.
    A training that is stopped (Ctrl-C) goes on where it was when the same command is given again.

    Parameters
    ----------
    target
        project or table such as `reconstruct/tilt_series.star`; all tomograms of it train one model
    output
        model file to be made
    """
    return _train(target, output, settings or WedgeTraining(), options)


def _sources(target: Path | None, options: TrainOptions) -> "list[TrainingSource]":
    from eucentric.geometry import TiltGeometry
    from eucentric.models.tomogram_frames import tomogram_name
    from eucentric.pipeline.train_restorer_files import TrainingSource, training_sources

    if target is not None:
        if options.half1 or options.half2 or options.tilt_range:
            raise InputError("Give either a project or table, or volumes with --half1 and --half2.")
        return training_sources(target, options.only)
    ones, twos = options.half1 or [], options.half2 or []
    if not ones or len(ones) != len(twos):
        raise InputError(
            f"{len(ones)} first and {len(twos)} second halves were given; expected a project, or as many of one as of the other."
        )
    for path in (*ones, *twos):
        if not path.is_file():
            raise InputError(f"`{path}` does not exist. Give an MRC volume.")
    check_tilt_range(options.tilt_range)
    geometry = None if options.tilt_range is None else TiltGeometry.build(options.tilt_range)
    return [
        TrainingSource(name=tomogram_name(one.name).partition("_half")[0], half1=one, half2=two, geometry=geometry)
        for one, two in zip(ones, twos, strict=True)
    ]


def _train(target: Path | None, output: Path, params: RestorerTraining, options: TrainOptions) -> int:
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.train_restorer_files import train_restorer_files

    made = train_restorer_files(
        _sources(target, options),
        output,
        params,
        device=resolve_device(options.device),
        start=options.start,
        mask=options.mask,
        pixel_size=options.pixel_size,
        seed=options.seed,
        overwrite=options.overwrite,
        on_step=shown_steps(),
    )
    sys.stdout.write(
        f"{made.steps} steps on {', '.join(made.tomograms)}; loss where it was not trained {made.before:.4f} before, "
        f"{made.after:.4f} after.\n"
    )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.model}.\n")
    if options.as_json:
        values = {"model": str(made.model), "tomograms": list(made.tomograms), "steps": made.steps}
        losses = {"loss_before": made.before, "loss_after": made.after}
        show_json({"exit_code": 0, **values, **losses, "caveats": list(made.caveats)})
    return 0
