"""`eucentric segment train` on files: tomograms and labels in, a model out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from eucentric import __version__
from eucentric.errors import InputError, ShapeError
from eucentric.io.imod_models import read_imod_model
from eucentric.networks.model_file import Model, model_to_bytes
from eucentric.pipeline.apply_segmenter_files import read_segmenter
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.given_labels import class_numbers, found_numbers, labelled_slices, pair_labels
from eucentric.pipeline.label_files import LabelArray, labels_of_contours, read_labels, volume_grid
from eucentric.pipeline.learned_files import read_prepared, tomograms_to_use
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.pipeline.training_file import TrainingFile, stamp, write_judged_model
from eucentric.segmentation.learned.find_classes import COARSER
from eucentric.segmentation.learned.labelled_patches import (
    AXES,
    LabelledSlices,
    LabelledVolume,
    find_slices,
    hold_out,
    known_voxels,
    label_volume,
)
from eucentric.segmentation.learned.params import SegmenterParams
from eucentric.segmentation.learned.train_segmenter import ClassQuality, TrainedSegmenter, train_segmenter
from eucentric.segmentation.learned.training_plan import TrainingPlan, plan_training, typical_thickness

_FEW = 500  # voxels held out


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsGiven:
    """What the labels of tomograms mean."""

    files: Sequence[Path]
    """Volumes, IMOD models or folders of them: of the one tomogram, by the tomograms' names, or in the order of the tomograms."""
    classes: Sequence[str] = ()
    """Names in the order of the numbers in the labels; or `name=number` or `name=number,number` for each, others being background."""
    complete: bool = False
    """All is labelled, everywhere."""
    slices: Sequence[str] = ()
    """Labelled slices such as `z=10,14,20-25`, counted from 0; where none are given, those with any label."""
    ignore: int | None = None
    """Number that stands for unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterMade:
    """What was written."""

    model: Path
    plan: TrainingPlan
    tomograms: tuple[str, ...]
    qualities: tuple[ClassQuality, ...]
    held_out: str
    """In words."""
    steps: int
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Labelled:
    """A tomogram and its labels, at its own sampling."""

    tomogram: TomogramFile
    file: Path
    voxel_size_angstrom: float
    labels: LabelArray
    known: NDArray[np.bool_]
    slices: tuple[LabelledSlices, ...]
    """None where all is labelled."""


def train_segmenter_files(
    targets: Sequence[Path],
    given: LabelsGiven,
    output: Path,
    params: SegmenterParams,
    *,
    device: torch.device,
    held_out: Sequence[str] = (),
    start: str | None = None,
    pixel_size: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
    on_plan: Callable[[str], None] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
) -> SegmenterMade:
    """Train on the tomograms that labels lie in; a training that was stopped goes on where it was.

    Parameters
    ----------
    targets : projects, tables of tilt series, tomograms
    held_out : names of tomograms whose labels set the thresholds and are not trained on; where none is named, a share of the labels
    start : model whose weights are the first ones: a file, or `shipped`
    pixel_size : A per voxel of tomograms whose headers hold none
    on_plan : told what was chosen, in a line

    Raises
    ------
    InputError, ShapeError, FormatError : labels that do not fit, hold nothing or fill everything; tomograms without contrast or
        voxel size; files that would be replaced unasked; a wrong model
    """
    refuse_to_replace([output], list(given.files), overwrite)
    first = None if start is None else read_segmenter(start)
    pairs = pair_labels([one for target in targets for one in tomograms_to_use(target, None)], given.files)
    unknown = set(held_out) - {one.name for one, _ in pairs}
    if unknown:
        raise InputError(f"{sorted(unknown)[0]} is to be held out, but it is no tomogram with labels.")
    if len(held_out) >= len(pairs):
        raise InputError("All tomograms are held out, so that none is left to train on.")
    found = [_read(one, file, given, pixel_size) for one, file in pairs]
    names, numbers = class_numbers(found_numbers([part.labels for part in found]), given.classes)
    if not names:
        raise InputError(
            "The labels hold nothing to learn: every voxel is 0 or ignored. Check that they are the right files."
        )
    _refuse_full(found, names, numbers)
    thickness = [
        typical_thickness(
            [torch.from_numpy(np.isin(part.labels, own)) for part in found],
            [AXES.index(part.slices[0].axis) if part.slices else None for part in found],
            [part.voxel_size_angstrom for part in found],
        )
        for own in numbers
    ]
    plan = plan_training(
        params,
        classes=len(names),
        thickness_angstrom=thickness,
        tomograms=[(_shape(part.labels), part.voxel_size_angstrom) for part in found],
        device=device,
        start=None if first is None else (first.network, float(first.settings["voxel_size_angstrom"])),
    )
    if on_plan is not None:
        on_plan(plan.in_words())
    caveats = _start_caveats(first, plan)
    volumes = [_labelled(part, numbers, plan, pixel_size) for part in found]
    words = _held_out(volumes, [part.tomogram.name for part in found], held_out, params.held_out)
    provenance = {
        "eucentric": __version__,
        "tomograms": [one.name for one, _ in pairs],
        "labels": [str(file) for _, file in pairs],
        "start": start,
        "held_out": words or "nothing",
        "classes": dict(zip(names, numbers, strict=True)),
        "slices": {part.tomogram.name: [[s.axis, list(s.numbers)] for s in part.slices] for part in found},
    }
    about = [
        [stamp(one.path) for one, _ in pairs],
        [_stamps(file) for _, file in pairs],
        [names, numbers, given.complete, list(given.slices), given.ignore, list(held_out), pixel_size],
        None if first is None else hashlib.sha256(model_to_bytes(first)).hexdigest(),
        [params.model_dump(), plan.network.model_dump(), plan.patch_size, plan.batch_size, plan.voxel_size_angstrom],
        seed,
        __version__,
    ]
    kept = TrainingFile(output, about)
    trained = train_segmenter(
        volumes,
        names,
        plan,
        params,
        device,
        seed=seed,
        start=first,
        provenance=provenance,
        state=kept.load(),
        on_checkpoint=kept.save,
        on_step=on_step,
    )
    write_judged_model(output, trained.model, trained.losses, trained.checks)
    kept.done()
    caveats += _quality_caveats(trained, found, words)
    return SegmenterMade(
        model=output,
        plan=plan,
        tomograms=tuple(one.name for one, _ in pairs),
        qualities=trained.qualities,
        held_out=words,
        steps=len(trained.losses),
        caveats=tuple(caveats),
    )


def _shape(labels: LabelArray) -> tuple[int, int, int]:
    return labels.shape[0], labels.shape[1], labels.shape[2]


def _read(one: TomogramFile, file: Path, given: LabelsGiven, pixel_size: float | None) -> _Labelled:
    shape, stored = volume_grid(one.path)
    if pixel_size is None and stored is None:
        raise InputError(f"The header of `{one.path}` holds no voxel size. Give it with --pixel-size.")
    slices: tuple[LabelledSlices, ...] = ()
    if file.suffix.lower() in (".mod", ".fid"):
        labels, painted = labels_of_contours(read_imod_model(file), shape, str(file))
        slices = (LabelledSlices(axis="z", numbers=painted),) if painted else ()
    else:
        labels, _ = read_labels(file, like=one.path if pixel_size is None else None)
    if labels.shape != shape:
        raise ShapeError(
            f"The labels `{file}` have shape {labels.shape} and the tomogram `{one.path}` {shape}; expected the same (z, y, x)."
        )
    unknown = np.zeros(shape, dtype=bool) if given.ignore is None else labels == given.ignore
    labels = np.where(unknown, 0, labels)
    if given.complete and given.slices:
        raise InputError("Either all is labelled (--complete), or some slices are (--labelled-slices).")
    if given.complete:
        slices = ()
        known = np.ones(shape, dtype=bool)
    else:
        try:
            slices = labelled_slices(given.slices) or slices or (find_slices(labels),)
            known = known_voxels(shape, slices)
        except InputError as error:
            raise InputError(f"{one.name}: {error}") from error
    return _Labelled(
        tomogram=one,
        file=file,
        voxel_size_angstrom=float(pixel_size or stored or 0.0),
        labels=labels,
        known=known & ~unknown,
        slices=slices,
    )


def _refuse_full(found: Sequence[_Labelled], names: Sequence[str], numbers: Sequence[Sequence[int]]) -> None:
    for name, own in zip(names, numbers, strict=True):
        inside = [np.isin(part.labels, own) for part in found]
        if not any(bool((mask & part.known).any()) for mask, part in zip(inside, found, strict=True)):
            raise InputError(
                f"No label of {name} lies in a labelled slice. Check --labelled-slices: they count from 0."
            )
        if all(bool(mask[part.known].all()) for mask, part in zip(inside, found, strict=True)):
            raise InputError(
                f"The labels of {name} fill everything that is labelled: there is nothing to tell apart. "
                "Label what is of the class alone, and leave the rest of the slices at 0."
            )


def _labelled(
    part: _Labelled, numbers: Sequence[Sequence[int]], plan: TrainingPlan, pixel_size: float | None
) -> LabelledVolume:
    prepared = read_prepared(part.tomogram, plan.voxel_size_angstrom, torch.device("cpu"), pixel_size=pixel_size)
    labels, known = torch.from_numpy(part.labels), torch.from_numpy(part.known)
    return label_volume(prepared, labels, known, numbers, part.voxel_size_angstrom, part.slices)


def _held_out(volumes: Sequence[LabelledVolume], names: Sequence[str], held_out: Sequence[str], share: float) -> str:
    if not held_out:
        return hold_out(volumes, share)
    for volume, name in zip(volumes, names, strict=True):
        if name in held_out:
            volume.trained.fill_(False)
    return f"the labels of {', '.join(held_out)}"


def _start_caveats(first: Model | None, plan: TrainingPlan) -> list[str]:
    if first is None:
        return []
    known = float(first.settings["voxel_size_angstrom"])
    if 1.0 / COARSER <= plan.voxel_size_angstrom / known <= COARSER:
        return []
    return [
        f"The model that the training starts from knows voxels of {known:.3g} A, this one is for {plan.voxel_size_angstrom:.3g} A: "
        "it has more to learn."
    ]


def _quality_caveats(trained: TrainedSegmenter, found: Sequence[_Labelled], words: str) -> list[str]:
    caveats = []
    slices = sum(len(s.numbers) for part in found for s in part.slices)
    if slices == 1:
        caveats.append(
            "Only one slice is labelled: Dice and thresholds come from one end of it, which is more like the rest of it than other "
            "slices are. Label a second one far from it to know better."
        )
    if not words:
        caveats.append("No label could be held out: nothing is known of how well the model does. Label more.")
    for one in trained.qualities:
        if one.dice is None and words:
            caveats.append(
                f"No label of {one.name} was held out: its threshold is {one.threshold:g} for want of a better one."
            )
        elif one.dice is not None and one.voxels < _FEW:
            caveats.append(f"Dice and threshold of {one.name} come from {one.voxels} voxels only.")
    if not trained.bettered:
        caveats.append(
            "Nothing was learned that holds where it was not learned from: the model is as the training began. "
            "Check that the labels lie on what they are of, or label more."
        )
    return caveats


def _stamps(path: Path) -> list[tuple[str, int, float]]:
    """Of a file, or of all files of an OME-Zarr folder."""
    return [stamp(p) for p in (sorted(path.rglob("*")) if path.is_dir() else [path]) if p.is_file()]
