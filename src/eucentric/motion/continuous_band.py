"""Spectra of the frames of one continuous movie, and the odds that two of them show one scene; see `assign_frames`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import taper_edges
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.typing import FloatArray

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

SHELLS = 32
_SMALLEST = 32
_LAGS = 6
_MAPS = 32
_MEMORY_BYTES = 2**30
_HIGH_PASS_ANGSTROM = 400.0
_DARK = 0.3
_PARTLY_LIT = 0.85
_NEIGHBOUR_ANGSTROM = 60.0
"""Neighbouring frames of a resting stage are not further apart."""
_PAIRS = 300


@dataclass(slots=True, kw_only=True)
class MovieBand:
    """Fourier samples of all frames inside a band; of the plane one half is kept, each sample once."""

    values: Tensor
    """(frame, k) complex64; once whitened, noise has variance 1."""
    kx: Tensor
    ky: Tensor
    shell: Tensor
    index: Tensor
    """Where the samples sit in the rfft of `shape`."""
    shape: tuple[int, int]
    spacing: float
    """A."""
    signal: Tensor
    """(shell,): power of the scene in one frame, noise being 1."""

    @property
    def number(self) -> Tensor:
        """(shell,): number of samples."""
        return torch.bincount(self.shell, minlength=SHELLS).float()


def collect_spectra(
    frame: Callable[[int], Tensor],
    count: int,
    pixel_size: float,
    low_pass: float,
    progress: Callable[[float], None] | None,
) -> tuple[MovieBand, FloatArray]:
    """Spectra of all frames inside the band, and their mean counts; frames are asked for once each, in order.

    Parameters
    ----------
    frame : gives a frame (y, x) by its number
    pixel_size, low_pass : A; the band ends earlier where the spectra would not fit into a gibibyte

    Raises
    ------
    InputError : frames too small, of different size, or with values that are not finite
    """
    band: MovieBand | None = None
    size: tuple[int, ...] = ()
    coarser = 1
    means = np.zeros(count)
    for i in range(count):
        image = frame(i).to(torch.float32)
        if band is None:
            size = tuple(image.shape)
            if image.ndim != 2 or min(size) < _SMALLEST:
                raise InputError(f"A frame has shape {size}; expected at least {_SMALLEST} x {_SMALLEST} pixels.")
            finest = _finest(size[0] * size[1] * pixel_size**2, count, pixel_size, low_pass)
            # averaged pixels of a quarter of the finest detail lose little of it, and spare most of the work
            coarser = max(1, min(int(finest / (4.0 * pixel_size)), min(size) // _SMALLEST))
            band = _empty_band(size, coarser, count, pixel_size, finest, image.device)
        if tuple(image.shape) != size or not bool(torch.isfinite(image).all()):
            raise InputError(
                f"Frame {i + 1} of {count} has shape {tuple(image.shape)}, or values that are not numbers; expected "
                f"{size} as the first. Copy the movie again."
            )
        means[i] = float(image.mean())
        if coarser > 1:
            image = torch.nn.functional.avg_pool2d(image[None, None], coarser)[0, 0]
        image = taper_edges(image - image.mean(), max(4, min(image.shape) // 16))
        if tuple(image.shape) != band.shape:
            image = fourier_crop(image, band.shape)
        band.values[i] = torch.fft.rfft2(image).reshape(-1)[band.index] / math.sqrt(math.prod(band.shape))
        if progress is not None:
            progress((i + 1) / count)
    assert band is not None
    return band, means


def _finest(area: float, count: int, pixel_size: float, low_pass: float) -> float:
    """Finest detail used (A): as wished, or as sampling and memory allow; `area` of a frame in A^2."""
    samples = _MEMORY_BYTES / (8 * count)
    return max(low_pass, 2.2 * pixel_size, math.sqrt(0.5 * math.pi * area / samples))


def _empty_band(
    size: tuple[int, ...], coarser: int, count: int, pixel_size: float, finest: float, device: torch.device
) -> MovieBand:
    size = (size[0] // coarser, size[1] // coarser)
    pixel_size *= coarser
    small = rescaled_shape(size, pixel_size, finest / 2.2)
    shape = (min(small[0], size[0]), min(small[1], size[1]))
    spacing = pixel_size * size[1] / shape[1]
    radius = frequency_grid(shape, spacing, device=device)
    inside = (radius < 1.0 / finest) & (radius > 1.0 / min(_HIGH_PASS_ANGSTROM, 0.25 * min(size) * pixel_size))
    # of the column kx = 0 only one half is needed: the other is its mirror
    inside[shape[0] // 2 + 1 :, 0] = False
    index = inside.reshape(-1).nonzero().flatten()
    fy, fx = frequency_vectors(shape, spacing, device=device)
    return MovieBand(
        values=torch.zeros(count, len(index), dtype=torch.complex64, device=device),
        kx=fx.expand(radius.shape).reshape(-1)[index],
        ky=fy.expand(radius.shape).reshape(-1)[index],
        shell=(radius.reshape(-1)[index] * finest * SHELLS).long().clamp(max=SHELLS - 1),
        index=index,
        shape=shape,
        spacing=spacing,
        signal=torch.zeros(SHELLS, device=device),
    )


def lit_frames(means: FloatArray) -> BoolArray:
    """Frames exposed for their whole time: neither dark nor much below their neighbours."""
    bright = means > _DARK * np.percentile(means, 75)
    lit = bright.copy()
    for i in np.flatnonzero(bright):
        near = means[max(0, i - 6) : i + 7][bright[max(0, i - 6) : i + 7]]
        lit[i] = means[i] > _PARTLY_LIT * np.median(near)
    return lit


def batches(count: int) -> list[slice]:
    """Parts of a list of maps that are worked on at a time."""
    return [slice(i, min(i + _MAPS, count)) for i in range(0, count, _MAPS)]


def shell_sums(band: MovieBand, quantity: Tensor) -> Tensor:
    """(..., k) real to (..., shell)."""
    flat = quantity.reshape(-1, quantity.shape[-1])
    out = torch.zeros(len(flat), SHELLS, dtype=torch.float32, device=flat.device)
    out.index_add_(1, band.shell, flat.float())
    return out.reshape(*quantity.shape[:-1], SHELLS)


def whiten(band: MovieBand, place: IntArray, means: FloatArray) -> MovieBand:
    """The lit frames with noise of variance 1 in every shell, what all frames share removed, and the scene's power.

    Parameters
    ----------
    place : numbers of the lit frames
    means : (frame,) mean counts of all frames; noise grows with their square root

    Raises
    ------
    ProcessingError : the frames hold nothing but what they share
    """
    lit = torch.from_numpy(place)
    values = band.values = band.values[lit]
    scale = torch.from_numpy(np.sqrt(np.maximum(means[place], 1e-12))).float().to(values.device)
    values /= scale[:, None]
    # detector patterns stand still while the specimen moves
    values -= values.mean(0)
    count = band.number.clamp(min=1)
    total = shell_sums(band, values.abs().square().mean(0)) / count
    if not float(total.max()) > 0.0:
        raise ProcessingError(
            "All frames of the movie are alike, so none can be told from another. Check that it was copied whole, or give "
            "the frames of each tilt in a table, with --frame-table."
        )
    floor = total[-4:].mean()
    noise = torch.minimum(total, floor.expand_as(total)).clamp(min=1e-12)
    signal = (total - noise).clamp(min=1e-3 * floor)
    for _ in range(3):
        values /= torch.sqrt(noise)[band.shell]
        band.signal = signal / noise
        cross = _shared_power(band)
        power = shell_sums(band, values.abs().square().mean(0)) / count
        signal = torch.minimum(cross.clamp(min=1e-4), 0.9 * power).clamp(min=1e-6)
        noise = torch.where(power > 0, power - signal, torch.ones_like(power))
    band.signal = signal / noise
    values /= torch.sqrt(noise)[band.shell]
    return band


def _shared_power(band: MovieBand) -> Tensor:
    """(shell,) power that neighbouring frames share; frames are joined where single ones cannot be laid on each other."""
    number = band.number
    shared, best = torch.zeros(SHELLS, device=band.values.device), -math.inf
    for group in (1, 2, 4, 8):
        if len(band.values) < 4 * group:
            break
        found, pairs = _cross_power(band, group)
        weight = band.signal / (1.0 + 2.0 * group * band.signal)
        # what is missed, by a wrong displacement or by drift within a group, lowers it: the highest is nearest
        sure = float((number * weight * found).sum())
        sure -= 2.0 * math.sqrt(float((number * weight**2).sum()) / (2.0 * pairs)) / group
        if sure / float((number * weight).sum()) > best:
            best, shared = sure / float((number * weight).sum()), found
    padded = torch.cat([shared[:1], shared, shared[-1:]])
    return 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]


def _cross_power(band: MovieBand, group: int) -> tuple[Tensor, int]:
    """Power shared by neighbouring groups of frames, per frame, and the number of pairs of groups.

    One half of the samples finds the displacement, the other half measures: noise is not laid on noise.
    """
    samples = band.values.shape[1]
    joined = band.values[: len(band.values) // group * group].reshape(-1, group, samples).sum(1) / math.sqrt(group)
    pairs = torch.linspace(0, len(joined) - 2, min(len(joined) - 1, _PAIRS)).long()
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(1)).to(band.values.device)
    half = torch.zeros(samples, device=band.values.device)
    half[order[: samples // 2]] = 1.0
    gain = group * band.signal
    weight = (gain / (1.0 + 2.0 * gain))[band.shell]
    x, y = map_axes(band)
    far = x[None, :] ** 2 + y[:, None] ** 2 > _NEIGHBOUR_ANGSTROM**2
    total = torch.zeros(SHELLS, device=band.values.device)
    for part in batches(len(pairs)):
        some = pairs[part]
        product = joined[some] * joined[some + 1].conj()
        for finds in (half, 1.0 - half):
            maps = correlation_maps(band, product * (weight * finds)).masked_fill(far, -torch.inf)
            at = map_peaks(band, maps)
            total += shell_sums(band, (product * turn(band, at) * (1.0 - finds)).real).sum(0)
    return total / band.number.clamp(min=1) / len(pairs) / group, len(pairs)


def correlation_maps(band: MovieBand, values: Tensor) -> Tensor:
    """(batch, k) to correlation maps (batch, y, x): the sum over all k of values e^{2 pi i k d} at displacement d."""
    height, width = band.shape
    plane = torch.zeros(len(values), height * (width // 2 + 1), dtype=values.dtype, device=values.device)
    plane[:, band.index] = values
    plane = plane.reshape(len(values), height, width // 2 + 1)
    # irfft2 counts the samples off the column kx = 0 twice, and those on it once, for their mirrors are left out
    plane[:, :, 0] *= 2.0
    maps: Tensor = torch.fft.irfft2(plane, s=band.shape) * (0.5 * height * width)
    return maps


def turn(band: MovieBand, displacement: Tensor) -> Tensor:
    """(batch, k): e^{2 pi i k d}, which takes a displacement (batch, 2) in A back."""
    angle = 2.0 * math.pi * (displacement[:, :1] * band.kx + displacement[:, 1:] * band.ky)
    return torch.polar(torch.ones_like(angle), angle)


def map_axes(band: MovieBand) -> tuple[Tensor, Tensor]:
    """Displacements (A) along x and y at the samples of a correlation map."""
    y, x = (
        torch.fft.fftfreq(n, d=1.0 / n, device=band.values.device, dtype=torch.float32) * band.spacing
        for n in band.shape
    )
    return x, y


def map_peaks(band: MovieBand, maps: Tensor) -> Tensor:
    """(batch, 2): x and y (A) of the highest samples, between samples by a parabola along each axis."""
    height, width = band.shape
    flat = maps.reshape(len(maps), -1).argmax(1)
    row, column = flat // width, flat % width
    batch = torch.arange(len(maps), device=maps.device)

    def offset(before: Tensor, after: Tensor) -> Tensor:
        middle = maps[batch, row, column]
        curve = (2.0 * middle - before - after).clamp(min=1e-6)
        return (0.5 * (after - before) / curve).nan_to_num(0.0).clamp(-0.5, 0.5)

    dx = offset(maps[batch, row, (column - 1) % width], maps[batch, row, (column + 1) % width])
    dy = offset(maps[batch, (row - 1) % height, column], maps[batch, (row + 1) % height, column])
    x, y = map_axes(band)
    return torch.stack([x[column] + dx * band.spacing, y[row] + dy * band.spacing], 1)


def drift_prior(band: MovieBand, centre: Tensor, scale: Tensor) -> Tensor:
    """(batch, y, x): log probability of displacements, long-tailed: the drift after a step is far above its usual."""
    x, y = map_axes(band)
    dx = x[None, None, :] - centre[:, 0, None, None]
    dy = y[None, :, None] - centre[:, 1, None, None]
    density: Tensor = -1.5 * torch.log1p((dx**2 + dy**2) / scale[:, None, None] ** 2)
    normal: Tensor = density - torch.logsumexp(density.flatten(1), 1)[:, None, None]
    return normal


def pair_odds(band: MovieBand, values: Tensor, signal: Tensor, drift: float) -> FloatArray:
    """(lag, frame): log odds that a frame and the one `lag + 1` later show one scene."""
    count = len(values)
    n = band.number
    weight = (2.0 * signal / (1.0 + 2.0 * signal))[band.shell]
    own = (signal**2 / ((1.0 + signal) * (1.0 + 2.0 * signal)))[band.shell]
    constant = float((n * (2.0 * torch.log1p(signal) - torch.log1p(2.0 * signal))).sum())
    power = (values.abs().square() * own).sum(1)
    odds = np.full((_LAGS, count), 0.0)
    zero = torch.zeros(1, 2, device=values.device)
    for lag in range(1, _LAGS + 1):
        prior = drift_prior(band, zero, torch.tensor([drift * lag], device=values.device))
        early, late = values[:-lag], values[lag:]
        level = constant - power[:-lag] - power[lag:]
        for part in batches(count - lag):
            maps = correlation_maps(band, weight * late[part] * early[part].conj()) + prior
            odds[lag - 1, part] = (level[part] + torch.logsumexp(maps.flatten(1), 1)).cpu().numpy()
    return odds
