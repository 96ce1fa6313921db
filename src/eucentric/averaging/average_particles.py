"""From sums over the images of both halves to an average, its mask and its resolution."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eucentric.averaging.correlate_maps import HALF_MAPS, correlate_halves, crossing_angstrom
from eucentric.averaging.find_helix import refine_helix
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.helical_average import helical_sums, impose_helix, units_each_way
from eucentric.averaging.params import AverageParams
from eucentric.averaging.results import AverageResult, HalfMapCorrelation, HelixUsed
from eucentric.averaging.soft_mask import ball_mask, soft_mask
from eucentric.averaging.solve_average import solve_average
from eucentric.errors import InputError, ProcessingError
from eucentric.fourier.shells import fourier_shell_correlation
from eucentric.geometry.helix import wrapped_deg
from eucentric.geometry.symmetry import symmetry_rotations

_EDGE_VOXELS = 5.0
_MASK_DETAIL = 1.5
"""Outlines of masks follow detail that many times coarser than where the halves correlate by one half."""
_LOW_PASS = (15.0, 60.0)
"""A; bounds of it."""
_COARSEST = 40.0
"""A; detail of which a helix is refined at least, where halves hardly agree."""
_LEAST_DEVIATIONS = 3.0
_PASSES = 2
"""Masks made: the first from what the ball shows, the last from what the one before shows."""


def average_halves(
    sums: tuple[FourierSums, FourierSums],
    params: AverageParams,
    *,
    halves: NDArray[np.int64],
    tilts_used: NDArray[np.int64],
    mask: Tensor | None = None,
) -> AverageResult:
    """An average from the sums of two halves.

    Parameters
    ----------
    sums : of the particles of half 1 and 2
    halves, tilts_used : (particle,), for the record
    mask : (n, n, n), 0 to 1; made where None, as `params` say

    Raises
    ------
    InputError : a half without images, or a mask that does not fit the box
    """
    if not (sums[0].images and sums[1].images):
        empty = 1 if not sums[0].images else 2
        raise InputError(
            f"No image shows a particle of half {empty}. Check that positions are A from the specimen centre, and that the "
            "particles lie in the fields of their series."
        )
    voxel, n = sums[0].voxel_size_angstrom, sums[0].box_size
    used = helix_of(sums, params)
    helix, central = None if used is None else used.helix, params.helical_central_part
    if helix is None:
        group = symmetry_rotations(params.symmetry)
        parts = [s.finished(group) for s in sums]
    else:
        parts = [helical_sums(*s.finished(), helix, voxel, central) for s in sums]

    def solve(b: Tensor, w: Tensor, correlation: Tensor | None = None) -> Tensor:
        solved = solve_average(b, w, correlation=correlation)
        return solved if helix is None else impose_helix(solved, helix, voxel, central)

    halves_found = [solve(b, w) for b, w in parts]
    data, weight = parts[0][0] + parts[1][0], parts[0][1] + parts[1][1]
    if mask is None:
        mask = _mask(data, weight, halves_found, voxel, params, solve)
    if mask.shape != (n, n, n):
        raise InputError(f"The mask has {tuple(mask.shape)} voxels, and the boxes {n} along each edge.")
    correlation = correlate_halves(halves_found[0], halves_found[1], voxel, mask, seed=params.seed)
    return AverageResult(
        volume=solve(data, weight, filter_curve(correlation).to(weight.device)),
        half1=halves_found[0],
        half2=halves_found[1],
        mask=mask,
        correlation=correlation,
        voxel_size_angstrom=voxel,
        halves=halves,
        tilts_used=tilts_used,
        weights=weight,
        helix=used,
    )


def helix_of(sums: tuple[FourierSums, FourierSums], params: AverageParams) -> HelixUsed | None:
    """The helix to impose: as given, or made exact on both halves as they are without it; None where there is none.

    As given too where the units do not stand out of what other twists give by three deviations, or where the refined place is
    farther than the map's detail at the farthest unit.
    """
    helix = params.helix
    if helix is None:
        return None
    voxel, n = sums[0].voxel_size_angstrom, sums[0].box_size
    units_each_way(helix, n * voxel, params.helical_central_part)
    if not params.helical_refine:
        return HelixUsed(helix=helix)
    halves = [solve_average(*s.finished()) for s in sums]
    ball = ball_mask(n, voxel, 0.5 * n * voxel, _EDGE_VOXELS * voxel).to(halves[0])
    frequency, curve = fourier_shell_correlation(halves[0] * ball, halves[1] * ball, voxel)
    seen = crossing_angstrom(frequency.cpu().double().numpy(), curve.cpu().double().numpy(), HALF_MAPS)
    detail = float(np.clip(seen, 2.5 * voxel, max(_COARSEST, 2.5 * voxel)))
    try:
        found = refine_helix(
            halves[0],
            halves[1],
            voxel,
            helix,
            central_part=params.helical_central_part,
            low_pass_angstrom=detail,
            outer_radius_angstrom=params.helical_outer_radius_angstrom,
        )
    except ProcessingError:
        return HelixUsed(helix=helix)
    moved = found.best.units * math.hypot(
        found.best.helix.rise_angstrom - helix.rise_angstrom,
        math.radians(wrapped_deg(found.best.helix.twist_deg - helix.twist_deg)) * found.radius_angstrom,
    )
    if found.deviations < _LEAST_DEVIATIONS or moved > detail:
        return HelixUsed(helix=helix, score=found.best.score, deviations=found.deviations)
    return HelixUsed(
        helix=found.best.helix,
        score=found.best.score,
        sigma_rise_angstrom=found.sigma_rise_angstrom,
        sigma_twist_deg=found.sigma_twist_deg,
        deviations=found.deviations,
    )


def filter_curve(correlation: HalfMapCorrelation) -> Tensor:
    """Squared correlation with the truth of both halves together, 2 C / (1 + C), by shell; zero beyond the first negative one."""
    curve = np.clip(correlation.corrected, 0.0, 1.0)
    gone = np.flatnonzero(correlation.corrected[1:] <= 0.0)
    if len(gone):
        curve[int(gone[0]) + 1 :] = 0.0
    curve[0] = max(curve[0], curve[1]) if len(curve) > 1 else curve[0]
    return torch.from_numpy(2.0 * curve / (1.0 + curve))


def _mask(
    data: Tensor,
    weight: Tensor,
    halves: list[Tensor],
    voxel: float,
    params: AverageParams,
    solve: Callable[[Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    n = data.shape[0]
    if params.mask_diameter_angstrom > 0:
        ball = ball_mask(n, voxel, params.mask_diameter_angstrom, _EDGE_VOXELS * voxel)
        return ball.to(weight.device)
    # half of the box, where particles are expected, tells at first how fine an outline there is, and then the mask itself
    mask = ball_mask(n, voxel, 0.5 * n * voxel, _EDGE_VOXELS * voxel).to(weight.device)
    for _ in range(_PASSES):
        frequency, curve = fourier_shell_correlation(halves[0] * mask, halves[1] * mask, voxel)
        f, c = frequency.cpu().double().numpy(), curve.cpu().double().numpy()
        detail = _MASK_DETAIL * crossing_angstrom(f, c, 0.5)
        low_pass = float(np.clip(detail, max(_LOW_PASS[0], 5.0 * voxel), max(_LOW_PASS[1], 5.0 * voxel)))
        held = np.clip(c, 0.0, 1.0)
        seen = solve(data, weight, torch.from_numpy(2.0 * held / (1.0 + held)))
        mask = soft_mask(seen, voxel, low_pass_angstrom=low_pass)
    return mask
