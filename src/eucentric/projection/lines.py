"""From recorded images to filtered fine lines with one interpolation, and from these to any part of the volume."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import ShapeError
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.tilt import TiltGeometry
from eucentric.projection import reference
from eucentric.projection.cpu import add_lines_cpu
from eucentric.projection.filters import Window, angular_weights, ramp_filter, window_gain
from eucentric.projection.layout import PHASES, LineLayout, line_layout
from eucentric.projection.resampling import check_images, image_spline, pixel_map, sample_spline, spectrum_shape
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedLines:
    """Filtered lines of a tilt series, ready to be read by every voxel with two taps."""

    lines: Float[Tensor, "tilt row sample"]
    """Fine lines; samples of the two phases interleaved."""
    layout: LineLayout
    volume_shape: tuple[int, int, int]
    """(z, y, x) of the whole volume they were laid out for."""


def prepare_lines(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    pixel_size: float,
    *,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    ramp: bool = True,
    window: Window = "sharp",
    weights: ArrayLike | None = None,
    low_pass_angstrom: float = 0.0,
    transfer: Callable[[Tensor, int], Tensor] | None = None,
    taper_px: int = 16,
) -> PreparedLines:
    r"""Filter images and read each once, straight onto the stretched lines of :func:`back_project_lines`.

    An image has its mean removed and its edges tapered; in one Fourier transform it is low-passed for the voxel size,
    given its fall-off and any `transfer`, and sampled twice as finely; a cubic B-spline then reads it along rows
    across the tilt axis, ``cos(tilt)`` voxels apart (rotation, shift, scale and stretch in one step). The rows take
    the sampled ramp, the angle each view stands for, and the inverse of what two-tap reads lose on average, and come
    out sampled twice as finely again.

    The sum over all lines is the density whose line integral in units of a voxel's edge are the images.

    Parameters
    ----------
    images : (tilt, y, x)
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    volume_shape, voxel_size : (z, y, x) and A per voxel of the whole volume
    ramp : weight by the ramp; without it every view is smeared back as it is
    window : radial fall-off in the image plane, reaching its end at the Nyquist frequency of the coarser of pixel and
        voxel
    weights : (tilt,) angle in radians that each view stands for; :func:`angular_weights` where None
    low_pass_angstrom : finer detail is removed by a soft edge; 0 keeps it
    transfer : (spatial frequency in 1/A, tilt index) to a gain, e.g. the dose weight
    taper_px : width of the taper at the edges of the images, in pixels
    """
    check_images(images, geometry, pixel_size)
    factor = angular_weights(geometry.y_tilt_deg) if weights is None else np.asarray(weights, dtype=np.float64)
    if factor.shape != (len(geometry),):
        raise ShapeError(
            f"{len(geometry)} tilts and weights of shape {factor.shape} were given; expected one for each tilt."
        )
    layout = _layout(geometry, volume_shape)
    fineness = 2 if layout.sheared else 1
    nyquist = 0.5 / max(pixel_size, voxel_size)
    lines = images.new_empty((len(geometry), layout.rows, layout.length))
    rows = (np.arange(layout.rows) - layout.rows // 2) * (voxel_size / fineness)
    shape = spectrum_shape((images.shape[1], images.shape[2]))
    frequency = frequency_grid(shape, pixel_size, device=images.device, dtype=images.dtype)
    fall_off = window_gain(frequency / nyquist, window) * band_pass(frequency, low_pass_angstrom=low_pass_angstrom)
    for t in range(len(geometry)):
        gain = fall_off if transfer is None else fall_off * transfer(frequency, t)
        image = taper_edges(images[t] - images[t].mean(), taper_px)
        spline = image_spline(image, pixel_size, voxel_size, gain)
        spacing = abs(float(layout.step[t])) * PHASES
        half = _half_width(geometry, t, pixel_size, (images.shape[1], images.shape[2]), voxel_size * spacing)
        plain = images.new_empty((layout.rows, 2 * half + 1))
        sign = math.copysign(1.0, layout.step[t])
        sample_spline(spline, geometry, t, sign * np.arange(-half, half + 1) * voxel_size * spacing, rows, plain)
        fine = _filter_and_refine(
            plain, spacing if ramp else None, factor[t], partial(_read_loss, layout, t, volume_shape[0])
        )
        _place(fine, PHASES * (fine.shape[-1] // PHASES // 2), int(layout.q0[t]), lines[t])
    return PreparedLines(lines=lines, layout=layout, volume_shape=volume_shape)


def back_project_lines(prepared: PreparedLines, *, z_range: tuple[int, int] | None = None) -> Float[Tensor, "z y x"]:
    """Sum prepared lines over all tilts: the whole volume, or its planes from ``z_range[0]`` up to ``z_range[1]``.

    Planes made apart equal those of the whole within rounding.
    """
    whole = prepared.volume_shape
    start, stop = z_range or (0, whole[0])
    if not 0 <= start < stop <= whole[0]:
        raise ShapeError(
            f"Planes {start} to {stop} were asked for; expected some of the {whole[0]} planes of the volume."
        )
    layout, lines = prepared.layout, prepared.lines
    out = lines.new_zeros((stop - start, *whole[1:]))
    if lines.device.type != "cpu" or lines.dtype != torch.float32:
        for t in range(len(layout)):
            reference.add_lines(out, lines[t], layout, t, whole_shape=whole, z_start=start)
        return out
    for index in (np.flatnonzero(layout.stretched), np.flatnonzero(~layout.stretched)):
        if len(index):
            phases = PHASES if layout.stretched[index[0]] else 1
            fill = partial(_split, lines.numpy(), index, phases)
            add_lines_cpu(out, layout.select(index), fill, whole_shape=whole, z_start=start)
    return out


def _split(lines: np.ndarray, index: np.ndarray, phases: int, start: int, stop: int, out: np.ndarray) -> None:
    for i, t in enumerate(index):
        for phase in range(phases):
            out[i, :, phase] = lines[t, start:stop, phase::phases]


def _layout(geometry: TiltGeometry, volume_shape: tuple[int, int, int]) -> LineLayout:
    if not np.any(geometry.x_tilt_deg):
        return line_layout(geometry.y_tilt_deg, volume_shape, volume_shape[1])
    # sheared rows are read linearly: rows half a voxel apart, enough of them for the top and bottom of the volume
    lean = np.sin(np.deg2rad(np.abs(geometry.x_tilt_deg).max()))
    reach = volume_shape[1] // 2 + 1 + math.ceil(lean * (volume_shape[0] // 2 + 1))
    return line_layout(
        geometry.y_tilt_deg, volume_shape, 4 * reach + 1, x_tilts_deg=geometry.x_tilt_deg, rows_per_voxel=2
    )


def _half_width(
    geometry: TiltGeometry, tilt: int, pixel_size: float, image_shape: tuple[int, int], spacing: float
) -> int:
    """Samples from the axis to the farthest corner of the image, across the axis."""
    column, row = pixel_map(geometry, tilt, pixel_size, image_shape)
    corners = np.array([(x - column[2], y - row[2]) for x in (0, image_shape[1] - 1) for y in (0, image_shape[0] - 1)])
    across = corners @ np.array([column[0], row[0]]) * pixel_size**2
    return max(1, math.ceil(float(np.abs(across).max()) / spacing))


def _read_loss(layout: LineLayout, tilt: int, planes: int, frequency: FloatArray) -> FloatArray:
    """Mean gain of the two-tap reads of a tilt at frequencies from 0 to 1/4 cycle per fine sample."""
    if not layout.stretched[tilt] or layout.sheared:
        return np.asarray(np.sinc(frequency) ** 2, dtype=np.float64)
    part = (layout.qz[tilt] * (np.arange(planes) - planes // 2)) % 1.0
    omega = np.linspace(0.0, 0.5 * math.pi, 129)
    gain = (1.0 - part[:, None]) * np.cos(part[:, None] * omega) + part[:, None] * np.cos((1.0 - part[:, None]) * omega)
    return np.asarray(np.interp(2.0 * math.pi * frequency, omega, gain.mean(0)), dtype=np.float64)


def _filter_and_refine(
    lines: Float[Tensor, "row sample"],
    spacing: float | None,
    weight: float,
    loss: Callable[[FloatArray], FloatArray],
) -> Float[Tensor, "row fine"]:
    """Lines sampled `PHASES` times as finely, the centre kept in the middle; with the ramp of their spacing, if any."""
    width = lines.shape[-1]
    n = good_size(2 * width)
    margin = n // 2 - width // 2
    gain = torch.ones(n // 2 + 1, dtype=torch.float64)
    if spacing is not None:
        gain = ramp_filter(n, spacing=spacing, dtype=torch.float64)
    gain *= weight / torch.from_numpy(loss(np.fft.rfftfreq(n) / PHASES))
    gain[-1] = 0.0
    padded = torch.nn.functional.pad(lines, (margin, n - width - margin))
    spectrum = torch.fft.rfft(padded) * (PHASES * gain).to(device=lines.device, dtype=lines.dtype)
    fine: Tensor = torch.fft.irfft(spectrum, n=PHASES * n)
    return fine


def _place(fine: Tensor, fine_centre: int, centre: int, out: Tensor) -> None:
    """Copy lines so that their sample `fine_centre` falls on sample `centre` of `out`; zero where there is none."""
    out.zero_()
    shift = centre - fine_centre
    first, last = max(0, shift), min(out.shape[-1], shift + fine.shape[-1])
    out[:, first:last] = fine[:, first - shift : last - shift]
