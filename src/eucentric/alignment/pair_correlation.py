"""Pairs of images of a tilted plane, read into one frame and correlated.

A flat specimen seen at two tilts is the same picture but for a linear map: ``x_camera = A u + shift`` with u the place on the
specimen plane and A the first two rows of the rotation. The more tilted image of a pair is therefore read at the places where
the other one sees the same specimen, shifts included, so that what is left to find is small and both show one area.
"""

import math
from copy import copy
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.fourier.crop import fourier_crop, rescaled_shape
from eucentric.fourier.filters import band_pass
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.fourier.shells import radial_average, shell_index
from eucentric.geometry.rotations import rotation_x, rotation_y, rotation_z
from eucentric.signal.correlation import climb_to_peaks
from eucentric.typing import FloatArray

_EDGE = 12
"""The soft edge of an image is this part of its size."""
_CLIP = 6.0
"""Standard deviations beyond which values are cut, so that hot pixels and ice crystals outweigh no image."""
_STRONG = 4.0
"""The same, when contrast has been made even: what a feature may be worth."""
_BATCH = 16
_LEAST_OVERLAP = 0.2
"""Part of the largest overlap below which a displacement is not looked at: too little is left to compare."""
_SECTORS = 3
_HIGHEST_COHERENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecimenPlane:
    """Direction of the tilt axis and of the specimen, in degrees."""

    axis_deg: float
    pre_tilt_deg: float = 0.0
    """About the tilt axis: adds to the tilt angles."""
    x_tilt_deg: float = 0.0
    """Across it."""

    def maps(self, tilts_deg: FloatArray, *, steepest_deg: float = 78.0) -> FloatArray:
        """(tilt, 2, 2) from places on the specimen to the camera, turned so that the tilt axis is +y.

        Beyond `steepest_deg` the plane is taken as seen at that angle: it would shrink to a line.
        """
        tilt = np.clip(np.asarray(tilts_deg) + self.pre_tilt_deg, -steepest_deg, steepest_deg)
        return np.asarray((rotation_y(tilt) @ rotation_x(np.full(len(tilt), self.x_tilt_deg)))[:, :2, :2])

    def parallax(self, tilts_deg: FloatArray, pairs: tuple[np.ndarray, np.ndarray]) -> FloatArray:
        """(pair,): displacement across the axis, in the low image, of what lies higher than the plane, per height."""
        tilt = np.deg2rad(np.clip(np.asarray(tilts_deg) + self.pre_tilt_deg, -78.0, 78.0))
        low, high = pairs
        return np.asarray(np.abs(np.tan(tilt[high]) - np.tan(tilt[low])) * np.cos(tilt[low]))

    @property
    def turn(self) -> FloatArray:
        """(2, 2) from the frame of the axis to the camera."""
        return np.asarray(rotation_z(np.array([self.axis_deg]))[0, :2, :2])

    def replace(self, **changes: float) -> Self:
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairShifts:
    """Displacements between pairs of images, in the frame of the tilt axis (x across, y along)."""

    low: np.ndarray
    """(pair,) the tilt at which the specimen is seen the wider."""
    high: np.ndarray
    """(pair,) the other one, stretched before it was compared."""
    back: FloatArray
    """(pair, 2, 2): what a shift of the high image counts for."""
    parallax: FloatArray
    """(pair,) displacement across the axis per height above the plane."""
    displacement: FloatArray
    """(pair, 2) A: content of the low image against the stretched content of the high one, beyond what was assumed."""
    information: FloatArray
    """(pair, 2, 2) 1/A^2: inverse covariance, from the coherence of the pair."""
    contrast: FloatArray
    """(pair,) height of the peak in standard deviations of the correlation around it."""
    reach: FloatArray
    """(pair,) how many independent places were looked at: tells which contrast chance alone reaches."""

    def __len__(self) -> int:
        return len(self.low)


class CoarseImages:
    """Images of one series at a coarse sampling, prepared for correlation.

    Parameters
    ----------
    images : (tilt, y, x), any level and scale
    pixel_size : A
    coarse_pixel_size : A; kept where finer than `pixel_size`
    low_pass, high_pass : A, the band that is used
    """

    def __init__(
        self,
        images: Float[Tensor, "tilt y x"],
        pixel_size: float,
        coarse_pixel_size: float,
        *,
        low_pass: float,
        high_pass: float,
    ) -> None:
        shape = (int(images.shape[1]), int(images.shape[2]))
        small = rescaled_shape(shape, pixel_size, max(pixel_size, coarse_pixel_size))
        self.shape = (min(shape[0], max(16, small[0])), min(shape[1], max(16, small[1])))
        self.pixel_size = pixel_size * shape[1] / self.shape[1]
        self.low_pass, self.high_pass = max(low_pass, 2.2 * self.pixel_size), high_pass
        self.images = torch.stack([self._prepared(image) for image in images])

    def __len__(self) -> int:
        return len(self.images)

    def _prepared(self, image: Tensor) -> Tensor:
        image = image.float()
        level = flattened(fourier_crop(image - image.mean(), self.shape))
        spread = level.std().clamp(min=1e-20)
        level = level.clamp(min=-_CLIP * spread, max=_CLIP * spread)
        spectrum = torch.fft.rfft2(level)
        count = max(8, min(self.shape) // 4)
        power = radial_average(spectrum.abs() ** 2, self.shape, count).clamp(min=1e-20)
        index = shell_index(self.shape, count, device=image.device).clamp(max=count - 1)
        # half way to white: strong features do not drown the rest
        amplitude = power.to(level.dtype)[index] ** 0.25
        frequency = frequency_grid(self.shape, self.pixel_size, device=image.device, dtype=level.dtype)
        band = band_pass(frequency, low_pass_angstrom=self.low_pass, high_pass_angstrom=self.high_pass)
        level = torch.fft.irfft2(spectrum * band / amplitude, s=self.shape)
        return evened(level, self.high_pass / self.pixel_size).clamp(min=-_STRONG, max=_STRONG)

    def coarser(self, pixel_size: float) -> Self:
        """The same at a larger pixel size."""
        shape = rescaled_shape(self.shape, self.pixel_size, pixel_size)
        other = copy(self)
        other.shape = (min(self.shape[0], max(16, shape[0])), min(self.shape[1], max(16, shape[1])))
        other.pixel_size = self.pixel_size * self.shape[1] / other.shape[1]
        other.low_pass = max(self.low_pass, 2.2 * other.pixel_size)
        other.images = fourier_crop(self.images, other.shape)
        return other

    def read(
        self, tilts: np.ndarray, maps: FloatArray, offsets: FloatArray, shape: tuple[int, int], pixel_size: float
    ) -> tuple[Float[Tensor, "n y x"], Float[Tensor, "n y x"]]:
        """Images at the places ``map u + offset`` and how much each place counts: 1 inside, 0 at the edges.

        Parameters
        ----------
        tilts : (n) which images
        maps : (n, 2, 2)
        offsets : (n, 2) x, y in A
        shape : (y, x) of the result, u counted from its centre n // 2
        pixel_size : A per pixel of the result
        """
        height, width = self.shape
        like = self.images
        scale = pixel_size / self.pixel_size
        y = (torch.arange(shape[0], device=like.device, dtype=like.dtype) - shape[0] // 2) * scale
        x = (torch.arange(shape[1], device=like.device, dtype=like.dtype) - shape[1] // 2) * scale
        m = torch.as_tensor(np.array(maps, dtype=np.float64)).to(like)
        t = torch.from_numpy(np.asarray(offsets, dtype=np.float64) / self.pixel_size).to(like)
        grid = like.new_empty((len(m), *shape, 2))
        window = like.new_ones((len(m), *shape))
        soft = max(2, min(self.shape) // _EDGE)
        for i, n in enumerate((width, height)):
            at = m[:, i, 0, None, None] * x + (m[:, i, 1, None, None] * y[:, None] + (t[:, i, None, None] + n // 2))
            torch.mul(at, 2.0 / n, out=grid[..., i]).add_(1.0 / n - 1.0)
            depth = torch.minimum(at, n - 1 - at).div_(soft).clamp_(0.0, 1.0)
            window.mul_(torch.addcmul(3.0 * depth.square(), depth.square(), depth, value=-2.0))
        source = like[torch.from_numpy(np.asarray(tilts))][:, None]
        seen = functional.grid_sample(source, grid, mode="bicubic", padding_mode="zeros", align_corners=False)[:, 0]
        return seen, window


def flattened(image: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """An image less its best surface of second order: illumination and thickness, which no correlation should follow."""
    height, width = image.shape
    y = torch.linspace(-1.0, 1.0, height, device=image.device, dtype=image.dtype)[:, None]
    x = torch.linspace(-1.0, 1.0, width, device=image.device, dtype=image.dtype)
    one = torch.ones_like(image)
    terms = torch.stack([one, x * one, y * one, x * y, (x**2 - 1 / 3) * one, (y**2 - 1 / 3) * one]).reshape(6, -1)
    flat = image.reshape(-1)
    gram = (terms @ terms.T).double()
    fitted = torch.linalg.solve(gram, (terms @ flat).double()).to(image.dtype)
    out: Tensor = (flat - fitted @ terms).reshape(height, width)
    return out


def root_mean_square(surfaces: Float[Tensor, "n y x"]) -> Float[Tensor, " n"]:
    """Of each correlation, in float64; a correlation without its mean has no other standard deviation."""
    norm: Tensor = torch.linalg.vector_norm(surfaces, dim=(-2, -1))
    return norm.double() / math.sqrt(math.prod(surfaces.shape[-2:]))


def evened(image: Float[Tensor, "y x"], width_px: float) -> Float[Tensor, "y x"]:
    """An image with the same contrast everywhere, so that the edge of a film or one crystal does not speak for the rest.

    Places of less than half the common contrast stay weak: they hold noise.
    """
    height, width = image.shape
    frequency = frequency_grid((height, width), 1.0, device=image.device, dtype=image.dtype)
    smooth = torch.exp(-2.0 * (math.pi * 0.5 * width_px * frequency) ** 2)
    local = torch.fft.irfft2(torch.fft.rfft2(image**2) * smooth, s=(height, width)).clamp(min=0.0)
    common = local.median()
    return image / torch.maximum(local, 0.25 * common).sqrt().clamp(min=1e-20)


def neighbour_pairs(
    tilts_deg: FloatArray, plane: SpecimenPlane, distances: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of every pair of tilts some places apart in ascending order: the one seen wider first."""
    tilts = np.asarray(tilts_deg)
    first = np.concatenate([np.arange(len(tilts) - d) for d in distances if d < len(tilts)]).astype(np.int64)
    second = np.concatenate([np.arange(d, len(tilts)) for d in distances if d < len(tilts)]).astype(np.int64)
    steepness = np.abs(tilts + plane.pre_tilt_deg)
    swap = steepness[first] > steepness[second]
    return np.where(swap, second, first), np.where(swap, first, second)


def read_pairs(
    images: CoarseImages,
    tilts_deg: FloatArray,
    plane: SpecimenPlane,
    pairs: tuple[np.ndarray, np.ndarray],
    shifts: FloatArray,
    part: slice,
) -> tuple[Tensor, Tensor, Tensor]:
    """The low images of some pairs, the high ones as the low ones would show them, and how much each place counts in both.

    Parameters
    ----------
    shifts : (tilt, 2) A in the frame of the axis, by which both are moved back

    Returns
    -------
    three times (n, y, x), tilt axis on +y
    """
    low, high = (which[part] for which in pairs)
    maps = plane.maps(tilts_deg)
    turn = plane.turn
    camera = shifts @ turn.T
    shape, pixel = images.shape, images.pixel_size
    wide, place = np.unique(low, return_inverse=True)
    first, window = images.read(wide, np.broadcast_to(turn, (len(wide), 2, 2)), camera[wide], shape, pixel)
    forth = maps[high] @ np.linalg.inv(maps[low])
    second, other = images.read(high, turn @ forth, camera[high], shape, pixel)
    again = torch.from_numpy(place.reshape(-1)).to(first.device)
    return first[again], second, window[again] * other


def find_displacements(
    images: CoarseImages,
    tilts_deg: FloatArray,
    plane: SpecimenPlane,
    pairs: tuple[np.ndarray, np.ndarray],
    *,
    reach: float,
    pixel_size: float,
) -> PairShifts:
    """Far displacements: correlation of whole images with room around them, each place judged by the area that overlaps.

    A plain correlation favours small displacements, because fewer pixels overlap at large ones. Here it is divided by the
    standard deviation that noise gives it for the overlap at hand, so that peaks at all places compete alike.

    Parameters
    ----------
    pairs : low and high tilts
    reach : A, largest displacement
    pixel_size : A, sampling of the correlation
    """
    low, high = pairs
    maps = plane.maps(tilts_deg)
    forth = maps[high] @ np.linalg.inv(maps[low])
    turn = plane.turn
    small = images.coarser(pixel_size)
    pixel_size = small.pixel_size
    side = good_size(max(small.shape))
    padded = (2 * side, 2 * side)
    line = torch.fft.fftfreq(2 * side, 1.0 / (2 * side), device=images.images.device) * pixel_size
    near = line[:, None] ** 2 + line**2 <= reach**2
    displacement, contrast, count = [], [], []
    for start in range(0, len(low), _BATCH):
        part = slice(start, start + _BATCH)
        n = len(low[part])
        spectra, masks = [], []
        for which, m in ((low, np.broadcast_to(turn, (n, 2, 2))), (high, turn @ forth[part])):
            seen, window = small.read(which[part], m, np.zeros((n, 2)), (side, side), pixel_size)
            level = (seen * window).sum((-2, -1), keepdim=True) / window.sum((-2, -1), keepdim=True).clamp(min=1e-9)
            spectra.append(torch.fft.rfft2((seen - level) * window, s=padded))
            masks.append(torch.fft.rfft2(window**2, s=padded))
        surface = torch.fft.irfft2(spectra[0] * spectra[1].conj(), s=padded)
        overlap = torch.fft.irfft2(masks[0] * masks[1].conj(), s=padded)
        allowed = near & (overlap > _LEAST_OVERLAP * overlap.amax((-2, -1), keepdim=True))
        score = surface / overlap.clamp(min=1.0).sqrt()
        inside = torch.where(allowed, score, torch.zeros_like(score))
        number = allowed.sum((-2, -1)).clamp(min=1)
        spread = ((inside**2).sum((-2, -1)) / number).sqrt().clamp(min=1e-20)
        best = torch.where(allowed, score, torch.full_like(score, -torch.inf)).flatten(1).argmax(1)
        displacement.append(torch.stack([line[best % padded[1]], line[best // padded[1]]], dim=-1))
        contrast.append(inside.flatten(1).gather(1, best[:, None])[:, 0] / spread)
        count.append(number)
    found = torch.cat(displacement).double().cpu().numpy()
    return PairShifts(
        low=low,
        high=high,
        back=np.linalg.inv(forth),
        parallax=plane.parallax(tilts_deg, pairs),
        displacement=found,
        information=np.repeat(np.eye(2)[None] / pixel_size**2, len(low), 0),
        contrast=torch.cat(contrast).double().cpu().numpy(),
        reach=torch.cat(count).double().cpu().numpy() * min(1.0, (2.0 * pixel_size / images.low_pass) ** 2),
    )


def refine_displacements(
    images: CoarseImages,
    tilts_deg: FloatArray,
    plane: SpecimenPlane,
    pairs: tuple[np.ndarray, np.ndarray],
    shifts: FloatArray,
    *,
    reach: float,
    depth: float = 0.0,
    coherence: "Coherence | None" = None,
) -> tuple[PairShifts, "Coherence"]:
    """Near displacements: both images of a pair read where the shifts say, and only where both have data.

    Between two tilts a specimen of some height is displaced by as many amounts as it has heights, and the highest peak may
    belong to any of them, another one for the next pair. The correlation is therefore blurred across the axis by what the
    specimen's height makes of it: one peak is left, at the middle of the heights, the same for all pairs.

    Parameters
    ----------
    shifts : (tilt, 2) A in the frame of the tilt axis
    reach : A, largest displacement beyond the shifts
    depth : A, rms height of the specimen
    coherence : of the same pairs, from a call before: the weights that use each frequency as far as it can be trusted
    """
    low, high = pairs
    maps = plane.maps(tilts_deg)
    forth = maps[high] @ np.linalg.inv(maps[low])
    shape = images.shape
    bins = FrequencyBins(shape, images)
    parallax = plane.parallax(tilts_deg, pairs)
    y = torch.fft.fftfreq(shape[0], 1.0 / shape[0], device=images.images.device)[:, None]
    x = torch.fft.fftfreq(shape[1], 1.0 / shape[1], device=images.images.device)[None]
    near = x**2 + y**2 <= max(2.0, reach / images.pixel_size) ** 2
    found, information, contrast, measured = [], [], [], []
    for start in range(0, len(low), _BATCH):
        part = slice(start, start + _BATCH)
        first, second, window = read_pairs(images, tilts_deg, plane, pairs, shifts, part)
        area = window.sum((-2, -1), keepdim=True).clamp(min=1e-9)
        one, two = (
            torch.fft.rfft2((seen - (seen * window).sum((-2, -1), keepdim=True) / area) * window)
            for seen in (first, second)
        )
        cross = one * two.conj()
        pixels = (window**2).sum((-2, -1))
        powers = [bins.mean(s.abs() ** 2) for s in (one, two)]
        scale = (powers[0] * powers[1]).sqrt().clamp(min=1e-20)
        # the images are half white already: at first strong frequencies count for more, as most likely they are signal
        weights = scale / scale.mean(1, keepdim=True) if coherence is None else coherence.weights[part]
        sigma = parallax[part] * depth / images.pixel_size
        blur = blur_across(shape, sigma, first.device)
        weighted = cross * bins.spread(weights / scale) * blur
        surface = torch.fft.irfft2(weighted, s=shape)
        best = torch.where(near, surface, torch.full_like(surface, -torch.inf)).flatten(1).argmax(1)
        begin = torch.stack([x[0][best % shape[1]], y[:, 0][best // shape[1]]], dim=-1)
        peaks = climb_to_peaks(weighted, shape, begin)
        spread = root_mean_square(surface).clamp(min=1e-30)
        aligned = cross * _phases(shape, peaks.shift_px.to(first.dtype))
        gamma = (bins.mean(aligned.real) / scale).double()
        measured.append(gamma)
        found.append(peaks.shift_px)
        contrast.append(peaks.value / spread)
        filled = (pixels / math.prod(shape)).double()
        information.append(bins.information(gamma, weights.double(), sigma, filled))
    gamma = torch.cat(measured)
    pixel = images.pixel_size
    shifts_found = PairShifts(
        low=low,
        high=high,
        back=np.linalg.inv(forth),
        parallax=plane.parallax(tilts_deg, pairs),
        displacement=torch.cat(found).cpu().numpy() * pixel,
        information=torch.cat(information).cpu().numpy() / pixel**2,
        contrast=torch.cat(contrast).cpu().numpy(),
        reach=np.full(len(low), max(1.0, math.pi * (2.0 * reach / images.low_pass) ** 2)),
    )
    return shifts_found, bins.smooth(gamma)


def blur_across(shape: tuple[int, int], sigma_px: FloatArray, device: torch.device) -> Tensor:
    """(n, 1, half_x): Gaussian blur across the axis."""
    kx = 2 * math.pi * frequency_vectors(shape, 1.0, device=device)[1].reshape(1, 1, -1)
    sigma = torch.as_tensor(np.array(sigma_px), device=device, dtype=kx.dtype)[:, None, None]
    return torch.exp(-0.5 * (sigma * kx) ** 2)


def _phases(shape: tuple[int, int], shift: Tensor) -> Tensor:
    """(n, y, half_x): factors that take a displacement of the first image out of a cross spectrum."""
    fy, fx = frequency_vectors(shape, 1.0, device=shift.device, dtype=shift.dtype)
    x = 2 * math.pi * shift[:, :1] * fx.reshape(-1)
    y = 2 * math.pi * shift[:, 1:] * fy.reshape(-1)
    return torch.polar(torch.ones_like(y), y)[:, :, None] * torch.polar(torch.ones_like(x), x)[:, None, :]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coherence:
    """How far two images agree at each frequency."""

    values: Float[Tensor, "pair bin"]
    weights: Float[Tensor, "pair bin"]
    """``c / (1 - c^2)`` for whitened images: the likelihood of a displacement is the cross spectrum so weighted."""


class FrequencyBins:
    """Frequencies in rings and sectors: coherence falls faster across the tilt axis than along it, because of height."""

    def __init__(self, shape: tuple[int, int], images: CoarseImages) -> None:
        device = images.images.device
        frequency = frequency_grid(shape, images.pixel_size, device=device)
        fy, fx = frequency_vectors(shape, images.pixel_size, device=device)
        width = 1.0 / (12.0 * images.low_pass)
        ring = (frequency / width).long()
        sector = (torch.atan2(fx.abs(), fy.abs()) / (0.5 * math.pi) * _SECTORS).long().clamp(max=_SECTORS - 1)
        used = band_pass(frequency, low_pass_angstrom=images.low_pass, high_pass_angstrom=images.high_pass)
        self.rings = int(ring[used > 0.01].max()) + 1
        self.count = self.rings * _SECTORS
        inside = (used > 0.01) & (ring < self.rings)
        self.index = torch.where(inside, ring * _SECTORS + sector, torch.full_like(ring, self.count))
        twice = torch.full((shape[1] // 2 + 1,), 2.0, device=device)
        twice[0] = 1.0
        if shape[1] % 2 == 0:
            twice[-1] = 1.0
        self.twice = twice.expand(self.index.shape).reshape(-1)
        flat = self.index.reshape(-1)
        self.members = torch.bincount(flat, self.twice, self.count + 1)[:-1].clamp(min=1e-9).float()
        k = [2 * math.pi * images.pixel_size * f.expand(self.index.shape).reshape(-1) for f in (fx, fy)]
        self.squares = torch.stack(
            [torch.bincount(flat, self.twice * k[i] ** 2, self.count + 1)[:-1].double() for i in (0, 1)], dim=-1
        )

    def mean(self, values: Tensor) -> Tensor:
        """(n, bin) means of (n, y, half_x) over the whole plane."""
        out = values.new_zeros(len(values), self.count + 1)
        out.index_add_(1, self.index.reshape(-1), values.flatten(1) * self.twice)
        return out[:, :-1] / self.members

    def spread(self, values: Tensor) -> Tensor:
        """(n, y, half_x) from (n, bin); zero outside of the band."""
        padded = torch.cat([values, values.new_zeros(len(values), 1)], dim=1)
        return padded[:, self.index.reshape(-1)].reshape(len(values), *self.index.shape)

    def information(self, coherence: Tensor, weights: Tensor, blur_px: FloatArray, filled: Tensor) -> Tensor:
        """(n, 2, 2) per squared pixel: inverse covariance of the summit of a correlation weighted and blurred so."""
        c = coherence.clamp(0.0, _HIGHEST_COHERENCE)
        sigma = torch.as_tensor(np.array(blur_px), device=c.device, dtype=c.dtype)[:, None]
        used = weights * torch.exp(-0.5 * sigma**2 * self.squares[:, 0] / self.members)
        bend = (used * c) @ self.squares
        noise = (used**2 * (1 - c**2)) @ self.squares
        # a window of part of the frame leaves as many independent frequencies as it has pixels
        return torch.diag_embed(filled[:, None] * bend**2 / noise.clamp(min=1e-30))

    def pooled(self, gamma: Tensor) -> Tensor:
        """(1, bin) weights from the coherence of many small parts, all together; the highest peak of noise taken off."""
        rings = gamma.mean(0).reshape(self.rings, _SECTORS).mean(1)
        c = (rings - rings.min()).clamp(0.0, _HIGHEST_COHERENCE)
        return (c / (1 - c**2)).repeat_interleave(_SECTORS)[None].float()

    def smooth(self, gamma: Tensor) -> Coherence:
        """Coherence per pair with the noise of its estimate taken down: neighbouring rings and pairs are averaged."""
        rings = gamma.reshape(len(gamma), self.rings, _SECTORS)
        weight = self.members.double().reshape(self.rings, _SECTORS)
        kernel = torch.ones(1, 1, 3, 3, dtype=gamma.dtype, device=gamma.device)
        stacked = (rings * weight).permute(2, 0, 1)[:, None]
        counted = weight.expand_as(rings).permute(2, 0, 1)[:, None]
        mean = functional.conv2d(stacked, kernel, padding=1) / functional.conv2d(counted, kernel, padding=1).clamp(
            min=1e-9
        )
        values = mean[:, 0].permute(1, 2, 0).reshape(gamma.shape)
        # the peak of pure noise is coherent as well, where it was put: two standard deviations are taken off
        error = 1.0 / functional.conv2d(counted, kernel, padding=1)[:, 0].permute(1, 2, 0).reshape(gamma.shape).sqrt()
        c = (values - 2.0 * error).clamp(0.0, _HIGHEST_COHERENCE) * (self.members >= 1.0)
        even = (c.sum(1, keepdim=True) <= 0).to(c.dtype)
        return Coherence(values=values, weights=(c / (1 - c**2) + even).float())
