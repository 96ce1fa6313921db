"""From places on crests to membranes: whole pieces, mid-surfaces between voxels, labels as thick as a bilayer."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from eucentric.segmentation.membranes.mid_surfaces import agreeing_normals, linked_pieces, onto_ridge, paint_sheets
from eucentric.simulation.structures import BILAYER_ANGSTROM, MEMBRANE_HALF_ANGSTROM
from eucentric.typing import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Membranes:
    """Sheets of a tomogram."""

    score: Float[Tensor, "z y x"]
    """How surely a membrane is there: of the votes, over the level that a sheet must reach; of a network, the probability."""
    labels: Int[Tensor, "z y x"]
    """int32, 0 outside; one number a connected mid-surface, the largest first, painted as thick as a bilayer is."""
    places_px: FloatArray
    """(n, 3), x, y, z in voxels: mid-surfaces, about one place per squared voxel of the grid that was worked on."""
    normals: FloatArray
    """(n, 3) unit vectors x, y, z; they agree within a sheet and point away from its middle on the whole."""
    numbers: NDArray[np.int32]
    """(n,), of the sheets, as in `labels`."""
    strengths: FloatArray
    """(n,), score at each place over what a sheet must reach."""
    seen: NDArray[np.bool_]
    """(n,): whether the tomogram itself shows a sheet there above noise; elsewhere it was bridged; of a network, whether the score is
    above its threshold."""
    areas_angstrom2: FloatArray
    """(sheet,), in the order of their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crest:
    """Places on the crests of a volume that is bright where sheets are, in its voxels."""

    places: FloatArray
    """(n, 3), z, y, x."""
    normals: FloatArray
    """(n, 3), z, y, x, of length 1."""
    strengths: FloatArray
    """(n,), over what a sheet must reach somewhere."""
    seen: NDArray[np.bool_]


def painted_sheets(
    crest: Crest,
    ridge: Float[Tensor, "z y x"],
    score: Float[Tensor, "fine_z fine_y fine_x"],
    voxel_size: float,
    *,
    thickness_angstrom: float,
    min_area_angstrom2: float,
    min_support: float,
) -> Membranes:
    """Whole pieces of a crest, brought onto the ridge between voxels and painted into the tomogram.

    Parameters
    ----------
    ridge : bright where sheets are, on the grid of the crest; voxel ``n // 2`` is the same place on both grids
    score : of the result, on the grid of the tomogram
    voxel_size : A, of the tomogram
    thickness_angstrom : of a membrane, between its heads
    min_area_angstrom2, min_support : of a piece, and the part of it that must be seen
    """
    original, shape = (score.shape[0], score.shape[1], score.shape[2]), tuple(ridge.shape)
    scale = np.array(original) / np.array(shape)
    voxel = float(np.prod(scale)) ** (1.0 / 3.0) * voxel_size
    rows, piece = _whole_pieces(crest, voxel, min_area_angstrom2, min_support)
    middles, across = crest.places[rows], crest.normals[rows]
    middles = onto_ridge(
        ridge,
        middles,
        across,
        piece,
        reach_px=0.5 * thickness_angstrom / voxel,
        along_px=2.0 * thickness_angstrom / voxel,
    )
    if len(middles):
        across = agreeing_normals(middles, across, piece)
    fine = (middles - np.array(shape) // 2) * scale + np.array(original) // 2
    numbers = np.asarray(piece + 1, dtype=np.int32)
    labels = paint_sheets(
        original,
        fine,
        across,
        numbers,
        half_px=MEMBRANE_HALF_ANGSTROM * thickness_angstrom / BILAYER_ANGSTROM / voxel_size,
        spacing_px=1.5 * float(scale.max()),
    )
    areas = np.bincount(piece, minlength=int(piece.max()) + 1 if len(piece) else 0) * voxel**2
    return Membranes(
        score=score,
        labels=torch.from_numpy(labels).to(score.device),
        places_px=fine[:, ::-1].copy(),
        normals=across[:, ::-1].copy(),
        numbers=numbers,
        strengths=crest.strengths[rows],
        seen=crest.seen[rows],
        areas_angstrom2=np.asarray(areas, dtype=np.float64),
    )


def _whole_pieces(
    crest: Crest, voxel: float, min_area_angstrom2: float, min_support: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the places that stay, and the numbers from 0 of their pieces, the largest first."""
    if not len(crest.places):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    piece = linked_pieces(crest.places, crest.normals)
    count = np.bincount(piece)
    good = (
        (count * voxel**2 >= min_area_angstrom2)
        & (np.bincount(piece, weights=crest.strengths >= 1.0) > 0)
        & (np.bincount(piece, weights=crest.seen) >= min_support * count)
    )
    order = np.argsort(-count, kind="stable")
    order = order[good[order]]
    rank = np.full(len(count), -1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    rows = np.flatnonzero(rank[piece] >= 0)
    return rows, rank[piece[rows]]
