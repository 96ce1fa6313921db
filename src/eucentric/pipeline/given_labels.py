"""What labels that are given belong to and mean: tomograms, slices, classes."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eucentric.errors import InputError
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.label_files import LabelArray, is_zarr
from eucentric.segmentation.learned.labelled_patches import AXES, LabelledSlices

_LABELS = (".mrc", ".rec", ".map", ".tif", ".tiff", ".mod", ".fid", ".zarr")
_SLICES = re.compile(r"([zyx])=(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)")
_CLASS = re.compile(r"(.+)=(\d+(?:,\d+)*)")


def pair_labels(tomograms: Sequence[TomogramFile], files: Sequence[Path]) -> list[tuple[TomogramFile, Path]]:
    """Each tomogram that has labels, with these: by name (`TS_01.mod`, `TS_01_labels.mrc`), else in order where there are as many.

    Raises
    ------
    InputError : no labels, or labels that belong to no tomogram, to several, or to one that has some already
    """
    every = [file for path in files for file in _single(path)]
    folders = {path for path in files if path.is_dir()}
    if not every:
        raise InputError("No labels were given. Give --labels with label volumes, IMOD models or a folder of them.")
    names = [one.name for one in tomograms]
    if len(set(names)) < len(names):
        raise InputError("Two tomograms have one name, so that their labels cannot be told apart. Rename a file.")
    if len(tomograms) == len(every) == 1:
        return [(tomograms[0], every[0])]
    out: dict[str, Path] = {}
    for file in every:
        named = [n for n in names if re.match(re.escape(n) + r"(?![0-9A-Za-z])", file.name)]
        named += [tomograms[0].name] if len(tomograms) == 1 and not named and file.parent not in folders else []
        if not named:
            if len(tomograms) == len(every) and not out:
                return list(zip(tomograms, every, strict=True))
            if file.parent in folders:
                continue  # of a tomogram that was not chosen
            raise InputError(
                f"`{file}` belongs to none of the tomograms {', '.join(names[:5])}: labels are named after them. Rename it."
            )
        name = max(named, key=len)
        if name in out:
            raise InputError(
                f"`{out[name]}` and `{file}` are both labels of {name}; expected one. Put all classes into one volume."
            )
        out[name] = file
    if not out:
        raise InputError(
            f"No file of `{next(iter(folders))}` is named after {', '.join(names[:5])}. Labels are named after their tomograms."
        )
    return [(one, out[one.name]) for one in tomograms if one.name in out]


def _single(path: Path) -> list[Path]:
    """A file, an OME-Zarr folder, or the labels of a folder."""
    if not path.exists():
        raise InputError(f"`{path}` does not exist. Give a label volume (MRC, TIFF, OME-Zarr) or an IMOD model.")
    if not path.is_dir() or is_zarr(path):
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in _LABELS)
    if not found:
        raise InputError(f"`{path}` holds no labels: no {', '.join(_LABELS)}.")
    return found


def labelled_slices(texts: Sequence[str]) -> tuple[LabelledSlices, ...]:
    """Slices from words such as `z=10,14,20-25`.

    Raises
    ------
    InputError : other words
    """
    out = []
    for text in texts:
        match = _SLICES.fullmatch(text.replace(" ", ""))
        if match is None:
            raise InputError(f"`{text}` does not name slices. Give such as z=10,14,20-25, y=7 or x=3, counted from 0.")
        ranges = [part.split("-") for part in match.group(2).split(",")]
        numbers = sorted({n for ends in ranges for n in range(int(ends[0]), int(ends[-1]) + 1)})
        if not numbers:
            raise InputError(f"`{text}` names no slice: a range begins with its lower number.")
        out.append(LabelledSlices(axis=AXES["zyx".index(match.group(1))], numbers=tuple(numbers)))
    return tuple(out)


def found_numbers(volumes: Sequence[LabelArray]) -> list[int]:
    """Those that occur, but for 0."""
    return sorted({int(n) for labels in volumes for n in np.unique(labels)} - {0})


def class_numbers(found: Sequence[int], classes: Sequence[str]) -> tuple[list[str], list[list[int]]]:
    """Names of the classes, and the numbers in the labels that each stands for.

    Raises
    ------
    InputError : names that do not fit the numbers, or that are given twice
    """
    shown = ", ".join(map(str, found[:10]))
    matches = [_CLASS.fullmatch(text) for text in classes]
    if not classes:
        names, numbers = [f"class {n}" for n in found], [[n] for n in found]
    elif all(match is not None for match in matches):
        names = [match.group(1) for match in matches if match]
        numbers = [[int(n) for n in match.group(2).split(",")] for match in matches if match]
    else:
        names, numbers = list(classes), [[n] for n in found]
    if len(names) != len(numbers):
        raise InputError(
            f"{len(names)} classes were named, and the labels hold {len(found)} numbers: {shown}. Name each in their order, or "
            "give --classes name=number for those that are wanted."
        )
    missing = [name for name, own in zip(names, numbers, strict=True) if not set(own) & set(found)]
    if missing:
        raise InputError(f"The labels hold nothing of {missing[0]}; their numbers are {shown}.")
    if len(set(names)) < len(names):
        raise InputError(f"Two classes have one name: {', '.join(names)}.")
    if len(names) > 100:
        raise InputError(
            f"The labels hold {len(names)} numbers, which are rather objects than classes. Give --classes name=number."
        )
    return names, numbers
