"""Aligned tilt series of a project, judged for how they were taken."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.acquisition.advise import Advice, advise_series
from eucentric.acquisition.fit_eucentric import Figure
from eucentric.acquisition.goniometer import GoniometerModel
from eucentric.acquisition.judge_series import SeriesJudgement, judge_series
from eucentric.acquisition.measure_track import (
    ImageShiftFit,
    MeasuredTrack,
    Recording,
    estimate_image_shift,
    record_series,
)
from eucentric.acquisition.replay_track import prediction_errors
from eucentric.acquisition.results import PredictionErrors
from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.stage_track import StageTrack
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import excluded_series, read_records, row_path

_ALIGNED = ("reconstruct", "ctf", "axis", "align")
"""Stages whose tables hold poses, the last first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedSeries:
    """One series, or why it could not be judged."""

    name: str
    judged: SeriesJudgement | None = None
    advice: tuple[Advice, ...] = ()
    problem: str = ""
    image_shift: ImageShiftFit | None = None
    fingerprint: str = ""
    """Of the recording itself: the same however often it is aligned."""
    prediction: PredictionErrors | None = None
    """Where places are those of the stage."""


def read_aligned(root: Path) -> tuple[list[TiltSeries], dict[str, str]]:
    """Every series of a project as the furthest stage left it, and of those that cannot be read, why.

    Raises
    ------
    InputError : no such project, or nothing in it has been aligned
    """
    if not root.is_dir():
        raise InputError(f"There is no project `{root}`. Check the name, or make it with `eucentric import`.")
    records = {stage: read_records(root / stage) for stage in _ALIGNED}
    left_out = excluded_series(read_exclusions(root))
    found, problems = [], {}
    for name in sorted({name for of_stage in records.values() for name in of_stage} - set(left_out)):
        done = [s for s in _ALIGNED if name in records[s] and records[s][name].is_done]
        if not done:
            problems[name] = "Its alignment failed."
            continue
        try:
            found.append(read_tilt_series(row_path(root / done[0], name), name, root))
        except (EucentricError, OSError) as error:
            problems[name] = str(error)
    if not found and not problems:
        raise InputError(f"No tilt series of `{root}` has been aligned. Run `eucentric run {root} --until ctf` first.")
    return found, problems


def judge_all(series: Sequence[TiltSeries]) -> list[JudgedSeries]:
    """Judge series of one microscope; the image shift is found from all of one pixel size together.

    A series that cannot be judged has its problem in words instead.
    """
    recordings: dict[float, list[Recording]] = defaultdict(list)
    problems: dict[str, str] = {}
    for one in series:
        try:
            recordings[round(one.pixel_size_angstrom, 3)].append(record_series(one))
        except EucentricError as error:
            problems[one.name] = str(error)
    shifts = {size: estimate_image_shift(some) for size, some in recordings.items()}
    return [_judged(one, problems, shifts.get(round(one.pixel_size_angstrom, 3))) for one in series]


def _judged(one: TiltSeries, problems: dict[str, str], shift: ImageShiftFit | None) -> JudgedSeries:
    if one.name in problems:
        return JudgedSeries(name=one.name, problem=problems[one.name])
    try:
        judged = judge_series(one, shift)
    except (EucentricError, ArithmeticError, np.linalg.LinAlgError) as error:
        return JudgedSeries(name=one.name, problem=f"It could not be judged: {error}")
    return JudgedSeries(
        name=one.name,
        judged=judged,
        advice=advise_series(judged),
        image_shift=shift if judged.measured.tracking == "corrected" else None,
        fingerprint=recording_fingerprint(one),
        prediction=predicted_against_measured(judged.measured),
    )


def stage_track(measured: MeasuredTrack) -> StageTrack:
    """The path of the stage; heights that the microscope may have refocused are not the stage's."""
    if measured.focusing in ("corrected", "none"):
        return measured.track
    unknown = np.full(len(measured.track), np.nan)
    return replace(measured.track, height_angstrom=unknown, height_sigma_angstrom=unknown)


def predicted_against_measured(
    measured: MeasuredTrack, goniometer: GoniometerModel | None = None
) -> PredictionErrors | None:
    """What prediction would have missed; None where places are not those of the stage, or lie beyond it.

    Parameters
    ----------
    goniometer : as it was before it learned from this series
    """
    if measured.tracking not in ("corrected", "none"):
        return None
    try:
        return prediction_errors(stage_track(measured), goniometer)
    except (EucentricError, np.linalg.LinAlgError):
        return None


def recording_fingerprint(series: TiltSeries) -> str:
    """Of what the microscope did, in the order of acquisition; not of what was made of it later."""
    every = sorted([*series.tilts, *(e.tilt for e in series.excluded)], key=lambda t: t.acquisition)
    parts = [
        [round(t.nominal_tilt_deg, 3), t.acquisition, t.image_shift_um, t.time_s, Path(t.movie or "").name]
        for t in every
    ]
    return hashlib.sha256(json.dumps([series.name, parts]).encode()).hexdigest()[:32]


FIGURES: dict[str, str] = {
    "tilts": "images that were used",
    "eucentric_height_angstrom": "of the specimen over the tilt axis",
    "axis_distance_angstrom": "of the specimen from the tilt axis, across it",
    "axis_offset_angstrom": "from the centre of the camera to where it sees the tilt axis",
    "backlash_across_angstrom": "places reached from below less those reached from above, across the axis",
    "backlash_along_angstrom": "the same along the axis",
    "drift_across_angstrom_per_minute": "over the series, across the axis",
    "drift_along_angstrom_per_minute": "the same along the axis",
    "step_angstrom": "from an image to the next, as seen; root mean square",
    "step_after_turns_angstrom": "the same where the stage turned back",
    "worst_angstrom": "farthest from the place in the first image",
    "early_speed_angstrom_per_s": "within the first third of the exposures",
    "late_speed_angstrom_per_s": "within the last third",
    "settling_s": "time constant of the movement in exposures",
    "wait_s": "to settle longer",
    "defocus_error_angstrom": "defocus less target, mean",
    "defocus_slope_angstrom_per_deg": "of that with the tilt angle",
    "defocus_scatter_angstrom": "about both",
    "field_kept_by_all": "part of the untilted field that every image shows",
    "field_kept_by_most": "the same of nine images in ten",
    "start_tilt_deg": "stage angle at which the specimen lies level",
    "information_left": "at 4 A, over that of the best order of the same images",
    "blocked_tilts": "images that were left out",
    "prediction_error_across_angstrom": "measured less predicted one tilt ahead, across the axis; root mean square",
    "prediction_error_along_angstrom": "the same along the axis",
    "prediction_error_height_angstrom": "the same of the height",
    "prediction_series": "series that the goniometer model knew which helped to predict",
}
"""Of each series: name, and what it means."""


def figures_of_series(judged: SeriesJudgement, prediction: PredictionErrors | None = None) -> dict[str, Figure]:
    """All figures by name (`FIGURES`)."""
    fit, steps, motion, defocus = judged.eucentric, judged.steps, judged.motion, judged.defocus
    none = Figure()
    real = fit.by_height or judged.measured.tracking in ("corrected", "none")
    return {
        "tilts": Figure(float(judged.tilt_count), 0.0),
        "eucentric_height_angstrom": fit.height if real else none,
        "axis_distance_angstrom": fit.distance if real else none,
        "axis_offset_angstrom": judged.axis_offset,
        "backlash_across_angstrom": fit.backlash_across,
        "backlash_along_angstrom": fit.backlash_along,
        "drift_across_angstrom_per_minute": judged.drift_per_minute[0],
        "drift_along_angstrom_per_minute": judged.drift_per_minute[1],
        "step_angstrom": Figure(math.hypot(steps.across, steps.along)),
        "step_after_turns_angstrom": Figure(steps.after_turns),
        "worst_angstrom": Figure(steps.worst),
        "early_speed_angstrom_per_s": none if motion is None else motion.early,
        "late_speed_angstrom_per_s": none if motion is None else motion.late,
        "settling_s": none if motion is None else motion.settling_s,
        "wait_s": none if motion is None else Figure(motion.wait_s),
        "defocus_error_angstrom": none if defocus is None else defocus.mean,
        "defocus_slope_angstrom_per_deg": none if defocus is None else defocus.slope_per_deg,
        "defocus_scatter_angstrom": none if defocus is None else Figure(defocus.scatter),
        "field_kept_by_all": Figure(judged.field.by_all),
        "field_kept_by_most": Figure(judged.field.by_most),
        "start_tilt_deg": Figure(judged.start_tilt_deg, judged.pre_tilt.sigma) if judged.pre_tilt.is_known else none,
        "information_left": none if judged.dose_order is None else Figure(judged.dose_order.part_left),
        "blocked_tilts": Figure(float(len(judged.blocked)), 0.0),
        "prediction_error_across_angstrom": none if prediction is None else Figure(prediction.across),
        "prediction_error_along_angstrom": none if prediction is None else Figure(prediction.along),
        "prediction_error_height_angstrom": none if prediction is None else Figure(prediction.height),
        "prediction_series": none if prediction is None else Figure(float(prediction.series_known), 0.0),
    }


TRACKING_WORDS = {
    "corrected": "image shift known and taken out: places are those of the stage",
    "none": "no image shift was applied: places are those of the stage",
    "residual": "how the image shift moves the camera could not be told: places are what the microscope's own tracking left",
    "unknown": "the files hold no image shift: places are what the microscope's own tracking left, if it tracked",
}
FOCUSING_WORDS = {
    "corrected": "the microscope's focus changes are taken out: heights are those of the stage",
    "none": "the microscope did not refocus: heights are those of the stage",
    "residual": "how the microscope refocused is not known: heights are what it left",
    "unknown": "the files do not say how the microscope refocused: heights are what it left",
}


def as_record(one: JudgedSeries) -> dict[str, Any]:
    """Everything of one series in plain numbers, for a file."""
    if one.judged is None:
        return {"name": one.name, "problem": one.problem}
    judged, shift = one.judged, one.image_shift
    track = judged.measured.track
    return {
        "name": one.name,
        "fingerprint": one.fingerprint,
        "tracking": judged.measured.tracking,
        "focusing": judged.measured.focusing,
        "image_shift": None
        if shift is None
        else {
            "matrix_angstrom_per_um": shift.matrix.tolist(),
            "sigma_angstrom_per_um": shift.sigma_angstrom,
            "scale": shift.scale,
            "turn_deg": shift.turn_deg,
            "mirrored": shift.mirrored,
        },
        "figures": {
            name: {"value": _number(f.value), "sigma": _number(f.sigma)}
            for name, f in figures_of_series(judged, one.prediction).items()
        },
        "advice": [
            {"topic": a.topic, "found": a.found, "cost": a.cost, "remedy": a.remedy, "value": a.value, "unit": a.unit}
            for a in one.advice
        ],
        "track": {
            "tilts_deg": _numbers(track.tilts_deg),
            "position_angstrom": [_numbers(row) for row in track.position_angstrom],
            "position_sigma_angstrom": _numbers(track.position_sigma_angstrom),
            "height_angstrom": _numbers(track.height_angstrom),
            "height_sigma_angstrom": _numbers(track.height_sigma_angstrom),
            "times_s": _numbers(track.times_s),
            "field_kept": _numbers(judged.field.by_image),
        },
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Any) -> list[float | None]:
    return [_number(float(v)) for v in values]
