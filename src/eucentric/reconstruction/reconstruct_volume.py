"""Weighted back-projection of an aligned tilt series."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.device import batches, free_bytes
from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.fourier.exposure import exposure_weights
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.optics.tilt_strength import TiltStrength
from eucentric.projection.filters import LineGain, angular_weights, exact_gain, ramp_gain, sirt_like_gain
from eucentric.projection.layout import line_layout, projector_gain
from eucentric.projection.lines import PreparedLines, back_project_lines, prepare_lines
from eucentric.projection.plan import FinePlan
from eucentric.reconstruction.exposures import mid_exposures
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.results import VolumeSlab
from eucentric.typing import FloatArray


def reconstruct_volume(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    params: ReconstructParams,
    pre_exposures: ArrayLike | None = None,
    doses: ArrayLike | None = None,
    voltage_kv: float = 300.0,
    tilt_weights: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    specimen_thickness: float | None = None,
    warp: ImageWarp | None = None,
) -> Float[Tensor, "z y x"]:
    r"""Tomogram by weighted back-projection [1]_.

    The contrast is that of the images (protein dark stays dark) and the amplitude that of the density per A: the line
    integral of the result along the beam, in A, gives back the images, in the part of Fourier space that the tilts
    sample. Dose weights fade it further where radiation did. With the filter ``none`` it is the mean of the images
    along their rays instead.

    Parameters
    ----------
    images : (tilt, y, x), not dose weighted
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    volume_shape, voxel_size : (z, y, x) and A per voxel; the specimen centre is voxel ``n // 2`` of each axis
    params : `filter`, `sirt_like_iterations`, `fall_off`, `low_pass_angstrom`, `supersampling` and `dose_weighting` are
        used here
    pre_exposures, doses : (tilt,) e/A^2 before and during each image; weights are those of the middle of the exposure.
        Without them the exposure is unknown and nothing is weighted
    voltage_kv : scales the critical exposure
    tilt_weights : (tilt,) further factors of the images, such as :func:`eucentric.projection.cosine_weights`; none
        means 1
    signal : how strongly each image shows the specimen, and so how much it counts; None where all do alike
    specimen_thickness : A along z, for the filter ``exact``; the height of the volume where None
    warp : local deformation of the images, undone as they are read

    Returns
    -------
    (z, y, x), dtype and device of `images`

    Raises
    ------
    InputError : NaN in an image (its tilt is named), sizes that are not positive
    ShapeError : images, geometry, warp and exposures of different length
    BackendError : the volume does not fit into memory; use :func:`reconstruct_slabs`

    References
    ----------
    .. [1] Radermacher, in Electron Tomography, 2nd ed. (2006), ch. 8, doi:10.1007/978-0-387-69008-7_9
    """
    need = int(np.prod([int(n) for n in volume_shape])) * images.element_size()
    free = free_bytes(images.device)
    if need > free:
        raise BackendError(
            f"The volume {tuple(volume_shape)} needs {need / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be "
            f"used on {images.device}. Use a larger pixel size, or write it by slabs."
        )
    prepared = _prepare(
        images,
        geometry,
        pixel_size,
        volume_shape,
        voxel_size,
        params,
        pre_exposures,
        doses,
        voltage_kv,
        tilt_weights,
        signal,
        specimen_thickness,
        warp,
    )
    return back_project_lines(prepared)


def reconstruct_slabs(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    *,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    params: ReconstructParams,
    pre_exposures: ArrayLike | None = None,
    doses: ArrayLike | None = None,
    voltage_kv: float = 300.0,
    tilt_weights: ArrayLike | None = None,
    signal: TiltStrength | None = None,
    specimen_thickness: float | None = None,
    planes: int | None = None,
    z_range: tuple[int, int] | None = None,
    warp: ImageWarp | None = None,
) -> Iterator[VolumeSlab]:
    """:func:`reconstruct_volume`, some planes at a time from the lowest z up; they equal the whole within rounding.

    Parameters
    ----------
    planes : planes in a slab; as many as the free memory holds where None
    z_range : first plane and the one after the last; the whole volume where None
    """
    if planes is not None and planes < 1:
        raise InputError(f"Slabs of {planes} planes were asked for; expected at least 1.")
    prepared = _prepare(
        images,
        geometry,
        pixel_size,
        volume_shape,
        voxel_size,
        params,
        pre_exposures,
        doses,
        voltage_kv,
        tilt_weights,
        signal,
        specimen_thickness,
        warp,
    )
    if planes is None:
        # a slab, its copy on the way to disk, and room for others
        plane_bytes = 4 * volume_shape[1] * volume_shape[2] * images.element_size()
        planes = next(batches(volume_shape[0], plane_bytes, images.device)).stop
    first, last = z_range or (0, volume_shape[0])
    ranges = [(z, min(z + planes, last)) for z in range(first, last, planes)]
    for start, stop in ranges:
        yield VolumeSlab(start=start, stop=stop, density=back_project_lines(prepared, z_range=(start, stop)))


def _prepare(
    images: Tensor,
    geometry: TiltGeometry,
    pixel_size: float,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    params: ReconstructParams,
    pre_exposures: ArrayLike | None,
    doses: ArrayLike | None,
    voltage_kv: float,
    tilt_weights: ArrayLike | None,
    signal: TiltStrength | None,
    specimen_thickness: float | None,
    warp: ImageWarp | None,
) -> PreparedLines:
    if not voxel_size > 0:
        raise InputError(f"The voxel size is {voxel_size:g} A; expected a positive number.")
    exposures = mid_exposures(len(geometry), pre_exposures, doses) if params.dose_weighting else None
    plan = FinePlan.build((images.shape[1], images.shape[2]), pixel_size, voxel_size, far=True)
    need = len(geometry) * int(np.prod(plan.kept_shape)) * images.element_size()
    free = free_bytes(images.device)
    if need > free:
        raise BackendError(
            f"The filtered images need {need / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB may be used on "
            f"{images.device}. Use a larger pixel size, or a device with more memory."
        )

    def left(frequency: Tensor, tilt: int) -> Tensor:
        kept = torch.ones_like(frequency)
        if exposures is not None:
            kept = exposure_weights(frequency, float(exposures[tilt]), voltage_kv=voltage_kv)
        return kept if signal is None else kept * signal.fading(frequency, tilt)

    gain, weights = _weighting(geometry, volume_shape, voxel_size, params, tilt_weights, specimen_thickness)
    if signal is not None:
        signal.check_count(len(geometry))
        # scales have a mean square of 1: where all images overlap, the density keeps its amplitude
        weights = weights * signal.scale
    return prepare_lines(
        images,
        geometry,
        pixel_size,
        volume_shape=volume_shape,
        voxel_size=voxel_size,
        line_gain=gain,
        window=params.fall_off,
        weights=weights,
        low_pass_angstrom=params.low_pass_angstrom,
        transfer=None if exposures is None and signal is None else left,
        taper_px=max(8, min(images.shape[-2:]) // 50),
        supersampling=params.supersampling,
        warp=warp,
    )


def _weighting(
    geometry: TiltGeometry,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    params: ReconstructParams,
    tilt_weights: ArrayLike | None,
    specimen_thickness: float | None,
) -> tuple[LineGain | None, FloatArray]:
    """The gain along lines, and the factor of every view."""
    tilts = geometry.y_tilt_deg
    factor = np.ones(len(tilts)) if tilt_weights is None else np.asarray(tilt_weights, dtype=np.float64)
    if factor.shape != (len(tilts),):
        raise ShapeError(
            f"{len(tilts)} tilts and weights of shape {factor.shape} were given; expected one for each tilt."
        )
    if not (np.isfinite(factor).all() and (factor >= 0).all() and factor.sum() > 0):
        raise InputError(
            f"The tilt weights are {factor.tolist()}; expected finite numbers, none negative, not all zero."
        )
    height, _, width = volume_shape
    if params.sirt_like_iterations:
        layout = line_layout(tilts, volume_shape, volume_shape[1], x_tilts_deg=geometry.x_tilt_deg)
        gain = sirt_like_gain(
            tilts,
            params.sirt_like_iterations,
            height,
            width,
            projector=lambda frequency, tilt: projector_gain(layout, tilt, height, frequency),
        )
        return gain, factor / voxel_size
    if params.filter == "none":
        return None, factor / factor.sum()
    if params.filter == "exact":
        thickness = height if specimen_thickness is None else specimen_thickness / voxel_size
        return exact_gain(tilts, thickness, width, weights=factor), np.full(len(tilts), 1.0 / voxel_size)
    return ramp_gain, factor * angular_weights(tilts) / voxel_size
