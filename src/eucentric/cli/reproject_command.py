"""`eucentric reproject`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json
from eucentric.errors import InputError

if TYPE_CHECKING:
    from eucentric.pipeline.reprojecting import FileGeometry

_ANGLE = Parameter(allow_leading_hyphen=True, negative=())


def reproject(
    tomogram: Path,
    /,
    *,
    output: Path,
    geometry: Path | None = None,
    series: str | None = None,
    tilts: Annotated[tuple[float, float, float] | None, _ANGLE] = None,
    angles: Path | None = None,
    tilt_axis: Annotated[float | None, _ANGLE] = None,
    pixel_size: float | None = None,
    voxel_size: float | None = None,
    table: Path | None = None,
    contrast: Literal["dark", "bright"] = "dark",
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Project a volume into images, as an aligned series or as given angles see it. Writes a stack and its angles.

    Images are line integrals in the volume's own contrast, in the frame of the camera: rotated and shifted as the
    geometry says. Give one of --geometry, --tilts and --angles.

    Parameters
    ----------
    tomogram
        volume (MRC)
    output
        stack to be made; the angles go beside it, as `.tlt`
    geometry
        table of aligned series such as `align/tilt_series.star`
    series
        name of the series in the table; not needed where the tomogram bears it
    tilts
        degrees: first, last and step, such as -60 60 3
    angles
        file with one angle a line (`.tlt`, `.rawtlt`)
    tilt_axis
        degrees from y, counter-clockwise (rlnTomoZRot), with --tilts or --angles; 0 where not given
    pixel_size
        A, of the images; that of the voxels where not given
    voxel_size
        A, instead of the one in the header of the volume
    table
        FOLDER/tilt_series.star to be made or added to: the images as an aligned series, from which particles are averaged where no
        tilt series of the tomogram is at hand: `eucentric average LIST --series TABLE --no-ctf --no-dose-weighting`
    contrast
        of protein in the tomogram, with --table: dark as recorded, bright where it was inverted
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.reprojecting import reproject_file

    del debug  # read by the program itself
    chosen = _geometry(tomogram, geometry, series, tilts, angles, tilt_axis)
    made = reproject_file(
        tomogram,
        chosen,
        output,
        device=resolve_device(device),
        pixel_size=pixel_size,
        voxel_size=voxel_size,
        table=table,
        contrast=contrast,
        overwrite=overwrite,
    )
    y, x = made.image_shape
    sys.stdout.write(
        f"Wrote {made.tilts} images of {x} x {y} pixels of {made.pixel_size_angstrom:g} A to {made.stack}, "
        f"and their angles to {made.angles}.\n"
    )
    if made.table is not None:
        sys.stdout.write(f"They are an aligned series of {made.table}.\n")
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "stack": str(made.stack),
                "angles": str(made.angles),
                "tilts": made.tilts,
                "pixel_size_angstrom": made.pixel_size_angstrom,
            }
        )
    return 0


def _geometry(
    tomogram: Path,
    geometry: Path | None,
    series: str | None,
    tilts: tuple[float, float, float] | None,
    angles: Path | None,
    tilt_axis: float | None,
) -> "FileGeometry":
    from eucentric.geometry.tilt import TiltGeometry
    from eucentric.io.imod import read_angles
    from eucentric.pipeline.reprojecting import FileGeometry, read_geometry

    given = [name for name, v in (("--geometry", geometry), ("--tilts", tilts), ("--angles", angles)) if v is not None]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'No geometry'} was given; expected one of --geometry TABLE, "
            "--tilts FIRST LAST STEP and --angles FILE."
        )
    if geometry is not None:
        if tilt_axis is not None:
            raise InputError("--tilt-axis was given with --geometry, whose table holds the axis. Leave it out.")
        return read_geometry(geometry, series, tomogram=tomogram)
    if series is not None:
        raise InputError(f"--series was given with {given[0]}; expected it with --geometry only.")
    degrees = _steps(*tilts) if tilts is not None else list(read_angles(angles or ""))
    return FileGeometry(geometry=TiltGeometry.build(degrees, z_rot_deg=tilt_axis or 0.0))


def _steps(first: float, last: float, step: float) -> list[float]:
    """Angles from the first up to and with the last."""
    if not (step > 0 and last >= first):
        raise InputError(
            f"--tilts {first:g} {last:g} {step:g} was given; expected the first angle, the last, and a step above zero."
        )
    return [first + i * step for i in range(int((last - first) / step + 1e-6) + 1)]
