"""One door to all methods: images of an aligned tilt series in, a volume out, by the method of the settings."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import BackendError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.projection.filters import cosine_weights
from eucentric.projection.resampling import check_images
from eucentric.reconstruction.correct_ctf import correct_ctf
from eucentric.reconstruction.depth_transfer import DepthTransfer
from eucentric.reconstruction.exposures import fade_lost_detail
from eucentric.reconstruction.fourier_inversion import reconstruct_fourier
from eucentric.reconstruction.invert_ctf import invert_ctf, normalise_intensity, resample_recorded
from eucentric.reconstruction.iterate import Constraint, OnStep, Stopping, cgls, sirt, total_variation
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_slabs
from eucentric.reconstruction.results import VolumeSlab
from eucentric.reconstruction.signal_to_noise import SpectralRatio, assumed_signal_to_noise
from eucentric.reconstruction.tilt_model import TiltModel
from eucentric.typing import FloatArray

_ITERATIONS = {"sirt": 20, "cgls": 12, "tv": 60, "ctf": 5}
_SCANNING_ITERATIONS = {"sirt": 100}
"""Where they differ for scanning images, whose noise is low: they stand to go on for longer."""
_REGULARISATION, _SCANNING_REGULARISATION = 0.02, 0.001
_VOLUMES_HELD = {"sirt": 4, "cgls": 6, "tv": 10, "ctf": 8, "fourier": 3}
"""Copies of the volume that a method holds at once."""
_SIRT_LIKE = 15
_CONSTRAINTS: dict[str, Constraint] = {"none": "none", "bright": "positive", "dark": "negative"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeriesOptics:
    """What is known of the contrast transfer and the exposure of a tilt series."""

    optics: Optics
    fits: tuple[CtfFit, ...] | None
    """At the height of the specimen centre; None where no CTF was fitted."""
    hand: float
    pre_exposures: FloatArray
    doses: FloatArray

    def select(self, tilts: slice) -> "SeriesOptics":
        """Of some of the tilts."""
        fits = None if self.fits is None else self.fits[tilts]
        return replace(self, fits=fits, pre_exposures=self.pre_exposures[tilts], doses=self.doses[tilts])

    @property
    def exposures(self) -> FloatArray:
        """(tilt,) e/A^2 at the middle of each image."""
        return np.asarray(self.pre_exposures + 0.5 * self.doses, dtype=np.float64)


def iterations_of(params: ReconstructParams, *, scanning: bool) -> int:
    """How many iterations a method does at most; 1 for those that do none.

    Parameters
    ----------
    scanning : the images are of a scanning microscope, without contrast transfer
    """
    usual = _ITERATIONS | _SCANNING_ITERATIONS if scanning else _ITERATIONS
    return params.iterations or usual.get(params.method, 1)


def volume_slabs(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    params: ReconstructParams,
    optics: SeriesOptics | None = None,
    signal: TiltStrength | None = None,
    signal_to_noise: SpectralRatio | None = None,
    specimen_angstrom: float | None = None,
    warp: ImageWarp | None = None,
    on_step: OnStep | None = None,
) -> Iterator[VolumeSlab]:
    """A volume by the method of the settings, some planes at a time; iterative methods hold all of it.

    Parameters
    ----------
    images : (tilt, y, x) as summed
    params : with a method other than ``auto`` (see :meth:`ReconstructParams.resolved`)
    optics : None where contrast transfer and exposure do not count
    signal : how strongly each image shows the specimen; None where all do alike. Counts where dose weights do
    signal_to_noise : for the method ``ctf`` and the correction ``wiener``; a usual one where None
    specimen_angstrom : thickness of the specimen, for ``ctf`` and the exact filter; that of the volume where None
    warp : local deformation of the images
    on_step : called after every iteration

    Raises
    ------
    InputError : a method that needs the CTF, and there is none
    BackendError : a volume that does not fit into memory
    """
    task = _Task(
        images=images,
        geometry=geometry,
        pixel_size=pixel_size,
        volume_shape=volume_shape,
        voxel_size=voxel_size,
        params=params,
        optics=optics,
        signal=signal if params.dose_weighting else None,
        signal_to_noise=signal_to_noise,
        specimen_angstrom=specimen_angstrom,
        warp=warp,
    )
    if params.method in ("wbp", "sirt-like"):
        yield from task.weighted()
        return
    _check_memory(volume_shape, params.method, images.device)
    if params.method == "fourier":
        volume = task.by_fourier()
    elif params.method == "ctf":
        volume = task.by_ctf(on_step)
    else:
        volume = task.iterated(on_step)
    yield VolumeSlab(start=0, stop=volume_shape[0], density=volume)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """What all methods start from; see :func:`volume_slabs`."""

    images: Tensor
    geometry: TiltGeometry
    pixel_size: float
    volume_shape: tuple[int, int, int]
    voxel_size: float
    params: ReconstructParams
    optics: SeriesOptics | None
    signal: TiltStrength | None
    signal_to_noise: SpectralRatio | None
    specimen_angstrom: float | None
    warp: ImageWarp | None

    @property
    def sizes(self) -> dict[str, Any]:
        """Keywords that the methods share."""
        return {
            "pixel_size": self.pixel_size,
            "volume_shape": self.volume_shape,
            "voxel_size": self.voxel_size,
            "warp": self.warp,
        }

    @property
    def stopping(self) -> Stopping:
        count = iterations_of(self.params, scanning=self.optics is None)
        return Stopping(iterations=count, least_change=self.params.least_change)

    def weighted(self) -> Iterator[VolumeSlab]:
        """Weighted back-projection, for every depth anew where the settings ask for it."""
        params = self.params
        if params.ctf_by_depth and (params.ctf_correction in ("auto", "none") or not params.ctf_by_height):
            raise InputError(
                "A correction for every depth was asked for, but none for the height or of any kind. Choose "
                "--ctf-correction flip, wiener or multiply with --ctf-by-height, or --no-ctf-by-depth."
            )
        if not params.ctf_by_depth:
            yield from self._weighted_planes(0.0, None)
            return
        known = _known_ctf(self.optics)
        model = DepthTransfer(
            geometry=self.geometry,
            fits=known.fits or (),
            optics=known.optics,
            hand=known.hand,
            voxel_size=max(self.voxel_size, self.pixel_size),
        )
        for start, stop in model.slabs(self.volume_shape[0]):
            depth = (0.5 * (start + stop - 1) - self.volume_shape[0] // 2) * self.voxel_size
            yield from self._weighted_planes(depth, (start, stop))

    def _weighted_planes(self, depth: float, planes: tuple[int, int] | None) -> Iterator[VolumeSlab]:
        params, optics = self.params, self.optics
        count = (params.sirt_like_iterations or _SIRT_LIKE) if params.method == "sirt-like" else 0
        yield from reconstruct_slabs(
            self.corrected(depth),
            self.geometry,
            params=params.model_copy(update={"sirt_like_iterations": count}),
            pre_exposures=None if optics is None else optics.pre_exposures,
            doses=None if optics is None else optics.doses,
            voltage_kv=300.0 if optics is None else optics.optics.voltage_kv,
            tilt_weights=cosine_weights(self.geometry.y_tilt_deg) if params.cosine_weights else None,
            signal=self.signal,
            specimen_thickness=self.specimen_angstrom,
            z_range=planes,
            **self.sizes,
        )

    def by_fourier(self) -> Tensor:
        """Direct Fourier inversion."""
        correction, known = self.params.ctf_correction, self.optics
        if correction in ("flip", "multiply"):
            raise InputError(
                f"The method fourier cannot {correction} the CTF: it divides by it. Choose --ctf-correction wiener or none."
            )
        if correction == "wiener":
            known = _known_ctf(known)
        if known is None:
            return reconstruct_fourier(self.images, self.geometry, signal=self.signal, **self.sizes)
        weighted = self.params.dose_weighting
        return reconstruct_fourier(
            self.images,
            self.geometry,
            ctf=known.fits if correction == "wiener" else None,
            optics=known.optics,
            hand=known.hand,
            pre_exposures=known.pre_exposures if weighted else None,
            doses=known.doses if weighted else None,
            signal=self.signal,
            **self.sizes,
        )

    def by_ctf(self, on_step: OnStep | None) -> Tensor:
        """Inversion of projection and contrast transfer."""
        known = _known_ctf(self.optics)
        return invert_ctf(
            self.images,
            self.geometry,
            fits=known.fits or (),
            optics=known.optics,
            hand=known.hand,
            signal_to_noise=self.ratio(known),
            stopping=self.stopping,
            exposures=known.exposures if self.params.dose_weighting else None,
            signal=self.signal,
            specimen_angstrom=self.specimen_angstrom,
            by_height=self.params.ctf_by_height,
            on_step=on_step,
            **self.sizes,
        )

    def corrected(self, depth: float) -> Tensor:
        """The images with the CTF corrected in two dimensions, for a depth of the specimen."""
        mode = self.params.ctf_correction
        if mode == "auto" or mode == "none":
            return self.images
        known = _known_ctf(self.optics)
        return correct_ctf(
            self.images,
            self.geometry,
            pixel_size=self.pixel_size,
            fits=known.fits or (),
            optics=known.optics,
            hand=known.hand,
            mode=mode,
            by_height=self.params.ctf_by_height,
            depth_angstrom=depth,
            signal_to_noise=self.ratio(known) if mode == "wiener" else None,
        )

    def ratio(self, known: SeriesOptics) -> SpectralRatio:
        """Signal over noise, as given or as usual."""
        return self.signal_to_noise or assumed_signal_to_noise(float(np.mean(known.doses)))

    def iterated(self, on_step: OnStep | None) -> Tensor:
        """Iterations without a model of the contrast transfer."""
        images, geometry, params, stopping = self.corrected(0.0), self.geometry, self.params, self.stopping
        pixel_size, voxel_size, volume_shape, warp = self.pixel_size, self.voxel_size, self.volume_shape, self.warp
        check_images(images, geometry, pixel_size)
        known = self.optics
        images = fade_lost_detail(
            images,
            pixel_size,
            exposures=known.exposures if known is not None and params.dose_weighting else None,
            voltage_kv=300.0 if known is None else known.optics.voltage_kv,
            signal=self.signal,
        )
        contrast = _above_background(images, params.constraint)
        out_shape = volume_shape[1:]
        model = TiltModel(geometry=geometry, volume_shape=volume_shape, image_shape=out_shape, voxel_size=voxel_size)
        seen, recorded = resample_recorded(contrast, geometry, pixel_size, out_shape, voxel_size, warp)
        if self.signal is not None:
            _equalise(seen, recorded, self.signal.scale)
        if params.method == "cgls":
            strength = params.regularisation
            if strength is None:
                strength = _SCANNING_REGULARISATION if known is None else _REGULARISATION
            return cgls(model, seen, stopping, weights=recorded, regularisation=strength, on_step=on_step)
        constraint = _CONSTRAINTS[params.constraint]
        if params.method == "tv":
            return total_variation(
                model,
                seen,
                stopping,
                strength=params.tv_strength,
                weights=recorded,
                constraint=constraint,
                on_step=on_step,
            )
        return sirt(
            model,
            seen,
            stopping,
            weights=recorded,
            subsets=min(params.subsets, len(model)),
            relaxation=params.relaxation,
            constraint=constraint,
            on_step=on_step,
        )


def _known_ctf(optics: SeriesOptics | None) -> SeriesOptics:
    if optics is None or optics.fits is None:
        raise InputError(
            "No contrast transfer is known of these images, so it cannot be corrected. Run `eucentric ctf` first, or choose "
            "--method wbp with --ctf-correction none."
        )
    return optics


def _equalise(images: Tensor, weights: Tensor, scale: FloatArray) -> None:
    """Bring images, of which each shows the specimen `scale` times as strongly, to one strength, and count each for it, in place."""
    one = torch.from_numpy(scale).to(images)[:, None, None]
    images.copy_(torch.where(one > 0.0, images / one, 0.0))
    weights.mul_((one / one.max()).square())


def _above_background(images: Tensor, constraint: str) -> Tensor:
    """Images as deviations from their mean, or from the background where density is on one side of it only."""
    if constraint == "none":
        return normalise_intensity(images)[0]
    few = images[:, ::2, ::2].double().cpu().numpy()
    return images - float(np.quantile(few, 0.05 if constraint == "bright" else 0.95))


def _check_memory(volume_shape: tuple[int, int, int], method: str, device: torch.device) -> None:
    need = 4 * int(np.prod(volume_shape)) * _VOLUMES_HELD[method]
    free = free_bytes(device)
    if need > free:
        raise BackendError(
            f"The method {method} holds {_VOLUMES_HELD[method]} copies of the volume, {need / 2**30:.1f} GiB, but only "
            f"{free / 2**30:.1f} GiB may be used on {device}. Use a larger pixel size, or --method wbp, which works in slabs."
        )
