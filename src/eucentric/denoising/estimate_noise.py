"""How strong the noise of a volume is, from its halves or from itself."""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from eucentric.denoising.shrink_wavelets import finest_detail, white_noise_share
from eucentric.errors import InputError, ShapeError

_CONSTANT = 1e-6  # differences below this part of the spread are none
_LEAK = 0.5  # halves that agree exactly in more of their voxels are no halves
_MISFIT = 0.5  # float16, another filter or mask of the whole volume leave less
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Noise:
    """The noise of a volume."""

    sigma: float
    """1 sd of a voxel, in the volume's own unit."""
    sample: Float[Tensor, "z y x"]
    """A block of noise alone, as it is in the volume: what a filter makes of it tells its thresholds."""
    block: Float[Tensor, "z y x"]
    """The volume where `sample` was taken."""
    from_halves: bool


def estimate_noise(
    volume: Float[Tensor, "z y x"],
    half1: Float[Tensor, "z y x"] | None = None,
    half2: Float[Tensor, "z y x"] | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Noise:
    """Noise of a block of a volume.

    With halves of independent noise their difference is noise alone, and on the scale of the volume (their sum or their mean)
    it has the very spread and correlation of the volume's. Without them the noise is taken as white, and its spread from
    the median of the finest wavelet detail, where tomograms hold little else.

    Parameters
    ----------
    volume : finite
    half1, half2 : the same block of the halves, at any scale common to both
    generator : of the white noise; needed without halves

    Raises
    ------
    ShapeError : halves of other sizes
    InputError : one half without the other, the same half twice, halves that do not add up to the volume, or a constant volume
    """
    spread = float(volume.double().std())
    if not spread > 0:
        raise InputError("The volume is constant: all of its voxels have one value. There is nothing to filter.")
    if (half1 is None) != (half2 is None):
        raise InputError("One half was given without the other. Give both, or none.")
    if half1 is None or half2 is None:
        part = volume[_told(~_constant(volume))]
        detail = finest_detail(part)
        detail = detail[detail.abs() > _CONSTANT * spread]
        if not len(detail):
            raise InputError(
                "The volume has no fine detail at all: it is smooth already, and there is nothing to filter."
            )
        sigma = _MAD_TO_SIGMA * float(detail.abs().median()) / white_noise_share()
        sample = torch.randn(part.shape, generator=generator, dtype=volume.dtype).to(volume.device) * sigma
        return Noise(sigma=sigma, sample=sample, block=part, from_halves=False)
    if half1.shape != volume.shape or half2.shape != volume.shape:
        raise ShapeError(
            f"The halves have shapes {tuple(half1.shape)} and {tuple(half2.shape)}, the volume {tuple(volume.shape)}; "
            "expected the same."
        )
    told = ~((half1 == half2) & _constant(half1))
    same = (half1 - half2).abs() <= _CONSTANT * half1.std()
    if not bool(told.any()) or float(same[told].double().mean()) > _LEAK:
        raise InputError(
            "The two halves are identical: they hold the same noise, which can then not be told from the specimen. "
            "Give halves of even and odd frames or tilts, or none."
        )
    box = _told(told)
    inner, difference, total = volume[box], half1[box] - half2[box], half1[box] + half2[box]
    centred, summed = inner - inner.mean(), total - total.mean()
    scale = float((centred * summed).double().sum() / (summed * summed).double().sum().clamp(min=1e-300))
    fit = float((centred - scale * summed).double().std() / centred.double().std())
    if not fit <= _MISFIT or scale <= 0:
        raise InputError(
            f"The halves do not add up to the volume: {100 * fit:.0f}% of its deviation is not theirs. Give its own halves."
        )
    sample = scale * (difference - difference.mean())
    sigma = float(sample[told[box]].double().std())
    return Noise(sigma=sigma, sample=sample, block=inner, from_halves=True)


def _constant(volume: Tensor) -> Tensor:
    """Voxels that equal a neighbour along x to the last bit: padding and what no image shows, not specimen."""
    equal = volume[..., 1:] == volume[..., :-1]
    return functional.pad(equal, (1, 0)) | functional.pad(equal, (0, 1))


def _told(told: Tensor) -> tuple[slice, slice, slice]:
    """The box whose outer planes are told for the most part; all where none are."""
    box = []
    for axis in range(3):
        planes = told.double().mean([a for a in range(3) if a != axis])
        kept = (planes > 0.5 * planes.max()).nonzero().flatten()
        box.append(slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) else slice(None))
    return box[0], box[1], box[2]
