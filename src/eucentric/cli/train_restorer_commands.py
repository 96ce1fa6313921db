"""`eucentric denoise train` and `eucentric fill-wedge train`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.restore_one import check_tilt_range
from eucentric.cli.training_lines import shown_steps
from eucentric.denoising.learned.params import RestorerTraining, WedgeTraining
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.train_restorer_files import TrainingSource


def train_denoiser(
    target: Path | None = None,
    /,
    *,
    output: Path,
    half1: Annotated[list[Path] | None, SEVERAL] = None,
    half2: Annotated[list[Path] | None, SEVERAL] = None,
    tilt_range: tuple[float, float] | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    start: str = "shipped",
    mask: Path | None = None,
    pixel_size: float | None = None,
    settings: Annotated[RestorerTraining | None, SETTINGS] = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
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
    half1
        first half volumes, where there is no project
    half2
        second half volumes, in the same order
    tilt_range
        degrees, lowest and highest tilt of these; measured in them where not given
    only
        names of tomograms to learn from; wildcards allowed
    start
        model to start from: a file, `shipped` for the general one that comes with the program, or `none`
    mask
        volume of the tomograms' shape, above 0 where is learned from; or a folder with one for each, NAME.mrc
    pixel_size
        A per voxel of volumes whose headers hold none
    seed
        same seed, same model
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a model that exists
    """
    del debug  # read by the program itself
    return _train(
        _sources(target, half1, half2, tilt_range, only),
        output,
        settings or RestorerTraining(),
        start=start,
        mask=mask,
        pixel_size=pixel_size,
        seed=seed,
        device=device,
        overwrite=overwrite,
        as_json=as_json,
    )


def train_filler(
    target: Path | None = None,
    /,
    *,
    output: Path,
    half1: Annotated[list[Path] | None, SEVERAL] = None,
    half2: Annotated[list[Path] | None, SEVERAL] = None,
    tilt_range: tuple[float, float] | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    start: str = "shipped",
    mask: Path | None = None,
    pixel_size: float | None = None,
    settings: Annotated[WedgeTraining | None, SETTINGS] = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
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
    half1
        first half volumes, where there is no project
    half2
        second half volumes, in the same order
    tilt_range
        degrees, lowest and highest tilt of these; measured in them where not given
    only
        names of tomograms to learn from; wildcards allowed
    start
        model to start from: a file, `shipped` for the general one that comes with the program, or `none`
    mask
        volume of the tomograms' shape, above 0 where is learned from; or a folder with one for each, NAME.mrc
    pixel_size
        A per voxel of volumes whose headers hold none
    seed
        same seed, same model
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a model that exists
    """
    del debug
    return _train(
        _sources(target, half1, half2, tilt_range, only),
        output,
        settings or WedgeTraining(),
        start=start,
        mask=mask,
        pixel_size=pixel_size,
        seed=seed,
        device=device,
        overwrite=overwrite,
        as_json=as_json,
    )


def _sources(
    target: Path | None,
    half1: list[Path] | None,
    half2: list[Path] | None,
    tilt_range: tuple[float, float] | None,
    only: list[str] | None,
) -> "list[TrainingSource]":
    from eucentric.geometry import TiltGeometry
    from eucentric.models.tomogram_frames import tomogram_name
    from eucentric.pipeline.train_restorer_files import TrainingSource, training_sources

    if target is not None:
        if half1 or half2 or tilt_range:
            raise InputError("Give either a project or table, or volumes with --half1 and --half2.")
        return training_sources(target, only)
    ones, twos = half1 or [], half2 or []
    if not ones or len(ones) != len(twos):
        raise InputError(
            f"{len(ones)} first and {len(twos)} second halves were given; expected a project, or as many of one as of the other."
        )
    for path in (*ones, *twos):
        if not path.is_file():
            raise InputError(f"`{path}` does not exist. Give an MRC volume.")
    check_tilt_range(tilt_range)
    geometry = None if tilt_range is None else TiltGeometry.build(tilt_range)
    return [
        TrainingSource(name=tomogram_name(one.name).partition("_half")[0], half1=one, half2=two, geometry=geometry)
        for one, two in zip(ones, twos, strict=True)
    ]


def _train(
    sources: "list[TrainingSource]",
    output: Path,
    params: RestorerTraining,
    *,
    start: str,
    mask: Path | None,
    pixel_size: float | None,
    seed: int,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> int:
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.train_restorer_files import train_restorer_files

    made = train_restorer_files(
        sources,
        output,
        params,
        device=resolve_device(device),
        start=start,
        mask=mask,
        pixel_size=pixel_size,
        seed=seed,
        overwrite=overwrite,
        on_step=shown_steps(),
    )
    sys.stdout.write(
        f"{made.steps} steps on {', '.join(made.tomograms)}; loss where it was not trained {made.before:.4f} before, "
        f"{made.after:.4f} after.\n"
    )
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.model}.\n")
    if as_json:
        values = {"model": str(made.model), "tomograms": list(made.tomograms), "steps": made.steps}
        losses = {"loss_before": made.before, "loss_after": made.after}
        show_json({"exit_code": 0, **values, **losses, "caveats": list(made.caveats)})
    return 0
