"""A planned tilt series as a folder: plan, files for microscope programs, picture, and what to expect, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from eucentric.acquisition.information import (
    crowther_angstrom,
    effective_doses,
    elongation,
    expected_fsc,
    expected_resolution,
    missing_fraction,
    particles_needed,
)
from eucentric.acquisition.plan_params import ExpectationParams
from eucentric.acquisition.propose_scheme import (
    Proposal,
    RatedScheme,
    SearchParams,
    order_words,
    propose_scheme,
    rate,
)
from eucentric.acquisition.schedule import Schedule, lay_out
from eucentric.errors import InputError
from eucentric.io.acquisition_files import (
    mdoc_template,
    pacetomo_settings,
    serialem_dialog,
    serialem_script,
    serialem_single_exposure_script,
    write_angle_list,
)
from eucentric.io.atomic import atomic_path, write_text_atomic
from eucentric.io.mdoc import write_mdoc
from eucentric.io.plan_files import write_plan
from eucentric.models.acquisition_plan import AcquisitionPlan, PlannedMicroscope, PlannedSpecimen
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.pipeline.explain import explain_validation_error
from eucentric.typing import FloatArray

PLAN = "plan.toml"
WORDS = "plan.md"
_SECOND_PLAN = "plan_axis2.toml"
_ENDS = ("", "_axis1", "_axis2")
_FILES = (
    *(f"{name}{end}{kind}" for end in _ENDS for name, kind in (
        ("angles", ".txt"), ("serialem_script", ".txt"), ("serialem_dialog", ".txt"), ("pacetomo_settings", ".txt"),
        ("tomography5", ".txt"), ("template", ".mdoc"),
    )),
    _SECOND_PLAN,
)  # fmt: skip
"""All that may be written beside plan, words and picture."""
_SETTLE_S = 2.0
_FRAME_DOSE = 0.5  # e/A^2; enough to align frames by, little enough to follow motion
_PARTICLES = (100, 1000, 10000)
_LEAST_DEFOCUS_UM = 0.2  # that a spread of targets goes down to


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSeries:
    """What came of planning."""

    folder: Path
    scheme: TiltScheme
    lines: tuple[str, ...]
    """To be shown."""
    figures: dict[str, Any]
    """For machines."""


def plan_tilts(
    folder: Path,
    params: ExpectationParams,
    search: SearchParams,
    *,
    scheme: Mapping[str, Any],
    microscope: PlannedMicroscope,
    as_given: bool = False,
    axes: int = 1,
    single_exposure: bool = False,
    overwrite: bool = False,
) -> PlannedSeries:
    """Choose a scheme, or take it as given, and write its folder.

    Parameters
    ----------
    scheme : settings of `TiltScheme` that the user gave; the others are searched for, or usual where `as_given`
    microscope : what is known of it; pixel size and voltage are those of `params`
    axes : 1, or 2 for a second series across the first, each with half the dose
    single_exposure : the whole series within one exposure of a camera that saves frames

    Raises
    ------
    InputError : a scheme that cannot be, or a folder that holds a plan already
    """
    if axes not in (1, 2):
        raise InputError(f"A series about {axes} axes was asked for; expected 1 or 2.")
    if not overwrite and (folder / PLAN).exists():
        raise InputError(f"`{folder}` holds a plan already. Give --overwrite to replace it, or another folder.")
    if single_exposure and "seconds_per_image" not in search.model_fields_set:
        search = search.replace(seconds_per_image=_SETTLE_S)  # nothing is tracked or written in between
    proposal = _given(params, search, scheme, axes) if as_given else propose_scheme(params, search, scheme, axes=axes)
    chosen = proposal.best.scheme
    schedules = lay_out(chosen, pretilt_deg=params.pretilt_deg, stage_limit_deg=search.stage_limit_deg, axes=axes)
    if len(schedules[0]) < 2:
        raise InputError(
            "The scheme has one image; a tilt series needs two at least. Give a wider range, or a smaller step."
        )
    known = _microscope(microscope, params, schedules[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)  # of a plan before
    notes = _write_files(folder, schedules, params, search, known, single_exposure=single_exposure)
    expected = _expected(schedules, params, proposal.best)
    more: dict[str, dict[str, Any]] = {
        "purpose": {
            "goal": params.goal,
            "resolution_angstrom": params.resolution_angstrom if params.goal == "averaging" else None,
            "axes": axes,
            "single_exposure": single_exposure,
        },
        "expected": {k: v if isinstance(v, int) else float(f"{v:.4g}") for k, v in expected.items() if v is not None},
    }
    for schedule in schedules:
        specimen = PlannedSpecimen(
            thickness_angstrom=params.thickness_angstrom,
            pretilt_deg=None if schedule.second_axis else params.pretilt_deg,
        )
        plan = AcquisitionPlan(scheme=schedule.scheme, microscope=known, specimen=specimen)
        write_plan(folder / (_SECOND_PLAN if schedule.second_axis else PLAN), plan, more)
    _draw(folder / "plan.png", schedules, proposal, params, search)
    lines = [*proposal.reasons, *_words(schedules, params, expected), *notes]
    names = [PLAN, *(name for name in _FILES if (folder / name).exists())]
    write_text_atomic(folder / WORDS, _page(schedules, lines, names))
    return PlannedSeries(folder=folder, scheme=chosen, lines=tuple(lines), figures=expected)


def _given(params: ExpectationParams, search: SearchParams, scheme: Mapping[str, Any], axes: int) -> Proposal:
    """The user's own scheme, beside the one that would be proposed for it."""
    try:
        given = TiltScheme.model_validate(dict(scheme))
    except ValidationError as error:
        raise explain_validation_error(error, TiltScheme, "the scheme given") from error
    own = rate(given, params, search, axes=axes)
    angles = own.scheme.angles_in_order()
    words = [
        f"{len(angles)} images from {angles.min():g} to {angles.max():g} degrees by {own.scheme.step_deg:g}, "
        f"{order_words(own.scheme)} from {angles[0]:g}, {own.scheme.total_dose:g} e/A2, as given."
    ]
    if params.goal != "averaging" and params.thickness_angstrom is None:
        return Proposal(best=own, others=(), reasons=tuple(words), tried=1)
    same = {"total_dose": own.scheme.total_dose}
    try:
        better = propose_scheme(params, search.replace(max_total_dose=own.scheme.total_dose), same, axes=axes).best
    except InputError:  # what was given lies outside what is proposed, such as a dose too small for many images
        return Proposal(best=own, others=(), reasons=tuple(words), tried=1)
    gain = better.value / own.value - 1.0 if own.value > 0 else math.inf
    if own.finding < 0.9 * better.finding:
        words.append(
            f"Its tomograms hold {100 * (1 - own.finding / better.finding):.0f}% less at 20 to 50 A, by which particles are found, "
            "than those of the best scheme of the same dose."
        )
    if gain > 0.01:
        words.append(
            f"For the same dose {len(better.scheme.angles_in_order())} images from {better.scheme.min_deg:g} to "
            f"{better.scheme.max_deg:g} degrees, {order_words(better.scheme)} from {better.scheme.start_deg:g}, would show "
            f"{100 * gain:.0f}% more."
        )
    elif own.finding >= 0.9 * better.finding:
        words.append("No scheme of the same dose that was tried shows 1% more.")
    return Proposal(best=own, others=(better,), reasons=tuple(words), tried=2)


def _microscope(given: PlannedMicroscope, params: ExpectationParams, schedule: Schedule) -> PlannedMicroscope:
    frames = max(2, round(float(np.median(schedule.doses)) / _FRAME_DOSE))
    return given.replace(
        pixel_size_angstrom=round(params.pixel_angstrom, 4),
        voltage_kv=params.voltage_kv,
        frames=given.frames or frames,
    )


def _defocus_um(known: PlannedMicroscope) -> tuple[float, float, float]:
    """Least, greatest and step of target defocus, underfocus negative."""
    middle = 3.5 if known.defocus_angstrom is None else 1e-4 * known.defocus_angstrom
    half = 1.5 if known.defocus_spread_angstrom is None else math.sqrt(3.0) * 1e-4 * known.defocus_spread_angstrom
    low, high = max(middle - half, min(middle, _LEAST_DEFOCUS_UM)), middle + half
    return -round(low, 2), -round(high, 2), 0.5 if high > low else 0.0


def _write_files(
    folder: Path,
    schedules: Sequence[Schedule],
    params: ExpectationParams,
    search: SearchParams,
    known: PlannedMicroscope,
    *,
    single_exposure: bool,
) -> list[str]:
    """All files but the plan; what could not be written, in words."""
    notes: list[str] = []
    for number, schedule in enumerate(schedules, 1):
        end = "" if len(schedules) == 1 else f"_axis{number}"
        times = schedule.doses / search.dose_rate
        write_angle_list(folder / f"angles{end}.txt", schedule.angles_deg)
        if single_exposure:
            script = serialem_single_exposure_script(schedule.angles_deg, times, settle_s=_SETTLE_S)
            write_text_atomic(folder / f"serialem_script{end}.txt", script)
            continue
        script = serialem_script(schedule.angles_deg, times, settle_s=_SETTLE_S)
        write_text_atomic(folder / f"serialem_script{end}.txt", script)
        mdoc = mdoc_template(
            f"TS_01{end}", schedule.scheme, known, doses=schedule.doses, pre_exposures=schedule.pre_exposures
        )
        write_mdoc(folder / f"template{end}.mdoc", mdoc)
        notes += _write_settings(folder, end, schedule, params, search, known)
    if single_exposure:
        notes.append(
            "SerialEM's Tilt Series dialog, PACEtomo and Tomography 5 record image by image, each a movie of its own; a single "
            "exposure needs the script, and has no mdoc of its own to plan."
        )
    return list(dict.fromkeys(notes))


def _write_settings(
    folder: Path,
    end: str,
    schedule: Schedule,
    params: ExpectationParams,
    search: SearchParams,
    known: PlannedMicroscope,
) -> list[str]:
    """What is entered into dialogs; what these cannot hold, in words."""
    notes, scheme = [], schedule.scheme
    dialog = serialem_dialog(scheme, exposure_s=float(schedule.doses[0]) / search.dose_rate)
    if dialog is None:
        what = "another dose" if scheme.start_dose is not None else "a place in the first group"
        notes.append(f"SerialEM's dialogs cannot give the first image {what}; use the script.")
    else:
        write_text_atomic(folder / f"serialem_dialog{end}.txt", dialog)
    try:
        lines = pacetomo_settings(
            scheme,
            defocus_um=_defocus_um(known),
            exposure_s=float(schedule.doses[0]) / search.dose_rate,
            pretilt_deg=0.0 if schedule.second_axis else params.pretilt_deg,
        )
        write_text_atomic(folder / f"pacetomo_settings{end}.txt", lines)
    except InputError as error:
        notes.append(str(error))
    write_text_atomic(folder / f"tomography5{end}.txt", _tomography5(scheme, schedule, known))
    return notes


def _tomography5(scheme: TiltScheme, schedule: Schedule, known: PlannedMicroscope) -> str:
    """What to enter by hand: Tomography 5 reads no file of a scheme."""
    least, most, step = _defocus_um(known)
    hybrid = f", the first {schedule.doses[0]:.2f}" if scheme.start_dose is not None else ""
    others = schedule.doses[1:]
    each = f"{others.min():.2f} e/A2"
    if scheme.dose_split != "even":
        each = f"{others.min():.2f} to {others.max():.2f} e/A2, by 1/cos of the angle"
    lines = [
        f"Tilt scheme: {scheme.order}",
        f"Start angle: {schedule.angles_deg[0]:g}",
        f"Maximum positive angle: {schedule.angles_deg.max():g}",
        f"Maximum negative angle: {schedule.angles_deg.min():g}",
        f"Tilt step: {scheme.step_deg:g}",
        f"Dose for each image: {each}{hybrid}",
        f"Total dose: {schedule.doses.sum():.1f} e/A2",
        f"Fractions: {known.frames}",
        f"Defocus: {least:g} to {most:g} um by {step:g}",
    ]
    if scheme.group_size > 1 or scheme.group_growth or scheme.one_sided_beyond_deg is not None:
        lines.append(f"(planned: {order_words(scheme)}; where groups cannot be set, single alternation shows as much)")
    return "\n".join(lines) + "\n"


def _expected(schedules: Sequence[Schedule], params: ExpectationParams, best: RatedScheme) -> dict[str, Any]:
    first = schedules[0]
    total = sum(float(s.doses.sum()) for s in schedules)
    figures: dict[str, Any] = {
        "images": sum(len(s) for s in schedules),
        "total_dose": total,
        "least_dose_per_image": float(min(s.doses.min() for s in schedules)),
        "minutes": best.duration_s / 60.0,
        "steepest_inclination_deg": float(np.abs(first.inclinations_deg).max()),
        "missing_part_of_directions": missing_fraction(schedules),
        "elongation": elongation(first),
        "crowther_angstrom": crowther_angstrom(best.scheme.step_deg, _size(params)),
        "value": best.value,
    }
    if params.goal == "averaging":
        figures["particles_needed"] = particles_needed(schedules, params.resolution_angstrom, params)
        if params.particles is not None:
            figures["expected_resolution_angstrom"] = expected_resolution(schedules, params.particles, params)
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _size(params: ExpectationParams) -> float:
    return params.diameter_angstrom if params.goal == "averaging" else params.thickness


def _words(schedules: Sequence[Schedule], params: ExpectationParams, expected: Mapping[str, Any]) -> list[str]:
    first = schedules[0]
    cosine = math.cos(math.radians(float(np.abs(first.inclinations_deg).max())))
    longest = params.thickness / cosine
    through = math.exp(-longest / params.inelastic_path_angstrom)
    lines = [
        f"About {expected['minutes']:.0f} minutes; {expected['least_dose_per_image']:.2f} e/A2 or more in each image.",
        f"At {expected['steepest_inclination_deg']:.0f} degrees from the specimen's normal the beam passes {longest / 10:.0f} nm; "
        f"{100 * through:.0f}% of it pass the filter.",
        f"{100 * expected['missing_part_of_directions']:.0f}% of all directions are missing; round things look "
        f"{expected['elongation']:.2f} times longer along the beam.",
        f"Slices fill the transform of {'a particle' if params.goal == 'averaging' else 'the specimen'} "
        f"of {_size(params) / 10:.0f} nm to "
        f"{expected['crowther_angstrom']:.0f} A (Crowther).",
    ]
    if params.thickness_angstrom is None:
        lines.append("The thickness was not given and taken as 150 nm. Give --thickness-angstrom.")
    if params.goal != "averaging":
        return lines
    needed = expected["particles_needed"]
    shown = "no number of"
    if needed is not None:
        shown = f"about {round(needed, 1 - math.floor(math.log10(max(needed, 1.0)))):,.0f}"
    lines.append(
        f"Half maps of {params.particle_kda:g} kDa particles reach {params.resolution_angstrom:g} A with {shown} particles, at a B "
        f"factor of {params.b_factor_angstrom2:g} A2."
    )
    if "expected_resolution_angstrom" in expected:
        reached = expected["expected_resolution_angstrom"]
        told = f"reach {reached:.1f} A" if reached is not None else "are too few for any resolution"
        lines.append(f"{params.particles:,} particles {told}.")
    return lines


def _draw(
    path: Path, schedules: Sequence[Schedule], proposal: Proposal, params: ExpectationParams, search: SearchParams
) -> None:
    from eucentric.figures.tilt_plan import planned_scheme

    finest = min(0.5 / params.pixel_angstrom, 1.0 / 2.5)
    frequency = np.linspace(1.0 / 60.0, finest, 160)

    def summed(laid: Sequence[Schedule]) -> FloatArray:
        return np.asarray(np.sum([effective_doses(s, frequency, params).sum(0) for s in laid], axis=0))

    curves = {order_words(proposal.best.scheme): summed(schedules)}
    for other in proposal.others:
        name = order_words(other.scheme)
        if len(curves) < 4 and name not in curves and other.scheme.order != proposal.best.scheme.order:
            laid = lay_out(
                other.scheme,
                pretilt_deg=params.pretilt_deg,
                stage_limit_deg=search.stage_limit_deg,
                axes=len(schedules),
            )
            curves[name] = summed(laid)
    counts = sorted({*_PARTICLES, *([params.particles] if params.particles else [])})
    fsc = {f"{n:,} particles": expected_fsc(schedules, frequency, n, params) for n in counts}
    figure = planned_scheme(
        schedules[0].angles_deg,
        schedules[0].pre_exposures,
        schedules[0].doses,
        pretilt_deg=params.pretilt_deg,
        frequency=frequency,
        effective_doses=curves,
        fsc=fsc,
    )
    with atomic_path(path) as place:
        figure.savefig(place, format="png", dpi=120)


def _page(schedules: Sequence[Schedule], lines: Sequence[str], names: Sequence[str]) -> str:
    rows = [
        f"| {'second axis, ' if schedule.second_axis else ''}{number} | {angle:.2f} | {dose:.2f} | {before:.2f} |"
        for schedule in schedules
        for number, (angle, dose, before) in enumerate(
            zip(schedule.angles_deg, schedule.doses, schedule.pre_exposures, strict=True), 1
        )
    ]
    parts = [
        "# Planned tilt series",
        "",
        *(f"- {line}" for line in lines),
        "",
        "![order, directions and expectations](plan.png)",
        "",
        f"Files: {', '.join(f'`{name}`' for name in names)}. "
        "`plan.toml` is for `eucentric simulate --like`; angles are in degrees, in order of acquisition.",
        "",
        "| image | angle (degrees) | dose (e/A2) | dose before |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(parts) + "\n"
