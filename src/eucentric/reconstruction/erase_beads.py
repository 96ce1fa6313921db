"""Gold beads taken out of tilt images, so that their streaks do not cross the tomogram."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.typing import FloatArray

_USUAL_HALO = 2.2  # of the radius: the fringes of 100 A beads at 4 um underfocus
_RIM = 0.25  # of the radius: width of the soft edge outside the halo
_FREE_PATCHES = 12  # neighbouring patches whose mean power spectrum is that of the noise


def erase_beads(
    images: Float[Tensor, "tilt y x"],
    positions_px: Sequence[FloatArray],
    radius_px: float,
    *,
    generator: torch.Generator,
    halo_px: float | None = None,
) -> Float[Tensor, "tilt y x"]:
    r"""Replace beads with the background around them and noise like that around them.

    Everything within `halo_px` of a centre is replaced; over a soft rim outside it, a quarter of the radius and two
    pixels at least, the original returns with a raised cosine w:

    .. math:: out = (1 - w)\,image + w\,background + \sqrt{1 - (1 - w)^2}\,noise

    which keeps the variance the same through the rim. The background is a polynomial fitted to the ring around the rim,
    without pixels of other beads: of second order where three quarters of the ring are there, of first order from two
    fifths on, else its mean. The noise has the mean power spectrum (both dimensions) of the nearest patches without
    beads, less what a plane fitted to each holds, and the variance of the ring.

    **Half images.** Each call draws new noise from `generator`: erase even and odd images in two calls, with one
    generator or with differently seeded ones, and their noise is independent; never with two of the same seed. Make the
    whole images by adding the two erased halves, and they agree.

    Parameters
    ----------
    images : (tilt, y, x), before any filter
    positions_px : for each tilt (bead, 2), x and y, of beads in the image or cut by its edge; others are ignored
    radius_px : of the beads
    generator : on the CPU; same state, same result on every device
    halo_px : radius to which Fresnel fringes are seen, as :func:`detect_beads_in_series` measures it; none takes 2.2 radii

    Returns
    -------
    (tilt, y, x), dtype and device of `images`; untouched further than halo and rim from a bead

    Raises
    ------
    ShapeError : not one list of positions for each image
    InputError : a radius that is not positive, or positions that are not finite
    """
    if images.ndim != 3 or len(positions_px) != len(images):
        raise ShapeError(
            f"Beads are erased from images (tilt, y, x) with one list of positions each; got images of shape "
            f"{tuple(images.shape)} and {len(positions_px)} lists."
        )
    if not radius_px > 0 or (halo_px is not None and not halo_px >= radius_px):
        raise InputError(
            f"The bead radius is {radius_px:g} px and the halo {halo_px} px; expected a positive radius and a halo not "
            "below it."
        )
    halo = halo_px or _USUAL_HALO * radius_px
    out = images.clone()
    for tilt, places in enumerate(positions_px):
        centres = np.asarray(places, dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(centres).all():
            raise InputError(f"A bead position of image {tilt} (counted from 0) is not finite. Leave such beads out.")
        if len(centres):
            pixels = images[tilt].detach().cpu().numpy().astype(np.float64)
            filled = _erase(pixels, centres, radius_px, halo, generator)
            out[tilt] = torch.from_numpy(filled).to(device=images.device, dtype=images.dtype)
    return out


def _erase(
    pixels: FloatArray, centres: FloatArray, radius: float, halo: float, generator: torch.Generator
) -> FloatArray:
    rim = max(2.0, _RIM * radius)
    outer = halo + rim
    rows, columns = pixels.shape
    touching = ((centres > -outer) & (centres < np.array([columns - 1, rows - 1]) + outer)).all(axis=1)
    centres = centres[touching]
    covered = np.zeros(pixels.shape, dtype=bool)
    for x, y in centres:
        window, r = _window(pixels.shape, x, y, outer)
        covered[window] |= r <= outer
    side = 2 * math.ceil(outer) + 3
    corners = _free_patches(covered, side)
    out = pixels.copy()
    for x, y in centres:
        window, r = _window(pixels.shape, x, y, outer)
        weight = 0.5 + 0.5 * np.cos(np.pi * np.clip((r - halo) / rim, 0.0, 1.0))
        background, spread = _background(pixels, covered, window, (x, y), radius, outer)
        noise = spread * _noise(pixels, corners, (x, y), side, generator)[: r.shape[0], : r.shape[1]]
        # `out`, not `pixels`: in the rim may lie what has filled a neighbour
        out[window] = (1 - weight) * out[window] + weight * background + np.sqrt(1 - (1 - weight) ** 2) * noise
    return out


def _window(shape: tuple[int, ...], x: float, y: float, reach: float) -> tuple[tuple[slice, slice], FloatArray]:
    """The pixels in a square about a place, and their distances from it."""
    top, left = max(0, math.floor(y - reach)), max(0, math.floor(x - reach))
    window = (
        slice(top, max(top, min(shape[0], math.ceil(y + reach) + 1))),
        slice(left, max(left, min(shape[1], math.ceil(x + reach) + 1))),
    )
    rows, columns = np.mgrid[window]
    return window, np.hypot(columns - x, rows - y)


def _background(
    pixels: FloatArray,
    covered: NDArray[np.bool_],
    window: tuple[slice, slice],
    centre: tuple[float, float],
    radius: float,
    outer: float,
) -> tuple[FloatArray, float]:
    """A smooth continuation of the ring's values over the window, and the standard deviation about it in the ring."""
    width = max(4.0, radius)
    while True:
        ring, r = _window(pixels.shape, *centre, outer + width)
        free = (r > outer) & (r <= outer + width) & ~covered[ring]
        if free.sum() >= 40 or outer + width > 2 * max(pixels.shape):
            break
        width *= 1.5
    if free.sum() < 6:  # beads everywhere: nothing local is left
        rest = pixels[~covered] if not covered.all() else pixels
        return np.full(pixels[window].shape, rest.mean()), float(rest.std())
    share = free.sum() / (math.pi * ((outer + width) ** 2 - outer**2))
    order = 2 if share >= 0.75 else 1 if share >= 0.4 else 0

    def terms(area: tuple[slice, slice]) -> FloatArray:
        rows, columns = np.mgrid[area]
        u, v = (columns - centre[0]) / (outer + width), (rows - centre[1]) / (outer + width)
        return np.stack([u**i * v**j for i in range(order + 1) for j in range(order + 1 - i)], axis=-1)

    values, design = pixels[ring][free], terms(ring)[free]
    coefficients, *_ = np.linalg.lstsq(design, values, rcond=None)
    rest = values - design @ coefficients
    return np.asarray(terms(window) @ coefficients), float(np.sqrt((rest**2).sum() / (len(rest) - design.shape[1])))


def _free_patches(covered: NDArray[np.bool_], side: int) -> NDArray[np.int64]:
    """Corners (n, 2), x and y, of half-overlapping square patches without beads."""
    step = max(1, side // 2)
    corners = [
        (left, top)
        for top in range(0, covered.shape[0] - side + 1, step)
        for left in range(0, covered.shape[1] - side + 1, step)
        if not covered[top : top + side, left : left + side].any()
    ]
    return np.array(corners, dtype=np.int64).reshape(-1, 2)


def _noise(
    pixels: FloatArray, corners: NDArray[np.int64], centre: tuple[float, float], side: int, generator: torch.Generator
) -> FloatArray:
    """Noise (side, side) of variance one with the power spectrum of the nearest patches; white where there are none."""
    white = torch.randn(side, side, dtype=torch.float64, generator=generator).numpy()
    if len(corners) == 0:
        return white
    apart = np.hypot(*(corners + 0.5 * side - np.array(centre)).T)
    nearest = corners[np.argsort(apart, kind="stable")[:_FREE_PATCHES]]
    window = np.hanning(side + 2)[1:-1]
    across = np.linspace(-1.0, 1.0, side)
    power = np.zeros((side, side // 2 + 1))
    for left, top in nearest:
        patch = pixels[top : top + side, left : left + side]
        patch = patch - patch.mean()
        patch = patch - across[None, :] * (patch @ across).mean() / (across @ across)
        patch = patch - across[:, None] * (across @ patch).mean() / (across @ across)
        power += np.abs(np.fft.rfft2(patch * window[:, None] * window[None, :])) ** 2
    power[0, 0] = 0.0
    coloured = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power), s=(side, side))
    # expected variance, not that of this draw: beads must not all get the same
    full = np.full(side // 2 + 1, 2.0)
    full[0] = 1.0
    if side % 2 == 0:
        full[-1] = 1.0
    variance = (power * full).sum() / side**2
    return np.asarray(coloured / math.sqrt(variance)) if variance > 0 else np.zeros_like(white)
