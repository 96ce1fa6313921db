"""`eucentric plan-tilts`."""

import sys
from pathlib import Path
from typing import Annotated

from pydantic import model_validator

from eucentric.acquisition.plan_params import ExpectationParams
from eucentric.acquisition.propose_scheme import SearchParams
from eucentric.cli.options import SETTINGS, AsJson, Debug, Switch, option_name, show_json
from eucentric.models.acquisition_plan import PlannedMicroscope
from eucentric.models.tilt_scheme import TiltScheme


class GivenTilts(TiltScheme):
    """Settings of a scheme that are given, of which the others are not known yet: whether they fit together shows later."""

    @model_validator(mode="after")
    def _consistent(self) -> "GivenTilts":
        return self


def plan_tilts(
    folder: Path,
    /,
    *,
    as_given: Switch = False,
    dual_axis: Switch = False,
    single_exposure: Switch = False,
    scheme: Annotated[GivenTilts | None, SETTINGS] = None,
    expectation: Annotated[ExpectationParams | None, SETTINGS] = None,
    search: Annotated[SearchParams | None, SETTINGS] = None,
    image_size_px: tuple[int, int] | None = None,
    frames: int | None = None,
    defocus_angstrom: float | None = None,
    defocus_spread_angstrom: float | None = None,
    tilt_axis_deg: float | None = None,
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Propose a tilt scheme for a goal, say what it will show, and write what microscope programs need.

    Settings of the scheme that are given stay; the others are searched for. Written are plan.toml (for `eucentric simulate
    --like`), angles.txt in order of acquisition, entries for SerialEM's dialogs and Tomography 5, a SerialEM script, settings for
    PACEtomo, an mdoc template, plan.png, and plan.md with all of it in words.

    Parameters
    ----------
    folder
        folder to make
    as_given
        take the scheme as given, with usual values for what is not, and say what it shows
    dual_axis
        a second series across the first, each with half the dose
    single_exposure
        the whole series in one exposure of a camera that saves frames, the beam blanked between tilts
    image_size_px
        x, y of the camera; of the plan for simulations and of the mdoc
    frames
        in each movie; 0.5 e/A2 in each where not given
    defocus_angstrom
        A, underfocus positive; the middle of the targets, 35000 where not given
    defocus_spread_angstrom
        A, one standard deviation of the targets from series to series
    tilt_axis_deg
        degrees, the turn that takes the image's y axis onto the tilt axis, as `Tilt axis angle` of SerialEM's mdoc files
    overwrite
        replace a plan that is there
    """
    del debug  # read by the program itself
    from pydantic import ValidationError

    from eucentric.pipeline.explain import explain_validation_error
    from eucentric.pipeline.plan_tilts import plan_tilts as plan  # here, so that --help does not load torch

    try:
        microscope = PlannedMicroscope(
            image_size_px=image_size_px,
            frames=frames,
            defocus_angstrom=defocus_angstrom,
            defocus_spread_angstrom=defocus_spread_angstrom,
            tilt_axis_deg=tilt_axis_deg,
        )
    except ValidationError as error:
        raise explain_validation_error(
            error, PlannedMicroscope, "the command", shown_as=lambda name: f"--{option_name(name)}"
        ) from error
    given = {} if scheme is None else {name: getattr(scheme, name) for name in scheme.model_fields_set}
    made = plan(
        folder,
        expectation or ExpectationParams(),
        search or SearchParams(),
        scheme=given,
        microscope=microscope,
        as_given=as_given,
        axes=2 if dual_axis else 1,
        single_exposure=single_exposure,
        overwrite=overwrite,
    )
    for line in made.lines:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"Written to `{made.folder}`: see {made.folder / 'plan.md'}.\n")
    if as_json:
        show_json({"folder": made.folder.as_posix(), "scheme": made.scheme.model_dump(), "expected": made.figures})
    return 0
