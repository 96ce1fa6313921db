r"""Every image against the projection of what the others show.

A plain projection of the whole reconstruction tells only what neighbours a few degrees away share: at a resolution r and a
thickness D, views further apart than r / D have nothing in common, and errors add up along the series. Features are
small, however. Cut out of the reconstruction, a feature of size d is shared by views up to r / d apart, so its projection holds every
view to all the others. The mask is found anew in each round, and the image itself is always left out of its reference.

Images are weighted as a Wiener filter would for views that overlap: with the ratio :math:`\nu(k)` of noise to signal and
the overlap :math:`o_{jl}(k)` of two views,

.. math:: H_j(k) = 1 / \Big(\nu(k) + \sum_l o_{jl}(k)\Big), \quad o_{jl} = \exp\big(-\pi (d\, k_\perp \sin|\theta_j - \theta_l|)^2\big)

which is the ramp filter where signal is strong, and no filter at all where noise is.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from eucentric.alignment.coarse import in_axis_frame, in_camera_frame
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.fourier.shells import radial_average, shell_index
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.projection.operators import back_project, project
from eucentric.projection.resampling import resample_tilts
from eucentric.signal.correlation import correlation_peak
from eucentric.signal.features import strong_features
from eucentric.signal.noise import noise_power
from eucentric.typing import FloatArray

_FEATURE_ANGSTROM = 500.0
"""Extent of a cut-out feature along the beam, streaks included."""
_NEIGHBOURHOOD_ANGSTROM = 400.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchRound:
    """What one round of matching gave."""

    geometry: TiltGeometry
    scores: FloatArray
    sigma_angstrom: FloatArray
    largest_move_angstrom: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ViewReferences:
    """Images of a series turned into the frame of the tilt axis, and what the other images expect each to show."""

    turned: Float[Tensor, "tilt y x"]
    expected: Float[Tensor, "tilt y x"]
    """Features of the reconstruction without the image, projected as that image sees them."""
    inside: Float[Tensor, "tilt y x"]
    """1 where an image was recorded, falling to 0 towards its edges."""


class ProjectionMatcher:
    """Images of one series at one sampling, prepared for any number of rounds.

    Parameters
    ----------
    images : (tilt, y, x), any level and scale
    tilt_angles_deg : (tilt,)
    pixel_size : A per pixel of the images
    match_pixel_size : A, sampling of images and volume while matching
    thickness : A, height of the volume
    low_pass, high_pass : A, band used
    threshold : robust standard deviations at which a voxel is a feature
    """

    def __init__(
        self,
        images: Float[Tensor, "tilt y x"],
        tilt_angles_deg: FloatArray,
        pixel_size: float,
        *,
        match_pixel_size: float,
        thickness: float,
        low_pass: float,
        high_pass: float,
        threshold: float = 3.5,
    ) -> None:
        self._tilts = tilt_angles_deg
        self._pixel = match_pixel_size
        self._threshold = threshold
        ratio = pixel_size / match_pixel_size
        self._shape = (max(16, 2 * round(images.shape[1] * ratio / 2)), max(16, 2 * round(images.shape[2] * ratio / 2)))
        # wide enough for any orientation of the tilt axis
        side = max(self._shape)
        self._frame = (side, side)
        self._volume_shape = (max(8, 2 * round(thickness / match_pixel_size / 2)), side, side)
        noise = torch.tensor([noise_power(image) for image in images], dtype=images.dtype, device=images.device)
        scaled = (images - images.mean((-2, -1), keepdim=True)) / noise.clamp(min=1e-20).sqrt()[:, None, None]
        still = TiltGeometry.build(tilt_angles_deg)
        self._images = resample_tilts(scaled, still, pixel_size, out_shape=self._shape, out_pixel_size=match_pixel_size)
        self._images = taper_edges(self._images, max(2, min(self._shape) // 24))
        self._window = taper_edges(torch.ones(self._frame, dtype=images.dtype, device=images.device), side // 8)
        # a pixel of the coarser image averages this many independent ones
        self._noise = ratio**2
        self._set_filters(low_pass, high_pass)

    def _set_filters(self, low_pass: float, high_pass: float) -> None:
        device, dtype = self._images.device, self._images.dtype
        frequency = frequency_grid(self._frame, self._pixel, device=device, dtype=dtype)
        self._band = band_pass(frequency, low_pass_angstrom=low_pass, high_pass_angstrom=high_pass)
        count = max(8, max(self._frame) // 4)
        self._shells = shell_index(self._frame, count, device=device).clamp(max=count - 1)
        padded = [self._place(image) for image in self._images]
        filled = math.prod(self._shape)
        power = torch.stack(
            [radial_average(torch.fft.rfft2(p).abs() ** 2, self._frame, count) / filled for p in padded]
        ).to(dtype)
        self._power = power.clamp(min=float(power.max()) * 1e-9)
        signal = (power - self._noise).clamp(min=0.02 * self._noise)
        noise_to_signal = (self._noise / signal).mean(0)[self._shells]
        across = frequency_vectors(self._frame, self._pixel, device=device, dtype=dtype)[1].abs()
        angles = np.deg2rad(self._tilts)
        self._filters = []
        for own in angles:
            apart = torch.from_numpy(np.abs(np.sin(angles - own))).to(device=device, dtype=dtype)
            overlap = torch.exp(-math.pi * (_FEATURE_ANGSTROM * across[..., None] * apart) ** 2).sum(-1)
            self._filters.append(self._band / (noise_to_signal + overlap))

    def _place(self, image: Tensor) -> Tensor:
        """An image in the middle of the square frame."""
        out = image.new_zeros(self._frame)
        top, left = (f // 2 - n // 2 for f, n in zip(self._frame, self._shape, strict=True))
        out[top : top + self._shape[0], left : left + self._shape[1]] = image
        return out

    def _turned(self, tilt: int, pose: TiltGeometry) -> Tensor:
        """An image turned and shifted as its pose, a geometry of one tilt, says."""
        one = self._images[tilt : tilt + 1]
        return resample_tilts(one, pose, self._pixel, out_shape=self._frame, out_pixel_size=self._pixel)[0]

    def _filtered(self, image: Tensor, tilt: int) -> Tensor:
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * self._filters[tilt], s=self._frame)
        return filtered

    def _smeared(self, image: Tensor, tilt: int) -> Tensor:
        return back_project(image[None], self._tilts[tilt : tilt + 1], self._volume_shape)

    def _reconstructed(self, turned: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """All images filtered, and their reconstruction."""
        filtered = torch.stack([self._filtered(image, i) for i, image in enumerate(turned)])
        return filtered, back_project(filtered, self._tilts, self._volume_shape)

    @property
    def pixel_size(self) -> float:
        """A, of images and volume while matching."""
        return self._pixel

    @property
    def frame(self) -> tuple[int, int]:
        """(y, x) of the turned images."""
        return self._frame

    @property
    def whitening(self) -> Float[Tensor, "tilt y half_x"]:
        """Gains on the rfft of a turned image that make its power even over the band."""
        return self._band.sqrt() / self._power[:, self._shells].sqrt()

    @property
    def band(self) -> Float[Tensor, "y half_x"]:
        """Gains, 0 to 1, of the band used, on power."""
        return self._band

    @property
    def shells(self) -> Int64[Tensor, "y half_x"]:
        """Number of the shell of each frequency."""
        return self._shells

    def references(self, geometry: TiltGeometry, *, warp: ImageWarp | None = None) -> ViewReferences:
        """What each image should show by all others, for all images at once.

        All images are back-projected together, the features projected, and each image's own part taken off again: its filtered
        self times the length of its rays within features. That is exact but for the interpolation of the projector. What
        is left of an image in its own reference, some hundredths, is not displaced against it and moves no maximum.

        Parameters
        ----------
        geometry : of the same tilts; its tilt angles and x-tilts are used, whatever the matcher was made with
        warp : local deformation, given over the images as recorded
        """
        own_warp = None if warp is None else self._coarser(warp)
        turned = self._resampled(self._images, geometry, own_warp)
        edge = max(2, min(self._shape) // 12)
        ones = taper_edges(torch.ones_like(self._images[0]), edge)
        inside = self._resampled(ones.expand_as(self._images).contiguous(), geometry, own_warp)
        filtered = torch.stack([self._filtered(image, i) for i, image in enumerate(turned)])
        x_tilts = geometry.x_tilt_deg if geometry.x_tilt_deg.any() else None
        volume = back_project(filtered, geometry.y_tilt_deg, self._volume_shape, x_tilts_deg=x_tilts)
        mask = self._features(volume)
        expected = project(volume * mask, geometry.y_tilt_deg, self._frame, x_tilts_deg=x_tilts)
        expected -= filtered * project(mask, geometry.y_tilt_deg, self._frame, x_tilts_deg=x_tilts)
        return ViewReferences(turned=turned, expected=expected, inside=inside.clamp(0.0, 1.0))

    def _resampled(self, images: Tensor, geometry: TiltGeometry, warp: ImageWarp | None) -> Tensor:
        return resample_tilts(
            images, geometry, self._pixel, out_shape=self._frame, out_pixel_size=self._pixel, warp=warp
        )

    def _coarser(self, warp: ImageWarp) -> ImageWarp:
        """The same field on a grid over the images at the matcher's sampling."""
        rows, columns = (
            torch.linspace(0.0, n - 1.0, g, dtype=torch.float64) - n // 2
            for n, g in zip(self._shape, warp.displacement_angstrom.shape[1:3], strict=True)
        )
        y, x = torch.meshgrid(rows * self._pixel, columns * self._pixel, indexing="ij")
        places = torch.stack([x, y], dim=-1)
        fields = np.stack([warp.at(t, places).numpy() for t in range(len(warp))])
        return ImageWarp.build(fields, self._shape, self._pixel)

    def _features(self, volume: Tensor) -> Tensor:
        neighbourhood = round(_NEIGHBOURHOOD_ANGSTROM / self._pixel)
        return strong_features(volume, threshold=self._threshold, neighbourhood_px=neighbourhood)

    def sharpness(self, geometry: TiltGeometry) -> float:
        """Kurtosis of the reconstruction: features that all views agree on are few and strong, smeared ones many and weak."""
        _, volume = self._reconstructed(self._turned(i, geometry[[i]]) for i in range(len(self._tilts)))
        squared = (volume - volume.mean()) ** 2
        variance = float(squared.mean())
        return float((squared**2).mean()) / variance**2 if variance > 0 else 0.0

    def run_round(self, geometry: TiltGeometry, *, reach_angstrom: float) -> MatchRound:
        """Match every image once, from the lowest tilt outwards, each move at once taken into the reconstruction."""
        count = len(self._tilts)
        turned = [self._turned(i, geometry[[i]]) for i in range(count)]
        filtered, volume = self._reconstructed(turned)
        mask = self._features(volume)
        shifts = in_axis_frame(geometry)
        axis = float(geometry.z_rot_deg[0])
        scores, sigma = np.zeros(count), np.full(count, np.nan)
        largest = 0.0
        for i in np.argsort(np.abs(self._tilts), kind="stable"):
            volume -= self._smeared(filtered[i], i)
            reference = project(volume * mask, self._tilts[i : i + 1], self._frame)[0]
            move, scores[i], sigma[i] = self._match(turned[i], reference, i, reach_angstrom)
            shifts[i] += move
            largest = max(largest, float(np.abs(move).max()))
            moved = in_camera_frame(self._tilts[i : i + 1], axis, shifts[i : i + 1])
            filtered[i] = self._filtered(self._turned(i, moved), i)
            volume += self._smeared(filtered[i], i)
        return MatchRound(
            geometry=in_camera_frame(self._tilts, axis, shifts),
            scores=scores,
            sigma_angstrom=sigma,
            largest_move_angstrom=largest,
        )

    def _match(self, image: Tensor, reference: Tensor, tilt: int, reach: float) -> tuple[FloatArray, float, float]:
        """Shift (x, y) in A, score and standard deviation of one image against its reference."""
        seen = torch.fft.rfft2(image * self._window)
        expected = torch.fft.rfft2(reference * self._window)
        power = self._power[tilt][self._shells] * float((self._window**2).sum())
        product = self._band * seen * expected.conj()
        peak = correlation_peak(product / power, self._frame, reach_px=reach / self._pixel)
        double = torch.full((power.shape[-1],), 2.0, dtype=power.dtype, device=power.device)
        double[0] = 1.0
        own = float((double * self._band * expected.abs() ** 2 / power).sum())
        pixels = math.prod(self._frame)
        scale = peak.value * pixels / own if own > 0 else 0.0
        # the curvature of the log-likelihood of a displaced, scaled reference in noise of the image's own power
        information = scale * pixels * 0.5 * sum(max(c, 0.0) for c in peak.curvature)
        sigma = self._pixel / math.sqrt(information) if information > 0 else float("nan")
        norm = float((double * self._band * seen.abs() ** 2).sum()) * float(
            (double * self._band * expected.abs() ** 2).sum()
        )
        score = float((double * product.real).sum()) / math.sqrt(norm) if norm > 0 else 0.0
        return np.array(peak.shift_px) * self._pixel, score, sigma
