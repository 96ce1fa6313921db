r"""Rise and twist of a filament from its map, or from both half maps.

The mean over the units of a rise and twist of the map's correlation with itself (`helix_lattice`) tells how well these agree with
the map.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from torch import Tensor

from eucentric.averaging.helix_lattice import HelixLattice
from eucentric.averaging.helix_params import HelixParams
from eucentric.errors import InputError, ProcessingError
from eucentric.geometry.helix import Helix, cross_section, wrapped_deg
from eucentric.typing import FloatArray

_STEP = 0.2
"""Steps of a search, as part of the detail at the farthest unit."""
_PART_OF_BEST = 0.9
"""Of the best score: a rise half as long must reach it to be the true one."""
_CANDIDATES = 12
_MOST_SCORED = 40_000_000  # places read in a search
_DECOYS = 97  # twists
_ANY = (-math.inf, math.inf)
_NEAR_RISE, _NEAR_TWIST_DEG = 0.1, 2.0  # about values given


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundHelix:
    """A rise and twist that a map shows."""

    helix: Helix
    score: float
    """Mean correlation of the units; of half maps with each other, over that of the same place: 1 where nothing but noise differs."""
    units: int
    """How many on one side were compared."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HelixSearch:
    """What a search found."""

    best: FoundHelix
    others: tuple[FoundHelix, ...]
    """That score highest next, best first."""
    sigma_rise_angstrom: float
    """Half the difference of both halves, each alone; NaN for a single map."""
    sigma_twist_deg: float
    deviations: float
    """By which its score stands out among those of other twists with the same rise."""
    radius_angstrom: float
    """Root mean square radius of the density."""
    low_pass_angstrom: float
    """Detail that counted."""


def find_helix(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"] | None,
    voxel_size_angstrom: float,
    params: HelixParams,
    *,
    low_pass_angstrom: float = 0.0,
) -> HelixSearch:
    """Look for the helix of a filament along z through voxel ``n // 2``, or refine a known one.

    Without a rise, the least rise is taken of those that score within a tenth of the best: multiples of a helix are helices
    too. Units that lie nearer to each other than the detail of the map are not told apart, and not looked for.

    Parameters
    ----------
    half1, half2 : half maps without helical symmetry imposed, or one map and None
    low_pass_angstrom : A, of detail that counts where `params` do not say

    Raises
    ------
    InputError : a box or ranges that hold no two units
    ProcessingError : nothing repeats along the map
    """
    detail = params.low_pass_angstrom or low_pass_angstrom or 4.0 * voxel_size_angstrom
    lattice = HelixLattice.of(half1, half2, voxel_size_angstrom, params, detail)
    order, _ = cross_section(params.symmetry)
    rises, twists = _ranges(params, lattice, order)
    starts = _scan(lattice, rises, twists) if params.rise_angstrom <= 0 or rises[1] > rises[0] else []
    if params.rise_angstrom > 0:
        starts = [*starts, (params.rise_angstrom, params.twist_deg)]
    found = _distinct(
        [_refined(lattice, rise, twist, rises, twists, params.symmetry) for rise, twist in starts], lattice, order
    )
    if not found or not found[0].score > 0:
        raise ProcessingError(
            "Nothing repeats along the map in these ranges of rise and twist. Check that the filament runs along z through the "
            "middle of the box, and that its map is finer than the rise."
        )
    best = found[0]
    if params.rise_angstrom <= 0:
        alike = [f for f in found if f.score >= _PART_OF_BEST * found[0].score]
        best = min(alike, key=lambda f: f.helix.rise_angstrom)
    return _judged(
        half1, half2, lattice, params, best, tuple(f for f in found if f is not best), rises=rises, twists=twists
    )


def refine_helix(
    half1: Float[Tensor, "n n n"],
    half2: Float[Tensor, "n n n"] | None,
    voxel_size_angstrom: float,
    helix: Helix,
    *,
    central_part: float,
    low_pass_angstrom: float,
    outer_radius_angstrom: float = 0.0,
) -> HelixSearch:
    """A known helix made exact: uphill from it, nowhere else.

    Raises
    ------
    ProcessingError : maps that share no structure
    """
    params = HelixParams(
        rise_angstrom=helix.rise_angstrom,
        twist_deg=helix.twist_deg,
        symmetry=helix.group,
        central_part=central_part,
        low_pass_angstrom=low_pass_angstrom,
        outer_radius_angstrom=outer_radius_angstrom,
    )
    lattice = HelixLattice.of(half1, half2, voxel_size_angstrom, params, low_pass_angstrom)
    best = _refined(lattice, helix.rise_angstrom, helix.twist_deg, _ANY, _ANY, helix.group)
    return _judged(half1, half2, lattice, params, best, (), rises=_ANY, twists=_ANY)


def _judged(
    half1: Tensor,
    half2: Tensor | None,
    lattice: HelixLattice,
    params: HelixParams,
    best: FoundHelix,
    others: tuple[FoundHelix, ...],
    *,
    rises: tuple[float, float],
    twists: tuple[float, float],
) -> HelixSearch:
    """With how well it is known, and how far it stands out."""
    sigma = (math.nan, math.nan)
    helix = best.helix
    if half2 is not None:
        alone = [
            _refined(
                HelixLattice.of(half, None, lattice.voxel_angstrom, params, lattice.detail_angstrom),
                helix.rise_angstrom,
                helix.twist_deg,
                rises,
                twists,
                helix.group,
            ).helix
            for half in (half1, half2)
        ]
        turned = wrapped_deg(alone[0].twist_deg - alone[1].twist_deg)
        sigma = (0.5 * abs(alone[0].rise_angstrom - alone[1].rise_angstrom), 0.5 * abs(turned))
    units = np.arange(1.0, best.units + 1.0)
    weights = lattice.weights(helix.rise_angstrom * units)
    by_chance = [
        float(weights @ lattice.at(helix.rise_angstrom * units, twist * units) / weights.sum())
        for twist in helix.twist_deg + np.linspace(0.0, 360.0, _DECOYS + 1)[1:-1]
    ]
    middle = float(np.median(by_chance))
    spread = 1.4826 * float(np.median(np.abs(np.array(by_chance) - middle)))
    return HelixSearch(
        best=best,
        others=others,
        sigma_rise_angstrom=sigma[0],
        sigma_twist_deg=sigma[1],
        deviations=(best.score - middle) / max(spread, 1e-12),
        radius_angstrom=lattice.radius_angstrom,
        low_pass_angstrom=lattice.detail_angstrom,
    )


def _ranges(params: HelixParams, lattice: HelixLattice, order: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rises in A and twists in degrees that are looked for."""
    rises, twists = params.rise_range_angstrom, params.twist_range_deg
    rise = params.rise_angstrom
    most = lattice.half_length_angstrom * 0.5
    if rises == (0.0, 0.0):
        rises = (rise * (1.0 - _NEAR_RISE), rise * (1.0 + _NEAR_RISE)) if rise > 0 else (lattice.voxel_angstrom, most)
    if twists == (0.0, 0.0):
        near = params.twist_deg
        twists = (near - _NEAR_TWIST_DEG, near + _NEAR_TWIST_DEG) if rise > 0 else (-180.0 / order, 180.0 / order)
    if rises[0] > most or not rises[1] > 0:
        raise InputError(
            f"Rises of {rises[0]:g} to {rises[1]:g} A were asked for; the part of the map that is looked at holds two units of "
            f"up to {most:.0f} A. Give a larger box, or a larger central part."
        )
    return (max(rises[0], 0.25 * lattice.voxel_angstrom), min(rises[1], most)), twists


def _scan(lattice: HelixLattice, rises: tuple[float, float], twists: tuple[float, float]) -> list[tuple[float, float]]:
    """The best rises and twists of a grid that is fine enough for the farthest unit."""
    step = _STEP * lattice.detail_angstrom
    grid: list[tuple[float, FloatArray]] = []
    rise, scored = rises[0], 0
    while rise <= rises[1] * (1.0 + 1e-9):
        fine = math.degrees(step / (lattice.radius_angstrom * lattice.units(rise)))
        grid.append((rise, np.arange(twists[0], twists[1] + fine, fine)))
        scored += len(grid[-1][1]) * lattice.units(rise)
        if scored > _MOST_SCORED:
            raise InputError(
                f"The ranges of rise and twist hold too many helices for detail of {lattice.detail_angstrom:g} A. Narrow them with "
                "--rise-range-angstrom and --twist-range-deg."
            )
        rise += step / lattice.units(rise)
    table, dz, dangle = lattice.table()
    padded = np.concatenate([table, table[:, :1]], axis=1)
    found: list[tuple[float, float, float]] = []
    for rise, angles in grid:
        units = np.arange(1.0, lattice.units(rise) + 1.0)
        weights = lattice.weights(rise * units)
        places = np.mod(np.outer(units, angles), 360.0) / dangle
        heights = np.broadcast_to((rise * units / dz)[:, None], places.shape)
        scores = weights @ map_coordinates(padded, [heights, places], order=1, mode="nearest") / weights.sum()
        scores[_too_near(lattice, rise, angles, units)] = -np.inf
        top = np.flatnonzero((scores >= np.roll(scores, 1)) & (scores >= np.roll(scores, -1)) & np.isfinite(scores))
        top = top[np.argsort(-scores[top])][:_CANDIDATES]
        found += [(float(scores[i]), rise, float(angles[i])) for i in top]
    kept: list[tuple[float, float, float]] = []
    for score, rise, twist in sorted(found, reverse=True):
        most = lattice.units(rise)
        apart = [
            max(abs(rise - r), math.radians(abs(wrapped_deg(twist - t))) * lattice.radius_angstrom) for _, r, t in kept
        ]
        if not apart or min(apart) * most > 2.0 * lattice.detail_angstrom:
            kept.append((score, rise, twist))
        if len(kept) == _CANDIDATES:
            break
    return [(rise, twist) for _, rise, twist in kept]


def _too_near(lattice: HelixLattice, rise: float, angles: FloatArray, units: FloatArray) -> NDArray[np.bool_]:
    """Twists that put a unit nearer to the first than the map's detail."""
    turned = np.deg2rad(np.abs((np.outer(units, angles) + 180.0) % 360.0 - 180.0)) * lattice.radius_angstrom
    away = np.hypot(turned, (rise * units)[:, None])
    return np.asarray(away.min(axis=0) < lattice.detail_angstrom)


def _refined(
    lattice: HelixLattice,
    rise: float,
    twist: float,
    rises: tuple[float, float],
    twists: tuple[float, float],
    group: str,
) -> FoundHelix:
    """Uphill from a rise and twist; units and their weights stay those of the start, within the ranges."""
    units = np.arange(1.0, lattice.units(rise) + 1.0)
    weights = lattice.weights(rise * units)
    scale = lattice.detail_angstrom / len(units)
    turn = math.degrees(scale / lattice.radius_angstrom)

    def loss(change: FloatArray) -> float:
        h, phi = rise + scale * change[0], twist + turn * change[1]
        outside = max(rises[0] - h, h - rises[1], 0.0) / scale + max(twists[0] - phi, phi - twists[1], 0.0) / turn
        return float(-(weights @ lattice.at(h * units, phi * units)) / weights.sum() + outside)

    start = np.array([[0.0, 0.0], [0.15, 0.0], [0.0, 0.15]])
    made = minimize(
        loss, start[0], method="Nelder-Mead", options={"initial_simplex": start, "xatol": 2e-3, "fatol": 1e-6}
    )
    helix = Helix(rise_angstrom=rise + scale * made.x[0], twist_deg=twist + turn * made.x[1], group=group)
    return FoundHelix(helix=helix, score=-float(made.fun), units=len(units))


def _distinct(found: list[FoundHelix], lattice: HelixLattice, order: int) -> list[FoundHelix]:
    """Best first, each once: turns by the point group are the same."""
    kept: list[FoundHelix] = []
    for one in sorted(found, key=lambda f: -f.score):
        same = any(
            abs(one.helix.rise_angstrom - k.helix.rise_angstrom) * one.units < lattice.detail_angstrom
            and math.radians(abs(wrapped_deg((one.helix.twist_deg - k.helix.twist_deg) * order) / order))
            * lattice.radius_angstrom
            * one.units
            < lattice.detail_angstrom
            for k in kept
        )
        if not same:
            kept.append(one)
    return kept
