r"""Inversion of the whole model of a tilt series: projection, contrast transfer at every height, damage and noise.

The density x is the most likely one,

.. math:: \min_x \sum_t \| N_t^{-1/2} M_t (H_t x - y_t) \|^2 + \| S^{-1/2} x \|^2

with y the images brought to one mean intensity, H the projection with the contrast transfer at the height of every point, M what was
recorded, N the power of the noise and S that of the specimen. Both are spectra that depend on the frequency k alone, so that only
their ratio counts, and it may stand with the images: :math:`(H^T M\,(S/N)\,M H + T) x = H^T M\,(S/N)\,M y`, with T the thickness
of the specimen: so much of a section through Fourier space one image fills. This is a Wiener filter that is right for every
point of the specimen and every overlap of sections. Conjugate gradients from zero need few steps, since the noise keeps the
spectrum of the operator narrow.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.fourier.exposure import exposure_weights
from eucentric.fourier.filters import soft_edge
from eucentric.fourier.grid import frequency_grid, frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.ctf import ctf_1d
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.projection.resampling import check_images, places_read, resample_tilts
from eucentric.reconstruction.depth_transfer import DepthTransfer
from eucentric.reconstruction.iterate import OnStep, Stopping, conjugate_gradients
from eucentric.reconstruction.signal_to_noise import SpectralRatio
from eucentric.reconstruction.tilt_model import TiltModel
from eucentric.typing import FloatArray


def normalise_intensity(images: Float[Tensor, "tilt y x"]) -> tuple[Float[Tensor, "tilt y x"], FloatArray]:
    """Images as deviations from one common mean intensity, and how much each tilt counts by its electrons.

    The contrast of an image is a part of its own intensity, and the noise falls with the number of electrons: brought to
    the median of their means, all images show the specimen alike, and a tilt with half the electrons weighs half. Images
    without a positive mean, such as filtered ones, have only their mean removed.
    """
    means = images.mean((1, 2), dtype=torch.float64).cpu().numpy()
    middle = float(np.median(means))
    if middle <= 0.0 or means.min() < 0.05 * middle:
        return images - images.mean((1, 2), keepdim=True), np.ones(len(means))
    scale = torch.as_tensor(middle / means, dtype=images.dtype, device=images.device)[:, None, None]
    return images * scale - middle, means / middle


def recorded_weights(
    geometry: TiltGeometry,
    image_shape: tuple[int, int],
    pixel_size: float,
    *,
    out_shape: tuple[int, int],
    out_pixel_size: float,
    taper_px: float,
    warp: ImageWarp | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "tilt y x"]:
    """1 inside of what each resampled image had recorded, falling to 0 over `taper_px` of its pixels at the edges."""
    out = torch.empty((len(geometry), *out_shape), dtype=torch.float32, device=device)
    for t in range(len(geometry)):
        weight = torch.ones(out_shape, dtype=torch.float64, device=device)
        places = places_read(geometry, t, image_shape, pixel_size, out_shape, out_pixel_size, warp, device)
        for at, count in zip(places, (image_shape[1], image_shape[0]), strict=True):
            depth = torch.minimum(at, count - 1 - at).clamp(0.0, taper_px) / taper_px
            weight *= 0.5 - 0.5 * torch.cos(math.pi * depth)
        out[t] = weight.to(torch.float32)
    return out


def resample_recorded(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    pixel_size: float,
    out_shape: tuple[int, int],
    out_pixel_size: float,
    warp: ImageWarp | None,
) -> tuple[Float[Tensor, "tilt v u"], Float[Tensor, "tilt v u"]]:
    """What a model of the volume is to explain: images in the frame with the axis on +y, and where they count."""
    recorded = recorded_weights(
        geometry,
        (images.shape[1], images.shape[2]),
        pixel_size,
        out_shape=out_shape,
        out_pixel_size=out_pixel_size,
        taper_px=max(8.0, min(images.shape[-2:]) / 50),
        warp=warp,
        device=images.device,
    )
    seen = resample_tilts(images, geometry, pixel_size, out_shape=out_shape, out_pixel_size=out_pixel_size, warp=warp)
    return seen, recorded


def invert_ctf(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    fits: Sequence[CtfFit],
    optics: Optics,
    hand: float,
    signal_to_noise: SpectralRatio,
    stopping: Stopping,
    exposures: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    specimen_angstrom: float | None = None,
    by_height: bool = True,
    warp: ImageWarp | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "z y x"]:
    """Density per A of a tilt series, freed of its contrast transfer as far as the noise allows.

    Protein stays dark. Detail that neither contrast transfer nor damage left above the noise fades out.

    Parameters
    ----------
    images : (tilt, y, x), as summed: neither dose weighted nor CTF corrected
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    volume_shape, voxel_size : (z, y, x) and A per voxel
    fits : CTF of every tilt at the height of the specimen centre
    hand : defocus of a point = defocus + hand * height
    signal_to_noise : power of the specimen over that of the noise in an image of mean intensity, contrast transfer aside
    specimen_angstrom : thickness of the specimen; the height of the volume where None
    exposures : (tilt,) e/A^2 at the middle of each image; None weights for no damage
    signal : how strongly each image shows the specimen; None where all do alike
    by_height : False uses one CTF for a whole image
    warp : local deformation of the images, undone as they are read

    Raises
    ------
    InputError, ShapeError : images or numbers that cannot be used
    """
    check_images(images, geometry, pixel_size)
    contrast, electrons = normalise_intensity(images)
    out_shape = volume_shape[1:]
    transfer = DepthTransfer(
        geometry=geometry,
        fits=tuple(fits),
        optics=optics,
        hand=hand,
        voxel_size=voxel_size,
        exposures=None if exposures is None else np.asarray(exposures, dtype=np.float64),
        signal=signal,
        by_height=by_height,
    )
    model = TiltModel(
        geometry=geometry, volume_shape=volume_shape, image_shape=out_shape, voxel_size=voxel_size, transfer=transfer
    )
    seen, recorded = resample_recorded(contrast, geometry, pixel_size, out_shape, voxel_size, warp)
    thickness = specimen_angstrom or volume_shape[0] * voxel_size
    filter_shape = (good_size(out_shape[0] + out_shape[0] // 4), good_size(out_shape[1] + out_shape[1] // 4))
    frequency = frequency_grid(filter_shape, voxel_size, device=images.device)
    # images finer than the voxels hold nothing beyond the voxels' Nyquist frequency
    ratio = signal_to_noise.at(frequency) * soft_edge(2.0 * voxel_size * frequency, 0.9, 1.0)

    def weigh(data: Tensor) -> Tensor:
        out = torch.empty_like(data)
        for t in range(len(geometry)):
            spectrum = torch.fft.rfft2(recorded[t] * data[t], s=filter_shape) * (ratio * float(electrons[t]))
            out[t] = recorded[t] * torch.fft.irfft2(spectrum, s=filter_shape)[: out_shape[0], : out_shape[1]]
        return out

    def normal(volume: Tensor) -> Tensor:
        # H counts lengths in A: a voxel edge for every voxel of a ray
        return model.adjoint(weigh(model.forward(volume))).add_(volume, alpha=voxel_size * thickness)

    def precondition(volume: Tensor) -> Tensor:
        return _divide_response(volume, voxel_size, geometry.y_tilt_deg, thickness, response)

    response = _response(signal_to_noise, transfer, electrons, volume_shape)
    return conjugate_gradients(normal, model.adjoint(weigh(seen)), stopping, precondition=precondition, on_step=on_step)


def _response(
    signal_to_noise: SpectralRatio, transfer: DepthTransfer, electrons: FloatArray, volume_shape: tuple[int, int, int]
) -> SpectralRatio:
    """Mean of ``C^2 S/N`` over the tilts and the heights in view: what one section brings to the equations."""
    frequency = np.linspace(0.0, math.sqrt(3.0) * 0.5 / transfer.voxel_size, 512)
    k = torch.from_numpy(frequency)
    total = torch.zeros_like(k)
    for t, fit in enumerate(transfer.fits):
        tilt = math.radians(float(transfer.geometry.y_tilt_deg[t]))
        reach = 0.5 * transfer.voxel_size * (abs(math.tan(tilt)) * volume_shape[2] + volume_shape[0] / math.cos(tilt))
        damage = torch.ones_like(k)
        if transfer.exposures is not None:
            damage = exposure_weights(k, float(transfer.exposures[t]), voltage_kv=transfer.optics.voltage_kv)
        if transfer.signal is not None:
            damage = damage * transfer.signal.envelope(k, t)
        for part in (-0.5, 0.0, 0.5) if transfer.by_height else (0.0,):
            seen = ctf_1d(k, fit.defocus_angstrom + part * reach, transfer.optics, fit.phase_shift_deg)
            total += float(electrons[t]) * (seen * damage).square() / (3.0 if transfer.by_height else 1.0)
    mean = (total / len(transfer.fits)).numpy() * signal_to_noise.at(k).numpy()
    return SpectralRatio(frequency=frequency, ratio=np.maximum(mean, 1e-6))


def _divide_response(
    volume: Tensor, voxel_size: float, tilts_deg: FloatArray, thickness: float, response: SpectralRatio
) -> Tensor:
    """Divide a volume's spectrum by what the equations do to it where sections overlap evenly."""
    spectrum = torch.fft.rfftn(volume)
    kz, ky, kx = frequency_vectors(tuple(volume.shape), voxel_size, device=volume.device)
    distinct = np.unique(np.round(tilts_deg, 3))
    gap = math.radians(float(np.median(np.diff(distinct)))) if len(distinct) > 1 else math.pi
    low, high = (math.tan(math.radians(max(-85.0, min(85.0, float(t))))) for t in (distinct[0], distinct[-1]))
    finest = float(response.frequency[-1])
    table = torch.from_numpy(response.ratio).to(volume)
    ky, kx = ky[0], kx[0]  # (y, 1) and (1, x)
    for z in range(volume.shape[0]):
        height = float(kz[z, 0, 0])
        across = torch.sqrt(kx**2 + height**2)
        overlap = (1.0 / (gap * thickness * across.clamp(min=1e-9))).clamp(1.0, float(len(tilts_deg)))
        # the section of tilt t runs along (cos t, sin t) in x and z; kx is not negative in half a spectrum
        beyond = torch.maximum(height - kx * high, kx * low - height).clamp(min=0.0)
        sampled = 1.0 / (1.0 + (math.pi * thickness * beyond) ** 2)  # the envelope of the sinc of a slab
        place = (torch.sqrt(across**2 + ky**2) * ((len(table) - 1) / finest)).round_().long()
        value = table[place.clamp_(max=len(table) - 1)] * (overlap * sampled)
        spectrum[z] /= (1.0 + value) * (voxel_size * thickness)
    out: Tensor = torch.fft.irfftn(spectrum, s=tuple(volume.shape))
    return out
