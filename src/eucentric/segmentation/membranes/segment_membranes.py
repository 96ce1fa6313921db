"""Membranes of a tomogram without training."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.segmentation.membranes.bilayer_filter import (
    coarse_and_clipped,
    filter_bilayers,
    with_random_phases,
    working_shape,
)
from eucentric.segmentation.membranes.mid_surfaces import (
    crest_of_votes,
    enclosed_places,
    level_of,
    stick_strength,
)
from eucentric.segmentation.membranes.sheets import Crest, Membranes, painted_sheets
from eucentric.segmentation.membranes.vote import cast_votes
from eucentric.segmentation.params import MembraneParams
from eucentric.signal.finer_grid import onto_grid
from eucentric.signal.ridges import curvatures_at, on_crest, sheet_strength
from eucentric.signal.symmetric_tensors import eigenvectors_of, extreme_eigenvalues
from eucentric.signal.tiles import quantile
from eucentric.typing import FloatArray

_NOISE_PASSES = 0.99  # of the voxels of noise are weaker than a voter
_SEEN = 0.95  # of the voxels of noise are weaker than what supports a sheet
_FAINT = 0.02  # of the strongest: what is weaker is not looked at
_LEAST_SIDE = 16  # voxels


def segment_membranes(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    params: MembraneParams,
    *,
    noise: Float[Tensor, "z y x"] | None = None,
    counted: Tensor | None = None,
) -> Membranes:
    """Find bilayers: filter, vote, levels by noise, connected mid-surfaces, places between voxels.

    Parameters
    ----------
    volume : tomogram
    voxel_size : A
    params : settings
    noise : a volume of as strong noise without signal, such as half the difference of two half volumes; None takes the volume with
        random phases, which holds the power of the specimen too and so is on the safe side
    counted : (z, y, x) bool: places to look at; None all

    Raises
    ------
    ShapeError : not a volume, a noise or mask of another shape
    InputError : too small, no contrast, values that are not finite, a voxel size too coarse for a bilayer, or nothing counted
    """
    _check(volume, voxel_size, params, noise, counted)
    original = (volume.shape[0], volume.shape[1], volume.shape[2])
    shape = working_shape(original, voxel_size, params.thickness_angstrom)
    step = (original[0] / shape[0], original[1] / shape[1], original[2] / shape[2])
    voxels = (step[0] * voxel_size, step[1] * voxel_size, step[2] * voxel_size)
    voxel = float(np.prod(voxels)) ** (1.0 / 3.0)
    bright = params.contrast == "bright"
    dense = coarse_and_clipped(volume, shape, bright=bright)
    if noise is None:
        control = with_random_phases(dense, params.seed)
    else:
        control = coarse_and_clipped(noise, shape, bright=bright) * _ratio(noise, volume)
    mask = None if counted is None else _on_grid(counted, shape)
    sigma = params.bridge_angstrom / voxel
    quiet = filter_bilayers(control, voxels, params.thickness_angstrom)
    del control
    direct = _direct(quiet, mask)
    levels = (quantile(direct, _SEEN), max(quantile(direct, _NOISE_PASSES), float(torch.finfo(direct.dtype).tiny)))
    middle = _middle(shape, math.ceil(2.0 * sigma))
    part = math.prod(shape) / quiet[middle].numel()
    chance = _voted(quiet[middle], direct[middle], sigma, levels[1], None if mask is None else mask[middle])[1][2]
    filtered = filter_bilayers(dense, voxels, params.thickness_angstrom)
    del quiet, dense
    direct = _direct(filtered, mask)
    strength, (places, normals, found) = _voted(filtered, direct, sigma, levels[1], mask)
    strong, weak = found.cpu().numpy(), chance.cpu().numpy()
    # one chance patch holds as many places as votes reach each other
    patch = math.pi * sigma**2 / part
    low = level_of(strong, weak, params.low_false_share / part, more=patch)
    high = max(low, level_of(strong, weak, params.high_false_share / part, more=1.0 / part))
    chosen = found >= low
    at = places[chosen]
    middles, across = at.double().cpu().numpy(), normals[:, chosen].T.double().cpu().numpy()
    across /= np.linalg.norm(across, axis=1, keepdims=True).clip(1e-12)
    marks, seen = strong[chosen.cpu().numpy()], _strongest_near(direct, at, across) > levels[0]
    around = enclosed_places(middles, seen, 2.0 * sigma)
    middles, across, marks, seen = middles[around], across[around], marks[around], seen[around]
    crest = Crest(places=middles, normals=across, strengths=np.asarray(marks / high, dtype=np.float64), seen=seen)
    return painted_sheets(
        crest,
        filtered,
        onto_grid(strength, original) / high,
        voxel_size,
        thickness_angstrom=params.thickness_angstrom,
        min_area_angstrom2=params.min_area_angstrom2,
        min_support=params.min_support,
    )


def _check(
    volume: Tensor, voxel_size: float, params: MembraneParams, noise: Tensor | None, counted: Tensor | None
) -> None:
    if volume.ndim != 3:
        raise ShapeError(f"An array of shape {tuple(volume.shape)} was given; expected a volume (z, y, x).")
    for what, other in (("noise", noise), ("mask", counted)):
        if other is not None and other.shape != volume.shape:
            raise ShapeError(
                f"A {what} of {tuple(other.shape)} voxels was given for {tuple(volume.shape)}; expected the same."
            )
    if min(volume.shape) < _LEAST_SIDE:
        raise InputError(f"A volume of {tuple(volume.shape)} voxels was given; expected {_LEAST_SIDE} at least a side.")
    if not (math.isfinite(voxel_size) and voxel_size > 0):
        raise InputError(f"A voxel size of {voxel_size:g} A was given; expected a positive number. Give the true one.")
    if voxel_size > params.thickness_angstrom:
        raise InputError(
            f"Voxels of {voxel_size:g} A do not show membranes of {params.thickness_angstrom:g} A; expected finer ones. "
            "Reconstruct at 15 A or less, or check the voxel size."
        )
    if counted is not None and not bool(counted.any()):
        raise InputError("The mask leaves no voxel to look at. Give one that is true where membranes may be.")


def _ratio(noise: Tensor, volume: Tensor) -> float:
    """Of their standard deviations: both are brought to 1 before they are compared."""
    return float(noise.float().std() / volume.float().std())


def _on_grid(counted: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A mask on the coarser grid, by the nearest voxel about n // 2."""
    for axis, n in enumerate(shape):
        old = counted.shape[axis]
        index = torch.round((torch.arange(n, device=counted.device) - n // 2) * (old / n)).long() + old // 2
        counted = counted.index_select(axis, index.clamp(0, old - 1))
    return counted.bool()


def _middle(shape: tuple[int, int, int], halo: int) -> tuple[slice, ...]:
    """Half of each side in y and x, or several reaches of a vote where that is more: enough noise to set levels by."""
    wide = [shape[0], *(min(n, max(n // 2, 6 * halo)) for n in shape[1:])]
    return tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(shape, wide, strict=True))


def _direct(filtered: Tensor, mask: Tensor | None) -> Tensor:
    direct = sheet_strength(filtered, alone=True)
    return direct if mask is None else torch.where(mask, direct, torch.zeros_like(direct))


def _voted(
    filtered: Tensor, direct: Tensor, sigma: float, least: float, mask: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Strength of the votes of the crests that are stronger than `least`; crests of that."""
    voters = torch.nonzero(direct[1:-1, 1:-1, 1:-1] > least) + 1  # curvatures need neighbours
    tensor = curvatures_at(filtered, voters)
    normals = eigenvectors_of(tensor, extreme_eigenvalues(tensor)[1])
    kept = on_crest(direct, voters, normals)
    voters, normals = voters[kept], normals[:, kept]
    here = direct[tuple(voters.T)]
    shape = (direct.shape[0], direct.shape[1], direct.shape[2])
    # sure places count alike, however strong: gold must not outvote membranes
    votes = cast_votes(shape, voters, normals, here / (here + least), sigma)
    strength = stick_strength(votes)
    if mask is not None:
        strength = torch.where(mask, strength, torch.zeros_like(strength))
    return strength, crest_of_votes(votes, strength, _FAINT * float(strength.max()))


def _strongest_near(direct: Tensor, places: Tensor, normals: FloatArray) -> FloatArray:
    """The greatest strength within a voxel along the normal."""
    size = torch.tensor(direct.shape, device=direct.device) - 1
    out = np.full(len(places), -math.inf)
    for move in (-1.0, 0.0, 1.0):
        to = (places + torch.round(torch.from_numpy(move * normals).to(places.device)).long()).clamp(min=0)
        out = np.maximum(out, direct[tuple(torch.minimum(to, size).T)].double().cpu().numpy())
    return out
