"""An average: its resolution, how it looks, from where its particles were seen, how it came about."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, zoom

from eucentric.figures.canvas import FIRST, FREQUENCY_LABEL, GREY, SECOND, decorate, new_figure, scale_bar
from eucentric.figures.shaded_surface import shaded_surface
from eucentric.typing import FloatArray

_COLORS = (FIRST, SECOND, "#009e73", "#cc79a7", "#e69f00")
_RENDERED = 160  # voxels along the edge of a rendered volume, at most
_BINS = 30
_SIDES = (("+z", 1, (0, 1, 2)), ("-y", -1, (1, 0, 2)), ("+x", 1, (2, 0, 1)))


def fsc_curves(frequency: FloatArray, curves: Mapping[str, FloatArray], resolution_angstrom: float) -> Figure:
    """Correlations of half maps by name over frequency (1/A), all (shell,); the resolution is marked."""
    figure, axes = new_figure(7.0, 3.8)
    for (name, curve), color in zip(curves.items(), _COLORS, strict=False):
        axes.plot(frequency, curve, color=color, linewidth=2.0 if name == "corrected" else 1.1, label=name)
    for level, style in ((0.0, "-"), (0.143, ":"), (0.5, ":")):
        axes.axhline(level, color=GREY, linewidth=0.7, linestyle=style)
    if np.isfinite(resolution_angstrom):
        axes.axvline(1.0 / resolution_angstrom, color="black", linewidth=0.9)
        axes.annotate(f" {resolution_angstrom:.1f} Å", (1.0 / resolution_angstrom, 0.93), fontsize=9)
    axes.set(xlabel=FREQUENCY_LABEL, ylabel="Fourier shell correlation", ylim=(-0.15, 1.05), xlim=(0.0, None))
    axes.legend(frameon=False, fontsize=8)
    return figure


def transfer_plot(chi_over_pi: FloatArray, transfer: FloatArray, sigma: FloatArray, names: Sequence[str]) -> Figure:
    """CTF as particles show it against chi as fitted, with minus the sine that it should be.

    Parameters
    ----------
    chi_over_pi : (bin,)
    transfer, sigma : (series, bin); NaN where nothing is known
    names : of the series
    """
    figure, axes = new_figure(7.0, 3.4)
    fine = np.linspace(0.0, float(chi_over_pi[-1]), 400)
    axes.plot(fine, -np.sin(np.pi * fine), color=GREY, linewidth=2.0, label="as fitted")
    for i, (name, curve, wide) in enumerate(zip(names, transfer, sigma, strict=True)):
        shown = np.isfinite(curve) & (wide < 0.5)
        label = name if i < len(_COLORS) else None
        color = _COLORS[i % len(_COLORS)]
        axes.errorbar(chi_over_pi[shown], curve[shown], wide[shown], fmt=".", ms=3.0, lw=0.7, color=color, label=label)
    axes.axhline(0.0, color=GREY, linewidth=0.7)
    axes.set(
        xlabel="χ / π as fitted: zeros of the CTF are whole numbers", ylabel="CTF of the particles", ylim=(-2.0, 2.0)
    )
    axes.legend(frameon=False, fontsize=8)
    return figure


def guinier_plot(
    squared_frequency: FloatArray, log_amplitude: FloatArray, fitted: NDArray[np.bool_], line: FloatArray
) -> Figure:
    """Logarithm of the signal's amplitude over squared frequency (1/A^2).

    Parameters
    ----------
    squared_frequency, log_amplitude, fitted : (shell,)
    line : offset, B factor in A^2 and its deviation; NaN without a fit
    """
    figure, axes = new_figure()
    axes.plot(squared_frequency, log_amplitude, "o-", color=FIRST, markersize=3.0, linewidth=0.8)
    if np.isfinite(line).all() and fitted.any():
        x = squared_frequency[fitted]
        label = f"B = {line[1]:.0f} ± {line[2]:.0f} Å²"
        axes.plot(x, line[0] - 0.25 * line[1] * x, color=SECOND, linewidth=2.0, label=label)
        axes.legend(frameon=False)
    axes.set(xlabel="squared spatial frequency (1/Å²)", ylabel="ln amplitude")
    return figure


def map_pictures(volume: FloatArray, voxel_size_angstrom: float) -> Figure:
    """Central slices and projections of a map (z, y, x) along z, y and x; protein is shown dark on light."""
    n = volume.shape[0]
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    grid = figure.subplots(2, 3)
    for column, name in enumerate(("z", "y", "x")):
        for row, image in ((0, volume.take(n // 2, axis=column)), (1, volume.sum(axis=column))):
            axes: Axes = grid[row, column]
            low, high = np.percentile(image, [0.5, 99.8])
            axes.imshow(-image, cmap="gray", origin="lower", vmin=-max(high, low + 1e-12), vmax=-low)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"along {name}", fontsize=9)
    grid[0, 0].set_ylabel("slice through the centre")
    grid[1, 0].set_ylabel("projection")
    width = n * voxel_size_angstrom
    grid[1, 0].set_xlabel(f"{width:.0f} Å wide", fontsize=8)
    return figure


def surface_views(
    volume: FloatArray,
    level: float,
    colors: FloatArray | None = None,
    label: str = "local resolution (Å)",
    voxel_size_angstrom: float | None = None,
) -> Figure:
    """A shaded surface of a map (z, y, x) at a level, seen from +z (y up), -y and +x (z up), so that its hand is right.

    Parameters
    ----------
    level : of the map's values
    colors : (z, y, x), what the surface is coloured by; grey where None
    label : of the colours
    voxel_size_angstrom : for a scale bar; none is drawn where None
    """
    around = _around(volume > level)
    fine, shades = _enlarged(volume[around]), None
    figure = Figure(figsize=(8.6 if colors is not None else 7.6, 2.9), layout="constrained")
    grid = figure.subplots(1, 3)
    ends = Normalize(0.0, 1.0)
    if colors is not None:
        shades = _enlarged(colors[around])
        shown = shades[fine > level]
        low, high = np.percentile(shown, [2.0, 98.0]) if shown.size else (0.0, 1.0)
        ends = Normalize(float(low), float(max(high, low + 1e-6)))
    for axes, (name, flip, order) in zip(grid, _SIDES, strict=True):
        turned = fine[:, ::flip].transpose(order)
        shade, places = shaded_surface(turned, level)
        picture = np.ones((*shade.shape, 3))
        hit = np.isfinite(shade)
        if shades is None:
            picture[hit] = shade[hit, None] * np.array([0.72, 0.80, 0.92])
        else:
            values = map_coordinates(shades[:, ::flip].transpose(order), places, order=1, mode="nearest")
            picture[hit] = (shade[..., None] * colormaps["viridis_r"](ends(values))[..., :3])[hit]
        axes.imshow(picture.clip(0.0, 1.0), origin="lower", interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"from {name}", fontsize=9)
        axes.spines[:].set_visible(False)
    if voxel_size_angstrom is not None:
        rows, wide = fine.shape[1:]
        unit = voxel_size_angstrom * volume[around].shape[0] / wide
        scale_bar(grid[0], (-0.5, wide - 0.5), (-0.5, rows - 0.5), unit)
    if colors is not None:
        from matplotlib.cm import ScalarMappable

        figure.colorbar(ScalarMappable(ends, "viridis_r"), ax=list(grid), label=label, shrink=0.8)
    return figure


def surface_level(volume: FloatArray, mask: FloatArray | None = None) -> float:
    """A level that shows the particle: halfway between its surroundings and the mean of its denser half."""
    inside = volume[mask > 0.5] if mask is not None and (mask > 0.5).any() else volume.reshape(-1)
    dense = inside[inside > np.median(inside)]
    outside = volume[mask < 0.05] if mask is not None and (mask < 0.05).any() else volume.reshape(-1)
    return float(np.median(outside) + 0.5 * (dense.mean() - np.median(outside)))


def directions_plot(
    views: FloatArray, directions: FloatArray, sampling: FloatArray, resolution_angstrom: FloatArray | None
) -> Figure:
    """Half the sphere in equal areas: how often particles are seen from each direction, what was measured, and how finely.

    Parameters
    ----------
    views : (view, 3) unit vectors from where the beam comes; opposite ones are the same
    directions : (direction, 3) unit vectors with z >= 0, of what follows
    sampling : (direction,), 1 on average
    resolution_angstrom : (direction,); nothing is drawn where None
    """
    count = 2 if resolution_angstrom is None else 3
    figure = Figure(figsize=(3.3 * count, 3.6), layout="constrained")
    grid = figure.subplots(1, count)
    upper = np.where(views[:, 2:] < 0, -views, views)
    x, y = _lambert(upper).T
    grid[0].hexbin(x, y, gridsize=18, extent=(-1, 1, -1, 1), cmap="Blues", mincnt=1, linewidths=0.2)
    grid[0].set_title("untilted views", fontsize=9)
    flat = _lambert(directions).T
    shown = [(grid[1], sampling, "what was measured (mean 1)", "viridis")]
    if resolution_angstrom is not None:
        finite = np.where(np.isfinite(resolution_angstrom), resolution_angstrom, np.nan)
        shown.append((grid[2], finite, "resolution (Å)", "viridis_r"))
    for axes, values, label, colors in shown:
        points = axes.scatter(flat[0], flat[1], c=values, s=9000.0 / len(directions), cmap=colors, linewidths=0)
        figure.colorbar(points, ax=axes, label=label, location="bottom", shrink=0.8)
    turn = np.linspace(0.0, 2.0 * np.pi, 181)
    for axes in grid:
        for angle, style in ((90.0, "-"), (60.0, ":"), (30.0, ":")):
            radius = np.sqrt(2.0) * np.sin(np.deg2rad(angle) / 2.0)
            axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=GREY, linewidth=0.8, linestyle=style)
        axes.set(aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure


def iterations_plot(
    numbers: Sequence[int], resolution_angstrom: FloatArray, change_deg: FloatArray, change_angstrom: FloatArray
) -> Figure:
    """Resolution, and how far particles turned and moved (medians), by iteration; NaN where not known."""
    figure = Figure(figsize=(7.6, 2.6), layout="constrained")
    grid = figure.subplots(1, 3)
    named = (("resolution (Å)", resolution_angstrom), ("turned (°)", change_deg), ("moved (Å)", change_angstrom))
    for axes, (label, values) in zip(grid, named, strict=True):
        decorate(axes)
        axes.plot(numbers, values, "o-", color=FIRST, markersize=3.5, linewidth=1.0)
        axes.set(xlabel="iteration", ylabel=label, ylim=(0.0, None))
        axes.locator_params(axis="x", integer=True, nbins=6)
    return figure


def particle_histograms(scores: Mapping[str, FloatArray], tilts_used: FloatArray) -> Figure:
    """Scores of particles by tilt series, and images of each particle; scores are left out where there are none."""
    known = {name: v[np.isfinite(v)] for name, v in scores.items() if np.isfinite(v).any()}
    figure = Figure(figsize=(7.6 if known else 4.0, 2.8), layout="constrained")
    grid = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    decorate(grid[-1])
    last = int(np.nanmax(tilts_used)) if len(tilts_used) else 1
    grid[-1].hist(tilts_used, bins=list(np.arange(-0.5, last + 1.5)), color=FIRST)
    grid[-1].set(xlabel="images of a particle", ylabel="particles")
    if known:
        decorate(grid[0])
        every = np.concatenate(list(known.values()))
        bins = np.linspace(every.min(), every.max() + 1e-6, _BINS + 1)
        shades = [colormaps["viridis"](0.85 * i / max(len(known) - 1, 1)) for i in range(len(known))]
        grid[0].hist(list(known.values()), bins=list(bins), stacked=True, color=shades, label=list(known))
        grid[0].set(xlabel="score (σ of noise)", ylabel="particles")
        if 1 < len(known) <= 8:
            grid[0].legend(frameon=False, fontsize=8)
    return figure


def _around(shown: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The cube about the middle that holds all that is shown."""
    n = shown.shape[0]
    places = np.argwhere(shown)
    reach = int(np.abs(places - n // 2).max()) + 3 if len(places) else n
    return (slice(max(n // 2 - reach, 0), n // 2 + reach + 1),) * 3


def _lambert(vectors: FloatArray) -> FloatArray:
    """Equal areas of half the sphere on the unit disc."""
    out: FloatArray = vectors[:, :2] / np.sqrt(1.0 + np.abs(vectors[:, 2:]))
    return out


def _enlarged(volume: FloatArray) -> FloatArray:
    factor = min(4.0, _RENDERED / volume.shape[0])
    out: FloatArray = zoom(volume.astype(np.float32), factor, order=1) if abs(factor - 1.0) > 0.05 else volume
    return out
