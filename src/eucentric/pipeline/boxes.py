"""Small boxes of a tilt series in files: subtomograms without a tomogram."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.mrc import write_mrc
from eucentric.io.relion_particles import read_relion_particles
from eucentric.io.star import write_star
from eucentric.models.tilt_series import TiltSeries
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.pipeline.images import read_deformation, read_images
from eucentric.pipeline.reprojecting import project_of, read_geometry, refuse_to_replace
from eucentric.pipeline.store import ItemStore
from eucentric.reconstruction.fourier_inversion import reconstruct_boxes
from eucentric.typing import FloatArray

_COORDINATES = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
_TOMOGRAM = "rlnTomoName"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesMade:
    """What was written."""

    boxes: tuple[Path, ...]
    table: Path
    voxel_size_angstrom: float
    empty: tuple[int, ...]
    """Numbers, from 1, of the places that no image shows."""


def read_positions(path: Path, series: str) -> FloatArray:
    """Places (n, 3) in A from the specimen centre, from a STAR file of particles or from plain columns x, y, z.

    Parameters
    ----------
    path : RELION-5 `.star` (rows of other tomograms are passed over, origins taken off in the frames they are in, and a table
        that names no tomogram is of this one), or text
    series : whose particles are wanted

    Raises
    ------
    InputError : no such file, or none of the series in it
    FormatError : columns missing, or values that are not numbers
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist. Give a table of particles, or text with x, y and z in A.")
    if path.suffix.lower() == ".star":
        particles = read_relion_particles(path, tomogram=series)
        places = np.array(particles.in_tomogram(series).positions_angstrom)
    else:
        try:
            places = np.loadtxt(path, ndmin=2, delimiter="," if "," in path.read_text(encoding="utf-8") else None)
        except ValueError as error:
            raise FormatError(f"`{path}` is not a table of numbers: {error}. Expected x, y and z in A.") from error
        if len(places) and places.shape[1] != 3:
            raise FormatError(f"`{path}` has {places.shape[1]} columns; expected three: x, y and z in A.")
    if not len(places):
        raise InputError(f"`{path}` holds no position in {series}.")
    if not np.isfinite(places).all():
        raise FormatError(f"`{path}` holds positions that are not numbers.")
    return np.asarray(places, dtype=np.float64)


def reconstruct_box_files(
    table: Path,
    series: str | None,
    positions: FloatArray | Path,
    output: Path,
    *,
    box_size: int,
    device: torch.device,
    voxel_size: float | None = None,
    correct_ctf: bool = True,
    dose_weighting: bool = True,
    overwrite: bool = False,
) -> BoxesMade:
    """Write one volume for each place to `output`, and `boxes.star` with where each was.

    Parameters
    ----------
    table : `<stage>/tilt_series.star` of an aligned project
    series : its name; not needed where the table has one
    positions : (n, 3) A from the specimen centre, or a file for :func:`read_positions`
    voxel_size : A; that of the images where None
    correct_ctf : divide by the contrast transfer at the height of each box (Wiener)

    Raises
    ------
    InputError : unreadable input, no CTF where it is to be corrected, or files that would be replaced unasked
    """
    if table.suffix.lower() != ".star":
        raise InputError(
            f"`{table}` is no table of tilt series. Give `ctf/tilt_series.star` or `align/tilt_series.star`."
        )
    found = read_geometry(table, series).series
    if found is None:
        raise InputError(f"`{table}` holds no tilt series. Give `ctf/tilt_series.star` or `align/tilt_series.star`.")
    if box_size < 8:
        raise InputError(f"Boxes of {box_size} voxels were asked for; expected 8 or more.")
    centres = read_positions(positions, found.name) if isinstance(positions, Path) else positions
    voxel = found.pixel_size_angstrom if voxel_size is None else voxel_size
    if not voxel > 0:
        raise InputError(f"The pixel size is {voxel:g} A; expected a positive number.")
    paths = tuple(output / f"{found.name}_{i + 1:04d}.mrc" for i in range(len(centres)))
    listing = output / "boxes.star"
    refuse_to_replace([*paths, listing], [table], overwrite)
    boxes = _reconstruct(found, table, centres, box_size, voxel, correct_ctf, dose_weighting, device)
    for path, box in zip(paths, boxes, strict=True):
        write_mrc(path, box.cpu().numpy(), voxel, "float32")
    columns = {name: centres[:, axis].tolist() for axis, name in enumerate(_COORDINATES)}
    names = [path.name for path in paths]
    write_star(listing, {"particles": {_TOMOGRAM: [found.name] * len(paths), **columns, "rlnImageName": names}})
    empty = tuple(i + 1 for i, box in enumerate(boxes) if not bool(box.any()))
    return BoxesMade(boxes=paths, table=listing, voxel_size_angstrom=voxel, empty=empty)


def _reconstruct(
    series: TiltSeries,
    table: Path,
    centres: FloatArray,
    box_size: int,
    voxel_size: float,
    correct_ctf: bool,
    dose_weighting: bool,
    device: torch.device,
) -> torch.Tensor:
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    if correct_ctf and not series.has_ctf:
        raise InputError(
            f"No contrast transfer is known of {series.name} in `{table}`. Give `ctf/tilt_series.star`, or --no-ctf."
        )
    store = ItemStore(project_of(table), "", series.name)
    bent = read_deformation(series, store)
    return reconstruct_boxes(
        read_images(series, store, device),
        TiltGeometry.from_poses(series.poses),
        centres,
        moved_angstrom=None if bent.volume is None else bent.volume.along(centres, series.middle_doses),
        pixel_size=series.pixel_size_angstrom,
        box_size=box_size,
        voxel_size=voxel_size,
        ctf=fits if correct_ctf else None,
        optics=series.optics,
        hand=series.hand,
        pre_exposures=series.pre_exposures if dose_weighting else None,
        doses=series.doses if dose_weighting else None,
        signal=TiltStrength.of(series.tilts) if dose_weighting else None,
        warp=bent.image,
    )
