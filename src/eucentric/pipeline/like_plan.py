"""Settings that make a simulated series like one that is planned."""

from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import InputError
from eucentric.io.plan_files import further_tables, read_plan
from eucentric.models.acquisition_plan import AcquisitionPlan
from eucentric.pipeline.like_project import STEEPEST_DEG, Likeness, doses_like

_MICROSCOPE = {
    "pixel_size_angstrom": ("pixel size", "pixel_size_angstrom"),
    "voltage_kv": ("voltage", "voltage_kv"),
    "image_size_px": ("image size", "image_size_px"),
    "frames": ("frames", "frames"),
    "defocus_angstrom": ("defocus", "defocus_angstrom"),
    "defocus_spread_angstrom": ("scatter of the defocus", "defocus_jitter_angstrom"),
    "tilt_axis_deg": ("tilt axis", "tilt_axis_deg"),
}
"""Field of the plan -> what it is, setting of the simulator."""
_OF_THE_PLANNER = ("purpose", "expected")
"""Tables that tell what a plan was made for."""


def like_plan(path: Path) -> Likeness:
    """Settings of the simulator from a plan file, `eucentric plan-tilts`; what the plan leaves open stays as it usually is.

    Raises
    ------
    InputError : a plan that does not fit, or that tilts beyond what the simulator can show
    FormatError : not TOML
    """
    plan = read_plan(path)
    angles = plan.scheme.angles_in_order()
    steepest = float(np.abs(angles).max())
    if steepest > STEEPEST_DEG:
        raise InputError(
            f"The plan `{path}` tilts to {steepest:g} degrees; the simulator goes to {STEEPEST_DEG:g}, where the path through the "
            "specimen is six times its thickness. Lower max_deg or raise min_deg in its [scheme]."
        )
    pretilt = plan.specimen.pretilt_deg or 0.0
    inclined = float(np.abs(angles + pretilt).max())
    if inclined > STEEPEST_DEG:
        raise InputError(
            f"The plan `{path}` tilts to {steepest:g} degrees a specimen that is inclined by {pretilt:g}: it stands at {inclined:g} "
            f"degrees to the beam, and the simulator goes to {STEEPEST_DEG:g}. Change the range or the sign of pretilt_deg."
        )
    changes, known, unknown = _scheme(plan)
    for name, (words, setting) in _MICROSCOPE.items():
        value = getattr(plan.microscope, name)
        if value is None:
            unknown.append(words)
        else:
            changes[setting] = value
            known.append(f"{words} {_shown(value)}")
    if plan.specimen.thickness_angstrom is None:
        unknown.append("thickness")
    else:
        changes["thickness_angstrom"] = plan.specimen.thickness_angstrom
        known.append(f"{plan.specimen.thickness_angstrom:.0f} A thick")
    if plan.specimen.pretilt_deg is not None:
        changes["tilt_offset_deg"] = plan.specimen.pretilt_deg
        known.append(f"pre-tilt {plan.specimen.pretilt_deg:g} degrees")
    told = [f"Like the plan `{path}`: {', '.join(known)}."]
    if unknown:
        told.append(f"Not in the plan, so the usual values stand unless given: {', '.join(unknown)}.")
    further = further_tables(path)
    told += _not_alike(further.get("purpose"))
    unread = [name for name in further if name not in _OF_THE_PLANNER]
    if unread:
        told.append(f"Not looked at in the plan: {', '.join(f'[{name}]' for name in unread)}.")
    return Likeness(series="", stage="plan", changes=changes, told=tuple(told))


def _not_alike(purpose: Any) -> list[str]:
    """How what was planned differs from what the simulator records."""
    if not isinstance(purpose, dict):
        return []
    told = []
    if purpose.get("axes") == 2:
        told.append("Of the plan's two axes the one of this file alone is simulated, with its half of the dose.")
    if purpose.get("single_exposure") is True:
        told.append("The plan is of a single exposure; simulated is a movie for each tilt.")
    return told


def _scheme(plan: AcquisitionPlan) -> tuple[dict[str, Any], list[str], list[str]]:
    angles = tuple(round(float(a), 3) for a in plan.scheme.angles_in_order())
    dose, dose_words = doses_like(plan.scheme.doses_in_order())
    changes: dict[str, Any] = {
        "tilt_angles_deg": angles,
        "tilt_min_deg": min(angles),
        "tilt_max_deg": max(angles),
        **dose,
    }
    words = f"{len(angles)} tilts from {min(angles):g} to {max(angles):g} degrees, {plan.scheme.order}"
    return changes, [words, dose_words], []


def _shown(value: Any) -> str:
    return " x ".join(str(v) for v in value) if isinstance(value, tuple) else f"{value:g}"
