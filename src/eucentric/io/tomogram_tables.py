"""Grids of tomograms, from tables of tilt series or tomograms and from the tomograms themselves."""

import numpy as np

from eucentric.errors import FormatError
from eucentric.io.mrc import read_mrc_header
from eucentric.io.particle_columns import need_file
from eucentric.io.star import read_star, read_star_text
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames, tomogram_name
from eucentric.typing import PathLike


def read_tomogram_frames(path: PathLike, *, of_images: bool = False) -> TomogramFrames:
    """Grids of tomograms, from a table of tilt series or tomograms (ours or RELION's), or from one tomogram's own header.

    Parameters
    ----------
    path : `.star` with rlnTomoName, rlnTomoSizeX/Y/Z and rlnTomoTiltSeriesPixelSize, or `.mrc`
    of_images : in pixels of the tilt images; else in voxels of the reconstructions, where the table has them

    Raises
    ------
    InputError : no such file
    FormatError : a table without sizes
    """
    place = need_file(path)
    if place.suffix.lower() != ".star":
        header = read_mrc_header(place)
        if header.voxel_size_angstrom is None:
            raise FormatError(f"`{place}` does not tell its voxel size. Give --tomogram-size X Y Z and --pixel-size.")
        z, y, x = header.shape
        return TomogramFrames(
            by_name={
                tomogram_name(place.name): TomogramFrame(
                    voxel_size_angstrom=header.voxel_size_angstrom[0], size_xyz=(x, y, z)
                )
            }
        )
    size = tuple(f"rlnTomoSize{a}" for a in "XYZ")
    block = next(
        (b for b, t in read_star_text(place).items() if "rlnTomoName" in t and all(s in t for s in size)), None
    )
    if block is None:
        raise FormatError(f"`{place}` has no table with rlnTomoName and {', '.join(size)}.")
    table, names = read_star(place)[block], read_star_text(place)[block]["rlnTomoName"]
    own = tuple(f"eucTomogramSize{a}" for a in "XYZ")
    frames: dict[str, TomogramFrame] = {}

    def number(label: str, row: int) -> float:
        try:
            return float(table[label][row])
        except ValueError as error:
            raise FormatError(
                f"Row {row + 1} of `{place}` has `{str(table[label][row])[:60]}` for {label}; expected a number."
            ) from error

    for row, name in enumerate(names):
        pixel = number("rlnTomoTiltSeriesPixelSize", row) if "rlnTomoTiltSeriesPixelSize" in table else float("nan")
        shape = np.array([number(s, row) for s in size])
        if not of_images and all(s in table for s in (*own, "eucTomogramVoxelSizeAngst")):
            values = np.array([number(s, row) for s in own])
            if np.isfinite(values).all():
                shape, pixel = values, number("eucTomogramVoxelSizeAngst", row)
        elif not of_images and "rlnTomoTomogramBinning" in table:
            binning = number("rlnTomoTomogramBinning", row)
            if not binning > 0:
                raise FormatError(f"Row {row + 1} of `{place}` has a binning of {binning:g}; expected 1 or more.")
            with np.errstate(all="ignore"):  # what is not finite is passed over
                shape, pixel = np.round(shape / binning), pixel * binning
        if not (np.isfinite(shape).all() and np.isfinite(pixel)):
            continue
        x, y, z = (round(float(n)) for n in shape)
        frames[tomogram_name(name or "")] = TomogramFrame(voxel_size_angstrom=pixel, size_xyz=(x, y, z))
    if not frames:
        raise FormatError(f"`{place}` gives neither sizes nor pixel sizes of tomograms.")
    return TomogramFrames(by_name=frames)
