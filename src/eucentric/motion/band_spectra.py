"""Frames of a movie once through the FFT: spectra for the sums, and coarse images that hold the detail used to find motion."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, lcm

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError, ShapeError
from eucentric.fourier.filters import band_pass, taper_edges
from eucentric.motion.workers import Workers

SHELLS = 48
MAX_GROUPS = 48
KEEP_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSource:
    """Frames of a movie, one at a time, so that a long movie is never held whole."""

    count: int
    image_shape: tuple[int, int]
    frame: Callable[[int], Tensor]
    """Corrected frame (y, x) of any real type; asked for in ascending order, at most twice."""
    device: torch.device

    @classmethod
    def of(cls, frames: "Float[Tensor, 'frame y x'] | FrameSource") -> "FrameSource":
        """The source itself, or one that reads from a tensor."""
        if isinstance(frames, FrameSource):
            return frames
        if frames.ndim != 3:
            raise ShapeError(f"The movie has shape {tuple(frames.shape)}; expected (frame, y, x).")
        shape = (frames.shape[1], frames.shape[2])
        return cls(count=len(frames), image_shape=shape, frame=lambda i: frames[i], device=frames.device)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaddedFrames:
    """Frames on a periodic area somewhat larger than the image, mirrored at its edges."""

    source: FrameSource
    pixel_size: float
    shape: tuple[int, int]
    offset: tuple[int, int]
    """Row and column of the image's first pixel on the larger area."""
    means: Float[Tensor, " frame"]
    """Mean of every frame; taken off before the transform."""
    kept: list[Complex[Tensor, "y half_x"] | None] | None
    """Spectra of all frames where they fit the limit; otherwise frames are transformed again."""

    def padded(self, i: int) -> Float[Tensor, "y x"]:
        """Frame i without its mean, on the larger area."""
        return mirrored(self.source.frame(i), float(self.means[i]), self.shape, self.offset)

    def spectrum(self, i: int) -> Complex[Tensor, "y half_x"]:
        """rfft2 of frame i on the larger area; not to be written to."""
        known = None if self.kept is None else self.kept[i]
        return torch.fft.rfft2(self.padded(i)) if known is None else known


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseFrames:
    """Frames, or sums of neighbouring frames, with only the detail used to find motion."""

    images: Float[Tensor, "group y x"]
    spacing: tuple[float, float]
    """A per sample along y and x."""
    origin: tuple[float, float]
    """y and x, in A from the image centre, of the first sample."""
    group: Int[Tensor, " frame"]
    """Which group each frame belongs to."""


def transform_frames(
    frames: "Float[Tensor, 'frame y x'] | FrameSource",
    pixel_size: float,
    *,
    low_pass_angstrom: float = 12.0,
    margin_angstrom: float = 100.0,
    out_shape: tuple[int, int] | None = None,
    keep_bytes: int = KEEP_BYTES,
) -> tuple[PaddedFrames, CoarseFrames]:
    """One pass over the frames: their spectra, and coarse copies with detail down to `low_pass_angstrom`.

    Parameters
    ----------
    frames : (frame, y, x), or a source of frames
    pixel_size : A
    margin_angstrom : the largest displacement that the larger area must take without meeting the opposite edge
    out_shape : (y, x) of the sums where they are to be sampled more coarsely; the larger area is made to suit
    keep_bytes : spectra are kept for the sums if they need no more than this

    Raises
    ------
    ShapeError : not a stack of images, or images too small
    InputError : NaN or infinity in a frame
    """
    source = FrameSource.of(frames)
    if source.count < 1 or min(source.image_shape) < 32:
        raise ShapeError(
            f"The movie has {source.count} frames of {source.image_shape[1]} x {source.image_shape[0]} pixels; "
            "expected one frame or more of at least 32 x 32."
        )
    shape, offset = padded_area(source.image_shape, margin_angstrom / pixel_size, out_shape)
    keep = source.count * shape[0] * (shape[1] // 2 + 1) * 8 <= keep_bytes
    target = max(pixel_size, low_pass_angstrom / 2.2)
    sizes = [min(n, good_size(ceil(n * pixel_size / target))) for n in shape]
    spacing = (pixel_size * shape[0] / sizes[0], pixel_size * shape[1] / sizes[1])
    inside = [
        slice(ceil(o * pixel_size / s), int((o + n - 1) * pixel_size / s) + 1)
        for o, n, s in zip(offset, source.image_shape, spacing, strict=True)
    ]
    groups = min(source.count, MAX_GROUPS)
    group = torch.arange(source.count) * groups // source.count
    images = torch.zeros(groups, *(s.stop - s.start for s in inside), device=source.device)
    means: list[float] = []
    kept: list[Tensor | None] = []

    def transform(frame: Tensor) -> tuple[float, Tensor | None, Tensor]:
        mean = float(frame.mean(dtype=torch.float32))
        spectrum = torch.fft.rfft2(mirrored(frame, mean, shape, offset))
        small = torch.fft.irfft2(crop_spectrum(spectrum, shape, (sizes[0], sizes[1])), s=sizes)
        return mean, spectrum if keep else None, small[inside[0], inside[1]]

    with Workers(source.device) as workers:
        for i, (mean, spectrum, small) in enumerate(workers.each(transform, _frames_of(source))):
            if not math.isfinite(mean):
                raise InputError(
                    f"Frame {i + 1} holds values that are not numbers (NaN or infinity). Copy the movie again."
                )
            means.append(mean)
            images[int(group[i])] += small
            if spectrum is not None:
                kept.append(spectrum)
    padded = PaddedFrames(
        source=source,
        pixel_size=pixel_size,
        shape=shape,
        offset=offset,
        means=torch.tensor(means, dtype=torch.float64),
        kept=kept if keep else None,
    )
    first = [
        s.start * step - (o + n // 2) * pixel_size
        for s, step, o, n in zip(inside, spacing, offset, source.image_shape, strict=True)
    ]
    return padded, CoarseFrames(images=images, spacing=spacing, origin=(first[0], first[1]), group=group)


def _frames_of(source: FrameSource) -> Iterator[Tensor]:
    for i in range(source.count):
        frame = source.frame(i)
        if tuple(frame.shape) != source.image_shape:
            raise ShapeError(
                f"Frame {i + 1} is {frame.shape[-1]} x {frame.shape[-2]} pixels; expected "
                f"{source.image_shape[1]} x {source.image_shape[0]} as the first. Copy the movie again."
            )
        yield frame


def padded_area(
    shape: tuple[int, int], margin_px: float, out_shape: tuple[int, int] | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of the larger area, good for FFTs, and where the image begins on it; both suit sums of `out_shape`."""
    sizes, offsets = [], []
    for n, out in zip(shape, out_shape or shape, strict=True):
        ratio = Fraction(out, n)
        if ratio > 1:
            raise ShapeError(f"Sums of {out} pixels were asked for from frames of {n}; expected no more than that.")
        step = lcm(2 * ratio.denominator, 2)
        wanted = n + 2 * min(ceil(margin_px) // 2 + 8, n // 2 - 1)
        size = good_size(wanted)
        if size % step or (size * ratio).numerator % 2:
            size = step * good_size(ceil(wanted / step))
        size = min(size, 3 * n - 2 - n % 2)
        size -= size % step
        size = size if size >= n + 2 * step else step * ceil((n + 2 * step) / step)
        offset = (size - n) // 2
        sizes.append(size)
        offsets.append(offset - offset % ratio.denominator)
    return (sizes[0], sizes[1]), (offsets[0], offsets[1])


def mirrored(
    frame: Tensor, mean: float, shape: tuple[int, int], offset: tuple[int, int], out: Tensor | None = None
) -> Tensor:
    """An image less `mean` at `offset` on a larger area, mirrored at its edges; into `out` where given."""
    padded = torch.empty(shape, device=frame.device) if out is None else out
    (height, width), (top, left) = frame.shape, offset
    rows = padded[top : top + height]
    rows[:, left : left + width] = frame
    rows[:, left : left + width] -= mean
    right, below = shape[1] - left - width, shape[0] - top - height
    rows[:, :left] = rows[:, left + 1 : 2 * left + 1].flip(1)
    rows[:, left + width :] = rows[:, left + width - 1 - right : left + width - 1].flip(1)
    padded[:top] = padded[top + 1 : 2 * top + 1].flip(0)
    padded[top + height :] = padded[top + height - 1 - below : top + height - 1].flip(0)
    return padded


def crop_spectrum(
    spectrum: Complex[Tensor, "y half_x"], old: tuple[int, int], new: tuple[int, int]
) -> Complex[Tensor, "new_y half_new_x"]:
    """Part of an rfft2 that an image of fewer samples holds; levels are kept, the first sample keeps its place.

    What stands at the new Nyquist frequency is left out where the size shrinks to an even one: its sign would be open.
    """
    if new == old:
        return spectrum
    rows, columns = (new[0] + 1) // 2, new[1] // 2 + 1
    out = spectrum.new_zeros(new[0], columns)
    scale = new[0] * new[1] / (old[0] * old[1])
    many = columns if new[1] == old[1] or new[1] % 2 else columns - 1
    if new[0] == old[0]:
        torch.mul(spectrum[:, :many], scale, out=out[:, :many])
        return out
    low = (new[0] - 1) // 2
    torch.mul(spectrum[:rows, :many], scale, out=out[:rows, :many])
    if low:
        torch.mul(spectrum[-low:, :many], scale, out=out[-low:, :many])
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandSpectra:
    """Fourier samples inside the band: a rectangle of the half plane, so that phase ramps are products of two lines."""

    values: Complex[Tensor, "frame ky kx"]
    ky: Float[Tensor, " ky"]
    kx: Float[Tensor, " kx"]
    """1/A."""
    weight: Float[Tensor, "ky kx"]
    """How many independent complex samples each one stands for; zero outside of the band."""
    shell: Int[Tensor, "ky kx"]
    shell_frequency: Float[Tensor, " shell"]
    used: Bool[Tensor, " frame"]
    """Frames that take part."""
    own: Float[Tensor, "*patch ky kx"]
    """Power summed over the frames; displacements leave it as it is."""

    def with_values(self, values: Complex[Tensor, "frame ky kx"]) -> "BandSpectra":
        """The same samples of other frames."""
        used = torch.ones(len(values), dtype=torch.bool, device=values.device)
        return replace(self, values=values, own=summed_power(values), used=used)

    def ramps(self, shifts: Float[Tensor, "frame 2"]) -> tuple[Tensor, Tensor]:
        """Factors of rows and of columns that undo the shifts (x, y in A)."""
        real = self.ky.dtype
        down = 2 * torch.pi * shifts[:, 1:].to(real) * self.ky
        across = 2 * torch.pi * shifts[:, :1].to(real) * self.kx
        one_y, one_x = torch.ones_like(down), torch.ones_like(across)
        kind = self.values.dtype
        return torch.polar(one_y, down).to(kind), torch.polar(one_x, across).to(kind)

    def aligned(self, shifts: Float[Tensor, "frame 2"]) -> Complex[Tensor, "frame ky kx"]:
        """Spectra with the shifts undone."""
        down, across = self.ramps(shifts)
        out = self.values * down[..., None]
        out *= across[..., None, :]
        return out

    def coarser(self, samples: int) -> "BandSpectra":
        """The inner part of the band, of about so many samples."""
        rows, columns = self.values.shape[-2] // 2, self.values.shape[-1] - 1
        part = math.sqrt(samples / ((2 * rows + 1) * (columns + 1)))
        if part >= 1.0:
            return self
        rows, columns = max(4, int(rows * part)), max(4, int(columns * part))
        keep = torch.arange(-rows, rows + 1, device=self.ky.device).roll(rows + 1)
        cut = float(torch.minimum(self.ky[rows], self.kx[columns]))
        weight = self.weight[keep, : columns + 1]
        radius = torch.sqrt(self.ky[keep][:, None] ** 2 + self.kx[: columns + 1] ** 2)
        return replace(
            self,
            values=self.values[..., keep, :][..., : columns + 1],
            own=self.own[..., keep, :][..., : columns + 1],
            ky=self.ky[keep],
            kx=self.kx[: columns + 1],
            weight=torch.where(radius <= cut, weight, torch.zeros_like(weight)),
            shell=self.shell[keep, : columns + 1],
        )


def band_spectra(
    images: Float[Tensor, "frame y x"],
    spacing: tuple[float, float],
    *,
    low_pass_angstrom: float,
    high_pass_angstrom: float,
    used: Bool[Tensor, " frame"] | None = None,
) -> BandSpectra:
    """Spectra of images, tapered at their edges, between two lengths.

    Parameters
    ----------
    images : (frame, y, x)
    spacing : A per sample along y and x
    used : frames that take part; None for all
    """
    height, width = images.shape[-2:]
    shape = (good_size(height), good_size(width))
    rows, columns = (
        min(int(n * s / low_pass_angstrom * 1.1) + 1, n // 2 - 1) for n, s in zip(shape, spacing, strict=True)
    )
    values = images.new_empty((len(images), 2 * rows + 1, columns + 1), dtype=torch.complex64)
    for i, image in enumerate(images):
        tapered = taper_edges((image - image.mean())[None], max(4, min(height, width) // 16))[0]
        spectrum = torch.fft.rfft2(tapered.float(), s=shape, norm="ortho")
        values[i, : rows + 1] = spectrum[: rows + 1, : columns + 1]
        values[i, rows + 1 :] = spectrum[-rows:, : columns + 1]
    everything = torch.ones(len(images), dtype=torch.bool) if used is None else used
    return make_band(
        values,
        shape,
        spacing,
        low_pass_angstrom=low_pass_angstrom,
        high_pass_angstrom=high_pass_angstrom,
        used=everything,
        filled=height * width / (shape[0] * shape[1]),
    )


def make_band(
    values: Complex[Tensor, "*frame ky kx"],
    shape: tuple[int, int],
    spacing: tuple[float, float],
    *,
    low_pass_angstrom: float,
    high_pass_angstrom: float,
    used: Tensor,
    filled: float,
) -> BandSpectra:
    """The record for spectra cut from ``rfft2`` of images of `shape`; `filled` is the part of it that held data."""
    device = values.device
    rows = values.shape[-2] // 2
    place = torch.arange(values.shape[-2], device=device)
    place = torch.where(place > rows, place - values.shape[-2], place)
    ky = place.float() / (shape[0] * spacing[0])
    kx = torch.arange(values.shape[-1], device=device).float() / (shape[1] * spacing[1])
    radius = torch.sqrt(ky[:, None] ** 2 + kx**2)
    passed = band_pass(radius, low_pass_angstrom=low_pass_angstrom, high_pass_angstrom=high_pass_angstrom)
    inside = passed > 0.5
    shells = torch.arange(SHELLS, dtype=torch.float64, device=device)
    return BandSpectra(
        values=values,
        ky=ky,
        kx=kx,
        # a sample of the first column and its mirror image are one observation
        weight=inside.float() * filled * torch.where(kx == 0, 0.5, 1.0),
        shell=(radius * low_pass_angstrom * SHELLS).long().clamp(max=SHELLS - 1),
        shell_frequency=(shells + 0.5) / SHELLS / low_pass_angstrom,
        used=used.to(device),
        own=summed_power(values),
    )


def summed_power(values: Complex[Tensor, "*patch frame ky kx"]) -> Float[Tensor, "*patch ky kx"]:
    """Sum over frames of the power of every sample."""
    total = torch.zeros((*values.shape[:-3], *values.shape[-2:]), device=values.device)
    for frame in values.unbind(-3):
        total.addcmul_(frame.real, frame.real).addcmul_(frame.imag, frame.imag)
    return total
