"""`eucentric segment apply` on files: a model and tomograms in, label volumes and tables out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.errors import InputError
from eucentric.io.csv_tables import write_csv_table
from eucentric.io.mrc import write_mrc
from eucentric.models import TomogramFrame
from eucentric.networks.model_file import Model, model_from_bytes
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.given_labels import pair_labels
from eucentric.pipeline.label_files import LabelArray, read_labels, write_labels
from eucentric.pipeline.learned_files import specimen_region
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.shipped_model import read_model_bytes
from eucentric.pipeline.threshold_files import TomogramChoice, each_tomogram, is_label_file, protected_places
from eucentric.segmentation.learned.find_classes import class_scores
from eucentric.segmentation.learned.label_classes import label_classes
from eucentric.segmentation.learned.params import SegmenterUse
from eucentric.segmentation.learned.segmenter import PURPOSE, Segmenter
from eucentric.segmentation.objects import ObjectLimits, find_objects

_PACKAGE = "eucentric.segmentation.learned"
_SHIPPED_FILE = "membranes.model"
_CLASS_COLUMNS = ("tomogram", "label", "class", "threshold", "voxels", "volume_angstrom3", "objects")
_OBJECT_COLUMNS = (
    "tomogram",
    "label",
    "class",
    "volume_angstrom3",
    "centre_x_angstrom",
    "centre_y_angstrom",
    "centre_z_angstrom",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedByModel:
    """What was written."""

    table: Path
    """Of the classes in each tomogram."""
    objects: Path | None
    """Of the instances, where they were numbered."""
    classes: dict[int, str]
    """Numbers in the labels and what they mean; those of the table of objects where instances were numbered."""
    tomograms: dict[str, dict[str, Any]]
    """Of each its files and voxels of each class, or `error` where it failed."""
    caveats: tuple[str, ...]
    dice: dict[str, dict[str, float | None]]
    """Of each tomogram that a truth was given for and each class; None of a class that neither shows."""


def read_segmenter(model: str) -> Model:
    """The model of a file, or the one of membranes that comes with the program.

    Raises
    ------
    InputError : no such file
    FormatError : something else than a model for segmenting
    """
    raw, name = read_model_bytes(model, _PACKAGE, _SHIPPED_FILE, "eucentric segment train")
    found = model_from_bytes(raw, name, purpose=PURPOSE)
    Segmenter.of_model(found)  # its words where it is damaged
    return found


def apply_segmenter_files(
    choice: TomogramChoice,
    model: str,
    output: Path,
    use: SegmenterUse,
    *,
    protect: Path | None = None,
    scores: bool = False,
    truth: Path | None = None,
    overwrite: bool = False,
) -> SegmentedByModel:
    """Label every tomogram with the numbers of the model's classes, from 1 in their order, or of their connected pieces.

    Parameters
    ----------
    output : label volume of the one tomogram (`.mrc`, `.tif`, `.zarr`), its tables beside it; or a folder for `labels/NAME.mrc`,
        `classes.csv` and, of instances, `objects.csv`
    protect : volume above 0 where nothing is labelled, or a folder with `NAME.mrc` for each tomogram
    scores : write those of each class too, `scores/NAME_CLASS.mrc` or beside the one label volume
    truth : labels with the numbers that the model was trained on, or a folder of them: Dice is measured where no label was trained on

    Raises
    ------
    InputError : no tomogram, several and one file, files that would be replaced unasked, thresholds that do not fit; of the only
        tomogram also what `class_scores` raises
    FormatError : no model for segmenting
    """
    made = read_segmenter(model)
    segmenter = Segmenter.of_model(made, choice.device)
    thresholds = _thresholds(use, segmenter)
    files = choice.files()
    single = is_label_file(output)
    if single and len(files) > 1:
        raise InputError(
            f"`{output}` is one file, and there are {len(files)} tomograms. Name a folder, or give --only."
        )
    places = {one.name: output if single else output / "labels" / f"{one.name}.mrc" for one in files}
    stem = output.with_suffix("")
    table = stem.with_name(f"{stem.name}_classes.csv") if single else output / "classes.csv"
    objects = stem.with_name(f"{stem.name}_objects.csv") if single else output / "objects.csv"
    written = [*places.values(), table, *([objects] if use.instances else [])]
    refuse_to_replace(written, [one.path for one in files], overwrite)
    true = {} if truth is None else {one.name: file for one, file in pair_labels(files, [truth])}
    dice: dict[str, dict[str, float | None]] = {}
    rows: list[tuple[Any, ...]] = []
    pieces: list[tuple[Any, ...]] = []

    def work(one: TomogramFile) -> dict[str, Any]:
        volume, voxel = choice.read(one)
        region = specimen_region(one, (volume.shape[0], volume.shape[1], volume.shape[2]), voxel).to(volume.device)
        found = class_scores(volume, voxel, segmenter, mirrors=use.mirrors, region=region, device=choice.device)
        found = found[: len(segmenter.classes)]
        if protect is not None:
            found *= ~protected_places(protect, one, volume)
        place = places[one.name]
        place.parent.mkdir(parents=True, exist_ok=True)
        if scores:
            _write_scores(found, segmenter.classes, output if not single else place.with_suffix(""), one, voxel, single)
        classes = label_classes(found, thresholds).cpu().numpy()
        numbered, own, counts = _pieces(classes, segmenter.classes, use, one, voxel)
        write_labels(place, numbered, voxel)
        if one.name in true:
            dice[one.name] = _dice(classes, read_labels(true[one.name])[0], made, one)
        pieces.extend(own)
        voxels = [int((classes == n).sum()) for n in range(1, len(segmenter.classes) + 1)]
        for number, (name, cut, count) in enumerate(zip(segmenter.classes, thresholds, voxels, strict=True), 1):
            rows.append((one.name, number, name, f"{cut:g}", count, f"{count * voxel**3:.6g}", counts[number - 1]))
        told = dict(zip(segmenter.classes, voxels, strict=True))
        return {
            "labels": str(place),
            "voxels": told,
            "size": int(classes.size),
            "objects": counts if use.instances else None,
        }

    told = each_tomogram(files, work, many=len(files) > 1)
    table.parent.mkdir(parents=True, exist_ok=True)
    write_csv_table(table, _CLASS_COLUMNS, rows)
    if use.instances:
        write_csv_table(objects, _OBJECT_COLUMNS, pieces)
    return SegmentedByModel(
        table=table,
        objects=objects if use.instances else None,
        classes=dict(enumerate(segmenter.classes, 1)),
        tomograms=told,
        caveats=tuple(_caveats(told)),
        dice=dice,
    )


def _thresholds(use: SegmenterUse, segmenter: Segmenter) -> tuple[float, ...]:
    given = use.threshold
    if not given:
        return segmenter.thresholds
    if len(given) not in (1, len(segmenter.classes)) or not all(0 < t < 1 for t in given):
        raise InputError(
            f"{len(given)} thresholds were given for {len(segmenter.classes)} classes ({', '.join(segmenter.classes)}). Give one for "
            "all or one for each, above 0 and below 1."
        )
    return given * (len(segmenter.classes) if len(given) == 1 else 1)


def _pieces(
    classes: NDArray[np.int16], names: Sequence[str], use: SegmenterUse, one: TomogramFile, voxel: float
) -> tuple[NDArray[np.int32], list[tuple[Any, ...]], list[int | str]]:
    """Labels to be written, a row for each instance, and how many each class has; small pieces are taken out of `classes` too."""
    if not use.instances and not use.min_volume_angstrom3:
        return classes.astype(np.int32), [], [""] * len(names)
    z, y, x = classes.shape
    frame = TomogramFrame(voxel_size_angstrom=voxel, size_xyz=(x, y, z))
    out = np.zeros(classes.shape, dtype=np.int32)
    rows: list[tuple[Any, ...]] = []
    counts: list[int | str] = []
    for number, name in enumerate(names, 1):
        mask = torch.from_numpy(classes == number)
        found = find_objects(mask, voxel, ObjectLimits(min_volume_angstrom3=use.min_volume_angstrom3))
        inside = found.labels.numpy() > 0
        classes[mask.numpy() & ~inside] = 0
        first = len(rows)
        counts.append(len(found.volumes_angstrom3))
        if use.instances:
            out[inside] = found.labels.numpy()[inside] + first
            centres = frame.to_angstrom(found.centres_px)
            for n, (size, centre) in enumerate(zip(found.volumes_angstrom3, centres, strict=True), first + 1):
                rows.append((one.name, n, name, f"{size:.6g}", *(f"{value:.2f}" for value in centre)))
        else:
            out[inside] = number
    return out, rows, counts


def _write_scores(
    found: Tensor, names: Sequence[str], base: Path, one: TomogramFile, voxel: float, single: bool
) -> None:
    folder = base.parent if single else base / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    for name, scores in zip(names, found, strict=True):
        word = name.replace(" ", "_").replace("/", "_")
        place = folder / (f"{base.name}_{word}_scores.mrc" if single else f"{one.name}_{word}.mrc")
        write_mrc(place, scores.cpu().numpy(), voxel, "float16", labels=[f"Scores of {name}, 0 to 1"])


def _dice(classes: NDArray[np.int16], truth: LabelArray, model: Model, one: TomogramFile) -> dict[str, float | None]:
    """Of each class, in the slices that were not trained on; of labels that filled the tomogram everywhere."""
    if truth.shape != classes.shape:
        raise InputError(
            f"The truth of {one.name} has shape {truth.shape} and the tomogram {classes.shape}; expected the same (z, y, x)."
        )
    numbers = model.provenance.get("classes")
    if not isinstance(numbers, dict):
        numbers = {name: [number] for number, name in enumerate(model.settings["classes"], 1)}
    counted = np.ones(classes.shape, dtype=bool)
    for axis, slices in model.provenance.get("slices", {}).get(one.name, []):
        np.moveaxis(counted, "zyx".index(axis), 0)[list(slices)] = False
    out: dict[str, float | None] = {}
    for number, name in enumerate(model.settings["classes"], 1):
        found, true = (classes == number) & counted, np.isin(truth, numbers[name]) & counted
        both = int(found.sum()) + int(true.sum())
        out[name] = 2.0 * int((found & true).sum()) / both if both else None
    return out


def _caveats(told: dict[str, dict[str, Any]]) -> list[str]:
    out = []
    for name, figures in told.items():
        for kind, voxels in figures.get("voxels", {}).items():
            if not voxels:
                out.append(
                    f"Nothing of {kind} was found in {name}. Look at the scores (--scores), or lower --threshold."
                )
            elif voxels > 0.9 * figures["size"]:
                out.append(
                    f"{kind} fills {100 * voxels / figures['size']:.0f}% of {name}. Raise --threshold, or train on more labels."
                )
    return out
