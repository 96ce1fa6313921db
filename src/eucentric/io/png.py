"""Greyscale PNG of arrays, and the central slices and projections of a volume, collected while it is written."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError, ShapeError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.typing import ImageArray, PathLike


def write_png(path: PathLike, image: NDArray[Any], percentile: float = 0.5) -> None:
    """8-bit greyscale picture of an array, the first row at the bottom: y points up, as in the figures.

    Parameters
    ----------
    path : file to be made
    image : (y, x), or (z, x) and (z, y); what is not a number is black
    percentile : this many percent of the pixels are darker than black, and as many brighter than white; 0 to 50

    Raises
    ------
    ShapeError : not two dimensions
    InputError : a percentile outside 0 to 50, or a place that may not be written to
    BackendError : the disk is full
    """
    pixels = np.asarray(image, dtype=np.float64)
    if pixels.ndim != 2 or pixels.size == 0:
        raise ShapeError(f"An array of shape {pixels.shape} cannot be a picture; expected (y, x).")
    if not 0.0 <= percentile < 50.0:
        raise InputError(f"The percentile of the picture is {percentile}; expected 0 or more and less than 50.")
    finite = np.isfinite(pixels)
    low, high = np.percentile(pixels[finite], [percentile, 100.0 - percentile]) if finite.any() else (0.0, 1.0)
    span = high - low if high > low else 1.0
    grey = np.rint(np.clip((np.where(finite, pixels, low) - low) / span, 0.0, 1.0) * 255.0).astype(np.uint8)
    write_bytes_atomic(path, bytes(imagecodecs.png_encode(np.ascontiguousarray(grey[::-1]))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolumeViews:
    """What a volume looks like along its axes."""

    slice_z: ImageArray
    """(y, x) at voxel n // 2, or the mean of a few planes around it"""
    slice_y: ImageArray
    """(z, x)"""
    slice_x: ImageArray
    """(z, y)"""
    projection_z: ImageArray
    """(y, x), mean along the axis"""
    projection_y: ImageArray
    """(z, x)"""
    projection_x: ImageArray
    """(z, y)"""


def central_range(count: int, planes: int) -> slice:
    """So many planes around voxel `count // 2`; where they are an even number, the one more lies above it."""
    centre = count // 2
    return slice(max(centre - (planes - 1) // 2, 0), min(centre + planes // 2 + 1, count))


class ViewCollector:
    """Central slices and projections of a volume that passes by in slabs, beside the writer that stores it.

    Parameters
    ----------
    shape : (z, y, x)
    planes : how many planes a slice is the mean of

    Raises
    ------
    ShapeError : a size below 1
    InputError : fewer than one plane
    """

    def __init__(self, shape: tuple[int, int, int], planes: int = 1) -> None:
        if min(shape) < 1:
            raise ShapeError(f"A volume has the shape {tuple(shape)}; expected three positive sizes (z, y, x).")
        if planes < 1:
            raise InputError(f"Slices of {planes} planes were asked for; expected 1 or more.")
        self._shape = shape
        self._ranges = [central_range(n, planes) for n in shape]
        self._slice_z = np.zeros(shape[1:])
        self._projection_z = np.zeros(shape[1:])
        widths = {"slice_y": shape[2], "slice_x": shape[1], "projection_y": shape[2], "projection_x": shape[1]}
        self._rows = {name: np.empty((shape[0], width), np.float32) for name, width in widths.items()}
        self._written = 0

    def write(self, slab: NDArray[Any]) -> None:
        """Add planes: (z, y, x), or (y, x) for one.

        Raises
        ------
        ShapeError : the planes have another size, or are more than the volume has
        """
        block = np.asarray(slab)
        block = block[None] if block.ndim == 2 else block
        if block.ndim != 3 or block.shape[1:] != self._shape[1:] or self._written + len(block) > self._shape[0]:
            raise ShapeError(
                f"Planes of shape {np.shape(slab)} were given after {self._written} of a volume of shape {self._shape}."
            )
        middle_z, middle_y, middle_x = self._ranges
        for plane in block:
            self._projection_z += plane
            if middle_z.start <= self._written < middle_z.stop:
                self._slice_z += plane
            self._rows["slice_y"][self._written] = plane[middle_y].mean(axis=0, dtype=np.float64)
            self._rows["slice_x"][self._written] = plane[:, middle_x].mean(axis=1, dtype=np.float64)
            self._rows["projection_y"][self._written] = plane.mean(axis=0, dtype=np.float64)
            self._rows["projection_x"][self._written] = plane.mean(axis=1, dtype=np.float64)
            self._written += 1

    def views(self) -> VolumeViews:
        """What was collected.

        Raises
        ------
        ShapeError : planes are missing
        """
        if self._written != self._shape[0]:
            raise ShapeError(f"Views were asked for after {self._written} of {self._shape[0]} planes.")
        thick = self._ranges[0].stop - self._ranges[0].start
        return VolumeViews(
            slice_z=(self._slice_z / thick).astype(np.float32),
            projection_z=(self._projection_z / self._shape[0]).astype(np.float32),
            **self._rows,
        )


def volume_views(volume: NDArray[Any], planes: int = 1) -> VolumeViews:
    """Central slices and projections of a volume (z, y, x), which may be a memory map; errors as `ViewCollector`."""
    if volume.ndim != 3:
        raise ShapeError(f"An array of shape {volume.shape} is not a volume; expected (z, y, x).")
    collector = ViewCollector((volume.shape[0], volume.shape[1], volume.shape[2]), planes)
    collector.write(volume)
    return collector.views()


def write_views(folder: PathLike, name: str, views: VolumeViews, percentile: float = 0.5) -> list[Path]:
    """Write each view as `<name>_slice_z.png`, `<name>_projection_x.png` ...; errors as `write_png`.

    Returns
    -------
    the six files
    """
    paths = []
    for field in fields(views):
        paths.append(Path(folder) / f"{name}_{field.name}.png")
        write_png(paths[-1], getattr(views, field.name), percentile)
    return paths
