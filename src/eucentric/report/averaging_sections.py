"""The page of an average: what it shows, how fine it is, from where, and how it came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.averaging import (
    directions_plot,
    fsc_curves,
    guinier_plot,
    iterations_plot,
    map_pictures,
    particle_histograms,
    surface_level,
    surface_views,
    transfer_plot,
)
from eucentric.geometry.symmetry import symmetry_rotations
from eucentric.report.content import Picture, Section, SeriesPage, format_number, picture
from eucentric.report.params import ReportParams
from eucentric.report.sections import Curves, kept_curves
from eucentric.typing import FloatArray

_MAP = (
    "Good: a body with sharp edges and detail that stands alike in slices through different parts; bad: a blob without detail, "
    "spokes from the middle, or one axis smeared."
)
_RESOLUTION = (
    "Good: the corrected curve stays near one, falls once and stays near zero, and the randomised one falls at once where it "
    "begins; bad: curves that never reach zero (halves share something, or the mask is too tight), "
    "fall and rise again (CTF, few particles), or "
    "a randomised curve well above zero."
)
_FROM = (
    "Good: views and samples spread over the whole disc, efficiency near one, resolution alike along all directions; bad: views "
    "in one spot, parts without samples, and a map that is much coarser along one direction."
)
_SHARP = (
    "Good: beyond 10 Å the points follow the line until noise takes over; bad: no straight stretch, or a rise at the end, which is "
    "noise."
)
_CTF = (
    "Good: points on the line, and zeros where it has them; bad: points that cross zero earlier or later, which means a wrong "
    "defocus of that series, or no modulation at all, which means wrong poses or a wrong hand."
)
_TURNS = (
    "Good: resolution gets finer, then stands still, and particles turn and move less each time; bad: changes that do not fall, or "
    "resolution that never leaves that of the start."
)
_PARTICLES = (
    "Good: one hill of scores, alike in all tilt series, and many images of most particles; bad: two hills (false picks, or two kinds "
    "of particle), one series far below the others, or many particles with a few images."
)
_COUNTED = ("series", "particles", "counted", "left out", "images", "median score")
_FSC = {
    "corrected": "rlnFourierShellCorrelationCorrected",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "phases randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AverageFiles:
    """What is kept of an average; parts may be missing."""

    name: str
    about: Mapping[str, Any]
    """Its record."""
    fsc: Mapping[str, FloatArray]
    """Columns of fsc.star."""
    curves: Curves
    volume: FloatArray | None
    """(z, y, x), filtered."""
    mask: FloatArray | None
    local_resolution: FloatArray | None
    voxel_size_angstrom: float
    series: Sequence[str]
    """(particle,), the tilt series that each lies in."""
    scores: FloatArray
    """(particle,)."""
    halves: FloatArray
    """(particle,), 0 for those left out."""
    tilts_used: FloatArray
    """(particle,)."""
    rounds: Sequence[Mapping[str, Any]]
    """Iterations, the start first."""
    caveats: tuple[str, ...] = ()


def average_page(files: AverageFiles, params: ReportParams) -> SeriesPage:
    """The page of one average."""
    about, settings = files.about, files.about.get("average", {})
    shown = about.get("resolution_angstrom")
    facts = [
        ("resolution", f"{shown:.1f} Å (FSC 0.143 of half maps)" if shown else "the halves do not agree"),
        ("symmetry", str(settings.get("symmetry", "C1"))),
        ("particles", str(int((files.halves > 0).sum()))),
        ("images", format_number(float(files.tilts_used.sum()))),
        ("voxel", f"{format_number(files.voxel_size_angstrom)} Å"),
    ]
    made = (
        _map_section(files, params),
        _resolution_section(files, params),
        _direction_section(files, params, str(settings.get("symmetry", "C1"))),
        _sharpening_section(files, params),
        _ctf_section(files, params),
        _iteration_section(files, params),
        _particle_section(files, params),
    )
    sections = tuple(section for section in made if section is not None)
    return SeriesPage(name=f"Average {files.name}", facts=tuple(facts), sections=sections)


def _map_section(files: AverageFiles, params: ReportParams) -> Section | None:
    if files.volume is None:
        return None
    dpi, voxel = params.dots_per_inch, files.voxel_size_angstrom
    out = [
        picture(
            "Map", map_pictures(files.volume, voxel), dpi, "Slices through the centre and projections; protein dark."
        )
    ]
    if files.volume.std() > 0:
        shown = files.volume if files.mask is None else files.volume * files.mask
        level = surface_level(shown, files.mask)
        words = "A surface of the map, from three sides"
        words += ", coloured by the local resolution." if files.local_resolution is not None else "."
        out.append(picture("Surface", surface_views(shown, level, files.local_resolution), dpi, words))
    local = files.about.get("local_resolution") or {}
    metrics = tuple(
        (name, f"{local[key]:.1f} Å")
        for name, key in (
            ("local resolution, median", "median_angstrom"),
            ("of the finest twentieth", "p5_angstrom"),
            ("of the coarsest twentieth", "p95_angstrom"),
        )
        if isinstance(local.get(key), float)
    )
    return Section(title="Map", reading=_MAP, pictures=tuple(out), metrics=metrics, caveats=files.caveats)


def _resolution_section(files: AverageFiles, params: ReportParams) -> Section | None:
    frequency = files.fsc.get("rlnResolution")
    curves = {name: files.fsc[label] for name, label in _FSC.items() if label in files.fsc}
    if frequency is None or not curves:
        return None
    measured = files.curves.get("measured")
    if measured is not None and len(measured) == len(frequency):
        curves["masked, by what was measured"] = measured
    resolution = files.about.get("resolution_angstrom") or np.inf
    words = (
        "Agreement of half maps. The corrected curve is the masked one less what the mask alone adds, as randomised phases "
        "tell; in the one by what was measured, samples count by their weight, so that unmeasured ones do not."
    )
    figure = fsc_curves(frequency, curves, float(resolution))
    return Section(
        title="Resolution",
        reading=_RESOLUTION,
        pictures=(picture("Fourier shell correlation", figure, params.dots_per_inch, words),),
    )


def _direction_section(files: AverageFiles, params: ReportParams, symmetry: str) -> Section | None:
    shown = kept_curves(files.curves, "views", "directions", "sampling")
    if not shown:
        return None
    views, directions, sampling = shown
    group = symmetry_rotations(symmetry)
    every = np.concatenate([views @ element.T for element in group])
    figure = directions_plot(every, directions, sampling, files.curves.get("direction_angstrom"))
    words = (
        "In the frame of the map, z in the middle, rings 30 and 60° from it, opposite directions together, symmetry copies "
        "included. Left: from where the untilted beam meets the particles; then what all images measured along each direction, and "
        "the resolution in cones."
    )
    cones, even = files.about.get("directions") or {}, files.about.get("sampling") or {}
    metrics = [
        (label, f"{group_[key]:.{digits}f}{unit}")
        for label, group_, key, digits, unit in (
            ("efficiency of the sampling", even, "efficiency", 2, ""),
            ("part not measured", even, "unmeasured", 2, ""),
            ("finest direction", cones, "best_angstrom", 1, " Å"),
            ("coarsest direction", cones, "worst_angstrom", 1, " Å"),
            ("coarsest over finest", cones, "anisotropy", 2, ""),
        )
        if isinstance(group_.get(key), float)
    ]
    return Section(
        title="Directions",
        reading=_FROM,
        pictures=(picture("Directions", figure, params.dots_per_inch, words),),
        metrics=tuple(metrics),
    )


def _sharpening_section(files: AverageFiles, params: ReportParams) -> Section | None:
    about = files.about.get("sharpened")
    shown = kept_curves(
        files.curves, "guinier_squared_frequency", "guinier_log_amplitude", "guinier_fitted", "guinier_line"
    )
    if not isinstance(about, Mapping) or not shown:
        return None
    figure = guinier_plot(*shown)
    metrics = [("B factor applied", f"{about.get('b_factor', 0.0):.0f} Å²")]
    if about.get("mtf"):
        metrics.append(("MTF divided out", str(about["mtf"])))
    words = "Amplitudes of the signal: those of the map inside the mask, weighted by the agreement of its halves."
    return Section(
        title="Sharpening",
        reading=_SHARP,
        pictures=(picture("Guinier plot", figure, params.dots_per_inch, words),),
        metrics=tuple(metrics),
        caveats=tuple(str(c) for c in about.get("caveats", ())),
    )


def _ctf_section(files: AverageFiles, params: ReportParams) -> Section | None:
    about = files.about.get("ctf")
    shown = kept_curves(files.curves, "ctf_chi", "ctf_transfer", "ctf_transfer_sigma")
    if not isinstance(about, Mapping) or not about.get("series") or not shown:
        return None
    series = about["series"]
    rows = tuple(
        (
            str(name),
            _number(one.get("defocus_angstrom")),
            f"{_number(one.get('offset_angstrom'))} ± {_number(one.get('offset_sigma_angstrom'))}",
            f"{_number(one.get('first_zero_fitted_angstrom'))}, {_number(one.get('first_zero_angstrom'))}",
            f"{_number(one.get('height_factor'))} ± {_number(one.get('height_factor_sigma'))}",
        )
        for name, one in series.items()
    )
    words = (
        "Images of particles compared with projections of the other half's map, by the phase of the CTF as fitted. The offset is "
        "what the particles add to the defocus, with its deviation; the change with height is 1 where the hand is right, and -1 "
        "where it is not."
    )
    chi, transfer, sigma = shown
    figure = transfer_plot(chi, transfer, sigma, list(series))
    return Section(
        title="CTF seen by the particles",
        reading=_CTF,
        pictures=(picture("CTF of the particles", figure, params.dots_per_inch, words),),
        columns=("series", "defocus (Å)", "offset (Å)", "first zero fitted, seen (Å)", "change with height"),
        rows=rows,
        caveats=tuple(str(c) for c in about.get("caveats", ())),
    )


def _iteration_section(files: AverageFiles, params: ReportParams) -> Section | None:
    if len(files.rounds) < 2:
        return None
    columns = (
        "number",
        "pixel_size_angstrom",
        "resolution_angstrom",
        "low_pass_angstrom",
        "change_deg",
        "change_angstrom",
        "score",
    )
    names = ("iteration", "pixel (Å)", "resolution (Å)", "detail compared (Å)", "turned (°)", "moved (Å)", "score (σ)")
    rows = tuple(tuple(_number(one.get(c)) for c in columns) for one in files.rounds)
    numbers = [int(one.get("number", i)) for i, one in enumerate(files.rounds)]
    values = [
        np.array([np.nan if one.get(c) is None else float(one[c]) for one in files.rounds])
        for c in ("resolution_angstrom", "change_deg", "change_angstrom")
    ]
    figure = iterations_plot(numbers, values[0], values[1], values[2])
    words = "Medians over all particles."
    return Section(
        title="Iterations",
        reading=_TURNS,
        pictures=(picture("Iterations", figure, params.dots_per_inch, words),),
        columns=names,
        rows=rows,
    )


def _particle_section(files: AverageFiles, params: ReportParams) -> Section | None:
    if not len(files.series):
        return None
    names = np.asarray(files.series)
    rows = []
    for name in dict.fromkeys(files.series):
        mine = names == name
        counted = mine & (files.halves > 0)
        scores = files.scores[counted]
        known = scores[np.isfinite(scores)]
        rows.append(
            (
                str(name),
                str(int(mine.sum())),
                str(int(counted.sum())),
                str(int((mine & (files.halves <= 0)).sum())),
                format_number(float(files.tilts_used[counted].sum())),
                f"{np.median(known):.1f} σ" if len(known) else "",
            )
        )
    counted = files.halves > 0
    scores_by = {str(n): files.scores[counted & (names == n)] for n in dict.fromkeys(files.series)}
    figure = particle_histograms(scores_by, files.tilts_used[counted])
    out: tuple[Picture, ...] = (picture("Particles", figure, params.dots_per_inch, "Of the particles that count."),)
    return Section(title="Particles", reading=_PARTICLES, columns=_COUNTED, rows=tuple(rows), pictures=out)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def known_rounds(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The iterations that the record of an iterated average tells of."""
    rounds = values.get("rounds")
    return tuple(r for r in rounds if isinstance(r, Mapping)) if isinstance(rounds, list) else ()


def column(table: Mapping[str, NDArray[Any]], name: str, count: int, missing: float) -> FloatArray:
    """A column of numbers, filled where it is missing."""
    found = table.get(name)
    return np.full(count, missing) if found is None else np.asarray(found, dtype=np.float64)
