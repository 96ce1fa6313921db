"""A trained network on a tomogram and its halves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.learned.params import RestorerUse
from eucentric.denoising.learned.restorer import Restorer
from eucentric.denoising.learned.standardise import measure_scale
from eucentric.denoising.learned.weigh_shells import ShellWeights, apply_weights, weigh_shells
from eucentric.denoising.trust.uncertainty import smoothed
from eucentric.fourier import fourier_crop, fourier_pad, frequency_vectors
from eucentric.networks.apply_network import visit_network

Measured = Callable[[tuple[int, int, int]], Tensor]
"""Gives the sampled region on the samples of an rfftn of a shape."""
_TILE = 256
_GRID_END, _GRID_EDGE = 0.495, 0.03  # cycles per voxel
_CROSSING = 0.65  # of the coarse Nyquist frequency: coarser detail in the wedge comes from the coarse run
_CROSSING_WIDTH = 0.3  # of that frequency
_AROUND = 2.0  # voxels, 1 sd: over which strengths are averaged
_STRONG = 4.0  # times the error
_SAMPLES = 1_000_000
_KEPT_RAW = (
    0.35  # of a tomogram without halves, where there is matter: nothing tells how much detail the network lost there
)
_MIRRORS = ((), (0,), (1,), (2,))  # each leaves a wedge about y in place, but for a pre-tilt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restored:
    """A restored tomogram, in the numbers of the raw one."""

    volume: Float[Tensor, "z y x"]
    outputs: tuple[Float[Tensor, "z y x"], ...]
    """What the network alone made of each half, or of the tomogram where there are none."""
    weights: ShellWeights | None
    """None without halves."""


def restore_volume(
    restorer: Restorer,
    volumes: tuple[Float[Tensor, "z y x"], ...],
    use: RestorerUse,
    *,
    measured: Measured,
    coarse: tuple[int, int, int] | None = None,
    keep_measured: bool = False,
    half: bool = True,
    tile: int = _TILE,
    on_progress: Callable[[float], None] | None = None,
) -> Restored:
    """Denoise or fill a tomogram.

    Parameters
    ----------
    volumes : the two halves, whose mean is restored; or the tomogram alone. Finite numbers, at a voxel size of the model's
    measured : gives the sampled region on the samples of an rfftn of a shape
    coarse : shape of the same volume with coarser voxels, at which the network sees farther: the coarse detail of the wedge is taken
        from there; None to fill at one sampling
    keep_measured : put the raw tomogram back into the sampled region: only the wedge is the network's then
    half : compute in bfloat16
    on_progress : told the part that is done

    Raises
    ------
    InputError : a volume of one value
    BackendError : no tile fits into memory
    """
    scale = measure_scale(volumes[0])
    passes = len(volumes) * (len(_MIRRORS) if use.mirrors else 1)
    done = 0

    def told(part: float) -> None:
        if on_progress is not None:
            on_progress((done + part) / passes)

    outputs = []
    for volume in volumes:
        ready, total = scale.apply(volume), torch.zeros_like(volume)
        mirrors = _MIRRORS if use.mirrors else _MIRRORS[:1]
        for axes in mirrors:
            found = apply_restorer(
                restorer, ready.flip(axes), use.halo, measured, coarse, half=half, tile=tile, on_progress=told
            )
            total += found.flip(axes)
            done += 1
        outputs.append(total / len(mirrors))
    raw = scale.apply(torch.stack(volumes).mean(0)) if len(volumes) > 1 else scale.apply(volumes[0])
    mean = outputs[0] if len(outputs) == 1 else 0.5 * (outputs[0] + outputs[1])
    shape = (mean.shape[0], mean.shape[1], mean.shape[2])
    region = measured(shape) if keep_measured or len(volumes) == 2 else None
    weights = None
    if len(volumes) == 2 and region is not None:
        one, two = outputs
        matter = where_matter(mean, 0.25 * (one - two).square())
        weights = weigh_shells(
            (matter * one, matter * two), (matter * scale.apply(volumes[0]), matter * scale.apply(volumes[1])), region
        )
        if use.weigh_shells:
            change = apply_weights(mean, weights.network - 1.0, region) + apply_weights(raw, weights.raw, region)
            mean = mean + matter * change
    elif use.weigh_shells:
        mean = mean + _KEPT_RAW * where_matter(mean, None) * (raw - mean)
    if keep_measured and region is not None:
        waves = torch.fft.rfftn(raw) * region + torch.fft.rfftn(mean) * (1.0 - region)
        mean = torch.fft.irfftn(waves, s=shape)
    return Restored(volume=scale.undo(mean), outputs=tuple(scale.undo(found) for found in outputs), weights=weights)


def where_matter(output: Float[Tensor, "z y x"], variance: Float[Tensor, "z y x"] | None) -> Float[Tensor, "z y x"]:
    """From 0 in empty ice to 1 where a network's output is far stronger than its error.

    Parameters
    ----------
    output : of middle 0
    variance : of its voxels, of which the median counts; None takes the median of the squared output: most is ice then
    """
    energy = smoothed(output.square(), _AROUND)
    error = smoothed(energy if variance is None else variance, _AROUND)
    level = _STRONG * error.reshape(-1)[:: max(1, error.numel() // _SAMPLES)].median().clamp_min(1e-12)
    return energy.square() / (energy.square() + level.square())


def apply_restorer(
    restorer: Restorer,
    volume: Float[Tensor, "z y x"],
    halo: int,
    measured: Measured,
    coarse: tuple[int, int, int] | None,
    *,
    half: bool = True,
    tile: int = _TILE,
    on_progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "z y x"]:
    """What the network makes of a volume at its scale; with `coarse`, the wedge's coarse detail as it is seen at that sampling."""
    found = apply_in_tiles(restorer, volume, halo, half=half, tile=tile, on_progress=on_progress)
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    z, y, x = frequency_vectors(shape, 1.0, device=volume.device)
    radius = (z**2 + y**2 + x**2).sqrt()
    # steps of two voxels between samplings leave a faint grid of that period, where nothing else is
    waves = torch.fft.rfftn(found) * ((_GRID_END - radius) / _GRID_EDGE).clamp(0.0, 1.0)
    if coarse is None:
        plain: Tensor = torch.fft.irfftn(waves, s=shape)
        return plain
    small = fourier_crop(volume, coarse)
    # coarser voxels hold less noise
    scale = measure_scale(small)
    far = scale.undo(apply_in_tiles(restorer, scale.apply(small), halo, half=half, tile=tile))
    crossing = _CROSSING * 0.5 * min(c / n for c, n in zip(coarse, shape, strict=True))
    width = _CROSSING_WIDTH * crossing
    share = 0.5 - 0.5 * torch.sin(torch.pi * ((radius - crossing) / width).clamp(-0.5, 0.5))
    waves += (1.0 - measured(shape)) * share * (torch.fft.rfftn(fourier_pad(far, shape)) - waves)
    out: Tensor = torch.fft.irfftn(waves, s=shape)
    return out


def apply_in_tiles(
    restorer: Restorer,
    volume: Float[Tensor, "z y x"],
    halo: int,
    *,
    half: bool = True,
    tile: int = _TILE,
    on_progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "z y x"]:
    """What the network makes of a volume at its scale."""
    out = torch.empty_like(volume)
    done = 0

    def keep(found: Tensor, where: tuple[slice, ...]) -> None:
        nonlocal done
        out[where] = found[0]
        done += found[0].numel()
        if on_progress is not None:
            on_progress(done / out.numel())

    visit_network(restorer.network, volume[None], keep, tile=tile, halo=halo, half=half)
    return out
