"""How far restored tomograms may be trusted: agreement of halves, what became of the signal, invention, uncertainty."""

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.errors import ShapeError
from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, SECOND, decorate, new_figure, scale_bar
from eucentric.figures.volume import contrast
from eucentric.typing import FloatArray, ImageArray

_THIRD = "#009e73"
_WIDEST = 7.4  # inches
_MOST_SIGMA = 99.0  # percentile at which uncertainty is drawn brightest


def half_agreement_curves(
    frequency: FloatArray,
    raw: FloatArray,
    output: FloatArray,
    wedge: FloatArray | None = None,
    truth: FloatArray | None = None,
) -> Figure:
    """Correlations over frequency (1/A), all (shell,), NaN where not known. A line marks 0.143.

    Parameters
    ----------
    raw, output : of the raw halves and of the outputs made of them, in the measured region
    wedge : of the outputs where nothing was measured
    truth : of one output with the signal without noise, in the measured region
    """
    figure, axes = new_figure(7.0, 3.6)
    curves = (
        ("raw halves", raw, GREY, "-"),
        ("outputs, measured", output, FIRST, "-"),
        ("outputs, in the wedge", wedge, SECOND, "-"),
        ("output with the signal", truth, _THIRD, "--"),
    )
    for name, values, color, style in curves:
        if values is not None and np.isfinite(values).any():
            axes.plot(frequency, values, color=color, linestyle=style, linewidth=1.3, label=name)
    for level in (0.0, 0.143):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle="-" if level == 0 else ":")
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="Fourier shell correlation", ylim=(-0.15, 1.05), xlim=(0.0, None))
    axes.legend(frameon=False, fontsize=8)
    return figure


def signal_shares(
    frequency: FloatArray,
    kept: FloatArray,
    unsupported: FloatArray,
    added: FloatArray,
    raw_unsupported: FloatArray,
    *,
    kept_sigma: FloatArray | None = None,
    unsupported_sigma: FloatArray | None = None,
) -> Figure:
    """What became of the signal over frequency (1/A), all (shell,), NaN where not known; bands are 1 sd.

    Parameters
    ----------
    kept : amplitude of the signal left in the output
    unsupported, raw_unsupported : part of the power of output and raw half that is not signal
    added : part of the power that is neither signal nor noise of the input
    """
    figure = Figure(figsize=(_WIDEST, 3.0), layout="constrained")
    left, right = (decorate(axes) for axes in figure.subplots(1, 2))
    left.plot(frequency, kept, color=FIRST, linewidth=1.3)
    left.axhline(1.0, color=GREY, linewidth=0.7, linestyle=":")
    right.plot(frequency, raw_unsupported, color=GREY, linewidth=1.1, label="raw half: noise")
    right.plot(frequency, unsupported, color=FIRST, linewidth=1.3, label="output: not signal")
    right.plot(frequency, added, color=SECOND, linewidth=1.3, label="output: added")
    for axes, values, sigma in ((left, kept, kept_sigma), (right, unsupported, unsupported_sigma)):
        if sigma is not None:
            axes.fill_between(frequency, values - sigma, values + sigma, color=FIRST, alpha=0.2, linewidth=0)
    known = kept[np.isfinite(kept)]
    highest = float(np.percentile(known, 95.0)) if known.size else 1.0
    left.set(xlabel=FREQUENCY_LABEL, ylabel="signal kept (amplitude)", ylim=(0.0, 1.3 * max(1.0, highest)))
    right.set(xlabel=FREQUENCY_LABEL, ylabel="part of the power", ylim=(-0.05, 1.05))
    right.legend(frameon=False, fontsize=8)
    return figure


def invented_bars(
    bands_angstrom: Sequence[tuple[float, float]],
    invented: FloatArray,
    sigma: FloatArray,
    filled: FloatArray,
    *,
    limit: float = 0.5,
) -> Figure:
    """Power that the network fills in by band, over that of the signal that belongs there: supported and invented parts.

    Parameters
    ----------
    bands_angstrom : coarse and fine end
    invented, sigma : part of the filled power, and 1 sd; (band,), NaN where nothing can be told
    filled : power filled in over that of the signal, (band,)
    limit : of the invented part, marked

    Raises
    ------
    ShapeError : arrays of other lengths
    """
    count = len(bands_angstrom)
    if not len(invented) == len(sigma) == len(filled) == count:
        raise ShapeError(f"{count} bands and {len(invented)} parts were given; expected as many.")
    figure = Figure(figsize=(_WIDEST, 2.9), layout="constrained")
    left, right = (decorate(axes) for axes in figure.subplots(1, 2))
    places = np.arange(count)
    names = [f"{coarse:g}–{fine:g}" for coarse, fine in bands_angstrom]
    shown = np.where(np.isfinite(invented), invented, 0.0)
    power = np.where(np.isfinite(filled), filled, 0.0)
    left.bar(places, shown, 0.6, color=[SECOND if v > limit else FIRST for v in shown])
    left.errorbar(places, shown, np.nan_to_num(sigma), fmt="none", ecolor="black", elinewidth=0.9, capsize=3)
    left.axhline(limit, color=GREY, linewidth=0.7, linestyle=":")
    right.bar(places, power * (1.0 - shown), 0.6, color=FIRST, label="supported")
    right.bar(places, power * shown, 0.6, bottom=power * (1.0 - shown), color=SECOND, label="invented")
    right.axhline(1.0, color=GREY, linewidth=0.7, linestyle=":")
    for i in places:
        if not np.isfinite(invented[i]):
            words = "no signal" if not np.isfinite(filled[i]) else "nothing filled"
            left.annotate(words, (i, 0.03), ha="center", va="bottom", fontsize=8, rotation=90, color=GREY)
    left.set(ylabel="invented part of what is filled in", ylim=(0.0, 1.1))
    right.set(ylabel="filled power over the signal's")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.set_xticks(places, names)
        axes.set(xlabel="band (Å)", xlim=(-0.6, count - 0.4))
        axes.grid(visible=False, axis="x")
    return figure


def restored_slices(
    raw: ImageArray,
    restored: ImageArray,
    sigma: ImageArray | None,
    voxel_size_angstrom: float,
    *,
    percentile: float = 0.5,
) -> Figure:
    """Central slices of the raw and the restored volume and of its uncertainty side by side: x-y above, x-z below.

    Parameters
    ----------
    raw, restored, sigma : (z, y, x) of one shape; `sigma` is 1 sd in the unit of `restored`
    percentile : this many percent of the pixels are darker than black, and as many brighter than white

    Raises
    ------
    ShapeError : volumes of other shapes
    """
    volumes = [("raw", raw), ("restored", restored)] + ([("1 σ of the restored", sigma)] if sigma is not None else [])
    if len({v.shape for _, v in volumes}) != 1 or raw.ndim != 3:
        given = ", ".join(str(v.shape) for _, v in volumes)
        raise ShapeError(f"Volumes of shapes {given} were given; expected one (z, y, x) shape.")
    depth, height, width = raw.shape
    # a thin specimen would leave a slit
    below = max(depth, 0.15 * height)
    inches = _WIDEST / len(volumes)
    figure = Figure(figsize=(_WIDEST + 0.5, inches * (height + below) / width + 0.5), layout="constrained")
    grid = figure.subplots(2, len(volumes), height_ratios=[height, below], squeeze=False)
    for column, (name, volume) in enumerate(volumes):
        pictures: tuple[NDArray[np.float32], NDArray[np.float32]] = (volume[depth // 2], volume[:, height // 2])
        uncertain = name not in ("raw", "restored")
        for row, picture in enumerate(pictures):
            axes = grid[row, column]
            norm = contrast(picture, percentile)
            if uncertain:
                norm = Normalize(0.0, max(float(np.percentile(pictures[0], _MOST_SIGMA)), 1e-30))
            axes.imshow(
                picture,
                cmap="magma" if uncertain else "gray",
                origin="lower",
                norm=norm,
                interpolation="antialiased",
            )
            axes.set(xticks=[], yticks=[], xlabel="x", ylabel=("y", "z")[row] if column == 0 else "")
        grid[0, column].set_title(name, loc="left", fontsize=9)
        if uncertain:
            spread = float(np.std(restored[depth // 2])) or 1.0
            inner = ScalarMappable(Normalize(0.0, norm.vmax / spread if norm.vmax else 1.0), "magma")
            figure.colorbar(inner, ax=list(grid[:, column]), shrink=0.7, label="over the sd of the restored slice")
    scale_bar(grid[0, 0], (-0.5, width - 0.5), (-0.5, height - 0.5), voxel_size_angstrom)
    return figure
