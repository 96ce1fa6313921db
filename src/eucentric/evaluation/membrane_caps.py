"""How much of known membranes a volume shows as sheets: the caps of vesicles are what the missing wedge hides."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from eucentric.errors import InputError, ShapeError
from eucentric.signal.symmetric_tensors import PAIRS, eigenvectors_of, extreme_eigenvalues
from eucentric.signal.tiles import filter_volume, gaussian_taps, quantile, smooth_separably
from eucentric.typing import FloatArray

_PLANES = 8  # at once, so that the curvatures' temporaries stay small


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sheets:
    """Voxels that stand on the crest of a bright sheet."""

    places_px: FloatArray
    """(n, 3) indices x, y, z."""
    normals: FloatArray
    """(n, 3) unit vectors x, y, z, of either sign."""
    threshold: float
    """Curvature, in units of the volume per squared voxel, from which on a sheet counts."""


def detect_sheets(
    volume: Float[Tensor, "z y x"],
    voxel_size: float,
    ground: Bool[Tensor, "z y x"],
    *,
    thickness_angstrom: float = 37.0,
    false_share: float = 0.02,
) -> Sheets:
    r"""Crests of bright sheets by the curvature across them.

    The volume is smoothed by a Gaussian of half the thickness, at which two leaflets just become one crest. The strength is
    the size of the most negative eigenvalue of its Hessian, whose eigenvector is the normal [1]_. A voxel counts where the
    strength is above that of all but a small share of the ground, and a maximum along the normal.

    Parameters
    ----------
    volume : sheets bright
    voxel_size : A
    ground : voxels away from all matter; they set the threshold, so that any scale and noise of the volume will do
    thickness_angstrom : between the two leaflets
    false_share : of the ground that passes the threshold, before maxima are taken

    Raises
    ------
    ShapeError : a ground of another shape
    InputError : no ground at all

    References
    ----------
    .. [1] Steger, IEEE Trans. Pattern Anal. Mach. Intell. 20:113 (1998), doi:10.1109/34.659930
    """
    if ground.shape != volume.shape:
        raise ShapeError(
            f"A ground of {tuple(ground.shape)} voxels was given for {tuple(volume.shape)}; expected the same."
        )
    if not bool(ground.any()):
        raise InputError("No voxel of the ground was given; expected some away from all matter. Widen the volume.")
    sigma = max(1.0, 0.5 * thickness_angstrom / voxel_size)
    radius = math.ceil(3.5 * sigma)
    taps = gaussian_taps(sigma, radius, volume)
    smooth = filter_volume(volume, lambda block: smooth_separably(block, taps), radius)
    strength = torch.zeros_like(smooth)
    depth = smooth.shape[0]
    for start in range(1, depth - 1, _PLANES):
        stop = min(start + _PLANES, depth - 1)
        curvatures = _curvatures(smooth[start - 1 : stop + 1])
        strength[start:stop, 1:-1, 1:-1] = -extreme_eigenvalues(curvatures)[1]
    threshold = max(quantile(strength[ground], 1.0 - false_share), float(torch.finfo(strength.dtype).tiny))
    passed = torch.nonzero(strength > threshold)
    tensors = _curvatures_at(smooth, passed)
    normals = eigenvectors_of(tensors, -strength[tuple(passed.T)]).T
    places = passed.to(normals.dtype)
    here = strength[tuple(passed.T)]
    crest = (here >= _read(strength, places + normals)) & (here >= _read(strength, places - normals))
    return Sheets(
        places_px=passed[crest].flip(1).double().numpy(),
        normals=normals[crest].flip(1).double().numpy(),
        threshold=threshold,
    )


def found_on(
    sheets: Sheets, points_px: ArrayLike, normals: ArrayLike, *, reach_px: float = 2.0, angle_deg: float = 30.0
) -> NDArray[np.bool_]:
    """Which points (n, 3; x, y, z) of a known mid-surface have a sheet within reach whose normal is near theirs.

    Parameters
    ----------
    normals : (n, 3) unit vectors x, y, z, of either sign
    reach_px : voxels
    angle_deg : between the normals, at most
    """
    points, true = np.asarray(points_px, dtype=np.float64), np.asarray(normals, dtype=np.float64)
    out = np.zeros(len(points), dtype=bool)
    if not len(points) or not len(sheets.places_px):
        return out
    pairs = cKDTree(points).sparse_distance_matrix(cKDTree(sheets.places_px), reach_px, output_type="ndarray")
    alike = np.abs((true[pairs["i"]] * sheets.normals[pairs["j"]]).sum(1)) >= math.cos(math.radians(angle_deg))
    out[pairs["i"][alike]] = True
    return out


def polar_angles(normals: ArrayLike, axis: ArrayLike = (0.0, 0.0, 1.0)) -> FloatArray:
    """(n,) degrees between normals (n, 3) and an axis, 0 at either pole to 90 on the equator."""
    unit = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    return np.asarray(np.rad2deg(np.arccos(np.clip(np.abs(np.asarray(normals, dtype=np.float64) @ unit), 0.0, 1.0))))


def _curvatures(block: Float[Tensor, "z y x"]) -> Float[Tensor, "6 inner_z inner_y inner_x"]:
    """Second derivatives in the order of PAIRS; the block loses a voxel on every side."""

    def at(*moves: int) -> Tensor:
        return block[tuple(slice(1 + m, n - 1 + m) for m, n in zip(moves, block.shape, strict=True))]

    return torch.stack([_second_difference(at, i, j) for i, j in PAIRS])


def _curvatures_at(volume: Float[Tensor, "z y x"], places: Tensor) -> Float[Tensor, "6 n"]:
    """The same at single voxels (n, 3), none of them on a face."""

    def at(*moves: int) -> Tensor:
        return volume[tuple((places + torch.tensor(moves)).T)]

    return torch.stack([_second_difference(at, i, j) for i, j in PAIRS])


def _second_difference(at: Callable[..., Tensor], i: int, j: int) -> Tensor:
    def moved(by_i: int, by_j: int) -> Tensor:
        moves = [0, 0, 0]
        moves[i] += by_i
        moves[j] += by_j
        return at(*moves)

    if i == j:
        return moved(1, 0) - 2.0 * moved(0, 0) + moved(-1, 0)
    return 0.25 * (moved(1, 1) - moved(1, -1) - moved(-1, 1) + moved(-1, -1))


def _read(volume: Float[Tensor, "z y x"], places: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Values between voxels, on straight lines along each axis; places (z, y, x) are held within the volume."""
    most = torch.tensor(volume.shape, dtype=places.dtype) - 1.0
    held = torch.minimum(places.clamp(min=0.0), most)
    low = torch.minimum(held.floor(), (most - 1.0).clamp(min=0.0))
    part, first = held - low, low.long()
    out = torch.zeros(len(places), dtype=volume.dtype)
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        weight = torch.where(step.bool(), part, 1.0 - part).prod(1)
        out += weight * volume[tuple((first + step).T)]
    return out
