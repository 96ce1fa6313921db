"""Tomograms in files, projected at geometries in files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import BackendError, InputError
from eucentric.fourier.crop import rescaled_shape
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.imod import read_angles, write_angles
from eucentric.io.mrc import MrcSlabWriter, read_mrc, read_mrc_header
from eucentric.io.tilt_series import read_tilt_series, tilt_series_names
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.reconstruction.reproject_volume import reproject_tilts, reprojected_shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileGeometry:
    """Tilts that a file told, and the size of their images where it told that too."""

    geometry: TiltGeometry
    series: TiltSeries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprojected:
    """What was written."""

    stack: Path
    angles: Path
    tilts: int
    image_shape: tuple[int, int]
    """(y, x)."""
    pixel_size_angstrom: float


def read_geometry(path: Path, series: str | None = None, *, tomogram: Path | None = None) -> FileGeometry:
    """The geometry of an aligned series in a tilt-series table, or of plain angles (`.tlt`, `.rawtlt`).

    Parameters
    ----------
    path : `<stage>/tilt_series.star`, or a file with one angle a line
    series : name of the series in the table; where None the only one, or the one that `tomogram` is named after

    Raises
    ------
    InputError : no such file or series, several series and none chosen, or a series that is not aligned
    """
    if path.suffix.lower() != ".star":
        if series is not None:
            raise InputError(f"`{path}` holds angles and no names; a series `{series}` cannot be chosen from it.")
        return FileGeometry(geometry=TiltGeometry.build(read_angles(path)))
    if not path.is_file():
        raise InputError(f"`{path}` does not exist. Give a table such as `align/tilt_series.star`.")
    names = tilt_series_names(path)
    if series is None and len(names) == 1:
        series = names[0]
    if series is None and tomogram is not None and tomogram.stem.partition("_half")[0] in names:
        series = tomogram.stem.partition("_half")[0]
    if series is None:
        raise InputError(f"`{path}` has {len(names)} tilt series: {', '.join(names)}. Choose one by its name.")
    found = read_tilt_series(path, series, project_of(path))
    if not found.tilts:
        raise InputError(f"{series} in `{path}` has no tilts. Give angles instead.")
    return FileGeometry(geometry=TiltGeometry.from_poses(found.poses), series=found)


def project_of(table: Path) -> Path:
    """The project's folder that a table lies in; the working folder where it lies in none."""
    return next((p for p in table.resolve().parents if (p / PLAN_FILE).is_file()), Path.cwd())


def read_volume(path: Path, voxel_size: float | None, device: torch.device) -> tuple[Tensor, float]:
    """A volume as float32 on a device, and its voxel size in A.

    Raises
    ------
    InputError : no such file; a header without voxel size, or with unequal ones, where none is given
    BackendError : it does not fit into memory
    """
    header = read_mrc_header(path)
    sizes = header.voxel_size_angstrom
    if voxel_size is None and sizes is None:
        raise InputError(f"The header of `{path}` holds no voxel size. Give it with --voxel-size.")
    if voxel_size is None and sizes is not None:
        if max(sizes) > 1.001 * min(sizes):
            raise InputError(f"The voxels of `{path}` are {sizes} A wide; expected the same size along x, y and z.")
        voxel_size = sizes[0]
    need, free = 4 * int(np.prod(header.shape)), free_bytes(device)
    if need > free:
        raise BackendError(
            f"`{path}` needs {need / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be used on {device}. "
            "Reconstruct it with larger voxels."
        )
    data = np.array(read_mrc(path)[0], dtype=np.float32)
    return torch.from_numpy(data).to(device), float(voxel_size or 0.0)


def reproject_file(
    tomogram: Path,
    geometry: FileGeometry,
    output: Path,
    *,
    device: torch.device,
    pixel_size: float | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
) -> Reprojected:
    """Project a tomogram into the camera's frame; writes a stack and, beside it, its angles (`.tlt`).

    The images have the field of view of the series where the geometry is that of one, else that of the volume.

    Raises
    ------
    InputError : unreadable input, or files that would be replaced unasked
    BackendError : memory
    """
    angles = output.with_suffix(".tlt")
    refuse_to_replace([output, angles], [tomogram], overwrite)
    volume, voxel = read_volume(tomogram, voxel_size, device)
    pixel = voxel if pixel_size is None else pixel_size
    if not pixel > 0:
        raise InputError(f"The pixel size is {pixel:g} A; expected a positive number.")
    series = geometry.series
    if series is None:
        shape = reprojected_shape((volume.shape[0], volume.shape[1], volume.shape[2]), voxel, pixel)
    elif abs(pixel / series.pixel_size_angstrom - 1.0) < 1e-4:
        shape = series.image_shape
    else:
        y, x = rescaled_shape(series.image_shape, series.pixel_size_angstrom, pixel)
        shape = (y, x)
    count = len(geometry.geometry)
    label = "Eucentric projections of a volume, its own contrast"
    with MrcSlabWriter(output, (count, *shape), pixel, "float32", labels=(label,), is_volume=False) as writer:
        for images in reproject_tilts(volume, geometry.geometry, voxel_size=voxel, image_shape=shape, pixel_size=pixel):
            writer.write(images.cpu().numpy())
    write_angles(angles, geometry.geometry.y_tilt_deg)
    return Reprojected(stack=output, angles=angles, tilts=count, image_shape=shape, pixel_size_angstrom=pixel)


def refuse_to_replace(outputs: list[Path], inputs: list[Path], overwrite: bool) -> None:
    """Never write over what is read; write over other files only where asked to.

    Raises
    ------
    InputError : a file is in the way
    """
    read = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in read:
            raise InputError(f"The output `{path}` is a file that is read. Give another name.")
        if path.exists() and not overwrite:
            raise InputError(f"`{path}` exists already. Give another name, or replace it with --overwrite.")
