"""How likely each voxel of a tomogram is of each class."""

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from eucentric.compute import free_bytes
from eucentric.errors import InputError
from eucentric.networks.apply_network import apply_network
from eucentric.networks.prepare_volume import PreparedVolume, prepare_volume
from eucentric.segmentation.learned.segmenter import Segmenter

COARSER = 1.05
"""Voxels of a tomogram may be larger than a network's by this factor."""
_VOLUMES_HELD, _MOST_BYTES = 6, 3 * 2**30
"""Of each channel at full sampling, and in all, of what is computed in one tile."""
_MIRRORS: tuple[tuple[int, ...], ...] = tuple(
    dims for count in range(4) for dims in combinations((-1, -2, -3), count)
)  # none, x, y, z, and then several at once


def class_scores(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    segmenter: Segmenter,
    *,
    mirrors: int = 4,
    region: Bool[Tensor, "z y x"] | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "class z y x"]:
    """Scores of each class at the tomogram's own sampling.

    The tomogram is brought to the network's voxel size, spectrum and contrast; the scores come back by linear interpolation, with
    voxel n // 2 in its place. A score is the sigmoid of the network's logit, averaged over mirrored copies.

    Parameters
    ----------
    volume : recorded contrast, matter dark
    voxel_size : A
    mirrors : 1 to 8 copies: as it is, mirrored along x, y and z, then along several. The missing wedge of a tilt series stays where it
        is in each
    region : where the specimen may be; contrast is measured there, and the scores are 0 elsewhere. Everywhere where None
    device : that works; that of the volume where None

    Returns
    -------
    (class, z, y, x) float32 in [0, 1], on the device of the volume. Of a network with a profile one channel more, the profile as it
    was learned: near 1 on mid-surfaces and 0 far from them, not clipped

    Raises
    ------
    InputError : voxels larger than the network's, a constant volume, an empty region, or another number of mirrors
    BackendError : no tile fits into memory
    """
    check_voxel_size(voxel_size, segmenter.voxel_size_angstrom)
    place = volume.device if device is None else torch.device(device)
    inside = None if region is None else region.to(place)
    prepared = prepare_volume(volume.to(place), voxel_size, segmenter.voxel_size_angstrom, inside)
    found = mirrored_scores(segmenter, prepared.image, mirrors)
    back = resample_back(found, prepared, (volume.shape[0], volume.shape[1], volume.shape[2]), voxel_size)
    out = back.to(volume.device)
    if region is not None:
        out *= region.to(volume.device)
    return out


def check_voxel_size(voxel_size: float, wanted: float) -> None:
    """Whether a tomogram is sampled finely enough for a network.

    Raises
    ------
    InputError : it is not
    """
    if voxel_size > wanted * COARSER:
        raise InputError(
            f"The tomogram has voxels of {voxel_size:g} A, and the network needs {wanted:g} A or finer. "
            "Reconstruct with finer voxels, or train a network on these."
        )


def mirrored_scores(
    segmenter: Segmenter, image: Float[Tensor, "z y x"], mirrors: int = 4
) -> Float[Tensor, "class z y x"]:
    """Scores of a volume that is prepared, as :func:`class_scores`, at its own sampling.

    Raises
    ------
    InputError : fewer than 1 or more than 8 mirrors
    """
    if not 1 <= mirrors <= len(_MIRRORS):
        raise InputError(f"{mirrors} mirrored copies were asked for; expected 1 to {len(_MIRRORS)}.")
    count = len(segmenter.classes)

    def finish(found: Tensor) -> Tensor:
        return torch.cat([found[:count].sigmoid(), found[count:]])

    tile = _whole_tile(segmenter, image)
    total: Tensor | None = None
    for dims in _MIRRORS[:mirrors]:
        part = apply_network(segmenter.network, image.flip(dims)[None], tile=tile, finish=finish).flip(dims)
        total = part if total is None else total + part
    assert total is not None
    return total / mirrors


def _whole_tile(segmenter: Segmenter, image: Tensor) -> int | None:
    """All in one tile where it is small enough: the overlaps of tiles take as long as the tiles. None for the usual tiles."""
    params = segmenter.network.params
    need = 4 * (_VOLUMES_HELD * params.width + params.out_channels + 1) * image.numel()
    if need > min(_MOST_BYTES, free_bytes(image.device)):
        return None
    return params.multiple * -(-max(image.shape) // params.multiple)


def resample_back(
    found: Float[Tensor, "channel z y x"], prepared: PreparedVolume, shape: tuple[int, int, int], voxel_size: float
) -> Float[Tensor, "channel z y x"]:
    """Values at the sampling of a prepared volume, at that of the tomogram: linear, 0 beyond the slabs that were cut away.

    Parameters
    ----------
    shape, voxel_size : of the tomogram
    """
    last = prepared.start_zyx[0] + found.shape[1]
    cut = (prepared.start_zyx[0] > 0, last < prepared.full_zyx[0])
    out = found
    for axis, (n, step, start, full) in enumerate(
        zip(shape, prepared.voxel_xyz[::-1], prepared.start_zyx, prepared.full_zyx, strict=True)
    ):
        places = (torch.arange(n, dtype=torch.float64) - n // 2) * (voxel_size / float(step)) + full // 2 - start
        out = _interpolated(out, places, 1 + axis, cut if axis == 0 else (False, False))
    return out


def _interpolated(values: Tensor, places: Tensor, dim: int, zero_beyond: Sequence[bool]) -> Tensor:
    """Linear along one axis; beyond its ends the last value, or 0."""
    size = values.shape[dim]
    if len(places) == size and bool((places == torch.arange(size)).all()):
        return values
    held = places.clamp(0.0, size - 1.0)
    low = held.floor().clamp_max(max(0, size - 2)).long()
    share = (held - low).to(values.dtype)
    share[(places < -0.5) & zero_beyond[0]] = torch.nan
    share[(places > size - 0.5) & zero_beyond[1]] = torch.nan
    form = [1] * values.ndim
    form[dim] = -1
    low, share = low.to(values.device), share.to(values.device).reshape(form)
    first = values.index_select(dim, low)
    second = values.index_select(dim, (low + 1).clamp_max(size - 1))
    return torch.where(share.isnan(), 0.0, torch.lerp(first, second, share))
