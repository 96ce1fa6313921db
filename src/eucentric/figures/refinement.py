"""Sub-tilt refinement: what was tried, how the specimen and its images moved, what each image contributes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from eucentric.figures.canvas import FIRST, GREY, SECOND, TILT_AXIS_LABEL, decorate, new_figure, scale_bar_length
from eucentric.typing import FloatArray

COLORS = (FIRST, SECOND, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_PANELS_A_ROW = 4
_SEEN = 3.0
"""Deviations above zero at which a signal counts as seen."""
_TOGETHER = 5
"""Images next to each other in dose that are taken together to tell whether a signal is seen."""
_LABELS = 12  # of bands or tilts along an axis, at most


def resolution_by_round(
    numbers: Sequence[int], resolution_angstrom: Mapping[str, FloatArray], accepted: NDArray[np.bool_]
) -> Figure:
    """Resolution of each species after each round, all (round,), NaN where not known; rounds taken back are hollow."""
    figure, axes = new_figure(7.0, 3.0)
    rounds = np.asarray(numbers)
    for (name, values), color in zip(resolution_angstrom.items(), _cycled(len(resolution_angstrom)), strict=True):
        axes.plot(rounds[accepted], values[accepted], "o-", color=color, markersize=4.5, linewidth=1.2, label=name)
        axes.plot(rounds[~accepted], values[~accepted], "o", color=color, markersize=5.5, markerfacecolor="white")
    if not accepted.all():
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="taken back")
    axes.set(xlabel="round (0: as it began)", ylabel="resolution (Å)")
    axes.locator_params(axis="x", integer=True, nbins=8)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8)
    return figure


def gains_of_groups(names: Sequence[str], gain: FloatArray, sigma: FloatArray, accepted: NDArray[np.bool_]) -> Figure:
    """Gain of the log-likelihood of held-out particles by each group, with one deviation; all (group,).

    The axis is even near zero and logarithmic beyond; a group without a gain was not tried and stays empty.
    """
    figure, axes = new_figure(7.0, 0.9 + 0.27 * len(names))
    places = np.arange(len(names))
    for chosen, color, label in ((accepted, FIRST, "kept"), (~accepted, GREY, "not kept")):
        shown = chosen & np.isfinite(gain)
        if shown.any():
            wide = np.nan_to_num(sigma[shown])
            axes.errorbar(
                gain[shown], places[shown], xerr=wide, fmt="o", color=color, ms=4.5, lw=1.2, capsize=2.5, label=label
            )
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=10.0, linscale=0.7)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set(xlabel="gain of the log-likelihood of particles held out")
    axes.legend(frameon=False, fontsize=8, loc="best")
    return figure


def displacement_fields(
    places_angstrom: FloatArray,
    displacement_angstrom: FloatArray,
    titles: Sequence[str],
    extent_angstrom: tuple[float, float],
) -> Figure:
    """Displacements over the field as arrows, with a bar that tells how long they are; along z as colour where that is known.

    Parameters
    ----------
    places_angstrom : (place, 2), x and y from the middle
    displacement_angstrom : (field, place, 2 or 3), x, y and z
    titles : of the fields
    extent_angstrom : width and height of the field
    """
    (width, height), count = extent_angstrom, len(titles)
    columns = min(count, _PANELS_A_ROW)
    rows = -(-count // columns)
    longest = max(float(np.linalg.norm(displacement_angstrom[..., :2], axis=-1).max(initial=0.0)), 1e-6)
    enlarged = 0.9 * width / max(np.sqrt(len(places_angstrom)), 2.0) / longest
    depth = displacement_angstrom[..., 2] if displacement_angstrom.shape[2] > 2 else None
    reach = 1.0 if depth is None else max(float(np.abs(depth).max(initial=0.0)), 1e-6)
    ends, shades = Normalize(-reach, reach), "coolwarm"
    size = (2.2 * max(columns, 2) + 1.0, (2.4 * height / width + 0.4) * rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    x, y = places_angstrom.T
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        u, v = displacement_angstrom[number, :, :2].T
        if depth is not None:
            axes.scatter(x, y, c=depth[number], cmap=shades, norm=ends, s=26.0, linewidths=0.3, edgecolors=GREY)
        axes.quiver(
            x, y, u, v, color=FIRST if depth is None else "black", angles="xy", scale_units="xy", scale=1.0 / enlarged,
            width=0.011, zorder=3,
        )  # fmt: skip
        axes.add_patch(Rectangle((-0.5 * width, -0.5 * height), width, height, fill=False, ec=GREY, lw=0.6))
        # room for arrows at the edges, and for the bar below
        axes.set(xlim=(-0.65 * width, 0.65 * width), ylim=(-0.85 * height, 0.65 * height), xticks=[], yticks=[])
        axes.set_aspect("equal")
        axes.spines[:].set_visible(False)
        axes.set_title(title, fontsize=9)
    bar = scale_bar_length(4.0 * longest)
    panels[0].add_patch(Rectangle((-0.5 * width, -0.74 * height), bar * enlarged, 0.02 * height, color="black"))
    panels[0].text(-0.5 * width + bar * enlarged, -0.73 * height, f"  {bar:g} Å", va="center", fontsize=9)
    panels[-1].text(0.5 * width, -0.73 * height, f"{width / 10.0:.0f} nm wide", ha="right", va="center", fontsize=8)
    if depth is not None:
        figure.colorbar(ScalarMappable(ends, shades), ax=panels, label="along z (Å)", shrink=0.8)
    return figure


def motion_through_dose(doses: FloatArray, displacement_angstrom: FloatArray, names: Sequence[str]) -> Figure:
    """Displacement of some places of the specimen against dose, along x, y and z.

    Parameters
    ----------
    doses : (dose,), e/A^2
    displacement_angstrom : (dose, place, 3), A
    names : of the places
    """
    figure = Figure(figsize=(8.0, 2.9), layout="constrained")
    grid = figure.subplots(1, 3, sharey=True)
    for axis, axes in enumerate(grid):
        decorate(axes)
        axes.axhline(0.0, color=GREY, linewidth=0.7)
        for place, (name, color) in enumerate(zip(names, _cycled(len(names)), strict=True)):
            axes.plot(doses, displacement_angstrom[:, place, axis], color=color, linewidth=1.3, label=name)
        axes.set(xlabel="dose (e/Å²)")
        axes.set_title(f"along {'xyz'[axis]}", fontsize=9)
    grid[0].set_ylabel("displacement (Å)")
    figure.legend(
        *grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False, fontsize=8
    )
    return figure


def changes_by_tilt(
    tilts_deg: FloatArray,
    changes: FloatArray,
    sigma: FloatArray,
    names: Sequence[str],
    label: str,
    *,
    usual: float = 0.0,
) -> Figure:
    """Changes of each image with one deviation.

    Parameters
    ----------
    tilts_deg : (tilt,)
    changes, sigma : (tilt, component)
    names : of the components
    label : of the changes, with their unit
    usual : what they are where there is nothing to tell
    """
    figure, axes = new_figure()
    axes.axhline(usual, color=GREY, linewidth=0.8)
    step = float(np.median(np.diff(np.sort(tilts_deg)))) if len(tilts_deg) > 1 else 1.0
    for i, (name, color) in enumerate(zip(names, _cycled(len(names)), strict=True)):
        aside = 0.15 * step * (i - 0.5 * (len(names) - 1))  # so that bars do not hide each other
        axes.errorbar(
            tilts_deg + aside,
            changes[:, i],
            yerr=sigma[:, i],
            fmt="o-",
            color=color,
            ms=3,
            lw=0.8,
            elinewidth=0.6,
            label=name,
        )
    axes.set(xlabel=TILT_AXIS_LABEL, ylabel=label)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=len(names))
    return figure


def weights_by_tilt(tilts_deg: FloatArray, signal_scale: FloatArray, b_factor_angstrom2: FloatArray) -> Figure:
    """How strong the signal of each image is, and how fast it fades with detail; all (tilt,)."""
    figure = Figure(figsize=(8.0, 2.8), layout="constrained")
    named = (("signal of the image (mean 1)", signal_scale, 1.0), ("B factor (Å²)", b_factor_angstrom2, 0.0))
    for axes, (label, values, level) in zip(figure.subplots(1, 2), named, strict=True):
        decorate(axes)
        axes.axhline(level, color=GREY, linewidth=0.8)
        axes.plot(tilts_deg, values, "o-", color=FIRST, markersize=3.5, linewidth=0.8)
        axes.set(xlabel=TILT_AXIS_LABEL, ylabel=label)
    return figure


def seen_until(contrast: FloatArray, sigma: FloatArray, doses: FloatArray) -> FloatArray:
    """Dose (band,) up to which the signal of each band stands out of noise in images next to each other in dose; NaN: never.

    Parameters
    ----------
    contrast, sigma : (tilt, band); those that are not finite do not count
    doses : (tilt,), e/A^2
    """
    order = np.argsort(doses, kind="stable")
    known = np.isfinite(contrast) & np.isfinite(sigma) & (sigma > 0)
    weight = np.where(known, 1.0 / np.square(np.where(known, sigma, 1.0)), 0.0)[order]
    value = np.where(known, contrast, 0.0)[order] * weight
    together = min(_TOGETHER, len(order))
    out = np.full(contrast.shape[1], np.nan)
    for first in range(len(order) - together + 1):
        part = slice(first, first + together)
        total = weight[part].sum(0)
        seen = value[part].sum(0) > _SEEN * np.sqrt(total)
        out[seen & (total > 0)] = doses[order[first + together - 1]]
    return out


def signal_of_tilts(
    frequency: FloatArray, contrast: FloatArray, sigma: FloatArray, tilts_deg: FloatArray, doses: FloatArray
) -> Figure:
    """Contrast of the particles' signal over its deviation in each image by detail, and up to which dose it is seen.

    Parameters
    ----------
    frequency : (band,), 1/A
    contrast, sigma : (tilt, band)
    tilts_deg, doses : (tilt,), degrees and e/A^2 in the middle of each image
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sigma > 0, contrast / sigma, np.nan)
    figure = Figure(figsize=(7.4, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.0, 1.0))
    finite = ratio[np.isfinite(ratio)]
    most = max(float(np.percentile(finite, 99.0)), _SEEN) if finite.size else 1.0
    picture = top.imshow(
        ratio, origin="lower", aspect="auto", cmap="viridis", norm=PowerNorm(0.5, 0.0, most), interpolation="nearest"
    )
    figure.colorbar(picture, ax=top, label="signal over its deviation")
    rows = _spread(len(tilts_deg))
    top.set_yticks(rows, [f"{tilts_deg[i]:.0f}" for i in rows], fontsize=8)
    top.set_ylabel(TILT_AXIS_LABEL)
    decorate(bottom)
    until = seen_until(contrast, sigma, doses)
    bands = np.arange(len(frequency))
    bottom.plot(bands, until, "o-", color=FIRST, markersize=4.0, linewidth=1.0)
    never = ~np.isfinite(until)
    bottom.plot(bands[never], np.zeros(int(never.sum())), "x", color=SECOND, markersize=6.0, label="not seen")
    if never.any():
        bottom.legend(frameon=False, fontsize=8)
    bottom.set_ylim(-0.04 * float(doses.max()), 1.06 * float(doses.max()))
    columns = _spread(len(frequency))
    bottom.set_xticks(columns, [f"{1.0 / frequency[i]:.3g}" if frequency[i] > 0 else "∞" for i in columns], fontsize=8)
    bottom.set(xlabel="detail (Å)", ylabel="seen until (e/Å²)")
    return figure


def _spread(count: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(count, _LABELS)).round())]


def _cycled(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]
