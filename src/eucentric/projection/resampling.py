"""One interpolation from the recorded images to the frame of the projector: tilt axis on +y, shift removed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.grid import frequency_grid
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.warp import ImageWarp
from eucentric.projection import cpu
from eucentric.projection.bends import bends_in_angstrom, bends_of_reads, check_warp
from eucentric.projection.filters import window_gain
from eucentric.projection.interpolation import tap_transform, tap_weights
from eucentric.projection.plan import COARSE, Band, FinePlan, Gains, Line, line_starts, read_limits
from eucentric.typing import FloatArray

_SPREAD_PX = 14.0
"""Width of the smoothing that parts the far reach of a filter from the rest."""


def resample_tilts(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    pixel_size: float,
    *,
    out_shape: tuple[int, int],
    out_pixel_size: float,
    warp: ImageWarp | None = None,
) -> Float[Tensor, "tilt y x"]:
    r"""Images with the tilt axis along +y and shift, magnification and deformation removed, in one interpolation.

    ``out(u) = image(c + d(c))`` with ``c = m Rz(z_rot) u + shift``, m the magnification, d the deformation, all in A from
    the centres ``n // 2``. A specimen point p is then seen at ``u = (Ry(y_tilt) Rx(x_tilt) p)_xy``; a tilt about x is left
    to the projector (`x_tilts_deg`), since it moves rows by an amount that depends on height.

    Detail finer than the new Nyquist frequency is removed by a soft radial edge (0.9 to 1 Nyquist); the rest is read
    with a Kaiser-Bessel window of four taps from data sampled 1.5 times as finely, true to 0.3% up to 0.9 Nyquist.
    What lies outside an image is zero, so subtract the mean first.

    Parameters
    ----------
    images : (tilt, y, x)
    geometry : of the same tilts
    pixel_size : A per pixel of the images
    out_shape : (y, x)
    out_pixel_size : A per pixel of the result
    warp : local deformation of the images

    Raises
    ------
    ShapeError : images, geometry and warp that do not match
    InputError : a pixel size that is not positive; NaN or infinity in an image, with its tilt
    """
    check_images(images, geometry, pixel_size)
    if not out_pixel_size > 0:
        raise InputError(f"The new pixel size is {out_pixel_size:g} A; expected a positive number.")
    out = images.new_empty((len(geometry), *out_shape))
    x = np.arange(out_shape[1], dtype=np.float64) - out_shape[1] // 2
    y = np.arange(out_shape[0], dtype=np.float64) - out_shape[0] // 2
    check_warp(warp, len(geometry))
    frequency = None
    if out_pixel_size >= pixel_size:
        shape = spectrum_shape((images.shape[1], images.shape[2]))
        frequency = frequency_grid(shape, pixel_size, device=images.device, dtype=images.dtype)
    gain, last = None, 0.0
    for t, enlarged in enumerate(geometry.magnification):
        if frequency is not None and enlarged != last:
            gain, last = window_gain(2.0 * out_pixel_size * enlarged * frequency, "sharp"), enlarged
        spline = image_spline(images[t], pixel_size, out_pixel_size, gain)
        bent = None if warp is None else warp[t]
        sample_spline(spline, geometry, t, x * out_pixel_size, y * out_pixel_size, out[t], bent)
    return out


def coverage_of_tilts(
    geometry: TiltGeometry,
    image_shape: tuple[int, int],
    pixel_size: float,
    *,
    out_shape: tuple[int, int],
    out_pixel_size: float,
    warp: ImageWarp | None = None,
) -> Bool[Tensor, "tilt y x"]:
    """Which pixels of :func:`resample_tilts` were read inside the recorded images."""
    out = torch.empty((len(geometry), *out_shape), dtype=torch.bool)
    for t in range(len(geometry)):
        column, row = places_read(geometry, t, image_shape, pixel_size, out_shape, out_pixel_size, warp)
        out[t] = (column >= 0) & (column <= image_shape[1] - 1) & (row >= 0) & (row <= image_shape[0] - 1)
    return out


def places_read(
    geometry: TiltGeometry,
    tilt: int,
    image_shape: tuple[int, int],
    pixel_size: float,
    out_shape: tuple[int, int],
    out_pixel_size: float,
    warp: ImageWarp | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Float[Tensor, "y x"], Float[Tensor, "y x"]]:
    """Column and row of the recorded image (pixels, from 0) at which :func:`resample_tilts` reads each pixel; float64."""
    check_warp(warp, len(geometry))
    y, x = (torch.arange(n, dtype=torch.float64, device=device) - n // 2 for n in out_shape)
    maps = pixel_map(geometry, tilt, pixel_size, image_shape)
    at = [m[0] * out_pixel_size * x + m[1] * out_pixel_size * y[:, None] + m[2] for m in maps]
    if warp is not None:
        first = [
            out_pixel_size * pixel_size * (m[0] * float(x[0]) + m[1] * float(y[0])) + pixel_size * (m[2] - n // 2)
            for m, n in zip(maps, image_shape[::-1], strict=True)
        ]
        steps = [out_pixel_size * pixel_size * maps[i][k] for k in range(2) for i in range(2)]
        bends = bends_in_angstrom(warp[tilt], np.array([[*first, *steps]]), *out_shape, x)
        dense = bends.spread(0, *out_shape) / pixel_size
        at = [place + dense[..., i] for i, place in enumerate(at)]
    return at[0], at[1]


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
    """Finer samples of one image, made for reads with four taps."""

    samples: Float[Tensor, "kept_y kept_x"]
    plan: FinePlan


def spectrum_shape(image_shape: tuple[int, int]) -> tuple[int, int]:
    """Size of the periodic image whose spectrum :func:`image_spline` filters."""
    return FinePlan.build(image_shape, 1.0, 1.0).padded_shape


def image_spline(
    image: Float[Tensor, "y x"],
    pixel_size: float,
    out_pixel_size: float,
    gain: Float[Tensor, "fy fx"] | None,
) -> ImageSpline:
    """Samples of an image, filtered, for reads at a new pixel size.

    Parameters
    ----------
    gain : on the rfft2 of :func:`spectrum_shape`; must remove detail that the new pixels cannot hold
    """
    plan = FinePlan.build((image.shape[0], image.shape[1]), pixel_size, out_pixel_size)
    spectrum = torch.fft.rfft2(blend_edges(image, plan.padded_shape, plan.frame))
    if gain is not None:
        spectrum *= gain
    narrow = _filtered(spectrum, _fine_band(plan), plan.gains(image), (1.0, 0.0), inverse=_fine_factors(plan))
    out = image.new_empty(plan.kept_shape)
    _to_samples(narrow, plan, out)
    return ImageSpline(out, plan)


def sample_spline(
    spline: ImageSpline,
    geometry: TiltGeometry,
    tilt: int,
    x: FloatArray,
    y: FloatArray,
    out: Float[Tensor, "y x"],
    warp: ImageWarp | None = None,
) -> None:
    """Read an image at the grid of evenly spaced `x` and `y` (A, in the frame with the axis on +y), into `out`.

    `warp` is the deformation of this one image.
    """
    plan = spline.plan
    maps = pixel_map(geometry, tilt, plan.pixel_size, plan.image_shape)
    starts = line_starts(plan, maps, _first_and_step(x), _first_and_step(y))
    bends = None
    if warp is not None:
        bends = bends_of_reads(warp, plan, starts[None], out.shape[0], out.shape[1], out)
    if cpu.is_fast(out) and out.is_contiguous():
        cpu.sample_rows(spline.samples, starts, plan, out, bends)
    else:
        bend = None if bends is None else bends.spread(0, out.shape[0], out.shape[1])
        out.copy_(sample_lines_torch(spline.samples, None, plan, starts, out.shape[0], out.shape[1], bend))


def _first_and_step(axis: FloatArray) -> tuple[float, float]:
    return float(axis[0]), float(axis[1] - axis[0]) if len(axis) > 1 else 0.0


def fine_samples(
    padded: Float[Tensor, "frame_y frame_x"],
    plan: FinePlan,
    gains: Gains,
    across: tuple[float, float],
    out: Float[Tensor, "kept_y kept_x"],
    tail: Float[Tensor, "wide_y wide_x"] | None = None,
) -> None:
    """Filter an image and sample it finely, divided by the transform of the taps that will read it.

    Parameters
    ----------
    padded : the image in its frame, `plan.frame` pixels from the corner
    across : unit vector (x, y) across the tilt axis, in the image
    tail : filled with what the line gain spreads over any distance, on samples `COARSE` pixels apart. The image must
        fall to zero at its edges then; a filter is convolved with it as with one that is zero everywhere outside
    """
    spectrum = torch.fft.rfft2(padded)
    spread = 0.0 if tail is None else _SPREAD_PX * plan.pixel_size
    factors = _fine_factors(plan)
    narrow = _filtered(spectrum, _fine_band(plan), gains, across, spread=-spread, inverse=factors)
    if tail is not None:
        far = _far_reach(spectrum, plan, gains, across, spread, tail)
        # voxels much coarser than the pixels hold less detail than the coarse samples do
        rows = min((plan.padded_shape[0] // COARSE + 1) // 2, narrow.shape[0] // 2)
        many = min(far.shape[1] - 1, narrow.shape[1])
        far = far[:, :many] * torch.from_numpy(factors[1][:many]).to(padded)
        scale_y = torch.from_numpy(factors[0]).to(padded)[:, None]
        narrow[:rows, :many] += far[:rows] * scale_y[:rows]
        narrow[1 - rows :, :many] += far[1 - rows :] * scale_y[1 - rows :]
    _to_samples(narrow, plan, out)


def _fine_band(plan: FinePlan) -> Band:
    columns = (min(plan.padded_shape[1], plan.fine_shape[1]) + 1) // 2
    return Band(plan.padded_shape, (plan.fine_shape[0], columns), plan.pixel_size)


def _fine_factors(plan: FinePlan) -> tuple[FloatArray, FloatArray]:
    rows, columns = _inverse_taps(plan.fine_shape, math.prod(plan.fine_shape) / math.prod(plan.padded_shape))
    return rows, columns[: _fine_band(plan).new_size[1]]


def _to_samples(narrow: Complex[Tensor, "fine_y columns"], plan: FinePlan, out: Float[Tensor, "kept_y kept_x"]) -> None:
    """Inverse transform of the rows that are kept; detail fills a part of the columns only."""
    (y, x), (rows, columns) = plan.corner, plan.kept_shape
    kept = torch.fft.ifft(narrow, dim=0)[y : y + rows]
    out.copy_(torch.fft.irfft(kept, n=plan.fine_shape[1], dim=1)[:, x : x + columns])


@lru_cache(maxsize=8)
def _inverse_taps(shape: tuple[int, int], factor: float) -> tuple[FloatArray, FloatArray]:
    """What undoes the mean loss of a read, for the rows of an rfft2, times a factor, and for its columns."""
    row = np.arange(shape[0]) / shape[0]
    column = np.arange(shape[1] // 2 + 1) / shape[1]
    return factor / tap_transform(np.minimum(row, 1.0 - row)), 1.0 / tap_transform(column)


def _filtered(
    spectrum: Complex[Tensor, "y x"],
    band: Band,
    gains: Gains,
    across: tuple[float, float],
    *,
    spread: float = 0.0,
    inverse: tuple[FloatArray, FloatArray] | None = None,
) -> Complex[Tensor, "rows columns"]:
    """A spectrum times its gains, cropped or padded to the rows and columns of `band`.

    Parameters
    ----------
    spread : keep what a smoothing of this width (A) leaves, what it takes away where negative; 0 keeps all. A Gaussian of
        this standard deviation, flattened at low frequency so that what it takes away has no far reach
    inverse : further factors of the rows and columns
    """
    source, ky, kx = band.rows_and_frequencies()
    factors = inverse or (np.ones(len(ky)), np.ones(len(kx)))
    if cpu.is_fast(gains.radial):
        out = spectrum.new_empty((len(ky), len(kx)))
        cpu.filter_spectrum(spectrum, out, source, (ky, kx), across, gains, spread, factors)
        return out
    y, x = torch.from_numpy(ky).to(gains.radial)[:, None], torch.from_numpy(kx).to(gains.radial)
    nodes = gains.nodes_per_unit
    square = x * x + y * y
    gain = _read_table(gains.radial, square.sqrt() * nodes)
    gain = gain * _read_table(gains.line, (x * across[0] + y * across[1]).abs() * nodes)
    if gains.along is not None:
        gain = gain * _read_table(gains.along, (y * across[0] - x * across[1]).abs() * nodes)
    if spread:
        depth = 2.0 * (math.pi * spread) ** 2 * square
        kept = torch.exp(-depth) * (1.0 + depth * (1.0 + 0.5 * depth))
        gain = gain * (kept if spread > 0.0 else 1.0 - kept)
    gain = gain * torch.from_numpy(factors[0]).to(gain)[:, None] * torch.from_numpy(factors[1]).to(gain)
    index = torch.from_numpy(source).to(gain.device)
    chosen: Tensor = spectrum[index.clamp(min=0), : len(kx)] * (gain * (index >= 0)[:, None])
    return chosen


def _read_table(table: Float[Tensor, " node"], place: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
    n = place.long().clamp(max=len(table) - 2)
    start = table[n]
    return start + (place - n) * (table[n + 1] - start)


def _far_reach(
    spectrum: Complex[Tensor, "y x"],
    plan: FinePlan,
    gains: Gains,
    across: tuple[float, float],
    spread: float,
    tail: Float[Tensor, "wide_y wide_x"],
) -> Complex[Tensor, "coarse_y coarse_x"]:
    """The smooth part of the image, filtered with room for any reach: into `tail`; its spectrum in the frame back."""
    shape = (plan.padded_shape[0] // COARSE, plan.padded_shape[1] // COARSE)
    wide = (tail.shape[0], tail.shape[1])
    ones = torch.ones_like(gains.radial)
    smooth = _filtered(
        spectrum,
        Band(plan.padded_shape, (shape[0], shape[1] // 2 + 1), plan.pixel_size),
        replace(gains, line=ones, along=None),
        across,
        spread=spread,
    )
    coarse = tail.new_zeros(wide)
    first = ((wide[0] - shape[0]) // 2, (wide[1] - shape[1]) // 2)
    coarse[first[0] : first[0] + shape[0], first[1] : first[1] + shape[1]] = torch.fft.irfft2(smooth, s=shape)
    filtered = _filtered(
        torch.fft.rfft2(coarse),
        Band(wide, (wide[0], wide[1] // 2 + 1), COARSE * plan.pixel_size),
        replace(gains, radial=ones),
        across,
    )
    # the seam of the frame is bridged in its outermost samples
    bridge = 2
    reach = torch.fft.irfft2(filtered, s=wide)[
        first[0] + bridge : first[0] + shape[0] - bridge, first[1] + bridge : first[1] + shape[1] - bridge
    ]
    # coarse samples were left in the scale of the fine transform
    inverse = _inverse_taps(wide, 1.0 / COARSE**2)
    filtered *= torch.from_numpy(inverse[0]).to(tail)[:, None] * torch.from_numpy(inverse[1]).to(tail)
    tail.copy_(torch.fft.irfft2(filtered, s=wide))
    framed: Tensor = torch.fft.rfft2(blend_edges(reach, shape, bridge))
    return framed


def pixel_map(geometry: TiltGeometry, tilt: int, pixel_size: float, image_shape: tuple[int, int]) -> tuple[Line, Line]:
    """Image column and row as (x, y, constant) coefficients of a position in A in the frame with the axis on +y.

    Local deformation comes on top.
    """
    angle = math.radians(geometry.z_rot_deg[tilt])
    pixels = float(geometry.magnification[tilt]) / pixel_size
    c, s = math.cos(angle) * pixels, math.sin(angle) * pixels
    shift = geometry.shifts_angstrom[tilt] / pixel_size
    return (c, -s, shift[0] + image_shape[1] // 2), (s, c, shift[1] + image_shape[0] // 2)


def sample_lines_torch(
    fine: Tensor,
    tail: Tensor | None,
    plan: FinePlan,
    starts: FloatArray,
    rows: int,
    samples: int,
    bend: Float[Tensor, "row sample 2"] | None = None,
) -> Float[Tensor, "row sample"]:
    """Places of `rows` lines, evenly spaced but for a bend, in plain torch; see :func:`line_starts`."""
    along = torch.arange(samples, dtype=torch.float64, device=fine.device)
    down = torch.arange(rows, dtype=torch.float64, device=fine.device)[:, None]
    u = starts[0] + along * starts[2] + down * starts[4]
    v = starts[1] + along * starts[3] + down * starts[5]
    if bend is not None:
        u, v = u + bend[..., 0], v + bend[..., 1]
    inside, tail_map, tail_inside = read_limits(plan)
    out = read_torch(fine, u, v, inside)
    if tail is not None:
        within = _within(u, v, inside)
        beyond = read_torch(tail, u * tail_map[0] + tail_map[2], v * tail_map[1] + tail_map[3], tail_inside)
        out = torch.where(within, out, beyond)
    return out


def _within(u: Tensor, v: Tensor, inside: FloatArray) -> Tensor:
    tiny = 1e-7
    across: Tensor = (u >= inside[0] - tiny) & (u <= inside[1] + tiny)
    down: Tensor = (v >= inside[2] - tiny) & (v <= inside[3] + tiny)
    return torch.logical_and(across, down)


def read_torch(
    samples: Float[Tensor, "rows columns"],
    u: Tensor,
    v: Tensor,
    inside: FloatArray,
    weights: Callable[[Tensor], tuple[Tensor, ...]] = tap_weights,
) -> Tensor:
    """Samples at columns u and rows v by 4 x 4 taps on any device; zero outside of `inside` (first and last column, row).

    Parameters
    ----------
    weights : of the four taps, (4, ...) for the part of the way between two samples
    """
    within = _within(u, v, inside)
    height, width = samples.shape
    u0, v0 = u.floor(), v.floor()
    wx, wy = weights((u - u0).to(samples.dtype)), weights((v - v0).to(samples.dtype))
    column, row = u0.long().clamp(1, width - 3), v0.long().clamp(1, height - 3)
    flat = samples.reshape(-1)
    total = torch.zeros_like(wx[0])
    for j in range(4):
        line = torch.zeros_like(total)
        for i in range(4):
            line += wx[i] * flat[(row + j - 1) * width + column + (i - 1)]
        total += wy[j] * line
    inner: Tensor = total * within
    return inner


def blend_edges(image: Tensor, shape: tuple[int, ...], frame: int) -> Tensor:
    """The image at `frame` from the corner of a larger periodic one, opposite edges joined by half a cosine."""
    out = image
    for dim in (0, 1):
        n = image.shape[dim]
        gap = shape[dim] - n
        ramp = (torch.arange(gap, device=image.device, dtype=torch.float64) + 1.0) / (gap + 1.0)
        blend = (0.5 - 0.5 * torch.cos(math.pi * ramp)).to(image.dtype)
        blend = blend[:, None] if dim == 0 else blend
        bridge = out.narrow(dim, n - 1, 1) * (1.0 - blend) + out.narrow(dim, 0, 1) * blend
        after = gap - frame
        out = torch.cat([bridge.narrow(dim, after, frame), out, bridge.narrow(dim, 0, after)], dim=dim)
    return out
