"""The missing wedge of a tomogram filled by what is known of any specimen: one contrast, few edges, a place."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.constrained.params import ConstrainedParams
from eucentric.denoising.constrained.primal_dual import Agreement, OnProgress, Progress, solve
from eucentric.errors import InputError, ShapeError
from eucentric.fourier import fourier_crop, fourier_pad, frequency_vectors, radial_average, shell_index

_LEAST_SIZE = 8  # voxels
_COARSEST = 16  # voxels along each axis of the coarse volume at least
_MAD_TO_SIGMA = 1.4826

Transfer = Callable[[Tensor], Tensor]
"""Of frequencies in cycles per voxel: how strongly the volume shows the specimen, 1 for all of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filled:
    """A volume with its wedge filled."""

    volume: Float[Tensor, "z y x"]
    """In the unit of what was given."""
    noise_sigma: float
    """1 sd of a voxel of what was given, measured or taken."""
    background: float
    """Level of the ground, beyond which no matter was to be."""
    record: tuple[Progress, ...]
    converged: bool
    """Whether the volume changed by less than asked before iterations were spent."""


def constrained_bytes(shape: Sequence[int]) -> int:
    """Memory that :func:`fill_constrained` needs at most, the given volume and region included."""
    return 88 * math.prod(shape) + 2**28


def fill_constrained(
    volume: Float[Tensor, "z y x"],
    measured: Float[Tensor, "z y half_x"],
    params: ConstrainedParams,
    noise_sigma: float | None = None,
    mask: Float[Tensor, "z y x"] | None = None,
    *,
    noise_sample: Float[Tensor, "z y x"] | None = None,
    transfer: Transfer | None = None,
    on_progress: OnProgress | None = None,
) -> Filled:
    """The volume of least total variation among those of one contrast, inside of a support, that agree with the data.

    It agrees with the data where its distance from them in the measured region is that of the noise (Morozov's discrepancy
    principle), so that no weight is to be chosen; see the README for equations.

    Parameters
    ----------
    volume : tomogram
    measured : on the samples of its ``rfftn``, from 1 where it was measured to 0; from `sampled_region`
    noise_sigma : 1 sd of the noise of a voxel, from `estimate_noise` with halves; None takes the power beyond 0.8 of Nyquist for
        noise, which says too little where noise is weak there
    mask : 1 in the specimen, 0 where there is only ice or nothing; everywhere where None
    noise_sample : a block of noise alone, from `estimate_noise` with halves: its spectrum tells how far to trust each shell; white
        where None
    transfer : of the tomogram, e.g. the size of the CTF after flipped phases: then the bounds hold for the specimen itself, and
        the wedge is filled with its image; 1 where None

    Raises
    ------
    ShapeError : sizes that do not fit together, or too small ones
    InputError : values that are no numbers, a constant volume, a region that misses nothing or all, a wrong noise
    """
    _check(volume, measured, noise_sigma, mask, noise_sample)
    shape = tuple(volume.shape)
    given = volume.float()
    seen = measured > 0.5
    sigma = _noise_of(given, seen) if noise_sigma is None else float(noise_sigma)
    sign = 1.0 if params.matter == "bright" else -1.0
    background = _ground(given, mask)
    scaled = (given - background) * (sign / sigma)
    free = params.matter == "both" or (params.matter == "auto" and transfer is None)
    bound = -math.inf if free else -params.slack
    spectrum = _noise_spectrum(noise_sample)
    fraction = _white_level(seen, shape)
    start, records = scaled, list[Progress]()
    halves = tuple(2 * (n // 4) for n in shape)
    if params.coarse_iterations and min(halves) >= _COARSEST:
        small = fourier_crop(scaled, halves)
        inner = None if mask is None else fourier_crop(mask.float(), halves) > 0.5
        agreement = _agreement(small, _cropped(seen, shape, halves), spectrum, fraction, transfer, params, shape)
        solved, part = solve(
            small,
            agreement,
            *_bounds(inner, bound, small),
            iterations=params.coarse_iterations,
            least_change=params.least_change,
            level=2,
            on_progress=on_progress,
        )
        records += part
        # what was found of coarse detail, and the finer detail of the data
        start = scaled + fourier_pad(solved - small, shape)
    agreement = _agreement(scaled, seen, spectrum, fraction, transfer, params, shape)
    solved, part = solve(
        start,
        agreement,
        *_bounds(None if mask is None else mask > 0.5, bound, scaled),
        iterations=params.iterations,
        least_change=params.least_change,
        on_progress=on_progress,
    )
    records += part
    answer = torch.fft.rfftn(solved)
    if transfer is not None:
        answer *= agreement.transfer[agreement.shell]
    if params.hard_data:
        weight = measured.to(answer.device).clamp(0.0, 1.0)
        answer += weight * (agreement.data - answer)
    filled = torch.fft.irfftn(answer, s=shape) * (sign * sigma) + background
    return Filled(
        volume=filled,
        noise_sigma=sigma,
        background=background,
        record=tuple(records),
        converged=part[-1].change < params.least_change,
    )


def _bounds(mask: Tensor | None, bound: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each voxel; outside of the support that of the ground."""
    lowest, highest = like.new_tensor(bound), like.new_tensor(math.inf)
    if mask is None:
        return lowest, highest
    ground = like.new_zeros(())
    return torch.where(mask, lowest, ground), torch.where(mask, highest, ground)


def _agreement(
    scaled: Tensor,
    seen: Tensor,
    spectrum: Tensor | None,
    white: float,
    transfer: Transfer | None,
    params: ConstrainedParams,
    full: Sequence[int],
) -> Agreement:
    """Of a volume in units of the noise, at the voxels of the full one or at larger ones."""
    shape = tuple(scaled.shape)
    ratio = max(f / n for f, n in zip(full, shape, strict=True))
    count = max(4, max(shape) // 2)
    shell = shell_index(shape, count, device=scaled.device)
    centre = (torch.arange(count + 1, device=scaled.device) + 0.5) / (2.0 * count * ratio)  # cycles per full voxel
    # of a sample of rfftn: the variance of a voxel at this sampling, over the part of samples that are measured
    voxels = math.prod(shape)
    level = voxels * (voxels / math.prod(full)) * white
    variance = torch.full_like(centre, level)
    if spectrum is not None:
        place = (centre * 2.0 * len(spectrum) - 0.5).clamp(0.0, len(spectrum) - 1.0)
        low = place.floor().long().clamp(max=len(spectrum) - 2)
        part = place - low
        line = spectrum.to(scaled.device)
        variance *= (1.0 - part) * line[low] + part * line[low + 1]
    weights = torch.full((shape[2] // 2 + 1,), 2.0, device=scaled.device)
    weights[0] = 1.0
    if shape[2] % 2 == 0:
        weights[-1] = 1.0
    seen = seen.clone()
    seen[0, 0, 0] = False  # the mean is not told by images without contrast at zero frequency
    number = torch.zeros(count + 1, dtype=torch.float64, device=scaled.device)
    number.index_add_(0, shell.reshape(-1), (seen * weights).reshape(-1).double())
    gain = torch.ones_like(centre) if transfer is None else transfer(centre).to(centre)
    return Agreement(
        data=torch.fft.rfftn(scaled),
        measured=seen,
        shell=shell,
        transfer=gain,
        noise=number * variance,
        budget=params.misfit**2 * number * variance,
        weights=weights,
    )


def _white_level(seen: Tensor, shape: Sequence[int]) -> float:
    """Variance of measured samples over that which white noise of a voxel's spread would have in all."""
    return 1.0 / max(_part_of_samples(seen, shape), 1e-6)


def _part_of_samples(seen: Tensor, shape: Sequence[int]) -> float:
    even = shape[2] % 2 == 0
    total = 2.0 * seen.double().sum() - seen[:, :, 0].double().sum()
    if even:
        total -= seen[:, :, -1].double().sum()
    return float(total) / math.prod(shape)


def _cropped(seen: Tensor, shape: Sequence[int], small: Sequence[int]) -> Tensor:
    """The samples of a transform that those of a Fourier-cropped volume are."""
    out = seen
    for axis in (0, 1):
        index = (torch.fft.fftfreq(small[axis]) * small[axis]).round().long() % shape[axis]
        out = out.index_select(axis, index.to(seen.device))
    return out[:, :, : small[2] // 2 + 1]


def _noise_spectrum(sample: Tensor | None) -> Tensor | None:
    """Power of noise at each shell, of mean 1 over all samples; None where white."""
    if sample is None:
        return None
    shape = tuple(sample.shape)
    count = max(8, min(shape) // 2)
    block = sample.float() - sample.float().mean()
    power = torch.fft.rfftn(block).abs().square()
    line = radial_average(power, shape, count) / (float(block.square().mean()) * block.numel())
    floor = 1e-3 * float(line.max())
    return torch.clamp(line, min=floor)


def _noise_of(volume: Tensor, seen: Tensor) -> float:
    """1 sd of a voxel's noise, if it is white in the measured region and there is nothing else near Nyquist."""
    shape = tuple(volume.shape)
    kz, ky, kx = frequency_vectors(shape, 1.0, device=volume.device)
    fine = seen & ((kz.square() + kx.square() + ky.square()).sqrt() > 0.4) & (kx > 0)
    power = torch.fft.rfftn(volume - volume.mean()).abs().square()[fine]
    level = float(power.mean()) if len(power) else 0.0
    sigma = math.sqrt(level * _part_of_samples(seen, shape) / math.prod(shape))
    if not sigma > 1e-6 * float(volume.std()):
        raise InputError(
            "The volume has no noise at its finest detail: it was filtered. Give its noise, or an unfiltered volume."
        )
    return sigma


def _ground(volume: Tensor, mask: Tensor | None) -> float:
    """The level of ice: the median, which matter that fills less than half of the volume moves little."""
    values = volume.reshape(-1) if mask is None or not bool((mask > 0.5).any()) else volume[mask > 0.5]
    values = values[:: max(1, len(values) // 1_000_000)]
    return float(values.median())


def _check(
    volume: Tensor, measured: Tensor, noise_sigma: float | None, mask: Tensor | None, noise_sample: Tensor | None
) -> None:
    if volume.ndim != 3 or min(volume.shape) < _LEAST_SIZE:
        raise ShapeError(
            f"The volume has the sizes {tuple(volume.shape)}; expected z, y and x of at least {_LEAST_SIZE} voxels."
        )
    half = (*volume.shape[:2], volume.shape[2] // 2 + 1)
    if tuple(measured.shape) != half:
        raise ShapeError(
            f"The measured region has the sizes {tuple(measured.shape)}; expected {half}, those of the volume's rfftn."
        )
    if mask is not None and mask.shape != volume.shape:
        raise ShapeError(
            f"The mask has the sizes {tuple(mask.shape)}, the volume {tuple(volume.shape)}; expected the same."
        )
    if noise_sample is not None and (noise_sample.ndim != 3 or min(noise_sample.shape) < _LEAST_SIZE):
        raise ShapeError(
            f"The block of noise has the sizes {tuple(noise_sample.shape)}; expected z, y and x, 8 or more."
        )
    for name, array in (("volume", volume), ("measured region", measured), ("mask", mask), ("noise", noise_sample)):
        if array is not None and not bool(torch.isfinite(array).all()):
            raise InputError(
                f"The {name} holds values that are not numbers. Replace them by the mean, or cut their part away."
            )
    if not float(volume.double().std()) > 0:
        raise InputError("The volume is constant: all of its voxels have one value. There is nothing to fill.")
    if bool((measured > 0.5).all()):
        raise InputError("The measured region holds all of Fourier space: there is no wedge to fill.")
    if float((measured > 0.5).double().mean()) < 1e-3:
        raise InputError("The measured region is all but empty: there is nothing to fill a wedge from.")
    if mask is not None and not bool((mask > 0.5).any()):
        raise InputError("The mask is empty: no voxel is above 0.5. Give 1 where the specimen is, or no mask.")
    if noise_sigma is not None and not (math.isfinite(noise_sigma) and noise_sigma > 0):
        raise InputError(f"The noise is {noise_sigma:g}; expected 1 sd of a voxel, above 0.")
