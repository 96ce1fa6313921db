"""One interpolation from the recorded images to the frame of the projector: tilt axis on +y, shift removed."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection.cpu import sample_rows
from eucentric.projection.filters import window_gain
from eucentric.projection.splines import cubic_weights

_FRAME_PX = 16
"""Pixels added around an image before its FFT, blended between opposite edges: no step at the seam."""
_OVERSAMPLING = 2.0
"""Spline samples per finest detail: a cubic B-spline is then true to 0.3% at 0.7 Nyquist."""


def resample_tilts(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    pixel_size: float,
    *,
    out_shape: tuple[int, int],
    out_pixel_size: float,
) -> Float[Tensor, "tilt y x"]:
    r"""Images with the tilt axis along +y and the shift removed, in one interpolation.

    ``out(u) = image(Rz(z_rot) u + shift)`` with u and shift in A from the centres ``n // 2``. A specimen point p is
    then seen at ``u = (Ry(y_tilt) Rx(x_tilt) p)_xy``; a tilt about x is left to the projector (`x_tilts_deg`), since
    it moves rows by an amount that depends on height.

    Detail finer than the new Nyquist frequency is removed by a soft radial edge (0.9 to 1 Nyquist); the rest is read
    with a cubic B-spline from data sampled twice as finely, true to 0.5% up to 0.7 Nyquist. What lies outside an image
    is zero, so subtract the mean first.

    Parameters
    ----------
    images : (tilt, y, x)
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    out_shape : (y, x)
    out_pixel_size : A per pixel of the result

    Raises
    ------
    ShapeError : images and geometry that do not match
    InputError : a pixel size that is not positive; NaN or infinity in an image, with its tilt
    """
    check_images(images, geometry, pixel_size)
    if not out_pixel_size > 0:
        raise InputError(f"The new pixel size is {out_pixel_size:g} A; expected a positive number.")
    out = images.new_empty((len(geometry), *out_shape))
    x = np.arange(out_shape[1]) - out_shape[1] // 2
    y = np.arange(out_shape[0]) - out_shape[0] // 2
    gain = None
    if out_pixel_size >= pixel_size:
        shape = spectrum_shape((images.shape[1], images.shape[2]))
        frequency = frequency_grid(shape, pixel_size, device=images.device, dtype=images.dtype)
        gain = window_gain(2.0 * out_pixel_size * frequency, "sharp")
    for t in range(len(geometry)):
        spline = image_spline(images[t], pixel_size, out_pixel_size, gain)
        sample_spline(spline, geometry, t, x * out_pixel_size, y * out_pixel_size, out[t])
    return out


def coverage_of_tilts(
    geometry: TiltGeometry,
    image_shape: tuple[int, int],
    pixel_size: float,
    *,
    out_shape: tuple[int, int],
    out_pixel_size: float,
) -> Bool[Tensor, "tilt y x"]:
    """Which pixels of :func:`resample_tilts` were read inside the recorded images."""
    out = torch.empty((len(geometry), *out_shape), dtype=torch.bool)
    x = (np.arange(out_shape[1]) - out_shape[1] // 2) * out_pixel_size
    y = (np.arange(out_shape[0]) - out_shape[0] // 2) * out_pixel_size
    for t in range(len(geometry)):
        column, row = pixel_map(geometry, t, pixel_size, image_shape)
        at_x = column[0] * x[None, :] + column[1] * y[:, None] + column[2]
        at_y = row[0] * x[None, :] + row[1] * y[:, None] + row[2]
        inside = (at_x >= 0) & (at_x <= image_shape[1] - 1) & (at_y >= 0) & (at_y <= image_shape[0] - 1)
        out[t] = torch.from_numpy(inside)
    return out


def check_images(images: Tensor, geometry: TiltGeometry, pixel_size: float) -> None:
    """Refuse what no resampling can mend: other counts, a pixel size that is not positive, NaN."""
    if images.ndim != 3 or images.shape[0] != len(geometry) or min(images.shape) < 1:
        raise ShapeError(
            f"Images of shape {tuple(images.shape)} were given with a geometry of {len(geometry)} tilts; "
            "expected (tilt, y, x)."
        )
    if not pixel_size > 0:
        raise InputError(f"The pixel size is {pixel_size:g} A; expected a positive number.")
    for t in range(len(geometry)):
        # a sum is finite unless a pixel is not (or it overflows: then look at every pixel)
        if not bool(torch.isfinite(images[t].sum())) and not bool(torch.isfinite(images[t]).all()):
            raise InputError(
                f"The image of tilt {t} ({geometry.y_tilt_deg[t]:.1f} degrees) holds NaN or infinity. "
                "Make its sum of frames again, or exclude this tilt."
            )


@dataclass(frozen=True, slots=True, eq=False)
class ImageSpline:
    """Periodic cubic B-spline of one image: ``image(i, j)`` is read at ``((i, j) + frame) * scale``."""

    coefficients: Float[Tensor, "fine_y fine_x"]
    scale: tuple[float, float]
    """(y, x) fine samples per pixel."""
    image_shape: tuple[int, int]
    pixel_size: float


def spectrum_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Size of the periodic image whose spectrum :func:`image_spline` filters."""
    return good_size(image_shape[0] + 2 * _FRAME_PX), good_size(image_shape[1] + 2 * _FRAME_PX)


def image_spline(
    image: Float[Tensor, "y x"],
    pixel_size: float,
    out_pixel_size: float,
    gain: Float[Tensor, "fy fx"] | None,
) -> ImageSpline:
    """Spline of an image for a new pixel size, filtered; its coefficients are made in Fourier space.

    Parameters
    ----------
    gain : on the rfft2 of :func:`spectrum_shape`; must remove detail that the new pixels cannot hold
    """
    shape = (image.shape[0], image.shape[1])
    padded_shape = spectrum_shape(shape)
    spectrum = torch.fft.rfft2(_blend_edges(image, padded_shape))
    if gain is not None:
        spectrum *= gain
    spacing = max(pixel_size, out_pixel_size) / _OVERSAMPLING
    fine_shape = tuple(good_size(math.ceil(n * pixel_size / spacing - 1e-9)) for n in padded_shape)
    spectrum = _resize_spectrum(spectrum, padded_shape, fine_shape)
    spectrum *= math.prod(fine_shape) / math.prod(padded_shape)
    for axis, make in enumerate((torch.fft.fftfreq, torch.fft.rfftfreq)):
        f = make(fine_shape[axis], device=image.device, dtype=torch.float64)
        inverse = (3.0 / (2.0 + torch.cos(2 * math.pi * f))).to(image.dtype)
        spectrum *= inverse if axis else inverse[:, None]
    coefficients = torch.fft.irfft2(spectrum, s=fine_shape)
    scale = (fine_shape[0] / padded_shape[0], fine_shape[1] / padded_shape[1])
    return ImageSpline(coefficients, scale, shape, pixel_size)


def sample_spline(
    spline: ImageSpline, geometry: TiltGeometry, tilt: int, x: np.ndarray, y: np.ndarray, out: Float[Tensor, "y x"]
) -> None:
    """Read an image at the grid of evenly spaced `x` and `y` (A, in the frame with the axis on +y), into `out`."""
    column, row = pixel_map(geometry, tilt, spline.pixel_size, spline.image_shape)
    if out.device.type == "cpu" and out.dtype == torch.float32 and out.is_contiguous():
        sample_rows(
            spline.coefficients,
            (column, row),
            (x, y),
            out,
            frame=_FRAME_PX,
            scale=spline.scale,
            image_shape=spline.image_shape,
        )
    else:
        _sample_spline_torch(spline, column, row, x, y, out)


def pixel_map(
    geometry: TiltGeometry, tilt: int, pixel_size: float, image_shape: tuple[int, int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Image column and row as (x, y, constant) coefficients of a position in A in the frame with the axis on +y."""
    angle = math.radians(geometry.z_rot_deg[tilt])
    c, s = math.cos(angle) / pixel_size, math.sin(angle) / pixel_size
    shift = geometry.shifts_angstrom[tilt] / pixel_size
    return (c, -s, shift[0] + image_shape[1] // 2), (s, c, shift[1] + image_shape[0] // 2)


def _sample_spline_torch(
    spline: ImageSpline,
    column: tuple[float, float, float],
    row: tuple[float, float, float],
    x: np.ndarray,
    y: np.ndarray,
    out: Tensor,
) -> None:
    device = out.device
    xs, ys = torch.from_numpy(x).to(device).double(), torch.from_numpy(y).to(device).double()[:, None]
    at_x = column[0] * xs + column[1] * ys + column[2]
    at_y = row[0] * xs + row[1] * ys + row[2]
    inside = (at_x >= 0) & (at_x <= spline.image_shape[1] - 1) & (at_y >= 0) & (at_y <= spline.image_shape[0] - 1)
    fine_y, fine_x = spline.coefficients.shape
    u, v = (at_x + _FRAME_PX) * spline.scale[1], (at_y + _FRAME_PX) * spline.scale[0]
    u0, v0 = u.floor(), v.floor()
    wx, wy = cubic_weights((u - u0).to(out.dtype)), cubic_weights((v - v0).to(out.dtype))
    flat = spline.coefficients.reshape(-1)
    total = torch.zeros_like(out)
    for j in range(4):
        start = (v0.long() + (j - 1)).remainder(fine_y) * fine_x
        line = torch.zeros_like(out)
        for i in range(4):
            line += wx[i] * flat[start + (u0.long() + (i - 1)).remainder(fine_x)]
        total += wy[j] * line
    out.copy_(total * inside)


def _blend_edges(image: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The image at `_FRAME_PX` from the corner of a larger periodic one, opposite edges joined by half a cosine."""
    out = image
    for dim in (0, 1):
        n = image.shape[dim]
        gap = shape[dim] - n
        ramp = (torch.arange(gap, device=image.device, dtype=torch.float64) + 1.0) / (gap + 1.0)
        blend = (0.5 - 0.5 * torch.cos(math.pi * ramp)).to(image.dtype)
        blend = blend[:, None] if dim == 0 else blend
        bridge = out.narrow(dim, n - 1, 1) * (1.0 - blend) + out.narrow(dim, 0, 1) * blend
        after = gap - _FRAME_PX
        out = torch.cat([bridge.narrow(dim, after, _FRAME_PX), out, bridge.narrow(dim, 0, after)], dim=dim)
    return out


def _resize_spectrum(spectrum: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Crop or zero-pad an rfft2 about its corner; the first sample keeps its place and Nyquist terms are dropped."""
    out = spectrum.new_zeros((new[0], new[1] // 2 + 1))
    keep_y, keep_x = (min(old[0], new[0]) + 1) // 2, (min(old[1], new[1]) + 1) // 2
    out[:keep_y, :keep_x] = spectrum[:keep_y, :keep_x]
    if keep_y > 1:
        out[-(keep_y - 1) :, :keep_x] = spectrum[-(keep_y - 1) :, :keep_x]
    return out
