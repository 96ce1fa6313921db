"""The sections of a tilt series' page, from the series and the curves that stages kept. What is absent is left out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eucentric.figures.curves import convergence_curve, correlation_curve, signal_to_noise_curve
from eucentric.figures.motion import (
    counts_over_tilts,
    frame_correlations,
    frame_trajectories,
    local_motion,
    motion_certainty,
    power_gained,
    total_motion,
)
from eucentric.figures.movie import stack_frames
from eucentric.figures.volume import central_slices, wedge_spectrum
from eucentric.models.tilt_series import TiltSeries
from eucentric.report.content import Picture, Section, Slider, metric_rows, picture, slider
from eucentric.report.params import ReportParams
from eucentric.typing import FloatArray

Curves = Mapping[str, NDArray[Any]]

_LAYER_BYTES = 6_000
_THUMBNAIL_PX, _THUMBNAIL_BYTES = 128, 6_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceImages:
    """Central slices of a tomogram, each the mean of a few planes."""

    slice_z: FloatArray
    """(y, x)"""
    slice_y: FloatArray
    """(z, x)"""
    slice_x: FloatArray
    """(z, y)"""
    power_zx: FloatArray
    """(z, x), mean power of the xz planes, zero frequency at n // 2."""
    voxel_size_angstrom: float
    layers: FloatArray
    """(layer, y, x), from bottom to top."""
    heights_angstrom: FloatArray
    """(layer,), of their middles over the specimen centre."""


def motion_section(series: TiltSeries, curves: Curves, params: ReportParams) -> Section | None:
    """Motion of frames; None for tilts without."""
    moved = [(t.nominal_tilt_deg, t.motion) for t in series.tilts if t.motion is not None]
    if not moved:
        return None
    angles = np.array([angle for angle, _ in moved])
    dpi = params.dots_per_inch
    paths = [motion.shifts_angstrom for _, motion in moved]
    totals = np.array([motion.total_angstrom for _, motion in moved])
    flags = _motion_flags(angles, totals, curves)
    pictures = [
        picture(
            "Frame trajectories",
            frame_trajectories(angles, paths),
            dpi,
            "Where the content of the frames moved, from the first frame (+) to the last (dot), a line a tilt.",
        ),
        picture("Total motion", total_motion(angles, totals), dpi, "Length of the path of the frames of each tilt."),
    ]
    if kept := kept_curves(curves, "tilt_deg", "frame_correlation_frequency", "frame_correlation"):
        pictures.append(picture("Correlation of frames", frame_correlations(*kept), dpi, "A line a tilt."))
    if kept := kept_curves(curves, "tilt_deg", "sigma_angstrom", "residual_angstrom", "blur_angstrom"):
        words = "Root mean squares over the frames of each tilt; the blur is that of motion at the measured speed."
        pictures.append(picture("Certainty", motion_certainty(*kept), dpi, words))
    if kept := kept_curves(curves, "tilt_deg", "power_frequency", "power_aligned", "power_unaligned"):
        words = "What the alignment brought: above 1, the sum has gained detail. A line a tilt."
        pictures.append(picture("Power before and after", power_gained(*kept), dpi, words))
    if kept := kept_curves(curves, "tilt_deg", "mean_counts"):
        words = "Tilts far below their neighbours are blocked or off target."
        pictures.append(picture("Counts", counts_over_tilts(*kept), dpi, words))
    if kept := kept_curves(curves, "local_places", "local_displacement", "local_extent", "local_tilt_deg"):
        places, displacement, extent, tilt = kept
        figure = local_motion(places, displacement, (float(extent[0]), float(extent[1])), float(tilt))
        words = "What the place adds to the motion of the whole image, in the tilt where it adds most."
        pictures.append(picture("Local motion", figure, dpi, words))
    return Section(
        title="Motion",
        reading=(
            "Good: smooth paths of some ångström that are longest in the first frames, power gained by the alignment and "
            "counts that follow the film; bad: zigzags, jumps, single tilts that moved many times as far as their "
            "neighbours, or power lost."
        ),
        pictures=tuple(pictures),
        columns=("tilt", "what was found") if flags else (),
        rows=flags,
    )


_FAR = 5.0  # times the median: motion of a tilt that a user should look at


def _motion_flags(angles: FloatArray, totals: FloatArray, curves: Curves) -> tuple[tuple[str, str], ...]:
    """Tilts whose movies stand out, in words."""
    rows: list[tuple[str, str]] = []
    usual = float(np.median(totals))
    for angle, total in zip(angles, totals, strict=True):
        if total > _FAR * usual and total > 10.0:
            rows.append((f"{angle:.1f}°", f"moved {total:.0f} Å, {total / max(usual, 1e-6):.0f} times the median"))
    if kept := kept_curves(curves, "tilt_deg", "confidence"):
        for angle, sure in zip(*kept, strict=True):
            if sure < 0.5:
                rows.append((f"{angle:.1f}°", "its frames are too noisy to tell their motion; they were hardly moved"))
    if kept := kept_curves(curves, "tilt_deg", "frames_left_out"):
        for angle, count in zip(*kept, strict=True):
            if count > 0:
                rows.append((f"{angle:.1f}°", f"{count:.0f} of its frames were left out"))
    return tuple(sorted(rows, key=lambda row: float(row[0][:-1])))


def tomogram_section(slices: SliceImages | None, curves: Curves, params: ReportParams) -> Section | None:
    """Central slices, the missing wedge and the curves that were kept; None where there is none of them."""
    pictures: list[Picture] = []
    sliders: tuple[Slider, ...] = ()
    dpi = params.dots_per_inch
    if slices is not None:
        sliders = (_layers(slices, params),)
        figure = central_slices(
            slices.slice_z, slices.slice_y, slices.slice_x, slices.voxel_size_angstrom, params.contrast_percentile
        )
        planes = f"Up to {params.slice_planes} planes through the centre averaged, looking along z, y and x."
        pictures.append(picture("Central slices", figure, dpi, planes))
        wedge = wedge_spectrum(slices.power_zx, slices.voxel_size_angstrom)
        words = "Log power of the central xz planes. The dark wedge along z is what no tilt angle reached."
        pictures.append(picture("Missing wedge", wedge, dpi, words))
    if kept := kept_curves(curves, "fsc_frequency", "fsc"):
        words = "Of two tomograms from half of the data each. Dotted lines are 0.5 and 0.143."
        pictures.append(picture("Fourier shell correlation of the halves", correlation_curve(*kept), dpi, words))
    if kept := kept_curves(curves, "signal_to_noise_frequency", "signal_to_noise"):
        words = (
            "Power in one image, from what even and odd frames share, contrast transfer aside. Detail far below the "
            "dotted line is faded in the volume."
        )
        pictures.append(picture("Signal over noise", signal_to_noise_curve(*kept), dpi, words))
    if (kept := kept_curves(curves, "residual")) and len(kept[0]) > 0:
        words = "What was still unsolved, as a part of all. A curve that has levelled off gains nothing by going on."
        pictures.append(picture("Convergence", convergence_curve(*kept), dpi, words))
    if not pictures:
        return None
    return Section(
        title="Tomogram",
        reading=(
            "Good: sharp features in the xy slice and a specimen that lies flat inside the xz slice; bad: arcs and "
            "double edges (alignment), a tilted or cut specimen (volume), or a wedge that does not fit the tilt range."
        ),
        sliders=sliders,
        pictures=tuple(pictures),
    )


def _layers(slices: SliceImages, params: ReportParams) -> Slider:
    frames = stack_frames(
        slices.layers,
        size_px=params.layer_size_px,
        percentile=params.contrast_percentile,
        most_bytes=_LAYER_BYTES * len(slices.layers),
        shared=True,
    )
    words = f"Looking along z, up to {params.slice_planes} planes averaged for each; z is the height over the specimen centre."
    return slider("Layers", frames, [f"z {height:+.0f} Å" for height in slices.heights_angstrom], words)


def thumbnail(slices: SliceImages, name: str) -> Picture:
    """The central slice along z as a small picture."""
    (data,) = stack_frames(slices.slice_z[None], size_px=_THUMBNAIL_PX, most_bytes=_THUMBNAIL_BYTES)
    return Picture(title=f"Central slice of {name}", data=data)


def with_record(section: Section, metrics: Mapping[str, float | None], caveats: tuple[str, ...]) -> Section:
    """A section with the metrics and caveats of its stage."""
    return replace(section, metrics=metric_rows(metrics), caveats=caveats)


def kept_curves(curves: Curves, *names: str) -> list[NDArray[Any]]:
    """The curves of those names; none of them where one is missing."""
    return [curves[name] for name in names] if curves.keys() >= set(names) else []
