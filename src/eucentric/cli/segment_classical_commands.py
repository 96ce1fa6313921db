"""`eucentric segment threshold`, `faces` and `filaments`: labels that need no training."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.errors import InputError
from eucentric.segmentation.params import SpecimenParams
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
_PRESETS: dict[str, tuple[float, float | None]] = {"microtubule": (250.0, 45.0), "actin": (70.0, None)}
"""Diameter and thickness of the wall, A."""
_GAP_DIAMETERS = 2.0


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


def faces(
    target: Path,
    /,
    *,
    output: Path,
    margin: Annotated[float, Parameter(allow_leading_hyphen=True)] = 0.0,
    settings: Annotated[SpecimenParams | None, SETTINGS] = None,
    options: TomogramOptions = _DEFAULT,
) -> int:
    """Find the faces of the ice or lamella: a mask of what lies between, and a map of the thickness.

    The specimen is told from empty space by its texture; the volume must reach beyond both faces.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder to be made, for masks/NAME.mrc, thickness/NAME.mrc in A across the specimen, its picture, and faces.csv
    margin
        A along z by which masks reach beyond the faces; negative leaves out so much below them
    """
    from eucentric.pipeline.faces_files import faces_files

    made = faces_files(
        _choice(target, options),
        output,
        settings or SpecimenParams(),
        margin_angstrom=margin,
        overwrite=options.overwrite,
    )

    def told(figures: dict[str, Any]) -> str:
        return (
            f"{figures['thickness_angstrom']:.0f} A thick ({figures['thinnest_angstrom']:.0f} to {figures['thickest_angstrom']:.0f}), "
            f"rises by {figures['rises_along_x_deg']:.1f} degrees along x and {figures['rises_along_y_deg']:.1f} along y; the mask is "
            f"{figures['volume_percent']:.0f}% of the volume."
        )

    return _show(made, told, options)


def filaments(
    target: Path,
    /,
    *,
    output: Path,
    preset: Literal["microtubule", "actin"] | None = None,
    diameter: float | None = None,
    wall: float | None = None,
    gap: float | None = None,
    gap_angle: float = 20.0,
    contrast: Literal["dark", "bright"] = "dark",
    protect: Path | None = None,
    min_score: float = 6.0,
    max_score: float | None = None,
    min_length: float | None = None,
    max_bend: float = 20.0,
    persistence: float | None = None,
    spacing: float | None = None,
    options: TomogramOptions = _DEFAULT,
) -> int:
    """Trace filaments, join their pieces, and label each by a tube of its diameter.

    The polarity is left open: points run from either end, rlnAnglePsiFlipRatio is 0.5 and the table says unknown.

    Parameters
    ----------
    target
        project, table such as `reconstruct/tilt_series.star`, or one tomogram (`.mrc`)
    output
        folder to be made, for labels/NAME.mrc, models/NAME.mod (IMOD), points.star and filaments.csv
    preset
        microtubule: 250 A with a wall of 45; actin: 70 A, solid
    diameter
        A, outside; that of the preset where not given
    wall
        A: thickness of the wall of a tube; that of the preset, or solid, where not given
    gap
        A between the ends of pieces that are joined to one filament, at most; two diameters where not given, 0 joins none
    gap_angle
        degrees by which the pieces may point past each other
    contrast
        of protein in the tomogram: dark as recorded, bright where it was inverted
    protect
        volume of the tomogram's shape, above 0 where nothing is traced, such as labels of thicker filaments; or a folder with one
        for each, NAME.mrc
    min_score
        standard deviations at the best place of a filament; noise reaches 5
    max_score
        median of a piece, at most: edges of carbon and gold score several times as much as thin filaments
    min_length
        A, of each piece; four diameters where not given
    max_bend
        degrees from one diameter of length to the next, at most
    persistence
        A over which it keeps its direction; 10 um for 70 A, and in proportion, where not given
    spacing
        A between points; half the diameter where not given
    """
    if preset is None and diameter is None:
        raise InputError(
            "Nothing says how thick the filaments are. Give --preset microtubule, --preset actin or --diameter."
        )
    # here, so that --help does not load torch
    from eucentric.picking.trace_params import TraceParams
    from eucentric.pipeline.filament_label_files import label_filament_files
    from eucentric.segmentation.filaments import LinkLimits

    usual = _PRESETS.get(preset or "", (0.0, None))
    params = TraceParams(
        diameter_angstrom=usual[0] if diameter is None else diameter,
        wall_angstrom=usual[1] if wall is None else wall,
        contrast=contrast,
        min_score=min_score,
        min_length_angstrom=min_length,
        max_bend_deg=max_bend,
        persistence_angstrom=persistence,
        spacing_angstrom=spacing,
    )
    longest = _GAP_DIAMETERS * params.diameter_angstrom if gap is None else gap
    made = label_filament_files(
        _choice(target, options),
        output,
        params,
        None if longest == 0 else LinkLimits(gap_angstrom=longest, angle_deg=gap_angle),
        name=preset or "filament",
        protect=protect,
        max_score=float("inf") if max_score is None else max_score,
        overwrite=options.overwrite,
    )

    def told(figures: dict[str, Any]) -> str:
        if not figures["filaments"]:
            return "no filament. Check the diameter, the wall and the contrast, or lower --min-score."
        joined = f", {figures['joined']} gaps bridged" if figures["joined"] else ""
        return f"{figures['filaments']} filaments, {figures['length_angstrom']:.0f} A in all{joined}."

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
