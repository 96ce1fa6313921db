"""What light-microscope images are registered to: the tomogram of a series, or a grid map."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import InputError
from eucentric.figures.correlative import Placed
from eucentric.io.fluorescence import read_light_image
from eucentric.io.mrc import read_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.pipeline.curation_picks import tomogram_frame
from eucentric.typing import FloatArray

_SLAB = 8
"""Part of a tomogram's sections, in the middle, that its picture is the mean of."""
_PICTURE_PX = 800
_TABLE = "reconstruct/tilt_series.star"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Voxels to be filled."""

    shape_zyx: tuple[int, int, int]
    first: FloatArray
    """(3,) A, x, y, z of voxel 0."""
    voxel: float

    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top in A."""
        return _extent(self.shape_zyx[2], self.shape_zyx[1], self.first, self.voxel)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A tomogram or map. Places are A: from the specimen centre, or from the map's first pixel."""

    name: str
    is_map: bool
    path: Path
    size_xyz: tuple[int, int, int]
    voxel: float
    rows_from_top: bool
    """Whether people count its rows from the top, as in TIFF."""

    @property
    def first(self) -> FloatArray:
        """(3,) A, of voxel 0."""
        return np.zeros(3) if self.is_map else -(np.array(self.size_xyz) // 2) * self.voxel

    def places(self, points: FloatArray, units: str) -> FloatArray:
        """(n, d) A, of landmarks (n, d) in their units."""
        if units == "angstrom":
            return points
        index = points.copy()
        if self.rows_from_top:
            index[:, 1] = self.size_xyz[1] - 1 - index[:, 1]
        d = points.shape[1]
        return np.asarray(index * self.voxel + self.first[:d])

    def grid(self, voxel: float) -> Grid:
        """Voxels of another size over all of it; voxel ``n // 2`` of those of a tomogram is the specimen centre."""
        size = np.array(self.size_xyz)
        if self.is_map:
            x, y, z = (max(1, math.floor((n - 1) * self.voxel / voxel) + 1) for n in size)
            return Grid(shape_zyx=(z, y, x), first=np.zeros(3), voxel=voxel)
        x, y, z = (2 * max(0, math.ceil((0.5 * n * self.voxel - 0.5 * voxel) / voxel)) + 1 for n in size)
        return Grid(shape_zyx=(z, y, x), first=-(np.array([x, y, z]) // 2) * voxel, voxel=voxel)

    def picture(self) -> Placed:
        """The map, or the mean of sections in the middle of the tomogram; coarser where it is large."""
        if self.is_map:
            plane = _map_values(self.path)
        else:
            volume, _ = read_mrc(self.path)
            depth = volume.shape[0]
            around = max(1, depth // _SLAB)
            low = max(0, depth // 2 - around // 2)
            plane = np.asarray(volume[low : low + around], np.float32).mean(axis=0)
        extent = _extent(plane.shape[1], plane.shape[0], self.first, self.voxel)
        step = max(1, -(-max(plane.shape) // _PICTURE_PX))
        rows, columns = (n // step * step for n in plane.shape)
        kept = plane[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
        extent = _extent(columns, rows, self.first, self.voxel)
        return Placed(values=kept.astype(np.float32), extent=extent)


def _extent(columns: int, rows: int, first: FloatArray, voxel: float) -> tuple[float, float, float, float]:
    left, bottom = float(first[0] - 0.5 * voxel), float(first[1] - 0.5 * voxel)
    return left, left + columns * voxel, bottom, bottom + rows * voxel


def tomogram_target(root: Path, series: str) -> Target:
    """The tomogram of a series.

    Raises
    ------
    InputError : no such series, or no tomogram of it
    """
    frame = tomogram_frame(root, series)
    record = read_tilt_series(root / _TABLE, series, root).tomogram
    if record is None or record.path is None or not (root / record.path).is_file():
        raise InputError(f"The tomogram of {series} is not there. Run `eucentric reconstruct {root}` first.")
    return Target(
        name=series,
        is_map=False,
        path=root / record.path,
        size_xyz=frame.size_xyz,
        voxel=frame.voxel_size_angstrom,
        rows_from_top=False,
    )


def map_target(path: Path, pixel_size: float | None) -> Target:
    """A grid map or any other image, MRC or TIFF.

    Raises
    ------
    InputError : its pixel size is not known
    FormatError : no single image
    """
    values = _map_values(path)
    header = read_light_image(path) if _is_tiff(path) else read_mrc(path)[1]
    pixel = pixel_size or header.pixel_size_angstrom
    if not pixel:
        raise InputError(f"`{path}` does not tell its pixel size. Give it with --map-pixel-size, in A.")
    return Target(
        name="map",
        is_map=True,
        path=path,
        size_xyz=(values.shape[1], values.shape[0], 1),
        voxel=float(pixel),
        rows_from_top=_is_tiff(path),
    )


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _map_values(path: Path) -> NDArray[np.float32]:
    if _is_tiff(path):
        values = read_light_image(path).values
        values = values[:, 0] if values.shape[1] == 1 else values[0]
    else:
        array = np.asarray(read_mrc(path)[0], np.float32)
        values = array if array.ndim == 3 else array[None]
    if len(values) != 1:
        raise InputError(f"`{path}` holds {len(values)} images; expected one map. Stitch a montage first.")
    return np.asarray(values[0], np.float32)
