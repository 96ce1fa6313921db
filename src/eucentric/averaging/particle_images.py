r"""Particles as they are seen in every tilt image, made when they are asked for: what averaging and alignment work on.

An image of a particle is :math:`y = T P V + n`: a projection P of the map V, the transfer T of that image (CTF at the particle's
height, damage), noise n of power N. All that the image says about V and the pose is in two things, which are made here:
:math:`T y / N`, cropped to the box after the multiplication, and :math:`T^2 / N`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.image_weights import CORE, UsualPower, seen_part, usual_power
from eucentric.averaging.params import ExtractParams
from eucentric.averaging.tilt_images import contrast_images, faded_width, noise_power, resample_images, sampling_for
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import soft_edge
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import VolumeWarp
from eucentric.geometry.warp import ImageWarp
from eucentric.models.particle_projection import ParticleProjections, project_particles
from eucentric.models.tilt_series import CtfFit, TiltSeries
from eucentric.optics.odd_aberrations import has_odd_aberrations, odd_aberration_2d
from eucentric.optics.transfer import contrast_transfer
from eucentric.projection.cpu import run_items
from eucentric.typing import FloatArray

_TAPER = 1.0 / 16.0  # of a window, faded at each edge
_FULL_TILT = 0.05  # least weight of a tilt by its cosine
_FLAT = CtfFit(defocus_u_angstrom=0.0, defocus_v_angstrom=0.0)  # where only damage is wanted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleImages:
    """A batch of particles; images of all of them in one list, those of a particle beside each other."""

    data: Complex[Tensor, "image n half_n"]
    """T y / N, ``rfft2`` order, phases counted from the particle's centre."""
    weight: Float[Tensor, "image n half_n"]
    """T^2 / N, each sample the mean over its neighbourhood."""
    particle: Int[np.ndarray, " image"]
    """Whose image: position in the batch."""
    tilt: Int[np.ndarray, " image"]
    """Position of the tilt in its series."""
    matrices: FloatArray
    """(image, 3, 3), specimen to camera, times the magnification."""
    count: int
    """Particles in the batch, those without an image too."""
    voxel_size_angstrom: float
    common: Float[Tensor, "1 n half_n"] | None = None
    """One over how noise depends on frequency in all tilts alike, about one, zero from Nyquist on: a factor of `data` and `weight`
    that a map does not depend on. None: there is none."""

    @property
    def box_size(self) -> int:
        return int(self.data.shape[1])

    def slice_matrices(self, rotations: FloatArray) -> FloatArray:
        """(image, 3, 3), reference to camera, for particles turned by `rotations` (particle, 3, 3)."""
        return np.asarray(self.matrices @ rotations[self.particle])

    def moved(self, shifts_angstrom: FloatArray) -> Self:
        """The same images seen from other centres: particle i lies at its place plus shift i (particle, 3), in A."""
        shift = np.einsum("iab,ib->ia", self.matrices[:, :2], shifts_angstrom[self.particle]) / self.voxel_size_angstrom
        return replace(self, data=self.data * phase_ramps(shift, self.box_size, self.data))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Particles of several batches, one after another; `common` is the first's, by which sums divide all alike."""
        starts = np.cumsum([0, *(p.count for p in parts)])
        return cls(
            data=torch.cat([p.data for p in parts]),
            weight=torch.cat([p.weight for p in parts]),
            particle=np.concatenate([p.particle + s for p, s in zip(parts, starts, strict=False)]),
            tilt=np.concatenate([p.tilt for p in parts]),
            matrices=np.concatenate([p.matrices for p in parts]),
            count=int(starts[-1]),
            voxel_size_angstrom=parts[0].voxel_size_angstrom,
            common=parts[0].common,
        )


def phase_ramps(origin_px: FloatArray, size: int, like: Tensor) -> Complex[Tensor, "image n half_n"]:
    """Factors that make the point `origin_px` (image, 2), x and y from the first pixel, the origin of an rfft2."""
    fy = np.rint(np.fft.fftfreq(size, 1.0 / size))
    fx = np.arange(size // 2 + 1)
    along_y = torch.from_numpy(np.exp(2j * np.pi / size * fy * origin_px[:, 1:2])).to(like)
    along_x = torch.from_numpy(np.exp(2j * np.pi / size * fx * origin_px[:, 0:1])).to(like)
    return along_y[:, :, None] * along_x[:, None, :]


class SeriesNoise:
    """What is measured of the noise of a series when it is first asked for: stacks for other programs need none of it."""

    def __init__(self, images: Float[Tensor, "tilt y x"], geometry: TiltGeometry, params: ExtractParams) -> None:
        self._images, self._geometry, self._params = images, geometry, params

    @cached_property
    def inverse(self) -> Float[Tensor, "tilt m half_m"]:
        """As :attr:`SeriesImages.inverse_noise`."""
        window = self._params.box_size * self._params.padding
        return _inverse_noise(self._images, self._geometry, self._params, window)

    @cached_property
    def parts(self) -> tuple[Float[Tensor, "tilt m half_m"], Float[Tensor, "1 n half_n"]]:
        """One over the noise as product of what differs between tilts and of what all have in common, on the samples of a box.

        What is in common is steep where images hold much of the same at coarse detail, as filaments do. Multiplied with a window
        before the box is cut from it, it would bring strong shells into weak ones, and it does not tell which tilt counts more.
        """
        inside = self.inverse > 0
        logs = torch.where(inside, self.inverse, 1.0).log().mean(0)
        common = torch.where(inside[0], (logs - logs[inside[0]].mean()).exp(), 0.0)
        step = self._params.padding
        relative = torch.where(inside, self.inverse / torch.where(inside[0], common, 1.0), 0.0)
        return relative, common[None, ::step, ::step].contiguous()

    @cached_property
    def usual(self) -> UsualPower | None:
        """As :attr:`SeriesImages.usual`."""
        step = self._params.padding
        return usual_power(self._images, self.inverse[:, ::step, ::step])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesImages:
    """One tilt series made ready; windows are m x m pixels for boxes of n x n."""

    series: TiltSeries
    """Its tilts that count."""
    warp: ImageWarp | None
    volume: VolumeWarp | None
    images: Float[Tensor, "tilt y x"]
    """Contrast, protein negative, at the pixel size of the boxes."""
    pixel_size_angstrom: float
    params: ExtractParams
    phase: Float[Tensor, "tilt m half_m"] | None
    """Chi at the specimen centre; None where the contrast transfer is not taken into account."""
    per_angstrom: Float[Tensor, "m half_m"]
    envelope: Float[Tensor, "tilt m half_m"]
    """What is left of detail after damage, times what is known of the signal of each image."""
    back: Complex[Tensor, "m half_m"] | None
    """Takes odd aberrations out of a transform; None where there is none."""
    noise: SeriesNoise

    @property
    def inverse_noise(self) -> Float[Tensor, "tilt m half_m"]:
        """One over the power of the noise in a transform of n x n pixels, zero from Nyquist on."""
        return self.noise.inverse

    @property
    def usual(self) -> UsualPower | None:
        """Tells which images show something else where a particle is; None where all count alike."""
        return self.noise.usual if self.params.image_weights else None

    @property
    def window_size(self) -> int:
        return int(self.per_angstrom.shape[0])

    @property
    def matrices(self) -> FloatArray:
        """(tilt, 3, 3), specimen to camera, times the magnification."""
        geometry = TiltGeometry.from_poses(self.series.poses)
        return np.asarray(geometry.magnification[:, None, None] * geometry.matrices)

    def with_geometry(self, series: TiltSeries, warp: ImageWarp | None, volume: VolumeWarp | None) -> Self:
        """The same images with another geometry, deformation, contrast transfer or signal of the same tilts."""
        geometry = TiltGeometry.from_poses(series.poses)
        size, m = self.pixel_size_angstrom, self.window_size
        phase, per_angstrom, envelope = _transfers(series, geometry, self.params, m, size, self.images)
        return replace(
            self,
            series=series,
            warp=warp,
            volume=volume,
            phase=phase,
            per_angstrom=per_angstrom,
            envelope=envelope,
            back=_odd_correction(series, self.params, m, size, self.images),
        )

    def project(self, positions_angstrom: FloatArray) -> ParticleProjections:
        """Where particles (particle, 3) are seen, in pixels of the images as they were given."""
        margin = 0.5 * self.params.inside * self.params.box_size * self.pixel_size_angstrom
        return project_particles(positions_angstrom, self.series, self.warp, volume=self.volume, margin_angstrom=margin)

    def particles(
        self, positions_angstrom: FloatArray, projections: ParticleProjections | None = None
    ) -> ParticleImages:
        """Images of particles at (particle, 3) A from the specimen centre.

        Parameters
        ----------
        projections : where they are seen, if not where the geometry of the series says
        """
        seen = projections or self.project(positions_angstrom)
        tilt, particle = np.nonzero(seen.visible)
        order = np.lexsort((tilt, particle))
        tilt, particle = tilt[order], particle[order]
        n = self.params.box_size
        data = torch.empty((len(tilt), n, n // 2 + 1), dtype=torch.complex64, device=self.images.device)
        weight = torch.empty((len(tilt), n, n // 2 + 1), dtype=torch.float32, device=self.images.device)
        starts = np.searchsorted(particle, np.arange(len(positions_angstrom) + 1))
        (relative, common), usual = self.noise.parts, self.usual  # made once, before threads share them

        def fill(i: int) -> None:
            rows = slice(int(starts[i]), int(starts[i + 1]))
            tilts = tilt[rows]
            if not len(tilts):
                return
            spectra = self.spectra(tilts, seen.pixels[tilts, i])
            transfer = self._transfer(tilts, seen.heights_angstrom[tilts, i])
            noise = relative[torch.from_numpy(tilts).to(self.images.device)]
            data[rows] = torch.fft.rfft2(_cropped(torch.fft.irfft2(spectra * (transfer * noise)), n)).mul_(common)
            weight[rows] = _coarser(transfer.square_().mul_(noise), n).mul_(common)
            if usual is not None:
                share, part = self._share_and_part(usual, tilts, seen.pixels[tilts, i])
                data[rows] *= share
                weight[rows] *= share * part

        if self.images.device.type == "cpu":
            run_items(len(positions_angstrom), fill)
        else:
            for i in range(len(positions_angstrom)):
                fill(i)
        return ParticleImages(
            data=data,
            weight=weight,
            particle=particle.astype(np.int64),
            tilt=tilt.astype(np.int64),
            matrices=self.matrices[tilt],
            count=len(positions_angstrom),
            voxel_size_angstrom=self.pixel_size_angstrom,
            common=common,
        )

    def plain(
        self, pixels: FloatArray, tilts: NDArray[np.int64], heights_angstrom: FloatArray | None = None
    ) -> Float[Tensor, "image n n"]:
        """Boxes of one particle about (image, 2) pixels of the images as given; protein dark, without odd aberrations.

        Parameters
        ----------
        heights_angstrom : (image,); the boxes are then multiplied with CTF and damage, which turns protein bright
        """
        spectra = self.spectra(tilts, pixels)
        if heights_angstrom is not None:
            spectra = spectra * self._transfer(tilts, heights_angstrom)
        image, n = torch.fft.irfft2(spectra), self.params.box_size
        half = n // 2
        boxes: Tensor = image.new_empty((len(tilts), n, n))
        for to, source in ((slice(half, n), slice(0, half)), (slice(0, half), slice(-half, None))):
            boxes[:, to, half:], boxes[:, to, :half] = image[:, source, :half], image[:, source, -half:]
        return boxes

    def expected(
        self, projections: Complex[Tensor, "image n half_n"], tilts: NDArray[np.int64], heights_angstrom: FloatArray
    ) -> Complex[Tensor, "image n half_n"]:
        """T^2 m / N: the data that projections m, phases from the particle's centre, would give without noise."""
        n, m = self.params.box_size, self.window_size
        low = m // 2 - n // 2
        padded = projections.real.new_zeros((len(projections), m, m))
        boxes = torch.fft.irfft2(projections, s=(n, n))
        padded[:, low : low + n, low : low + n] = torch.fft.fftshift(boxes, dim=(1, 2))
        spectra = torch.fft.rfft2(torch.fft.ifftshift(padded, dim=(1, 2)))
        relative, common = self.noise.parts
        spectra *= (
            self._transfer(tilts, heights_angstrom)
            .square_()
            .mul_(relative[torch.from_numpy(tilts).to(self.images.device)])
        )
        out: Tensor = torch.fft.rfft2(_cropped(torch.fft.irfft2(spectra, s=(m, m)), n)).mul_(common)
        return out

    def spectra(
        self, tilts: NDArray[np.int64], pixels: FloatArray, *, of: Float[Tensor, "tilt y x"] | None = None
    ) -> Complex[Tensor, "image m half_m"]:
        """Transforms of windows about (image, 2) pixels of the images as given.

        Phases count from the place, and odd aberrations are taken out.

        Parameters
        ----------
        of : other images like `images`, those where None
        """
        m, at = self.window_size, self._places(pixels)
        windows, corner = self._windows(tilts, at, m, self.images if of is None else of)
        windows *= _fall_off(m, windows)
        spectra: Tensor = torch.fft.rfft2(windows)
        spectra.mul_(phase_ramps(at - corner, m, spectra))
        return spectra if self.back is None else spectra.mul_(self.back)

    def add_windows(
        self,
        images: Float[Tensor, "tilt y x"],
        spectra: Complex[Tensor, "image m half_m"],
        tilts: NDArray[np.int64],
        pixels: FloatArray,
    ) -> None:
        """Add what has such transforms (:meth:`spectra`) about its places to images like `images`, odd aberrations put in."""
        m, at = self.window_size, self._places(pixels)
        corner = self._corners(at, m)
        spectra = spectra * phase_ramps(corner - at, m, spectra)
        windows = torch.fft.irfft2(spectra if self.back is None else spectra * self.back.conj(), s=(m, m))
        for window, t, place in zip(windows, tilts, corner, strict=True):
            inside, shown = self._overlap(place, m)
            images[t][shown] += window[inside]

    def shares(self, tilts: NDArray[np.int64], pixels: FloatArray) -> Float[Tensor, "image n half_n"]:
        """How much images of one particle count beside their noise, on the samples of its boxes; 1 where all count alike.

        Less where an image shows something else there (`image_weights`), and by how much of the particle lies in the field.
        """
        usual, n = self.usual, self.params.box_size
        if usual is None:
            return self.images.new_ones((len(tilts), n, n // 2 + 1))
        share, part = self._share_and_part(usual, tilts, pixels)
        return share * part

    def seen_parts(self, pixels: FloatArray) -> Float[Tensor, " image"]:
        """How much of a particle at each place (image, 2) the faded field shows."""
        return self._seen(self._places(pixels))[:, 0, 0]

    def _share_and_part(self, usual: UsualPower, tilts: NDArray[np.int64], pixels: FloatArray) -> tuple[Tensor, Tensor]:
        """Of each image (image, n, half_n) how much it counts, and (image, 1, 1) how much of the particle it shows.

        Data are faded by the second already: it belongs to what is expected of them.
        """
        at = self._places(pixels)
        boxes, _ = self._windows(tilts, at, self.params.box_size, self.images)
        return usual.shares(boxes, tilts), self._seen(at)

    def _places(self, pixels: FloatArray) -> FloatArray:
        """Pixels (image, 2) of the images as given, in those of `images`."""
        given = np.array(self.series.image_shape[::-1]) // 2
        size = np.array([self.images.shape[2], self.images.shape[1]])
        scale = self.series.pixel_size_angstrom / self.pixel_size_angstrom
        return np.asarray((pixels - given) * scale + size // 2)

    def _windows(
        self, tilts: NDArray[np.int64], at: FloatArray, m: int, images: Tensor
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """Pixels about the nearest to each place, zero outside the images, and the first of them (image, 2), x and y."""
        corner = self._corners(at, m)
        windows = images.new_zeros((len(tilts), m, m))
        for i, t in enumerate(tilts):
            inside, shown = self._overlap(corner[i], m)
            windows[i][inside] = images[t][shown]
        return windows, corner

    @staticmethod
    def _corners(at: FloatArray, m: int) -> NDArray[np.int64]:
        """(image, 2), first pixels x and y of windows about places."""
        return np.rint(at).astype(np.int64) - m // 2

    def _overlap(self, corner: NDArray[np.int64], m: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns of a window that lie in the images, and the same ones there."""
        inside, shown = [], []
        for first, size in zip(corner[::-1].tolist(), self.images.shape[1:], strict=True):
            start = min(max(first, 0), size)
            stop = max(min(first + m, size), start)
            shown.append(slice(start, stop))
            inside.append(slice(start - first, stop - first))
        return (inside[0], inside[1]), (shown[0], shown[1])

    def _seen(self, at: FloatArray) -> Tensor:
        """(image, 1, 1), how much of each particle lies in the field, which is faded at its edges."""
        scale = self.series.pixel_size_angstrom / self.pixel_size_angstrom
        field = np.array(self.series.image_shape[::-1])
        first = np.array([self.images.shape[2], self.images.shape[1]]) // 2 - (field // 2) * scale
        part = seen_part(
            at - first, 0.5 * CORE * self.params.box_size, field * scale, faded_width(self.series.image_shape) * scale
        )
        return torch.from_numpy(part).to(self.images)[:, None, None]

    def _transfer(self, tilts: NDArray[np.int64], heights_angstrom: FloatArray) -> Float[Tensor, "image m half_m"]:
        """What an image shows of a map that is bright where matter is: contrast is negative near zero frequency."""
        envelope = self.envelope[torch.from_numpy(tilts).to(self.images.device)]
        return self.chi(tilts, heights_angstrom).sin_().mul_(envelope).neg_()

    def chi(self, tilts: NDArray[np.int64], heights_angstrom: FloatArray) -> Float[Tensor, "image m half_m"]:
        """Chi in radians of images at heights in A, in the camera's frame; a quarter turn where no CTF is taken into account.

        The transfer is -sin(chi) times the envelope.
        """
        if self.phase is None:
            return self.envelope.new_full((len(tilts), *self.per_angstrom.shape), math.pi / 2)
        change = torch.from_numpy(self.series.hand * heights_angstrom).to(self.phase)
        index = torch.from_numpy(tilts).to(self.images.device)
        return torch.addcmul(self.phase[index], change[:, None, None], self.per_angstrom)


def prepare_series(
    images: Float[Tensor, "tilt y x"],
    series: TiltSeries,
    params: ExtractParams,
    *,
    warp: ImageWarp | None = None,
    volume: VolumeWarp | None = None,
    pixel_size: float | None = None,
) -> SeriesImages:
    """Make the images of an aligned series ready for particles to be cut from.

    Parameters
    ----------
    images : (tilt, y, x), neither dose weighted nor CTF corrected, protein dark; of all tilts of `series`
    warp : local deformation of the same tilts
    volume : deformation of the specimen
    pixel_size : A, of the boxes; that of `params` where None, or of the images where that is 0

    Raises
    ------
    InputError : no CTF where it is to be taken into account, no tilt left, or pixels finer than the images'
    ShapeError : images and tilts of different numbers or sizes
    """
    if images.ndim != 3 or len(images) != len(series.tilts) or tuple(images.shape[1:]) != tuple(series.image_shape):
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} were given for {len(series.tilts)} tilts of {series.name} with "
            f"{series.image_shape[1]} x {series.image_shape[0]} pixels."
        )
    kept = _kept_tilts(series, params)
    series = series.with_tilts([series.tilts[t] for t in kept])
    images = images[torch.from_numpy(kept).to(images.device)]
    warp = None if warp is None else warp[kept.tolist()]
    geometry = TiltGeometry.from_poses(series.poses)
    if params.ctf and not series.has_ctf:
        raise InputError(
            f"The contrast transfer of {series.name} is not known. Run `eucentric ctf` first, or give --no-ctf."
        )
    wanted = pixel_size or params.pixel_size_angstrom or series.pixel_size_angstrom
    padded, cropped = sampling_for(series.image_shape, series.pixel_size_angstrom, wanted)
    size = series.pixel_size_angstrom * padded[1] / cropped[1]
    sampled = resample_images(contrast_images(images.to(torch.float32)), padded, cropped)
    n = params.box_size
    m = n * params.padding
    phase, per_angstrom, envelope = _transfers(series, geometry, params, m, size, sampled)
    return SeriesImages(
        series=series,
        warp=warp,
        volume=volume,
        images=sampled,
        pixel_size_angstrom=size,
        params=params,
        phase=phase,
        per_angstrom=per_angstrom,
        envelope=envelope,
        back=_odd_correction(series, params, m, size, sampled),
        noise=SeriesNoise(sampled, geometry, params),
    )


def _kept_tilts(series: TiltSeries, params: ExtractParams) -> NDArray[np.int64]:
    keep = np.abs(series.nominal_tilts_deg) <= params.max_tilt_deg
    if params.max_dose > 0:
        keep &= series.pre_exposures + series.doses <= params.max_dose + 1e-6
    if not keep.any():
        raise InputError(
            f"No tilt of {series.name} is left within {params.max_tilt_deg:g} degrees and {params.max_dose:g} e/A^2. "
            "Raise --max-tilt-deg or --max-dose."
        )
    return np.flatnonzero(keep).astype(np.int64)


def _transfers(
    series: TiltSeries, geometry: TiltGeometry, params: ExtractParams, m: int, pixel: float, like: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Chi of all tilts, its change for each A, and the envelopes."""
    envelope = like.new_ones((len(series.tilts), m, m // 2 + 1))
    phase = torch.zeros_like(envelope) if params.ctf else None
    per_angstrom = like.new_zeros((m, m // 2 + 1))
    optics = series.optics
    if optics is None:
        if params.ctf or params.dose_weighting:
            raise InputError(
                f"{series.name} has no optics: give --no-ctf and --no-dose-weighting for scanning transmission."
            )
        return phase, per_angstrom, envelope
    known = np.isfinite(series.pre_exposures).all() and bool(series.doses.any())
    for t, tilt in enumerate(series.tilts):
        if not (params.ctf or params.dose_weighting):
            break
        fit = tilt.ctf or _FLAT
        exposure = tilt.pre_exposure + 0.5 * tilt.dose if params.dose_weighting and known else None
        transfer = contrast_transfer(
            (m, m),
            pixel,
            fit,
            optics,
            exposure=exposure,
            b_factor_angstrom2=tilt.b_factor_angstrom2,
            signal_scale=tilt.signal_scale,
            magnification=float(geometry.magnification[t]),
            device=like.device,
        )
        per_angstrom = transfer.per_angstrom
        if phase is not None:
            phase[t] = transfer.phase
        if transfer.envelope is not None:
            envelope[t] = transfer.envelope
    return phase, per_angstrom, envelope


def _odd_correction(series: TiltSeries, params: ExtractParams, m: int, pixel: float, like: Tensor) -> Tensor | None:
    """exp(-i psi), or None where it is 1."""
    optics = series.optics
    if optics is None or not params.ctf or not has_odd_aberrations(optics):
        return None
    fy, fx = frequency_vectors((m, m), pixel, device=like.device, dtype=torch.float32)
    psi = odd_aberration_2d(fy, fx, optics)
    return torch.polar(torch.ones_like(psi), -psi)


def _inverse_noise(images: Tensor, geometry: TiltGeometry, params: ExtractParams, m: int) -> Tensor:
    n = params.box_size
    fy = torch.fft.fftfreq(m, device=images.device)
    fx = torch.fft.rfftfreq(m, device=images.device)
    radius = torch.sqrt(fy[:, None] ** 2 + fx**2)
    inside = (radius < 0.5).to(images.dtype)
    tilts = len(geometry)
    if params.tilt_weights == "noise":
        curves = noise_power(images, m)
        # shells are m // 2 from zero to Nyquist, and known at their middles
        place = (radius * m - 0.5).clamp(0.0, m // 2 - 1.0)
        low = place.floor().long().clamp(max=m // 2 - 2)
        part = place - low
        power = torch.lerp(curves[:, low], curves[:, low + 1], part)
        return inside / (power * n**2)
    level = images.var((1, 2)).mean() * n**2
    share = (
        np.maximum(np.cos(np.deg2rad(geometry.y_tilt_deg)), _FULL_TILT)
        if params.tilt_weights == "cosine"
        else np.ones(tilts)
    )
    return torch.from_numpy(share).to(images)[:, None, None] * inside / level


def _cropped(image: Tensor, n: int) -> Tensor:
    """The n pixels about the origin, the first pixel, of each axis of periodic images."""
    m = image.shape[-1]
    if m == n:
        return image
    half = n // 2
    rows = torch.cat([image[:, :half], image[:, m - half :]], dim=1)
    return torch.cat([rows[..., :half], rows[..., m - half :]], dim=2)


def _coarser(weight: Float[Tensor, "image m half_m"], n: int) -> Float[Tensor, "image n half_n"]:
    """Means over the neighbourhood of every (m / n)th sample of a quantity that is the same at k and -k."""
    step = weight.shape[1] // n
    if step == 1:
        return weight
    shares = [(step - abs(j)) / step**2 for j in range(1 - step, step)]
    rows = torch.zeros_like(weight[:, ::step])
    for j, share in zip(range(1 - step, step), shares, strict=True):
        rows.add_(torch.roll(weight, -j, dims=1)[:, ::step], alpha=share)
    # beyond zero frequency lies the other half
    mirrored = torch.roll(rows.flip(1), 1, dims=1)[..., 1:step].flip(2)
    wide = torch.cat([mirrored, rows, rows[..., -1:].expand(-1, -1, step - 1)], dim=2)
    out = torch.zeros_like(weight[:, :n, : n // 2 + 1])
    for j, share in enumerate(shares):
        out.add_(wide[..., j : j + step * (n // 2) + 1 : step], alpha=share)
    return out


def _fall_off(size: int, like: Tensor) -> Tensor:
    index = torch.arange(size, dtype=like.dtype, device=like.device)
    edge = 1.0 - soft_edge(torch.minimum(index, size - 1 - index), 0.0, max(1.0, size * _TAPER))
    return edge[:, None] * edge
