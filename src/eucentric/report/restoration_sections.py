"""What a tilt series' page says of its tomogram with less noise, or with its missing wedge filled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.restoration import half_agreement_curves, invented_bars, restored_slices, signal_shares
from eucentric.figures.restoration_weights import shell_weights
from eucentric.report.content import Picture, Section, picture
from eucentric.report.params import ReportParams
from eucentric.report.sections import Curves, kept_curves

DENOISE, FILL = "denoise", "fill-wedge"
"""Stages that restore tomograms."""
_RAW_FOR_AVERAGES = (
    "To look at, not to average: particles are averaged from the raw data, as {this} changes what they look like."
)
_BY_NETWORK, _BY_CONSTRAINTS, _BY_FILTER = "a network", "an optimisation", "a filter"
_READINGS: Mapping[tuple[str, str], str] = {
    (DENOISE, _BY_NETWORK): (
        "Good: membranes and particles that the raw slices hint at stand on an even ground, and the output follows the signal "
        "as far as the halves agree; bad: texture or shapes of which the raw slices show nothing, or faint detail gone."
    ),
    (DENOISE, _BY_FILTER): (
        "Good: what the raw slices hint at stands out with edges as sharp as before; bad: threads and specks where the raw "
        "slices show noise, or faint detail gone."
    ),
    (FILL, _BY_NETWORK): (
        "What lies in the wedge was not measured: the network expects it there. Good: membranes across the beam join up, the "
        "invented part is small in every band and σ is low; bad: closed shapes on which both halves or the bands below do not agree."
    ),
    (FILL, _BY_CONSTRAINTS): (
        "What lies in the wedge was not measured: nothing smoother agrees with the data. Good: membranes across "
        "the beam join up and streaks along z fade; bad: flat patches with hard edges, or blobs drawn along z."
    ),
}
_SLICES_BYTES = 60_000
_TOLD_BANDS = ("invented", "invented_sigma", "filled", "recovered", "kept", "correlation")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RestoredVolumes:
    """A tomogram before and after; only planes through the centre are read of them. All (z, y, x) of one shape."""

    raw: NDArray[Any]
    restored: NDArray[Any]
    sigma: NDArray[Any] | None
    """1 sd of `restored`; None where nothing tells it."""
    voxel_size_angstrom: float


def restoration_section(
    title: str,
    stage: str,
    settings: Mapping[str, Any],
    kept: Curves,
    volumes: RestoredVolumes | None,
    params: ReportParams,
) -> Section:
    """A restored tomogram: slices, and how far it may be trusted where that was measured.

    Parameters
    ----------
    stage : `denoise` or `fill-wedge`
    settings : with which it was made
    kept : curves that the stage kept; those that are absent are left out
    volumes : None where a file of them cannot be read
    """
    method = settings.get("method", "network")
    means = {"network": _BY_NETWORK, "constrained": _BY_CONSTRAINTS}.get(method, _BY_FILTER)
    dpi, pictures = params.dots_per_inch, []
    if volumes is not None:
        pictures.append(_slices(volumes, params))
    if shown := kept_curves(kept, "frequency", "raw", "output"):
        frequency, raw, output = shown
        figure = half_agreement_curves(frequency, raw, output, kept.get("wedge"), kept.get("truth"))
        pictures.append(picture("Agreement of halves", figure, dpi, _agreement_words(stage)))
    if shown := kept_curves(kept, "frequency", "kept", "unsupported", "raw_unsupported"):
        frequency, left, unsupported, noise = shown
        figure = signal_shares(
            frequency,
            left,
            unsupported,
            kept.get("added", np.full(len(frequency), np.nan)),
            noise,
            kept_sigma=kept.get("kept_sigma"),
            unsupported_sigma=kept.get("unsupported_sigma"),
        )
        words = (
            "Of what the network alone gives, judged by the other half; bands are 1 sd. Left: amplitude of the signal that is left, "
            "1 is all of it. Right: the part of the power that is not signal. Good: near 1 where the raw halves agree, and far below "
            "the raw half's noise; bad: well below 1 (detail is eaten), or a part that was added."
        )
        pictures.append(picture("Signal kept", figure, dpi, words))
    if shown := kept_curves(kept, "weight_frequency", "weight_network", "weight_raw"):
        pictures.append(picture("Shares of network and raw", shell_weights(*shown), dpi, _weight_words(settings)))
    columns, rows, bars = _bands(kept, dpi)
    return Section(
        title=title,
        reading=f"{_RAW_FOR_AVERAGES.format(this=means)} {_READINGS[stage, means]}",
        columns=columns,
        rows=rows,
        pictures=(*pictures, *bars),
    )


def _slices(volumes: RestoredVolumes, params: ReportParams) -> Picture:
    figure = restored_slices(
        volumes.raw,
        volumes.restored,
        volumes.sigma,
        volumes.voxel_size_angstrom,
        percentile=params.contrast_percentile,
    )
    words = "One plane through the centre, looking along z above and along y below."
    if volumes.sigma is not None:
        words += (
            " σ: 1 sd of each voxel, from what was made of either half alone; it does not tell what both make up alike. "
            "Good: low and even; bad: as bright as what you would interpret."
        )
    return picture("Raw and restored", figure, params.dots_per_inch, words, most_bytes=_SLICES_BYTES)


def _agreement_words(stage: str) -> str:
    wedge = (
        " In the wedge agreement says what is repeated, not what is true: see the invented part."
        if stage == FILL
        else ""
    )
    return (
        "Of the raw halves: what the data hold. Of the network's outputs from either half: high also where it repeats its own "
        "mistake. Output with the signal: with what noise hides, estimated by the half that it was not made of; this one counts."
        f"{wedge} Good: output with the signal lies above the raw halves and near the outputs; bad: outputs agree where the raw "
        "halves do not, and output with the signal falls."
    )


def _weight_words(settings: Mapping[str, Any]) -> str:
    use = (
        "Where there is matter, each shell of the measured region is the network's output and the raw tomogram in these amounts, as "
        "the halves support them; elsewhere it is the network's output alone."
        if settings.get("weigh_shells", True)
        else "What the halves support; it was not applied: the result is the network's output alone."
    )
    return (
        f"{use} Good: the network's share is near 1 and the raw one small, where the halves agree; bad: a large raw share, for "
        "the network drops detail that the halves have in common, or both near 0 at once, for nothing is supported there."
    )


def _bands(kept: Curves, dpi: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], list[Picture]]:
    """What was filled in where measured data were withheld: a table and bars."""
    found = kept_curves(kept, "bands", *(f"band_{name}" for name in _TOLD_BANDS))
    if not found:
        return (), (), []
    bands, invented, sigma, filled, recovered, left, correlation = found
    ends = [(float(coarse), float(fine)) for coarse, fine in bands]
    words = (
        "Data that were measured were withheld from the network, and what it filled in was compared with them: this is how it does "
        "in the real wedge, too, as far as the specimen looks alike there. Bars: the part of the filled power that the data do not "
        "support, with 1 sd; orange above one half; it means little where next to nothing is filled in (right). Good: short bars, "
        "filled power near 1; bad: orange ones: do not interpret detail of that size across the beam."
    )
    bars = picture("Invented part", invented_bars(ends, invented, sigma, filled), dpi, words)
    rows = tuple(
        (f"{coarse:g} to {fine:g} Å", *(_two_digits(v) for v in row))
        for (coarse, fine), *row in zip(ends, correlation, invented, sigma, filled, recovered, left, strict=True)
    )
    columns = ("detail", "correlation", "invented part", "1 sd", "filled power", "amplitude recovered", "signal kept")
    return columns, rows, [bars]


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "not known"
