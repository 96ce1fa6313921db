"""`eucentric acquisition targets`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from eucentric.cli.options import SEVERAL, AsJson, Debug, Switch, show_json

if TYPE_CHECKING:
    from eucentric.acquisition.target_results import Conflict, TargetPlan
    from eucentric.models.settings import Frozen

_UM = 1e4  # A
_TOUCHES = 1e-6  # of a series' dose: less lies in the margin
_Settings = TypeVar("_Settings", bound="Frozen")
_OPTIONS = {
    "beam_diameter_angstrom": "--beam",
    "pixel_size_angstrom": "--pixel-size",
    "camera_pixels": "--camera",
    "pretilt_deg": "--pretilt",
    "thickness_angstrom": "--thickness",
    "image_shift_limit_angstrom": "--image-shift",
    "spots": "--spots",
    "spot_diameter_angstrom": "--spot-beam",
    "spot_reach_angstrom": "--spot-reach",
    "spot_dose": "--spot-dose",
    "margin_angstrom": "--margin",
    "stage_limit_deg": "--stage-limit",
    "min_deg": "--min-tilt",
    "max_deg": "--max-tilt",
    "step_deg": "--step",
    "start_deg": "--start",
    "total_dose": "--dose",
}
_UNITS = {
    "beam_diameter_angstrom": ("um", _UM),
    "thickness_angstrom": ("nm", 10.0),
    "spot_diameter_angstrom": ("um", _UM),
    "spot_reach_angstrom": ("um", _UM),
    "margin_angstrom": ("um", _UM),
    "image_shift_limit_angstrom": ("um", _UM),
}
"""Of options whose unit is not that of the setting, and how many A it has."""
_PLACES = Parameter(negative=(), allow_leading_hyphen=True)
_NUMBER = Parameter(allow_leading_hyphen=True)


def targets(
    navigator: Path,
    /,
    *,
    map_label: Annotated[str, Parameter(name="--map")],
    output: Path,
    beam: float,
    pixel_size: float | None = None,
    plan: Path | None = None,
    points: Annotated[list[str] | None, SEVERAL] = None,
    fill: str | None = None,
    stage: Annotated[list[tuple[float, float]] | None, _PLACES] = None,
    pixels: Annotated[list[tuple[float, float]] | None, _PLACES] = None,
    area: str | None = None,
    bars: Annotated[list[str] | None, SEVERAL] = None,
    camera: tuple[int, int] | None = None,
    axis_in_image: Annotated[float | None, _NUMBER] = None,
    axis_on_stage: Annotated[float, _NUMBER] = 0.0,
    min_tilt: Annotated[float | None, _NUMBER] = None,
    max_tilt: Annotated[float | None, _NUMBER] = None,
    step: float | None = None,
    start: Annotated[float | None, _NUMBER] = None,
    dose: float | None = None,
    pretilt: Annotated[float | None, _NUMBER] = None,
    pretilt_turn: Annotated[float, _NUMBER] = 0.0,
    thickness: float | None = None,
    spots: str = "each",
    spot_beam: float | None = None,
    spot_reach: float = 6.0,
    spot_dose: float = 0.0,
    margin: float = 0.1,
    image_shift: float = 15.0,
    stage_limit: float = 70.0,
    pacetomo: str | None = None,
    picture: Path | None = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Place targets on a map of a SerialEM navigator, and write the navigator back with them.

    Each target gets a focus and a tracking spot on the line of the tilt axis through it. Every beam is checked against every
    field at every tilt, and conflicts are listed with the smallest move that resolves them. Exit code 1 where there are any.

    Parameters
    ----------
    navigator
        `.nav` file, text or XML
    map_label
        label of the map on which the targets lie; or the mdoc file of a montage, whose registration is the items'
    output
        navigator to be made
    beam
        um: diameter of the illuminated area
    pixel_size
        A: of the images of tilt series; the plan's where not given
    plan
        file of `eucentric plan-tilts`: its scheme, pixel size, camera, tilt axis, thickness and pre-tilt hold where no option
        here says otherwise
    points
        labels of points; those set to be acquired where nothing is given
    fill
        label of a polygon to be filled with targets
    stage
        um: x y of a target; may be given several times
    pixels
        x y of a target on the map's image, from its lower left corner; may be given several times
    area
        label of a polygon in which fields and spots must lie
    bars
        labels of polygons to be kept off
    camera
        pixels, x and y; 4096 4096 where neither this nor a plan tells
    axis_in_image
        degrees, anticlockwise from the camera's y axis to the tilt axis: `Tilt axis angle` of an mdoc file; 0 where not
        given, which only a square camera allows
    axis_on_stage
        degrees, anticlockwise from the stage's x axis to the tilt axis
    min_tilt, max_tilt, step
        degrees, of a dose-symmetric series or the plan's; -60, 60 and 3 where nothing is given
    start
        degrees; the plan's, or minus the pre-tilt to a whole step, where not given
    dose
        e/A^2 of a series; 120 where nothing is given
    pretilt
        degrees: the specimen lies flat at minus this stage angle
    pretilt_turn
        degrees, anticlockwise on the stage, from the tilt axis to the axis of the pre-tilt
    thickness
        nm, of the specimen; 200 where nothing is given
    spots
        each: for each target; group: for the first of each group alone
    spot_beam
        um: diameter of the area lit for focus and tracking; that of images where not given
    spot_reach
        um along the axis, from a target to its farthest spot
    spot_dose
        e/A^2 of a focus and of a tracking exposure, at each tilt
    margin
        um kept free between beams and fields
    image_shift
        um: farthest from the stage position
    stage_limit
        degrees to which the stage tilts
    pacetomo
        root name of PACEtomo targets files, one for each stage position, written beside the navigator
    picture
        PNG of targets, beams and spots, over the map if its image lies beside the navigator
    overwrite
        replace files that exist, also the navigator itself
    """
    # here, so that --help loads nothing heavy
    from eucentric.acquisition.target_params import TargetParams
    from eucentric.models.tilt_scheme import TiltScheme
    from eucentric.pipeline.target_files import TargetSource, place_target_files

    del debug  # read by the program itself
    scheme_given = {"min_deg": min_tilt, "max_deg": max_tilt, "step_deg": step, "start_deg": start, "total_dose": dose}
    given = {
        "pixel_size_angstrom": pixel_size,
        "camera_pixels": camera,
        "image_axis_angle_deg": axis_in_image,
        "pretilt_deg": pretilt,
        "thickness_angstrom": None if thickness is None else thickness * 10,
    }
    scheme_values, values = _planned(plan, scheme_given, given)
    scheme = _checked(TiltScheme, **scheme_values)
    params = _checked(
        TargetParams,
        **values,
        beam_diameter_angstrom=beam * _UM,
        stage_axis_angle_deg=axis_on_stage,
        pretilt_turn_deg=pretilt_turn,
        spots=spots,
        spot_diameter_angstrom=None if spot_beam is None else spot_beam * _UM,
        spot_reach_angstrom=spot_reach * _UM,
        spot_dose=spot_dose,
        margin_angstrom=margin * _UM,
        image_shift_limit_angstrom=image_shift * _UM,
        stage_limit_deg=stage_limit,
    )
    source = TargetSource(
        navigator=navigator,
        map_label=map_label,
        points=tuple(points or ()),
        fill=fill,
        stage_um=tuple(stage or ()),
        pixels=tuple(pixels or ()),
        area=area,
        bars=tuple(bars or ()),
    )
    made = place_target_files(source, output, scheme, params, picture=picture, pacetomo=pacetomo, overwrite=overwrite)
    _show(made.plan)
    notes = [*made.notes]
    if "image_axis_angle_deg" not in values:
        notes.append("--axis-in-image was not given: the tilt axis is taken to lie along the camera's y axis.")
    for note in notes:
        sys.stdout.write(f"note: {note}\n")
    sys.stdout.write(f"Wrote {', '.join(str(path) for path in made.files)}.\n")
    code = 1 if made.plan.conflicts else 0
    if as_json:
        show_json({"exit_code": code, "files": [str(p) for p in made.files], **_record(made.plan)})
    return code


def _planned(
    path: Path | None, scheme_given: dict[str, Any], given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of the scheme and of the settings: options before the plan's, and these before what is usual."""
    from eucentric.errors import InputError
    from eucentric.io.plan_files import read_plan

    scheme: dict[str, Any] = {}
    values: dict[str, Any] = {}
    if path is not None:
        plan = read_plan(path)
        scheme = plan.scheme.model_dump()
        values = {
            "pixel_size_angstrom": plan.microscope.pixel_size_angstrom,
            "camera_pixels": plan.microscope.image_size_px,
            "image_axis_angle_deg": plan.microscope.tilt_axis_deg,
            "pretilt_deg": plan.specimen.pretilt_deg,
            "thickness_angstrom": plan.specimen.thickness_angstrom,
        }
    both = {**values, **{name: value for name, value in given.items() if value is not None}}
    values = {name: value for name, value in both.items() if value is not None}
    scheme.update({name: value for name, value in scheme_given.items() if value is not None})
    if path is None and "start_deg" not in scheme:
        scheme["start_deg"] = _start(values.get("pretilt_deg", 0.0), scheme.get("step_deg", 3.0))
    if "pixel_size_angstrom" not in values:
        raise InputError(
            "`--pixel-size` is missing. Give that of the images of tilt series in A, or a --plan that has it."
        )
    width, height = values.get("camera_pixels", (4096, 4096))
    if "image_axis_angle_deg" not in values and width != height:
        raise InputError(
            f"`--axis-in-image` is missing: on a camera of {width} x {height} pixels the field depends on it. "
            "Give the `Tilt axis angle` of an mdoc file of this magnification."
        )
    return scheme, values


def _start(pretilt: float, step: float) -> float:
    """The whole step nearest to where the specimen lies flat."""
    return round(-pretilt / step) * step + 0.0 if step > 0 else 0.0


def _checked(model: type[_Settings], **values: object) -> _Settings:
    """Settings, or what is wrong with them under the names and in the units of their options."""
    from pydantic import ValidationError

    from eucentric.pipeline.explain import explain_validation_error

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain_validation_error(
            error, model, "the command", shown_as=lambda field: _OPTIONS.get(field, field), units=_UNITS
        ) from error


def _show(plan: "TargetPlan") -> None:
    lines = ["group  target      stage x   stage y   focus     tracking  shift     stray dose"]
    lines.append("                  um        um        um        um        um        % of series")
    for target in plan.targets:
        spots = [
            "none" if place is None else _signed((place - target.stage_angstrom) @ plan.view.axis_of_stage[1] / _UM)
            for place in (target.focus_stage_angstrom, target.tracking_stage_angstrom)
        ]
        x, y = target.stage_angstrom / _UM
        shift = target.image_shift_angstrom.max() / _UM
        stray = 100 * target.pre_exposed_fraction.max()
        lines.append(
            f"{target.group + 1:<7}{target.name:<12}{x:<10.2f}{y:<10.2f}{spots[0]:<10}{spots[1]:<10}{shift:<10.2f}{stray:.1f}"
        )
    worst = plan.view.tilts_deg[int(plan.field_seen.argmin())]
    lines.append(
        f"Field: all tilts show {plan.field_kept:.0%} of it through the whole thickness, the worst ({worst:g} degrees) "
        f"{plan.field_seen.min():.0%}; beams light {plan.field_lit:.0%} at all tilts."
    )
    lines += [_words(conflict) for conflict in plan.conflicts] or ["No conflicts."]
    sys.stdout.write("\n".join(lines) + "\n")


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: no -0.00


def _words(conflict: "Conflict") -> str:
    if conflict.other:
        low, high = min(conflict.tilts_deg), max(conflict.tilts_deg)
        what = "beam" if conflict.kind == "beam" else "focus or tracking spot"
        where = "" if conflict.dose_fraction > _TOUCHES else "margin of the "
        text = (
            f"conflict: the {what} of {conflict.other} is on the {where}field of {conflict.target} at "
            f"{len(conflict.tilts_deg)} tilts ({low:g} to {high:g} degrees), {conflict.dose_fraction:.1%} of a series' dose."
        )
        if conflict.move_stage_angstrom is None:
            return f"{text} No move of {conflict.moved} resolves it."
        dx, dy = (value / _UM for value in conflict.move_stage_angstrom)
        return f"{text} Move {conflict.moved} by {_signed(dx)}, {_signed(dy)} um."
    return {
        "no spot": f"conflict: no clear place for {'focus and tracking spots' if conflict.part == 1 else 'a tracking spot'} "
        f"of {conflict.target}.",
        "edge": f"conflict: the field of {conflict.target} leaves the area.",
        "bar": f"conflict: the field of {conflict.target} meets a bar.",
        "field": f"conflict: all tilts together show only {conflict.part:.0%} of the field.",
        "beam size": f"conflict: the beam lights only {conflict.part:.0%} of the field at all tilts.",
    }[conflict.kind]


def _record(plan: "TargetPlan") -> dict[str, object]:
    return {
        "tilts_deg": plan.view.tilts_deg.tolist(),
        "field_seen": plan.field_seen.tolist(),
        "field_kept": plan.field_kept,
        "field_lit": plan.field_lit,
        "targets": [
            {
                "name": t.name,
                "group": t.group + 1,
                "order": t.order + 1,
                "stage_um": (t.stage_angstrom / _UM).tolist(),
                "focus_um": None if t.focus_stage_angstrom is None else (t.focus_stage_angstrom / _UM).tolist(),
                "tracking_um": None
                if t.tracking_stage_angstrom is None
                else (t.tracking_stage_angstrom / _UM).tolist(),
                "image_shift_um": (t.image_shift_angstrom / _UM).tolist(),
                "stray_part": t.stray_part.tolist(),
                "stray_dose": t.stray_dose.tolist(),
            }
            for t in plan.targets
        ],
        "conflicts": [
            {
                "kind": c.kind,
                "target": c.target,
                "other": c.other,
                "tilts_deg": list(c.tilts_deg),
                "dose_fraction": c.dose_fraction,
                "moved": c.moved,
                "move_um": None if c.move_stage_angstrom is None else [v / _UM for v in c.move_stage_angstrom],
            }
            for c in plan.conflicts
        ],
    }
