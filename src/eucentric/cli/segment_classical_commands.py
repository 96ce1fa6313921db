"""`eucentric segment threshold`, `faces` and `filaments`: labels that need no training."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.segmentation.threshold_params import ThresholdParams

if TYPE_CHECKING:
    from eucentric.pipeline.threshold_files import SegmentedFiles, TomogramChoice


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TomogramOptions:
    """Of commands that label tomograms."""

    only: Annotated[list[str] | None, SEVERAL] = None
    """names of tomograms to work on; wildcards allowed"""
    pixel_size: float | None = None
    """A per voxel of a tomogram whose header holds none"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:n"""
    overwrite: Switch = False
    """replace files that exist"""
    as_json: AsJson = False
    debug: Debug = False


_DEFAULT = TomogramOptions()


def threshold(
    target: Path,
    /,
    *,
    output: Path,
    protect: Path | None = None,
    settings: Annotated[ThresholdParams | None, SETTINGS] = None,
    options: TomogramOptions = _DEFAULT,
) -> int:
    """Label what is above a level: each object a number, and a table of their sizes, places and shapes.

    In this order: smooth, level, fill, open, close, erode, dilate, split, choose by size and shape.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder to be made, for labels/NAME.mrc and objects.csv; or of one tomogram the label volume (`.mrc`, `.tif`, `.zarr`), its
        table beside it
    protect
        volume of the tomogram's shape, above 0 where nothing is labelled; or a folder with one for each, NAME.mrc
    """
    from eucentric.pipeline.threshold_files import threshold_files

    params = settings or ThresholdParams()
    made = threshold_files(_choice(target, options), output, params, protect=protect, overwrite=options.overwrite)

    def told(figures: dict[str, Any]) -> str:
        level = "" if figures["level"] is None else f", level {figures['level']:.5g}"
        if figures["low_level"] is not None:
            level += f" and {figures['low_level']:.5g}"
        passed = f"{figures['above_percent']:.2f}% of the volume passed"
        if not figures["objects"]:
            return f"no object{level}; {passed}. Lower --deviations or --min-volume, or check the contrast."
        return f"{figures['objects']} objects{level}; {passed}, {figures['labelled_percent']:.2f}% is labelled."

    return _show(made, told, options)


def _choice(target: Path, options: TomogramOptions) -> "TomogramChoice":
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.threshold_files import TomogramChoice

    return TomogramChoice(
        target=target,
        only=options.only,
        pixel_size_angstrom=options.pixel_size,
        device=resolve_device(options.device),
    )


def _show(made: "SegmentedFiles", told: Callable[[dict[str, Any]], str], options: TomogramOptions) -> int:
    """Tell what was found; the exit code: 1 where a tomogram failed."""
    for name, figures in made.tomograms.items():
        sys.stdout.write(f"{name}: {figures['error'] if 'error' in figures else told(figures)}\n")
    sys.stdout.write(f"Wrote {made.table}.\n")
    code = int(bool(made.failed))
    if options.as_json:
        show_json({"exit_code": code, "table": str(made.table), "tomograms": made.tomograms})
    return code
