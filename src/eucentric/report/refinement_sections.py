"""The page of a sub-tilt refinement: what it brought, what was tried, what was kept and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eucentric.figures.overview import Correlation, compared_correlations
from eucentric.figures.refinement import gains_of_groups, resolution_by_round
from eucentric.refinement.results import GroupTrial, KeptChange
from eucentric.report.content import Picture, Section, SeriesPage, format_number, picture
from eucentric.report.params import ReportParams
from eucentric.typing import FloatArray

_RESULT = (
    "Good: finer resolution of every species, more area under the curves, particles that moved by some ångström at most; bad: no "
    "change although the start was poor, or particles that moved by a large part of their size."
)
_RESOLUTION = (
    "Good: the curve after lies above the one before wherever that falls, and both reach zero and stay there; bad: curves that "
    "cross, a tail that stays above zero (halves share something), or resolution that gets worse from round to round."
)
_TRIED = (
    "Each group of changes was fitted to some particles and judged by others that had no part in the fit. Good: groups that are kept "
    "gain many deviations, and their change is larger than its uncertainty; bad: gains that barely pass, which few particles or "
    "coarse maps explain, or not one group kept in a series whose alignment was poor. The uncertainty of a motion of the specimen "
    "counts what all doses share, which the particles' own places take up."
)
_KEPT = (
    "Good: groups kept in series that were aligned by other means than these particles; bad: nothing kept anywhere, which means "
    "few particles, coarse maps, or geometry that was right already."
)
_TAKEN_BACK = "Round {number} was taken back: the halves of a map agreed less than before it."
_NOT_REFINED = "{name} could not be refined and is as it was: {why}"
_SPECIES = (
    "species",
    "particles",
    "resolution before (Å)",
    "resolution after (Å)",
    "area under the FSC, change",
    "moved, median (Å)",
    "turned, median (°)",
)
_UNITS = {"A": "Å", "degrees": "°", "rad A^3": "rad Å³"}
_WORDS = {
    "shifts": "shifts of the images",
    "volume warp": "motion of the specimen",
    "image warp": "bending of the images",
    "axis": "one turn of all images",
    "angles": "angles of each image",
    "magnification": "magnification of each image",
    "anisotropic magnification": "unequal magnification along x and y",
    "defocus": "defocus of the series",
    "defocus by tilt": "defocus of each image",
    "weights": "signal and B factor of each image",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefinedSeriesFiles:
    """What is kept of one refined series; parts may be missing. Images are in ascending tilt angle."""

    name: str
    shared: bool = False
    """Stands for what all series, or those of an optics group, share, and for no series of its own."""
    failure: str | None = None
    images: int | None = None
    """Of particles, that were compared."""
    trials: tuple[GroupTrial, ...] = ()
    kept: Mapping[str, KeptChange]
    """By family."""
    tilts_deg: FloatArray
    """(tilt,); none where the tables are not there."""
    doses: FloatArray
    """(tilt,), e/A^2 in the middle of each image."""
    signal_scale: FloatArray
    """(tilt,)."""
    b_factor_angstrom2: FloatArray
    """(tilt,)."""
    extent_angstrom: tuple[float, float] = (1.0, 1.0)
    """Width and height of the images."""
    places_angstrom: FloatArray
    """(place, 2), x and y from the middle, where displacements are told."""
    image_change_angstrom: FloatArray | None = None
    """(tilt, place, 2), how the bending of the images changed."""
    motion_angstrom: FloatArray | None = None
    """(tilt, place, 3), of the specimen at mid-height, less its mean over the images."""
    track_doses: FloatArray
    """(dose,), e/A^2."""
    tracks_angstrom: Mapping[str, FloatArray]
    """(dose, 3) of places in words, less the same mean."""
    signal: Mapping[str, FloatArray]
    """`frequency` (band,), `contrast` and `sigma` (tilt, band), `tilt_deg` and `middle_dose` (tilt,)."""
    notes: tuple[str, ...] = ()
    """What could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefinementFiles:
    """What is kept of a refinement; parts may be missing."""

    name: str
    finished: bool
    history: Sequence[Mapping[str, Any]]
    """Rounds, the start first."""
    species: Mapping[str, Mapping[str, Any]]
    """Figures of each, as `refine.json` has them."""
    correlations: Mapping[str, Sequence[Correlation]]
    """Of each species, before and after."""
    series: Sequence[RefinedSeriesFiles]
    caveats: tuple[str, ...] = ()


def group_words(family: str) -> str:
    """A family of groups in words."""
    return _WORDS.get(family, family)


def group_label(family: str, name: str) -> str:
    """A group of unknowns in words, with the points of its grid."""
    words = group_words(family)
    grid = name.removeprefix(family).strip() if name.startswith(family) else ""
    numbers = grid.split(" x ") if grid else []
    if len(numbers) == 4:
        return f"{words} ({' × '.join(numbers[:3])} points, {numbers[3]} doses)"
    return f"{words} ({' × '.join(numbers)} points)" if numbers else words


def with_unit(value: float | None, unit: str) -> str:
    """A number of three digits with its unit; empty where it is not known."""
    if value is None or not np.isfinite(value):
        return ""
    if unit == "of the contrast":
        return f"{100.0 * value:.3g}% {unit}"
    shown = _UNITS.get(unit, unit)
    return f"{value:.3g}{shown}" if shown in ("°", "%") else f"{value:.3g} {shown}".strip()


def refinement_facts(files: RefinementFiles) -> tuple[tuple[str, str], ...]:
    """The refinement in a few words; the same names for all."""
    rounds = [one for one in files.history if one.get("number")]
    back = sum(not one.get("accepted", True) for one in rounds)
    own = [s for s in files.series if not s.shared]
    failed = sum(s.failure is not None for s in own)
    count = Counter(family for s in files.series for family in s.kept)
    kept = "; ".join(f"{group_words(family)}: {n}" for family, n in count.items()) or "nothing"
    return (
        ("state", "finished" if files.finished else "not finished"),
        ("resolution", "; ".join(f"{name} {_change(one)}" for name, one in files.species.items()) or "not known"),
        ("rounds", f"{len(rounds)}" + (f", {back} of them taken back" if back else "")),
        ("tilt series", f"{len(own) - failed} refined" + (f", {failed} failed" if failed else "")),
        ("kept, in how many series", kept),
    )


def refinement_page(files: RefinementFiles, params: ReportParams) -> SeriesPage:
    """The page of one refinement; its series have pages of their own."""
    made = (_result_section(files), _kept_section(files), _resolution_section(files, params), _tried_section(files))
    return SeriesPage(
        name=f"Refinement {files.name}",
        facts=refinement_facts(files),
        sections=made,
    )


def tried_rows(series: RefinedSeriesFiles) -> tuple[tuple[str, ...], ...]:
    """The groups that were tried in a series: name, gain, outcome, why, size of the change, uncertainty."""
    return tuple(
        (
            group_label(t.family, t.name),
            f"{t.gain:z.1f} ± {t.sigma:.1f}" if np.isfinite(t.gain) else "not tried",
            "kept" if t.accepted else "not kept",
            _why(t),
            with_unit(t.rms, t.unit),
            with_unit(t.median_sigma, t.unit),
        )
        for t in series.trials
    )


TRIED_COLUMNS = ("group", "gain of the log-likelihood", "outcome", "why", "change (rms)", "uncertainty (median)")
"""Of `tried_rows`."""


def gains_picture(series: RefinedSeriesFiles, params: ReportParams) -> Picture:
    """Gains of all groups tried in a series."""
    figure = gains_of_groups(
        [group_label(t.family, t.name) for t in series.trials],
        np.array([t.gain for t in series.trials]),
        np.array([t.sigma for t in series.trials]),
        np.array([t.accepted for t in series.trials], dtype=np.bool_),
    )
    words = (
        "With one deviation, by how the gain differs between the sets of particles held out. Right of zero the held-out particles "
        "bear a group out; even up to 10 in size, logarithmic beyond."
    )
    return picture(f"Groups tried in {series.name}", figure, params.dots_per_inch, words)


def _why(trial: GroupTrial) -> str:
    if trial.reason:
        return trial.reason
    if trial.accepted:
        ratio = trial.gain / trial.sigma if trial.sigma > 0 else float("inf")
        return f"held-out particles gain by {ratio:.1f} deviations" if np.isfinite(ratio) else "held-out particles gain"
    if not np.isfinite(trial.gain):
        return "not tried"
    return "held-out particles lose" if trial.gain <= 0 else "the gain is within its uncertainty"


def _result_section(files: RefinementFiles) -> Section:
    rows = tuple(
        (
            name,
            "" if one.get("particles") is None else str(one["particles"]),
            _angstrom(one.get("resolution_before")),
            _angstrom(one.get("resolution_after")),
            _percent(one.get("area_before"), one.get("area_after")),
            *(with_unit(one.get(figure), "") for figure in ("moved_angstrom", "turned_deg")),
        )
        for name, one in files.species.items()
    )
    caveats = list(files.caveats)
    if not files.finished:
        caveats.insert(
            0, "The refinement was not finished; this is what its last whole round left. Run it again to go on."
        )
    caveats += [_TAKEN_BACK.format(number=one["number"]) for one in files.history if not one.get("accepted", True)]
    caveats += [_NOT_REFINED.format(name=s.name, why=s.failure) for s in files.series if s.failure is not None]
    return Section(
        title="At a glance",
        reading=_RESULT,
        columns=_SPECIES if rows else (),
        rows=rows,
        caveats=tuple(dict.fromkeys(caveats)),  # a finished record tells of some itself
    )


def _kept_section(files: RefinementFiles) -> Section:
    rows = []
    for one in files.series:
        left: dict[str, list[str]] = {}
        for trial in one.trials:
            if not trial.accepted:
                left.setdefault(_why(trial), []).append(group_label(trial.family, trial.name))
        kept = ", ".join(group_label(k.family, k.name) for k in one.kept.values()) or "nothing"
        told = f"failed: {one.failure}" if one.failure is not None else kept
        rows.append((one.name, told, "; ".join(f"{why}: {', '.join(names)}" for why, names in left.items())))
    nothing = () if rows else ("No series was refined yet.",)
    columns = ("series", "kept", "not kept, and why") if rows else ()
    return Section(title="What was kept", reading=_KEPT, columns=columns, rows=tuple(rows), caveats=nothing)


def _resolution_section(files: RefinementFiles, params: ReportParams) -> Section:
    dpi = params.dots_per_inch
    shown = []
    for name, both in files.correlations.items():
        if both:
            words = "Of the half maps before and after refinement, corrected for the mask."
            shown.append(picture(f"{name}: correlation of half maps", compared_correlations(both), dpi, words))
    rounds = [one for one in files.history if isinstance(one.get("species"), Mapping)]
    names = list(dict.fromkeys(name for one in rounds for name in one["species"]))
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    if len(rounds) > 1 and names:
        values = {name: np.array([_reached(one, name) for one in rounds]) for name in names}
        accepted = np.array([bool(one.get("accepted", True)) for one in rounds])
        figure = resolution_by_round([int(one["number"]) for one in rounds], values, accepted)
        words = "Of the maps made after each round. The area under the curve, in the table, tells small gains better."
        shown.append(picture("Resolution by round", figure, dpi, words))
        columns = ("round", *(f"{n} (Å)" for n in names), *(f"{n}: area under the FSC" for n in names), "outcome")
        rows = tuple(_round_row(one, names) for one in rounds)
    missing = []
    for name, both in files.correlations.items():
        absent = [when for when in ("before", "after") if when not in {one.name for one in both}]
        if absent:
            missing.append(f"The correlation of half maps of {name} {' and '.join(absent)} refinement was not kept.")
    if not shown and not missing:
        missing.append("No round has come to its end yet.")
    return Section(
        title="Resolution",
        reading=_RESOLUTION,
        pictures=tuple(shown),
        columns=columns,
        rows=rows,
        caveats=tuple(missing),
    )


def _tried_section(files: RefinementFiles) -> Section:
    rows = tuple((one.name, *row) for one in files.series for row in tried_rows(one))
    if not rows:
        words = "No group was tried: no round came to its end."
        return Section(title="What was tried", reading=_TRIED, caveats=(words,))
    return Section(title="What was tried", reading=_TRIED, columns=("series", *TRIED_COLUMNS), rows=rows)


def _round_row(one: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    areas = one.get("areas") or {}
    told = [format_number(reached) if np.isfinite(reached := _reached(one, n)) else "" for n in names]
    changed = [_percent(*areas[n]) if n in areas else "" for n in names]
    outcome = "start" if not one["number"] else "kept" if one.get("accepted", True) else "taken back"
    return (str(one["number"]), *told, *changed, outcome)


def _reached(one: Mapping[str, Any], name: str) -> float:
    value = (one["species"].get(name) or {}).get("resolution_angstrom")
    return float("nan") if value is None else float(value)


def _angstrom(value: float | None) -> str:
    return "halves do not agree" if value is None else f"{value:.2f}"


def _change(one: Mapping[str, Any]) -> str:
    before, after = one.get("resolution_before"), one.get("resolution_after")
    shown = [f"{v:.1f}" if isinstance(v, float | int) else "?" for v in (before, after)]
    return f"{shown[0]} > {shown[1]} Å"


def _percent(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None or not before > 0 else f"{100.0 * (after / before - 1.0):+.1f}%"
