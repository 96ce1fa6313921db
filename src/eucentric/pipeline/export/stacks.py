"""Tilt images as whole stacks, for programs that read no single images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from eucentric.errors import InputError
from eucentric.io.exchange.records import SeriesGeometry
from eucentric.io.mrc import MrcSlabWriter, read_mrc
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.export.files import Exported, need_images
from eucentric.pipeline.export.source import ExportSource

Part = Literal["image", "image_even", "image_odd"]


def stacked_series(
    source: ExportSource, exported: Exported, program: str, place: Callable[[str], str]
) -> Sequence[SeriesGeometry]:
    """Write a stack of each series; the series with their images in it, and without excluded tilts, which it does not hold.

    Parameters
    ----------
    place : the stack's path from the export's folder, by the name of the series

    Raises
    ------
    InputError : a series that is not aligned, or has no images yet
    BackendError : the disk is full
    """
    source.need_alignment(program)
    out = []
    for geometry in source.geometries:
        series, path = geometry.series, place(geometry.series.name)
        need_images(series, program)
        write_stack(series, exported.folder / path, exported)
        if series.excluded:
            exported.losses.append(
                f"{series.name}: the stack holds the {len(series.tilts)} tilts that are used, without the {len(series.excluded)} "
                "excluded ones."
            )
        out.append(replace(geometry, series=_on_stack(series, path).replace(excluded=())))
    return out


def write_stack(series: TiltSeries, target: Path, exported: Exported, *, part: Part = "image") -> Path:
    """The images of the tilts in ascending angle as one stack of float32, an image held at a time.

    Raises
    ------
    InputError : a missing image, or one of another size
    BackendError : the disk is full
    """
    ny, nx = series.image_shape
    with MrcSlabWriter(
        target, (len(series.tilts), ny, nx), series.pixel_size_angstrom, "float32", is_volume=False
    ) as writer:
        for tilt in series.tilts:
            writer.write(read_tilt_image(tilt, part, (ny, nx))[None])
    exported.add(target)
    return target


def read_tilt_image(tilt: Tilt, part: Part, shape: tuple[int, int]) -> np.ndarray:
    """One image (y, x) as float32; InputError where it is missing or of another size."""
    named: str | None = getattr(tilt, part)
    section, _, path = (named or "").rpartition("@")
    if not path or not Path(path).is_file():
        raise InputError(
            f"`{path or part}` of the tilt at {tilt.nominal_tilt_deg:g} degrees is not there. Run the project again."
        )
    array, _ = read_mrc(path)
    picture = array[int(section) - 1 if section else 0]
    if picture.shape != shape:
        raise InputError(
            f"`{path}` has {picture.shape[1]} x {picture.shape[0]} pixels; expected {shape[1]} x {shape[0]}."
        )
    return np.asarray(picture, dtype=np.float32)


def _on_stack(series: TiltSeries, stack: str) -> TiltSeries:
    """The series whose images are the sections of a stack, in order."""
    return series.with_tilts(
        [replace(t, image=f"{i}@{stack}", image_even=None, image_odd=None) for i, t in enumerate(series.tilts, 1)]
    )
