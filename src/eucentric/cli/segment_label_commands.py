"""`eucentric segment convert`."""

import sys
from pathlib import Path

from eucentric.cli.options import AsJson, Debug, Switch, show_json


def convert(
    labels: Path,
    output: Path,
    /,
    *,
    like: Path | None = None,
    pixel_size: float | None = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Write labels in another format, with the same numbers at the same places.

    Contours of IMOD are filled, a contour in another one of the same object is a hole; to IMOD each label becomes an object.

    Parameters
    ----------
    labels
        `.mrc`, `.tif`, OME-Zarr folder, or IMOD model (`.mod`)
    output
        file to be made, its format by its name: `.mrc`, `.tif`, `.zarr`, `.mod`; or IMAGE.ome.zarr/labels/NAME to add to an image
    like
        tomogram that they are of: gives the voxel size, and the shape that is asked for
    pixel_size
        A per voxel, where neither file tells it
    overwrite
        replace files that exist
    """
    from eucentric.pipeline.label_files import convert_labels

    del debug  # read by the program itself
    made = convert_labels(labels, output, like=like, pixel_size=pixel_size, overwrite=overwrite)
    sys.stdout.write(
        f"Wrote {made.count} label{'s' * (made.count != 1)} of {' x '.join(map(str, made.shape[::-1]))} voxels (x, y, z) of "
        f"{made.voxel_size_angstrom:g} A to {output}.\n"
    )
    if as_json:
        show_json(
            {
                "exit_code": 0,
                "output": str(output),
                "labels": made.count,
                "shape_zyx": list(made.shape),
                "voxel_size_angstrom": made.voxel_size_angstrom,
            }
        )
    return 0
