"""Images of a volume as the microscope would take them, at any geometry."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.compute.device import free_bytes
from eucentric.errors import BackendError, InputError, ShapeError
from eucentric.fourier.crop import rescaled_shape
from eucentric.fourier.grid import frequency_vectors
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.filters import window_gain
from eucentric.projection.layout import LineLayout, line_layout
from eucentric.projection.operators import project
from eucentric.projection.resampling import image_spline, sample_spline, spectrum_shape
from eucentric.reconstruction.move_volume import RigidMotion
from eucentric.typing import FloatArray

_QUARTER = RigidMotion.build(z_deg=90.0, shift=np.zeros(3))
_TILTS_AT_ONCE = 8  # the loops take four tilts in one pass; two passes keep the copies small


def reproject_volume(
    volume: Float[Tensor, "z y x"],
    geometry: TiltGeometry,
    *,
    voxel_size: float,
    image_shape: tuple[int, int] | None = None,
    pixel_size: float | None = None,
) -> Float[Tensor, "tilt y x"]:
    r"""Project a volume into the camera's frame: what an image of it would be, without noise and CTF.

    ``image_t(c) = integral of volume(p) over the beam``, with p seen at ``c = (Rz Ry Rx p)_xy + shift``, as
    :class:`~eucentric.geometry.TiltGeometry` says. The integral is in A, so that a density per A, such as
    :func:`reconstruct_volume` makes, gives images in their own contrast. Outside the volume there is nothing.

    The volume is summed along the beam in the frame of its tilt axis; its in-plane rotation, the shift and a change of
    pixel size are then one read of a cubic B-spline, whose coefficients are made in Fourier space from data sampled
    twice as finely. The same Fourier step undoes what the projector loses on average (see `_projector_gain`), and ends
    the images in a soft edge at 0.9 to 1 of the Nyquist frequency of the coarser of voxel and pixel.

    Parameters
    ----------
    volume : (z, y, x), the specimen centre at voxel ``n // 2`` of each axis
    geometry : any number of tilts, in any order
    voxel_size : A per voxel
    image_shape : (y, x) of the images; the field of view of the volume at zero tilt where None
    pixel_size : A per pixel of the images; `voxel_size` where None

    Returns
    -------
    (tilt, y, x), dtype and device of `volume`

    Raises
    ------
    ShapeError : not a volume, an empty image, or no tilts
    InputError : sizes that are not positive; NaN or infinity in the volume
    BackendError : the images do not fit into memory
    """
    tilts = list(
        reproject_tilts(volume, geometry, voxel_size=voxel_size, image_shape=image_shape, pixel_size=pixel_size)
    )
    return torch.cat(tilts)


def reproject_tilts(
    volume: Float[Tensor, "z y x"],
    geometry: TiltGeometry,
    *,
    voxel_size: float,
    image_shape: tuple[int, int] | None = None,
    pixel_size: float | None = None,
) -> Iterator[Float[Tensor, "tilt y x"]]:
    """:func:`reproject_volume`, some tilts at a time in the order of `geometry`."""
    pixel = voxel_size if pixel_size is None else pixel_size
    _check(volume, geometry, voxel_size, pixel)
    shape = image_shape or reprojected_shape((volume.shape[0], volume.shape[1], volume.shape[2]), voxel_size, pixel)
    if min(shape) < 1:
        raise ShapeError(f"An image shape of {tuple(shape)} was asked for; expected (y, x), both positive.")
    if np.abs(np.sin(np.deg2rad(geometry.x_tilt_deg))).mean() > np.abs(np.sin(np.deg2rad(geometry.y_tilt_deg))).mean():
        # the projector is at its best across y: the second of two tilt axes is brought onto it
        volume, geometry = _quarter_turn(volume), _QUARTER.carry_geometry(geometry)
    frame = _frame_shape(volume, geometry)
    need = volume.element_size() * (len(geometry) * math.prod(shape) + _TILTS_AT_ONCE * 3 * math.prod(frame))
    free = free_bytes(volume.device)
    if need > free:
        raise BackendError(
            f"{len(geometry)} images of {shape[0]} x {shape[1]} pixels need {need / 2**30:.1f} GiB, but only "
            f"{free / 2**30:.1f} GiB may be used on {volume.device}. Use a larger pixel size, or fewer tilts."
        )
    for start in range(0, len(geometry), _TILTS_AT_ONCE):
        part = geometry[slice(start, start + _TILTS_AT_ONCE)]
        yield _reproject(volume, part, voxel_size, pixel, frame, (shape[0], shape[1]))


def reprojected_shape(volume_shape: tuple[int, int, int], voxel_size: float, pixel_size: float) -> tuple[int, int]:
    """(y, x) of images with the field of view of a volume at zero tilt."""
    y, x = volume_shape[1:] if pixel_size == voxel_size else rescaled_shape(volume_shape[1:], voxel_size, pixel_size)
    return y, x


def _check(volume: Tensor, geometry: TiltGeometry, voxel_size: float, pixel_size: float) -> None:
    if volume.ndim != 3 or min(volume.shape) < 1:
        raise ShapeError(f"A volume of shape {tuple(volume.shape)} was given; expected (z, y, x), none empty.")
    if not len(geometry):
        raise ShapeError("A geometry without tilts was given; expected at least one.")
    if not (voxel_size > 0 and pixel_size > 0):
        raise InputError(
            f"The voxel size is {voxel_size:g} A and the pixel size {pixel_size:g} A; expected positive numbers."
        )
    if not bool(torch.isfinite(volume.sum())) and not bool(torch.isfinite(volume).all()):
        raise InputError("The volume holds NaN or infinity. Reconstruct it again.")


def _frame_shape(volume: Tensor, geometry: TiltGeometry) -> tuple[int, int]:
    """(y, x) of images, axis on +y and centre unshifted, that hold the shadow of the whole volume; x is odd."""
    z, y, x = (n // 2 + 2.0 for n in volume.shape)
    tilt, lean = np.deg2rad(geometry.y_tilt_deg), np.deg2rad(geometry.x_tilt_deg)
    # u_x = cos(t) x + sin(t) (sin(l) y + cos(l) z), u_y = cos(l) y - sin(l) z
    wide = np.abs(np.cos(tilt)) * x + np.abs(np.sin(tilt)) * (np.abs(np.sin(lean)) * y + np.abs(np.cos(lean)) * z)
    high = np.abs(np.cos(lean)) * y + np.abs(np.sin(lean)) * z
    return 2 * math.ceil(float(high.max())) + 1, 2 * math.ceil(float(wide.max())) + 1


def _reproject(
    volume: Tensor,
    geometry: TiltGeometry,
    voxel_size: float,
    pixel_size: float,
    frame: tuple[int, int],
    shape: tuple[int, int],
) -> Tensor:
    x_tilts = geometry.x_tilt_deg if np.any(geometry.x_tilt_deg) else None
    shadows = project(volume, geometry.y_tilt_deg, frame, x_tilts_deg=x_tilts)
    layout = line_layout(geometry.y_tilt_deg, _volume_shape(volume), frame[0], x_tilts_deg=x_tilts)
    padded = spectrum_shape(frame)
    fy, fx = frequency_vectors(padded, 1.0, device=volume.device, dtype=torch.float64)
    radius = torch.sqrt(fy**2 + fx**2) * (2.0 * max(1.0, pixel_size / voxel_size))
    edge = window_gain(radius, "sharp") * voxel_size
    camera = _axis_frame_from_camera(geometry)
    out = volume.new_empty((len(geometry), *shape))
    y, x = ((np.arange(n, dtype=np.float64) - n // 2) * pixel_size for n in shape)
    for t in range(len(geometry)):
        lost = _projector_gain(layout, t, volume.shape[0], fx.flatten().cpu().numpy())
        gain = edge / torch.from_numpy(lost).to(volume.device)
        if layout.sheared:
            gain = gain / torch.sinc(fy) ** 2
        spline = image_spline(shadows[t], voxel_size, pixel_size, gain.to(volume.dtype))
        sample_spline(spline, camera, t, x, y, out[t])
    return out


def _volume_shape(volume: Tensor) -> tuple[int, int, int]:
    return volume.shape[0], volume.shape[1], volume.shape[2]


def _quarter_turn(volume: Tensor) -> Tensor:
    """The volume turned by 90 degrees about z: what was at (x, y) lies at (-y, x). The new x has an odd size."""
    turned = volume.transpose(1, 2)
    if turned.shape[2] % 2 == 0:
        turned = torch.nn.functional.pad(turned, (0, 1))
    return turned.flip(2).contiguous()


def _axis_frame_from_camera(geometry: TiltGeometry) -> TiltGeometry:
    """The geometry under which a camera position c is read at ``u = Rz(-z_rot) (c - shift) / magnification``.

    The spline read takes a position u to ``magnification Rz(z_rot) u + shift`` of the image it reads; here the roles of
    the frames are exchanged, so it gets the inverse.
    """
    angle = np.deg2rad(geometry.z_rot_deg)
    c, s = np.cos(angle), np.sin(angle)
    x, y = geometry.shifts_angstrom.T / geometry.magnification
    return geometry.replace(
        z_rot_deg=-geometry.z_rot_deg,
        shifts_angstrom=-np.stack([c * x + s * y, c * y - s * x], 1),
        magnification=1.0 / geometry.magnification,
    )


def _projector_gain(layout: LineLayout, tilt: int, planes: int, frequency: FloatArray) -> FloatArray:
    """Mean response of :func:`project` across the tilt axis at frequencies from 0 to 1/2 cycle per voxel.

    Two steps lose: voxels are spread over two fine samples, and the fine line is read through the interpolating cubic
    B-spline, whose response is ``sinc^4`` over the transform of the sampled B-spline, ``(2 + cos) / 3``.
    """
    spline = np.sinc(frequency) ** 4 * 3.0 / (2.0 + np.cos(2.0 * np.pi * frequency))
    step = abs(float(layout.step[tilt]))
    if not layout.stretched[tilt] or layout.sheared:
        return np.asarray(spline * np.sinc(frequency * step) ** 2, dtype=np.float64)
    # all voxels of a plane fall on one fraction p between two fine samples
    part = ((layout.qz[tilt] * (np.arange(planes) - planes // 2)) % 1.0)[:, None]
    omega = np.linspace(0.0, math.pi * step, 65)
    taps = ((1.0 - part) * np.cos(part * omega) + part * np.cos((1.0 - part) * omega)).mean(0)
    return np.asarray(spline * np.interp(2.0 * np.pi * frequency * step, omega, taps), dtype=np.float64)
