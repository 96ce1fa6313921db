"""Pictures of a tomogram."""

from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eucentric.figures.canvas import scale_bar


def central_slices(
    slice_z: NDArray[Any], slice_y: NDArray[Any], slice_x: NDArray[Any], voxel_size_angstrom: float, percentile: float
) -> Figure:
    """Slices through the centre, looking along z, y and x.

    Parameters
    ----------
    slice_z, slice_y, slice_x : (y, x), (z, x) and (z, y)
    voxel_size_angstrom : A
    percentile : this many percent of the pixels are darker than black, and as many brighter than white
    """
    (height, width), depth = slice_z.shape, slice_y.shape[0]
    inches = 7.5 / (width + depth)
    # A thin specimen would leave a slit of a few pixels; a fifth of the width keeps the labels apart.
    thick = max(depth, 0.2 * max(width, height))
    figure = Figure(
        figsize=(inches * (width + thick) + 1.0, min(inches * (height + thick) + 1.0, 14.0)), layout="constrained"
    )
    grid = figure.add_gridspec(2, 2, width_ratios=[width, thick], height_ratios=[height, thick])
    places = (
        (grid[0, 0], slice_z, "x", "y"),
        (grid[1, 0], slice_y, "x", "z"),
        (grid[0, 1], slice_x.T, "z", "y"),
    )
    for place, image, across, up in places:
        axes = figure.add_subplot(place)
        axes.imshow(image, cmap="gray", origin="lower", interpolation="antialiased", norm=contrast(image, percentile))
        axes.set(xticks=[], yticks=[], xlabel=across, ylabel=up)
        if image is slice_z:
            scale_bar(axes, (-0.5, width - 0.5), (-0.5, height - 0.5), voxel_size_angstrom)
    return figure


def wedge_spectrum(power_zx: NDArray[Any], voxel_size_angstrom: float) -> Figure:
    """Log power of xz slices, zero frequency in the middle (sample n // 2): where no tilt reached it is dark.

    Parameters
    ----------
    power_zx : (z, x), power; must be positive somewhere
    voxel_size_angstrom : A
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    floor = float(power_zx[power_zx > 0].min()) if (power_zx > 0).any() else 1.0
    image = np.log10(np.maximum(power_zx, floor))
    spans = [np.fft.fftshift(np.fft.fftfreq(n, voxel_size_angstrom)) for n in power_zx.shape]
    halves = [0.5 / (n * voxel_size_angstrom) for n in power_zx.shape]
    (low_z, high_z), (low_x, high_x) = [(float(s[0]) - h, float(s[-1]) + h) for s, h in zip(spans, halves, strict=True)]
    axes.imshow(
        image,
        cmap="gray",
        origin="lower",
        aspect="equal",
        extent=(low_x, high_x, low_z, high_z),
        norm=contrast(image, 1.0),
    )
    axes.set(xlabel="frequency along x (1/Å)", ylabel="frequency along z (1/Å)")
    return figure


def contrast(image: NDArray[Any], percentile: float) -> Normalize:
    """Grey values such that this many percent of the pixels are darker than black, and as many brighter than white."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return Normalize(0.0, 1.0)
    low, high = np.percentile(finite, [percentile, 100.0 - percentile])
    return Normalize(float(low), float(high if high > low else low + 1.0))


def fourier_coverage(
    first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]], frequency: NDArray[Any], height: float
) -> Figure:
    """Which parts of Fourier space two tilt series sampled: either alone in its colour, both white, the rest black.

    Parameters
    ----------
    first, second : coverage from 0 to 1: `zx` at ky = 0, `zy` at kx = 0, and `yx` at kz = `height`, (n, n) each
    frequency : (n,), 1/A, ascending, along either axis
    height : 1/A
    """
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    half = 0.5 * float(frequency[1] - frequency[0])
    low, high = float(frequency[0]) - half, float(frequency[-1]) + half
    titles = {"zx": ("x", "z", "ky = 0"), "zy": ("y", "z", "kx = 0"), "yx": ("x", "y", f"kz = {height:.3g} 1/Å")}
    for place, (name, (across, up, where)) in enumerate(titles.items()):
        a, b = np.clip(first[name], 0.0, 1.0), np.clip(second[name], 0.0, 1.0)
        # blue and orange of the other figures; together they are white
        color = a[..., None] * np.array([0.0, 0.45, 0.70]) + b[..., None] * np.array([1.0, 0.55, 0.30])
        axes = figure.add_subplot(1, 3, place + 1)
        axes.imshow(color.clip(0.0, 1.0), origin="lower", extent=(low, high, low, high))
        axes.set(xlabel=f"frequency along {across} (1/Å)", ylabel=f"frequency along {up} (1/Å)", title=where)
        axes.locator_params(nbins=5)
    figure.suptitle(
        "sampled by the first series (blue), the second (orange), both (white), neither (black)", fontsize=10
    )
    return figure
