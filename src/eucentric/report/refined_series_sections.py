"""The page of one tilt series in a sub-tilt refinement: how specimen and images changed, and what each image contributes."""

import numpy as np

from eucentric.figures.refinement import (
    changes_by_tilt,
    displacement_fields,
    motion_through_dose,
    signal_of_tilts,
    weights_by_tilt,
)
from eucentric.refinement.results import KeptChange
from eucentric.report.content import Picture, Section, SeriesPage, picture
from eucentric.report.params import ReportParams
from eucentric.report.refinement_sections import (
    TRIED_COLUMNS,
    RefinedSeriesFiles,
    gains_picture,
    group_label,
    tried_rows,
    with_unit,
)
from eucentric.report.sections import kept_curves
from eucentric.typing import FloatArray

_TRIED = "Good: groups that are kept gain many deviations; bad: gains that barely pass, or nothing kept where the alignment was poor."
_MOTION = (
    "Good: neighbouring places move alike, fast in the first dose and hardly at the end; bad: arrows that turn from place to place, "
    "or curves that jump up and down, which is noise taken for motion."
)
_CHANGES = (
    "Good: changes of neighbouring images differ by little more than their deviations; bad: single images that jump, which were "
    "aligned wrongly before or are now, or deviations as large as the changes."
)
_SIGNAL = (
    "Good: a signal that reaches fine detail in the first, least tilted images and fades evenly with dose; bad: rows without signal, "
    "which are images that only add noise, or fine detail that is nowhere seen."
)
_SHOWN = 4
_BY_TILT = {
    "shifts": (("x", "y"), "change of shift (Å)"),
    "angles": (("about x", "about y", "about z"), "turn of the camera (°)"),
    "magnification": (("magnification",), "change of magnification (%)"),
    "defocus by tilt": (("defocus",), "change of defocus (Å)"),
}
_COMPONENTS = {"axis": ("about x", "about y", "about z"), "astigmatism": ("along x", "at 45°")}
_FIELDS = ("volume warp", "image warp", "weights")


def refined_series_page(refinement: str, files: RefinedSeriesFiles, params: ReportParams) -> SeriesPage:
    """The page of one series.

    Parameters
    ----------
    refinement : its name
    """
    made = [_tried_section(files, params)]
    if not files.shared and files.failure is None:
        made.append(_motion_section(files, params))
    made.append(_change_section(files, params))
    if not files.shared:
        made.append(_signal_section(files, params))
    facts = [] if files.shared else [("tilts", str(len(files.tilts_deg)))]
    if files.images:
        facts.append(("images of particles compared", str(files.images)))
    return SeriesPage(
        name=f"{files.name} in refinement {refinement}",
        facts=tuple(facts),
        failed_stage=None if files.failure is None else "refinement",
        message=files.failure,
        sections=tuple(made),
    )


def _tried_section(files: RefinedSeriesFiles, params: ReportParams) -> Section:
    if not files.trials:
        return Section(title="What was tried", reading=_TRIED, caveats=("No group was tried.", *files.notes))
    return Section(
        title="What was tried",
        reading=_TRIED,
        columns=TRIED_COLUMNS,
        rows=tried_rows(files),
        pictures=(gains_picture(files, params),),
        caveats=files.notes,
    )


def _motion_section(files: RefinedSeriesFiles, params: ReportParams) -> Section:
    dpi, shown = params.dots_per_inch, []
    if files.motion_angstrom is not None:
        picks = _evenly(files.doses)
        titles = [f"{files.doses[i]:.0f} e/Å²" for i in picks]
        figure = displacement_fields(files.places_angstrom, files.motion_angstrom[picks], titles, files.extent_angstrom)
        words = (
            "Where parts of the specimen at mid-height were at some doses, from where they were on average, in the frame of the "
            "specimen; arrows are drawn longer than they are, by the bar."
        )
        shown.append(picture("Motion of the specimen", figure, dpi, words))
    if files.tracks_angstrom:
        names = list(files.tracks_angstrom)
        tracks = np.stack([files.tracks_angstrom[n] for n in names], axis=1)
        figure = motion_through_dose(files.track_doses, tracks, names)
        shown.append(
            picture(
                "Motion through dose", figure, dpi, "Of five places of the specimen, z along the beam at zero tilt."
            )
        )
    if files.image_change_angstrom is not None:
        picks = _evenly(files.tilts_deg)
        titles = [f"{files.tilts_deg[i]:.0f}°" for i in picks]
        figure = displacement_fields(
            files.places_angstrom, files.image_change_angstrom[picks], titles, files.extent_angstrom
        )
        words = "What refinement added to the deformation of some images; arrows are drawn longer than they are, by the bar."
        shown.append(picture("Bending of the images", figure, dpi, words))
    nothing = () if shown else ("No motion within the specimen or its images was kept.",)
    return Section(title="Motion", reading=_MOTION, pictures=tuple(shown), caveats=nothing)


def _change_section(files: RefinedSeriesFiles, params: ReportParams) -> Section:
    shown: list[Picture] = []
    rows: list[tuple[str, str, str]] = []
    caveats = []
    units = {t.family: t.unit for t in files.trials}
    for family, kept in files.kept.items():
        if family in _BY_TILT:
            names, label = _BY_TILT[family]
            if kept.total.size != len(files.tilts_deg) * len(names) or kept.sigma.size != kept.total.size:
                caveats.append(f"The change of {group_label(family, kept.name)} is not shown: it is of other images.")
                continue
            changes, sigma = (v.reshape(-1, len(names)) for v in (kept.total, kept.sigma))
            figure = changes_by_tilt(files.tilts_deg, changes, sigma, names, label)
            title = group_label(family, kept.name).capitalize()
            shown.append(picture(title, figure, params.dots_per_inch, "Since refinement began, with one deviation."))
        elif family not in _FIELDS:
            rows += _common_rows(kept, units.get(family, ""))
    if not shown and not rows:
        caveats.append("No shifts, angles or contrast transfer were changed.")
    return Section(
        title="Changes of the images",
        reading=_CHANGES,
        pictures=tuple(shown),
        columns=("the same for all images", "change", "deviation") if rows else (),
        rows=tuple(rows),
        caveats=tuple(caveats),
    )


def _common_rows(kept: KeptChange, unit: str) -> list[tuple[str, str, str]]:
    words = group_label(kept.family, kept.name)
    parts = _COMPONENTS.get(kept.family, tuple("xyz"[: kept.total.size]) if kept.total.size > 1 else ("",))
    return [
        (f"{words} {part}".strip(), with_unit(float(value), unit), with_unit(float(sigma), unit))
        for part, value, sigma in zip(parts, kept.total, kept.sigma, strict=False)
    ]


def _signal_section(files: RefinedSeriesFiles, params: ReportParams) -> Section:
    dpi, shown = params.dots_per_inch, []
    signal = kept_curves(files.signal, "frequency", "contrast", "sigma", "tilt_deg", "middle_dose")
    if signal:
        frequency, contrast, sigma, tilts, doses = signal
        figure = signal_of_tilts(frequency, contrast, sigma, tilts, doses)
        words = (
            "Above: the contrast of the particles' signal in each image, over its deviation, by detail. Below: the dose of the last "
            "five neighbouring images that together show it by three deviations."
        )
        shown.append(picture("Signal by detail", figure, dpi, words))
        figure = changes_by_tilt(
            tilts,
            *_halves_of_bands(contrast, sigma),
            ("coarse detail", "fine detail"),
            "signal (1: as expected)",
            usual=1.0,
        )
        words = "Over what the maps, the contrast transfer and damage by dose foretell, in the coarser and the finer half of detail."
        shown.append(picture("Signal of each image", figure, dpi, words))
    refined = (files.signal_scale, files.b_factor_angstrom2)
    if any(values.size and np.ptp(values) > 0 for values in refined):
        figure = weights_by_tilt(files.tilts_deg, *refined)
        words = "Beyond contrast transfer and damage by dose; images of high B factor show less fine detail."
        shown.append(picture("Signal and B factor of each image", figure, dpi, words))
    nothing = () if shown else ("What each image contributes was not measured.",)
    return Section(title="What each image contributes", reading=_SIGNAL, pictures=tuple(shown), caveats=nothing)


def _halves_of_bands(contrast: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Means (tilt, 2) of the coarser and the finer half of the bands, and their deviations; what is not known has none."""
    known = np.isfinite(contrast) & np.isfinite(sigma) & (sigma > 0)
    weight = np.where(known, 1.0 / np.square(np.where(known, sigma, 1.0)), 0.0)
    value = np.where(known, contrast, 0.0) * weight
    middle = contrast.shape[1] // 2
    totals = np.stack([weight[:, :middle].sum(1), weight[:, middle:].sum(1)], axis=1)
    sums = np.stack([value[:, :middle].sum(1), value[:, middle:].sum(1)], axis=1)
    totals = np.where(totals > 0, totals, np.nan)
    return sums / totals, 1.0 / np.sqrt(totals)


def _evenly(values: FloatArray) -> list[int]:
    """Places of some values, spread over them in ascending order."""
    order = np.argsort(values, kind="stable")
    picks = np.unique(np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().astype(int))
    return [int(i) for i in order[picks]]
