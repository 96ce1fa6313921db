"""What pages say of how tilt series were taken."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from eucentric.acquisition.advise import Advice
from eucentric.acquisition.fit_eucentric import Figure
from eucentric.acquisition.judge_series import SeriesJudgement
from eucentric.acquisition.replay_track import FIRST_JUDGED, replay
from eucentric.errors import EucentricError
from eucentric.figures.acquisition import defocus_against_target, field_against_tilt, movement_in_movies, stage_path
from eucentric.report.content import MetricTable, Picture, Section, format_number, metric_label, picture
from eucentric.report.params import ReportParams

TITLE = "Stage and acquisition"
_READING = (
    "Good: predictions on the measured points within their bands, defocus along the line asked for, movement below the dotted "
    "line, every image with nearly the whole field; bad: jumps where the stage turned back, a slope of defocus, a field that is "
    "lost at high tilts."
)


def acquisition_section(
    judged: SeriesJudgement,
    figures: Mapping[str, Figure],
    advice: Sequence[Advice],
    words: Sequence[str],
    doubts: Sequence[str],
    params: ReportParams,
) -> Section:
    """How a series was taken, and what to do otherwise.

    Parameters
    ----------
    figures : of the series, by name
    words : what places and heights are
    doubts : what they are where they are not the stage's
    """
    dpi = params.dots_per_inch
    pictures = [_path(judged, words, dpi)]
    one = judged.recording
    if np.isfinite(one.defocus_angstrom).any():
        figure = defocus_against_target(
            one.tilts_deg, one.defocus_angstrom, one.defocus_sigma_angstrom, one.target_defocus_angstrom
        )
        words_here = "Of the middle of the specimen, with one standard deviation."
        pictures.append(picture("Defocus against target", figure, dpi, words_here))
    if (motion := judged.motion) is not None:
        drawn = movement_in_movies(motion.tilts_deg, motion.early_speeds, motion.late_speeds, motion.harmless_speed)
        told = "Below the dotted line a frame keeps 90% of its contrast at twice the pixel size."
        if math.isfinite(motion.wait_s) and motion.wait_s > 0:
            told += f" By its decay, {motion.wait_s:.1f} s longer would have let the stage settle."
        pictures.append(picture("Movement in exposures", drawn, dpi, told))
    # poses, and with them the field, are in ascending order of tilt
    drawn = field_against_tilt(np.sort(one.tilts_deg, kind="stable"), judged.field.by_image)
    pictures.append(picture("Field kept", drawn, dpi, "Part of the field of the untilted image that each image shows."))
    rows = tuple((a.topic, a.found, a.cost, a.remedy) for a in advice)
    return Section(
        title=TITLE,
        reading=_READING if rows else f"Nothing to change was found. {_READING}",
        columns=("about", "what was found", "what it costs", "what to do") if rows else (),
        rows=rows,
        pictures=tuple(pictures),
        metrics=tuple((_label(name), _with_sigma(f)) for name, f in figures.items() if f.is_known),
        caveats=tuple(doubts),
    )


_RATES = {"_angstrom_per_deg": "Å/°", "_angstrom_per_s": "Å/s", "_angstrom_per_minute": "Å/min", "_s": "s"}


def _label(name: str) -> str:
    """A figure's name in words with its unit."""
    for ending, unit in _RATES.items():
        if name.endswith(ending):
            return f"{name.removesuffix(ending).replace('_', ' ')} ({unit})"
    return metric_label(name)


def _with_sigma(figure: Figure) -> str:
    value = format_number(figure.value)
    return f"{value} ± {format_number(figure.sigma)}" if math.isfinite(figure.sigma) and figure.sigma > 0 else value


def _path(judged: SeriesJudgement, known: Sequence[str], dpi: int) -> Picture:
    track = judged.measured.track
    start = track.position_angstrom[0]
    measured = np.column_stack([track.position_angstrom - start, track.height_angstrom])
    sigma = np.column_stack([track.position_sigma_angstrom, track.position_sigma_angstrom, track.height_sigma_angstrom])
    predicted = spread = None
    told = "Grey: a point that turns about the tilt axis."
    try:
        again = replay(track)
    except (EucentricError, np.linalg.LinAlgError):
        pass  # the page shows what was measured
    else:
        predicted = again.predicted_angstrom - np.append(start, 0.0)
        spread = again.sigma_angstrom
        left = again.error_angstrom[FIRST_JUDGED:]
        if np.isfinite(left[:, :2]).any():
            rms = float(np.sqrt(np.nanmean((left[:, :2] ** 2).sum(axis=1)))) / 10.0
            told += f" Predicted from the images before each, {rms:.0f} nm off (root mean square, from the fifth on)."
    smooth = judged.eucentric.smooth - np.append(start, 0.0)
    figure = stage_path(track.tilts_deg, measured, sigma, predicted, spread, smooth)
    words = (
        "In the order of acquisition (left), and less the geometry against tilt (right), with one standard deviation."
    )
    words = " ".join((words, told, *known))
    return picture("Path of the stage, predicted and measured", figure, dpi, words)


def acquisition_table(figures: Mapping[str, Mapping[str, Figure]]) -> MetricTable | None:
    """The figures of all series side by side; None where there is none."""
    names = [n for n in next(iter(figures.values()), {}) if any(of[n].is_known for of in figures.values())]
    if not names:
        return None
    return MetricTable(
        stage=TITLE,
        columns=tuple(_label(name) for name in names),
        rows=tuple(
            (series, tuple(format_number(of[n].value) if of[n].is_known else "" for n in names))
            for series, of in figures.items()
        ),
    )


def session_note(judged: int, others: int) -> str:
    """What the advice on the page of the project is made of."""
    if judged == 0:
        return ""
    rest = f" {others} could not be judged." if others else ""
    return (
        f"What half or more of the {judged} judged series share; advice on single ones stands on their pages.{rest} "
        "Good: an empty list. `eucentric acquisition learn` writes the same figures as a table."
    )
