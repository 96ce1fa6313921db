"""From votes to mid-surfaces: crests, levels set by noise, pieces, and places between voxels."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.signal.ridges import on_crest, read_between
from eucentric.signal.symmetric_tensors import eigenvectors_of, extreme_eigenvalues
from eucentric.typing import FloatArray

_PLANES = 8  # at once
_LINK = 1.8  # voxels: diagonal neighbours
_TURN_DEG = 40.0  # between normals of neighbouring places of one sheet
_THINNED, _ASKED = 4, 128  # of every so many seen places, the nearest that are asked for
_STEP = 0.25  # voxels, along the normal
_SIGMAS = 2.0  # of the smoothing along a sheet, beyond which places do not count


def stick_strength(votes: Float[Tensor, "6 z y x"]) -> Float[Tensor, "z y x"]:
    """How much more the votes agree on one normal than on any other: the largest eigenvalue less the middle one."""
    out = torch.empty(votes.shape[1:], dtype=votes.dtype, device=votes.device)
    for start in range(0, votes.shape[1], _PLANES):
        part = votes[:, start : start + _PLANES]
        most, least = extreme_eigenvalues(part)
        out[start : start + _PLANES] = 2.0 * most + least - (part[0] + part[1] + part[2])
    return out


def crest_of_votes(
    votes: Float[Tensor, "6 z y x"], strength: Float[Tensor, "z y x"], least: float
) -> tuple[Int[Tensor, "n 3"], Float[Tensor, "3 n"], Float[Tensor, " n"]]:
    """Voxels (z, y, x) at crests of more than `least`, the normals there, and the strength."""
    places = torch.nonzero(strength > least)
    tensor = votes[(slice(None), *places.T)]
    normals = eigenvectors_of(tensor, extreme_eigenvalues(tensor)[0])
    kept = on_crest(strength, places, normals)
    places, normals = places[kept], normals[:, kept]
    return places, normals, strength[tuple(places.T)]


def level_of(
    strength: NDArray[np.float32], noise: NDArray[np.float32], false_share: float, *, more: float = 1.0
) -> float:
    """The lowest level above which noise has at most this share of the places that there are; infinite where there is none.

    Parameters
    ----------
    strength, noise : of all places of the volume, and of as much noise
    more : false places that are added to those seen, as other noise might have had them
    """
    found, chance = np.sort(strength)[::-1], np.sort(noise)
    false = len(chance) - np.searchsorted(chance, found, side="left")
    good = np.flatnonzero(false + more <= false_share * np.arange(1, len(found) + 1))
    return float(found[good[-1]]) if len(good) else math.inf


def enclosed_places(places: FloatArray, seen: NDArray[np.bool_], reach_px: float) -> NDArray[np.bool_]:
    """Which places (n, 3; voxels) are seen, or have seen ones around them, so that they bridge a gap.

    Beyond a straight rim all seen places lie within half a turn, and the mean of the directions to them is at least 2 / pi long. What
    exceeds that goes on past the end of a sheet, where nothing says how.
    """
    out = seen.copy()
    if seen.all() or not seen.any():
        return out
    known = places[seen][:: max(1, _THINNED)]
    open_places = places[~seen]
    asked = cKDTree(known).query(open_places, k=min(_ASKED, len(known)), distance_upper_bound=reach_px)
    far, row = (np.asarray(part).reshape(len(open_places), -1) for part in asked)
    near = np.isfinite(far) & (far > 0)
    directions = (known[np.where(near, row, 0)] - open_places[:, None]) / np.where(near, far, 1.0)[..., None]
    count = near.sum(1)
    mean = (directions * near[..., None]).sum(1) / np.maximum(count, 1)[:, None]
    out[~seen] = (count > 0) & (np.linalg.norm(mean, axis=1) <= 2.0 / math.pi)
    return out


def linked_pieces(places: FloatArray, normals: FloatArray) -> NDArray[np.int64]:
    """Number from 0 of the piece that every place (n, 3; voxels) belongs to: neighbours with like normals go together."""
    pairs = cKDTree(places).query_pairs(_LINK, output_type="ndarray")
    alike = np.abs((normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1)) >= math.cos(math.radians(_TURN_DEG))
    pairs = pairs[alike]
    graph = coo_matrix((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(len(places),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def onto_ridge(
    filtered: Float[Tensor, "z y x"],
    places: FloatArray,
    normals: FloatArray,
    piece: NDArray[np.int64],
    *,
    reach_px: float,
    along_px: float,
) -> FloatArray:
    """Places moved along their normals to where the filtered volume is greatest; what moves them is averaged along the sheet.

    The profile at each place, over `reach_px` to either side, is first averaged with those of its neighbours in the same piece by
    a Gaussian of `along_px`, each moved by the height of that neighbour above the tangent plane, so that curved sheets stay sharp.

    Parameters
    ----------
    filtered : sheets are bright crests
    places : (n, 3), voxels z, y, x
    normals : (n, 3)
    """
    if not len(places):
        return places
    offsets = np.arange(-2.0 * reach_px, 2.0 * reach_px + 0.5 * _STEP, _STEP)
    lines = torch.from_numpy(places[:, None] + offsets[:, None] * normals[:, None]).to(filtered)
    profiles = read_between(filtered, lines.reshape(-1, 3)).reshape(len(places), -1).double().cpu().numpy()
    pairs = cKDTree(places).query_pairs(_SIGMAS * along_px, output_type="ndarray")
    pairs = pairs[piece[pairs[:, 0]] == piece[pairs[:, 1]]]
    cosine = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1)
    apart = places[pairs[:, 1]] - places[pairs[:, 0]]
    # both tangent planes split the height, as on a circle
    height = 0.5 * (apart * (normals[pairs[:, 0]] + np.sign(cosine)[:, None] * normals[pairs[:, 1]])).sum(1)
    near = (np.abs(height) < reach_px) & (np.abs(cosine) > math.cos(math.radians(_TURN_DEG)))
    pairs, apart = pairs[near], apart[near]
    weight = np.exp(-0.5 * (apart**2).sum(1) / along_px**2)
    graph = coo_matrix((weight, pairs.T), shape=(len(places),) * 2).tocsr()
    graph = graph + graph.T
    middle = len(offsets) // 2
    half = round(reach_px / _STEP)
    moves = np.zeros(len(places))
    total = np.asarray(graph.sum(1)).ravel() + 1.0
    own = _best_move(profiles[:, middle - half : middle + half + 1])
    for _ in range(2):
        # places first settle near to what their neighbours found, then look again close by
        moves = (graph @ own + own) / total
        shifted = _shifted(profiles, moves, half)
        own = moves + _best_move((graph @ shifted + shifted) / total[:, None])
    return np.asarray(places + np.clip(own, -reach_px, reach_px)[:, None] * normals)


def _best_move(profiles: FloatArray) -> FloatArray:
    """Voxels from the middle of each row to its maximum, by a parabola."""
    best = np.clip(profiles.argmax(1), 1, profiles.shape[1] - 2)
    row = np.arange(len(profiles))
    left, top, right = profiles[row, best - 1], profiles[row, best], profiles[row, best + 1]
    bend = np.maximum(2.0 * top - left - right, 1e-12)
    part = np.clip(0.5 * (right - left) / bend, -1.0, 1.0)
    return np.asarray(_STEP * (best + part - profiles.shape[1] // 2))


def _shifted(profiles: FloatArray, moves: FloatArray, half: int) -> FloatArray:
    """The middle of each row after it was moved back by `moves` (voxels), 2 half + 1 wide."""
    start = moves / _STEP + profiles.shape[1] // 2 - half
    low = np.clip(np.floor(start).astype(np.int64), 0, profiles.shape[1] - 2 * half - 2)
    part = np.clip(start - low, 0.0, 1.0)[:, None]
    columns = low[:, None] + np.arange(2 * half + 1)
    row = np.arange(len(profiles))[:, None]
    return np.asarray((1.0 - part) * profiles[row, columns] + part * profiles[row, columns + 1])


def agreeing_normals(places: FloatArray, normals: FloatArray, piece: NDArray[np.int64]) -> FloatArray:
    """Normals whose signs agree along every piece, away from its middle on the whole."""
    pairs = cKDTree(places).query_pairs(_LINK, output_type="ndarray")
    pairs = pairs[piece[pairs[:, 0]] == piece[pairs[:, 1]]]
    graph = coo_matrix((np.ones(len(pairs), dtype=np.int8), pairs.T), shape=(len(places),) * 2).tocsr()
    graph = graph + graph.T
    out = normals.copy()
    _, first = np.unique(piece, return_index=True)
    for root in first:
        order, before = breadth_first_order(graph, int(root), directed=False)
        for row in order[1:]:
            if out[row] @ out[before[row]] < 0:
                out[row] = -out[row]
    rows = np.argsort(piece, kind="stable")
    for part in np.split(rows, np.flatnonzero(np.diff(piece[rows])) + 1):
        if ((places[part] - places[part].mean(0)) * out[part]).sum() < 0:
            out[part] = -out[part]
    return out


def paint_sheets(
    shape: tuple[int, int, int],
    places: FloatArray,
    normals: FloatArray,
    numbers: NDArray[np.int32],
    *,
    half_px: float,
    spacing_px: float,
) -> NDArray[np.int32]:
    """Label volume of voxels within `half_px` of a mid-surface, measured along the normal of its nearest place.

    Parameters
    ----------
    places : (n, 3), voxels z, y, x of the volume that is painted
    numbers : (n,), from 1
    spacing_px : between places of a sheet, in voxels of the volume that is painted
    """
    out = np.zeros(shape, dtype=np.int32)
    if not len(places):
        return out
    reach = math.ceil(half_px + spacing_px)
    near = np.zeros(shape, dtype=bool)
    line = np.arange(-reach, reach + 1)
    ball = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    ball = ball[(ball**2).sum(1) <= reach**2]
    middles = np.unique(np.rint(places).astype(np.int64), axis=0)
    for move in ball:
        to = middles + move
        to = to[((to >= 0) & (to < shape)).all(1)]
        near[tuple(to.T)] = True
    voxels = np.argwhere(near)
    asked = cKDTree(places).query(voxels, distance_upper_bound=half_px + spacing_px)
    far, nearest = (np.asarray(part) for part in asked)
    found = np.isfinite(far)
    voxels, nearest, far = voxels[found], nearest[found], far[found]
    across = ((voxels - places[nearest]) * normals[nearest]).sum(1)
    beside2 = far**2 - across**2
    inside = (np.abs(across) <= half_px) & (beside2 <= spacing_px**2)
    out[tuple(voxels[inside].T)] = numbers[nearest[inside]]
    return out
