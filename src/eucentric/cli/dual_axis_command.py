"""`eucentric dual-axis`."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.options import AsJson, Debug, Switch, show_json


def dual_axis(
    tomogram_a: Path,
    tomogram_b: Path,
    /,
    *,
    geometry_a: Path,
    geometry_b: Path,
    output: Path,
    series_a: str | None = None,
    series_b: str | None = None,
    turn: Annotated[float | None, Parameter(allow_leading_hyphen=True)] = None,
    voxel_size: float | None = None,
    float32: Switch = False,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Combine two tomograms of one specimen tilted about two axes: the missing wedge shrinks to a pyramid.

    The second is laid onto the first by rotation and shift, found where both sampled Fourier space, and both are
    combined there, each where it sampled. Beside the volume a picture of the coverage (`.png`) and the motion (`.json`)
    are written.

    Parameters
    ----------
    tomogram_a
        volume (MRC); the result has its frame and size
    tomogram_b
        volume of the same voxel size, of the series about the other axis
    geometry_a
        table such as `align/tilt_series.star`, or a file of angles (`.tlt`), behind the first
    geometry_b
        the same for the second
    output
        combined volume
    series_a
        name of the first series in its table; not needed where the tomogram bears it
    series_b
        name of the second series
    turn
        degrees about z that take the second volume to the first, known to 15; all turns are searched where not given
    voxel_size
        A, instead of the ones in the headers
    float32
        store the volume as float32 instead of float16
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.dual_axis import combine_files
    from eucentric.pipeline.reprojecting import read_geometry

    del debug  # read by the program itself
    made = combine_files(
        tomogram_a,
        tomogram_b,
        read_geometry(geometry_a, series_a, tomogram=tomogram_a),
        read_geometry(geometry_b, series_b, tomogram=tomogram_b),
        output,
        device=resolve_device(device),
        turn_deg=turn,
        voxel_size=voxel_size,
        float16=not float32,
        overwrite=overwrite,
    )
    found, missing = made.registration, made.coverage
    x, y, z = found.motion.angles_deg
    shift, sigma = found.motion.shift_angstrom, found.sigma_shift_angstrom
    sys.stdout.write(
        f"The second volume is turned by {z:.2f} degrees about z, {y:.2f} about y and {x:.2f} about x, and shifted by "
        f"{shift[0]:.1f}, {shift[1]:.1f}, {shift[2]:.1f} A (each to {sigma.max():.1f} A).\n"
        f"They match by {found.significance:.0f} standard deviations of chance. Missing in Fourier space: "
        f"{100 * missing.missing:.0f}%, of either alone {100 * missing.missing_of_each[0]:.0f}% and "
        f"{100 * missing.missing_of_each[1]:.0f}%.\n"
        f"Wrote {made.volume}, {made.picture} and {made.record}.\n"
    )
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "volume": str(made.volume),
                "rotation": found.motion.rotation.tolist(),
                "shift_angstrom": shift.tolist(),
                "significance": found.significance,
                "missing": missing.missing,
            }
        )
    return 0
