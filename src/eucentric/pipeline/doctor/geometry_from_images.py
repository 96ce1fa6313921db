"""Tilt axis and pre-tilt: what the metadata say against what the images show."""

import math
from collections.abc import Iterator
from pathlib import Path

from eucentric.pipeline.aligning import median_axis, nominal_axis
from eucentric.pipeline.doctor.axis import AxisRelation, AxisVerdict, full_turn, judge_axis
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.doctor.commands import command
from eucentric.pipeline.doctor.findings import (
    CERTAIN_SIGMAS,
    Confidence,
    Fault,
    NotChecked,
    Passed,
    Remedy,
    Result,
    Severity,
)
from eucentric.pipeline.doctor.measure import Measured, MeasuredAxis
from eucentric.pipeline.plan import Plan

_PRE_TILT_DEG = 5.0
"""Grids lie flat to a few degrees; lamellae are milled at 8 to 20."""
_CLEAR = 3.0
_WORDS: dict[AxisRelation, str] = {
    "turned by 90": "does not fit the images; one turned by 90 degrees does",
    "mirrored": "does not fit the images; one of the other sign does",
    "off": "does not fit the images",
    "agrees": "fits the images",
}


def check_geometry(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    """The tilt axis up to its sense, and how the specimen lies at a stage angle of zero."""
    yield from _axis(case, measured)
    yield from _pre_tilt(case, measured)


def axis_seen(case: SeriesCase, measured: Measured | None) -> tuple[MeasuredAxis, str] | None:
    """The axis of the images, and how it was found: of the alignment, which knows it best, or measured just now."""
    record = case.records.get("align")
    aligned = case.aligned
    if record is not None and aligned is not None and "tilt_axis_deg" in record.metrics:
        settings = record.parameters
        free = settings.get("axis_search_deg", 0.0) and settings.get("method") not in ("none", "centre-of-mass")
        if free:
            sigma = record.metrics.get("tilt_axis_sigma_deg") or math.nan
            found = MeasuredAxis(
                axis_deg=median_axis(aligned), sigma_deg=max(0.3, sigma if math.isfinite(sigma) else 0.5)
            )
            return found, "the alignment"
    if measured is not None and measured.axis is not None:
        return measured.axis, "the movement of image parts between neighbouring tilts"
    return None


def right_direction(case: SeriesCase, measured: Measured | None, verdict: AxisVerdict) -> tuple[float, str]:
    """The axis with its sense, -180 to 180, and what tells the sense."""
    rings = None if measured is None else measured.rings
    if rings is None or not rings.test.decided:
        why = "the gradient of the defocus was not looked at" if rings is None else "the rings do not tell it"
        return verdict.direction_deg, f"its sense is the one next to what was given: {why}"
    series = case.series
    expected = -1.0 if series is None else series.hand
    agrees = rings.test.hand == expected
    turned = rings.axis_deg if agrees else rings.axis_deg + 180.0
    return full_turn(turned), (
        f"its sense follows from the gradient of the defocus ({rings.test.sigmas:.1f} standard errors) with hand {expected:+.0f}"
    )


def _axis(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    if case.series is None:
        return
    seen = axis_seen(case, measured)
    given = nominal_axis(case.series)
    if seen is None:
        if measured is not None or case.records.get("align") is not None:
            why = "no image was looked at" if measured is None else measured.why_not.get("axis", "it was not measured")
            yield NotChecked(check="tilt-axis", series=case.name, text=f"The tilt axis was not compared: {why}.")
        return
    axis, how = seen
    text = f"{axis.axis_deg:.1f} +- {axis.sigma_deg:.1f} degrees by {how}"
    if given is None:
        yield _no_axis(case, measured, axis, text)
        return
    verdict = judge_axis(given, axis.axis_deg, axis.sigma_deg)
    if verdict.relation == "agrees":
        yield Passed(
            check="tilt-axis",
            series=case.name,
            text=f"The tilt axis is {given:.1f} degrees in the metadata and {text} (180 degrees more or less are the same to it).",
        )
        return
    yield _wrong_axis(case, measured, verdict, given, text)


def _no_axis(case: SeriesCase, measured: Measured | None, axis: MeasuredAxis, text: str) -> Fault:
    verdict = judge_axis(axis.axis_deg, axis.axis_deg, axis.sigma_deg)
    value, sense = right_direction(case, measured, verdict)
    return Fault(
        check="tilt-axis",
        severity="warning",
        confidence="certain",
        title="The metadata do not tell the tilt axis.",
        compared=f"No file gives it; the images show {text}; {sense}.",
        consequence="All directions have to be searched, and where the images do not tell the sense of the axis the tomogram may "
        "come out as its mirror image.",
        remedies=(Remedy(command=case.importing.having(tilt_axis=value).then_run()),),
        series=case.name,
    )


def _wrong_axis(case: SeriesCase, measured: Measured | None, verdict: AxisVerdict, given: float, text: str) -> Fault:
    value, sense = right_direction(case, measured, verdict)
    mdoc = case.mdoc
    hints = ""
    if verdict.relation == "turned by 90" and mdoc is not None and mdoc.tilt_axis_angle_deg is not None:
        angles = [s.rotation_angle_deg for s in mdoc.sections if s.rotation_angle_deg is not None]
        if angles and abs(full_turn(angles[0] - given)) < 1.0:
            hints = " The number given is RotationAngle, which is the axis plus 90 in SerialEM's files."
    consequence = (
        "Whoever takes the given axis stretches neighbouring images along the wrong direction, and nothing aligns. `eucentric align` "
        "goes over to the axis of the images by itself, with the sense next to the one given: if that is the wrong one, the "
        "tomogram is the mirror image, and all maps will be of the wrong hand."
    )
    if verdict.relation == "mirrored":
        consequence = (
            "Either the sign of the axis is wrong, and the command mends it. Or the images were flipped after they were recorded: "
            "then they align, but the tomogram is the mirror image and all maps will be of the wrong hand; no axis mends that, so "
            "make sure that nothing flipped the movies or stacks (rows of MRC files point up, those of TIFF down)."
        )
    confidence: Confidence = "certain" if verdict.sigmas >= 2 * CERTAIN_SIGMAS else "likely"
    severity: Severity = "error"
    return Fault(
        check="tilt-axis",
        severity=severity,
        confidence=confidence,
        title=f"The tilt axis of the metadata {_WORDS[verdict.relation]}.",
        compared=f"The metadata say {given:.1f} degrees; the images show {text}, {abs(verdict.apart_deg):.1f} degrees from it "
        f"({sense}).{hints}",
        consequence=consequence,
        remedies=(Remedy(command=case.importing.having(tilt_axis=round(value, 1)).then_run()),),
        series=case.name,
        sigmas=verdict.sigmas,
    )


def _pre_tilt(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    found = _pre_tilt_seen(case, measured)
    if found is None:
        if measured is not None:
            text = "The images do not darken with tilt as a slab does, so its pre-tilt is not known."
            yield NotChecked(check="pre-tilt", series=case.name, text=text)
        return
    value, sigma, how = found
    if abs(value) < _PRE_TILT_DEG or abs(value) < _CLEAR * sigma:
        text = f"At stage angle 0 the specimen lies level within {value:.1f} +- {sigma:.1f} degrees, by {how}."
        yield Passed(check="pre-tilt", series=case.name, text=text)
        return
    levels = case.project is not None and _levels(case.project)
    made = command("eucentric", "reconstruct", case.shown, "--auto-level")
    when = "" if case.aligned is not None else "once it is aligned"
    words = (
        "The project levels it as it is reconstructed (auto_level)" if levels else "Nothing levels it as things are set"
    )
    yield Fault(
        check="pre-tilt",
        severity="note" if levels else "warning",
        confidence="certain" if abs(value) > CERTAIN_SIGMAS * max(sigma, 0.5) else "likely",
        title=f"The specimen is tilted by {abs(value):.0f} degrees about the tilt axis at stage angle 0.",
        compared=f"By {how} it lies level at {-value:.1f} +- {sigma:.1f} degrees, not at 0: a lamella, a bent grid, or angles with a "
        "constant offset.",
        consequence="The tomogram is slanted unless it is levelled: it needs more slices, and a z coordinate is no depth. "
        "Images of high "
        f"tilt look through more ice on one side. {words}. In other programs add {value:+.1f} degrees to every tilt angle.",
        remedies=() if levels else (Remedy(command=made, when=when),),
        series=case.name,
        sigmas=abs(value) / max(sigma, 1e-9),
    )


def _levels(project: Path) -> bool:
    return bool(Plan.load(project).params("reconstruct").auto_level)


def _pre_tilt_seen(case: SeriesCase, measured: Measured | None) -> tuple[float, float, str] | None:
    aligned = case.aligned
    specimen = None if aligned is None else aligned.specimen
    if specimen is not None and math.isfinite(specimen.pre_tilt_y_sigma_deg):
        return specimen.pre_tilt_y_deg, specimen.pre_tilt_y_sigma_deg, "what the alignment measured of the specimen"
    light = None if measured is None else measured.light
    if light is not None and light.found:
        return light.y_tilt_deg, light.y_tilt_sigma_deg, "how the images darken to both sides"
    return None
