"""`eucentric correlate`: light microscopy over tomograms and grid maps."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, show_json
from eucentric.pipeline.correlate_params import CorrelateParams


def correlate(
    project: Path,
    /,
    *,
    landmarks: Path,
    fluorescence: Path | None = None,
    series: str | None = None,
    map_file: Annotated[Path | None, Parameter(name="--map")] = None,
    map_pixel_size: float | None = None,
    after: str | None = None,
    name: str | None = None,
    fluorescence_beads: Path | None = None,
    target_beads: Path | None = None,
    settings: Annotated[CorrelateParams | None, SETTINGS] = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Register a fluorescence image or stack to a tomogram or grid map by landmarks, and write it in that frame.

    Wrong landmarks are found and named, and so is a mirrored image. The result lies under the tomogram in `eucentric view`.

    Parameters
    ----------
    project
        project folder; results are written to `correlate/NAME`
    landmarks
        table (CSV or STAR) with fluorescence_x, fluorescence_y, target_x, target_y, and perhaps fluorescence_z, target_z: pixels
        counted from 0, rows of TIFF from the top
    fluorescence
        TIFF (OME, ImageJ or plain) with any number of channels and sections
    series
        the tilt series whose tomogram is the target
    map_file
        grid map as the target: one image, MRC or TIFF
    map_pixel_size
        A, where its file does not tell
    after
        name of a registration to a map: its image is taken on, and the landmarks are between that map and the tomogram
    name
        of the result; that of the image's file where not given
    fluorescence_beads, target_beads
        tables (CSV) with x, y and perhaps z of beads that both images show, in any order: the registration is made finer by them
    overwrite
        replace files that exist
    """
    # here, so that --help loads nothing heavy
    from eucentric.pipeline.correlate_files import correlate_files
    from eucentric.pipeline.correlate_source import CorrelateInputs
    from eucentric.pipeline.steps import find_project

    del debug  # read by the program itself
    inputs = CorrelateInputs(
        fluorescence=fluorescence,
        landmarks=landmarks,
        series=series,
        map_file=map_file,
        map_pixel_size=map_pixel_size,
        after=after,
        fluorescence_beads=fluorescence_beads,
        target_beads=target_beads,
    )
    stem = fluorescence.name.split(".")[0] if fluorescence is not None else f"{after}_{series}"
    made = correlate_files(
        find_project(project), name or stem, inputs, settings or CorrelateParams(), overwrite=overwrite
    )
    about = made.about
    for one in about["landmarks"]:
        mark = "" if one["used"] else "   WRONG"
        sys.stdout.write(
            f"{one['name']}: {one['error_angstrom'] / 10:.0f} nm, {one['left_out_error_angstrom'] / 10:.0f} nm when left out{mark}\n"
        )
    hand = "mirrored" if about["mirrored"] else "not mirrored"
    sys.stdout.write(
        f"Turned by {about['angle_deg']:.1f} degrees, scale {about['scale']:.3f}, {hand}. "
        f"Landmarks are off by {about['rms_angstrom'] / 10:.0f} nm rms, by {about['left_out_rms_angstrom'] / 10:.0f} nm when each is "
        f"left out; "
        f"the middle of the target is known to {about['sigma_at_middle_angstrom'] / 10:.0f} nm.\n"
    )
    if about["beads"] is not None:
        sys.stdout.write(
            f"{about['beads']['pairs']} beads seen in both: {about['beads']['rms_angstrom'] / 10:.0f} nm rms.\n"
        )
    for text in about["caveats"]:
        sys.stdout.write(f"note: {text}\n")
    sys.stdout.write(f"Wrote {', '.join(str(path) for path in made.files)}.\n")
    if as_json:
        show_json({"exit_code": 0, "folder": str(made.folder), "files": [str(p) for p in made.files], **about})
    return 0
