"""What a tilt series' page says of its alignment and of the tilts that were left out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.alignment import (
    axis_search,
    deformation_fields,
    excluded_views,
    intensities,
    models_tried,
    residual_vectors,
    residuals_against_tilt,
    residuals_by_point,
    scores_against_tilt,
    shifts_against_tilt,
    tracks_over_image,
)
from eucentric.figures.movie import stack_frames
from eucentric.models.tilt_series import TiltSeries
from eucentric.report.content import Picture, Section, Slider, picture, slider
from eucentric.report.params import ReportParams
from eucentric.report.sections import Curves, kept_curves
from eucentric.typing import FloatArray

_IMAGES_BYTES = 75_000
_IMAGES_PX = 192


def alignment_section(series: TiltSeries, curves: Curves, params: ReportParams) -> Section | None:
    """Shifts, scores, tilt axis, tracks and deformation; None for a series without poses."""
    posed = [(t.nominal_tilt_deg, t.pose) for t in series.tilts if t.pose is not None]
    if not posed:
        return None
    dpi = params.dots_per_inch
    angles = np.array([angle for angle, _ in posed])
    shifts = np.array([[p.x_shift_angstrom, p.y_shift_angstrom] for _, p in posed])
    sigma = np.array([p.sigma_angstrom for _, p in posed])
    known = sigma if np.isfinite(sigma).any() else None
    bars = "" if known is None else " Bars are one standard deviation."
    sliders: list[Slider] = []
    pictures = []
    if (kept := kept_curves(curves, "aligned", "tilt_deg")) and len(kept[0]) == len(kept[1]):
        frames = stack_frames(kept[0], size_px=_IMAGES_PX, most_bytes=_IMAGES_BYTES)
        words = "The tilt axis stands upright. Features glide from side to side; none jumps, or drifts up or down."
        sliders.append(slider("Aligned images", frames, [f"{angle:+.1f}°" for angle in kept[1]], words))
    pictures.append(
        picture(
            "Shifts", shifts_against_tilt(angles, shifts, known), dpi, f"Of each image from the specimen centre.{bars}"
        )
    )
    if kept := kept_curves(curves, "tilt_deg", "scores"):
        words = "Agreement of each image with what the others predict."
        pictures.append(picture("Scores", scores_against_tilt(*kept), dpi, words))
    if (kept := kept_curves(curves, "axis_deg", "axis_score")) and kept[0].size > 0:
        tried, score = kept
        figure = axis_search(tried, score, float(np.median([p.z_rot_deg for _, p in posed])))
        pictures.append(picture("Search for the tilt axis", figure, dpi, "One clear peak is wanted."))
    pictures += _track_pictures(series, curves, dpi)
    return Section(
        title="Alignment",
        reading=(
            "Good: a movie in which features glide, shifts that change smoothly with the angle, scores that fall off gently to "
            "high tilts, one peak in the axis search, residuals without a common direction; bad: jumps far beyond the bars, "
            "single low scores, a flat or two-peaked search, arrows that point the same way over much of an image."
        ),
        sliders=tuple(sliders),
        pictures=tuple(pictures),
    )


def _track_pictures(series: TiltSeries, curves: Curves, dpi: int) -> list[Picture]:
    """Tracks of beads or patches, what is left at them, the models tried, and the deformation."""
    pictures: list[Picture] = []
    extent = (
        series.image_shape[1] * series.pixel_size_angstrom,
        series.image_shape[0] * series.pixel_size_angstrom,
    )
    names = (
        "tilt_deg",
        "track_point",
        "track_tilt",
        "track_position",
        "track_residual",
        "track_left_out",
        "track_outlier",
    )
    if kept := kept_curves(curves, *names):
        angles, point, tilt, position, residual, left_out, outlier = kept
        seen = angles[tilt]
        words = "Where each point is seen over the tilts; a point turns about the tilt axis on a straight path."
        pictures.append(
            picture("Tracks", tracks_over_image(point, seen, position, extent, outliers=outlier), dpi, words)
        )
        words = "Seen less expected. Arrows that agree over a part of an image tell of local motion that is not in the model."
        pictures.append(
            picture("Residuals", residual_vectors(seen, position, residual, extent, outliers=outlier), dpi, words)
        )
        per_tilt = _rms(residual, tilt, len(angles), ~outlier)
        figure = residuals_against_tilt(angles, per_tilt, _rms(left_out, tilt, len(angles), ~outlier))
        words = "Root mean squares; of the observation itself left out of the fit, as a line."
        pictures.append(picture("Residuals of the tilts", figure, dpi, words))
        points = np.unique(point)
        by_point = _rms(residual, np.searchsorted(points, point), len(points), ~outlier)
        moved = np.isin(points, curves.get("moved_point", np.zeros(0)))
        figure = residuals_by_point([str(p) for p in points], by_point, moved=moved)
        pictures.append(picture("Residuals of the points", figure, dpi, "Worst first."))
    if (kept := kept_curves(curves, "model_name", "model_error", "model_chosen")) and len(kept[0]) > 1:
        chosen = int(np.argmax(kept[2])) if kept[2].any() else None
        figure = models_tried([str(n) for n in kept[0]], kept[1], chosen)
        words = "The simplest model within one standard error of the best is taken."
        pictures.append(picture("Models", figure, dpi, words))
    if (kept := kept_curves(curves, "deformation", "tilt_deg", "exposure")) and len(kept[0]):
        figure = deformation_fields(kept[0], kept[1], kept[2], extent)
        words = "What the place in the image adds to the rigid geometry, in the order of dose."
        pictures.append(picture("Local deformation", figure, dpi, words))
    return pictures


def _rms(vectors: FloatArray, group: NDArray[Any], count: int, used: NDArray[Any]) -> FloatArray:
    """(group,) root mean square length; NaN where a group is empty."""
    squares = (vectors**2).sum(1)[used]
    number = np.bincount(group[used], minlength=count)
    total = np.bincount(group[used], weights=squares, minlength=count)
    return np.asarray(np.sqrt(np.where(number > 0, total / np.maximum(number, 1), np.nan)))


def excluded_section(series: TiltSeries, curves: Curves, params: ReportParams) -> Section:
    """Tilts that were left out, and why."""
    gone = sorted(series.excluded, key=lambda e: e.tilt.nominal_tilt_deg)
    rows = tuple((f"{e.tilt.nominal_tilt_deg:.2f}°", str(e.tilt.acquisition + 1), e.reason) for e in gone)
    pictures: list[Picture] = []
    if kept := kept_curves(curves, "all_tilt_deg", "mean_intensity"):
        angles, means = kept
        figure = intensities(angles, means, np.array([e.tilt.nominal_tilt_deg for e in gone]))
        words = "Dotted lines are the angles of excluded tilts."
        pictures.append(picture("Mean intensity", figure, params.dots_per_inch, words))
    if (kept := kept_curves(curves, "excluded", "excluded_tilt_deg")) and len(kept[0]):
        images, angles = kept
        reasons = {round(e.tilt.nominal_tilt_deg, 3): e.reason for e in gone}
        why = [reasons.get(round(float(angle), 3), "") for angle in angles]
        figure = excluded_views(list(images), angles.tolist(), why)
        pictures.append(picture("Left out by the alignment", figure, params.dots_per_inch))
    return Section(
        title="Excluded tilts",
        reading=(
            "Good: none, or a few at the highest angles that are dark or blocked; bad: many, or some near zero tilt."
            if rows
            else "No tilt was excluded. Good: none, or a few at the highest angles; bad: many, or some near zero tilt."
        ),
        columns=("tilt angle", "acquisition", "reason") if rows else (),
        rows=rows,
        pictures=tuple(pictures),
    )
