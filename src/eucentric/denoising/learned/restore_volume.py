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
from eucentric.networks.apply_network import visit_network

_TILE = 256
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
    measured: Callable[[tuple[int, int, int]], Tensor],
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
            found = apply_in_tiles(restorer, ready.flip(axes), use.halo, half=half, tile=tile, on_progress=told)
            total += found.flip(axes)
            done += 1
        outputs.append(total / len(mirrors))
    raw = scale.apply(torch.stack(volumes).mean(0)) if len(volumes) > 1 else scale.apply(volumes[0])
    mean = outputs[0] if len(outputs) == 1 else 0.5 * (outputs[0] + outputs[1])
    shape = (mean.shape[0], mean.shape[1], mean.shape[2])
    region = measured(shape) if keep_measured or len(volumes) == 2 else None
    weights = None
    if len(volumes) == 2 and region is not None:
        halves = scale.apply(volumes[0]), scale.apply(volumes[1])
        weights = weigh_shells((outputs[0], outputs[1]), halves, region)
        if use.weigh_shells:
            mean = apply_weights(mean, weights.network) + apply_weights(raw, weights.raw, region)
    if keep_measured and region is not None:
        waves = torch.fft.rfftn(raw) * region + torch.fft.rfftn(mean) * (1.0 - region)
        mean = torch.fft.irfftn(waves, s=shape)
    return Restored(volume=scale.undo(mean), outputs=tuple(scale.undo(found) for found in outputs), weights=weights)


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
