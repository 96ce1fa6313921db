"""Contrast transfer."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, SECOND, decorate
from eucentric.typing import FloatArray, ImageArray

_THIRD = "#009e73"
_CONTRAST = 2.5  # robust standard deviations of a measured spectrum from grey to white


def spectra_with_models(
    tilts_deg: FloatArray, frequency: FloatArray, spectrum: FloatArray, model: FloatArray, quality: FloatArray | None
) -> Figure:
    """One-dimensional spectra with the fitted model below each other.

    Parameters
    ----------
    tilts_deg : (tilt,), degrees
    frequency : (shell,), 1/A
    spectrum, model : (tilt, shell)
    quality : (tilt, shell), local agreement of the two
    """
    count = len(tilts_deg)
    figure = Figure(figsize=(7.0, 0.6 + 1.45 * count), layout="constrained")
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)
    for row in range(count):
        axes = decorate(grid[row, 0])
        lines = axes.plot(frequency, spectrum[row], color=FIRST, linewidth=0.9, label="spectrum")
        lines += axes.plot(frequency, model[row], color=SECOND, linewidth=0.9, label="model")
        # a spectrum without rings may reach far: the rings of the model keep half of the height
        deep = max(2.0 * float(np.abs(model[row]).max()), 1e-6)
        axes.set_ylim(*np.clip(_ends(np.stack([spectrum[row], model[row]])), -deep, deep))
        axes.set_title(f"{tilts_deg[row]:.1f}°", loc="left", fontsize=9)
        if quality is not None:
            beside = axes.twinx()
            lines += beside.plot(
                frequency, quality[row], color=_THIRD, linewidth=0.8, linestyle="--", label="agreement (right)"
            )
            beside.set(ylim=(-0.05, 1.05), yticks=(0.0, 0.5, 1.0))
            beside.tick_params(axis="y", colors=_THIRD)
            beside.spines["top"].set_visible(False)
        if row == 0:
            axes.legend(
                handles=lines,
                frameon=False,
                ncols=3,
                fontsize=8,
                loc="lower right",
                bbox_to_anchor=(1.0, 1.0),
                borderpad=0,
            )
    grid[-1, 0].set_xlabel(FREQUENCY_LABEL)
    return figure


def _ends(values: FloatArray) -> tuple[float, float]:
    """Smallest and largest value, with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def equiphase_average(
    frequency: FloatArray,
    spectrum: FloatArray,
    model: FloatArray,
    quality: FloatArray,
    max_resolution_angstrom: float = float("nan"),
) -> Figure:
    """Average over points of equal phase with the fitted model, and below how well they agree.

    Parameters
    ----------
    frequency : (shell,), 1/A
    spectrum, model, quality : (shell,)
    max_resolution_angstrom : end of the agreement, marked by a line; NaN where unknown
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1.0))
    for axes in (above, below):
        decorate(axes)
        if np.isfinite(max_resolution_angstrom):
            axes.axvline(1.0 / max_resolution_angstrom, color=GREY, linewidth=0.9)
    above.plot(frequency, spectrum, color=FIRST, linewidth=1.0, label="spectrum")
    above.plot(frequency, model, color=SECOND, linewidth=1.0, label="model")
    above.set_ylabel("power over background")
    above.legend(frameon=False, ncols=2, fontsize=8)
    below.plot(frequency, quality, color=_THIRD, linewidth=1.0)
    below.axhline(0.5, color=GREY, linewidth=0.7, linestyle=":")
    below.set(xlabel=FREQUENCY_LABEL, ylabel="agreement", ylim=(-0.55, 1.05))
    if np.isfinite(max_resolution_angstrom):
        words = f" {max_resolution_angstrom:.1f} Å"
        below.annotate(words, (1.0 / max_resolution_angstrom, -0.5), color=GREY, fontsize=8, va="bottom")
    return figure


def joined_halves(measured: ImageArray | NDArray[np.uint8], fitted: ImageArray | NDArray[np.uint8]) -> ImageArray:
    """A whole plane with a measured spectrum on the left and a fitted one on the right.

    Parameters
    ----------
    measured, fitted : (y, half_x), rows from the most negative y frequency upwards, columns from x frequency zero

    Returns
    -------
    (y, 2 half_x - 1), x frequency zero in the middle. Spectra are alike at opposite points, so the left is the measured half turned
    by half a circle; of an even number of rows the first, which has no opposite, is left out.
    """
    skip = 1 - measured.shape[0] % 2
    left = measured[skip:][::-1, :0:-1]
    return np.asarray(np.concatenate([left, fitted[skip:]], axis=1), dtype=np.float32)


def spectrum_picture(
    measured: NDArray[np.uint8], fitted: NDArray[np.uint8], *, size_px: int = 136, quality: int = 18
) -> bytes:
    """Measured (left half) against fitted spectrum (right half) as a small WebP, for a strip of many.

    Parameters
    ----------
    measured, fitted : (y, half_x), grey values; as for :func:`joined_halves`
    size_px : of the longer side; smaller ones stay as they are
    quality : of the compression, 0 to 100
    """
    plane = np.round(joined_halves(measured, fitted)[::-1]).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(plane))
    shrink = max(plane.shape) / size_px
    if shrink > 1.0:
        height, width = (max(1, round(n / shrink)) for n in plane.shape)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    target = BytesIO()
    picture.save(target, format="WEBP", quality=quality, method=2)
    return target.getvalue()


def half_spectra(
    titles: Sequence[str], measured: ImageArray, fitted: ImageArray, edge_frequency: float, *, width: float = 1.9
) -> Figure:
    """Measured (left half) against fitted spectra (right half), one beside the other: a strip to be scrolled.

    Parameters
    ----------
    titles : one for each spectrum, such as the tilt angle
    measured : (tilt, y, half_x), in robust standard deviations; rows from the most negative frequency upwards
    fitted : (tilt, y, half_x), -1 to 1
    edge_frequency : 1/A at the right edge
    width : of one spectrum, inches
    """
    count = len(titles)
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=(width * max(1, count), width + 0.3), layout=tight)
    grid = figure.subplots(1, max(1, count), squeeze=False)
    for axes, title, real, model in zip(grid[0], titles, measured, fitted, strict=True):
        plane = joined_halves(np.clip(real / _CONTRAST, -1.0, 1.0), model)
        axes.imshow(plane, cmap="gray", vmin=-1.0, vmax=1.0, origin="lower", interpolation="none")
        axes.set_title(title, fontsize=8, pad=2)
        axes.set_axis_off()
    if count:
        words = f"edge {1.0 / edge_frequency:.1f} Å"
        box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.5, "pad": 1.0}
        grid[0, 0].text(0.02, 0.02, words, transform=grid[0, 0].transAxes, color="white", fontsize=6, bbox=box)
    return figure
