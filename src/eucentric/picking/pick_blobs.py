r"""Picks without a template: maxima of a difference of Gaussians.

A ball of radius r answers most to a Laplacian of Gaussian of :math:`\sigma = r / \sqrt 3`; the difference of two Gaussians whose
widths are in the ratio 1.6 is nearly that (Marr & Hildreth, Proc. R. Soc. B 207:187 (1980), doi:10.1098/rspb.1980.0020). Scores are
standard deviations of the response. What noise alone would give is counted among the maxima of the inverted response, away from
the fringes that surround every strong blob: q-values are the ratio of the two counts, in equal volumes and one added to the false
ones. Noise is taken to be as often dark as bright; other matter than that looked for is not noise, and not counted.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.compute.sizes import good_size
from eucentric.errors import InputError
from eucentric.fourier.grid import frequency_grid
from eucentric.picking.blob_params import BlobParams
from eucentric.signal.roundness import roundness
from eucentric.typing import FloatArray

_RATIO = 1.6  # of the two widths
_SIZE_STEP = 1.25  # between diameters of a range: the response falls by a few per cent at half of it
_SD_OF_MAD = 1.4826
_LEAST_VOXELS = 3.0  # across a diameter
_FRINGE = 1.25  # diameters: how far from a strong blob its fringes are
_FREE_PART = 0.05
_CURVATURE_STEP = 0.2  # diameters, between the samples that roundness is told from
_TILE_VOXELS = 2**24  # filtered at a time: a transform of 64 MiB
_HALO_SD = 5.0  # of the wider Gaussian: what lies beyond counts 4e-6
_BLOB_SD = 5.0  # hardly a maximum of noise in 10^6 independent places is as high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlobPicks:
    """Best first."""

    index_xyz: FloatArray
    """(pick, 3), voxels from 0, to a fraction."""
    scores: FloatArray
    """(pick,), standard deviations of the response."""
    q_values: FloatArray
    """(pick,), part of false picks among those at least as good."""
    diameters_angstrom: FloatArray
    """(pick,), of the size that answered most."""
    contaminated: float
    """Part of the region that was left out as contaminated."""
    rejected: "RejectedBlobs"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RejectedBlobs:
    """What was looked at and not picked, best first."""

    index_xyz: FloatArray
    """(blob, 3), voxels from 0, to a fraction."""
    scores: FloatArray
    q_values: FloatArray
    false_scores: FloatArray
    """Of blobs of the other contrast, from which q-values are told."""
    false_weight: float
    """How many times more room there was for picks than for these."""


def pick_blobs(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    params: BlobParams,
    *,
    region: Bool[Tensor, "z y x"] | None = None,
) -> BlobPicks:
    """Round things of a size in a tomogram.

    Parameters
    ----------
    volume : tomogram
    voxel_size : A
    region : where centres may lie; everywhere where None

    Raises
    ------
    InputError : voxels too coarse for the diameter, a particle larger than the volume, or nothing of the region left
    """
    diameter = params.diameter_angstrom
    if diameter < _LEAST_VOXELS * voxel_size:
        raise InputError(
            f"A diameter of {diameter:g} A is less than {_LEAST_VOXELS:g} voxels of {voxel_size:g} A. Reconstruct with finer voxels."
        )
    largest = params.largest_diameter_angstrom or diameter
    if largest > min(volume.shape) * voxel_size:
        raise InputError(
            f"A particle of {largest:g} A is larger than the tomogram, which is {min(volume.shape) * voxel_size:g} A thick."
        )
    dense = -volume.float() if params.contrast == "dark" else volume.float()
    dense = dense - dense.median()
    look = _inside(
        tuple(volume.shape), voxel_size, diameter / 2 if params.edge_angstrom is None else params.edge_angstrom
    )
    look = look.to(volume.device)
    if region is not None:
        look &= region
    total = int(look.sum())
    if not total:
        raise InputError("Nothing of the tomogram is left to pick in: the limits of z and its faces leave no voxel.")
    response, sizes = _responses(dense, voxel_size, look, diameter, largest)
    distance = params.distance_angstrom or diameter
    clean = look & ~_contamination(response, look, voxel_size, params)
    if not bool(clean.any()):
        raise InputError("All of the tomogram is near contamination. Raise its ratio, or lower its margin.")
    response = response / _spread(response[clean])
    step = max(1, round(_CURVATURE_STEP * diameter / voxel_size))
    index, scores = _round_maxima(response, clean, distance / voxel_size, step, params.min_roundness)
    free = clean & _away_from(index[scores > _BLOB_SD], clean, _FRINGE * largest / voxel_size)
    if int(free.sum()) < _FREE_PART * int(clean.sum()):
        free = clean  # too crowded: the fringes count as false, and q-values are too high
    false = _round_maxima(-response, free, distance / voxel_size, step, params.min_roundness)[1]
    weight = int(clean.sum()) / int(free.sum())
    q = q_values(scores, false, weight)
    keep = q <= params.max_q_value if params.min_score is None else scores >= params.min_score
    x, y, z = np.round(index[keep]).astype(int).T
    return BlobPicks(
        index_xyz=index[keep],
        scores=scores[keep],
        q_values=q[keep],
        diameters_angstrom=sizes.cpu().numpy()[z, y, x].astype(np.float64),
        contaminated=1.0 - int(clean.sum()) / max(1, total),
        rejected=RejectedBlobs(
            index_xyz=index[~keep],
            scores=scores[~keep],
            q_values=q[~keep],
            false_scores=false,
            false_weight=weight,
        ),
    )


def q_values(scores: FloatArray, false_scores: FloatArray, scale: float = 1.0) -> FloatArray:
    """(pick,) part of false ones among all picks at least as good, from the scores of chances to be false.

    Parameters
    ----------
    scores : (pick,)
    false_scores : of what is known to be false
    scale : how many times more chances there were for `scores`
    """
    if not len(scores):
        return np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    false = len(false_scores) - np.searchsorted(np.sort(false_scores), scores[order], side="left")
    rate = np.minimum(1.0, (scale * false + 1.0) / np.arange(1, len(scores) + 1))
    out = np.empty(len(scores))
    out[order] = np.minimum.accumulate(rate[::-1])[::-1]
    return out


def _away_from(index_xyz: FloatArray, like: Tensor, distance: float) -> Tensor:
    """Voxels farther than a distance in voxels from all of some places."""
    empty = np.ones(like.shape, dtype=bool)
    if not len(index_xyz):
        return torch.from_numpy(empty).to(like.device)
    x, y, z = np.round(index_xyz).astype(int).T
    empty[z, y, x] = False
    return torch.from_numpy(np.asarray(distance_transform_edt(empty) > distance)).to(like.device)


def _inside(shape: tuple[int, ...], voxel_size: float, margin: float) -> Tensor:
    inside = torch.zeros(shape, dtype=torch.bool)
    cut = math.ceil(margin / voxel_size)
    inside[tuple(slice(cut, n - cut) for n in shape)] = True
    return inside


def _filtered(
    dense: Tensor, voxel_size: float, widths: list[tuple[float, float]], tile_voxels: int = _TILE_VOXELS
) -> Tensor:
    """The volume under Gaussians: of each pair (sigma in A, weight) the weighted sum; beyond the volume lies its median.

    Done in tiles with a margin, so that transforms stay small.
    """
    halo = math.ceil(_HALO_SD * max(sigma for sigma, _ in widths) / voxel_size)
    out = torch.empty_like(dense)
    for inner in _tiles(tuple(dense.shape), tile_voxels):
        outer = tuple(
            slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(inner, dense.shape, strict=True)
        )
        part = dense[outer]
        shape = tuple(good_size(n + halo) for n in part.shape)
        square = frequency_grid(shape, voxel_size, device=dense.device).square()
        gain = sum(weight * torch.exp(-2.0 * math.pi**2 * sigma**2 * square) for sigma, weight in widths)
        whole = torch.fft.irfftn(torch.fft.rfftn(part, s=shape) * gain, s=shape)
        out[inner] = whole[tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))]
    return out


def _tiles(shape: tuple[int, ...], voxels: int) -> Iterator[tuple[slice, ...]]:
    """Blocks that cover a volume, cut across its longest edges until none is larger."""
    pieces = [1] * len(shape)
    while math.prod(math.ceil(n / p) for n, p in zip(shape, pieces, strict=True)) > voxels:
        longest = max(range(len(shape)), key=lambda axis: shape[axis] / pieces[axis])
        pieces[longest] += 1
    edges = [[(n * k) // p for k in range(p + 1)] for n, p in zip(shape, pieces, strict=True)]
    yield from product(*([slice(a, b) for a, b in pairwise(edge)] for edge in edges))


def _spread(values: Tensor) -> float:
    """Standard deviation of the bulk of values."""
    middle = values.median()
    return max(_SD_OF_MAD * float((values - middle).abs().median()), 1e-30)


def _contamination(response: Tensor, look: Tensor, voxel_size: float, params: BlobParams) -> Tensor:
    """Where the response is far above that of typical blobs, and what is near."""
    nothing = torch.zeros(response.shape, dtype=torch.bool, device=response.device)
    if params.contamination_ratio is None:
        return nothing
    distance = params.distance_angstrom or params.diameter_angstrom
    scores = _maxima(response, look, distance / voxel_size)[1]
    blobs = scores[scores > _BLOB_SD]
    if not len(blobs):
        return nothing
    heavy = (response > params.contamination_ratio * float(np.median(blobs))).cpu().numpy()
    if not heavy.any():
        return nothing
    margin = params.contamination_margin_angstrom
    reach = params.diameter_angstrom if margin is None else margin
    return torch.from_numpy(np.asarray(distance_transform_edt(~heavy) * voxel_size <= reach)).to(response.device)


def _responses(
    dense: Tensor, voxel_size: float, clean: Tensor, smallest: float, largest: float
) -> tuple[Tensor, Tensor]:
    """Greatest response of all sizes in standard deviations, and the diameter in A that gave it."""
    count = 1 + math.ceil(math.log(largest / smallest) / math.log(_SIZE_STEP) - 1e-9)
    best = torch.full_like(dense, -math.inf)
    lowest = torch.full_like(dense, math.inf)
    strongest, size = torch.full_like(dense, -math.inf), torch.zeros_like(dense)
    for diameter in np.geomspace(smallest, largest, count) if count > 1 else [smallest]:
        sigma = float(diameter) / 2.0 / math.sqrt(3.0)
        narrow, wide = sigma / math.sqrt(_RATIO), sigma * math.sqrt(_RATIO)
        response = _filtered(dense, voxel_size, [(narrow, 1.0), (wide, -1.0)])
        # widths in one ratio make the difference scale-normalised: it is greatest at the blob's own size
        size = torch.where(response > strongest, size.new_tensor(float(diameter)), size)
        strongest = torch.maximum(strongest, response)
        response = response / _spread(response[clean])
        best = torch.maximum(best, response)
        lowest = torch.minimum(lowest, response)
    # inverted, the response of a range of sizes is its least
    return torch.where(best.abs() >= lowest.abs(), best, lowest), size


def _maxima(response: Tensor, clean: Tensor, distance: float) -> tuple[FloatArray, FloatArray]:
    """Maxima not nearer to a higher one than a distance in voxels: x, y, z to a fraction, and values; highest first."""
    top = torch.nn.functional.max_pool3d(response[None, None], 3, 1, 1)[0, 0]
    found = ((response == top) & clean & (response > 0)).nonzero()
    values = response[tuple(found.T)].cpu().numpy().astype(np.float64)
    order = np.argsort(-values, kind="stable")
    zyx = found.cpu().numpy()[order]
    keep = _apart(zyx.astype(np.float64), distance)
    zyx, values = zyx[keep], values[order][keep]
    grid = response.cpu().numpy()
    offset = np.zeros(zyx.shape)
    for axis, n in enumerate(grid.shape):
        step = np.eye(3, dtype=np.int64)[axis]
        inner = (zyx[:, axis] > 0) & (zyx[:, axis] < n - 1)
        low, high = (grid[tuple((zyx[inner] + s * step).T)].astype(np.float64) for s in (-1, 1))
        bend = low + high - 2.0 * values[inner]
        offset[inner, axis] = np.clip(
            np.where(bend < 0, 0.5 * (low - high) / np.where(bend < 0, bend, -1.0), 0.0), -0.5, 0.5
        )
    return (zyx + offset)[:, ::-1], values


def _round_maxima(
    response: Tensor, clean: Tensor, distance: float, step: int, least: float
) -> tuple[FloatArray, FloatArray]:
    """As :func:`_maxima`, without those of sheets and edges."""
    index, values = _maxima(response, clean, distance)
    if least <= 0 or not len(values):
        return index, values
    keep = roundness(response.cpu().numpy(), index, step) >= least
    return index[keep], values[keep]


def _apart(places: FloatArray, distance: float) -> NDArray[np.bool_]:
    """Which of the places, best first, have no better one nearer than a distance."""
    alive = np.ones(len(places), dtype=bool)
    if not len(places):
        return alive
    tree = cKDTree(places)
    for row, neighbours in enumerate(tree.query_ball_tree(tree, float(np.nextafter(distance, 0.0)))):
        if alive[row]:
            alive[[n for n in neighbours if n > row]] = False
    return alive
