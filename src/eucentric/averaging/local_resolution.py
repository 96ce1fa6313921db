"""Resolution from place to place: agreement of half maps in bands of frequency, inside windows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.stats import norm
from torch import Tensor

from eucentric.averaging.map_params import LocalResolutionParams
from eucentric.averaging.solve_average import shell_means, spread_shells
from eucentric.compute.seeds import seeded_generator
from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.crop import fourier_crop, fourier_pad
from eucentric.fourier.grid import frequency_grid
from eucentric.projection.symmetrise import turned_mean
from eucentric.typing import FloatArray

_RATIO = 1.15
"""Of the frequencies of neighbouring bands."""
_REACH = 2.0
"""Steps from the middle of a band to its edge. Narrower bands would see as far as they are narrow: a wave of 15% bandwidth is seven
wavelengths long, longer than the window."""
_FIELDS = 4
"""Of noise; every two of them are compared."""
_GRID = 1.2
"""Nyquist of the grid on which a band is looked at, over the upper edge of the band."""
_LEAST_MASK = 0.05
_LEAST_GRID = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalResolution:
    """Resolution by place, and the map filtered by it."""

    resolution_angstrom: Float[Tensor, "n n n"]
    """A; outside the mask that of the nearest voxel inside."""
    filtered: Float[Tensor, "n n n"]
    """Each band as far as the halves agree on it there."""
    inside: Float[Tensor, "n n n"]
    """bool, where it was measured."""
    bands_angstrom: FloatArray
    """(band,), middle of each, coarsest first."""

    def percentiles(self, *parts: float) -> tuple[float, ...]:
        """Of the resolution inside the mask, A."""
        values = self.resolution_angstrom[self.inside].cpu().double().numpy()
        return tuple(float(v) for v in np.percentile(values, parts))


def estimate_local_resolution(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"],
    mask: Float[Tensor, "n n n"],
    voxel_size: float,
    params: LocalResolutionParams,
    *,
    symmetry: FloatArray | None = None,
    impose: Callable[[Tensor], Tensor] | None = None,
) -> LocalResolution:
    r"""Resolution by place from two half maps.

    In bands b of both halves, made white and 15% apart, :math:`C(x) = \sum G b_1 b_2 / \sqrt{\sum G b_1^2 \sum G b_2^2}` with
    G a window about x as many wavelengths wide in every band, times the mask: applied after the bands were parted, it adds no
    correlation. Detail counts as far as C stays above both the threshold and what noise reaches: noise fields with the
    symmetry of the map, in the same bands and windows, tell how widely C scatters where there is nothing. The windowed
    correlation is that of Cardone et al. [1]_.

    Parameters
    ----------
    half1, half2 : unfiltered
    mask : 0 to 1, around the particle
    voxel_size : A
    symmetry : (element, 3, 3) rotations that were imposed on the halves
    impose : what else was, such as a helix

    Raises
    ------
    ShapeError : maps and mask of different shapes
    InputError : an empty mask, or a box too small to hold a window

    References
    ----------
    .. [1] Cardone, Heymann & Steven, J. Struct. Biol. 184:226 (2013), doi:10.1016/j.jsb.2013.08.002
    """
    if not half1.shape == half2.shape == mask.shape or len(set(half1.shape)) != 1:
        raise ShapeError(
            f"The halves have {tuple(half1.shape)} and {tuple(half2.shape)} voxels, and the mask {tuple(mask.shape)}; expected "
            "the same cube."
        )
    n = half1.shape[0]
    inside = mask > _LEAST_MASK
    if not bool(inside.any()):
        raise InputError("The mask is empty. Give one that is 1 around the particle.")
    bands = band_centres(n, voxel_size, params.coarsest_angstrom)
    limits = norm.isf(params.false_positive_rate)
    held = torch.ones_like(half1, dtype=torch.bool)
    resolution = torch.full_like(half1, float(1.0 / bands[0]))
    mean = 0.5 * (half1 + half2)
    filtered = _coarse_part(mean, voxel_size, bands)
    fields = _noise(n, half1, params.seed, symmetry)
    if impose is not None:
        fields = [impose(field) for field in fields]
    white1, white2 = _whitened(half1, half2)
    before: Tensor | None = None
    for number, centre in enumerate(bands):
        found, chance = _agreement(white1, white2, mask, fields, voxel_size, centre, params.window_wavelengths)
        # Fisher's transform: with few waves in the window noise correlates widely, but never beyond one
        level = torch.tanh(limits * chance).clamp(min=params.threshold)
        margin = (found - level) / (1.0 - level).clamp_min(1e-3)
        passed = held & (margin > 0.0)
        if before is None:
            resolution[passed] = 1.0 / centre
        else:
            # where it falls between two bands, by a straight line over the logarithm of the frequency
            part = (before / (before - margin).clamp_min(1e-6)).clamp(0.0, 1.0)
            between = torch.exp(math.log(bands[number - 1]) + part * math.log(centre / bands[number - 1]))
            falls = held & ~passed
            resolution[falls] = 1.0 / between[falls]
            resolution[passed] = 1.0 / centre
        share = torch.where(passed, 2.0 * found / (1.0 + found).clamp_min(1e-3), torch.zeros_like(found))
        gain = math.exp(min(0.25 * params.b_factor * centre**2, 50.0))
        filtered += gain * share * _band(mean, voxel_size, centre)
        held, before = passed, margin
        if not bool((held & inside).any()):
            break
    return LocalResolution(
        resolution_angstrom=_filled(resolution, inside), filtered=filtered, inside=inside, bands_angstrom=1.0 / bands
    )


def band_centres(n: int, voxel_size: float, coarsest_angstrom: float = 0.0) -> FloatArray:
    """(band,), 1/A, up to Nyquist.

    Raises
    ------
    InputError : nothing lies between the coarsest detail and Nyquist
    """
    coarsest = coarsest_angstrom or n * voxel_size / 3.0
    finest = 2.0 * voxel_size
    if coarsest > 0.5 * n * voxel_size or coarsest < finest * _RATIO**3:
        raise InputError(
            f"Detail of {coarsest:g} A cannot be looked at in windows of a box of {n} voxels of {voxel_size:g} A. Give a "
            f"coarsest detail between {finest * _RATIO**3:.1f} and {0.5 * n * voxel_size:.1f} A."
        )
    count = int(math.log(coarsest / finest) / math.log(_RATIO)) + 1
    out: FloatArray = _RATIO ** np.arange(count, dtype=np.float64) / coarsest
    return out


def _band_curve(frequency: Tensor, centre: float) -> Tensor:
    """A raised cosine over the logarithm of the frequency: all bands add up to one."""
    away = torch.log(frequency.clamp_min(1e-9) / centre) / (math.log(_RATIO) * _REACH)
    return torch.where(away.abs() < 1.0, 0.5 * (1.0 + torch.cos(math.pi * away)) / _REACH, torch.zeros_like(away))


def _band(volume: Tensor, voxel: float, centre: float) -> Tensor:
    shape = tuple(volume.shape)
    curve = _band_curve(frequency_grid(shape, voxel, device=volume.device), centre)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * curve, s=shape)
    return out


def _coarse_part(volume: Tensor, voxel: float, bands: FloatArray) -> Tensor:
    """What is coarser than the first band, and not in any other."""
    shape = tuple(volume.shape)
    frequency = frequency_grid(shape, voxel, device=volume.device)
    some = sum((_band_curve(frequency, c) for c in bands[: int(2 * _REACH)]), start=torch.zeros_like(frequency))
    curve = torch.where(frequency <= bands[int(_REACH)], 1.0 - some, torch.zeros_like(some)).clamp_min(0.0)
    out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * curve, s=shape)
    return out


def _whitened(half1: Tensor, half2: Tensor) -> tuple[Tensor, Tensor]:
    """Both over the amplitude of their shells, so that a band's coarse edge does not outweigh the rest of it."""
    n = half1.shape[0]
    spectra = [torch.fft.rfftn(half) for half in (half1, half2)]
    power = shell_means(0.5 * (spectra[0].abs() ** 2 + spectra[1].abs() ** 2))
    scale = spread_shells(power.clamp_min(1e-12 * float(power.max()) + torch.finfo(power.dtype).tiny).rsqrt(), n)
    a, b = (torch.fft.irfftn(spectrum * scale, s=(n, n, n)) for spectrum in spectra)
    return a, b


def _noise(n: int, like: Tensor, seed: int, symmetry: FloatArray | None) -> list[Tensor]:
    generator = seeded_generator(seed, like.device)
    fields = [torch.randn((n, n, n), generator=generator, device=like.device, dtype=like.dtype) for _ in range(_FIELDS)]
    if symmetry is None or len(symmetry) < 2:
        return fields
    return [turned_mean(field, symmetry) for field in fields]


def _agreement(
    half1: Tensor, half2: Tensor, mask: Tensor, fields: list[Tensor], voxel: float, centre: float, wavelengths: float
) -> tuple[Tensor, Tensor]:
    """Correlation of a band of the halves about every voxel, and one deviation of that of noise."""
    n = half1.shape[0]
    size = _grid_size(n, voxel, centre)
    spacing = voxel * n / size
    small = [_resampled(v, size) for v in (half1, half2, *fields)]
    window = _resampled(mask, size).clamp(0.0, 1.0)
    smooth = _Smoother(size, spacing, wavelengths / centre, half1)
    b1, b2, *noise = (_band(v, spacing, centre) for v in small)
    found = smooth(window * b1 * b2) / torch.sqrt(smooth.positive(window * b1 * b1) * smooth.positive(window * b2 * b2))
    powers = [smooth.positive(window * b * b) for b in noise]
    pairs = [
        (smooth(window * noise[i] * noise[j]) / torch.sqrt(powers[i] * powers[j])) ** 2 for i, j in _pairs(len(noise))
    ]
    # the scatter of a few fields is itself noisy from place to place, and changes slowly
    weight = smooth.positive(window)
    scatter = smooth.positive(window * torch.stack(pairs).mean(dim=0)) / weight
    return _onto(found.clamp(-1.0, 1.0), n), _onto(torch.sqrt(scatter), n)


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(count) for j in range(i))


class _Smoother:
    """Sums under a window (1 - r^2 / R^2)^2: nothing comes in from beyond R, however strong it is there."""

    def __init__(self, size: int, spacing: float, width: float, like: Tensor) -> None:
        line = torch.fft.fftfreq(size, 1.0 / size, device=like.device, dtype=like.dtype) * spacing
        squared = line[:, None, None] ** 2 + line[:, None] ** 2 + line**2
        reach = 0.5 * width / math.sqrt(1.0 - math.sqrt(0.5))
        kernel = (1.0 - squared / reach**2).clamp_min(0.0) ** 2
        self.curve = torch.fft.rfftn(kernel / kernel.sum()).real
        self.shape = (size,) * 3

    def __call__(self, volume: Tensor) -> Tensor:
        out: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * self.curve, s=self.shape)
        return out

    def positive(self, volume: Tensor) -> Tensor:
        """Of what is never negative; rounding may leave it so."""
        out = self(volume)
        return out.clamp_min(1e-6 * float(out.max()) + torch.finfo(out.dtype).tiny)


def _grid_size(n: int, voxel: float, centre: float) -> int:
    """Voxels of a coarser grid of the same edge that holds a band and its squares where they matter."""
    wanted = 2.0 * _GRID * _RATIO**_REACH * centre * n * voxel
    size = good_size(max(_LEAST_GRID, math.ceil(wanted)))
    return n if size >= n else size + size % 2


def _resampled(volume: Tensor, size: int) -> Tensor:
    n = volume.shape[0]
    if size == n:
        return volume
    return fourier_crop(volume, (size,) * 3) if size < n else fourier_pad(volume, (size,) * 3)


def _onto(volume: Tensor, n: int) -> Tensor:
    """A smooth volume on the voxels of a finer grid of the same edge, by straight lines."""
    size = volume.shape[0]
    if size == n:
        return volume
    line = (np.arange(n) - n // 2) * (size / n) + size // 2
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"))
    fine = map_coordinates(volume.cpu().numpy(), places, order=1, mode="nearest")
    return torch.from_numpy(np.asarray(fine, dtype=np.float32)).to(volume)


def _filled(resolution: Tensor, inside: Tensor) -> Tensor:
    """Outside, the value of the nearest voxel inside: surfaces coloured by it lie between voxels."""
    known = inside.cpu().numpy()
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    values = resolution.cpu().numpy()[tuple(nearest)]
    return torch.from_numpy(values).to(resolution)
