"""What a tilt series' page says of its contrast transfer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.ctf.judge_tilts import judge_tilts, large_astigmatism
from eucentric.figures.ctf import spectra_with_models, spectrum_picture
from eucentric.figures.ctf_series import (
    defocus_and_astigmatism,
    equiphase_map,
    free_geometry,
    phase_shift_over_time,
    resolution_against_tilt,
    specimen_bend,
    thickness_profile,
)
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.report.content import Picture, Section, Strip, Tile, picture
from eucentric.report.params import ReportParams
from eucentric.report.sections import Curves, kept_curves
from eucentric.typing import FloatArray

_READING = (
    "Good: rings of both halves of a spectrum that run on into each other, defocus within some tenths of a micrometre, "
    "astigmatism that changes slowly, and no tilt in the table of what was found; bad: rings that end or jump at the "
    "middle, single points far from the others, or many tilts without rings."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tilts:
    """The tilts that have a fit, in the order of their angles."""

    angles: FloatArray
    acquisition: NDArray[np.int64]
    fits: tuple[CtfFit, ...]
    found: tuple[tuple[str, ...], ...]
    """What is odd about each, in words."""

    @property
    def flagged(self) -> list[int]:
        return [t for t, words in enumerate(self.found) if words]

    @property
    def resolution(self) -> FloatArray:
        return np.array([f.max_resolution_angstrom for f in self.fits])

    def rows(self, kept: Curves) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of these tilts a stage kept arrays of, and the rows of those."""
        known = kept.get("acquisition", np.zeros(0, dtype=np.int64))
        _, here, there = np.intersect1d(self.acquisition, known, return_indices=True)
        order = np.argsort(here)
        return here[order], there[order]


def ctf_section(series: TiltSeries, curves: Curves, pictures: Curves, params: ReportParams) -> Section | None:
    """Fits of the contrast transfer; None for tilts without.

    Parameters
    ----------
    curves, pictures : arrays that the stage kept, by name; what is absent is left out
    """
    fitted = [(t, t.ctf) for t in series.tilts if t.ctf is not None]
    if not fitted:
        return None
    fits = tuple(fit for _, fit in fitted)
    acquisition = np.array([tilt.acquisition for tilt, _ in fitted])
    angles = np.array([tilt.nominal_tilt_deg for tilt, _ in fitted])
    dark = curves["acquisition"][curves["without_rings"]] if kept_curves(curves, "acquisition", "without_rings") else ()
    lost = np.flatnonzero(np.isin(acquisition, dark)).tolist()
    tilts = _Tilts(
        angles=angles, acquisition=acquisition, fits=fits, found=judge_tilts(fits, angles, acquisition, lost)
    )
    rows = [(f"{tilts.angles[t]:.1f}°", str(acquisition[t] + 1), "; ".join(tilts.found[t])) for t in tilts.flagged]
    if (large := large_astigmatism(fits)) is not None:
        words = f"astigmatism of {large:.0f} Å, as a median: the microscope's stigmator wants to be set"
        rows.insert(0, ("all", "", words))
    return Section(
        title="Contrast transfer",
        reading=_READING,
        columns=("tilt", "acquisition", "what was found") if rows else (),
        rows=tuple(rows),
        strips=_strips(tilts, curves, pictures),
        pictures=(
            *_equiphase_pictures(tilts, curves, params),
            *_series_pictures(tilts, curves, params.dots_per_inch),
            *_specimen_pictures(tilts, curves, params.dots_per_inch),
        ),
    )


def _strips(tilts: _Tilts, curves: Curves, pictures: Curves) -> tuple[Strip, ...]:
    kept = kept_curves(pictures, "acquisition", "measured", "fitted", "edge_frequency")
    if not kept:
        return ()
    _, measured, fitted, edge = kept
    shown = zip(*kept_curves(curves, "acquisition", "evidence"), strict=True)
    evidence = {int(number): f"{value:.0f} σ above noise" for number, value in shown}
    tiles = []
    for t, row in zip(*tilts.rows(pictures), strict=True):
        fit, angle = tilts.fits[t], f"{tilts.angles[t]:+.1f}°"
        reach = "no fit resolution" if np.isnan(tilts.resolution[t]) else f"fits to {tilts.resolution[t]:.1f} Å"
        words = f"Spectrum at {angle}, measured on the left and fitted on the right"
        data = spectrum_picture(measured[row], fitted[row])
        tiles.append(
            Tile(
                picture=Picture(title=words, data=data, media="image/webp"),
                lines=(
                    angle,
                    f"{fit.defocus_angstrom / 1e4:.2f} µm",
                    reach,
                    *(line for line in [evidence.get(int(tilts.acquisition[t]))] if line),
                ),
                mark="; ".join(tilts.found[t]),
            )
        )
    caption = (
        f"Measured on the left (averaged along short arcs), fitted on the right, detail of {1 / float(edge):.1f} Å at the edges; "
        "scroll along for all tilts. Good: rings meet at the middle; bad: they miss each other there, or the left shows none."
    )
    return (Strip(title="Spectra of the tilts", tiles=tuple(tiles), caption=caption),) if tiles else ()


def _equiphase_pictures(tilts: _Tilts, curves: Curves, params: ReportParams) -> list[Picture]:
    """Averages over points of equal phase: of all tilts as a map, of a few as curves."""
    kept = kept_curves(curves, "frequency", "spectrum", "model")
    here, there = tilts.rows(curves)
    if not kept or len(here) == 0:
        return []
    frequency, spectrum, model = kept
    angles, dpi = tilts.angles[here], params.dots_per_inch
    figure = equiphase_map(angles, frequency, spectrum[there], model[there], tilts.resolution[here])
    words = (
        "A row a tilt, white where power stands above its background, each frequency drawn over the depth of its rings; dots are the "
        "fit resolution. Good: both sides show the same stripes; bad: rows that are shifted or blank on the left."
    )
    out = [picture("Equiphase averages of all tilts", figure, dpi, words)]
    shown = _spread_out(len(here), params.spectrum_count)
    quality = curves.get("quality")
    figure = spectra_with_models(
        angles[shown],
        frequency,
        spectrum[there[shown]],
        model[there[shown]],
        None if quality is None else quality[there[shown]],
    )
    words = (
        "Background removed, with the fitted model and how well the two agree about each frequency. Good: peaks of both at the "
        "same places and agreement near 1 far out; bad: peaks that drift apart, agreement near 0."
    )
    return [*out, picture("Equiphase averages", figure, dpi, words)]


def _spread_out(count: int, wanted: int) -> NDArray[np.int64]:
    """So many of `count` places, evenly; one alone near the middle, where the tilt is low."""
    if wanted == 1:
        return np.array([count // 2])
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))


def _series_pictures(tilts: _Tilts, curves: Curves, dpi: int) -> list[Picture]:
    """Values against tilt and time."""
    figure = defocus_and_astigmatism(
        tilts.angles,
        tilts.acquisition,
        np.array([f.defocus_u_angstrom for f in tilts.fits]),
        np.array([f.defocus_v_angstrom for f in tilts.fits]),
        np.array([f.astigmatism_angle_deg for f in tilts.fits]),
        np.nan_to_num([f.defocus_sigma_angstrom for f in tilts.fits]),
        flagged=tilts.flagged,
    )
    words = (
        "Against tilt angle and order of acquisition; bars are one standard deviation, hollow points stand in the table above. "
        "Good: points within their neighbours' scatter of some tenths of a micrometre; bad: jumps, or astigmatism that "
        "changes from tilt to tilt."
    )
    out = [picture("Defocus and astigmatism", figure, dpi, words)]
    if np.isfinite(tilts.resolution).any() and "frequency" in curves:
        end = 1.0 / float(curves["frequency"][-1])
        figure = resolution_against_tilt(tilts.angles, tilts.resolution, end, tilts.flagged)
        words = (
            "Finest detail to which the fit follows the spectrum; dotted is the end of the fitted band. Good: near it, and "
            "falling off at high tilts; bad: single tilts far below their neighbours."
        )
        out.append(picture("Fit resolution", figure, dpi, words))
    here, there = tilts.rows(curves)
    if "phase_shift_sigma_deg" in curves and len(here):
        shifts = np.array([f.phase_shift_deg for f in tilts.fits])
        sigma = curves["phase_shift_sigma_deg"][there]
        figure = phase_shift_over_time(tilts.acquisition[here], shifts[here], sigma)
        words = "Good: a slow rise with the dose on the plate; bad: jumps, or values at an end of the searched range."
        out.append(picture("Phase shift", figure, dpi, words))
    return out


def _specimen_pictures(tilts: _Tilts, curves: Curves, dpi: int) -> list[Picture]:
    """Thickness, bend, and what each image alone says of the tilt."""
    out = []
    if kept := kept_curves(curves, "thickness_trial", "thickness_log_likelihood", "thickness"):
        trials, likelihood, (thickness, sigma, smallest) = kept
        figure = thickness_profile(trials, likelihood, float(thickness), float(sigma), float(smallest))
        words = (
            "From the nodes that the depth of the specimen leaves in the rings; thinner than the shaded range cannot be told. "
            "Good: one narrow peak outside it; 'not determined' is no fault of the data, the nodes lie beyond the last ring."
        )
        out.append(picture("Thickness", figure, dpi, words))
    if (kept := kept_curves(curves, "bend_place", "bend", "bend_sigma")) and np.isfinite(kept[1]).sum() > 1:
        words = (
            "By the local defocus that the tilts up to 40° agree on, with one standard deviation. Good: heights of either sign "
            "no larger than the specimen's thickness explains; bad: a middle much higher or lower than the edges (bent)."
        )
        out.append(picture("Height of the specimen over its plane", specimen_bend(*kept), dpi, words))
    names = (
        "free_tilt_deg",
        "free_tilt_sigma_deg",
        "free_axis_deg",
        "free_axis_sigma_deg",
        "expected_tilt_deg",
        "expected_axis_deg",
    )
    here, there = tilts.rows(curves)
    if (kept := kept_curves(curves, *names)) and np.isfinite(kept[0][there]).any():
        free: dict[str, Any] = {name: values[there] for name, values in zip(names, kept, strict=True)}
        figure = free_geometry(tilts.angles[here], **free)
        words = (
            "Of each image from the gradient of its own defocus. Good: points about the lines within their bars; bad: all beside "
            "a line, as of a wrong tilt axis or an inclined specimen. Few bodies or beads in a small field mislead single tilts."
        )
        out.append(picture("Tilt and tilt axis by the rings alone", figure, dpi, words))
    return out
