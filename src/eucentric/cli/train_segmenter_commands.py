"""`eucentric segment train` and `eucentric segment apply`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_steps
from eucentric.errors import InputError
from eucentric.segmentation.learned.params import SegmenterParams, SegmenterUse

if TYPE_CHECKING:
    from eucentric.pipeline.apply_segmenter_files import SegmentedByModel
    from eucentric.pipeline.train_segmenter_files import SegmenterMade


def train(
    *targets: Path,
    labels: Annotated[list[Path], SEVERAL],
    output: Path,
    classes: Annotated[list[str] | None, SEVERAL] = None,
    complete: Switch = False,
    labelled_slices: Annotated[list[str] | None, SEVERAL] = None,
    ignore: int | None = None,
    held_out_tomogram: Annotated[list[str] | None, SEVERAL] = None,
    start: str | None = None,
    settings: Annotated[SegmenterParams | None, SETTINGS] = None,
    pixel_size: float | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Train a network to segment whatever was labelled: in a few slices, or everywhere.

    Voxel size, network, patches and batches follow from the labels, the tomograms and the memory, and are told. Labels that are held
    out judge the training and set each class's threshold: the score of the greatest Dice.
    A training that is stopped (Ctrl-C) goes on where it was when the same command is given again.

    Parameters
    ----------
    targets
        tomograms (`.mrc`), a project, or a table such as `reconstruct/tilt_series.star`
    labels
        label volumes (MRC, TIFF, OME-Zarr) of the tomograms' shape, IMOD models with contours, or a folder of them, named after the
        tomograms
    output
        model file to be made
    classes
        names of the numbers in the labels, in their order; or NAME=NUMBER (NAME=3,4 joins two) for those that are wanted, others then
        being background
    complete
        all is labelled: 0 is background everywhere. Without it only slices with any label are learned from
    labelled_slices
        those that are labelled, counted from 0, such as z=10,14,20-25 or y=7: of labels in slices of several directions, or where some
        slices show nothing of the classes
    ignore
        number in the labels that stands for unknown
    held_out_tomogram
        names of tomograms whose labels are held out, in place of a share of all
    start
        model to start from: a file, or `shipped` for that of membranes
    pixel_size
        A per voxel, of tomograms whose headers hold none
    seed
        same seed, same model
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace a model that exists
    """
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.train_segmenter_files import LabelsGiven, train_segmenter_files

    del debug  # read by the program itself
    if not targets:
        raise InputError("Nothing to train on was given. Give tomograms, or a project, and --labels.")
    given = LabelsGiven(
        files=labels, classes=classes or (), complete=complete, slices=labelled_slices or (), ignore=ignore
    )
    made = train_segmenter_files(
        targets,
        given,
        output,
        settings or SegmenterParams(),
        device=resolve_device(device),
        held_out=held_out_tomogram or (),
        start=start,
        pixel_size=pixel_size,
        seed=seed,
        overwrite=overwrite,
        on_plan=_tell_plan,
        on_step=shown_steps(),
    )
    return _tell_model(made, as_json=as_json)


def _tell_plan(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _tell_model(made: "SegmenterMade", *, as_json: bool) -> int:
    sys.stdout.write(f"{made.steps} steps: {made.plan.in_words()}.\n")
    for number, one in enumerate(made.qualities, 1):
        told = "nothing was held out" if one.dice is None else f"Dice {one.dice:.2f} on {made.held_out}"
        sys.stdout.write(f"{number} {one.name}: {told}, threshold {one.threshold:.2f}\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.model}.\n")
    if as_json:
        plan = made.plan
        classes = [
            {"number": n, "name": q.name, "threshold": q.threshold, "dice": q.dice}
            for n, q in enumerate(made.qualities, 1)
        ]
        values: dict[str, Any] = {
            "model": str(made.model),
            "tomograms": list(made.tomograms),
            "classes": classes,
            "held_out": made.held_out,
            "steps": made.steps,
            "voxel_size_angstrom": plan.voxel_size_angstrom,
            "network": plan.network.model_dump(),
            "patch_size": plan.patch_size,
            "batch_size": plan.batch_size,
            "caveats": list(made.caveats),
        }
        show_json({"exit_code": 0, **values})
    return 0


def apply(
    target: Path,
    /,
    *,
    model: str,
    name: str = "learned",
    output: Path | None = None,
    settings: Annotated[SegmenterUse | None, SETTINGS] = None,
    protect: Path | None = None,
    scores: Switch = False,
    truth: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    pixel_size: float | None = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Label tomograms with a trained network: one volume each, with the number of a class in every voxel, or of an instance.

    Of several classes whose scores are above their thresholds a voxel gets the one that is farthest above (log odds).

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    model
        file that `eucentric segment train` made; `shipped` knows membranes
    name
        of the labels: they go to segment/NAME of the project
    output
        folder to be made instead, for labels/TOMOGRAM.mrc and classes.csv; or of one tomogram the label volume (`.mrc`, `.tif`,
        `.zarr`), its tables beside it
    protect
        volume of the tomogram's shape, above 0 where nothing is labelled; or a folder with one for each, NAME.mrc
    scores
        write the scores of each class too, to choose --threshold by
    truth
        labels with the numbers that the model was trained on, or a folder of them: Dice of each class is told, slices trained
        on left out
    only
        names of tomograms to work on; wildcards allowed
    pixel_size
        A per voxel of a tomogram whose header holds none
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.apply_segmenter_files import apply_segmenter_files
    from eucentric.pipeline.threshold_files import TomogramChoice

    del debug
    choice = TomogramChoice(target=target, only=only, pixel_size_angstrom=pixel_size, device=resolve_device(device))
    made = apply_segmenter_files(
        choice,
        model,
        _place(target, name, output),
        settings or SegmenterUse(),
        protect=protect,
        scores=scores,
        truth=truth,
        overwrite=overwrite,
    )
    return _tell_labels(made, as_json=as_json)


def _place(target: Path, name: str, output: Path | None) -> Path:
    if output is not None:
        return output
    if not target.is_dir():
        raise InputError("Give --output for the labels: only a project has a place for them.")
    return target / "segment" / name


def _tell_labels(made: "SegmentedByModel", *, as_json: bool) -> int:
    numbers = ", ".join(f"{number} {name}" for number, name in made.classes.items())
    meaning = f"Numbers are instances, listed in {made.objects}; classes: " if made.objects else "Labels: "
    sys.stdout.write(f"{meaning}{numbers}\n")
    failed = False
    for tomogram, figures in made.tomograms.items():
        if "error" in figures:
            failed = True
            sys.stdout.write(f"{tomogram}: {figures['error']}\n")
            continue
        parts = []
        for place, (name, voxels) in enumerate(figures["voxels"].items()):
            count = f"{figures['objects'][place]} of " if figures["objects"] else ""
            parts.append(f"{count}{name} {100 * voxels / figures['size']:.2f}%")
        sys.stdout.write(f"{tomogram}: {', '.join(parts)} of the volume\n")
    for tomogram, dice in made.dice.items():
        shown = ", ".join(f"{name} {'none' if value is None else format(value, '.2f')}" for name, value in dice.items())
        sys.stdout.write(f"{tomogram}: Dice where no label was trained on: {shown}\n")
    for caveat in made.caveats:
        sys.stdout.write(f"{caveat}\n")
    sys.stdout.write(f"Wrote {made.table}.\n")
    if as_json:
        values = {
            "table": str(made.table),
            "objects": None if made.objects is None else str(made.objects),
            "classes": made.classes,
            "tomograms": made.tomograms,
            "dice": made.dice,
            "caveats": list(made.caveats),
        }
        show_json({"exit_code": int(failed), **values})
    return int(failed)
