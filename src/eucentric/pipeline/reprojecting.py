"""Tomograms in files, projected at geometries in files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import BackendError, InputError
from eucentric.fourier.crop import rescaled_shape
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.imod import read_angles, write_angles
from eucentric.io.mrc import MrcSlabWriter, read_mrc, read_mrc_header
from eucentric.io.tilt_series import (
    read_tilt_series,
    read_tilt_series_set,
    tilt_series_names,
    write_tilt_series_set,
)
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries
from eucentric.models.tomogram_frames import tomogram_name
from eucentric.pipeline.plan import PLAN_FILE
from eucentric.reconstruction.reproject_volume import reproject_tilts, reprojected_shape

_WEAK = 0.02
"""Of the beam, that a column of one standard deviation throughout would take away."""


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
    table: Path | None = None
    """Of the images as an aligned series, where it was asked for."""


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


def read_volume(
    path: Path, voxel_size: float | None, device: torch.device, *, option: str = "--voxel-size"
) -> tuple[Tensor, float]:
    """A volume as float32 on a device, and its voxel size in A.

    Parameters
    ----------
    voxel_size : A, in place of the header's
    option : of the command, by which it is given

    Raises
    ------
    InputError : no such file; a header without voxel size, or with unequal ones, where none is given
    BackendError : it does not fit into memory
    """
    header = read_mrc_header(path)
    sizes = header.voxel_size_angstrom
    if voxel_size is None and sizes is None:
        raise InputError(f"The header of `{path}` holds no voxel size. Give it with {option}.")
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
    table: Path | None = None,
    contrast: Literal["dark", "bright"] = "dark",
    overwrite: bool = False,
) -> Reprojected:
    """Project a tomogram into the camera's frame; writes a stack and, beside it, its angles (`.tlt`).

    The images have the field of view of the series where the geometry is that of one, else that of the volume.

    Parameters
    ----------
    table : `FOLDER/tilt_series.star` to be made, or to be added to: the images as an aligned series with the tomogram's name, from
        which particles in the tomogram are extracted and averaged. They are then one and as much less as protein stands in the
        way, as transmitted beams are, and what lies outside of the tomogram is as its mean
    contrast : of protein in the tomogram, for that

    Raises
    ------
    InputError : unreadable input, or files that would be replaced unasked
    BackendError : memory
    """
    angles = output.with_suffix(".tlt")
    refuse_to_replace([output, angles], [tomogram], overwrite)
    name = tomogram_name(tomogram.name)
    others = [] if table is None else _others_of(table, name, overwrite)
    volume, voxel = read_volume(tomogram, voxel_size, device)
    if table is not None:
        volume = _transmitted(volume, voxel, contrast)
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
    level = 0.0 if table is None else 1.0
    with MrcSlabWriter(output, (count, *shape), pixel, "float32", labels=(label,), is_volume=False) as writer:
        for images in reproject_tilts(volume, geometry.geometry, voxel_size=voxel, image_shape=shape, pixel_size=pixel):
            writer.write((images + level).cpu().numpy())
    write_angles(angles, geometry.geometry.y_tilt_deg)
    if table is not None:
        made = _as_series(name, output, geometry.geometry, shape, pixel, project_of(table))
        write_tilt_series_set(table, [*others, made], project_of(table))
    return Reprojected(
        stack=output, angles=angles, tilts=count, image_shape=shape, pixel_size_angstrom=pixel, table=table
    )


def _others_of(table: Path, name: str, overwrite: bool) -> list[TiltSeries]:
    """The series of a table to which one is added."""
    if table.suffix.lower() != ".star":
        raise InputError(f"The table `{table}` was asked for; expected a name such as FOLDER/tilt_series.star.")
    if not table.is_file():
        return []
    known = read_tilt_series_set(table, project_of(table))
    if name in {s.name for s in known} and not overwrite:
        raise InputError(f"`{table}` has a series {name} already. Give another table, or replace it with --overwrite.")
    return [s for s in known if s.name != name]


def _transmitted(volume: Tensor, voxel: float, contrast: str) -> Tensor:
    """Protein negative, none outside, and weak enough for what passes through all of it to stay positive."""
    flat = volume - volume.mean()
    flat = -flat if contrast == "bright" else flat
    strongest = float(flat.std()) * volume.shape[0] * voxel
    if not strongest > 0:
        raise InputError("The tomogram is empty: all of its voxels have one value.")
    return flat * (_WEAK / strongest)


def _as_series(
    name: str, stack: Path, geometry: TiltGeometry, shape: tuple[int, int], pixel: float, root: Path
) -> TiltSeries:
    where = os.path.relpath(stack.resolve(), root.resolve()).replace(os.sep, "/")
    tilts = [
        Tilt(
            nominal_tilt_deg=float(geometry.y_tilt_deg[i]),
            acquisition=i,
            dose=0.0,
            pre_exposure=0.0,
            image=f"{i + 1}@{where}",
            pose=TiltPose(
                y_tilt_deg=float(geometry.y_tilt_deg[i]),
                z_rot_deg=float(geometry.z_rot_deg[i]),
                x_tilt_deg=float(geometry.x_tilt_deg[i]),
                x_shift_angstrom=float(geometry.shifts_angstrom[i][0]),
                y_shift_angstrom=float(geometry.shifts_angstrom[i][1]),
            ),
        )
        for i in range(len(geometry))
    ]
    return TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=pixel, image_shape=shape)


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
