"""Label volumes in files, one reader and one writer for all of segmentation: MRC, TIFF stacks, OME-Zarr, IMOD contours.

Labels are (z, y, x) whole numbers, 0 for nothing. A TIFF page is a section with row 0 first, as napari, tifffile and nnU-Net have it,
and not turned over as the images of cameras are. What a model's contours mean: `labels_of_contours`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.imod_models import ImodModel, read_imod_model, write_imod_model
from eucentric.io.mrc import read_mrc, read_mrc_header, write_mrc
from eucentric.io.ome_zarr import read_ome_zarr, read_ome_zarr_header
from eucentric.io.ome_zarr_labels import (
    image_of_labels,
    is_label_image,
    label_names_of_image,
    write_ome_zarr_labels,
)
from eucentric.io.tiff import read_tiff, read_tiff_layout, write_tiff
from eucentric.pipeline.reprojecting import refuse_to_replace
from eucentric.signal.painted_labels import Stroke, fill_polygon, stroke_mask
from eucentric.signal.slice_outlines import trace_outlines
from eucentric.typing import FloatArray

LabelArray = NDArray[np.int32]
"""(z, y, x), 0 for nothing."""
_TIFF = (".tif", ".tiff")
_MODEL = (".mod", ".fid")
_MOST = 2**31 - 1
_MOST_INT16 = 32767
_EXACT_FLOAT32 = 2**24
_IN_SECTION = 0.51  # sections: points of one contour lie no farther from it
_LINE_RADIUS = 0.71  # voxels: lines of such a brush hang together
_CORNER = np.array([0.5, 0.5])  # of pixel 0 in a model
_NAMED = re.compile(r"label (\d+)")
_VOXEL_TOLERANCE = 0.01


def read_labels(path: Path, *, like: Path | None = None) -> tuple[LabelArray, float | None]:
    """Labels (z, y, x) and their voxel size in A; None where neither the file nor the tomogram tells it.

    Parameters
    ----------
    path : `.mrc` and its like, `.tif`, an OME-Zarr folder (labels, the one label of an image, or an image of whole numbers), or an
        IMOD model (`.mod`)
    like : the tomogram: labels must have its shape, and its voxel size counts

    Raises
    ------
    InputError : no such file, values that are no whole numbers from 0, another shape or voxel size than the tomogram's
    FormatError : a damaged file, or one of another kind
    """
    shape, tomogram_voxel = (None, None) if like is None else volume_grid(like)
    if path.suffix.lower() in _MODEL:
        model = read_imod_model(path)
        x, y, z = model.image_size
        if shape is None and min(x, y, z) < 1:
            raise InputError(f"`{path}` does not say how large its tomogram is. Give the tomogram with --like.")
        labels, _ = labels_of_contours(model, shape or (z, y, x), str(path))
        return labels, tomogram_voxel or model.pixel_size_angstrom
    stored, voxel = _stored(path)
    labels = whole_labels(stored, path)
    if shape is not None and labels.shape != shape:
        raise ShapeError(
            f"The labels `{path}` have shape {labels.shape} and the tomogram `{like}` {shape}; expected the same (z, y, x). "
            "Give the tomogram that they were drawn on."
        )
    known = voxel is not None and voxel != 1.0  # which programs write that do not know it
    if known and tomogram_voxel is not None and abs((voxel or 1.0) / tomogram_voxel - 1.0) > _VOXEL_TOLERANCE:
        raise InputError(
            f"The voxels of `{path}` are {voxel:g} A wide, those of the tomogram `{like}` {tomogram_voxel:g} A. "
            "Put the right voxel size into the header."
        )
    return labels, tomogram_voxel or (voxel if known else None)


def mask_file(mask: Path, name: str) -> Path:
    """The mask of a tomogram: a volume for all of them, or `NAME.mrc` in a folder."""
    return mask / f"{name}.mrc" if mask.is_dir() and not is_zarr(mask) else mask


def is_zarr(path: Path) -> bool:
    """Whether a folder is one volume."""
    return path.suffix.lower() == ".zarr" or any((path / n).is_file() for n in ("zarr.json", ".zattrs", ".zgroup"))


def read_mask(mask: Path, name: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where a mask is above 0, of a tomogram of this name and shape (z, y, x).

    Raises
    ------
    InputError : no such file, or values that are no numbers
    ShapeError : another shape
    FormatError : no volume
    """
    path = mask_file(mask, name)
    if not path.exists():
        raise InputError(f"`{path}` does not exist. Give a volume, or a folder with NAME.mrc for each tomogram.")
    stored = (
        labels_of_contours(read_imod_model(path), shape, str(path))[0] if path.suffix in _MODEL else _stored(path)[0]
    )
    values = np.asarray(stored)
    if values.shape != shape:
        raise ShapeError(
            f"The mask `{path}` has shape {values.shape} and the tomogram {shape}; expected the same (z, y, x)."
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise InputError(f"The mask `{path}` holds values that are not numbers. Write it anew, above 0 where it holds.")
    return np.asarray(values > 0)


def volume_grid(path: Path) -> tuple[tuple[int, int, int], float | None]:
    """Shape (z, y, x) and voxel size in A of a volume in any of the formats, without its voxels.

    Raises
    ------
    InputError : no such file
    FormatError : no volume
    """
    if path.is_dir():
        header = read_ome_zarr_header(_label_image(path))
        return header.shape, None if header.voxel_size_angstrom is None else header.voxel_size_angstrom[0]
    if path.suffix.lower() in _TIFF:
        layout = read_tiff_layout(path)
        return (layout.page_count, *layout.shape), None
    mrc = read_mrc_header(path)
    return mrc.shape, mrc.pixel_size_angstrom


def _stored(path: Path) -> tuple[NDArray[Any], float | None]:
    if path.is_dir():
        array, header = read_ome_zarr(_label_image(path))
        return array, None if header.voxel_size_angstrom is None else header.voxel_size_angstrom[0]
    if path.suffix.lower() in _TIFF:
        return read_tiff(path)[:, ::-1], None
    array, mrc = read_mrc(path)
    return array, mrc.pixel_size_angstrom


def _label_image(path: Path) -> Path:
    """The folder of labels: the one that is given, or the only one in its `labels` group."""
    names = () if is_label_image(path) else label_names_of_image(path)
    if len(names) > 1:
        raise InputError(
            f"`{path}` holds {len(names)} labels: {', '.join(names)}. Give one, as `{path}/labels/{names[0]}`."
        )
    return path / "labels" / names[0] if names else path


def whole_labels(stored: ArrayLike, path: Path, most: int = _MOST) -> LabelArray:
    """Values of a file as labels.

    Raises
    ------
    ShapeError : not a volume
    InputError : values that are no whole numbers from 0 to the largest that is allowed
    """
    values = np.asarray(stored)
    if values.ndim != 3 or not values.size:
        raise ShapeError(f"`{path}` holds an array of shape {values.shape}; expected a volume (z, y, x).")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= most) or (values.dtype.kind == "f" and (np.rint(values) != values).any()):
        raise InputError(
            f"`{path}` holds values from {low:g} to {high:g}; expected labels: whole numbers from 0 to {most}."
        )
    return values.astype(np.int32)


def need_labels(labels: LabelArray, path: Path) -> None:
    """That there is something, and something else around it.

    Raises
    ------
    InputError : every voxel is 0, or none is
    """
    if not labels.any():
        raise InputError(f"`{path}` holds no label: every voxel is 0. Check that it is the right file.")
    if labels.all():
        raise InputError(
            f"`{path}` is full: every voxel has a label, so that nothing has an end. Give labels that leave something out."
        )


def write_labels(path: Path, labels: NDArray[np.integer], voxel_size_angstrom: float) -> None:
    """Write labels as the name says: `.mrc`, `.tif`, `.zarr`, a new name in the labels of an OME-Zarr image, or `.mod` contours.

    MRC is int16 up to 32767, float32 beyond; TIFF and OME-Zarr are 8, 16 or 32 bits without sign, as needed. TIFF keeps no voxel size.

    Raises
    ------
    ShapeError : not (z, y, x), or another shape than the OME-Zarr image's
    InputError : numbers below 0 or too large, no voxel size, or a place that may not be written to
    FormatError : a name that stands for no format
    BackendError : the disk is full
    """
    whole = whole_labels(labels, path)
    ending = path.suffix.lower()
    high = int(whole.max())
    small: NDArray[np.unsignedinteger[Any]] = whole.astype(
        np.uint8 if high < 256 else np.uint16 if high < 65536 else np.uint32
    )
    if image_of_labels(path) is not None or ending == ".zarr":
        write_ome_zarr_labels(path, small, voxel_size_angstrom)
    elif ending in _TIFF:
        write_tiff(path, small[:, ::-1])
    elif ending in _MODEL:
        write_contours(path, whole, voxel_size_angstrom)
    elif ending in (".mrc", ".rec", ".map"):
        if high > _EXACT_FLOAT32:
            raise InputError(
                f"The largest label for `{path}` is {high}; MRC holds up to {_EXACT_FLOAT32}. Write .zarr."
            )
        write_mrc(path, whole, voxel_size_angstrom, "int16" if high <= _MOST_INT16 else "float32")
    else:
        raise FormatError(
            f"`{path.name}` stands for no format of labels. Expected a name that ends with .mrc, .tif, .zarr or .mod."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedLabels:
    """What was written."""

    count: int
    """Different labels, 0 left out."""
    shape: tuple[int, int, int]
    """(z, y, x)."""
    voxel_size_angstrom: float


def convert_labels(
    source: Path, target: Path, *, like: Path | None = None, pixel_size: float | None = None, overwrite: bool = False
) -> ConvertedLabels:
    """Write labels in another format; parameters and errors as :func:`read_labels` and :func:`write_labels`.

    Raises
    ------
    InputError : also a file that would be replaced unasked, no label at all, no voxel size in either file and none given
    """
    refuse_to_replace([target], [source, *(() if like is None else (like,))], overwrite)
    labels, voxel = read_labels(source, like=like)
    if not labels.any():
        raise InputError(f"`{source}` holds no label: every voxel is 0. Check that it is the right file.")
    voxel = pixel_size if pixel_size is not None else voxel
    if voxel is None:
        raise InputError(
            f"`{source}` does not tell its voxel size. Give it with --pixel-size, or the tomogram with --like."
        )
    write_labels(target, labels, voxel)
    z, y, x = labels.shape
    return ConvertedLabels(count=int(np.count_nonzero(np.unique(labels))), shape=(z, y, x), voxel_size_angstrom=voxel)


def write_contours(
    path: Path, labels: LabelArray, voxel_size_angstrom: float, names: Mapping[int, str] | None = None
) -> None:
    """Write an IMOD model with an object for each label, called `label N` where it has no name: closed contours in every section.

    Contours run half-way between voxels inside and outside; holes are contours in contours. Read again they give the same labels.

    Raises
    ------
    InputError, BackendError : as :func:`write_labels`
    """
    numbers = [int(n) for n in np.unique(labels) if n]
    objects: list[list[FloatArray]] = []
    for number in numbers:
        contours = []
        for section in np.flatnonzero((labels == number).any(axis=(1, 2))).tolist():
            for line in trace_outlines(labels[section] == number):
                heights = np.full((len(line), 1), float(section))
                contours.append(np.concatenate([line + _CORNER, heights], axis=1))
        objects.append(contours)
    z, y, x = labels.shape
    texts = [(names or {}).get(n, f"label {n}") for n in numbers]
    write_imod_model(path, objects, (x, y, z), voxel_size_angstrom, texts, closed=True)


def labels_of_contours(
    model: ImodModel, shape: tuple[int, int, int], name: str = "The model"
) -> tuple[LabelArray, tuple[int, ...]]:
    """Labels drawn as contours in sections along z, and the numbers of the sections that were drawn in.

    Closed contours are filled; one within another of the same object is a hole. Open ones are lines a voxel or two wide, whatever they
    are meant to go around. Object k is label k, or N where it is called `label N`; a later object covers an earlier one. What
    lies outside of the volume is passed over.

    Parameters
    ----------
    shape : (z, y, x) of the tomogram that it was drawn on
    name : of the model, for errors

    Raises
    ------
    InputError : a model of another image size, or contours that do not lie in sections along z
    """
    z, y, x = shape
    if min(model.image_size) > 0 and model.image_size != (x, y, z):
        raise ShapeError(
            f"`{name}` was drawn on an image of {' x '.join(map(str, model.image_size))} voxels (x, y, z); the tomogram has "
            f"{x} x {y} x {z}. Give the tomogram that it was drawn on."
        )
    labels = np.zeros(shape, dtype=np.int32)
    drawn: set[int] = set()
    for k, contours in enumerate(model.objects):
        named = _NAMED.fullmatch(model.names[k]) if k < len(model.names) else None
        number = int(named.group(1)) if named else k + 1
        closed = model.closed[k] if k < len(model.closed) else (True,) * len(contours)
        sections: dict[int, list[tuple[FloatArray, bool]]] = {}
        for points, ring in zip(contours, closed, strict=True):
            if not len(points):
                continue
            section = int(np.rint(np.median(points[:, 2])))
            if np.abs(points[:, 2] - section).max() > _IN_SECTION:
                raise InputError(
                    f"Object {k + 1} of `{name}` has a contour from section {points[:, 2].min():g} to {points[:, 2].max():g}; "
                    "expected each in one section along z. Draw labels in the XY view."
                )
            sections.setdefault(section, []).append((points[:, :2] - _CORNER, ring))
        for section, lines in sections.items():
            if 0 <= section < z:
                drawn.add(section)
                labels[section][_drawn_mask((y, x), lines)] = number
    return labels, tuple(sorted(drawn))


def _drawn_mask(shape: tuple[int, int], lines: list[tuple[FloatArray, bool]]) -> NDArray[np.bool_]:
    filled = [fill_polygon(shape, line) for line, ring in lines if ring and len(line) > 2]
    mask = np.zeros(shape, dtype=bool)
    for one in sorted(filled, key=np.count_nonzero, reverse=True):
        hole = bool(one.any() and not (one & ~mask).any() and (mask & ~one).any())
        mask = mask & ~one if hole else mask | one
    for line, ring in lines:
        if not ring:
            part, box = stroke_mask(shape, Stroke(slice_index=0, places=line, radius=_LINE_RADIUS))
            mask[box] |= part
    return mask
