"""Frames to sums, each with a single interpolation, in one pass over the frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.fourier.exposure import critical_exposure
from eucentric.fourier.grid import frequency_vectors
from eucentric.motion.band_spectra import PaddedFrames, crop_spectrum, mirrored, transform_frames
from eucentric.motion.motion_field import MotionField
from eucentric.motion.workers import Workers
from eucentric.projection.displaced import read_displaced, white_prefilter
from eucentric.typing import FloatArray

_WEIGHT_ERROR = 1e-3
_SPACINGS = (32, 16, 8, 4)
_PLACE_ERROR_PX = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseWeights:
    """Exposure of every frame, for Grant and Grigorieff's weights."""

    doses: tuple[float, ...]
    """e/A^2 of every frame."""
    pre_exposure: float
    """e/A^2 before the first frame."""
    voltage_kv: float = 300.0

    def exposures(self) -> list[float]:
        """Accumulated at the middle of each frame."""
        ends = np.cumsum(self.doses) + self.pre_exposure
        return [float(v) for v in ends - 0.5 * np.array(self.doses)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Sums of the frames of a movie."""

    even: Float[Tensor, "y x"]
    """Frames 0, 2, 4..., not dose weighted."""
    odd: Float[Tensor, "y x"]
    dose_weighted: Float[Tensor, "y x"] | None
    """All frames, weighted, white noise kept white."""
    power: Float[Tensor, "ky kx"] | None
    """Power per pixel on the half plane of a square; the sum over groups of frames of the power of their sums."""

    @property
    def total(self) -> Float[Tensor, "y x"]:
        """All frames, not dose weighted."""
        return self.even + self.odd

    def scaled(self, factor: float) -> "Sums":
        """With another unit of counts."""
        if factor == 1.0:
            return self
        weighted, power = self.dose_weighted, self.power
        return Sums(
            even=self.even * factor,
            odd=self.odd * factor,
            dose_weighted=None if weighted is None else weighted * factor,
            power=None if power is None else power * factor**2,
        )


def sum_frames(
    frames: Float[Tensor, "frame y x"], shifts_angstrom: Float[Tensor, "frame 2"], pixel_size: float
) -> Float[Tensor, "y x"]:
    """Sum of frames moved back by their shifts (x, y in A), by phase ramps on mirrored borders. Not dose weighted."""
    padded, _ = transform_frames(frames, pixel_size, margin_angstrom=_reach(shifts_angstrom))
    return make_sums(padded, shifts_angstrom).total


def dose_weighted_sum(
    frames: Float[Tensor, "frame y x"],
    shifts_angstrom: Float[Tensor, "frame 2"],
    pixel_size: float,
    *,
    dose: float,
    pre_exposure: float,
    voltage_kv: float,
) -> Float[Tensor, "y x"]:
    """The same sum with every frame weighted for the dose at its middle, normalised so that white noise stays white."""
    weights = DoseWeights(doses=(dose / len(frames),) * len(frames), pre_exposure=pre_exposure, voltage_kv=voltage_kv)
    padded, _ = transform_frames(frames, pixel_size, margin_angstrom=_reach(shifts_angstrom))
    weighted = make_sums(padded, shifts_angstrom, dose_weights=weights).dose_weighted
    assert weighted is not None
    return weighted


def _reach(shifts: Tensor) -> float:
    return 2.0 * float(shifts.abs().max()) if len(shifts) else 0.0


def make_sums(
    frames: PaddedFrames,
    shifts_angstrom: Float[Tensor, "frame 2"],
    *,
    field: MotionField | None = None,
    magnification: FloatArray | None = None,
    used: Sequence[bool] | None = None,
    dose_weights: DoseWeights | None = None,
    power_groups: Sequence[int] | None = None,
    power_size: int = 512,
    out_shape: tuple[int, int] | None = None,
    release: bool = False,
) -> Sums:
    """Even, odd, dose-weighted and power-spectrum sums in one pass.

    Without `field` and `magnification` frames are moved by phase ramps, which is exact. With one of them every frame is read
    once, by a cubic B-spline, at ``M p + centre + shift + field(M p)`` for the pixel at p from the centre; the spline's
    coefficients are made so that white noise is white on average over the fractions that are read.

    Parameters
    ----------
    frames : from :func:`eucentric.motion.band_spectra.transform_frames`
    shifts_angstrom : (x, y), where the content of each frame was displaced to
    magnification : (2, 2), from true places to recorded ones about the image centre, in (x, y)
    used : frames to sum; None for all
    dose_weights : for the weighted sum; None makes none
    power_groups : group of each frame; their summed images' power spectra are added. None makes no spectrum
    power_size : side in pixels of the square on which the power is given
    release : give the memory of kept spectra back as they are used; the frames are transformed again if summed once more
    out_shape : (y, x) of the sums, no larger than the frames; the field of view and the mean level are kept

    Raises
    ------
    ShapeError, InputError : shifts, weights or groups that do not match the frames; no frame left to sum
    """
    count = frames.source.count
    _check(count, shifts_angstrom, field, used, dose_weights, power_groups)
    chosen = [i for i in range(count) if used is None or used[i]]
    mixing = None if dose_weights is None else _Mixing.of(dose_weights, chosen)
    matrix = np.eye(2) if magnification is None else np.asarray(magnification, dtype=np.float64)
    warped = field is not None or not np.array_equal(matrix, np.eye(2))
    new = _new_area(frames, out_shape)
    reader = _WarpedReader(frames, shifts_angstrom, field, matrix, chosen, release) if warped else None
    parts = _Accumulators(frames, new, mixing, power_groups, reader is not None)
    with Workers(frames.source.device) as workers:
        for start in range(0, len(chosen), max(2, workers.count)):
            batch = range(start, min(start + max(2, workers.count), len(chosen)))
            parts.add([chosen[k] for k in batch], list(batch), shifts_angstrom, reader, workers)
            if release and frames.kept is not None:
                for k in batch:
                    frames.kept[chosen[k]] = None
        return parts.finish(chosen, dose_weights, power_size, workers)


def _check(
    count: int,
    shifts: Tensor,
    field: MotionField | None,
    used: Sequence[bool] | None,
    dose_weights: DoseWeights | None,
    power_groups: Sequence[int] | None,
) -> None:
    lengths = {"shifts": len(shifts)}
    if field is not None:
        lengths["times of the field"] = len(field.times)
    if used is not None:
        lengths["frames marked as used"] = len(used)
    if dose_weights is not None:
        lengths["doses"] = len(dose_weights.doses)
    if power_groups is not None:
        lengths["groups"] = len(power_groups)
    for name, length in lengths.items():
        if length != count:
            raise ShapeError(f"{length} {name} were given for {count} frames; expected one for each.")
    if used is not None and not any(used):
        raise InputError("No frame is left to sum. Leave this movie out.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Area:
    """The periodic area of the sums and the image on it."""

    shape: tuple[int, int]
    offset: tuple[int, int]
    image_shape: tuple[int, int]
    move: tuple[float, float]  # y, x in new pixels: what keeps the sample n // 2 at the centre
    pixel_size: float


def _new_area(frames: PaddedFrames, out_shape: tuple[int, int] | None) -> _Area:
    old = frames.source.image_shape
    out = out_shape or old
    ratio = [o / n for o, n in zip(out, old, strict=True)]
    shape = [s * o // n for s, o, n in zip(frames.shape, out, old, strict=True)]
    offset = [s * o // n for s, o, n in zip(frames.offset, out, old, strict=True)]
    exact = [s * o % n == 0 for s, o, n in zip(frames.shape + frames.offset, out * 2, old * 2, strict=True)]
    if not all(exact):
        raise ShapeError(
            f"The frames were not padded for sums of {out[1]} x {out[0]} pixels; give `out_shape` there too."
        )
    move = [o // 2 - (n // 2) * r for o, n, r in zip(out, old, ratio, strict=True)]
    return _Area(
        shape=(shape[0], shape[1]),
        offset=(offset[0], offset[1]),
        image_shape=(out[0], out[1]),
        move=(move[0], move[1]),
        pixel_size=frames.pixel_size / ratio[1],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mixing:
    r"""Dose weights as a few terms: :math:`e^{-N q} \approx \sum_j l_j(N) e^{-N_j q}`, a polynomial in N through N_j.

    Few sums of frames then serve any number of frames, whatever the interpolation was.
    """

    nodes: tuple[float, ...]
    shares: FloatArray  # (frame, node)

    @classmethod
    def of(cls, weights: DoseWeights, chosen: list[int]) -> "_Mixing":
        exposures = np.array([weights.exposures()[i] for i in chosen])
        half = 0.5 * float(np.ptp(exposures))
        # the largest 1 / 2 Nc; half of the interval times it is what the polynomial has to follow
        steepest = 0.5 / float(critical_exposure(torch.tensor(10.0), voltage_kv=weights.voltage_kv))
        terms = 1
        while (half * steepest) ** terms / (2.0 ** (terms - 1) * math.factorial(terms)) > _WEIGHT_ERROR:
            terms += 1
        if terms >= len(np.unique(exposures)):
            nodes = np.unique(exposures)
        else:
            places = np.cos(math.pi * (np.arange(terms) + 0.5) / terms)
            nodes = float(exposures.min()) + half * (1.0 + places)
        shares = np.ones((len(exposures), len(nodes)))
        for j, own in enumerate(nodes):
            for other in np.delete(nodes, j):
                shares[:, j] *= (exposures - other) / (own - other)
        return cls(nodes=tuple(float(n) for n in nodes), shares=shares)


class _Accumulators:
    """Sums in the making: spectra where frames are moved by phase ramps, images where they are read by splines."""

    def __init__(
        self, frames: PaddedFrames, area: _Area, mixing: _Mixing | None, groups: Sequence[int] | None, real: bool
    ) -> None:
        self.frames, self.area, self.mixing, self.groups, self.real = frames, area, mixing, groups, real
        device = frames.source.device
        half = (area.shape[0], area.shape[1] // 2 + 1)

        def blank() -> Tensor:
            if real:
                return torch.zeros(frames.source.image_shape, device=device)
            return torch.zeros(half, dtype=torch.complex64, device=device)

        self.parity = [blank(), blank()]
        self.mixed = [] if mixing is None else [blank() for _ in mixing.nodes]
        self.grouped = None if groups is None else blank()
        self.group: int | None = None
        self.power: Tensor | None = None

    def add(
        self, batch: list[int], orders: list[int], shifts: Tensor, reader: "_WarpedReader | None", workers: Workers
    ) -> None:
        """Some frames, moved back by their shifts (x, y in A) or read where they belong."""
        if reader is not None:
            parts = list(workers.each(reader.read, batch))
            factors: list[tuple[Tensor, Tensor] | None] = [None] * len(batch)
        else:
            parts = list(workers.each(self._spectrum_of, batch))
            factors = [self._ramps(shifts[frame]) for frame in batch]
        for frame, order, part, ramps in zip(batch, orders, parts, factors, strict=True):
            if self.groups is not None:
                if self.group is not None and self.groups[frame] != self.group:
                    self._close_group()
                self.group = self.groups[frame]
            totals = [(self.parity[frame % 2], 1.0)]
            if self.mixing is not None:
                totals += [(t, float(v)) for t, v in zip(self.mixed, self.mixing.shares[order], strict=True)]
            if self.grouped is not None:
                totals.append((self.grouped, 1.0))
            workers.rows(partial(_add_rows, part, ramps, totals), len(part))

    def _spectrum_of(self, frame: int) -> Tensor:
        return crop_spectrum(self.frames.spectrum(frame), self.frames.shape, self.area.shape)

    def _ramps(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        pixel = self.area.pixel_size
        rows = _ramp(self.area.shape[0], -float(shift[1]) / pixel + self.area.move[0], half=False)
        columns = _ramp(self.area.shape[1], -float(shift[0]) / pixel + self.area.move[1], half=True)
        return rows.to(self.frames.source.device), columns.to(self.frames.source.device)

    def _close_group(self) -> None:
        assert self.grouped is not None
        spectrum = self._spectrum(self.grouped)
        power = spectrum.real.square() + spectrum.imag.square()
        self.power = power if self.power is None else self.power.add_(power)
        self.grouped.zero_()

    def _spectrum(self, total: Tensor) -> Tensor:
        """On the area of the sums, whatever the road."""
        if not self.real:
            return total
        wide = torch.fft.rfft2(mirrored(total, 0.0, self.frames.shape, self.frames.offset))
        spectrum = crop_spectrum(wide, self.frames.shape, self.area.shape)
        if any(self.area.move):
            spectrum = spectrum * _ramp(self.area.shape[0], self.area.move[0], half=False)[:, None].to(wide.device)
            spectrum = spectrum * _ramp(self.area.shape[1], self.area.move[1], half=True).to(wide.device)
        return spectrum

    def _image(self, total: Tensor) -> Tensor:
        if self.real and self.area.image_shape == self.frames.source.image_shape:
            return total
        return self._cut(self._spectrum(total))

    def _cut(self, spectrum: Tensor) -> Tensor:
        (top, left), (height, width) = self.area.offset, self.area.image_shape
        image: Tensor = torch.fft.irfft2(spectrum, s=self.area.shape)
        return image[top : top + height, left : left + width].contiguous()

    def finish(self, chosen: list[int], weights: DoseWeights | None, power_size: int, workers: Workers) -> Sums:
        """The sums, with the frames' mean levels."""
        means = self.frames.means
        power = None
        if self.groups is not None:
            self._close_group()
            assert self.power is not None
            power = _on_square(self.power, self.area.shape, power_size)
            self.grouped = self.power = None
        images = list(workers.each(self._image, self.parity))
        for parity in range(2):
            images[parity] += sum(float(means[i]) for i in chosen if i % 2 == parity)
        self.parity = []
        weighted = None
        if self.mixing is not None and weights is not None:
            weighted = self._weighted(weights, chosen, workers).add_(sum(float(means[i]) for i in chosen))
        return Sums(even=images[0], odd=images[1], dose_weighted=weighted, power=power)

    def _weighted(self, weights: DoseWeights, chosen: list[int], workers: Workers) -> Tensor:
        assert self.mixing is not None
        parts = list(workers.each(self._spectrum, self.mixed))
        self.mixed = []
        nodes, shape, device = self.mixing.nodes, self.area.shape, self.frames.source.device
        fy, fx = frequency_vectors(shape, self.area.pixel_size, device=device)

        def weigh(rows: slice) -> None:
            frequency = torch.sqrt(fy[rows] ** 2 + fx**2)
            loss = 0.5 / critical_exposure(frequency, voltage_kv=weights.voltage_kv)
            total = parts[0][rows]
            total *= torch.exp(loss * -nodes[0])
            for part, node in zip(parts[1:], nodes[1:], strict=True):
                total.addcmul_(part[rows], torch.exp(loss * -node).to(part.dtype))
            total *= _whitening(loss, weights, chosen)

        workers.rows(weigh, shape[0])
        return self._cut(parts[0])


def _add_rows(
    part: Tensor, ramps: tuple[Tensor, Tensor] | None, totals: list[tuple[Tensor, float]], rows: slice
) -> None:
    if ramps is None:
        for total, share in totals:
            total[rows].add_(part[rows], alpha=share)
        return
    moved = part[rows] * ramps[1]
    moved *= ramps[0][rows, None]
    for total, share in totals:
        total[rows].add_(moved, alpha=share)


def _whitening(loss: Tensor, weights: DoseWeights, chosen: list[int]) -> Tensor:
    """One over the root mean square of the weights, noise being in proportion to the dose; from a table."""
    highest = 0.5 / float(critical_exposure(torch.tensor(10.0), voltage_kv=weights.voltage_kv))
    table = torch.linspace(0.0, highest, 2049, dtype=torch.float64)
    exposures, doses = weights.exposures(), weights.doses
    squares = sum((doses[i] * torch.exp(-2.0 * exposures[i] * table) for i in chosen), torch.zeros_like(table))
    inverse = torch.sqrt(sum(doses[i] for i in chosen) / squares).to(loss)
    place = loss * (2048.0 / max(highest, 1e-30))
    low = place.long().clamp_(max=2047)
    return torch.lerp(inverse[low], inverse[low + 1], place - low)


def _ramp(count: int, shift: float, *, half: bool) -> Complex[Tensor, " frequency"]:
    """Factors that move content by `shift` samples along one axis; the cosine at Nyquist keeps images real."""
    make = torch.fft.rfftfreq if half else torch.fft.fftfreq
    angle = -2 * math.pi * shift * make(count, dtype=torch.float64)
    ramp = torch.polar(torch.ones_like(angle), angle)
    if count % 2 == 0:
        ramp[count // 2] = torch.cos(angle[count // 2]).to(ramp.dtype)
    return ramp.to(torch.complex64)


def _on_square(power: Tensor, shape: tuple[int, int], size: int) -> Float[Tensor, "ky kx"]:
    """Power of a large area on a smaller square: the autocorrelation cut and tapered, as averaged tiles would give it."""
    across = torch.fft.irfft2(power, s=shape) / math.prod(shape)
    halves = [min(size, n) // 2 for n in shape]
    out = across.new_zeros(size, size)
    for ys in (slice(0, halves[0]), slice(-halves[0], None)):
        for xs in (slice(0, halves[1]), slice(-halves[1], None)):
            out[ys, xs] = across[ys, xs]
    lag = torch.fft.fftfreq(size, d=1.0 / size, device=power.device).abs() / (size / 2)
    window = (0.5 + 0.5 * torch.cos(math.pi * lag)).to(out)
    square: Tensor = torch.fft.rfft2(out * window[:, None] * window).real.clamp(min=0.0)
    return square


class _WarpedReader:
    """Reads frames at displaced places."""

    def __init__(
        self,
        frames: PaddedFrames,
        shifts: Tensor,
        field: MotionField | None,
        matrix: FloatArray,
        chosen: list[int],
        release: bool,
    ) -> None:
        self.frames, self.shifts, self.field, self.matrix = frames, shifts, field, matrix
        self.may_overwrite = release or frames.kept is None
        self.image_shape = frames.source.image_shape
        pixel = frames.pixel_size
        error = 0.0 if field is None else math.sqrt(2.0) / 8.0 * pixel * field.curvature_bound()
        self.spacing = next((s for s in _SPACINGS if error * s**2 <= _PLACE_ERROR_PX), _SPACINGS[-1])
        height, width = self.image_shape
        self.rows = self.spacing * torch.arange((height - 1) // self.spacing + 2, dtype=torch.float64)
        self.columns = self.spacing * torch.arange((width - 1) // self.spacing + 2, dtype=torch.float64)
        fractions = [self._sample_fractions(i) for i in chosen]
        gains = []
        for axis, half in ((0, False), (1, True)):
            make = torch.fft.rfftfreq if half else torch.fft.fftfreq
            frequency = make(frames.shape[axis], dtype=torch.float64)
            part = torch.cat([f[1 - axis] for f in fractions])
            gains.append(white_prefilter(frequency, part).to(frames.source.device, torch.float32))
        self.gains = gains

    def _offset(self) -> list[float]:
        """(column, row) of pixel (0, 0), magnified, on the padded area."""
        centre = np.array([self.image_shape[1] // 2, self.image_shape[0] // 2], dtype=np.float64)
        corner = np.array(self.frames.offset[::-1], dtype=np.float64)
        return [float(v) for v in centre - self.matrix @ centre + corner]

    def knots(self, frame: int) -> Float[Tensor, "knot_row knot_column 2"]:
        """Displacement of a frame in pixels at the knots."""
        pixel = self.frames.pixel_size
        shift = self.shifts[frame].detach().to("cpu", torch.float64)
        knots = torch.zeros(len(self.rows), len(self.columns), 2, dtype=torch.float64) + shift
        if self.field is not None:
            x = self.columns - self.image_shape[1] // 2
            y = (self.rows - self.image_shape[0] // 2)[:, None]
            m = self.matrix
            places = torch.stack([m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y], dim=-1) * pixel
            knots = knots + self.field.at_places(frame, places)
        return knots / pixel

    def _sample_fractions(self, frame: int) -> tuple[Tensor, Tensor]:
        knots, offset, m = self.knots(frame), self._offset(), self.matrix
        x, y = self.columns, self.rows[:, None]
        u = m[0, 0] * x + m[0, 1] * y + offset[0] + knots[..., 0]
        v = m[1, 0] * x + m[1, 1] * y + offset[1] + knots[..., 1]
        return (u - u.floor()).reshape(-1), (v - v.floor()).reshape(-1)

    def read(self, frame: int) -> Float[Tensor, "y x"]:
        """The frame where it belongs."""
        spectrum = self.frames.spectrum(frame)
        spectrum = spectrum.mul_(self.gains[1]) if self.may_overwrite else spectrum * self.gains[1]
        spectrum *= self.gains[0][:, None]
        coefficients = torch.fft.irfft2(spectrum, s=self.frames.shape)
        del spectrum
        out = torch.empty(self.image_shape, device=coefficients.device)
        knots = self.knots(frame).to(out)
        read_displaced(coefficients, self.matrix, self._offset(), knots, self.spacing, out)
        return out
