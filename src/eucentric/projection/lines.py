"""From recorded images to filtered fine lines with one interpolation, and from these to any part of the volume."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.projection import cpu, reference
from eucentric.projection.bends import Bends, bends_of_reads, check_warp
from eucentric.projection.filters import LineGain, Window, angular_weights, ramp_gain, window_gain
from eucentric.projection.interpolation import HALFWAY_TAPS, halve_spacing
from eucentric.projection.layout import PHASES, LineLayout, line_layout, read_gain
from eucentric.projection.plan import COARSE, FinePlan, line_starts
from eucentric.projection.resampling import check_images, fine_samples, pixel_map, sample_lines_torch
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedLines:
    """Filtered images of a tilt series, from which the lines of any block of rows are read as they are needed."""

    samples: Float[Tensor, "tilt kept_y kept_x"]
    """Fine samples of every image."""
    tails: Float[Tensor, "tilt wide_y wide_x"]
    """What the filters spread beyond the images, on coarse samples."""
    starts: FloatArray
    """(tilt, 6), where the first line is read; see :func:`eucentric.projection.plan.line_starts`."""
    plan: FinePlan
    layout: LineLayout
    volume_shape: tuple[int, int, int]
    """(z, y, x) of the whole volume they were laid out for."""
    bends: Bends | None = None
    """Local deformation of the images, where there is any."""

    @property
    def doublings(self) -> int:
        """How often the spacing of what is read is halved along a line."""
        return round(math.log2(self.layout.phases / PHASES))


def prepare_lines(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    pixel_size: float,
    *,
    volume_shape: tuple[int, int, int],
    voxel_size: float,
    line_gain: LineGain | None = ramp_gain,
    window: Window = "sharp",
    weights: ArrayLike | None = None,
    low_pass_angstrom: float = 0.0,
    transfer: Callable[[Tensor, int], Tensor] | None = None,
    taper_px: int = 16,
    supersampling: int = 2,
    warp: ImageWarp | None = None,
) -> PreparedLines:
    r"""Filter images for :func:`back_project_lines`, which reads each once, straight onto stretched lines.

    An image has its mean removed and its edges tapered. In one Fourier transform it is low-passed for the voxel size,
    given its fall-off, any `transfer`, the gain along lines across the tilt axis, and the inverse of what later reads
    lose on average, and sampled 1.5 times as finely. The far reach of the line gain is worked out on coarse samples
    with room around the image: lines are convolved as if the image were zero everywhere outside.

    The sum over all lines is, with the ramp, the density whose line integral in units of a voxel's edge are the images.

    Parameters
    ----------
    images : (tilt, y, x)
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    volume_shape, voxel_size : (z, y, x) and A per voxel of the whole volume
    line_gain : (frequency across the tilt axis in cycles per voxel, tilt index) to a gain, the ramp by default; none
        smears every view back as it is
    window : radial fall-off in the image plane, reaching its end at the Nyquist frequency of the coarser of pixel and
        voxel
    weights : (tilt,) factors: angle in radians that each view stands for; :func:`angular_weights` where None
    low_pass_angstrom : finer detail is removed by a soft edge; 0 keeps it
    transfer : (spatial frequency in 1/A, tilt index) to a gain, e.g. the dose weight
    taper_px : width of the taper at the edges of the images, in pixels
    supersampling : 1, 2 or 4: lines hold twice as many samples per voxel. Reads between two of them leave aliases of
        detail at frequency f (cycles per voxel), outside of the sampled directions, of relative amplitude
        ``(f / (2 supersampling - f))^2``
    warp : local deformation of the images: lines are read along the curves that it makes of them

    Raises
    ------
    ShapeError, InputError : numbers that do not fit together, NaN in an image
    """
    check_images(images, geometry, pixel_size)
    factor = angular_weights(geometry.y_tilt_deg) if weights is None else np.asarray(weights, dtype=np.float64)
    if factor.shape != (len(geometry),):
        raise ShapeError(
            f"{len(geometry)} tilts and weights of shape {factor.shape} were given; expected one for each tilt."
        )
    if supersampling not in (1, 2, 4):
        raise InputError(f"A supersampling of {supersampling} was asked for; expected 1, 2 or 4.")
    check_warp(warp, len(geometry))
    layout = _layout(geometry, volume_shape, PHASES * supersampling)
    shape = (images.shape[1], images.shape[2])
    # lines are read along rows of memory
    swap = abs(float(np.sin(np.deg2rad(geometry.z_rot_deg[len(geometry) // 2])))) > math.sqrt(0.5)
    plan = FinePlan.build(shape[::-1] if swap else shape, pixel_size, voxel_size, far=True)
    prepared = PreparedLines(
        samples=_empty((len(geometry), *plan.kept_shape), images),
        tails=images.new_empty((len(geometry), *(plan.wide_shape or (0, 0)))),
        starts=np.empty((len(geometry), 6)),
        plan=plan,
        layout=layout,
        volume_shape=volume_shape,
    )
    recorded = torch.from_numpy(plan.frequency())
    pixel_edge, band = 2.0 * pixel_size * recorded, partial(band_pass, low_pass_angstrom=low_pass_angstrom)
    plain = window_gain(torch.maximum(pixel_edge, 2.0 * voxel_size * recorded), window) * band(recorded)
    fineness = 2 if layout.sheared else 1
    taper = taper_edges(torch.ones_like(images[0]), taper_px)
    edges = (taper[:, shape[1] // 2].contiguous(), taper[shape[0] // 2].contiguous())

    def prepare(t: int) -> None:
        padded = images.new_zeros(plan.padded_shape)
        # the specimen's detail is finer than it looks in a magnified image
        enlarged = float(geometry.magnification[t])
        frequency, radial = enlarged * recorded, plain
        if enlarged != 1.0:
            radial = window_gain(torch.maximum(pixel_edge, 2.0 * voxel_size * frequency), window) * band(frequency)
        if transfer is not None:
            radial = radial * transfer(frequency, t)
        line = _line_table(plan, enlarged * voxel_size, t, line_gain, layout, volume_shape[0]) * factor[t]
        along = 1.0 / torch.sinc(frequency * (voxel_size / fineness)) ** 2 if layout.sheared else None
        gains = plan.gains(images, radial, line, along)
        column, row = pixel_map(geometry, t, pixel_size, shape)
        across = (column[0] * pixel_size / enlarged, row[0] * pixel_size / enlarged)
        if swap:
            column, row, across = row, column, across[::-1]
        _place(images[t], edges, plan.frame, swap, padded)
        fine_samples(padded, plan, gains, across, prepared.samples[t], prepared.tails[t])
        pairs, step = HALFWAY_TAPS // 2, float(layout.step[t])
        first = -2 * pairs * (supersampling - 1) - layout.q0[t]
        x = (first * step * voxel_size, supersampling * step * voxel_size)
        y = (-(layout.rows // 2) * voxel_size / fineness, voxel_size / fineness)
        prepared.starts[t] = line_starts(plan, (column, row), x, y)

    if cpu.is_fast(images):
        cpu.run_items(len(geometry), prepare)
    else:
        for t in range(len(geometry)):
            prepare(t)
    if warp is None:
        return prepared
    bends = bends_of_reads(warp, plan, prepared.starts, layout.rows, _places(prepared), images, swapped=swap)
    return replace(prepared, bends=bends)


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
    layout, samples = prepared.layout, prepared.samples
    shape = (stop - start, *whole[1:])
    if not cpu.is_fast(samples):
        out = samples.new_zeros(shape)
        for t in range(len(layout)):
            reference.add_lines(out, _lines_torch(prepared, t), layout, t, whole_shape=whole, z_start=start)
        return out
    # pages of zeros are handed out as they are touched, by whichever thread touches them
    out = torch.from_numpy(np.zeros(shape, np.float32))
    for index in (np.flatnonzero(layout.stretched), np.flatnonzero(~layout.stretched)):
        if len(index):
            fill = partial(
                cpu.read_lines,
                prepared.samples,
                prepared.tails,
                prepared.starts,
                prepared.plan,
                index,
                layout,
                prepared.doublings,
                prepared.bends,
            )
            cpu.add_lines_cpu(out, layout.select(index), fill, whole_shape=whole, z_start=start)
    return out


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Room on the device of `like`; large arrays of numpy come in large pages, which are faster to touch first."""
    return torch.from_numpy(np.empty(shape, np.float32)) if cpu.is_fast(like) else like.new_empty(shape)


def _place(image: Tensor, edges: tuple[Tensor, Tensor], frame: int, swap: bool, out: Tensor) -> None:
    if cpu.is_fast(image):
        cpu.place_image(image.contiguous(), edges, frame, swap, out)
        return
    tapered = (image - image.mean()) * (edges[0][:, None] * edges[1])
    tapered = tapered.T if swap else tapered
    out[frame : frame + tapered.shape[0], frame : frame + tapered.shape[1]] = tapered


def _places(prepared: PreparedLines) -> int:
    """Places at which a whole line is read, before their spacing is halved."""
    count = prepared.layout.length
    for _ in range(prepared.doublings):
        count = (count + 1) // 2 + HALFWAY_TAPS
    return count


def _lines_torch(prepared: PreparedLines, tilt: int) -> Float[Tensor, "row sample"]:
    layout, count = prepared.layout, _places(prepared)
    bend = None if prepared.bends is None else prepared.bends.spread(tilt, layout.rows, count)
    samples, tail, start = prepared.samples[tilt], prepared.tails[tilt], prepared.starts[tilt]
    lines = sample_lines_torch(samples, tail, prepared.plan, start, layout.rows, count, bend)
    for _ in range(prepared.doublings):
        lines = halve_spacing(lines)
    return lines[:, : layout.length]


def _layout(geometry: TiltGeometry, volume_shape: tuple[int, int, int], phases: int) -> LineLayout:
    if not np.any(geometry.x_tilt_deg):
        return line_layout(geometry.y_tilt_deg, volume_shape, volume_shape[1], phases=phases)
    # sheared rows are read linearly: rows half a voxel apart, enough of them for the top and bottom of the volume
    lean = np.sin(np.deg2rad(np.abs(geometry.x_tilt_deg).max()))
    reach = volume_shape[1] // 2 + 1 + math.ceil(lean * (volume_shape[0] // 2 + 1))
    return line_layout(
        geometry.y_tilt_deg,
        volume_shape,
        4 * reach + 1,
        x_tilts_deg=geometry.x_tilt_deg,
        rows_per_voxel=2,
        phases=phases,
    )


def _line_table(
    plan: FinePlan, voxel_size: float, tilt: int, line_gain: LineGain | None, layout: LineLayout, planes: int
) -> Float[Tensor, " node"]:
    """Gain of a line, read losses undone, with its convolution cut off where the coarse image ends.

    Without that, what a periodic image wraps around would spoil the lowest frequencies and the mean.
    """
    n = plan.line_samples
    frequency = np.arange(n // 2 + 1, dtype=np.float64) * (voxel_size / (n * plan.pixel_size))
    gain = np.ones_like(frequency) if line_gain is None else np.asarray(line_gain(frequency, tilt), dtype=np.float64)
    kernel = torch.fft.irfft(torch.from_numpy(gain / read_gain(layout, tilt, planes, frequency)), n=n)
    if plan.wide_shape is not None:
        half = COARSE * min(plan.wide_shape) // 2
        kernel[half : n - half + 1] = 0.0
    table: Tensor = torch.fft.rfft(kernel).real
    return table
